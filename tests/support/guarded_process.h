#pragma once

// GuardedProcess: a program that runs under a guardian of ours (guardian_main.cc), which kills it,
// and removes its folder, when the owner goes away for whatever reason, SIGKILL included. The layer
// below RedisServer and ChildProcess.
//
// Not thread-safe: one owner. May be started from any thread of a process that has many: nothing
// but posix_spawn happens between here and the guardian. A process that the owner forks without
// exec does not keep the program alive.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "support/guardian_protocol.h"
#include "support/unique_fd.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::testing {

// How a process ended.
struct ExitStatus {
  int code = -1;   // Its exit code; -1 when a signal ended it.
  int signal = 0;  // The signal that ended it; 0 when it left by itself.

  friend bool operator==(const ExitStatus&, const ExitStatus&) = default;
};

struct GuardedProcessOptions {
  std::vector<std::string> command{};  // The program, looked up on PATH, and its arguments.
  std::string folder_to_remove{};      // At the end. Empty: none. Must be a temporary one of ours.
  std::string output_path{};  // Gets standard output and error, appended. Empty: see below.
  int stdin_fd = -1;          // The program's standard input; -1: /dev/null. Not consumed.
  int stdout_fd = -1;         // Likewise, output. Standard error is then the owner's.
};

class GuardedProcess {
 public:
  // Returns when the program runs. Errors: kUnavailable when it cannot be executed.
  static Result<std::unique_ptr<GuardedProcess>> start(const GuardedProcessOptions& options);

  // SIGKILLs and reaps the program, removes the folder. Waits for both, for up to 30 s.
  ~GuardedProcess();
  GuardedProcess(const GuardedProcess&) = delete;
  GuardedProcess& operator=(const GuardedProcess&) = delete;

  // 0 when the program has ended.
  [[nodiscard]] int pid() noexcept;

  // Empty while it runs.
  [[nodiscard]] std::optional<ExitStatus> exit_status() noexcept;

  // Sends the signal and waits until it is sent; for SIGKILL until the program is reaped, for
  // SIGSTOP until it stands still. Nothing happens when the program has ended.
  void signal(int number);

  // Waits for the program's end. Empty when `limit` passed.
  std::optional<ExitStatus> wait(Duration limit);

  // From now on the folder stays: for the successor that has taken it over.
  void keep_folder() noexcept { keep_folder_ = true; }

 private:
  GuardedProcess(int guardian_pid, UniqueFd control) noexcept
      : guardian_pid_(guardian_pid), control_(std::move(control)) {}

  // One message of the guardian; empty at the deadline or when the guardian is gone.
  std::optional<GuardianMessage> receive(TimePoint deadline);
  void note(const GuardianMessage& message) noexcept;

  const int guardian_pid_;
  UniqueFd control_;
  int pid_ = 0;
  std::optional<ExitStatus> exit_status_;
  bool keep_folder_ = false;
};

}  // namespace tiercel::testing
