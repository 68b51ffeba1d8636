#pragma once

// Pacer: spreads work evenly over time without spinning: it sleeps for a few milliseconds and then
// says how much is due. What could not be done in time is forgotten and not made up for in a burst,
// so an outage is not followed by a flood. One owner.

#include "tiercel/base/clock.h"

namespace tiercel::fleet {

class Pacer {
 public:
  explicit Pacer(double per_second);

  // Sleeps once, for at most kSleepMax, and returns what is due since: 0 or more.
  int wait();

 private:
  static constexpr Duration kSleepMin = std::chrono::milliseconds{4};
  static constexpr Duration kSleepMax = std::chrono::milliseconds{50};
  static constexpr Duration kArrears = std::chrono::milliseconds{50};

  const double per_second_;
  TimePoint last_;
  double due_ = 0;
};

}  // namespace tiercel::fleet
