// The guardian: runs one program and sees to it that the program and its folder do not outlive the
// process that asked for them, even when that is killed with SIGKILL.
//
// Invariants
// - The guardian is the program's parent and reaps it, so the pid it signals is never another's.
// - It has one thread, so PR_SET_PDEATHSIG, which is bound to the thread that forks, is sound here:
//   should the guardian itself be killed, the program still dies.
// - It learns of its parent's end in two ways: the end of the stream on the control socket, and a
//   pidfd, because a child that the parent forked without exec holds the socket open.
// - It leaves on exactly these: parent gone, kLeave, a terminating signal, the program not
//   executable. Each path kills and reaps the program first.

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <system_error>

#include "support/guardian_protocol.h"

namespace {

using tiercel::testing::GuardianMessage;
using tiercel::testing::GuardianWord;
using tiercel::testing::kGuardianControlFd;
using tiercel::testing::kGuardianNone;
using tiercel::testing::kTemporaryPrefix;

void report(GuardianWord word, int value) {
  const GuardianMessage message{word, value};
  // A parent that is gone does not mind.
  (void)::send(kGuardianControlFd, &message, sizeof message, MSG_NOSIGNAL);
}

// In the child of fork: becomes the program, or writes errno to `error_fd`.
[[noreturn]] void become_program(pid_t guardian, const std::string& output, char** words,
                                 int error_fd) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != guardian) ::_exit(127);  // It died before the line above.
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  bool ok = true;
  if (output != kGuardianNone) {
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    ok = fd >= 0 && ::dup2(fd, STDOUT_FILENO) >= 0 && ::dup2(fd, STDERR_FILENO) >= 0;
  }
  if (ok) ::execvp(words[0], words);
  const int error = errno;
  (void)!::write(error_fd, &error, sizeof error);
  ::_exit(127);
}

class Guardian {
 public:
  Guardian(pid_t parent, std::string folder) : parent_(parent), folder_(std::move(folder)) {}

  int run(const std::string& output, char** words) {
    ::fcntl(kGuardianControlFd, F_SETFD, FD_CLOEXEC);
    ::close_range(kGuardianControlFd + 1, ~0U, 0);  // What the parent let slip through its exec.
    sigset_t handled;
    sigemptyset(&handled);
    for (const int number : {SIGCHLD, SIGINT, SIGTERM, SIGHUP}) sigaddset(&handled, number);
    ::sigprocmask(SIG_SETMASK, &handled, nullptr);
    const int signals = ::signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    // By hand: the header of glibc 2.36 forgets that C++ needs extern "C". On an old kernel the
    // result is -1, which poll skips.
    const auto parent_fd = static_cast<int>(::syscall(SYS_pidfd_open, parent_, 0));
    if (::getppid() != parent_) return leave(true);  // It died before pidfd_open.
    if (const int error = start(output, words); error != 0) {
      report(GuardianWord::kFailed, error);
      return leave(true);
    }
    report(GuardianWord::kStarted, program_);
    detach_standard_streams();
    watch(signals, parent_fd);
    return leave(remove_folder_);
  }

 private:
  // 0, or the errno of the exec.
  int start(const std::string& output, char** words) {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) return errno;
    const pid_t guardian = ::getpid();
    program_ = ::fork();
    if (program_ == 0) become_program(guardian, output, words, ends[1]);
    ::close(ends[1]);
    int error = program_ < 0 ? errno : 0;
    // The end of the stream, without a word, is the successful exec that closed the other end.
    while (program_ > 0 && ::read(ends[0], &error, sizeof error) < 0 && errno == EINTR) {
    }
    ::close(ends[0]);
    return error;
  }

  // The program's pipes must end when the program does, not when its guardian does.
  static void detach_standard_streams() {
    const int null = ::open("/dev/null", O_RDWR | O_CLOEXEC);
    ::dup2(null, STDIN_FILENO);
    ::dup2(null, STDOUT_FILENO);
    ::close(null);
  }

  void watch(int signals, int parent_fd) {
    while (!leaving_) {
      std::array<pollfd, 3> entries{pollfd{kGuardianControlFd, POLLIN, 0},
                                    pollfd{signals, POLLIN, 0}, pollfd{parent_fd, POLLIN, 0}};
      if (::poll(entries.data(), entries.size(), -1) < 0) continue;
      if (entries[1].revents != 0) on_signals(signals);
      if (entries[0].revents != 0) on_control();
      if (entries[2].revents != 0) leaving_ = true;
    }
  }

  void on_signals(int signals) {
    signalfd_siginfo info{};
    while (::read(signals, &info, sizeof info) == static_cast<ssize_t>(sizeof info)) {
      if (info.ssi_signo != static_cast<std::uint32_t>(SIGCHLD)) leaving_ = true;
    }
    reap(WNOHANG);
  }

  void on_control() {
    GuardianMessage message;
    const ssize_t size = ::recv(kGuardianControlFd, &message, sizeof message, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR)) return;
    if (size != static_cast<ssize_t>(sizeof message)) {
      leaving_ = true;
    } else if (message.word == GuardianWord::kLeave) {
      leaving_ = true;
      remove_folder_ = false;
    } else if (message.word == GuardianWord::kSignal) {
      send_signal(message.value);
      report(GuardianWord::kDone, 0);
    }
  }

  void send_signal(int number) {
    if (program_ <= 0) return;
    ::kill(program_, number);
    if (number == SIGKILL) {
      reap(0);
    } else if (number == SIGSTOP) {
      // The answer may only go out when the program really stands still. WNOWAIT leaves the state
      // in place, so that a second SIGSTOP in a row does not wait for ever.
      siginfo_t info{};
      while (::waitid(P_PID, static_cast<id_t>(program_), &info, WSTOPPED | WEXITED | WNOWAIT) <
                 0 &&
             errno == EINTR) {
      }
    }
  }

  void reap(int options) {
    if (program_ <= 0) return;
    int status = 0;
    pid_t reaped = 0;
    do {
      reaped = ::waitpid(program_, &status, options);
    } while (reaped < 0 && errno == EINTR);
    if (reaped == 0) return;
    program_ = 0;
    report(GuardianWord::kExited, status);
  }

  int leave(bool remove_folder) {
    if (program_ > 0) {
      ::kill(program_, SIGKILL);
      reap(0);
    }
    const std::filesystem::path path{folder_};
    if (remove_folder && path.is_absolute() &&
        path.filename().string().starts_with(kTemporaryPrefix)) {
      std::error_code ignored;
      std::filesystem::remove_all(path, ignored);
    }
    return 0;
  }

  const pid_t parent_;
  const std::string folder_;
  pid_t program_ = 0;  // 0: not started, or reaped.
  bool leaving_ = false;
  bool remove_folder_ = true;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc < 5) {
    std::fprintf(stderr, "usage: %s PARENT_PID FOLDER|- OUTPUT|- PROGRAM [ARGUMENT...]\n", argv[0]);
    return 2;
  }
  Guardian guardian{static_cast<pid_t>(std::atol(argv[1])), argv[2]};
  return guardian.run(argv[3], argv + 4);
}
