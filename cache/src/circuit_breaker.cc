#include "tiercel/cache/circuit_breaker.h"

#include <string>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

Result<void> check_length(std::string_view field, std::chrono::milliseconds given) {
  if (given >= 10ms && given <= 1h) return {};
  return invalid_argument("breaker." + std::string{field} + " is " + std::to_string(given.count()) +
                          " ms; it must be 10 ms to 1 h");
}

}  // namespace

Result<void> validate(const BreakerOptions& options) {
  if (!(options.failure_ratio >= 0.01 && options.failure_ratio <= 1.0)) {
    return invalid_argument("breaker.failure_ratio is " + std::to_string(options.failure_ratio) +
                            "; it must be 0.01 to 1");
  }
  if (options.calls_min < 1 || options.calls_min > 1'000'000) {
    return invalid_argument("breaker.calls_min is " + std::to_string(options.calls_min) +
                            "; it must be 1 to 1,000,000");
  }
  if (options.probes < 1 || options.probes > 1000) {
    return invalid_argument("breaker.probes is " + std::to_string(options.probes) +
                            "; it must be 1 to 1,000");
  }
  if (auto valid = check_length("window", options.window); !valid) return valid;
  return check_length("open_for", options.open_for);
}

std::string_view to_string(BreakerState state) noexcept {
  switch (state) {
    case BreakerState::kClosed: return "closed";
    case BreakerState::kOpen: return "open";
    case BreakerState::kHalfOpen: return "half-open";
  }
  return "?";
}

void CircuitBreaker::turn(TimePoint now) noexcept {
  const Duration half = options_.window / 2;
  if (now < half_began_at_ + half) return;
  const bool is_next = now < half_began_at_ + 2 * half;
  halves_[1] = is_next ? halves_[0] : Half{};
  halves_[0] = {};
  half_began_at_ = now;
}

void CircuitBreaker::open(TimePoint now) noexcept {
  is_closed_ = false;
  opened_at_ = now;
  probing_ = successes_ = 0;
  halves_ = {};
  ++openings_;
}

BreakerState CircuitBreaker::state(TimePoint now) const noexcept {
  if (is_closed_) return BreakerState::kClosed;
  return now < opened_at_ + options_.open_for ? BreakerState::kOpen : BreakerState::kHalfOpen;
}

bool CircuitBreaker::may_call(TimePoint now) noexcept {
  if (is_closed_) return true;
  if (now < opened_at_ + options_.open_for) return false;
  if (probing_ > 0 && now >= probed_at_ + options_.open_for) probing_ = 0;
  if (probing_ >= options_.probes) return false;
  ++probing_;
  probed_at_ = now;
  return true;
}

void CircuitBreaker::report(bool success, TimePoint now) noexcept {
  if (is_closed_) {
    turn(now);
    ++halves_[0].calls;
    if (!success) ++halves_[0].failures;
    const std::size_t calls = halves_[0].calls + halves_[1].calls;
    const std::size_t failures = halves_[0].failures + halves_[1].failures;
    const bool is_bad =
        static_cast<double>(failures) >= options_.failure_ratio * static_cast<double>(calls);
    if (!success && calls >= options_.calls_min && is_bad) open(now);
    return;
  }
  if (now < opened_at_ + options_.open_for) return;  // A call from before it opened.
  if (probing_ > 0) --probing_;
  if (!success) return open(now);
  if (++successes_ < options_.probes) return;
  is_closed_ = true;
  half_began_at_ = now;
}

}  // namespace tiercel
