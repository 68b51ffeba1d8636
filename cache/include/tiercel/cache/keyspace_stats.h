#pragma once

// What a Keyspace counts, since it was opened, in this process. Plain values: a snapshot, each
// number exact, together not atomic.

#include <algorithm>
#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <numeric>

#include "tiercel/base/clock.h"
#include "tiercel/cache/bloom_guard.h"
#include "tiercel/cache/circuit_breaker.h"

namespace tiercel {

// How long the calls of a loader took, those that failed included. A batch is one call.
struct LoadTimes {
  // Bucket i counts those of up to kUpTo[i], and of more than the bucket before; the last one all
  // others.
  static constexpr std::array<std::chrono::microseconds, 17> kUpTo{
      std::chrono::microseconds{100},       std::chrono::microseconds{250},
      std::chrono::microseconds{500},       std::chrono::microseconds{1'000},
      std::chrono::microseconds{2'500},     std::chrono::microseconds{5'000},
      std::chrono::microseconds{10'000},    std::chrono::microseconds{25'000},
      std::chrono::microseconds{50'000},    std::chrono::microseconds{100'000},
      std::chrono::microseconds{250'000},   std::chrono::microseconds{500'000},
      std::chrono::microseconds{1'000'000}, std::chrono::microseconds{2'500'000},
      std::chrono::microseconds{5'000'000}, std::chrono::microseconds{10'000'000},
      std::chrono::microseconds{30'000'000}};
  static constexpr std::size_t kBuckets = kUpTo.size() + 1;
  [[nodiscard]] static constexpr std::size_t bucket_of(Duration took) noexcept {
    const auto* const bound = std::lower_bound(kUpTo.begin(), kUpTo.end(), took);
    return static_cast<std::size_t>(bound - kUpTo.begin());
  }

  std::array<std::uint64_t, kBuckets> counts{};
  Duration sum{0};  // Of all calls.

  [[nodiscard]] constexpr std::uint64_t calls() const noexcept {
    return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
  }
};

struct KeyspaceStats {
  // Reads by what L1 said to them. Each read that was not refused for its arguments, the state of
  // L1's lease or a bound counts once here, whatever it was answered in the end.
  std::uint64_t hits_l1 = 0;  // Also what is stale, where that was the answer.
  std::uint64_t absent = 0;   // Known not to be there; to try_get that is a miss.
  std::uint64_t misses = 0;

  // Of the misses.
  std::uint64_t hits_l2 = 0;  // Redis had it, when they came or after another process's load.
  std::uint64_t joined = 0;   // Shared another read's fetch or load in this process.

  // Fetches and loads that found another process loading their key, and waited for that.
  std::uint64_t waits = 0;

  std::uint64_t loads = 0;  // Keys, for which the loader was called;
  std::uint64_t loads_failed = 0;
  std::uint64_t loads_refused_bulkhead = 0;  // and for which it was not: too many run and wait,
  std::uint64_t loads_refused_breaker = 0;   // or it has failed too often.
  std::uint64_t refreshes = 0;               // Begun beside a read.
  LoadTimes load_times{};

  std::uint64_t stale_served = 0;     // Reads that were given a value whose life had ended,
  std::uint64_t defaults_served = 0;  // or Keyspace::Options::default_value.
  std::uint64_t codec_mismatches = 0;

  BreakerState breaker = BreakerState::kClosed;
  std::uint64_t breaker_openings = 0;
  GuardStats guard{};  // What it refused are misses of L1.
};

}  // namespace tiercel
