#pragma once

// LeaseCell: until when L1 may answer, written by the protocol and read at every hit.
//
// A reader that takes a value from L1 must
//   1. load until() and L1's generation,   2. take the value, of that same generation,
//   3. read the clock,                     4. serve only if the clock is before what it loaded
//   in 1.
// In this order a pause of any length between two steps can only make it refuse: the lease of step
// 1 vouches for all that L1 held from then on, and the clock of step 3 is read when the value is
// already in hand.
//
// The lease vouches: everything acknowledged before until() - Δ has been applied to L1.
//
// proven_at() is the same without a lease: everything acknowledged before it has been applied to
// what L1 holds, if in the same order it was loaded before the value. It stays when the lease is
// revoked, so that who accepts older answers can have them: at_most(age), serve_stale.

#include <atomic>

#include "tiercel/base/clock.h"

namespace tiercel::coherence {

class LeaseCell {
 public:
  // Any thread; one atomic load.
  [[nodiscard]] TimePoint until() const noexcept {
    return TimePoint{Duration{until_.load(std::memory_order_acquire)}};
  }

  // One writer at a time. Entries of an ended epoch are dropped after revoke() and before the next
  // grant().
  void grant(TimePoint until) noexcept {
    until_.store(until.time_since_epoch().count(), std::memory_order_release);
  }
  void revoke() noexcept { grant(TimePoint{}); }

  [[nodiscard]] TimePoint proven_at() const noexcept {
    return TimePoint{Duration{proven_at_.load(std::memory_order_acquire)}};
  }
  void prove(TimePoint at) noexcept {
    proven_at_.store(at.time_since_epoch().count(), std::memory_order_release);
  }

 private:
  std::atomic<Duration::rep> until_{0};
  std::atomic<Duration::rep> proven_at_{0};
};

}  // namespace tiercel::coherence
