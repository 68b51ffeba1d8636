// Invariants: asked_ changes only at the beginning of a round, never from within a question's call.
// While is_asking_, every question is under way or has ended in this round, so the round ends.

#include "resolver.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tiercel/base/bytes.h"

namespace tiercel::l2 {

Resolver::Resolver(Host& host, SentinelDirectory& directory, Listener& listener)
    : host_(host), directory_(directory), listener_(listener) {}

Resolver::~Resolver() = default;

void Resolver::follow_directory() {
  std::erase_if(asked_,
                [this](const Asked& asked) { return directory_.find(asked.id) == nullptr; });
  for (const SentinelDirectory::Sentinel& sentinel : directory_.all()) {
    const auto at = std::find_if(asked_.begin(), asked_.end(),
                                 [&](const Asked& asked) { return asked.id == sentinel.id; });
    if (at != asked_.end()) continue;
    asked_.push_back({.id = sentinel.id, .endpoint = sentinel.endpoint});
    asked_.back().question = std::make_unique<SentinelQuestion>(
        host_, sentinel.endpoint,
        [this, id = sentinel.id](const SentinelQuestion::Outcome& outcome) { ended(id, outcome); });
  }
}

void Resolver::ask_all() {
  if (std::exchange(is_asking_, true)) return;
  follow_directory();
  for (Asked& asked : asked_) {
    const auto* const sentinel = directory_.find(asked.id);
    asked.is_awaited = !sentinel->is_silent && !asked.question->is_asking();
    asked.claim.reset();
    asked.error.reset();
    asked.is_master_unknown = false;
    asked.question->ask();
  }
}

std::vector<SentinelDirectory::Id> Resolver::survey(const Surveyed& surveyed) {
  if (!is_asking_) follow_directory();
  std::vector<SentinelDirectory::Id> asked_ids;
  for (Asked& asked : asked_) {
    asked_ids.push_back(asked.id);
    asked.question->survey(
        [surveyed, id = asked.id](Result<SentinelView> view) { surveyed(id, std::move(view)); });
  }
  return asked_ids;
}

void Resolver::end_survey() {
  for (Asked& asked : asked_) asked.question->end_survey();
}

void Resolver::ended(SentinelDirectory::Id id, const SentinelQuestion::Outcome& outcome) {
  const TimePoint now = host_.clock().now();
  if (outcome.answer) {
    directory_.answered(id, outcome.answer->run_id, now);
    for (const SentinelAnswer::Peer& peer : outcome.answer->sentinels) {
      directory_.learn(peer.endpoint, peer.run_id, now);
    }
  } else {
    directory_.failed(id, outcome.error);
  }
  if (!is_asking_) {
    if (outcome.answer) listener_.answered_late(outcome.answer->claim);
    return;
  }
  bool all_ended = true;
  bool awaited_ended = true;
  bool any_claim = false;
  for (Asked& asked : asked_) {
    if (asked.id == id) {
      if (outcome.answer) {
        asked.claim = outcome.answer->claim;
      } else {
        asked.error = outcome.error;
      }
      asked.is_master_unknown = outcome.is_master_unknown;
    }
    all_ended = all_ended && asked.has_ended();
    awaited_ended = awaited_ended && (asked.has_ended() || !asked.is_awaited);
    any_claim = any_claim || asked.claim;
  }
  if (all_ended || (any_claim && awaited_ended)) {
    // By a timer: the question that tells us is still on the stack.
    if (!std::exchange(is_finishing_, true)) finish_soon(Duration{0});
  } else if (any_claim && settle_timer_ == 0) {
    finish_soon(kSettleTime);
  }
}

void Resolver::finish_soon(Duration delay) {
  host_.loop().cancel(settle_timer_);
  settle_timer_ = host_.loop().run_after(delay, [this] {
    settle_timer_ = 0;
    finish();
  });
}

void Resolver::finish() {
  is_asking_ = false;
  is_finishing_ = false;
  Round round;
  for (const Asked& asked : asked_) {
    if (asked.claim) round.claims.push_back(*asked.claim);
    round.is_master_unknown = round.is_master_unknown || asked.is_master_unknown;
  }
  if (round.claims.empty()) {
    round.error = explain_failure();
  } else {
    round.is_master_unknown = false;
  }
  listener_.round_ended(round);
}

Error Resolver::explain_failure() const {
  constexpr std::size_t kNamedMax = 3;
  bool all_refuse = true;
  std::string causes;
  for (std::size_t i = 0; i < asked_.size(); ++i) {
    const Error& error = *asked_[i].error;
    all_refuse = all_refuse && error.code == ErrorCode::kInvalidArgument;
    if (i >= kNamedMax) continue;
    causes += (i == 0 ? "" : "; ") + asked_[i].endpoint.to_string() + ": " + error.message;
  }
  if (asked_.size() > kNamedMax) {
    causes += "; and " + std::to_string(asked_.size() - kNamedMax) + " more";
  }
  const std::string name = "'" + bytes_for_message(host_.redis().master_name) + "'";
  std::string message = "no Sentinel names the master " + name + ": " + causes;
  return all_refuse ? invalid_argument(std::move(message)) : unavailable(std::move(message));
}

void Resolver::stop() {
  host_.loop().cancel(std::exchange(settle_timer_, 0));
  is_asking_ = false;
  is_finishing_ = false;
  asked_.clear();
}

}  // namespace tiercel::l2
