#pragma once

// Gate: where other threads wait until the test lets them on. Any thread. A copy is the same gate:
// who may still be on the way to it when the test ends keeps a copy of his own.

#include <chrono>
#include <memory>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::testing {

class Gate {
 public:
  // Lets everyone on, from now on.
  void open() const {
    MutexLock lock{state_->mutex};
    state_->open = true;
    state_->changed.notify_all();
  }

  // Arrives, then waits until the gate is open.
  void pass() const {
    const std::shared_ptr<State> state = state_;  // Whoever opens it may destroy it at once.
    MutexLock lock{state->mutex};
    ++state->arrived;
    state->changed.notify_all();
    while (!state->open) state->changed.wait(state->mutex);
  }

  // False after 60 s: it will not happen any more.
  [[nodiscard]] bool wait_until_arrived(int count) const {
    using namespace std::chrono_literals;
    const TimePoint limit = Clock::system().now() + 60s;
    MutexLock lock{state_->mutex};
    while (state_->arrived < count) {
      if (Clock::system().now() >= limit) return false;
      state_->changed.wait_for(state_->mutex, 1s);
    }
    return true;
  }

  [[nodiscard]] int arrived() const {
    MutexLock lock{state_->mutex};
    return state_->arrived;
  }

 private:
  struct State {
    Mutex mutex;
    CondVar changed;
    bool open TIERCEL_GUARDED_BY(mutex) = false;
    int arrived TIERCEL_GUARDED_BY(mutex) = 0;
  };

  std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace tiercel::testing
