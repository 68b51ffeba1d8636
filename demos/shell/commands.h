#pragma once

// The language of `tiercel shell`: one command a line, words separated by spaces or tabs.
//
//   get K   try K   set K V [TTL_MS]   del K   mget K K …   lease   stats   sleep MS   quit
//
// A key or value with bytes outside printable ASCII, spaces or quotes is written as hex: and two
// digits a byte (base/bytes.h); the empty one is "hex:". Pure functions; any thread.

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/cache/options.h"

namespace tiercel::shell {

inline constexpr std::size_t kLineBytesMax = std::size_t{16} << 20;
inline constexpr std::size_t kMgetKeysMax = 65536;
inline constexpr std::chrono::milliseconds kSleepMax = std::chrono::hours{24};

struct GetCommand {
  std::string key;
};
struct TryCommand {
  std::string key;
};
struct SetCommand {
  std::string key;
  std::string value;
  std::optional<std::chrono::milliseconds> ttl;  // 1 ms to kTtlMax.
};
struct DelCommand {
  std::string key;
};
struct MgetCommand {
  std::vector<std::string> keys;  // 1 to kMgetKeysMax.
};
struct LeaseCommand {};
struct StatsCommand {};
struct SleepCommand {
  std::chrono::milliseconds pause{0};  // 0 to kSleepMax.
};
struct QuitCommand {};

using Command = std::variant<GetCommand, TryCommand, SetCommand, DelCommand, MgetCommand,
                             LeaseCommand, StatsCommand, SleepCommand, QuitCommand>;

// A line without its newline; a carriage return at its end does not count. nullopt: a blank line.
// Errors: kInvalidArgument, with what is wrong and how to write the command.
Result<std::optional<Command>> parse_command(std::string_view line);

// The first word of the line where that is a command's name, else empty: tells the "op" of a line
// that does not parse, also of the beginning of one that is too long. Valid for ever.
[[nodiscard]] std::string_view op_of(std::string_view line) noexcept;

// For a line over kLineBytesMax, of which `beginning` is the beginning.
[[nodiscard]] Error line_too_long(std::string_view beginning);

}  // namespace tiercel::shell
