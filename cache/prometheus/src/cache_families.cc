#include <array>
#include <limits>

#include "families.h"

namespace tiercel {
namespace {

using Sample = CacheSample;
using Type = ::prometheus::MetricType;

constexpr auto kCounter = Type::Counter;
constexpr auto kGauge = Type::Gauge;

double remaining_of(const LeaseInfo& lease) {
  if (lease.remaining == std::chrono::milliseconds::max()) {
    return std::numeric_limits<double>::infinity();
  }
  return seconds(lease.remaining);
}

double rests_on(const Sample& sample, WitnessMode witness) {
  return sample.lease.witness == witness ? 1.0 : 0.0;
}

double is_in(const Sample& sample, BreakerState state) {
  return sample.stats.l2_breaker == state ? 1.0 : 0.0;
}

constexpr MetricRow<Sample> kRows[] = {
    {"tiercel_reads_total", "Reads by what answered them, those that nothing did included.",
     kCounter, "answer", "l1", [](const Sample& s) { return number(s.stats.reads_l1); }},
    {"tiercel_reads_total", "", kCounter, "answer", "l2",
     [](const Sample& s) { return number(s.stats.reads_l2); }},
    {"tiercel_reads_total", "", kCounter, "answer", "loader",
     [](const Sample& s) { return number(s.stats.reads_loader); }},
    {"tiercel_reads_total", "", kCounter, "answer", "absent",
     [](const Sample& s) { return number(s.stats.reads_absent); }},
    {"tiercel_reads_total", "", kCounter, "answer", "failed",
     [](const Sample& s) { return number(s.stats.reads_failed); }},
    {"tiercel_reads_joined_total", "Reads that shared another's fetch or load.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.reads_joined); }},
    {"tiercel_reads_stale_total",
     "Reads answered beyond what the lease vouches for, or past the value's life, as they allow.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.reads_stale); }},
    {"tiercel_reads_waiting", "Reads that wait for L2 or a loader now.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.reads_waiting); }},
    {"tiercel_lease_refusals_total",
     "Reads for which L1 had an entry that nothing proved fresh enough.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.lease_refusals); }},
    {"tiercel_loads_total", "Keys that loaders were called for.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.loads); }},
    {"tiercel_loads_failed_total", "Of these, those that failed.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.loads_failed); }},
    {"tiercel_loads_not_stored_total", "Of these, those whose value was handed on but not stored.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.loads_not_stored); }},
    {"tiercel_loads_past_l2_total", "Loads for which Redis was not asked, since it kept failing.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.loads_past_l2); }},
    {"tiercel_l2_breaker_state", "1 for the state that the circuit breaker for Redis is in.",
     kGauge, "state", "closed", [](const Sample& s) { return is_in(s, BreakerState::kClosed); }},
    {"tiercel_l2_breaker_state", "", kGauge, "state", "open",
     [](const Sample& s) { return is_in(s, BreakerState::kOpen); }},
    {"tiercel_l2_breaker_state", "", kGauge, "state", "half-open",
     [](const Sample& s) { return is_in(s, BreakerState::kHalfOpen); }},
    {"tiercel_fills_total", "Values put into L1.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.fills); }},
    {"tiercel_fills_dropped_total",
     "Values not put into L1: changed meanwhile, not vouched for, or too large.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.fills_dropped); }},
    {"tiercel_refreshed_total", "Entries of L1 that a message gave their new value.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.refreshed); }},
    {"tiercel_writes_total", "Writes by their outcome.", kCounter, "outcome", "acknowledged",
     [](const Sample& s) { return number(s.stats.writes_acknowledged); }},
    {"tiercel_writes_total", "", kCounter, "outcome", "failed",
     [](const Sample& s) { return number(s.stats.writes_failed); }},
    {"tiercel_writes_total", "", kCounter, "outcome", "unknown",
     [](const Sample& s) { return number(s.stats.writes_unknown); }},
    {"tiercel_invalidations_queued", "Invalidations that wait to be sent now.", kGauge, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.invalidations_queued); }},
    {"tiercel_invalidations_collapsed_total", "Times that too many waited and became one clear().",
     kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.invalidations_collapsed); }},
    {"tiercel_values_corrupt_total", "Values in Redis that claimed to be ours and did not parse.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.values_corrupt); }},
    {"tiercel_values_foreign_total", "Values in Redis that are not ours, handed on as they are.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.values_foreign); }},
    {"tiercel_messages_total", "Messages received on the channel.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.messages); }},
    {"tiercel_messages_unreadable_total", "Of these, damaged, foreign or newer ones.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.messages_unreadable); }},
    {"tiercel_epochs_total", "Epochs that L1 was joined to.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.epochs); }},
    {"tiercel_epochs_warm_total", "Of these, those into which L1 was taken along.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.epochs_warm); }},
    {"tiercel_l1_drops_total", "Times that L1 was emptied.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1_drops); }},
    {"tiercel_l1_hits_total", "Look-ups in L1 that found an entry.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1.hits); }},
    {"tiercel_l1_misses_total", "Look-ups in L1 that found none.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1.misses); }},
    {"tiercel_l1_inserts_total", "Entries that were put into L1.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1.inserts); }},
    {"tiercel_l1_removals_total", "Entries that left L1, by cause.", kCounter, "cause", "replaced",
     [](const Sample& s) { return number(s.stats.l1.replaced); }},
    {"tiercel_l1_removals_total", "", kCounter, "cause", "capacity",
     [](const Sample& s) { return number(s.stats.l1.evicted_capacity); }},
    {"tiercel_l1_removals_total", "", kCounter, "cause", "expired",
     [](const Sample& s) { return number(s.stats.l1.evicted_expired); }},
    {"tiercel_l1_removals_total", "", kCounter, "cause", "erased",
     [](const Sample& s) { return number(s.stats.l1.evicted_erased); }},
    {"tiercel_l1_removals_total", "", kCounter, "cause", "cleared",
     [](const Sample& s) { return number(s.stats.l1.evicted_cleared); }},
    {"tiercel_l1_refused_total", "Entries that L1 did not take.", kCounter, "cause", "too_large",
     [](const Sample& s) { return number(s.stats.l1.refused_too_large); }},
    {"tiercel_l1_refused_total", "", kCounter, "cause", "overloaded",
     [](const Sample& s) { return number(s.stats.l1.refused_overloaded); }},
    {"tiercel_l1_entries", "Entries in L1.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1.entries); }},
    {"tiercel_l1_bytes", "What they are charged, all overhead included.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l1.bytes_charged); }},
    {"tiercel_l2_commands_total", "Commands given to the Redis client.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.commands_submitted); }},
    {"tiercel_l2_commands_overloaded_total", "Of these, those refused because too many waited.",
     kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.commands_overloaded); }},
    {"tiercel_l2_commands_waiting", "Commands queued and in flight now.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.commands_waiting); }},
    {"tiercel_l2_direct_calls_total", "Blocking calls done without the loop.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.l2.direct_calls); }},
    {"tiercel_l2_replies_late_total", "Replies that came after their deadline.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.l2.replies_late); }},
    {"tiercel_l2_retries_total", "Commands that were sent again.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.retries); }},
    {"tiercel_l2_connects_total", "Attempts to connect to servers.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.connects_attempted); }},
    {"tiercel_l2_connects_failed_total", "Of these, those that failed.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.l2.connects_failed); }},
    {"tiercel_l2_master_changes_total", "Times that the master's address changed.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.l2.master_changes); }},
    {"tiercel_lease_held", "1 while L1 may answer.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return s.lease.held ? 1.0 : 0.0; }},
    {"tiercel_lease_remaining_seconds",
     "For how long it may from now, if nothing more is heard; +Inf without Redis.", kGauge, nullptr,
     nullptr, [](const Sample& s) { return remaining_of(s.lease); }},
    {"tiercel_lease_witness",
     "1 for who vouches, now or the last time, that nobody else has become the master.", kGauge,
     "witness", "none", [](const Sample& s) { return rests_on(s, WitnessMode::kNone); }},
    {"tiercel_lease_witness", "", kGauge, "witness", "sentinels",
     [](const Sample& s) { return rests_on(s, WitnessMode::kSentinels); }},
    {"tiercel_lease_witness", "", kGauge, "witness", "replicas",
     [](const Sample& s) { return rests_on(s, WitnessMode::kReplicas); }},
    {"tiercel_locks_held", "Distributed locks that are held here now.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.locks_held); }},
    {"tiercel_locks_waiting", "Calls that wait for one now.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.locks_waiting); }},
    {"tiercel_locks_granted_total", "Locks that were granted.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.locks_granted); }},
    {"tiercel_locks_lost_total",
     "Of these, those that could not be vouched for any more before they were given back.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.locks_lost); }},
    {"tiercel_audit_sampled_total", "Answers of L1 that were drawn to be compared with the master.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.audit.sampled); }},
    {"tiercel_audit_unsampled_total",
     "Answers that were drawn and not compared: too many waited, or the key is long.", kCounter,
     "cause", "dropped", [](const Sample& s) { return number(s.stats.audit.dropped); }},
    {"tiercel_audit_unsampled_total", "", kCounter, "cause", "skipped",
     [](const Sample& s) { return number(s.stats.audit.skipped); }},
    {"tiercel_audit_verdicts_total",
     "What came of the samples; violation: the contract was broken.", kCounter, "verdict", "voided",
     [](const Sample& s) { return number(s.stats.audit.voided); }},
    {"tiercel_audit_verdicts_total", "", kCounter, "verdict", "fresh",
     [](const Sample& s) { return number(s.stats.audit.fresh); }},
    {"tiercel_audit_verdicts_total", "", kCounter, "verdict", "stale_within_bound",
     [](const Sample& s) { return number(s.stats.audit.stale_within_bound); }},
    {"tiercel_audit_verdicts_total", "", kCounter, "verdict", "violation",
     [](const Sample& s) { return number(s.stats.audit.violations); }},
    {"tiercel_audit_verdicts_total", "", kCounter, "verdict", "inconclusive",
     [](const Sample& s) { return number(s.stats.audit.inconclusive); }},
    {"tiercel_audit_worst_staleness_seconds",
     "The worst of the stale samples: so long for certain, and at most so long.", kGauge, "bound",
     "at_least", [](const Sample& s) { return seconds(s.stats.audit.worst_at_least); }},
    {"tiercel_audit_worst_staleness_seconds", "", kGauge, "bound", "at_most",
     [](const Sample& s) { return seconds(s.stats.audit.worst_at_most); }},
};

MetricLabels labels_of(const Sample& sample) { return {{"cache", sample.cache}}; }

}  // namespace

MetricFamilies families_of(std::span<const CacheSample> samples) {
  MetricFamilies families = families_by<Sample>(kRows, samples, labels_of);
  std::array<double, AuditStats::kBucketsMs.size()> up_to{};
  for (std::size_t i = 0; i < up_to.size(); ++i) {
    up_to[i] = seconds(std::chrono::milliseconds{AuditStats::kBucketsMs[i]});
  }
  families.push_back({.name = "tiercel_audit_staleness_seconds",
                      .help = "How stale the samples were at most that were not fresh.",
                      .type = Type::Histogram,
                      .metric = {}});
  for (const Sample& sample : samples) {
    ::prometheus::ClientMetric metric;
    metric.label = labels_of(sample);
    metric.histogram =
        histogram_of(up_to, sample.stats.audit.staleness, std::numeric_limits<double>::quiet_NaN());
    families.back().metric.push_back(std::move(metric));
  }
  return families;
}

}  // namespace tiercel
