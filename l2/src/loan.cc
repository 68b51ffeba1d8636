#include "loan.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <span>
#include <utility>

namespace tiercel::l2 {
namespace {

struct Received {
  std::size_t bytes = 0;  // 0 and no failure: there is nothing to read.
  int failure = 0;
};

Received receive(const LentSocket& lent) noexcept {
  const std::span<char> room = lent.parser->room();
  while (true) {
    const ssize_t got = ::recv(lent.fd, room.data(), room.size(), MSG_DONTWAIT);
    if (got > 0) {
      lent.parser->filled(static_cast<std::size_t>(got));
      return {static_cast<std::size_t>(got), 0};
    }
    if (got == 0) return {0, UV_EOF};
    if (errno == EAGAIN || errno == EWOULDBLOCK) return {};
    if (errno != EINTR) return {0, -errno};
  }
}

// True when the socket can be read; false when the time is up or the loop wants it back.
bool await_input(const LentSocket& lent, Duration patience) noexcept {
  std::array<pollfd, 2> waits{pollfd{lent.fd, POLLIN, 0}, pollfd{lent.kick_fd, POLLIN, 0}};
  const auto seconds = std::chrono::floor<std::chrono::seconds>(patience);
  const timespec limit{static_cast<time_t>(seconds.count()),
                       static_cast<long>((patience - seconds).count())};
  // A signal ends the wait early, and the command goes on as any other.
  return ::ppoll(waits.data(), waits.size(), &limit, nullptr) > 0 && waits[0].revents != 0;
}

}  // namespace

std::optional<HandBack> exchange(const LentSocket& lent, std::string_view command, TimePoint now,
                                 Duration patience) {
  // What is there already is no answer to this command; and a server that has closed the connection
  // must not cost a write its certain outcome.
  if (!lent.is_fresh) {
    const Received before = receive(lent);
    if (before.bytes > 0 || before.failure != 0) return HandBack{.failure = before.failure};
  }

  const ssize_t sent = ::send(lent.fd, command.data(), command.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  if (sent < 0) {
    const bool is_full = errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    return HandBack{.failure = is_full ? 0 : -errno};
  }
  HandBack how{.written = static_cast<std::size_t>(sent)};
  if (how.written < command.size()) return how;

  const TimePoint until = now + patience;
  while (await_input(lent, patience)) {
    how.failure = receive(lent).failure;
    if (how.failure != 0) return how;
    switch (lent.parser->parse()) {
      case RespParser::Outcome::kMore:
        patience = std::max(Duration{0}, until - Clock::system().now());
        break;
      case RespParser::Outcome::kError: return how;  // It says so to the loop, too.
      case RespParser::Outcome::kReply:
        // An error may mean that nothing ran, or that this is no master: the loop knows.
        how.has_reply = lent.parser->view().is_error();
        return how.has_reply ? std::optional{how} : std::nullopt;
    }
  }
  return how;
}

Kick::~Kick() {
  if (fd_ >= 0) ::close(fd_);
}

bool Kick::open() noexcept {
  if (fd_ < 0) fd_ = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  return fd_ >= 0;
}

void Kick::give() noexcept {
  if (std::exchange(is_given_, true)) return;
  const std::uint64_t one = 1;
  static_cast<void>(!::write(fd_, &one, sizeof one));  // Cannot fail: the count is 0.
}

void Kick::take_back() noexcept {
  if (!std::exchange(is_given_, false)) return;
  std::uint64_t count = 0;
  static_cast<void>(!::read(fd_, &count, sizeof count));
}

}  // namespace tiercel::l2
