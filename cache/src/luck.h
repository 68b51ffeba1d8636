#pragma once

// Luck: whether it is worth trying the cheap way first, by how it has ended lately. Any thread.

#include <atomic>

namespace tiercel {

class Luck {
 public:
  [[nodiscard]] bool is_good() const noexcept {
    return balance_.load(std::memory_order_relaxed) >= 0;
  }
  // Some counts may get lost among threads, which does not matter.
  void tell(bool was_good) noexcept {
    const int balance = balance_.load(std::memory_order_relaxed);
    const int next = was_good ? balance + 1 : balance - 1;
    if (next >= -kMost && next <= kMost) balance_.store(next, std::memory_order_relaxed);
  }

 private:
  static constexpr int kMost = 32;
  std::atomic<int> balance_{0};
};

}  // namespace tiercel
