#pragma once

// OneShotEvent: one thread waits, another wakes it, once. It stands on the waiter's stack, and
// there is no lock and nothing shared among waiters, so that of 512 who wait only the one is woken
// whose answer has come.
//
// The waiter may return, and its stack be used for something else, as soon as `state_` says kSet;
// after that the waker uses only the address. The futex call then finds nobody, or wakes a waiter
// of some other futex in its place, which looks at its own condition and sleeps on.

#include <atomic>
#include <cstdint>

#if defined(__linux__)
#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace tiercel::l2 {

class OneShotEvent {
 public:
  void wait() noexcept {
    std::uint32_t state = kIdle;
    if (!state_.compare_exchange_strong(state, kAsleep, std::memory_order_acquire)) return;
    while (state_.load(std::memory_order_acquire) != kSet) sleep();
  }
  void set() noexcept {
    void* const address = &state_;
    if (state_.exchange(kSet, std::memory_order_acq_rel) == kAsleep) wake(address);
  }

 private:
  static constexpr std::uint32_t kIdle = 0;
  static constexpr std::uint32_t kAsleep = 1;
  static constexpr std::uint32_t kSet = 2;

#if defined(__linux__)
  void sleep() noexcept {
    syscall(SYS_futex, &state_, FUTEX_WAIT_PRIVATE, kAsleep, nullptr, nullptr, 0);
  }
  static void wake(void* address) noexcept {
    syscall(SYS_futex, address, FUTEX_WAKE_PRIVATE, 1, nullptr, nullptr, 0);
  }
#else
  void sleep() noexcept { state_.wait(kAsleep, std::memory_order_acquire); }
  static void wake(void* address) noexcept {
    static_cast<std::atomic<std::uint32_t>*>(address)->notify_one();
  }
#endif

  std::atomic<std::uint32_t> state_{kIdle};
};

}  // namespace tiercel::l2
