#pragma once

// Zipf: draws ranks 0 to count - 1, rank r with a probability in proportion to 1 / (r + 1)^skew.
//
// Rejection-inversion (Hörmann & Derflinger, "Rejection-inversion to generate variates from
// monotone discrete distributions", ACM TOMACS 6, 1996): constant memory and time for any count and
// skew, so that a table of ten million keys costs nothing. Immutable; any thread.

#include <cstdint>

#include "tiercel/base/random.h"

namespace tiercel::failover {

class Zipf {
 public:
  // count at least 1; skew 0 (uniform) or more.
  Zipf(std::uint64_t count, double skew);

  [[nodiscard]] std::uint64_t draw(Random& random) const;

 private:
  [[nodiscard]] double density(double x) const;
  [[nodiscard]] double integral(double x) const;
  [[nodiscard]] double integral_inverse(double y) const;

  std::uint64_t count_;
  double skew_;
  double integral_first_;
  double integral_last_;
  double always_accepted_;
};

}  // namespace tiercel::failover
