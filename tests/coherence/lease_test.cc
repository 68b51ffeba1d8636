#include "tiercel/coherence/lease.h"

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <latch>
#include <thread>

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

TEST(LeaseCell, HoldsNothingUntilGrantedAndAfterBeingRevoked) {
  LeaseCell cell;
  EXPECT_EQ(cell.until(), TimePoint{});
  EXPECT_LT(cell.until(), ManualClock{}.now());
  cell.grant(TimePoint{5s} + 1ns);
  EXPECT_EQ(cell.until(), TimePoint{5s} + 1ns);
  cell.grant(TimePoint{4s});
  EXPECT_EQ(cell.until(), TimePoint{4s}) << "it may be lowered";
  cell.grant(TimePoint::max());
  EXPECT_EQ(cell.until(), TimePoint::max());
  cell.revoke();
  EXPECT_EQ(cell.until(), TimePoint{});
}

// "The lease vouches: everything acknowledged before until() - Δ has been applied to L1", for a
// reader on another thread, and "entries of an ended epoch are dropped after revoke() and before
// the next grant()".
TEST(LeaseCell, AReaderThatSeesAGrantSeesWhatWasAppliedBeforeIt) {
  LeaseCell cell;
  std::atomic<std::int64_t> applied{0};  // Relaxed: only the cell orders it.
  std::atomic<bool> done{false};
  std::atomic<int> unvouched{0};
  std::latch both_run{2};
  std::thread reader{[&] {
    both_run.arrive_and_wait();
    while (!done.load()) {
      const auto until = cell.until().time_since_epoch().count();
      if (applied.load(std::memory_order_relaxed) < until) unvouched.fetch_add(1);
    }
  }};
  both_run.arrive_and_wait();
  for (std::int64_t i = 1; i <= 50000; ++i) {
    applied.store(i, std::memory_order_relaxed);
    if (i % 10 == 0) {
      cell.revoke();
    } else {
      cell.grant(TimePoint{Duration{i}});
    }
  }
  done.store(true);
  reader.join();
  EXPECT_EQ(unvouched.load(), 0);
}

}  // namespace
}  // namespace tiercel::coherence
