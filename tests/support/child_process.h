#pragma once

// ChildProcess: an executable of ours run as a process of its own and talked to by lines: for
// black-box tests of tools, and for tests that need two processes.
//
//   auto shell = ChildProcess::start({.executable = path, .arguments = {"--url", url}});
//   shell->write_line("get k");
//   auto answer = shell->read_line();   // Result<std::optional<std::string>>
//
// It dies with the process that started it, even when that is killed with SIGKILL. Its standard
// error is that of its starter. Not thread-safe: one owner. Every call is bounded by a limit.

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/guarded_process.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::testing {

struct ChildProcessOptions {
  std::string executable{};  // A path, or a name that is looked up on PATH.
  std::vector<std::string> arguments{};
};

class ChildProcess {
 public:
  static constexpr Duration kLimit = std::chrono::seconds{30};
  static constexpr std::size_t kLineBytesMax = 64U << 20;

  // Aborts, with the reason, when the executable cannot be run: a test cannot go on without it.
  static std::unique_ptr<ChildProcess> start(const ChildProcessOptions& options);
  ~ChildProcess();  // SIGKILL and reap.

  [[nodiscard]] int pid() const noexcept;  // 0 when it has ended.

  // Writes the line and a newline. Errors: kUnavailable when the child does not read any more or
  // its input was closed, kDeadlineExceeded when it has not taken the line by the limit.
  Result<void> write_line(std::string_view line, Duration limit = kLimit);

  // End of file for the child.
  void close_stdin();

  // The next line, without its newline; empty at the end of the child's output. What was last
  // printed without a newline counts as a line. Errors: kDeadlineExceeded at the limit (nothing is
  // lost: call again), kProtocol for a line over kLineBytesMax.
  Result<std::optional<std::string>> read_line(Duration limit = kLimit);

  // Sends a signal. SIGKILL: the child is reaped when this returns; SIGSTOP: it stands still.
  void kill(int signal);

  // Waits for its end. Empty when the limit passed.
  std::optional<ExitStatus> wait(Duration limit = kLimit);

 private:
  ChildProcess() = default;

  UniqueFd stdin_;
  UniqueFd stdout_;
  std::string unread_;
  std::unique_ptr<GuardedProcess> process_;
};

}  // namespace tiercel::testing
