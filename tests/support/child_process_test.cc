#include "support/child_process.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <csignal>
#include <string>
#include <thread>
#include <vector>

#include "support/poll_until.h"

namespace tiercel::testing {
namespace {

std::unique_ptr<ChildProcess> start_child(std::vector<std::string> arguments) {
  return ChildProcess::start(
      {.executable = TIERCEL_SUPPORT_TEST_CHILD, .arguments = std::move(arguments)});
}

bool is_gone(int pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

TEST(ChildProcess, TalksByLines) {
  auto child = start_child({"echo"});
  ASSERT_GT(child->pid(), 0);
  for (const std::string line : {"first", "", "third with spaces"}) {
    ASSERT_TRUE(child->write_line(line));
    const auto answer = child->read_line();
    ASSERT_TRUE(answer) << answer.error().to_string();
    EXPECT_EQ(*answer, line);
  }
}

TEST(ChildProcess, CarriesLinesLargerThanAPipe) {
  auto child = start_child({"echo"});
  const std::string line(1U << 20, 'x');
  // The child answers while we still write: a writer that does not read would wait for ever.
  Result<std::optional<std::string>> answer = std::optional<std::string>{};
  std::thread reader{[&] { answer = child->read_line(); }};
  EXPECT_TRUE(child->write_line(line));
  reader.join();
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(*answer, line);
}

TEST(ChildProcess, EndOfInputEndsTheChild) {
  auto child = start_child({"echo"});
  child->close_stdin();
  const auto end = child->read_line();
  ASSERT_TRUE(end) << end.error().to_string();
  EXPECT_EQ(*end, std::nullopt);
  EXPECT_EQ(child->wait(), (ExitStatus{.code = 0, .signal = 0}));
  EXPECT_EQ(child->pid(), 0);
  EXPECT_EQ(child->write_line("late").error().code, ErrorCode::kUnavailable);
}

TEST(ChildProcess, TellsTheExitCode) {
  auto child = start_child({"exit", "42"});
  EXPECT_EQ(child->wait(), (ExitStatus{.code = 42, .signal = 0}));
}

TEST(ChildProcess, ReadsWhatIsNotEndedByANewline) {
  auto child = start_child({"half-line"});
  EXPECT_EQ(*child->read_line(), "whole");
  EXPECT_EQ(*child->read_line(), "half");
  EXPECT_EQ(*child->read_line(), std::nullopt);
}

TEST(ChildProcess, WritingToADeadChildIsAnErrorAndNoSignal) {
  auto child = start_child({"exit", "0"});
  ASSERT_TRUE(child->wait());
  EXPECT_EQ(child->write_line("anybody?").error().code, ErrorCode::kUnavailable);
}

TEST(ChildProcess, DeadlinesAreKept) {
  auto child = start_child({"pause"});
  const auto line = child->read_line(std::chrono::milliseconds{20});
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(child->wait(std::chrono::milliseconds{20}), std::nullopt);
  const auto written = child->write_line(std::string(1U << 20, 'x'), std::chrono::milliseconds{20});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kDeadlineExceeded);
}

TEST(ChildProcess, IsKilledAlsoWhenItIsStopped) {
  auto child = start_child({"pause"});
  const int pid = child->pid();
  child->kill(SIGSTOP);
  child->kill(SIGSTOP);  // A second one in a row must not hang.
  EXPECT_EQ(child->pid(), pid);
  child->kill(SIGKILL);
  EXPECT_EQ(child->pid(), 0);
  EXPECT_EQ(child->wait(), (ExitStatus{.code = -1, .signal = SIGKILL}));
  EXPECT_TRUE(is_gone(pid));
}

TEST(ChildProcess, IsReapedByItsDestructor) {
  auto child = start_child({"pause"});
  const int pid = child->pid();
  EXPECT_FALSE(is_gone(pid));
  child.reset();
  EXPECT_TRUE(is_gone(pid));
}

TEST(ChildProcess, ManyStartFromManyThreads) {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([i] {
      for (int round = 0; round < 3; ++round) {
        auto child = start_child({"exit", std::to_string(i)});
        // If another thread's child held a copy of this one's pipe, its end would not be seen.
        EXPECT_EQ(*child->read_line(), std::nullopt);
        EXPECT_EQ(child->wait(), (ExitStatus{.code = i, .signal = 0}));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST(ChildProcessDeathTest, AMissingExecutableIsNamed) {
  EXPECT_DEATH(ChildProcess::start({.executable = "/nowhere/no-such-program", .arguments = {}}),
               "/nowhere/no-such-program: No such file");
}

}  // namespace
}  // namespace tiercel::testing
