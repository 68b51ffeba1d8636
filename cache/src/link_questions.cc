// What the Session asks, and how the answers come back to it. Each question is answered once, by an
// answer or by silence; those of an earlier epoch the Session tells by their tokens.

#include <algorithm>
#include <array>
#include <limits>
#include <memory>
#include <utility>

#include "history_page.h"
#include "link_driver.h"
#include "scripts.h"

namespace tiercel {

std::string LinkDriver::address_of(const l2::Endpoint& endpoint) {
  std::string address = endpoint.to_string();
  endpoints_.try_emplace(address, endpoint);
  return address;
}

coherence::ReplicationState LinkDriver::state_of(const l2::ReplicationInfo& info) {
  coherence::ReplicationState state{.is_master = info.is_master,
                                    .replication_id = info.replication_id,
                                    .former_replication_id = info.former_replication_id,
                                    .is_linked = info.is_linked};
  for (const l2::Endpoint& replica : info.replicas) state.replicas.push_back(address_of(replica));
  return state;
}

coherence::SentinelRound LinkDriver::round_of(const l2::SentinelSurvey& survey) {
  coherence::SentinelRound round{.known = survey.known,
                                 .answered = survey.answered(),
                                 .is_calm = survey.is_calm(stream_endpoint_)};
  for (const auto& replica : survey.replicas()) {
    round.replicas.push_back({address_of(replica.endpoint), replica.down_count});
  }
  return round;
}

void LinkDriver::ask_master(std::uint64_t token) {
  client_->ask_replication(answer_by(), [this, token](Result<l2::ReplicationInfo> info) {
    if (info) {
      session_.data_said(token, state_of(*info), clock_.now(), actions_);
      watch_candidates();
    } else {
      session_.data_silent(token, clock_.now(), actions_);
    }
    settle();
  });
}

void LinkDriver::ask_candidate(const std::string& address, std::uint64_t token) {
  watch_candidates();
  const auto endpoint = endpoints_.find(address);
  client_->ask_server(
      endpoint->second, answer_by(), [this, address, token](Result<l2::ReplicationInfo> info) {
        if (info) {
          session_.candidate_said(address, token, state_of(*info), clock_.now(), actions_);
        } else {
          session_.candidate_silent(address, token, clock_.now(), actions_);
        }
        settle();
      });
}

void LinkDriver::ask_sentinels(std::uint64_t token) {
  // Those that do not answer must not hold up what the others say for longer than the lease can
  // wait.
  client_->survey_sentinels(
      clock_.now() + options_.lease / 4, [this, token](const l2::SentinelSurvey& survey) {
        session_.sentinels_said(token, round_of(survey), clock_.now(), actions_);
        watch_candidates();
        settle();
      });
}

// Keeps connections to those whom the Session may ask. It asks only whom it knows.
void LinkDriver::watch_candidates() {
  std::vector<std::string> wanted = session_.candidates();
  if (wanted == watched_) return;
  std::vector<l2::Endpoint> endpoints;
  for (const std::string& address : wanted) endpoints.push_back(endpoints_.at(address));
  std::erase_if(endpoints_, [&wanted](const auto& entry) {
    return !std::binary_search(wanted.begin(), wanted.end(), entry.first);
  });
  client_->watch_servers(endpoints);
  watched_ = std::move(wanted);
}

// A failover may have lost it. Whether Redis has it is told before any later question is answered.
std::shared_ptr<const bool> LinkDriver::register_lease() {
  auto is_registered = std::make_shared<bool>(false);
  host_.register_lease(answer_by(),
                       [is_registered](const Result<std::chrono::milliseconds>& longest) {
                         *is_registered = longest.has_value();
                       });
  return is_registered;
}

void LinkDriver::ask_history(std::uint64_t token, coherence::Version from, std::size_t count) {
  if (from == coherence::kVersionUnknown) return ask_baseline(token);
  client_->submit(l2::Command{l2::Retry::kSafe,
                              {"XRANGE", names_.history_key(), coherence::to_stream_id(from), "+",
                               "COUNT", std::to_string(count)}},
                  answer_by(),
                  [this, token, count, is_registered = register_lease()](Result<l2::Reply> reply) {
                    if (!*is_registered) return history_silent(token);
                    history_answered(token, count, std::move(reply));
                  });
}

// All that must be known, and told, before a first value goes into L1; the history's end last.
void LinkDriver::ask_baseline(std::uint64_t token) {
  host_.forget_tags();  // Messages of new invalidations are kept from here on.
  auto is_registered = register_lease();
  const auto tags = std::make_shared<std::optional<coherence::TagBaseline>>();
  client_->submit_script(read_tags_script(),
                         std::array<std::string_view, 2>{names_.history_key(), names_.tags_key()},
                         {}, l2::Retry::kSafe, answer_by(), [this, tags](Result<l2::Reply> reply) {
                           if (reply && reply->is_array()) *tags = tags_of(*reply);
                         });
  client_->submit(
      l2::Command{l2::Retry::kSafe, {"XREVRANGE", names_.history_key(), "+", "-", "COUNT", "1"}},
      answer_by(),
      [this, token, is_registered = std::move(is_registered), tags](Result<l2::Reply> reply) {
        if (!*is_registered || !*tags) return history_silent(token);
        baseline_answered(token, **tags);
        history_answered(token, 1, std::move(reply));
      });
}

coherence::TagBaseline LinkDriver::tags_of(const l2::Reply& reply) {
  std::vector<std::string_view> fields;
  for (const l2::Reply& field : reply.elements) fields.push_back(field.text);
  auto tags = coherence::decode_tags(fields);
  if (tags) return *std::move(tags);
  log(LogLevel::kError,
      "the tags in Redis cannot be read, so that nothing counts as valid; a "
      "clear() puts them in order: " +
          tags.error().message);
  return {.base = std::numeric_limits<coherence::Version>::max()};
}

void LinkDriver::baseline_answered(std::uint64_t token, const coherence::TagBaseline& tags) {
  if (!session_.awaits_history(token)) return;
  host_.join_tags(tags);
}

void LinkDriver::history_silent(std::uint64_t token) {
  session_.history_silent(token, clock_.now(), actions_);
  settle();
}

void LinkDriver::history_answered(std::uint64_t token, std::size_t count, Result<l2::Reply> reply) {
  auto page = reply ? parse_history_page(*reply, count) : std::nullopt;
  if (!page) return history_silent(token);
  session_.history_said(token, std::move(*page), clock_.now(), actions_);
  settle();
}

}  // namespace tiercel
