#include <array>

#include "families.h"

namespace tiercel {
namespace {

using Sample = KeyspaceSample;
using Type = ::prometheus::MetricType;

constexpr auto kCounter = Type::Counter;
constexpr auto kGauge = Type::Gauge;

double is_in(const Sample& sample, BreakerState state) {
  return sample.stats.breaker == state ? 1.0 : 0.0;
}

constexpr MetricRow<Sample> kRows[] = {
    {"tiercel_keyspace_hits_total", "Reads that a tier had the value for.", kCounter, "tier", "l1",
     [](const Sample& s) { return number(s.stats.hits_l1); }},
    {"tiercel_keyspace_hits_total", "", kCounter, "tier", "l2",
     [](const Sample& s) { return number(s.stats.hits_l2); }},
    {"tiercel_keyspace_absent_total", "Reads of keys that L1 knew not to be there.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.absent); }},
    {"tiercel_keyspace_misses_total", "Reads that L1 did not answer.", kCounter, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.misses); }},
    {"tiercel_keyspace_joined_total", "Misses that shared another read's fetch or load.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.joined); }},
    {"tiercel_keyspace_waits_total",
     "Fetches and loads that waited for another process's load of their key.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.waits); }},
    {"tiercel_keyspace_loads_total", "Keys that the loader was called for.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.loads); }},
    {"tiercel_keyspace_loads_failed_total", "Of these, those that failed.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.loads_failed); }},
    {"tiercel_keyspace_loads_refused_total",
     "Keys that the loader was not called for: too many loads, or an open circuit.", kCounter, "by",
     "bulkhead", [](const Sample& s) { return number(s.stats.loads_refused_bulkhead); }},
    {"tiercel_keyspace_loads_refused_total", "", kCounter, "by", "breaker",
     [](const Sample& s) { return number(s.stats.loads_refused_breaker); }},
    {"tiercel_keyspace_refreshes_total", "Loads that began beside a read that was answered.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.refreshes); }},
    {"tiercel_keyspace_stale_served_total", "Reads answered with a value past its life.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.stale_served); }},
    {"tiercel_keyspace_defaults_served_total", "Reads answered with the default value.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.defaults_served); }},
    {"tiercel_keyspace_codec_mismatches_total", "Values in Redis that are of another codec.",
     kCounter, nullptr, nullptr, [](const Sample& s) { return number(s.stats.codec_mismatches); }},
    {"tiercel_keyspace_breaker_state", "1 for the state that the loader's circuit breaker is in.",
     kGauge, "state", "closed", [](const Sample& s) { return is_in(s, BreakerState::kClosed); }},
    {"tiercel_keyspace_breaker_state", "", kGauge, "state", "open",
     [](const Sample& s) { return is_in(s, BreakerState::kOpen); }},
    {"tiercel_keyspace_breaker_state", "", kGauge, "state", "half-open",
     [](const Sample& s) { return is_in(s, BreakerState::kHalfOpen); }},
    {"tiercel_keyspace_breaker_openings_total", "Times that it has opened.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.breaker_openings); }},
    {"tiercel_keyspace_guard_answers", "1 while the Bloom filter of the keyspace may refuse reads.",
     kGauge, nullptr, nullptr,
     [](const Sample& s) { return s.stats.guard.state == GuardState::kAnswering ? 1.0 : 0.0; }},
    {"tiercel_keyspace_guard_refused_total", "Reads of keys that cannot exist.", kCounter, nullptr,
     nullptr, [](const Sample& s) { return number(s.stats.guard.refused); }},
    {"tiercel_keyspace_guard_keys", "Keys in the Bloom filter, about.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.guard.keys); }},
    {"tiercel_keyspace_guard_bytes", "Of the Bloom filter.", kGauge, nullptr, nullptr,
     [](const Sample& s) { return number(s.stats.guard.bytes); }},
    {"tiercel_keyspace_guard_failures_total", "Primings and buildings that failed.", kCounter,
     nullptr, nullptr, [](const Sample& s) { return number(s.stats.guard.failures); }},
};

MetricLabels labels_of(const Sample& sample) {
  return {{"cache", sample.cache}, {"keyspace", sample.keyspace}};
}

}  // namespace

MetricFamilies families_of(std::span<const KeyspaceSample> samples) {
  MetricFamilies families = families_by<Sample>(kRows, samples, labels_of);
  std::array<double, LoadTimes::kUpTo.size()> up_to{};
  for (std::size_t i = 0; i < up_to.size(); ++i) up_to[i] = seconds(LoadTimes::kUpTo[i]);
  families.push_back({.name = "tiercel_keyspace_load_duration_seconds",
                      .help = "How long calls of the loader took, a batch being one.",
                      .type = Type::Histogram,
                      .metric = {}});
  for (const Sample& sample : samples) {
    ::prometheus::ClientMetric metric;
    metric.label = labels_of(sample);
    const LoadTimes& times = sample.stats.load_times;
    metric.histogram = histogram_of(up_to, times.counts, seconds(times.sum));
    families.back().metric.push_back(std::move(metric));
  }
  return families;
}

}  // namespace tiercel
