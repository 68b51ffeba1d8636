#pragma once

// What a chaos run can be told on its command line.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::chaos {

struct Options {
  std::vector<std::string> names{};  // Faults, by name or number; empty: all.
  std::uint64_t seed = 0;
  bool stock_sentinel = false;  // Faults 12 to 16 at Sentinel's own periods.
  bool list = false;
  bool verbose = false;
};

struct CommandLine {
  std::optional<Options> options{};         // The coordinator, or
  std::optional<std::uint32_t> instance{};  // an instance that a coordinator has started, or
  int exit_status = 0;                      // neither: help was printed, or what was wrong (2).
};

CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace tiercel::chaos
