#include "tiercel/coherence/audit_judge.h"

#include <algorithm>

namespace tiercel::coherence {

void AuditJudge::begin_epoch(std::uint64_t epoch, TimePoint now) {
  epoch_ = epoch;
  began_at_ = now;
  probes_.clear();
}

// What was proven after the epoch had begun was loaded after it, and the value after that.
bool AuditJudge::covers(const AuditedHit& hit) const {
  return hit.epoch == epoch_ && hit.proven_at >= began_at_;
}

void AuditJudge::probed(TimePoint sent_at, TimePoint received_at, Version newest) {
  if (!probes_.empty() && newest < probes_.back().newest) {
    began_at_ = received_at;
    probes_.clear();
  }
  if (!probes_.empty() && newest == probes_.back().newest) {
    probes_.back().sent_last = sent_at;
    return;
  }
  probes_.push_back({.newest = newest, .received_first = received_at, .sent_last = sent_at});
  if (probes_.size() > kProbesMax) probes_.pop_front();
}

Version AuditJudge::known_before(TimePoint at) const {
  Version known = kVersionUnknown;
  for (const Probe& probe : probes_) {
    if (probe.received_first <= at) known = probe.newest;
  }
  return known;
}

std::optional<TimePoint> AuditJudge::executed_before(Version version) const {
  for (const Probe& probe : probes_) {
    if (probe.newest >= version) return probe.received_first;
  }
  return std::nullopt;
}

std::optional<TimePoint> AuditJudge::executed_after(Version version) const {
  std::optional<TimePoint> after;
  for (const Probe& probe : probes_) {
    if (probe.newest < version) after = probe.sent_last;
  }
  return after;
}

AuditVerdict AuditJudge::judge(const AuditedHit& hit, const AuditEvidence& evidence) const {
  using Kind = AuditVerdict::Kind;
  const bool is_changed = !evidence.changes.empty();
  AuditVerdict verdict;
  // Nothing that was not searched can have been the first change but what is beyond this.
  Version first_possible = is_changed ? evidence.changes.front() : AuditEvidence::kAll;
  if (evidence.searched_to < first_possible) first_possible = evidence.searched_to + 1;
  const auto after = executed_after(first_possible);
  if (after) verdict.at_most = std::max(Duration{0}, hit.at - *after);
  if (is_changed) {
    verdict.change = evidence.changes.front();
    if (const auto before = executed_before(verdict.change)) {
      verdict.at_least = std::max(Duration{0}, hit.at - *before);
    }
  }

  const Version promised = known_before(hit.proven_at);
  if (is_changed && verdict.change <= promised) {
    verdict.kind = Kind::kViolation;
    if (evidence.searched_from > hit.version) verdict.at_most.reset();
    return verdict;
  }
  if (evidence.is_unexplained && !is_changed) return {};
  // What is older than the promise and gone from the history, but was changed again since, is not
  // seen here. While nothing else changes the entry it is: there is a change then, or nothing says
  // that there was none.
  const Version searched_from_wanted = is_changed ? std::max(promised, hit.version) : hit.version;
  if (evidence.searched_from > searched_from_wanted) return {};
  const bool is_searched = evidence.searched_to == AuditEvidence::kAll;
  if (!is_changed && is_searched) return {.kind = Kind::kFresh};
  if (after && *after >= hit.at) {
    if (evidence.is_unexplained) return {};
    return {.kind = Kind::kFresh};
  }
  if (!is_changed || !after) return {};
  verdict.kind = Kind::kStaleWithinBound;
  return verdict;
}

}  // namespace tiercel::coherence
