#pragma once

// Events: what happened, from the thread that does things to the servers to the one that prints.
// Any thread.

#include <string>
#include <utility>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::failover {

struct Event {
  TimePoint at;
  std::string text;
};

class Events {
 public:
  void add(TimePoint at, std::string text) {
    MutexLock lock{mutex_};
    events_.push_back({at, std::move(text)});
  }
  void add(std::string text) { add(Clock::system().now(), std::move(text)); }

  std::vector<Event> take() {
    MutexLock lock{mutex_};
    return std::exchange(events_, {});
  }

 private:
  Mutex mutex_;
  std::vector<Event> events_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::failover
