#pragma once

// What EventLoop is made of, for those sources of l2 that own libuv handles.

#include <uv.h>

#include <atomic>
#include <map>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel::l2 {

struct EventLoop::Native {
  using Task = UniqueFunction<void()>;

  Mutex mutex;
  std::vector<Task> inbox TIERCEL_GUARDED_BY(mutex);
  bool started TIERCEL_GUARDED_BY(mutex) = false;
  // The loop has seen an empty inbox and will not look again without a wake-up. Whoever fills the
  // inbox clears it and wakes the loop, so that a burst of posts costs one system call.
  bool sleeping TIERCEL_GUARDED_BY(mutex) = false;

  std::atomic<bool> stopping{false};
  std::thread thread TIERCEL_GUARDED_BY(mutex);

  // Loop thread only, from here on.
  uv_loop_t loop{};
  uv_async_t wake{};
  uv_prepare_t before_sleep{};
  uv_timer_t timer{};
  std::map<std::pair<TimePoint, TimerId>, Task> timers;
  std::unordered_map<TimerId, TimePoint> timer_due;
  TimerId timer_last = 0;

  Result<void> start() TIERCEL_REQUIRES(mutex);
  void run();
  void run_inbox();
  void run_timers();
  void arm_timer();
};

inline uv_loop_t* uv_loop_of(EventLoop& loop) noexcept { return &loop.native().loop; }

}  // namespace tiercel::l2
