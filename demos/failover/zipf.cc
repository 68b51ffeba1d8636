#include "failover/zipf.h"

#include <algorithm>
#include <cmath>

#include "tiercel/base/check.h"

// Works on the ranks 1 to count; density(x) = x^-skew, integral(x) is its integral from 1 to x.

namespace tiercel::failover {
namespace {

constexpr double kNearZero = 1e-8;

// log1p(x) / x and expm1(x) / x, which both tend to 1 at 0: skew 1 needs no case of its own.
double log1p_ratio(double x) { return std::abs(x) > kNearZero ? std::log1p(x) / x : 1 - x / 2; }
double expm1_ratio(double x) { return std::abs(x) > kNearZero ? std::expm1(x) / x : 1 + x / 2; }

}  // namespace

Zipf::Zipf(std::uint64_t count, double skew) : count_(count), skew_(skew) {
  TIERCEL_CHECK(count >= 1 && skew >= 0);
  integral_first_ = integral(1.5) - 1;
  integral_last_ = integral(static_cast<double>(count) + 0.5);
  always_accepted_ = 2 - integral_inverse(integral(2.5) - density(2));
}

std::uint64_t Zipf::draw(Random& random) const {
  for (;;) {
    const double u = integral_last_ + random.unit() * (integral_first_ - integral_last_);
    const double x = integral_inverse(u);
    const double rank = std::clamp(std::floor(x + 0.5), 1.0, static_cast<double>(count_));
    if (rank - x <= always_accepted_ || u >= integral(rank + 0.5) - density(rank)) {
      return static_cast<std::uint64_t>(rank) - 1;
    }
  }
}

double Zipf::density(double x) const { return std::exp(-skew_ * std::log(x)); }

double Zipf::integral(double x) const {
  const double log_x = std::log(x);
  return expm1_ratio((1 - skew_) * log_x) * log_x;
}

double Zipf::integral_inverse(double y) const {
  // Below -1 only by rounding.
  const double t = std::max(-1.0, y * (1 - skew_));
  return std::exp(log1p_ratio(t) * y);
}

}  // namespace tiercel::failover
