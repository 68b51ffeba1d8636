#pragma once

// LogicalClock: the time of a stripe, in uses and inserts. Readers move it on without a lock, by a
// load and a store, so ticks get lost between them, and one that was stopped in between may even
// set it back; the lock's holder, who ticks with each insert, puts that right.

#include <atomic>
#include <cstdint>

namespace tiercel::l1 {

class LogicalClock {
 public:
  [[nodiscard]] std::uint32_t now() const noexcept { return now_.load(std::memory_order_relaxed); }
  void set(std::uint32_t now) noexcept { now_.store(now, std::memory_order_relaxed); }

  // The lock's holder: now, or what it has seen before if that is later; and a new time after it.
  [[nodiscard]] std::uint32_t latest() const noexcept {
    const std::uint32_t time = now();
    return static_cast<std::int32_t>(latest_ - time) > 0 ? latest_ : time;
  }
  std::uint32_t tick() noexcept {
    latest_ = latest() + 1;
    set(latest_);
    return latest_;
  }

 private:
  std::atomic<std::uint32_t> now_{0};
  std::uint32_t latest_ = 0;  // That the lock's holder has seen.
};

}  // namespace tiercel::l1
