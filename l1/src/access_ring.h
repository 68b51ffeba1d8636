#pragma once

// AccessRing: the last accesses that fell into the adaptive policy's sample, pushed by readers
// without a lock and read by the lock's holder. Lossy: what is not taken in time is overwritten,
// and of two threads that push at once one may lose.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdint>

namespace tiercel::l1 {

class AccessRing {
 public:
  void push(std::uint32_t hash) noexcept {
    const std::uint32_t at = pushed_.load(std::memory_order_relaxed);
    hashes_[at % kSlots].store(hash, std::memory_order_relaxed);
    pushed_.store(at + 1, std::memory_order_relaxed);
  }

  // f(hash) for the oldest that are left, at most `most` of them.
  template <typename F>
  void take(std::uint32_t most, F&& f) noexcept {
    const std::uint32_t pushed = pushed_.load(std::memory_order_relaxed);
    if (pushed - taken_ > kSlots) taken_ = pushed - kSlots;
    for (std::uint32_t i = std::min(most, pushed - taken_); i > 0; --i, ++taken_) {
      f(hashes_[taken_ % kSlots].load(std::memory_order_relaxed));
    }
  }

 private:
  static constexpr std::uint32_t kSlots = 64;

  std::atomic<std::uint32_t> pushed_{0};
  std::uint32_t taken_ = 0;
  std::array<std::atomic<std::uint32_t>, kSlots> hashes_{};
};

}  // namespace tiercel::l1
