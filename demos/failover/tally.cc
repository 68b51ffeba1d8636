#include "failover/tally.h"

#include <array>

namespace tiercel::failover {
namespace {

struct Counter {
  std::uint64_t Tally::*sum;
  std::atomic<std::uint64_t> InstanceBoard::*part;
};

constexpr std::array<Counter, 8> kCounters{{
    {&Tally::reads_l1, &InstanceBoard::reads_l1},
    {&Tally::reads_l2, &InstanceBoard::reads_l2},
    {&Tally::reads_absent, &InstanceBoard::reads_absent},
    {&Tally::reads_failed, &InstanceBoard::reads_failed},
    {&Tally::values_wrong, &InstanceBoard::values_wrong},
    {&Tally::writes_acked, &InstanceBoard::writes_acked},
    {&Tally::writes_unknown, &InstanceBoard::writes_unknown},
    {&Tally::writes_failed, &InstanceBoard::writes_failed},
}};

}  // namespace

Tally take_tally(const Board& board) {
  Tally tally;
  for (std::uint32_t i = 0; i < board.config().instances; ++i) {
    const InstanceBoard& instance = board.state().instances[i];
    for (const Counter& counter : kCounters) {
      tally.*counter.sum += (instance.*counter.part).load(std::memory_order_relaxed);
    }
    instance.read_latency.add_to(tally.read_latency);
  }
  return tally;
}

Tally operator-(const Tally& later, const Tally& earlier) {
  Tally difference;
  for (const Counter& counter : kCounters) {
    difference.*counter.sum = later.*counter.sum - earlier.*counter.sum;
  }
  for (std::size_t i = 0; i < Histogram::kBuckets; ++i) {
    difference.read_latency[i] = later.read_latency[i] - earlier.read_latency[i];
  }
  return difference;
}

}  // namespace tiercel::failover
