#include "support/unique_fd.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <system_error>

namespace tiercel::testing {

void UniqueFd::reset(int fd) noexcept {
  if (fd_ >= 0) ::close(fd_);  // EINTR included: on Linux the descriptor is gone all the same.
  fd_ = fd;
}

bool wait_ready(int fd, short events, TimePoint deadline) {
  for (;;) {
    const Duration left = std::max(Duration::zero(), deadline - Clock::system().now());
    const timespec timeout{.tv_sec = left.count() / 1'000'000'000,
                           .tv_nsec = left.count() % 1'000'000'000};
    pollfd entry{.fd = fd, .events = events, .revents = 0};
    const int ready = ::ppoll(&entry, 1, &timeout, nullptr);
    if (ready > 0) return true;
    if (ready < 0 && errno != EINTR) return true;  // The next read or write tells what is wrong.
    if (ready == 0) return false;
  }
}

std::string errno_message(const char* what) {
  return std::string{what} + ": " + std::system_category().message(errno);
}

void fail(const std::string& message) {
  std::fprintf(stderr, "tiercel test support: %s\n", message.c_str());
  std::fflush(stderr);
  std::abort();
}

}  // namespace tiercel::testing
