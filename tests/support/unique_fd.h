#pragma once

// UniqueFd: one open file descriptor, closed by its owner. And the few descriptor helpers that this
// folder shares.

#include <sys/types.h>

#include <string>
#include <utility>

#include "tiercel/base/clock.h"

namespace tiercel::testing {

class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd() { reset(); }

  [[nodiscard]] int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  void reset(int fd = -1) noexcept;

 private:
  int fd_ = -1;
};

// Waits for poll(2) `events` on one descriptor. False when `deadline` (on Clock::system()) passed.
// An error or a hang-up counts as ready: the next read or write tells.
[[nodiscard]] bool wait_ready(int fd, short events, TimePoint deadline);

// strerror for the present errno, after a prefix: "connect: Connection refused".
[[nodiscard]] std::string errno_message(const char* what);

// Prints `message` to standard error and aborts: for what a test cannot go on without.
[[noreturn]] void fail(const std::string& message);

}  // namespace tiercel::testing
