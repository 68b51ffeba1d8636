// How fast is the L2 client, beside redis-benchmark and hiredis? Over loopback TCP, with a
// redis-server of its own. See --help, and docs/bench/l2.md.
//
// Each round gives every contestant its turn, in an order drawn anew; a ratio is taken within a
// round, and what counts is the median of the rounds. Any reply that is not the right one fails the
// bench.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <string>
#include <utility>
#include <vector>

#include "figures.h"
#include "l2_hiredis.h"
#include "l2_ours.h"
#include "l2_server.h"
#include "l2_table.h"
#include "l2_tasks.h"
#include "l2_work.h"

namespace tiercel::bench {
namespace {

using Handover = Ours::Handover;

constexpr int kExitWrongOptions = 2;

constexpr std::size_t kSmallBytes = 100;
constexpr std::size_t kLargeBytes = 16 * 1024;
constexpr std::size_t kKeys = 1000;  // What MGET reads.
constexpr std::size_t kHotKeys = 61;
constexpr std::size_t kLargeKeys = 7;

constexpr std::size_t kInFlight = 512;
constexpr std::size_t kLargeInFlight = 64;
constexpr std::size_t kBlockingThreads = 512;
constexpr std::size_t kGetsInTurn = 100;
constexpr std::size_t kMgetsInTurn = 10;

constexpr const char* kAbout =
    "Measures the L2 client beside redis-benchmark and hiredis, in rounds in which all take "
    "turns,\n"
    "with a redis-server of its own on loopback. Prints a table, what its rows mean, and a line\n"
    "`figure NAME VALUE` for each goal. Fails if a reply is not the right one.\n"
    "Exit status: 0 measured, 1 could not measure, 2 wrong options.";

struct Settings {
  std::uint32_t rounds = 9;
  double seconds = 0.5;
  bool quick = false;
  bool list = false;
  std::string filter = ".*";
  std::string json;
};

// All that takes part, ready to start.
struct Arena {
  DataSet small = make_data_set(0, kKeys, kHotKeys, kSmallBytes);
  DataSet large = make_data_set(1, kLargeKeys, kLargeKeys, kLargeBytes);
  std::optional<BenchServer> server;
  std::unique_ptr<Ours> ours;
  std::unique_ptr<Ours> ours_large;
  std::optional<BenchServer> tls_server;
  std::unique_ptr<Ours> ours_tls;
  std::optional<HiredisConnection> hiredis;

  Result<void> open() {
    server.emplace(BenchServer::Wire::kPlain);
    tls_server.emplace(BenchServer::Wire::kTls);
    if (auto filled = tls_server->fill(small); !filled) return filled.error();
    for (const DataSet* data : {&small, &large}) {
      if (auto filled = server->fill(*data); !filled) return filled.error();
    }
    auto opened = Ours::open(server->url(small), small);
    if (!opened) return opened.error();
    ours = *std::move(opened);
    opened = Ours::open(server->url(large), large);
    if (!opened) return opened.error();
    ours_large = *std::move(opened);
    opened = Ours::open(tls_server->url(small), small);
    if (!opened) return opened.error();
    ours_tls = *std::move(opened);
    auto connection = HiredisConnection::open(server->port(), small);
    if (!connection) return connection.error();
    hiredis = *std::move(connection);
    return {};
  }
};

void add_pipelined_tasks(std::vector<Task>& tasks, Arena& arena) {
  const Yardstick yardstick{&arena.small, 8, 64};
  const std::string reference = "redis_benchmark";
  const auto add = [&](Row row, One run) {
    if (row.name != reference) row.yardstick = reference;
    tasks.push_back(single(std::move(row), std::move(run)));
  };
  add({reference, yardstick.command_line()},
      [&arena, yardstick](Duration time) { return arena.server->run_for(yardstick, time); });
  add({.name = "get512_1thread",
       .about = "one thread outside the loop: two Pipelines of 256 in flight",
       .figure = "l2_get512_1outside_vs_redis_benchmark"},
      [&arena](Duration time) {
        return arena.ours->get_by_threads(1, kInFlight, Handover::kTogether, time);
      });
  add({.name = "get512_2threads",
       .about =
           "two threads on one client: each submits a Pipeline of 256 when the last is answered",
       .figure = "l2_get512_2threads_vs_redis_benchmark"},
      [&arena](Duration time) {
        return arena.ours->get_by_threads(2, kInFlight, Handover::kTogether, time);
      });
  add({.name = "get512_1thread_single", .about = "as get512_1thread, each GET submitted by itself"},
      [&arena](Duration time) {
        return arena.ours->get_by_threads(1, kInFlight, Handover::kSingly, time);
      });
  add({.name = "get512_2threads_single",
       .about = "as get512_2threads, each GET submitted by itself"},
      [&arena](Duration time) {
        return arena.ours->get_by_threads(2, kInFlight, Handover::kSingly, time);
      });
  add({.name = "get512_coroutines",
       .about = "512 coroutines on the loop thread, one GET after the other in each",
       .figure = "l2_get512_coroutines_vs_redis_benchmark"},
      [&arena](Duration time) { return arena.ours->get_by_coroutines(kInFlight, time); });
  add({.name = "get512_callbacks",
       .about = "one thread, the loop's: 512 in flight, each callback submits the next",
       .figure = "l2_get512_1thread_vs_redis_benchmark"},
      [&arena](Duration time) { return arena.ours->get_by_callbacks(kInFlight, time); });
  add({.name = "hiredis_pipeline512",
       .about = "hiredis, blocking: 512 GETs appended, then 512 replies read"},
      [&arena](Duration time) { return arena.hiredis->get_by_pipelines(kInFlight, time); });
  for (const std::size_t in_flight :
       {std::size_t{512}, std::size_t{128}, std::size_t{32}, std::size_t{8}}) {
    const std::string count = std::to_string(in_flight);
    if (in_flight != kInFlight) {
      add({.name = "get" + count + "_1thread", .about = "as get512_1thread, up to " + count},
          [&arena, in_flight](Duration time) {
            return arena.ours->get_by_threads(1, in_flight, Handover::kTogether, time);
          });
    }
    add({.name = "hiredis_async" + count,
         .about = "hiredis on libuv: " + count + " in flight, each callback submits the next"},
        [&arena, in_flight](Duration time) {
          return hiredis_get_by_callbacks(arena.server->port(), arena.small, in_flight, time);
        });
  }
}

void add_large_tasks(std::vector<Task>& tasks, Arena& arena) {
  const Yardstick yardstick{&arena.large, 8, kLargeInFlight / 8};
  const std::string reference = "redis_benchmark_16k";
  tasks.push_back(single({reference, yardstick.command_line()}, [&arena, yardstick](Duration time) {
    return arena.server->run_for(yardstick, time);
  }));
  tasks.push_back(single({.name = "get64_16k_1thread",
                          .about = "values of 16 KiB; as get512_1thread, up to 64",
                          .yardstick = reference},
                         [&arena](Duration time) {
                           return arena.ours_large->get_by_threads(1, kLargeInFlight,
                                                                   Handover::kTogether, time);
                         }));
  tasks.push_back(single({.name = "hiredis_async64_16k",
                          .about = "values of 16 KiB; as hiredis_async512, with 64",
                          .yardstick = reference},
                         [&arena](Duration time) {
                           return hiredis_get_by_callbacks(arena.server->port(), arena.large,
                                                           kLargeInFlight, time);
                         }));
}

void add_tls_tasks(std::vector<Task>& tasks, Arena& arena) {
  const Yardstick yardstick{&arena.small, 8, 64};
  const std::string reference = "redis_benchmark_tls";
  tasks.push_back(single(
      {reference, yardstick.command_line() + " --tls"},
      [&arena, yardstick](Duration time) { return arena.tls_server->run_for(yardstick, time); }));
  tasks.push_back(single({.name = "get512_1thread_tls",
                          .about = "as get512_1thread, over TLS",
                          .yardstick = reference},
                         [&arena](Duration time) {
                           return arena.ours_tls->get_by_threads(1, kInFlight, Handover::kTogether,
                                                                 time);
                         }));
}

void add_blocking_tasks(std::vector<Task>& tasks, Arena& arena) {
  tasks.push_back(
      {{{.name = "get1",
         .about = "one blocking GET at a time",
         .yardstick = "hiredis_get1",
         .figure = "l2_get1_latency_vs_hiredis_sync"},
        {.name = "hiredis_get1", .about = "the same by hiredis: they alternate, 100 GETs each"}},
       [&arena](Duration time) {
         return take_turns(
             arena.small,
             [&arena](std::size_t key, Mistake& it) { return arena.ours->get(key, it); },
             [&arena](std::size_t key, Mistake& it) { return arena.hiredis->get(key, it); },
             kGetsInTurn, time);
       }});
  tasks.push_back({{{.name = "mget1000",
                     .about = "one MGET of 1000 keys at a time, blocking",
                     .yardstick = "hiredis_mget1000",
                     .figure = "l2_mget1000_vs_hiredis"},
                    {.name = "hiredis_mget1000",
                     .about = "the same by hiredis: they alternate, 10 MGETs each"}},
                   [&arena](Duration time) {
                     return take_turns(
                         arena.small,
                         [&arena](std::size_t, Mistake& it) { return arena.ours->mget(it); },
                         [&arena](std::size_t, Mistake& it) { return arena.hiredis->mget(it); },
                         kMgetsInTurn, time);
                   }});
  tasks.push_back(single(
      {.name = "blocking512",
       .about = "512 threads on one client, one blocking GET at a time in each",
       .yardstick = "hiredis_blocking512",
       .figure = "l2_blocking512_vs_hiredis_threads"},
      [&arena](Duration time) { return arena.ours->get_by_blocking(kBlockingThreads, time); }));
  tasks.push_back(single({.name = "hiredis_blocking512",
                          .about = "the same by hiredis, with a connection for each thread"},
                         [&arena](Duration time) {
                           return hiredis_get_by_threads(arena.server->port(), arena.small,
                                                         kBlockingThreads, time);
                         }));
}

std::vector<Task> all_tasks(Arena& arena) {
  std::vector<Task> tasks;
  add_pipelined_tasks(tasks, arena);
  add_large_tasks(tasks, arena);
  add_tls_tasks(tasks, arena);
  add_blocking_tasks(tasks, arena);
  return tasks;
}

int fail(const std::string& why) {
  fmt::print(stderr, "l2_bench: {}\n", why);
  return 1;
}

int run(const Settings& settings, const std::regex& filter) {
  Arena arena;
  std::vector<Task> tasks = wanted(all_tasks(arena), filter);
  std::vector<Row> rows;
  for (const Task& task : tasks) rows.insert(rows.end(), task.rows.begin(), task.rows.end());
  if (settings.list && !rows.empty()) {
    for (const Row& row : rows) fmt::print("{:<22} {}\n", row.name, row.about);
    return 0;
  }
  if (rows.empty()) {
    fmt::print(stderr, "--filter: no row has '{}' in its name; --list shows them\n",
               settings.filter);
    return kExitWrongOptions;
  }
  if (auto opened = arena.open(); !opened) return fail(opened.error().to_string());

  Rounds rounds{std::move(rows)};
  const auto turn =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(settings.seconds));
  if (auto measured = measure(tasks, settings.rounds, turn, rounds); !measured) {
    return fail(measured.error().to_string());
  }
  for (auto* server : {&*arena.server, &*arena.tls_server}) {
    if (auto hit = server->check_that_all_hit(); !hit) return fail(hit.error().to_string());
  }

  const auto machine = describe_machine(*arena.server);
  print_machine(machine);
  rounds.print_table();
  fmt::print("\n");
  std::fflush(stdout);
  rounds.print_figures();
  print_figure("l2_cpu_ns_per_op", rounds.cpu_ns_per_operation("get512_callbacks"));
  print_figure("l2_cpu_ns_per_op_1outside", rounds.cpu_ns_per_operation("get512_1thread"));
  if (settings.json.empty()) return 0;
  std::ofstream out{settings.json};
  out << nlohmann::json{{"machine", machine}, {"rounds", rounds.to_json()}}.dump(1) << '\n';
  out.close();
  return out ? 0 : fail(settings.json + " cannot be written");
}

// Before minutes of work, not after them. Leaves what is in the file as it is.
std::string check_writable(const std::string& path) {
  if (std::ofstream{path, std::ios::app}) return {};
  return "cannot write '" + path + "'";
}

// CLI::Range lets a NaN through.
std::string check_seconds(const std::string& text) {
  double value = 0;
  if (!CLI::detail::lexical_cast(text, value)) return "'" + text + "' is not a number";
  if (value >= 0.05 && value <= 60) return {};
  return "'" + text + "' is not in the range 0.05 to 60";
}

void add_options(CLI::App& app, Settings& settings) {
  auto* rounds = app.add_option("--rounds", settings.rounds, "How often each takes its turn")
                     ->check(CLI::Range(1U, 1000U))
                     ->capture_default_str();
  auto* seconds = app.add_option("--seconds", settings.seconds, "How long a turn is")
                      ->check(check_seconds)
                      ->capture_default_str();
  app.add_flag("--quick", settings.quick, "A smoke test: 3 rounds of 0.1 s")
      ->excludes(rounds)
      ->excludes(seconds);
  app.add_option("--filter", settings.filter,
                 "Only rows in whose name this regular expression is found, and the rows that "
                 "they are compared with")
      ->check(check_regex)
      ->capture_default_str();
  app.add_flag("--list", settings.list, "Only list the rows");
  app.add_option("--json", settings.json, "Write what was measured in each round to this file")
      ->check(check_writable);
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  Settings settings;
  CLI::App app{kAbout, "l2_bench"};
  add_options(app, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitWrongOptions;
  }
  if (settings.quick) {
    settings.rounds = 3;
    settings.seconds = 0.1;
  }
  return run(settings, std::regex{settings.filter});
}
