#pragma once

// Metric families from stats: pure functions, so that a test can hand in any numbers. A family is
// there also when nothing has been sampled, without series.

#include <prometheus/metric_family.h>

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tiercel/cache/keyspace_stats.h"
#include "tiercel/cache/stats.h"

namespace tiercel {

struct CacheSample {
  std::string cache;
  CacheStats stats;
  LeaseInfo lease;
};

struct KeyspaceSample {
  std::string cache;
  std::string keyspace;
  KeyspaceStats stats;
};

using MetricFamilies = std::vector<::prometheus::MetricFamily>;
using MetricLabels = std::vector<::prometheus::ClientMetric::Label>;

MetricFamilies families_of(std::span<const CacheSample> samples);
MetricFamilies families_of(std::span<const KeyspaceSample> samples);

// One series of each sample. Rows of one family stand together, the first has its help.
template <typename Sample>
struct MetricRow {
  const char* name;
  const char* help;
  ::prometheus::MetricType type;
  const char* label;  // Beside the sample's own; nullptr: none.
  const char* label_value;
  double (*value)(const Sample&);
};

template <typename Sample>
MetricFamilies families_by(std::span<const MetricRow<Sample>> rows, std::span<const Sample> samples,
                           MetricLabels (*labels_of)(const Sample&)) {
  MetricFamilies families;
  for (const MetricRow<Sample>& row : rows) {
    if (families.empty() || families.back().name != row.name) {
      families.push_back({.name = row.name, .help = row.help, .type = row.type, .metric = {}});
    }
    for (const Sample& sample : samples) {
      ::prometheus::ClientMetric metric;
      metric.label = labels_of(sample);
      if (row.label != nullptr) metric.label.push_back({row.label, row.label_value});
      const double value = row.value(sample);
      (row.type == ::prometheus::MetricType::Counter ? metric.counter.value : metric.gauge.value) =
          value;
      families.back().metric.push_back(std::move(metric));
    }
  }
  return families;
}

// Of counts that are not cumulative; the last one is of what is above all bounds.
inline ::prometheus::ClientMetric::Histogram histogram_of(std::span<const double> up_to,
                                                          std::span<const std::uint64_t> counts,
                                                          double sum) {
  ::prometheus::ClientMetric::Histogram histogram;
  histogram.sample_sum = sum;
  for (std::size_t i = 0; i < counts.size(); ++i) {
    histogram.sample_count += counts[i];
    if (i < up_to.size()) histogram.bucket.push_back({histogram.sample_count, up_to[i]});
  }
  return histogram;
}

inline double number(std::uint64_t count) noexcept { return static_cast<double>(count); }
inline double seconds(std::chrono::duration<double> duration) noexcept { return duration.count(); }

}  // namespace tiercel
