#pragma once

// Shop: the second instance, a process of its own. It changes players and inventories in the
// database, tells the cache, and prints lines on standard output: "ready" when it begins, then one
// for each change that was acknowledged: what changed, whose, to which revision, when.

#include <chrono>
#include <cstdint>
#include <string>

#include "game/database.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::game {

enum class Kind : std::uint8_t { kPlayer, kInventory };

struct Change {
  Kind kind = Kind::kPlayer;
  PlayerId player = 0;
  Revision revision = 0;
  TimePoint acknowledged_at{};  // Of this machine's clock, so comparable across processes.
  bool by_tag = false;          // With all others of the zone.
};

inline constexpr const char* kReady = "ready";

[[nodiscard]] std::string to_line(const Change& change);
// Errors: kProtocol.
Result<Change> parse_change(const std::string& line);

// Returns the exit status.
int run_shop(const std::string& redis_url, const std::string& database_path,
             std::chrono::seconds length);

}  // namespace tiercel::game
