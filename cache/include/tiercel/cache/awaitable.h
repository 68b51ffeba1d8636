#pragma once

// Awaitable<T>: one asynchronous call of the cache as something to co_await, once.
//
//   Task handler(Cache& cache) { auto value = co_await cache.co_get("player:7"); … }
//
// The call starts when it is awaited. Where it can be answered at once (an L1 hit), the coroutine
// is not suspended at all. Otherwise it is resumed on the thread that answers: the loop thread or
// an executor's, so it must not block there. An Awaitable that is never awaited does nothing. The
// coroutine must not be destroyed while it is suspended in one.

#include <atomic>
#include <coroutine>
#include <optional>
#include <utility>

#include "tiercel/base/unique_function.h"

namespace tiercel {

template <typename T>
class [[nodiscard]] Awaitable {
 public:
  using Callback = UniqueFunction<void(T)>;

  explicit Awaitable(UniqueFunction<void(Callback)> start) : start_(std::move(start)) {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }

  bool await_suspend(std::coroutine_handle<> waiter) {
    waiter_ = waiter;
    // The answer can come on another thread before start_ has returned, and may resume and destroy
    // this object; so start_ is moved out first, and whoever comes second at the exchange goes on
    // with the coroutine.
    auto start = std::move(start_);
    start([this](T result) {
      result_.emplace(std::move(result));
      if (first_.exchange(true, std::memory_order_acq_rel)) waiter_.resume();
    });
    return !first_.exchange(true, std::memory_order_acq_rel);
  }

  T await_resume() { return std::move(*result_); }

 private:
  UniqueFunction<void(Callback)> start_;
  std::coroutine_handle<> waiter_;
  std::optional<T> result_;
  std::atomic<bool> first_{false};
};

}  // namespace tiercel
