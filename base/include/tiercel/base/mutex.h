#pragma once

// Mutex, MutexLock and CondVar: std's, with the annotations by which clang proves at compile time
// that a member marked TIERCEL_GUARDED_BY is touched only under its lock (-Wthread-safety). Under
// other compilers the annotations vanish.
//
// Lock order over the whole library: docs/design/overview.md. No user code and no I/O under a lock.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>

#include "tiercel/base/clock.h"

#if defined(__clang__)
#define TIERCEL_ATTRIBUTE(x) __attribute__((x))
#else
#define TIERCEL_ATTRIBUTE(x)
#endif

#define TIERCEL_CAPABILITY(x) TIERCEL_ATTRIBUTE(capability(x))
#define TIERCEL_SCOPED_CAPABILITY TIERCEL_ATTRIBUTE(scoped_lockable)
#define TIERCEL_GUARDED_BY(x) TIERCEL_ATTRIBUTE(guarded_by(x))
#define TIERCEL_REQUIRES(...) TIERCEL_ATTRIBUTE(requires_capability(__VA_ARGS__))
#define TIERCEL_EXCLUDES(...) TIERCEL_ATTRIBUTE(locks_excluded(__VA_ARGS__))
#define TIERCEL_ACQUIRE(...) TIERCEL_ATTRIBUTE(acquire_capability(__VA_ARGS__))
#define TIERCEL_RELEASE(...) TIERCEL_ATTRIBUTE(release_capability(__VA_ARGS__))
#define TIERCEL_NO_THREAD_SAFETY_ANALYSIS TIERCEL_ATTRIBUTE(no_thread_safety_analysis)

namespace tiercel {

class TIERCEL_CAPABILITY("mutex") Mutex {
 public:
  Mutex() = default;
  Mutex(const Mutex&) = delete;
  Mutex& operator=(const Mutex&) = delete;

  // What is guarded takes well under a microsecond; going to sleep and being woken takes ten. So it
  // tries for about one before it does.
  void lock() TIERCEL_ACQUIRE() {
    for (int i = 0; i < kTries; ++i) {
      if (mutex_.try_lock()) return;
      pause();
    }
    mutex_.lock();
  }
  void unlock() TIERCEL_RELEASE() { mutex_.unlock(); }

 private:
  friend class CondVar;
  static constexpr int kTries = 30;

  static void pause() noexcept {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("isb");
#endif
  }

  std::mutex mutex_;
};

class TIERCEL_SCOPED_CAPABILITY MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) TIERCEL_ACQUIRE(mutex) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() TIERCEL_RELEASE() { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

class CondVar {
 public:
  // Waits once; may wake for no reason, so call it in a loop over the condition.
  void wait(Mutex& mutex) TIERCEL_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock{mutex.mutex_, std::adopt_lock};
    condition_.wait(lock);
    lock.release();
  }

  // As wait, but for at most `duration` of real time. False when the time was up.
  bool wait_for(Mutex& mutex, Duration duration) TIERCEL_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock{mutex.mutex_, std::adopt_lock};
    // The deadline that std makes of the longest durations overflows and lies in the past.
    const auto status = condition_.wait_for(lock, std::min(duration, kWaitMax));
    lock.release();
    return status == std::cv_status::no_timeout || duration > kWaitMax;
  }

  void notify_one() noexcept { condition_.notify_one(); }
  void notify_all() noexcept { condition_.notify_all(); }

 private:
  static constexpr Duration kWaitMax = std::chrono::hours{1};

  std::condition_variable condition_;
};

}  // namespace tiercel
