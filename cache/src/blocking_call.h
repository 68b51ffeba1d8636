#pragma once

#include <optional>
#include <utility>

#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"

namespace tiercel {

// Starts an asynchronous call and waits for its callback, which the core runs exactly once.
template <typename R, typename Start>
R wait_for(Start&& start) {
  Mutex mutex;
  CondVar arrived;
  std::optional<R> result;
  start([&](R answer) {
    MutexLock lock{mutex};
    result.emplace(std::move(answer));
    arrived.notify_one();  // Under the lock: `arrived` is gone once the waiter sees the result.
  });
  MutexLock lock{mutex};
  while (!result) arrived.wait(mutex);
  return std::move(*result);
}

inline Error on_loop_error() {
  return invalid_argument(
      "a blocking call on the cache's loop thread would never return; use the callback or the "
      "awaitable form");
}

}  // namespace tiercel
