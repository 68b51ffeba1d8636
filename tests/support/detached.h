#pragma once

#include <coroutine>
#include <exception>

namespace tiercel::testing {

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

}  // namespace tiercel::testing
