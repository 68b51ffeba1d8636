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

  // Of an array of kAll. `which` is &HitCounter::hits or ::misses.
  static void count(HitCounter* counters, const ReaderRecord& thread,
                    std::atomic<std::uint64_t> HitCounter::*which,
                    std::uint64_t count = 1) noexcept {
    if (thread.id < kOwned) [[likely]] {
      std::atomic<std::uint64_t>& own = counters[thread.id].*which;
      own.store(own.load(std::memory_order_relaxed) + count, std::memory_order_relaxed);
      return;
    }
    (counters[kOwned + thread.id % kShared].*which).fetch_add(count, std::memory_order_relaxed);
  }
};

}  // namespace tiercel::l1
