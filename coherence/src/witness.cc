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
    for (auto& [address, candidate] : candidates_) {
      candidate.is_silent = true;
      candidate.unlisted_since.reset();
    }
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

void Witness::master_said(const ReplicationState& said, TimePoint now) {
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
  for (auto& [address, candidate] : candidates_) {
    if (candidate.is_listed) {
      candidate.unlisted_since.reset();
    } else if (!candidate.unlisted_since) {
      candidate.unlisted_since = now;
    }
  }
  forget_gone(now);
}

Witness::Answer Witness::judge(const Candidate& candidate, const ReplicationState& said) const {
  if (said.replication_id == replication_id_) {
    return said.is_master ? Answer::kItself : Answer::kFollows;
  }
  if (!said.is_master) {
    // Whoever was promoted from our branch has followed it, whether we saw it or not.
    const bool has_followed =
        candidate.has_followed || said.former_replication_id == replication_id_;
    return has_followed ? Answer::kLost : Answer::kElsewhere;
  }
  if (said.former_replication_id == replication_id_) return Answer::kDeposesUs;
  // The master before ours: it may be listed as a replica long before it is one. What it takes is
  // lost, unless the Sentinels choose it again: it goes on with the branch and the id that it has.
  if (!former_replication_id_.empty() && said.replication_id == former_replication_id_) {
    return has_sentinels_ ? Answer::kRival : Answer::kElsewhere;
  }
  return candidate.has_followed ? Answer::kDeposesUs : Answer::kRival;
}

void Witness::candidate_said(std::string_view address, const ReplicationState& said,
                             TimePoint asked_at) {
  const auto found = candidates_.find(address);
  if (found == candidates_.end()) return;
  Candidate& candidate = found->second;
  if (!said.is_master && !said.is_linked && said.replication_id != replication_id_ &&
      said.former_replication_id != replication_id_) {
    candidate.is_late = true;  // It does not know yet.
    return;
  }
  candidate.answer = judge(candidate, said);
  candidate.asked_at = asked_at;
  candidate.is_silent = false;
  candidate.is_late = false;
  if (!has_left(candidate)) candidate.gone_since.reset();
  if (candidate.answer == Answer::kFollows) candidate.has_followed = true;
}

void Witness::candidate_silent(std::string_view address, TimePoint now) {
  const auto found = candidates_.find(address);
  if (found == candidates_.end()) return;
  found->second.is_late = true;
  forget_gone(now);
}

void Witness::sentinels_said(const SentinelRound& round, TimePoint asked_at) {
  const bool is_our_masters_list = round.is_calm_majority();
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

// It is not to be seen where a replica of ours should be. An answer that deposes us counts for as
// long as it is repeated, unless there are Sentinels who can say that they do not know the server.
bool Witness::has_left(const Candidate& candidate) const {
  if (!candidate.is_on_time() || candidate.answer == Answer::kLost) return true;
  const bool is_another_master =
      candidate.answer == Answer::kDeposesUs || candidate.answer == Answer::kRival;
  return has_sentinels_ && is_another_master;
}

// Those that nobody lists any more. The Sentinels must have been asked after the master had let go
// of it: else they may have learned of it, and promoted it, since.
void Witness::forget_gone(TimePoint now) {
  if (!has_masters_list_) return;
  for (auto entry = candidates_.begin(); entry != candidates_.end();) {
    Candidate& candidate = entry->second;
    bool is_gone = false;
    if (candidate.is_listed || !has_left(candidate)) {
      candidate.gone_since.reset();
    } else if (has_sentinels_) {
      is_gone = sentinels_are_calm() && !candidate.is_listed_by_sentinels &&
                candidate.unlisted_since && round_at_ >= *candidate.unlisted_since;
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
  return std::any_of(candidates_.begin(), candidates_.end(),
                     [](const auto& entry) { return entry.second.answer == Answer::kFollows; });
}

bool Witness::needs_sentinels() const {
  if (!has_sentinels_) return false;
  if (!is_seeded_ || is_overfull() || !has_witness()) return true;
  return std::any_of(candidates_.begin(), candidates_.end(), [](const auto& entry) {
    return entry.second.is_late || !entry.second.is_good();
  });
}

bool Witness::sentinels_vouch_for(const Candidate& candidate) const {
  if (round_->answered == round_->known) return true;
  return round_->has_majority() && candidate.down_count == round_->answered;
}

// It gave its last answer, and all Sentinels that were asked later see it down.
bool Witness::is_seen_down(const Candidate& candidate) const {
  return !candidate.is_on_time() && round_at_ > candidate.asked_at &&
         candidate.down_count == round_->answered;
}

Witness::Proof Witness::proof(WitnessMode mode_min) const {
  if (!has_masters_list_) {
    return {{}, WitnessMode::kNone, "the master has not been asked for its replicas yet"};
  }
  for (const auto& [address, candidate] : candidates_) {
    if (candidate.answer != Answer::kDeposesUs) continue;
    if (sentinels_are_calm() && sentinels_vouch_for(candidate) && is_seen_down(candidate)) continue;
    return {.why_not = "a replica of this master has become a master: " + address,
            .is_deposed = true};
  }
  const Proof replicas = proof_of_replicas();
  if (mode_min == WitnessMode::kReplicas) return replicas;
  const Proof others = proof_of_others(mode_min);
  if (!others.at) return replicas.at ? replicas : others;
  return replicas.at && *replicas.at >= *others.at ? replicas : others;
}

// The oldest of the last answers holds it.
Witness::Proof Witness::proof_of_replicas() const {
  TimePoint good_at = TimePoint::max();
  bool are_all_good = true;
  for (const auto& [address, candidate] : candidates_) {
    if (!candidate.is_good()) are_all_good = false;
    good_at = std::min(good_at, candidate.asked_at);
  }
  const bool is_proof =
      are_all_good && !is_overfull() && has_witness() && (!has_sentinels_ || is_seeded_);
  if (!is_proof) return {.why_not = why_not_replicas()};
  return {good_at, WitnessMode::kReplicas, {}};
}

std::string Witness::why_not_replicas() const {
  for (const auto& [address, candidate] : candidates_) {
    if (!candidate.is_good()) return "a replica does not vouch for the master: " + address;
  }
  if (is_overfull()) {
    return "there are more than " + std::to_string(kCandidatesMax) + " replicas";
  }
  if (!has_witness()) return "there is no replica to ask";
  return "no majority of the Sentinels has spoken for it yet";
}

// The candidates that have just answered, and, for the others, the Sentinels; or, where there are
// none, nobody.
Witness::Proof Witness::proof_of_others(WitnessMode mode_min) const {
  bool all_vouched_for =
      sentinels_are_calm() && (!is_overfull() || round_->answered == round_->known);
  bool bad_answers = false;
  TimePoint good_at = TimePoint::max();
  for (const auto& [address, candidate] : candidates_) {
    if (candidate.is_on_time() && candidate.is_good()) {
      good_at = std::min(good_at, candidate.asked_at);
      continue;
    }
    if (candidate.is_on_time()) bad_answers = true;
    if (!sentinels_are_calm() || !sentinels_vouch_for(candidate)) all_vouched_for = false;
  }
  if (has_sentinels_) {
    if (all_vouched_for) return {std::min(good_at, round_at_), WitnessMode::kSentinels, {}};
    return {.why_not = why_not_replicas() + ", and the Sentinels do not, either"};
  }
  if (mode_min == WitnessMode::kSentinels || bad_answers) return {.why_not = why_not_replicas()};
  return {good_at, WitnessMode::kNone, {}};
}

}  // namespace tiercel::coherence
