#include "game/world.h"

#include <algorithm>
#include <thread>

namespace tiercel::game {
namespace {

using namespace std::chrono_literals;

constexpr auto kLook = 2ms;

// What a game would do with it.
std::uint64_t weight_of(const wire::Player::Reader& player) { return player.getLevel(); }
std::uint64_t weight_of(const wire::Inventory::Reader& inventory) {
  std::uint64_t grams = 0;
  for (const auto item : inventory.getItems()) {
    grams += std::uint64_t{item.getCount()} * item.getGrams();
  }
  return grams;
}

}  // namespace

template <typename Space>
void World::look_at(const Space& space, Kind kind, PlayerId player, Observations& seen) {
  const TimePoint asked_at = Clock::system().now();
  const auto found = space.try_get(player);
  seen.look_ups.push_back(Clock::system().now() - asked_at);
  std::uint32_t& gap = shelf(kind).gap[player];
  if (!found) {
    ++seen.misses;
    seen.gap_ticks_max = std::max(seen.gap_ticks_max, ++gap);
    shelf(kind).is_wanted[player].store(true, std::memory_order_relaxed);
    return;  // The game goes on with what it knew of them.
  }
  gap = 0;
  grams_ += weight_of(found->view());  // The fields of L1's own bytes.
  seen.sightings.push_back({kind, player, found->view().getRevision(), asked_at});
}

Observations World::tick_for(std::chrono::seconds length) {
  const auto ticks = static_cast<std::size_t>(length.count()) * kTicksPerSecond;
  Observations seen;
  seen.ticks.reserve(ticks);
  seen.look_ups.reserve(ticks * kPlayers * 2);
  seen.sightings.reserve(ticks * kPlayers * 2);
  TimePoint next = Clock::system().now();
  for (std::size_t tick = 0; tick < ticks; ++tick) {
    const TimePoint began_at = Clock::system().now();
    for (PlayerId player = 1; player <= kPlayers; ++player) {
      look_at(players_, Kind::kPlayer, player, seen);
      look_at(inventories_, Kind::kInventory, player, seen);
    }
    const TimePoint ended_at = Clock::system().now();
    seen.ticks.push_back(ended_at - began_at);
    next += kTick;
    if (next > ended_at) std::this_thread::sleep_for(next - ended_at);
  }
  return seen;
}

template <typename Space>
void World::load(const Space& space, Shelf& shelf) {
  std::vector<PlayerId> ids;
  for (PlayerId player = 1; player <= kPlayers; ++player) {
    if (shelf.is_wanted[player].exchange(false, std::memory_order_relaxed)) ids.push_back(player);
  }
  // What fails is wanted again by the next tick.
  if (!ids.empty()) (void)space.get_many(std::span<const PlayerId>{ids});
}

void World::load_what_is_missed(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    load(players_, player_shelf_);
    load(inventories_, inventory_shelf_);
    std::this_thread::sleep_for(kLook);
  }
}

}  // namespace tiercel::game
