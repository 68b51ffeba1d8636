#pragma once

// poll_until: waits for something that another thread, process or server will make true. Tests use
// it in place of sleeping, with a limit that is generous: it costs nothing when all goes well.

#include <chrono>
#include <thread>

#include "tiercel/base/clock.h"

namespace tiercel::testing {

// Calls `predicate` every `step` until it is true; false when `limit` is over and it is still
// false. It is called at least once, and once more after the limit, so that a test whose thread did
// not get to run for the whole of it still sees the truth.
template <typename Predicate>
[[nodiscard]] bool poll_until(Predicate&& predicate, Duration limit = std::chrono::seconds{30},
                              Duration step = std::chrono::milliseconds{5}) {
  const TimePoint deadline = Clock::system().now() + limit;
  while (!predicate()) {
    if (Clock::system().now() >= deadline) return static_cast<bool>(predicate());
    std::this_thread::sleep_for(step);
  }
  return true;
}

}  // namespace tiercel::testing
