// What does filling cost: hits that Redis answers, misses, a stampede of a whole fleet, a typed
// hit, and what does a thread notice of all this that only calls try_get? See --help, and
// docs/bench/fill.md.

#include <fmt/core.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "bloom_cost.h"
#include "coherence_load.h"
#include "figures.h"
#include "fill_rate.h"
#include "fill_stampede.h"
#include "fill_tick.h"
#include "fill_typed.h"
#include "l2_tasks.h"
#include "parts.h"
#include "support/redis_server.h"

namespace tiercel::bench {
namespace {

constexpr int kExitWrongOptions = 2;

constexpr const char* kAbout =
    "Measures what filling costs: reads with a loader that Redis answers, and that nobody "
    "answers,\n"
    "beside redis-benchmark; a stampede of a fleet of processes for one cold key; a typed hit; "
    "what\n"
    "a thread that only calls try_get notices of storms and a failover; the Bloom filter. With\n"
    "redis-servers and Sentinels of its own on loopback. Prints tables and a line\n"
    "`figure NAME VALUE` for each goal. docs/bench/fill.md says what they mean.\n"
    "Exit status: 0 measured, 1 could not measure, 2 wrong options.";

const std::vector<std::string> kParts{"rate", "stampede", "typed", "tick", "bloom"};

struct Settings {
  std::vector<std::string> parts = kParts;
  bool quick = false;
  RateSettings rate{};
  StampedeSettings stampede{};
  TypedSettings typed{};
  TickSettings tick{};
  // The larger filters are for ./run bench bloom.
  BloomSettings bloom{.keys_max = 0};
};

struct Results {
  std::vector<std::pair<std::string, double>> figures{};
  std::optional<Rounds> rates{};

  void add(const std::string& name, double value) { figures.emplace_back(name, value); }
};

// --- rate

Result<void> measure_rate(const Settings& settings, Results& results) {
  auto measured = run_rates(settings.rate);
  if (!measured) return measured.error();
  print_machine(measured->machine);
  measured->rounds.print_table();
  fmt::print("\n");
  results.rates = std::move(measured->rounds);
  return {};
}

// --- stampede

Result<void> measure_stampede(const Settings& settings, Results& results) {
  const StampedeSettings& row = settings.stampede;
  fmt::print(
      "stampede: {} processes, {} threads each, ask for one cold key; its load takes {} ms\n\n"
      "{:>5} {:>6} {:>16} {:>23} {:>18}\n",
      row.processes, row.threads, row.load_takes.count(), "round", "loads", "asked within, ms",
      "last served where it", "in the others,");
  fmt::print("{:>5} {:>6} {:>16} {:>23} {:>18}\n", "", "", "", "was loaded, after ms", "after ms");
  const auto rounds = run_stampede(row);
  if (!rounds) return rounds.error();
  std::vector<double> last;
  std::uint64_t loads = 0;
  for (std::size_t i = 0; i < rounds->size(); ++i) {
    const StampedeRound& round = (*rounds)[i];
    fmt::print("{:>5} {:>6} {:>16.2f} {:>23.2f} {:>18.2f}\n", i + 1, round.loads,
               in_ms(round.asked_within), in_ms(round.last_at_home), in_ms(round.last_abroad));
    last.push_back(in_ms(round.last()));
    loads = std::max(loads, round.loads);
  }
  fmt::print("\n");
  results.add("stampede_loads", static_cast<double>(loads));
  results.add("stampede_last_waiter_ms", std::ranges::max(last));
  results.add("stampede_last_waiter_median_ms", median(last));
  return {};
}

// --- typed

Result<void> measure_typed(const Settings& settings, Results& results) {
  const auto rows = run_typed(settings.typed);
  if (!rows) return rows.error();
  fmt::print(
      "typed: a hit in L1 and one field read; medians of {} rounds\n\n{:<16} {:>8} {:>8} {:>13}\n",
      settings.typed.rounds, "", "ns", "ratio", "least-most");
  for (const TypedRow& row : *rows) {
    const auto [least, most] = std::ranges::minmax(row.ratios);
    fmt::print("{:<16} {:>8.1f} {:>8.2f} {:>13}  {}\n", row.name, median(row.nanoseconds),
               median(row.ratios), fmt::format("{:.2f}-{:.2f}", least, most), row.about);
    if (row.name == "capnp") results.add("typed_hit_vs_bytes_hit", median(row.ratios));
    if (row.name == "capnp_string") {
      results.add("typed_hit_string_key_vs_bytes_hit", median(row.ratios));
    }
    if (row.name == "capnp_flat") results.add("typed_flat_hit_vs_bytes_hit", median(row.ratios));
  }
  fmt::print("\n");
  return {};
}

// --- tick

// In us. Of at least one.
double quantile_us(std::vector<std::uint32_t> samples, double fraction) {
  const auto index =
      static_cast<std::ptrdiff_t>(fraction * static_cast<double>(samples.size() - 1));
  std::ranges::nth_element(samples, samples.begin() + index);
  return samples[static_cast<std::size_t>(index)] / 1e3;
}

constexpr std::uint32_t kLongNs = 5000;

void print_tick_phase(const TickPhase& phase) {
  if (phase.wall_ns.empty()) return;
  std::uint64_t over = 0;
  std::uint64_t over_by_itself = 0;
  for (std::size_t i = 0; i < phase.wall_ns.size(); ++i) {
    if (phase.wall_ns[i] <= kLongNs) continue;
    ++over;
    if (phase.cpu_ns[i] > kLongNs) ++over_by_itself;
  }
  const auto of = [](const std::vector<std::uint32_t>& samples, double fraction) {
    return quantile_us(samples, fraction);
  };
  const double seconds = in_seconds(phase.elapsed);
  fmt::print(
      "{:<14} {:>6.1f} {:>8} {:>6.1f} {:>6.2f} {:>6.2f} {:>6.2f} {:>8.2f} {:>8.2f} {:>8.0f} {:>7} "
      "{:>7} {:>8.2f} {:>8.2f} {:>8.0f} {:>8.0f} {:>8.0f}\n",
      phase.name, seconds, phase.wall_ns.size(),
      100.0 * static_cast<double>(phase.hits) / static_cast<double>(phase.wall_ns.size()),
      of(phase.wall_ns, 0.5), of(phase.wall_ns, 0.99), of(phase.wall_ns, 0.999),
      of(phase.wall_ns, 0.9999), of(phase.cpu_ns, 0.999), of(phase.wall_ns, 1), over,
      over_by_itself, of(phase.control_ns, 0.5), of(phase.control_ns, 0.999),
      of(phase.control_ns, 1), static_cast<double>(phase.loads) / seconds,
      static_cast<double>(phase.invalidations) / seconds);
}

Result<void> measure_tick(const Settings& settings, Results& results) {
  fmt::print(
      "tick: a thread that calls try_get {} times, 60 times a second; us; c: the control\n\n"
      "{:<14} {:>6} {:>8} {:>6} {:>6} {:>6} {:>6} {:>8} {:>8} {:>8} {:>7} {:>7} {:>8} {:>8} {:>8} "
      "{:>8} {:>8}\n",
      settings.tick.calls, "phase", "s", "calls", "hit %", "p50", "p99", "p999", "p9999",
      "cpu p999", "max", "> 5 us", "by cpu", "c p50", "c p999", "c max", "loads/s", "writes/s");
  const auto phases = run_tick(settings.tick);
  if (!phases) return phases.error();
  TickPhase storms;
  storms.name = "all storms";
  std::uint64_t locks = 0;
  std::uint64_t allocations = 0;
  std::uint64_t preemptions = 0;
  for (const TickPhase& phase : *phases) {
    print_tick_phase(phase);
    locks += phase.locks;
    allocations += phase.allocations;
    if (!phase.is_storm) continue;
    preemptions += phase.preemptions;
    const auto append = [](auto& all, const auto& more) {
      all.insert(all.end(), more.begin(), more.end());
    };
    append(storms.wall_ns, phase.wall_ns);
    append(storms.cpu_ns, phase.cpu_ns);
    append(storms.control_ns, phase.control_ns);
    storms.hits += phase.hits;
    storms.loads += phase.loads;
    storms.invalidations += phase.invalidations;
    storms.elapsed += phase.elapsed;
  }
  if (storms.wall_ns.empty()) return internal("the thread made no call");
  print_tick_phase(storms);
  fmt::print(
      "\nin the storms the thread was preempted {} times, calls and controls together; "
      "locks {}, allocations {}\n\n",
      preemptions, locks, allocations);
  if (locks + allocations > 0) return internal("try_get took a lock, or allocated");
  results.add("try_get_p999_us", quantile_us(storms.wall_ns, 0.999));
  return {};
}

// --- bloom

Result<void> measure_bloom(const Settings& settings, Results& results) {
  const BloomCost cost = run_bloom(settings.bloom);
  std::printf("\n");
  results.add("bloom_probe_ns", cost.probe_ns);
  results.add("bloom_fpr", cost.false_positive_rate);
  return {};
}

int run(const Settings& settings) {
  if (!testing::RedisServer::available()) {
    fmt::print(stderr, "{}\n", testing::RedisServer::unavailable_message());
    return 1;
  }
  Results results;
  if (!measure_parts<Settings, Results>(settings, results,
                                        {{"rate", measure_rate},
                                         {"stampede", measure_stampede},
                                         {"typed", measure_typed},
                                         {"tick", measure_tick},
                                         {"bloom", measure_bloom}})) {
    return 1;
  }
  if (results.rates) results.rates->print_figures();
  for (const auto& [name, value] : results.figures) print_figure(name, value);
  return 0;
}

void add_options(CLI::App& app, Settings& settings) {
  app.add_option("--parts", settings.parts, "Only these: rate, stampede, typed, tick, bloom")
      ->delimiter(',')
      ->check(CLI::IsMember(kParts));
  app.add_flag("--quick", settings.quick, "A smoke test: half a minute");
  app.add_option("--rounds", settings.rate.rounds, "How often each takes its turn in `rate`")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
  app.add_option("--seconds", settings.rate.seconds, "How long such a turn is")
      ->check(CLI::Range(0.05, 60.0))
      ->capture_default_str();
  app.add_option("--filter", settings.rate.filter,
                 "Only rows of `rate` in whose name this regular expression is found, and "
                 "redis-benchmark")
      ->check(check_regex)
      ->capture_default_str();
  app.add_option("--stampedes", settings.stampede.rounds, "Rounds of `stampede`")
      ->check(CLI::Range(1U, 1000U))
      ->capture_default_str();
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  using namespace tiercel::bench;
  const std::vector<std::string> words{argv + 1, argv + argc};
  if (!words.empty() && words.front() == kStampedeMember) {
    return run_stampede_member({words.begin() + 1, words.end()});
  }
  Settings settings;
  CLI::App app{kAbout, "fill_bench"};
  add_options(app, settings);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitWrongOptions;
  }
  if (settings.quick) {
    settings.rate = {.rounds = 2, .seconds = 0.1};
    settings.stampede.rounds = 2;
    settings.typed = {.rounds = 3, .passes = 10};
    settings.tick.phase = std::chrono::milliseconds{500};
    settings.bloom = BloomSettings::quick();
    settings.bloom.keys_max = 0;
  }
  return run(settings);
}
