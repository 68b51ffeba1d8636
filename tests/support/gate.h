#pragma once

// Gate: where other threads wait until the test lets them on. Any thread.

#include <chrono>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::testing {

class Gate {
 public:
  // Lets everyone on, from now on.
  void open() {
    MutexLock lock{mutex_};
    open_ = true;
    changed_.notify_all();
  }

  // Arrives, then waits until the gate is open.
  void pass() {
    MutexLock lock{mutex_};
    ++arrived_;
    changed_.notify_all();
    while (!open_) changed_.wait(mutex_);
  }

  // False after 60 s: it will not happen any more.
  [[nodiscard]] bool wait_until_arrived(int count) {
    using namespace std::chrono_literals;
    const TimePoint limit = Clock::system().now() + 60s;
    MutexLock lock{mutex_};
    while (arrived_ < count) {
      if (Clock::system().now() >= limit) return false;
      changed_.wait_for(mutex_, 1s);
    }
    return true;
  }

  [[nodiscard]] int arrived() {
    MutexLock lock{mutex_};
    return arrived_;
  }

 private:
  Mutex mutex_;
  CondVar changed_;
  bool open_ TIERCEL_GUARDED_BY(mutex_) = false;
  int arrived_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel::testing
