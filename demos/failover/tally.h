#pragma once

// Tally: what all instances have counted so far, added up.

#include <cstdint>

#include "failover/board.h"
#include "fleet/histogram.h"

namespace tiercel::failover {

struct Tally {
  std::uint64_t reads_l1 = 0;
  std::uint64_t reads_l2 = 0;
  std::uint64_t reads_absent = 0;
  std::uint64_t reads_failed = 0;
  std::uint64_t values_wrong = 0;
  std::uint64_t writes_acked = 0;
  std::uint64_t writes_unknown = 0;
  std::uint64_t writes_failed = 0;
  Histogram::Counts read_latency{};

  [[nodiscard]] std::uint64_t reads() const noexcept {
    return reads_l1 + reads_l2 + reads_absent + reads_failed;
  }
  [[nodiscard]] double l1_hit_ratio() const noexcept {
    return reads() == 0 ? 0.0 : static_cast<double>(reads_l1) / static_cast<double>(reads());
  }
};

// Each number exact, together not atomic.
Tally take_tally(const Board& board);
Tally operator-(const Tally& later, const Tally& earlier);

}  // namespace tiercel::failover
