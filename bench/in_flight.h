#pragma once

// What measurements with many operations in flight share: chains of operations of which each is
// begun by the answer of the one before, by callbacks or by coroutines.
//
// Every operation of a measurement has the same deadline, made before it: what hangs fails the
// bench.

#include <atomic>
#include <chrono>
#include <cstddef>
#include <thread>

#include "l2_work.h"
#include "support/detached.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::bench {

using testing::Detached;

inline constexpr Duration kPatience = std::chrono::seconds{30};

[[nodiscard]] inline TimePoint deadline_after(Duration duration) {
  return Clock::system().now() + duration + kPatience;
}

// Waits until so many have said that they are done.
class Countdown {
 public:
  explicit Countdown(std::size_t count) : left_(count) {}

  void done() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    if (--left_ == 0) none_left_.notify_one();
  }
  void wait() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    while (left_ > 0) none_left_.wait(mutex_);
  }

 private:
  Mutex mutex_;
  CondVar none_left_;
  std::size_t left_ TIERCEL_GUARDED_BY(mutex_);
};

// What the chains of a measurement have in common: callbacks or coroutines.
struct Chains {
  explicit Chains(std::size_t count, Duration duration)
      : deadline(deadline_after(duration)), running(count) {}

  // Lets them run for a while. Returns when all have come to their end.
  void run(Duration duration) {
    std::this_thread::sleep_for(duration);
    stop.store(true, std::memory_order_relaxed);
    running.wait();
  }
  [[nodiscard]] bool must_stop() const noexcept {
    return stop.load(std::memory_order_relaxed) || mistake.was_made();
  }

  const TimePoint deadline;
  std::atomic<bool> stop{false};
  Mistake mistake;
  Countdown running;
};

}  // namespace tiercel::bench
