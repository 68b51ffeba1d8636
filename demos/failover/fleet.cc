#include "failover/fleet.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <system_error>

namespace tiercel::failover {
namespace {

std::string describe(std::uint32_t number, const testing::ExitStatus& status) {
  const std::string who = "instance " + std::to_string(number);
  if (status.signal != 0) return who + " was killed by signal " + std::to_string(status.signal);
  return who + " ended with status " + std::to_string(status.code);
}

}  // namespace

Result<Fleet> Fleet::start(const Board& board) {
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return unavailable("cannot find this program: " + error.message());
  Fleet fleet;
  for (std::uint32_t number = 0; number < board.config().instances; ++number) {
    auto process =
        testing::GuardedProcess::start({.command = {program, "instance", std::to_string(number)},
                                        .folder_to_remove = {},
                                        .output_path = {},
                                        .stdin_fd = board.fd()});
    if (!process) return process.error();
    fleet.members_.push_back({.process = std::move(process).value()});
  }
  return fleet;
}

std::vector<Death> Fleet::take_deaths() {
  std::vector<Death> found;
  for (std::uint32_t number = 0; number < members_.size(); ++number) {
    Member& member = members_[number];
    const auto status = member.process->exit_status();
    if (!status || member.reported) continue;
    member.reported = true;
    if (*status == testing::ExitStatus{.code = 0, .signal = 0}) continue;
    ++deaths_;
    found.push_back({.instance = number, .text = describe(number, *status)});
  }
  return found;
}

void Fleet::join(Duration limit) {
  const TimePoint deadline = Clock::system().now() + limit;
  for (Member& member : members_) {
    const Duration left = deadline - Clock::system().now();
    if (!member.process->wait(std::max(left, Duration{0}))) member.process->signal(SIGKILL);
  }
}

}  // namespace tiercel::failover
