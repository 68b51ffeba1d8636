#include "support/child_process.h"

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>

namespace tiercel::testing {

namespace {

struct Pipe {
  UniqueFd read_end;
  UniqueFd write_end;
};

Pipe make_pipe() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) fail(errno_message("pipe2"));
  return Pipe{UniqueFd{ends[0]}, UniqueFd{ends[1]}};
}

// write(2) to a pipe whose reader has gone raises SIGPIPE, and pipes know no MSG_NOSIGNAL. Blocks
// the signal on this thread for the scope and takes away the one that the write has raised.
class SigpipeBlocked {
 public:
  SigpipeBlocked() {
    sigemptyset(&sigpipe_);
    sigaddset(&sigpipe_, SIGPIPE);
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    ::pthread_sigmask(SIG_BLOCK, &sigpipe_, &before_);
  }
  ~SigpipeBlocked() {
    const int error = errno;
    const timespec now{};
    if (!was_pending_) {
      while (::sigtimedwait(&sigpipe_, nullptr, &now) < 0 && errno == EINTR) {
      }
    }
    ::pthread_sigmask(SIG_SETMASK, &before_, nullptr);
    errno = error;
  }
  SigpipeBlocked(const SigpipeBlocked&) = delete;
  SigpipeBlocked& operator=(const SigpipeBlocked&) = delete;

 private:
  sigset_t sigpipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

ssize_t write_quietly(int fd, std::string_view bytes) {
  const SigpipeBlocked blocked;
  return ::write(fd, bytes.data(), bytes.size());
}

}  // namespace

std::unique_ptr<ChildProcess> ChildProcess::start(const ChildProcessOptions& options) {
  Pipe input = make_pipe();
  Pipe output = make_pipe();
  // Our end only: the two ends of a pipe are separate open files.
  ::fcntl(input.write_end.get(), F_SETFL, O_NONBLOCK);
  GuardedProcessOptions guarded;
  guarded.command.push_back(options.executable);
  guarded.command.insert(guarded.command.end(), options.arguments.begin(), options.arguments.end());
  guarded.stdin_fd = input.read_end.get();
  guarded.stdout_fd = output.write_end.get();
  auto process = GuardedProcess::start(guarded);
  if (!process) fail(process.error().to_string());
  std::unique_ptr<ChildProcess> child{new ChildProcess};
  child->stdin_ = std::move(input.write_end);
  child->stdout_ = std::move(output.read_end);
  child->process_ = std::move(process).value();
  return child;
}

ChildProcess::~ChildProcess() = default;

int ChildProcess::pid() const noexcept { return process_->pid(); }

Result<void> ChildProcess::write_line(std::string_view line, Duration limit) {
  if (!stdin_) return unavailable("the child's standard input was closed");
  const TimePoint deadline = Clock::system().now() + limit;
  std::string bytes{line};
  bytes += '\n';
  std::string_view rest{bytes};
  while (!rest.empty()) {
    const ssize_t written = write_quietly(stdin_.get(), rest);
    if (written >= 0) {
      rest.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno == EAGAIN) {
      if (!wait_ready(stdin_.get(), POLLOUT, deadline)) {
        return outcome_unknown("the child does not read its standard input");
      }
    } else if (errno != EINTR) {
      return unavailable(errno_message("write to the child"));
    }
  }
  return {};
}

void ChildProcess::close_stdin() { stdin_.reset(); }

Result<std::optional<std::string>> ChildProcess::read_line(Duration limit) {
  const TimePoint deadline = Clock::system().now() + limit;
  std::size_t searched = 0;
  for (;;) {
    if (const auto end = unread_.find('\n', searched); end != std::string::npos) {
      std::string line = unread_.substr(0, end);
      unread_.erase(0, end + 1);
      return std::optional{std::move(line)};
    }
    searched = unread_.size();
    if (searched > kLineBytesMax) return protocol_error("the child printed an endless line");
    if (!wait_ready(stdout_.get(), POLLIN, deadline)) {
      return outcome_unknown("the child printed no line in time");
    }
    std::array<char, 65536> buffer;
    const ssize_t count = ::read(stdout_.get(), buffer.data(), buffer.size());
    if (count > 0) {
      unread_.append(buffer.data(), static_cast<std::size_t>(count));
    } else if (count == 0) {
      if (unread_.empty()) return std::optional<std::string>{};
      return std::optional{std::exchange(unread_, {})};
    } else if (errno != EINTR) {
      return unavailable(errno_message("read from the child"));
    }
  }
}

void ChildProcess::kill(int signal) { process_->signal(signal); }

std::optional<ExitStatus> ChildProcess::wait(Duration limit) { return process_->wait(limit); }

}  // namespace tiercel::testing
