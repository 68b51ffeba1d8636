#pragma once

// Time as Tiercel uses it: one monotonic timeline of this machine, handed in so that tests and the
// simulator can drive it.
//
// The system clock is CLOCK_BOOTTIME: it never goes back, and unlike CLOCK_MONOTONIC it counts the
// time during which the machine was suspended, so a laptop or a migrated virtual machine that wakes
// up cannot believe that its lease still stands. All processes of one machine see the same
// timeline. No wall clock and no clock of another machine is used for any decision.

#include <atomic>
#include <chrono>
#include <cstdint>

namespace tiercel {

// Only names the timeline; it has no now(), so nobody can reach for a global clock by mistake.
struct MonotonicTimeline {
  using duration = std::chrono::nanoseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<MonotonicTimeline>;
  static constexpr bool is_steady = true;
};

using Duration = std::chrono::nanoseconds;
using TimePoint = MonotonicTimeline::time_point;

class Clock {
 public:
  virtual ~Clock() = default;

  // Any thread. Never goes back. Costs about 25 ns (vDSO, no system call) for the system clock.
  [[nodiscard]] virtual TimePoint now() const noexcept = 0;

  // The machine's own clock; lives for ever.
  static const Clock& system() noexcept;
};

// A clock that stands still until it is told otherwise. Any thread.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(TimePoint start = TimePoint{std::chrono::seconds{1000}}) noexcept
      : now_(start.time_since_epoch().count()) {}

  [[nodiscard]] TimePoint now() const noexcept override {
    return TimePoint{Duration{now_.load(std::memory_order_acquire)}};
  }
  void advance(Duration by) noexcept { now_.fetch_add(by.count(), std::memory_order_acq_rel); }

 private:
  std::atomic<Duration::rep> now_;
};

// Rounded towards zero; for messages and reports.
[[nodiscard]] constexpr std::int64_t to_milliseconds(Duration duration) noexcept {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

}  // namespace tiercel
