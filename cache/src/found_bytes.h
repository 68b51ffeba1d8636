#pragma once

// FoundBytes: what the values weigh that reads of one kind find in Redis, so that no more of them
// are asked for in one call than it may bring. Any thread; some counts may get lost among threads,
// which does not matter.

#include <algorithm>
#include <atomic>
#include <cstddef>

#include "together.h"

namespace tiercel {

class FoundBytes {
 public:
  // Of a value, as far as the last ones tell.
  [[nodiscard]] std::size_t expected() const noexcept {
    return expected_.load(std::memory_order_relaxed);
  }
  // 0 where there was none. Rises at once and falls slowly.
  void note(std::size_t bytes) noexcept {
    const std::size_t before = expected();
    expected_.store(std::max(bytes, before - before / 64), std::memory_order_relaxed);
  }
  // So many that were asked for together did not come in time: half as many at the next time.
  void note_too_many(std::size_t count, std::size_t bytes_max) noexcept {
    expected_.store(std::max(expected(), 2 * bytes_max / count), std::memory_order_relaxed);
  }

 private:
  // At first nothing is known.
  std::atomic<std::size_t> expected_{Together::kJoinBytesMax};
};

}  // namespace tiercel
