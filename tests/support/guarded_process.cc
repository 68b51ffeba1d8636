// Invariants
// - Every descriptor made here is close-on-exec; only the three that posix_spawn's file actions
// name
//   reach the guardian.
// - The guardian is our child and is reaped by its pid in the destructor, nowhere else.
// - Once exit_status_ is set, pid_ means nobody any more.

#include "support/guarded_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <system_error>

namespace tiercel::testing {

namespace {

constexpr Duration kGuardianLimit = std::chrono::seconds{30};

// A copy above the numbers that the file actions write to, so that they cannot overwrite a source.
UniqueFd copy_above(int fd) {
  constexpr int kFirst = 10;
  return UniqueFd{::fcntl(fd, F_DUPFD_CLOEXEC, kFirst)};
}

// posix_spawn's two option objects, released together.
class SpawnSettings {
 public:
  SpawnSettings() {
    ::posix_spawn_file_actions_init(&actions_);
    ::posix_spawnattr_init(&attributes_);
    sigset_t none;
    sigset_t all;
    sigemptyset(&none);
    sigfillset(&all);
    ::posix_spawnattr_setsigmask(&attributes_, &none);
    ::posix_spawnattr_setsigdefault(&attributes_, &all);
    // A session of its own: Ctrl-C in a terminal ends the owner, and the guardian then cleans up.
    ::posix_spawnattr_setflags(
        &attributes_,
        static_cast<short>(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID));
  }
  ~SpawnSettings() {
    ::posix_spawnattr_destroy(&attributes_);
    ::posix_spawn_file_actions_destroy(&actions_);
  }
  SpawnSettings(const SpawnSettings&) = delete;
  SpawnSettings& operator=(const SpawnSettings&) = delete;

  void give(const UniqueFd& source, int target, int open_flags) {
    if (source) {
      ::posix_spawn_file_actions_adddup2(&actions_, source.get(), target);
    } else {
      ::posix_spawn_file_actions_addopen(&actions_, target, "/dev/null", open_flags, 0);
    }
  }

  // 0 or an errno.
  int spawn(const char* path, char* const* words, pid_t* pid) {
    return ::posix_spawn(pid, path, &actions_, &attributes_, words, environ);
  }

 private:
  posix_spawn_file_actions_t actions_{};
  posix_spawnattr_t attributes_{};
};

std::string system_message(int error) { return std::system_category().message(error); }

// Runs the guardian with `control` as its control socket. When this returns, no copy of it that
// was made here is left, so the guardian's end can be noticed.
Result<pid_t> spawn_guardian(const GuardedProcessOptions& options, const UniqueFd& control) {
  const UniqueFd control_copy = copy_above(control.get());
  if (!control_copy) return unavailable(errno_message("fcntl"));
  const UniqueFd stdin_copy = options.stdin_fd < 0 ? UniqueFd{} : copy_above(options.stdin_fd);
  const UniqueFd stdout_copy = options.stdout_fd < 0 ? UniqueFd{} : copy_above(options.stdout_fd);
  SpawnSettings settings;
  settings.give(control_copy, kGuardianControlFd, O_RDWR);
  settings.give(stdin_copy, STDIN_FILENO, O_RDONLY);
  settings.give(stdout_copy, STDOUT_FILENO, O_WRONLY);

  const auto or_none = [](const std::string& text) { return text.empty() ? kGuardianNone : text; };
  std::vector<std::string> words{TIERCEL_GUARDIAN_PATH, std::to_string(::getpid()),
                                 or_none(options.folder_to_remove), or_none(options.output_path)};
  words.insert(words.end(), options.command.begin(), options.command.end());
  std::vector<char*> pointers;
  for (std::string& word : words) pointers.push_back(word.data());
  pointers.push_back(nullptr);

  pid_t guardian = 0;
  if (const int error = settings.spawn(TIERCEL_GUARDIAN_PATH, pointers.data(), &guardian)) {
    return unavailable("cannot run the guardian " TIERCEL_GUARDIAN_PATH ": " +
                       system_message(error));
  }
  return guardian;
}

}  // namespace

Result<std::unique_ptr<GuardedProcess>> GuardedProcess::start(
    const GuardedProcessOptions& options) {
  if (options.command.empty()) return invalid_argument("no program to run");
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    return unavailable(errno_message("socketpair"));
  }
  UniqueFd ours{ends[0]};
  UniqueFd theirs{ends[1]};
  const auto guardian = spawn_guardian(options, theirs);
  theirs.reset();
  if (!guardian) return guardian.error();
  std::unique_ptr<GuardedProcess> process{new GuardedProcess{*guardian, std::move(ours)}};
  const auto first = process->receive(Clock::system().now() + kGuardianLimit);
  if (first && first->word == GuardianWord::kStarted) {
    process->pid_ = first->value;
    return process;
  }
  return unavailable("cannot run " + options.command.front() + ": " +
                     (first ? system_message(first->value) : "its guardian does not answer"));
}

GuardedProcess::~GuardedProcess() {
  const TimePoint deadline = Clock::system().now() + kGuardianLimit;
  if (keep_folder_) {
    const GuardianMessage leave{GuardianWord::kLeave, 0};
    (void)::send(control_.get(), &leave, sizeof leave, MSG_NOSIGNAL);
  } else {
    // Not close(): the guardian's own end is what tells that it has finished.
    ::shutdown(control_.get(), SHUT_WR);
  }
  while (receive(deadline)) {
  }
  // At the deadline the guardian stays unreaped rather than the test hanging.
  const int options = Clock::system().now() < deadline ? 0 : WNOHANG;
  while (::waitpid(guardian_pid_, nullptr, options) < 0 && errno == EINTR) {
  }
}

std::optional<GuardianMessage> GuardedProcess::receive(TimePoint deadline) {
  for (;;) {
    if (!wait_ready(control_.get(), POLLIN, deadline)) return std::nullopt;
    GuardianMessage message;
    const ssize_t size = ::recv(control_.get(), &message, sizeof message, MSG_DONTWAIT);
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (size == static_cast<ssize_t>(sizeof message)) {
      note(message);
      return message;
    }
    // The guardian is gone, and by PR_SET_PDEATHSIG the program with it.
    if (!exit_status_) exit_status_ = ExitStatus{.code = -1, .signal = SIGKILL};
    return std::nullopt;
  }
}

void GuardedProcess::note(const GuardianMessage& message) noexcept {
  if (message.word != GuardianWord::kExited) return;
  if (WIFSIGNALED(message.value)) {
    exit_status_ = ExitStatus{.code = -1, .signal = WTERMSIG(message.value)};
  } else {
    exit_status_ = ExitStatus{.code = WEXITSTATUS(message.value), .signal = 0};
  }
}

std::optional<ExitStatus> GuardedProcess::exit_status() noexcept {
  while (!exit_status_ && receive(TimePoint{})) {
  }
  return exit_status_;
}

int GuardedProcess::pid() noexcept { return exit_status() ? 0 : pid_; }

void GuardedProcess::signal(int number) {
  if (exit_status()) return;
  const GuardianMessage message{GuardianWord::kSignal, number};
  if (::send(control_.get(), &message, sizeof message, MSG_NOSIGNAL) < 0) return;
  const TimePoint deadline = Clock::system().now() + kGuardianLimit;
  while (const auto answer = receive(deadline)) {
    if (answer->word == GuardianWord::kDone) return;
  }
}

std::optional<ExitStatus> GuardedProcess::wait(Duration limit) {
  const TimePoint deadline = Clock::system().now() + limit;
  while (!exit_status_ && receive(deadline)) {
  }
  return exit_status_;
}

}  // namespace tiercel::testing
