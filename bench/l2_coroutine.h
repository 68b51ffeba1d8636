#pragma once

// The least that a coroutine needs to await a GET, made of submit(): for as long as the client has
// no awaitable of its own.

#include <coroutine>
#include <exception>
#include <optional>
#include <utility>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/l2/client.h"

namespace tiercel::bench {

// A coroutine that nobody waits for: it runs until its first co_await at once, then on the thread
// that resumes it, and frees itself at its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

// `co_await Answer{client, command, deadline}` gives a Result<Reply>, on the client's loop thread.
class Answer {
 public:
  Answer(l2::Client& client, l2::Command command, TimePoint deadline)
      : client_(client), command_(std::move(command)), deadline_(deadline) {}

  [[nodiscard]] bool await_ready() const noexcept { return false; }
  void await_suspend(std::coroutine_handle<> waiter) {
    client_.submit(std::move(command_), deadline_, [this, waiter](Result<l2::Reply> result) {
      result_ = std::move(result);
      waiter.resume();
    });
  }
  [[nodiscard]] Result<l2::Reply> await_resume() { return std::move(*result_); }

 private:
  l2::Client& client_;
  l2::Command command_;
  TimePoint deadline_;
  std::optional<Result<l2::Reply>> result_;
};

}  // namespace tiercel::bench
