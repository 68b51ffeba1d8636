#pragma once

// Assertions that stay on in release builds. They mean a bug of ours, never bad input: bad input
// gets an Error. A failed check prints the expression and the place, and aborts.

namespace tiercel::detail {
[[noreturn]] void check_failed(const char* expression, const char* file, int line) noexcept;
}  // namespace tiercel::detail

#define TIERCEL_CHECK(expression) \
  (static_cast<bool>(expression)  \
       ? static_cast<void>(0)     \
       : ::tiercel::detail::check_failed(#expression, __FILE__, __LINE__))
