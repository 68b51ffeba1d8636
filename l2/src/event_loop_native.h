#pragma once

// What EventLoop is made of, for those sources of l2 that own libuv handles.

#include <pthread.h>
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
  // The loop has seen an empty inbox, under the mutex, and will not look again without a wake-up.
  // Whoever fills the inbox clears it and wakes the loop, so that a burst of posts costs one system
  // call. The loop clears it when a socket has woken it: it comes to the inbox before it sleeps.
  std::atomic<bool> sleeping{false};

  std::atomic<bool> stopping{false};
  // Threads that are about to wake the loop, or do. They are counted under the mutex, before
  // `stopping` is set: a loop that sees it waits for them with closing `wake`, for libuv aborts,
  // without a word, where a closed loop is sent to.
  std::atomic<int> wakers{0};
  std::thread thread TIERCEL_GUARDED_BY(mutex);

  const std::uint64_t made_in_fork;  // See fork_count().

  // Loop thread only, from here on.
  uv_loop_t own_loop{};  // Unless the user brings one.
  uv_loop_t* loop = &own_loop;
  uv_async_t wake{};
  uv_prepare_t before_sleep{};
  uv_timer_t timer{};
  pthread_t users_thread{};  // That runs the user's loop.
  int handles_closing = 0;   // On the user's loop: the last one closed deletes this.
  std::map<std::pair<TimePoint, TimerId>, Task> timers;
  std::unordered_map<TimerId, TimePoint> timer_due;
  TimerId timer_last = 0;

  Native();
  [[nodiscard]] bool is_users() const noexcept { return loop != &own_loop; }
  [[nodiscard]] int init_handles();
  Result<void> start() TIERCEL_REQUIRES(mutex);
  void detach();  // From the user's loop; ends in the deletion of this.
  void run();
  void run_inbox();
  void run_timers();
  void arm_timer();
  void wake_up() noexcept {  // By who has been counted.
    uv_async_send(&wake);
    wakers.fetch_sub(1, std::memory_order_release);  // The last touch.
  }
  void await_wakers() const noexcept {
    while (wakers.load(std::memory_order_acquire) != 0) std::this_thread::yield();
  }
  void is_awake() noexcept {
    if (sleeping.load(std::memory_order_relaxed)) sleeping.store(false, std::memory_order_relaxed);
  }
};

inline uv_loop_t* uv_loop_of(EventLoop& loop) noexcept { return loop.native().loop; }

}  // namespace tiercel::l2
