#pragma once

// CircuitBreaker: stops calling what keeps failing, and tries it again from time to time. A pure
// state machine (state, event, now); the caller has a lock or one thread.
//
//   closed     calls pass. When at least `calls_min` calls ended within the last `window`, and at
//              least `failure_ratio` of them failed, it opens.
//   open       calls are refused at once, for `open_for`.
//   half open  up to `probes` calls at a time pass. As many successes in a row close it, one
//              failure opens it again.
//
// The window is kept in two halves, so what counts is between half a window and a whole one old. A
// call that is never reported (its process died with it) holds its place as a probe for `open_for`.
//
//   if (!breaker.may_call(now)) return unavailable("the loader's circuit is open");
//   breaker.report(load().has_value(), now);
//   (compiled in tests/cache/circuit_breaker_test.cc)
//
// Source: M. Nygard, "Release It!" (2007), chapter 5.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel {

struct BreakerOptions {
  // Of the calls that ended within the window, so many must have failed. 0.01 to 1.
  double failure_ratio = 0.5;
  // Fewer calls than that say nothing. 1 to 1,000,000.
  std::size_t calls_min = 10;
  std::chrono::milliseconds window{10'000};   // 10 ms to 1 h.
  std::chrono::milliseconds open_for{5'000};  // 10 ms to 1 h.
  std::size_t probes = 1;                     // 1 to 1,000.
};

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const BreakerOptions& options);

enum class BreakerState : std::uint8_t { kClosed, kOpen, kHalfOpen };
std::string_view to_string(BreakerState state) noexcept;  // "closed", "open", "half-open"

class CircuitBreaker {
 public:
  explicit CircuitBreaker(BreakerOptions options) noexcept : options_(options) {}  // Valid ones.

  // Whether a call may be made now. True: report() must follow.
  [[nodiscard]] bool may_call(TimePoint now) noexcept;
  // A call that was permitted has ended.
  void report(bool success, TimePoint now) noexcept;

  [[nodiscard]] BreakerState state(TimePoint now) const noexcept;
  // How often it has opened.
  [[nodiscard]] std::uint64_t openings() const noexcept { return openings_; }

 private:
  struct Half {
    std::size_t calls = 0;
    std::size_t failures = 0;
  };
  void turn(TimePoint now) noexcept;
  void open(TimePoint now) noexcept;

  const BreakerOptions options_;
  bool is_closed_ = true;
  // Closed: the present half of the window and the one before.
  std::array<Half, 2> halves_{};
  TimePoint half_began_at_{};
  // Not closed.
  TimePoint opened_at_{};
  std::size_t probing_ = 0;
  std::size_t successes_ = 0;
  TimePoint probed_at_{};
  std::uint64_t openings_ = 0;
};

}  // namespace tiercel
