#pragma once

// How long after a write was acknowledged does the last instance's L1 let go of the old value? In
// health: nobody else reads or writes. One thread writes, and then asks all L1s in turn (try_get)
// until none of them has the old value any more; so what is measured includes the turn of asking,
// some hundred nanoseconds.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "coherence_near_cache.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct InvalidateSettings {
  Writing writing = Writing::kThroughUs;
  std::size_t instances = 8;
  std::uint32_t writes = 3000;
  std::uint32_t keys = 500;  // All of them are brought into every L1 before each is written once.
  Duration pause = std::chrono::milliseconds{1};  // Between writes, so that all threads are idle.
};

struct InvalidateResult {
  std::vector<Duration> times;  // Of each write. Zero: all had let go before the writer knew.
  // Times that an L1 did not answer for want of a lease: such a one has the old value, and must not
  // be counted as having let go.
  std::uint64_t lease_refusals = 0;
};

// With a server of its own. Errors: what could not be opened or written; kInternal when an
// L1 does not let go.
Result<InvalidateResult> run_invalidate(const InvalidateSettings& settings);

}  // namespace tiercel::bench
