#pragma once

// Histogram: how long things took, in buckets an eighth of their size wide, good enough for p50 and
// p99. Lives in zeroed shared memory; add() from any thread of any process.

#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "tiercel/base/clock.h"

namespace tiercel::fleet {

class Histogram {
 public:
  static constexpr std::size_t kSteps = 8;  // A power of two: buckets for each doubling.
  static constexpr std::size_t kBuckets = 64 * kSteps;
  using Counts = std::array<std::uint64_t, kBuckets>;

  void add(Duration duration) noexcept {
    const auto nanoseconds =
        duration.count() > 0 ? static_cast<std::uint64_t>(duration.count()) : 0;
    buckets_[bucket_of(nanoseconds)].fetch_add(1, std::memory_order_relaxed);
  }

  // Adds what was counted so far.
  void add_to(Counts& counts) const noexcept {
    for (std::size_t i = 0; i < kBuckets; ++i) {
      counts[i] += buckets_[i].load(std::memory_order_relaxed);
    }
  }

  static constexpr std::size_t bucket_of(std::uint64_t nanoseconds) noexcept {
    if (nanoseconds < kSteps) return static_cast<std::size_t>(nanoseconds);
    const auto doublings = static_cast<std::size_t>(std::bit_width(nanoseconds / kSteps)) - 1;
    return (doublings + 1) * kSteps + static_cast<std::size_t>(nanoseconds >> doublings) - kSteps;
  }

  // The largest duration that falls into the bucket.
  static constexpr Duration upper_end(std::size_t bucket) noexcept {
    if (bucket < kSteps) return Duration{static_cast<Duration::rep>(bucket)};
    const std::size_t doublings = bucket / kSteps - 1;
    const std::uint64_t step = bucket % kSteps + kSteps + 1;
    return Duration{static_cast<Duration::rep>((step << doublings) - 1)};
  }

  // What `fraction` of all durations did not exceed. nullopt when there is none.
  static std::optional<Duration> quantile(const Counts& counts, double fraction) noexcept {
    std::uint64_t total = 0;
    for (const std::uint64_t count : counts) total += count;
    if (total == 0) return std::nullopt;
    std::uint64_t below = 0;
    std::size_t bucket = 0;
    while (bucket + 1 < kBuckets) {
      below += counts[bucket];
      if (static_cast<double>(below) >= fraction * static_cast<double>(total)) break;
      ++bucket;
    }
    return upper_end(bucket);
  }

 private:
  std::array<std::atomic<std::uint64_t>, kBuckets> buckets_;
};

}  // namespace tiercel::fleet
