#include "game/shop.h"

#include <fmt/format.h>

#include <cstdio>
#include <sstream>
#include <thread>

#include "game/keyspaces.h"
#include "tiercel/base/random.h"

namespace tiercel::game {
namespace {

using namespace std::chrono_literals;

constexpr auto kReadyMax = 30s;
constexpr auto kPause = 10ms;
constexpr int kCelebrateEvery = 60;  // Changes.

int complain(const std::string& what, const Error& error) {
  fmt::print(stderr, "shop: {}: {}\n", what, error.to_string());
  return 1;
}

class Shop {
 public:
  Shop(Cache& cache, Database& database, const Players& players, const Inventories& inventories)
      : cache_(cache), database_(database), players_(players), inventories_(inventories) {}

  // The order is what counts: first the database, then the cache is told; who loads in between
  // cannot store what it has read before.
  Result<void> change_something() {
    const PlayerId id = 1 + random_.below(kPlayers);
    if (++changes_ % kCelebrateEvery == 0)
      return celebrate(static_cast<std::uint32_t>(id % kZones));
    const bool pays = changes_ % 2 == 0;
    const auto revision = pays ? database_.pay(id, 10) : database_.give(id, "potion");
    if (!revision) return revision.error();
    const auto told = pays ? players_.invalidate(id) : inventories_.invalidate(id);
    if (told) print(pays ? Kind::kPlayer : Kind::kInventory, id, *revision, false);
    return {};
  }

 private:
  Result<void> celebrate(std::uint32_t zone) {
    const auto changed = database_.celebrate(zone);
    if (!changed) return changed.error();
    // One step, however many players the zone has.
    if (!cache_.invalidate_tag(zone_tag(zone))) return {};
    const TimePoint now = Clock::system().now();
    for (const auto& [player, revision] : *changed) {
      print(Kind::kPlayer, player, revision, true, now);
    }
    return {};
  }
  static void print(Kind kind, PlayerId player, Revision revision, bool by_tag,
                    TimePoint at = Clock::system().now()) {
    fmt::print("{}\n", to_line({.kind = kind,
                                .player = player,
                                .revision = revision,
                                .acknowledged_at = at,
                                .by_tag = by_tag}));
    std::fflush(stdout);
  }

  Cache& cache_;
  Database& database_;
  const Players& players_;
  const Inventories& inventories_;
  Random random_ = Random::from_entropy();
  int changes_ = 0;
};

}  // namespace

std::string to_line(const Change& change) {
  return fmt::format("{} {} {} {} {}", change.kind == Kind::kPlayer ? 'P' : 'I', change.player,
                     change.revision, change.acknowledged_at.time_since_epoch().count(),
                     change.by_tag ? 1 : 0);
}

Result<Change> parse_change(const std::string& line) {
  std::istringstream words{line};
  char kind = 0;
  Duration::rep at = 0;
  Change change;
  words >> kind >> change.player >> change.revision >> at >> change.by_tag;
  const bool is_known = kind == 'P' || kind == 'I';
  if (!words || !is_known || change.player < 1 || change.player > kPlayers) {
    return protocol_error("no change: '" + line + "'");
  }
  change.kind = kind == 'P' ? Kind::kPlayer : Kind::kInventory;
  change.acknowledged_at = TimePoint{Duration{at}};
  return change;
}

int run_shop(const std::string& redis_url, const std::string& database_path,
             std::chrono::seconds length) {
  auto database = Database::open(database_path);
  if (!database) return complain("database", database.error());
  auto cache = Cache::open({.name_space = std::string{kNameSpace}, .redis_url = redis_url});
  if (!cache) return complain("cache", cache.error());
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) {
    return complain("cache", ready.error());
  }
  const auto players = open_players(**cache, **database);
  const auto inventories = open_inventories(**cache, **database);
  if (!players) return complain("keyspace", players.error());
  if (!inventories) return complain("keyspace", inventories.error());
  Shop shop{**cache, **database, *players, *inventories};
  fmt::print("{}\n", kReady);
  std::fflush(stdout);
  const TimePoint end = Clock::system().now() + length;
  while (Clock::system().now() < end) {
    if (auto changed = shop.change_something(); !changed) {
      return complain("database", changed.error());
    }
    std::this_thread::sleep_for(kPause);
  }
  return 0;
}

}  // namespace tiercel::game
