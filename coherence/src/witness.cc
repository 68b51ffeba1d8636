// Invariants: candidates_, is_seeded_ and round_ belong to the branch replication_id_; a candidate
// that has followed it keeps that mark as long as it is one. No answer is taken from before the
// branch was followed: the Session drops those of earlier epochs.

#include "tiercel/coherence/witness.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace tiercel::coherence {

std::string_view to_string(WitnessMode mode) noexcept {
  switch (mode) {
    case WitnessMode::kNone: return "none";
    case WitnessMode::kSentinels: return "sentinels";
    case WitnessMode::kReplicas: return "replicas";
  }
  return "?";
}

void Witness::follow(std::string_view replication_id) {
  has_masters_list_ = false;
  if (replication_id == replication_id_) {
    // It is the same branch. Whether anyone was promoted from it meanwhile must be asked anew.
    for (auto& [address, candidate] : candidates_) candidate.is_silent = true;
    round_.reset();
    return;
  }
  replication_id_ = replication_id;
  former_replication_id_.clear();
  candidates_.clear();
  masters_list_is_cut_ = false;
  sentinels_list_is_cut_ = false;
  is_seeded_ = false;
  round_.reset();
}

Witness::Candidate* Witness::find_or_add(std::string_view address) {
  if (const auto found = candidates_.find(address); found != candidates_.end()) {
    return &found->second;
  }
  if (candidates_.size() == kCandidatesMax) return nullptr;
  return &candidates_.try_emplace(std::string{address}).first->second;
}

void Witness::master_said(const ReplicationState& said, TimePoint asked_at) {
  has_masters_list_ = true;
  former_replication_id_ = said.former_replication_id;
  masters_list_is_cut_ = false;
  for (auto& [address, candidate] : candidates_) candidate.is_listed = false;
  for (const std::string& address : said.replicas) {
    Candidate* const candidate = find_or_add(address);
    if (candidate == nullptr) {
      masters_list_is_cut_ = true;
      continue;
    }
    candidate->is_listed = true;
    candidate->has_followed = true;
  }
  forget_gone(asked_at);
}

Witness::Answer Witness::judge(const Candidate& candidate, const ReplicationState& said) const {
  if (said.replication_id == replication_id_) {
    return said.is_master ? Answer::kItself : Answer::kFollows;
  }
  if (!said.is_master) return candidate.has_followed ? Answer::kLost : Answer::kElsewhere;
  if (said.former_replication_id == replication_id_) return Answer::kDeposesUs;
  // The master before ours: it may be listed as a replica long before it is one.
  if (!former_replication_id_.empty() && said.replication_id == former_replication_id_) {
    return Answer::kElsewhere;
  }
  return candidate.has_followed ? Answer::kDeposesUs : Answer::kRival;
}

void Witness::candidate_said(std::string_view address, const ReplicationState& said,
                             TimePoint asked_at) {
  const auto found = candidates_.find(address);
  if (found == candidates_.end()) return;
  Candidate& candidate = found->second;
  candidate.answer = judge(candidate, said);
  candidate.asked_at = asked_at;
  candidate.is_silent = false;
  if (candidate.answer != Answer::kLost) candidate.gone_since.reset();
  if (candidate.answer == Answer::kFollows) candidate.has_followed = true;
}

void Witness::candidate_silent(std::string_view address, TimePoint now) {
  const auto found = candidates_.find(address);
  if (found == candidates_.end()) return;
  found->second.is_silent = true;
  forget_gone(now);
}

void Witness::sentinels_said(const SentinelRound& round, TimePoint asked_at) {
  const bool is_our_masters_list = round.is_calm && round.has_majority();
  for (auto& [address, candidate] : candidates_) {
    candidate.down_count = 0;
    if (is_our_masters_list) candidate.is_listed_by_sentinels = false;
  }
  if (is_our_masters_list) sentinels_list_is_cut_ = false;
  for (const SentinelRound::Replica& replica : round.replicas) {
    Candidate* const candidate = find_or_add(replica.address);
    if (candidate == nullptr) {
      sentinels_list_is_cut_ = true;
      continue;
    }
    candidate->is_listed_by_sentinels = true;
    candidate->down_count = replica.down_count;
  }
  if (is_our_masters_list) is_seeded_ = true;
  round_ = round;
  round_at_ = asked_at;
  forget_gone(asked_at);
}

// Those that nobody lists any more.
void Witness::forget_gone(TimePoint now) {
  if (!has_masters_list_) return;
  const bool sentinels_decide =
      has_sentinels_ && round_ && round_->is_calm && round_->has_majority();
  for (auto entry = candidates_.begin(); entry != candidates_.end();) {
    Candidate& candidate = entry->second;
    bool is_gone = false;
    const bool has_left = candidate.is_silent || candidate.answer == Answer::kLost;
    if (candidate.is_listed || candidate.is_listed_by_sentinels || !has_left) {
      candidate.gone_since.reset();
    } else if (has_sentinels_) {
      is_gone = sentinels_decide;
    } else {
      if (!candidate.gone_since) candidate.gone_since = now;
      is_gone = now - *candidate.gone_since >= kForgetAfter;
    }
    entry = is_gone ? candidates_.erase(entry) : std::next(entry);
  }
}

std::vector<std::string> Witness::candidates() const {
  std::vector<std::string> addresses;
  addresses.reserve(candidates_.size());
  for (const auto& [address, candidate] : candidates_) addresses.push_back(address);
  return addresses;
}

bool Witness::has_witness() const {
  return std::any_of(candidates_.begin(), candidates_.end(), [](const auto& entry) {
    return entry.second.answer == Answer::kFollows;
  });
}

bool Witness::needs_sentinels() const {
  if (!has_sentinels_) return false;
  if (!is_seeded_ || is_overfull() || !has_witness()) return true;
  return std::any_of(candidates_.begin(), candidates_.end(),
                     [](const auto& entry) { return !entry.second.is_good(); });
}

bool Witness::sentinels_vouch_for(const Candidate& candidate) const {
  if (round_->answered == round_->known) return true;
  return round_->has_majority() && candidate.down_count == round_->answered;
}

// It gave its last answer, and all Sentinels that were asked later see it down.
bool Witness::is_seen_down(const Candidate& candidate) const {
  return candidate.is_silent && round_at_ > candidate.asked_at &&
         candidate.down_count == round_->answered;
}

Witness::Proof Witness::proof(WitnessMode mode_min) const {
  const auto not_known = [](std::string why) {
    return Proof{{}, WitnessMode::kNone, std::move(why)};
  };
  if (!has_masters_list_) return not_known("the master has not been asked for its replicas yet");
  TimePoint good_at = TimePoint::max();
  std::string bad;
  bool bad_answers = false;
  const bool sentinels_are_calm = round_ && round_->is_calm && round_->has_majority();
  bool all_vouched_for =
      sentinels_are_calm && (!is_overfull() || round_->answered == round_->known);
  for (const auto& [address, candidate] : candidates_) {
    const bool is_vouched_for = sentinels_are_calm && sentinels_vouch_for(candidate);
    if (candidate.answer == Answer::kDeposesUs && !(is_vouched_for && is_seen_down(candidate))) {
      Proof proof = not_known("a replica of this master has become a master: " + address);
      proof.is_deposed = true;
      return proof;
    }
    if (candidate.is_good()) {
      good_at = std::min(good_at, candidate.asked_at);
      continue;
    }
    if (bad.empty()) bad = address;
    if (!candidate.is_silent) bad_answers = true;
    if (!is_vouched_for) all_vouched_for = false;
  }
  const bool is_whole = bad.empty() && !is_overfull() && has_witness();
  if (is_whole && (!has_sentinels_ || is_seeded_)) {
    return {good_at, WitnessMode::kReplicas, {}};
  }
  const std::string why =
      !bad.empty()     ? "a replica does not vouch for the master: " + bad
      : is_overfull()  ? "there are more than " + std::to_string(kCandidatesMax) + " replicas"
      : !has_witness() ? "there is no replica to ask"
                       : "no majority of the Sentinels has spoken for it yet";
  if (mode_min == WitnessMode::kReplicas) return not_known(why);
  if (has_sentinels_) {
    if (all_vouched_for) return {std::min(good_at, round_at_), WitnessMode::kSentinels, {}};
    return not_known(why + ", and the Sentinels do not, either");
  }
  if (mode_min == WitnessMode::kSentinels || bad_answers) return not_known(why);
  return {good_at, WitnessMode::kNone, {}};
}

}  // namespace tiercel::coherence
