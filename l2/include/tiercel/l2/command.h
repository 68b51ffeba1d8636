#pragma once

// Command and Script: what is sent to Redis, formatted once, on the submitting thread.

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
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

struct WriteChunk;

// Owns its bytes: a small one holds them itself, a larger one in an allocation that is handed on to
// the socket as it is.
class Command {
 public:
  // At least one word (an empty request is a bug, and aborts).
  Command(Retry retry, std::initializer_list<std::string_view> words);
  Command(Retry retry, std::span<const std::string_view> words);
  // Command{Retry::kSafe, "GET", key}. Within a co_await use this form: g++ 12 cannot compile a
  // braced list of words there.
  template <std::convertible_to<std::string_view>... Words>
  requires(sizeof...(Words) > 0) explicit Command(Retry retry, const Words&... words)
      : Command(retry, {std::string_view(words)...}) {}

  Command(const Command& other);
  Command(Command&& other) noexcept : size_(other.size_), retry_(other.retry_) { take(other); }
  Command& operator=(Command other) noexcept {
    std::swap(chunk_, other.chunk_);
    size_ = other.size_;
    retry_ = other.retry_;
    if (chunk_ == nullptr) std::memcpy(inline_, other.inline_, size_);
    return *this;
  }
  ~Command();

  [[nodiscard]] std::string_view wire() const noexcept;  // RESP bytes, valid while it lives.
  [[nodiscard]] Retry retry() const noexcept { return retry_; }

 private:
  friend class Client;
  static constexpr std::size_t kInlineBytes = 104;

  char* allocate();
  void take(Command& other) noexcept {
    chunk_ = std::exchange(other.chunk_, nullptr);
    if (chunk_ == nullptr) return static_cast<void>(std::memcpy(inline_, other.inline_, size_));
    other.size_ = 0;
  }

  std::size_t size_;
  WriteChunk* chunk_ = nullptr;  // Of a larger one.
  Retry retry_;
  char inline_[kInlineBytes];
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
