#include "master_belief.h"

#include <algorithm>
#include <tuple>
#include <utility>

namespace tiercel::l2 {
namespace {

constexpr std::size_t kRefutedMax = 16;

}  // namespace

std::vector<MasterBelief::Proposal> MasterBelief::proposals_of(
    std::span<const SentinelClaim> claims) {
  std::vector<Proposal> proposals;
  for (const SentinelClaim& claim : claims) {
    auto at = std::find_if(proposals.begin(), proposals.end(), [&claim](const Proposal& proposal) {
      return proposal.endpoint == claim.master;
    });
    if (at == proposals.end()) at = proposals.insert(at, Proposal{claim.master, 0, 0, 0});
    at->epoch = std::max(at->epoch, claim.config_epoch);
    ++at->votes;
    at->votes_alert += claim.is_tilted ? 0 : 1;
  }
  // Stable: between equals, the Sentinel that stands first in the configuration.
  std::stable_sort(proposals.begin(), proposals.end(), [](const Proposal& a, const Proposal& b) {
    return std::tie(a.epoch, a.votes_alert, a.votes) > std::tie(b.epoch, b.votes_alert, b.votes);
  });
  return proposals;
}

std::optional<Resolution> MasterBelief::choose(std::span<const SentinelClaim> claims,
                                               std::size_t voters, TimePoint now) {
  if (ahead_ && now >= ahead_->until) ahead_.reset();
  if (claims.empty()) {
    if (ahead_) return aim_at(ahead_->endpoint, ahead_->epoch);
    if (!proven_) return std::nullopt;
    Resolution last = aim_at(proven_->endpoint, proven_epoch_);
    last.only_if = proven_;
    return last;
  }
  const std::vector<Proposal> proposals = proposals_of(claims);
  const Proposal* best = &proposals.front();
  if (ahead_) {
    if (best->epoch < ahead_->epoch) return aim_at(ahead_->endpoint, ahead_->epoch);
    ahead_.reset();  // Confirmed, or overtaken.
  }
  if (is_refuted(*best)) {
    const auto other =
        std::find_if(proposals.begin(), proposals.end(), [this, voters](const Proposal& proposal) {
          return proposal.votes * 2 > voters && !is_refuted(proposal);
        });
    if (other != proposals.end()) best = &*other;
  }
  if (is_outdated(*best, voters, now)) return aim_at(proven_->endpoint, proven_epoch_);
  const Resolution choice = aim_at(best->endpoint, best->epoch);
  prove();
  return choice;
}

bool MasterBelief::is_outdated(const Proposal& best, std::size_t voters, TimePoint now) {
  if (!proven_ || best.epoch >= proven_epoch_ || best.endpoint == proven_->endpoint) {
    outvoted_since_.reset();
    return false;
  }
  if (best.votes * 2 <= voters) {
    outvoted_since_.reset();
    return true;
  }
  if (!outvoted_since_) outvoted_since_ = now;
  if (now - *outvoted_since_ < kOutvotedMax) return true;
  outvoted_since_.reset();
  proven_epoch_ = best.epoch;
  return false;
}

Resolution MasterBelief::aim_at(const Endpoint& endpoint, std::uint64_t epoch) {
  if (target_ != endpoint) unreachable_since_.reset();
  target_ = endpoint;
  target_epoch_ = epoch;
  return {endpoint, epoch, {}};
}

bool MasterBelief::announced(const Endpoint& from, const Endpoint& to, TimePoint now) {
  if (target_ == to) {
    if (ahead_ && ahead_->endpoint == to) ahead_->is_announced = true;
    prove();
    return true;
  }
  const std::uint64_t epoch = std::max(target_epoch_, proven_epoch_) + 1;
  // The announcement carries no epoch, but a failover raises it.
  if (target_ != from || is_refuted({to, epoch, 0, 0})) return false;
  ahead_ = Ahead{to, epoch, now + kAheadMax, true};
  aim_at(to, epoch);
  return true;
}

bool MasterBelief::promotion_ordered(const Endpoint& replica, std::uint64_t epoch, TimePoint now) {
  if (epoch <= std::max(target_epoch_, proven_epoch_)) return false;
  ahead_ = Ahead{replica, epoch, now + kAheadMax, false};
  aim_at(replica, epoch);
  return true;
}

void MasterBelief::promotion_aborted() {
  if (ahead_ && !ahead_->is_announced) ahead_.reset();
}

void MasterBelief::found_master(const ServerIdentity& identity) {
  std::erase_if(refuted_, [&identity](const Refuted& refuted) {
    return refuted.endpoint == identity.endpoint;
  });
  found_ = identity;
  prove();
}

// Both halves are needed, and either can come first: a Sentinel that names the target, and a link
// that found a master there. A promotion that no Sentinel has confirmed may yet come to nothing and
// must not outrank what they say.
void MasterBelief::prove() {
  if (!found_ || target_ != found_->endpoint) return;
  unreachable_since_.reset();
  if (ahead_ && !ahead_->is_announced) return;
  proven_ = found_;
  proven_epoch_ = std::max(proven_epoch_, target_epoch_);
}

void MasterBelief::found_not_master(const Endpoint& endpoint) {
  if (found_ && found_->endpoint == endpoint) found_.reset();
  if (target_ != endpoint) return;
  if (ahead_ && ahead_->endpoint == endpoint) {
    // Not yet, for a promotion under way. What was announced should be true already.
    if (!ahead_->is_announced) return;
    ahead_.reset();
  }
  refute(endpoint, target_epoch_);
}

void MasterBelief::found_unreachable(const Endpoint& endpoint, TimePoint now) {
  if (found_ && found_->endpoint == endpoint) found_.reset();
  if (target_ != endpoint) return;
  if (!unreachable_since_) unreachable_since_ = now;
  if (now - *unreachable_since_ >= kUnreachableMax) refute(endpoint, target_epoch_);
}

bool MasterBelief::is_refuted(const Proposal& proposal) const {
  return std::any_of(refuted_.begin(), refuted_.end(), [&proposal](const Refuted& refuted) {
    return refuted.endpoint == proposal.endpoint && refuted.epoch >= proposal.epoch;
  });
}

void MasterBelief::refute(const Endpoint& endpoint, std::uint64_t epoch) {
  std::erase_if(refuted_, [&](const Refuted& refuted) { return refuted.endpoint == endpoint; });
  if (refuted_.size() == kRefutedMax) refuted_.erase(refuted_.begin());
  refuted_.push_back({endpoint, epoch});
}

}  // namespace tiercel::l2
