#pragma once

// World: the game server's part: a tick thread at 60 Hz that looks at every player and inventory by
// try_get alone, and loader threads that fetch what it misses: at first, and what was changed. What
// is about to expire try_get has renewed in the background.
//
// The tick thread takes no lock, allocates nothing and never waits: what it saw goes into memory
// that was reserved before.

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <stop_token>
#include <vector>

#include "game/database.h"
#include "game/keyspaces.h"
#include "game/shop.h"
#include "tiercel/base/clock.h"

namespace tiercel::game {

inline constexpr std::uint32_t kTicksPerSecond = 60;
inline constexpr Duration kTick = std::chrono::nanoseconds{1'000'000'000 / kTicksPerSecond};

// One try_get that found something.
struct Sighting {
  Kind kind = Kind::kPlayer;
  PlayerId player = 0;
  Revision revision = 0;
  TimePoint asked_at{};  // Just before.
};

struct Observations {
  std::vector<Sighting> sightings;
  std::vector<Duration> ticks;     // How long each took.
  std::vector<Duration> look_ups;  // How long each try_get took, as two clock readings tell.
  std::uint64_t misses = 0;
  std::uint32_t gap_ticks_max = 0;  // So many ticks in a row somebody was missing.
};

class World {
 public:
  World(const Players& players, const Inventories& inventories)
      : players_(players), inventories_(inventories) {}

  // Blocks for `length`, on this thread, as the tick thread.
  Observations tick_for(std::chrono::seconds length);
  // Of a loader thread: until it is stopped.
  void load_what_is_missed(const std::stop_token& stop);

 private:
  struct Shelf {
    std::array<std::atomic<bool>, kPlayers + 1> is_wanted{};  // By a tick; taken by a loader.
    std::array<std::uint32_t, kPlayers + 1> gap{};            // Tick thread only: ticks without it.
  };
  template <typename Space>
  void look_at(const Space& space, Kind kind, PlayerId player, Observations& seen);
  template <typename Space>
  static void load(const Space& space, Shelf& shelf);
  [[nodiscard]] Shelf& shelf(Kind kind) noexcept {
    return kind == Kind::kPlayer ? player_shelf_ : inventory_shelf_;
  }

  const Players& players_;
  const Inventories& inventories_;
  Shelf player_shelf_;
  Shelf inventory_shelf_;
  std::uint64_t grams_ = 0;  // What the game makes of what it reads; tick thread only.
};

}  // namespace tiercel::game
