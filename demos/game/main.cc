// The game demo. A game server keeps player profiles and inventories in SQLite; Tiercel stands in
// front of it. Its tick thread looks at every player 60 times a second and never waits, while a
// second instance, a process of its own, changes players behind its back. At the end everything
// that the ticks saw is compared with what was changed when.
//
//   tiercel_game [--seconds N]      1 to 15; 6 unless told otherwise
//
// Exit status: 0 when what it promises held, 1 when not, 2 for wrong options or no Redis.

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "game/database.h"
#include "game/judge.h"
#include "game/keyspaces.h"
#include "game/shop.h"
#include "game/world.h"
#include "support/child_process.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "tiercel/base/bytes.h"

namespace tiercel::game {
namespace {

using namespace std::chrono_literals;

constexpr int kExitBroken = 1;
constexpr int kExitUsage = 2;
constexpr auto kLease = 500ms;
constexpr auto kReadyMax = 30s;
constexpr auto kSettleMax = 20s;
constexpr std::size_t kLoaderThreads = 2;

int complain(int status, const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  return status;
}

std::string in_words(Duration duration) {
  const double us = std::chrono::duration<double, std::micro>{duration}.count();
  if (us < 1000) return fmt::format("{:.1f} us", us);
  return fmt::format("{:.1f} ms", us / 1000);
}

// Sorts them. `of` is 0.5 for the median.
Duration quantile(std::vector<Duration>& durations, double of) {
  if (durations.empty()) return Duration{0};
  std::ranges::sort(durations);
  const auto last = static_cast<double>(durations.size() - 1);
  return durations[static_cast<std::size_t>(of * last)];
}

Result<std::vector<Change>> read_changes(testing::ChildProcess& shop) {
  std::vector<Change> changes;
  for (;;) {
    const auto line = shop.read_line();
    if (!line) return line.error();
    if (!*line) return changes;
    auto change = parse_change(**line);
    if (!change) return change.error();
    changes.push_back(*change);
  }
}

struct Run {
  Observations seen;
  std::vector<Change> changes;
  bool has_settled = false;
  KeyspaceStats players;
  KeyspaceStats inventories;
};

// Whether the cache has these at the revisions that the database has.
template <typename Space, typename RevisionOf>
bool agrees(const Space& space, const std::vector<PlayerId>& ids, RevisionOf&& revision_of) {
  const auto found = space.get_many(std::span<const PlayerId>{ids});
  for (std::size_t i = 0; i < ids.size(); ++i) {
    if (!found[i] || !*found[i]) return false;
    if ((*found[i])->view().getRevision() != revision_of(ids[i])) return false;
  }
  return true;
}

// Everything is, at last, what the database says. Nobody changes it any more.
bool settles(Database& database, const Players& players, const Inventories& inventories) {
  std::vector<PlayerId> ids(kPlayers);
  std::iota(ids.begin(), ids.end(), PlayerId{1});
  const auto rows = database.inventories(ids);
  if (!rows || rows->size() != ids.size()) return false;
  const auto of_player = [&database](PlayerId id) {
    const auto row = database.player(id);
    return row && *row ? (*row)->revision : Revision{0};
  };
  const auto of_inventory = [&rows](PlayerId id) { return (*rows)[id - 1].revision; };
  return testing::poll_until(
      [&] { return agrees(players, ids, of_player) && agrees(inventories, ids, of_inventory); },
      kSettleMax, 20ms);
}

Result<Run> play(Cache& cache, Database& database, testing::ChildProcess& shop,
                 std::chrono::seconds length) {
  const auto players = open_players(cache, database);
  if (!players) return players.error();
  const auto inventories = open_inventories(cache, database);
  if (!inventories) return inventories.error();
  World world{*players, *inventories};
  Run run;
  Result<std::vector<Change>> changes{std::vector<Change>{}};
  {
    std::vector<std::jthread> loaders;
    for (std::size_t i = 0; i < kLoaderThreads; ++i) {
      loaders.emplace_back([&](const std::stop_token& stop) { world.load_what_is_missed(stop); });
    }
    const std::jthread listener{[&] { changes = read_changes(shop); }};
    run.seen = world.tick_for(length);
  }
  if (!changes) return changes.error();
  run.changes = std::move(*changes);
  run.has_settled = settles(database, *players, *inventories);
  run.players = players->stats();
  run.inventories = inventories->stats();
  return run;
}

bool say(bool held, const std::string& promise) {
  fmt::print("  {}  {}\n", held ? "held  " : "BROKEN", promise);
  return held;
}

int report(Run run) {
  Verdict verdict = judge(run.seen.sightings, run.changes, kLease);
  const auto by_tag = std::ranges::count_if(run.changes, &Change::by_tag);
  fmt::print("\n{} ticks, {} try_get in each\n", run.seen.ticks.size(), 2 * kPlayers);
  fmt::print("  a tick       p50 {}, p99 {}, worst {}, of {}\n",
             in_words(quantile(run.seen.ticks, 0.5)), in_words(quantile(run.seen.ticks, 0.99)),
             in_words(quantile(run.seen.ticks, 1.0)), in_words(kTick));
  fmt::print(
      "  a try_get    p50 {}, p99.9 {}, worst {}\n", in_words(quantile(run.seen.look_ups, 0.5)),
      in_words(quantile(run.seen.look_ups, 0.999)), in_words(quantile(run.seen.look_ups, 1.0)));
  fmt::print("  hits         {} of {}; nobody was missing for more than {} ticks\n",
             verdict.looked_at, verdict.looked_at + run.seen.misses, run.seen.gap_ticks_max);
  fmt::print(
      "  changes      {} by the second instance, {} of them by tag; seen after p50 {}, worst {}\n",
      run.changes.size(), by_tag, in_words(quantile(verdict.seen_in, 0.5)),
      in_words(quantile(verdict.seen_in, 1.0)));
  for (const auto& [name, stats] :
       {std::pair{"players", run.players}, std::pair{"inventories", run.inventories}}) {
    fmt::print("  {:<12} {} loads in {} calls, {} begun ahead of expiry, {} stale answers\n", name,
               stats.loads, stats.load_times.calls(), stats.refreshes, stats.stale_served);
  }
  fmt::print("\n");
  bool held = say(verdict.looked_at > 0 && !run.changes.empty(), "there was something to see");
  held &= say(verdict.too_old == 0,
              fmt::format("no tick saw what had been changed more than {} ms before ({} looked at)",
                          kLease.count(), verdict.looked_at));
  held &= say(verdict.went_back == 0, "nothing that was seen went back to an older revision");
  held &= say(run.has_settled, "at the end every player is as in the database");
  return held ? 0 : kExitBroken;
}

int run_game(const std::string& program, std::chrono::seconds length) {
  if (!testing::RedisServer::available()) {
    return complain(kExitUsage, testing::RedisServer::unavailable_message());
  }
  const auto redis = testing::RedisServer::start();
  const std::string path = redis->folder() + "/game.db";  // Goes with the server.
  auto database = Database::create(path, kPlayers, kZones);
  if (!database) return complain(kExitBroken, database.error().to_string());
  auto cache = Cache::open(
      {.name_space = std::string{kNameSpace}, .redis_url = redis->url(), .lease = kLease});
  if (!cache) return complain(kExitBroken, cache.error().to_string());
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) {
    return complain(kExitBroken, ready.error().to_string());
  }
  fmt::print("{} players in SQLite, Redis on {}, a lease of {} ms; {} s at {} Hz …\n", kPlayers,
             redis->endpoint(), kLease.count(), length.count(), kTicksPerSecond);
  std::fflush(stdout);
  const auto shop = testing::ChildProcess::start(
      {.executable = program,
       .arguments = {"shop", redis->url(), path, std::to_string(length.count())}});
  if (const auto line = shop->read_line(); !line || line->value_or("") != kReady) {
    return complain(kExitBroken, "the second instance did not begin");
  }
  auto run = play(**cache, **database, *shop, length);
  if (!run) return complain(kExitBroken, run.error().to_string());
  const auto status = shop->wait();
  if (!status || *status != testing::ExitStatus{.code = 0, .signal = 0}) {
    return complain(kExitBroken, "the second instance did not end well");
  }
  return report(std::move(*run));
}

std::optional<std::chrono::seconds> parse_seconds(std::string_view text) {
  const auto seconds = parse_u64(text);
  if (!seconds || *seconds < 1 || *seconds > 15) return std::nullopt;
  return std::chrono::seconds{*seconds};
}

}  // namespace
}  // namespace tiercel::game

int main(int argc, char** argv) {
  using namespace tiercel::game;
  const std::vector<std::string> words{argv + 1, argv + argc};
  if (words.size() == 4 && words[0] == "shop") {
    if (const auto length = parse_seconds(words[3])) return run_shop(words[1], words[2], *length);
  }
  auto length = std::optional{std::chrono::seconds{6}};
  if (words.size() == 2 && words[0] == "--seconds") length = parse_seconds(words[1]);
  if (!length || (!words.empty() && words.size() != 2)) {
    return complain(kExitUsage, "usage: tiercel_game [--seconds 1…15]");
  }
  return run_game(std::filesystem::read_symlink("/proc/self/exe").string(), *length);
}
