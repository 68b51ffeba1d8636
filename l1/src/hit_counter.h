#pragma once

// HitCounter: hits and misses, counted by each thread for itself, in a cache line that no other
// thread writes: by plain loads and stores, exact. Threads beyond the first kOwned share the rest,
// and count atomically.

#include <atomic>
#include <cstdint>

#include "hazard.h"

namespace tiercel::l1 {

struct alignas(64) HitCounter {
  static constexpr std::uint32_t kOwned = 48;
  static constexpr std::uint32_t kShared = 16;
  static constexpr std::uint32_t kAll = kOwned + kShared;

  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> misses{0};

  // Of an array of kAll.
  static void count(HitCounter* counters, const ReaderRecord& thread, bool hit) noexcept {
    if (thread.id < kOwned) [[likely]] {
      HitCounter& own = counters[thread.id];
      std::atomic<std::uint64_t>& counter = hit ? own.hits : own.misses;
      counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
      return;
    }
    HitCounter& shared = counters[kOwned + thread.id % kShared];
    (hit ? shared.hits : shared.misses).fetch_add(1, std::memory_order_relaxed);
  }
};

}  // namespace tiercel::l1
