#pragma once

// Command and Script: what is sent to Redis, formatted once, on the submitting thread.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace tiercel::l2 {

// What may be done with a command whose connection was lost after it was sent.
enum class Retry : std::uint8_t {
  kSafe,       // Running it twice does no harm (reads): it is sent again until its deadline.
  kIfNotSent,  // It may have been executed: its caller is told kDeadlineExceeded, outcome unknown.
};

class Command {
 public:
  // At least one word (an empty request is a bug, and aborts).
  Command(Retry retry, std::initializer_list<std::string_view> words);
  Command(Retry retry, std::span<const std::string_view> words);

  [[nodiscard]] const std::string& wire() const noexcept { return wire_; }  // RESP bytes.
  [[nodiscard]] std::string take_wire() && noexcept { return std::move(wire_); }
  [[nodiscard]] Retry retry() const noexcept { return retry_; }

 private:
  std::string wire_;
  Retry retry_;
};

// A Lua script, sent as EVALSHA; where the server does not know it (NOSCRIPT) it is sent again
// whole, as EVAL, which is safe: nothing ran. Make it a constant that outlives every client.
class Script {
 public:
  explicit Script(std::string_view source);  // `source` is not copied: a string literal.

  [[nodiscard]] std::string_view source() const noexcept { return source_; }
  // 40 lower-case hex digits.
  [[nodiscard]] std::string_view sha1() const noexcept { return sha1_; }

 private:
  std::string_view source_;
  std::string sha1_;
};

}  // namespace tiercel::l2
