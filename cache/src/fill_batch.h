#pragma once

// FillBatch: the misses of one get_many, for a batch loader. Each flight that it begins comes to
// its load, or turns out not to need one, or to have to wait for another's; when all of them have,
// those that came are loaded by one call. Any thread.

#include <cstddef>
#include <memory>
#include <utility>
#include <vector>

#include "flights.h"
#include "tiercel/base/mutex.h"

namespace tiercel {

class FillBatch {
 public:
  using FlightPtr = std::shared_ptr<Flight>;

  // One more will come, or leave. Not after the last has.
  void expect() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    ++expected_;
  }
  // Each returns those that are to be loaded now: all that came, if this was the last; else none.
  [[nodiscard]] std::vector<FlightPtr> arrive(FlightPtr flight) TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    ready_.push_back(std::move(flight));
    return one_less();
  }
  [[nodiscard]] std::vector<FlightPtr> leave() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    return one_less();
  }

 private:
  std::vector<FlightPtr> one_less() TIERCEL_REQUIRES(mutex_) {
    return --expected_ == 0 ? std::exchange(ready_, {}) : std::vector<FlightPtr>{};
  }

  Mutex mutex_;
  std::size_t expected_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<FlightPtr> ready_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
