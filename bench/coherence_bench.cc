// How fresh is what L1 answers, what does that cost the server, and what does a failover do to it?
// See --help, and docs/bench/coherence.md.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "coherence_cost.h"
#include "coherence_failover.h"
#include "coherence_invalidate.h"
#include "coherence_load.h"
#include "coherence_near_cache.h"
#include "figures.h"
#include "parts.h"
#include "support/redis_server.h"

namespace tiercel::bench {
namespace {

constexpr int kExitWrongOptions = 2;

constexpr const char* kAbout =
    "Measures how stale the reads of a fleet are under foreign writes, how long an invalidation\n"
    "takes, what a write costs the server, and how L1 comes through a failover; with "
    "redis-servers\n"
    "and Sentinels of its own on loopback. Prints tables and a line `figure NAME VALUE` for each\n"
    "goal. docs/bench/coherence.md says what they mean.\n"
    "Exit status: 0 measured, 1 could not measure, 2 wrong options.";

const std::vector<std::string> kParts{"staleness", "invalidate", "cost", "failover"};

struct Settings {
  std::vector<std::string> parts = kParts;
  bool quick = false;
  double seconds = 12;  // Of the first row of `staleness`; the others take two thirds of it.
  NearCacheSettings near_cache{};
  InvalidateSettings invalidate{};
  CostSettings cost{};
  FailoverSettings failover{};
  std::uint32_t failovers = 5;        // With short periods of the Sentinels,
  std::uint32_t stock_failovers = 3;  // and with their own.
};

using Figures = std::vector<std::pair<std::string, double>>;

// --- staleness

Result<NearCacheResult> print_near_cache(const char* name, const NearCacheSettings& settings) {
  auto result = run_near_cache(settings);
  if (!result) return result;
  const Staleness& found = result->staleness;
  const auto age = [&](double fraction) {
    return found.ages.empty() ? 0 : quantile_ms(found.ages, fraction);
  };
  fmt::print(
      "{:<16} {:>8.0f} {:>6.1f} {:>8.0f} {:>8} {:>8.4f} {:>7.2f} {:>7.2f} {:>8.2f} {:>8.2f} {:>7} "
      "{:>6.2f}\n",
      name, result->reads_per_second, result->l1_percent, result->writes_per_second, found.stale,
      found.stale_percent(), age(0.5), age(0.99), in_ms(found.worst), in_ms(found.worst_at_end),
      found.beyond_bound, result->cores_busy);
  if (settings.reading == Reading::kCoherent) {
    fmt::print("{:<16} at rest, of {} entries in all L1s together, {} differ from Redis\n", "",
               result->audited, result->differing);
  }
  if (result->reads_failed > 0) {
    fmt::print("{:<16} {} reads failed\n", "", result->reads_failed);
  }
  std::fflush(stdout);
  return result;
}

Result<void> measure_staleness(const Settings& settings, Figures& figures) {
  NearCacheSettings row = settings.near_cache;
  fmt::print(
      "staleness: {} instances, {} readers, {:.0f} writes/s, {} keys ({} of them have {:.0f} %), "
      "{} bytes, lease {} ms,\n"
      "each reader {:.0f} reads/s in bursts of {}\n\n"
      "{:<16} {:>8} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>7} {:>6}\n",
      row.instances, row.instances * row.readers_each, row.writes_per_second, row.keys,
      row.hot_keys, 100 * row.hot_fraction, row.value_bytes, row.lease.count(),
      row.reads_per_second, row.burst, "writes by", "reads/s", "L1 %", "writes/s", "stale",
      "stale %", "p50 ms", "p99 ms", "worst ms", "at end", "> lease", "cores");
  const auto seconds = [](double count) {
    return std::chrono::duration_cast<Duration>(std::chrono::duration<double>{count});
  };
  row.duration = seconds(settings.seconds);
  const auto foreign = print_near_cache("foreign", row);
  if (!foreign) return foreign.error();
  row.duration = seconds(settings.seconds * 2 / 3);
  row.writing = Writing::kThroughUs;
  const auto through_us = print_near_cache("Tiercel", row);
  if (!through_us) return through_us.error();
  row.writing = Writing::kForeign;
  row.reading = Reading::kTtlOnly;
  const auto ttl_only =
      print_near_cache(fmt::format("foreign, TTL {} s", row.ttl.count() / 1000).c_str(), row);
  if (!ttl_only) return ttl_only.error();
  fmt::print("\n");
  figures.emplace_back("near_cache_stale_pct", foreign->staleness.stale_percent());
  figures.emplace_back("near_cache_stale_beyond_bound",
                       static_cast<double>(foreign->staleness.beyond_bound));
  figures.emplace_back("near_cache_worst_age_ms", in_ms(foreign->staleness.worst));
  figures.emplace_back("near_cache_l1_pct", foreign->l1_percent);
  figures.emplace_back("near_cache_own_writes_stale_pct", through_us->staleness.stale_percent());
  figures.emplace_back("near_cache_ttl_only_stale_pct", ttl_only->staleness.stale_percent());
  return {};
}

// --- invalidate

Result<void> measure_invalidate(const Settings& settings, Figures& figures) {
  InvalidateSettings row = settings.invalidate;
  fmt::print(
      "invalidate: {} instances, {} writes; from the acknowledgement to the last L1, ms\n\n"
      "{:<16} {:>8} {:>8} {:>8} {:>8}\n",
      row.instances, row.writes, "writes by", "p50", "p99", "worst", "refusals");
  for (const auto& [name, writing] :
       {std::pair{"Tiercel", Writing::kThroughUs}, std::pair{"foreign", Writing::kForeign}}) {
    row.writing = writing;
    const auto result = run_invalidate(row);
    if (!result) return result.error();
    fmt::print("{:<16} {:>8.3f} {:>8.3f} {:>8.3f} {:>8}\n", name, quantile_ms(result->times, 0.5),
               quantile_ms(result->times, 0.99), quantile_ms(result->times, 1),
               result->lease_refusals);
    std::fflush(stdout);
    if (writing == Writing::kThroughUs) {
      figures.emplace_back("invalidate_p50_ms", quantile_ms(result->times, 0.5));
      figures.emplace_back("invalidate_p99_ms", quantile_ms(result->times, 0.99));
    } else {
      figures.emplace_back("invalidate_foreign_p99_ms", quantile_ms(result->times, 0.99));
    }
  }
  fmt::print("\n");
  return {};
}

// --- cost

Result<void> measure_cost(const Settings& settings, Figures& figures) {
  fmt::print(
      "cost: the server's CPU time a write of 100 bytes; medians of {} rounds of {} writes\n\n"
      "{:<16} {:>9} {:>9} {:>8} {:>7} {:>13} {:>7}\n",
      settings.cost.rounds, settings.cost.writes, "write", "in flight", "listeners", "us", "ratio",
      "least-most", "batch");
  const auto rows = run_cost(settings.cost);
  if (!rows) return rows.error();
  const std::size_t in_flight = settings.cost.in_flight.back();
  for (const CostRow& row : *rows) {
    const auto [least, most] = std::ranges::minmax(row.ratios);
    fmt::print("{:<16} {:>9} {:>9} {:>8.2f} {:>7.2f} {:>13} {:>7.1f}\n", row.name, row.in_flight,
               row.listeners, median(row.microseconds), median(row.ratios),
               fmt::format("{:.2f}-{:.2f}", least, most), median(row.batches));
    if (row.listeners != 0) continue;
    const std::string which =
        row.in_flight == in_flight ? "" : fmt::format("_{}_in_flight", row.in_flight);
    if (row.name == "set") {
      figures.emplace_back("write_cost_vs_set" + which, median(row.ratios));
    } else if (row.name == "set, no history") {
      figures.emplace_back("write_cost_no_history_vs_set" + which, median(row.ratios));
    }
  }
  fmt::print("\n");
  std::fflush(stdout);
  return {};
}

// --- failover

struct Failovers {
  std::vector<double> hits{};
  std::vector<double> after_promotion{};
  std::vector<double> warm{};  // Of the rounds that lost nothing.
};

Result<void> print_failover(std::uint32_t round, const FailoverSettings& settings,
                            Failovers& failovers) {
  const auto result = run_failover(settings);
  if (!result) return result.error();
  std::string times;
  std::string kept;
  for (const auto& instance : result->instances) {
    failovers.hits.push_back(in_seconds(instance.first_hit));
    failovers.after_promotion.push_back(in_seconds(instance.first_hit - result->promoted));
    if (result->writes_lost == 0) failovers.warm.push_back(instance.warm_percent);
    times += fmt::format(" {:.3f}", in_seconds(instance.first_hit));
    kept += fmt::format(" {:.1f}", instance.warm_percent);
  }
  const bool is_short = settings.periods == FailoverSettings::Periods::kShort;
  fmt::print("{:>5} {:<10}{:>9.3f} {:>24}{:>25} {:>7} {:>5}\n", round,
             is_short ? "short" : "their own", in_seconds(result->promoted), times, kept,
             result->writes_acknowledged, result->writes_lost);
  std::fflush(stdout);
  return {};
}

Result<void> measure_failover(const Settings& settings, Figures& figures) {
  FailoverSettings row = settings.failover;
  fmt::print(
      "failover: {} instances with {} entries in L1 each, {:.0f} writes/s each, down-after {} "
      "ms\n\n"
      "{:>5} {:<10}{:>9} {:>24}{:>25} {:>7} {:>5}\n",
      row.instances, row.entries, row.writes_per_second, row.down_after.count(), "round",
      "Sentinels", "master s", "L1 answers after, s", "entries kept, %", "writes", "lost");
  Failovers with_short;
  Failovers with_their_own;
  for (std::uint32_t i = 0; i < std::max(settings.failovers, settings.stock_failovers); ++i) {
    using Periods = FailoverSettings::Periods;
    row.periods = Periods::kShort;
    if (i < settings.failovers) {
      if (auto done = print_failover(i + 1, row, with_short); !done) return done;
    }
    row.periods = Periods::kTheirOwn;
    if (i < settings.stock_failovers) {
      if (auto done = print_failover(i + 1, row, with_their_own); !done) return done;
    }
  }
  fmt::print("\n");
  const auto add = [&](const char* name, const std::vector<double>& samples, auto choose) {
    if (!samples.empty()) figures.emplace_back(name, choose(samples));
  };
  const auto most = [](const auto& samples) { return std::ranges::max(samples); };
  const auto least = [](const auto& samples) { return std::ranges::min(samples); };
  add("first_l1_hit_after_kill_s", with_short.hits, most);
  add("first_l1_hit_after_kill_median_s", with_short.hits, median);
  add("first_l1_hit_after_kill_stock_sentinel_s", with_their_own.hits, most);
  add("first_l1_hit_after_kill_stock_sentinel_median_s", with_their_own.hits, median);
  add("first_l1_hit_after_promotion_median_s", with_short.after_promotion, median);
  add("warm_after_failover_pct", with_short.warm, least);
  add("warm_after_failover_stock_sentinel_pct", with_their_own.warm, least);
  return {};
}

int run(const Settings& settings) {
  if (!testing::RedisServer::available()) {
    fmt::print(stderr, "{}\n", testing::RedisServer::unavailable_message());
    return 1;
  }
  Figures figures;
  if (!measure_parts<Settings, Figures>(settings, figures,
                                        {{"staleness", measure_staleness},
                                         {"invalidate", measure_invalidate},
                                         {"cost", measure_cost},
                                         {"failover", measure_failover}})) {
    return 1;
  }
  for (const auto& [name, value] : figures) fmt::print("figure {} {:.4g}\n", name, value);
  return 0;
}

void add_options(CLI::App& app, Settings& settings) {
  app.add_option("--parts", settings.parts, "Only these: staleness, invalidate, cost, failover")
      ->delimiter(',')
      ->check(CLI::IsMember(kParts));
  app.add_flag("--quick", settings.quick, "A smoke test: a minute");
  app.add_option("--seconds", settings.seconds, "How long `staleness` reads")
      ->check(CLI::Range(0.5, 600.0))
      ->capture_default_str();
  app.add_option("--reads", settings.near_cache.reads_per_second, "Of each reader, a second")
      ->check(CLI::Range(1.0, 100'000.0))
      ->capture_default_str();
  app.add_option("--burst", settings.near_cache.burst, "Reads of a reader between two sleeps")
      ->check(CLI::Range(1U, 10'000U))
      ->capture_default_str();
  app.add_option("--invalidations", settings.invalidate.writes, "Writes of `invalidate`")
      ->check(CLI::Range(10U, 1'000'000U))
      ->capture_default_str();
  app.add_option("--rounds", settings.cost.rounds, "How often each takes its turn in `cost`")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  app.add_option("--writes", settings.cost.writes, "Of each such turn")
      ->check(CLI::Range(100U, 10'000'000U))
      ->capture_default_str();
  app.add_option("--failovers", settings.failovers, "Rounds of `failover`")
      ->check(CLI::Range(0U, 1000U))
      ->capture_default_str();
  app.add_option("--stock-failovers", settings.stock_failovers,
                 "Such rounds with Sentinels at their own periods")
      ->check(CLI::Range(0U, 1000U))
      ->capture_default_str();
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  Settings settings;
  CLI::App app{kAbout, "coherence_bench"};
  add_options(app, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitWrongOptions;
  }
  if (settings.quick) {
    settings.seconds = 1.5;
    settings.invalidate.writes = 200;
    settings.cost.rounds = 1;
    settings.cost.writes = 5000;
    settings.failovers = 1;
    settings.stock_failovers = 0;
  }
  return run(settings);
}
