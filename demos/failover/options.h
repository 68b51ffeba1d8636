#pragma once

// What the failover demo can be told on its command line.

#include <cstdint>
#include <optional>
#include <string>

namespace tiercel::failover {

inline constexpr std::uint64_t kKeysMax = 10'000'000;
inline constexpr std::uint32_t kInstancesMax = 16;
// Every write is kept, in shared memory and in the history in Redis, until the run is judged.
inline constexpr std::uint64_t kWritesMax = 2'000'000;

struct Options {
  std::uint64_t keys = 10'000;       // 1 to kKeysMax. With a trace: as many as it names.
  double zipf = 0.99;                // Skew, 0 (uniform) to 2.
  std::uint64_t writes_per_s = 200;  // Of all instances together. 1 to 20,000.
  std::uint32_t seconds = 18;        // 5 to 3600.
  std::uint32_t instances = 3;       // Processes. 1 to kInstancesMax.
  std::uint32_t lease_ms = 500;      // 20 to 60,000.
  std::string trace;                 // A file with one decimal key id a line; empty: zipf.
  std::string json;                  // Where the report goes for programs; empty: nowhere.
  bool kill_master = true;
  bool verbose = false;       // The library's log lines on standard error.
  bool stale_reader = false;  // A negative control: readers that never let go of a value.
};

struct CommandLine {
  std::optional<Options> options;         // The coordinator, or
  std::optional<std::uint32_t> instance;  // an instance that a coordinator has started, or
  int exit_status = 0;                    // neither: help was printed (0), or what was wrong (2).
};

// Prints help to standard output and errors to standard error.
CommandLine parse_command_line(int argc, const char* const* argv);

}  // namespace tiercel::failover
