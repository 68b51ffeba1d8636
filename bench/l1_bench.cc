// What does L1 cost, beside the caches that others would take? 24-byte keys, 100-byte values.
//
//   hit_*        every get hits; zipf (0.99) and uniform, 100,000 and 1,000,000 entries
//   mix95_*      19 gets, then one put in place of an entry
//   aside_*      100,000 entries of a universe of a million keys: get, and put after a miss, which
//                evicts; so both ways are gone
//   hotkey       all threads get one and the same key
//   getmany32_*  get_many of 32 keys beside 32 times try_get
//   pin_*        a Handle taken and dropped, beside a shared_ptr taken and dropped
//
// Then the tail of a read's latency under writes (`tail`), what an entry costs in memory
// (`memory`), and a line `figure NAME VALUE` for each goal: ratios within this run, larger is
// better, and bytes.
//
// The caches of a group of scenarios live side by side and take turns: each round measures each
// scenario with each cache once, in an order drawn anew, and what counts is the median of the
// rounds. All are asked for the same keys in the same order.
//
// Options: --quick (a smoke test: times are too short to mean anything), --benchmark_filter=REGEX
// over the names above, e.g. 'hit_zipf1M/tiercel' or 'tail'.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "l1_caches.h"
#include "l1_group.h"
#include "l1_keys.h"
#include "l1_memory.h"
#include "l1_report.h"
#include "l1_tail.h"
#include "tiercel/base/check.h"
#include "tiercel/base/clock.h"

namespace tiercel::bench {
namespace {

using benchmark::State;

constexpr std::size_t kSmall = 100'000;
constexpr std::size_t kLarge = 1'000'000;
constexpr std::size_t kAsideUniverse = 1'000'000;
constexpr std::size_t kBatch = 32;
constexpr std::size_t kOpsPerPut = 20;

struct Settings {
  Rounds rounds{.count = 5, .seconds = 0.3};
  std::size_t tail_reads = 5'000'000;
};
constexpr Settings kQuick{.rounds = {.count = 1, .seconds = 0.01}, .tail_reads = 200'000};

// ---------------------------------------------------------------- what is made when first needed

// Made by a run's first thread, before its clock starts; the others wait for it. That thread is the
// process's main one, so all memory comes from malloc's main arena.
template <typename T>
class Lazy {
 public:
  explicit Lazy(std::function<std::unique_ptr<T>()> make) : make_(std::move(make)) {}

  T& get(const State& state) {
    if (state.thread_index() != 0) {
      is_made_.wait(false);
    } else if (!is_made_) {
      made_ = make_();
      is_made_ = true;
      is_made_.notify_all();
    }
    return *made_;
  }

 private:
  std::function<std::unique_ptr<T>()> make_;
  std::unique_ptr<T> made_;
  std::atomic<bool> is_made_{false};
};

template <typename T>
using LazyPtr = std::shared_ptr<Lazy<T>>;

template <typename T>
LazyPtr<T> lazy(std::function<std::unique_ptr<T>()> make) {
  return std::make_shared<Lazy<T>>(std::move(make));
}

// What each thread asks for.
using Draws = std::vector<KeySequence>;

LazyPtr<Draws> draws_of(Distribution distribution, std::size_t universe) {
  return lazy<Draws>([=] {
    auto draws = std::make_unique<Draws>();
    for (std::uint64_t thread = 0; thread < kThreadsMax; ++thread) {
      draws->emplace_back(distribution, universe, thread + 1);
    }
    return draws;
  });
}

template <typename Cache>
void put_number(Cache& cache, std::size_t number) {
  const Key key = make_key(number);
  const Value value = make_value(key);
  TIERCEL_CHECK(cache.put(key.text(), {value.data(), value.size()}));
}

// There is room for a quarter more than is put in, as shards get unequal shares of the keys.
template <typename Cache>
std::unique_ptr<Cache> filled_with(std::size_t entries) {
  auto cache = std::make_unique<Cache>(entries + entries / 4);
  for (const std::uint32_t number : shuffled_numbers(entries)) put_number(*cache, number);
  return cache;
}

// Puts in again what is missing, and returns how many those were. No cache is to be quick by giving
// the wrong answer.
template <typename Cache>
std::size_t put_missing(Cache& cache, std::size_t entries) {
  std::size_t missing = 0;
  for (std::size_t number = 0; number < entries; ++number) {
    const Key key = make_key(number);
    Value out{};
    if (!cache.get(key.text(), out.data())) {
      put_number(cache, number);
      ++missing;
    } else {
      TIERCEL_CHECK(out == make_value(key));
    }
  }
  return missing;
}

// For scenarios in which all must hit. Who lost entries while there was room for them is named.
template <typename Cache>
std::unique_ptr<Cache> holding_all(std::size_t entries) {
  constexpr int kAttemptsMax = 5;
  auto cache = filled_with<Cache>(entries);
  for (int attempt = 0; attempt < kAttemptsMax; ++attempt) {
    const std::size_t missing = put_missing(*cache, entries);
    if (missing == 0) break;
    std::printf("%s lost %zu of %zu entries with room for a quarter more\n", Cache::kName, missing,
                entries);
  }
  return cache;  // What is still missing fails the benchmarks that miss it.
}

// ---------------------------------------------------------------- the loops that are measured

constexpr const char* kMissed = "a miss where all must hit";

// Repeats operation(), which handles `items` entries and says whether all went well; if not, that
// is the end, with the complaint. It is called in one place, so it is compiled into the loop.
template <typename Operation>
void measure(State& state, Operation operation, const char* complaint = kMissed,
             std::size_t items = 1) {
  for (auto _ : state) {
    if (!operation()) {
      state.SkipWithError(complaint);
      break;
    }
  }
  state.SetItemsProcessed(state.iterations() * static_cast<std::int64_t>(items));
}

// For what copies values: operation(out) leaves them in an Out, and the compiler must believe that
// each is looked at.
template <typename Out, typename Operation>
void measure_copies(State& state, Operation operation, const char* complaint = kMissed,
                    std::size_t items = 1) {
  Out out;
  benchmark::DoNotOptimize(out.data());
  const auto copy = [&] {
    const bool is_well = operation(out);
    benchmark::ClobberMemory();
    return is_well;
  };
  measure(state, copy, complaint, items);
}

template <typename Cache>
void hit(State& state, Cache& cache, const KeySequence& keys) {
  std::size_t i = 0;
  measure_copies<Value>(state, [&](Value& out) { return cache.get(keys[i++].text(), out.data()); });
}

template <typename Cache>
void hot_key(State& state, Cache& cache) {
  const Key key = make_key(7);
  measure_copies<Value>(state, [&](Value& out) { return cache.get(key.text(), out.data()); });
}

template <typename Cache>
void mix(State& state, Cache& cache, const KeySequence& keys) {
  const Value value = make_value(keys[0]);
  std::size_t i = 0;
  std::size_t until_put = kOpsPerPut;
  const auto get_or_replace = [&](Value& out) {
    const std::string_view key = keys[i++].text();
    if (--until_put == 0) {
      until_put = kOpsPerPut;
      return cache.put(key, {value.data(), value.size()});
    }
    return cache.get(key, out.data()) || !Cache::kReplaces;
  };
  measure_copies<Value>(state, get_or_replace, "a miss, or a put that was refused");
}

template <typename Cache>
void aside(State& state, Cache& cache, const KeySequence& keys) {
  const Value value = make_value(keys[0]);
  std::size_t i = 0;
  std::int64_t hits = 0;
  measure_copies<Value>(state, [&](Value& out) {
    hits += get_or_put(cache, keys[i++].text(), {value.data(), value.size()}, out.data()) ? 1 : 0;
    return true;
  });
  state.counters["hits"] =
      benchmark::Counter(static_cast<double>(hits) / static_cast<double>(state.iterations()),
                         benchmark::Counter::kAvgThreads);
}

using Batch = std::array<Value, kBatch>;

void get_many(State& state, l1::LruCache& cache, const KeySequence& draws) {
  std::array<std::string_view, kBatch> keys;
  std::size_t next = 0;
  const auto get_batch = [&](Batch& out) {
    for (auto& key : keys) key = draws[next++].text();
    const std::size_t hits = cache.get_many(keys, [&out](std::size_t i, const l1::EntryView& view) {
      copy_value(view.value().data(), out[i].data());
    });
    return hits == kBatch;
  };
  measure_copies<Batch>(state, get_batch, kMissed, kBatch);
}

void get_singly(State& state, TiercelCache& cache, const KeySequence& draws) {
  std::size_t next = 0;
  const auto get_batch = [&](Batch& out) {
    std::size_t hits = 0;
    for (auto& value : out) hits += cache.get(draws[next++].text(), value.data()) ? 1u : 0u;
    return hits == kBatch;
  };
  measure_copies<Batch>(state, get_batch, kMissed, kBatch);
}

void pin(State& state, l1::LruCache& cache, const KeySequence& keys) {
  std::size_t i = 0;
  measure(state, [&] {
    const l1::Handle handle = cache.pin(keys[i++].text());
    if (!handle) return false;
    benchmark::DoNotOptimize(handle.value().data());
    return true;
  });
}

void share(State& state, SharedPtrLruCache& cache, const KeySequence& keys) {
  std::size_t i = 0;
  measure(state, [&] {
    const std::shared_ptr<const std::string> shared = cache.get(keys[i++].text());
    if (!shared) return false;
    benchmark::DoNotOptimize(shared->data());
    return true;
  });
}

// ---------------------------------------------------------------- what is measured together

template <typename... Caches>
struct CacheList {
  template <typename Call>
  static void for_each(Call&& call) {
    (call.template operator()<Caches>(), ...);
  }
};
using AllCaches = CacheList<TiercelCache, MutexLruCache, LevelDbCache, RocksDbLruCache,
                            RocksDbClockCache, TbbLruCache, TbbHashMap>;

const KeySequence& own(const LazyPtr<Draws>& draws, const State& state) {
  return draws->get(state)[static_cast<std::size_t>(state.thread_index())];
}

template <typename Cache>
void add_hits(Group& group, const std::string& scenario, const LazyPtr<Cache>& cache,
              const LazyPtr<Draws>& draws) {
  group.add(scenario, Cache::kName,
            [=](State& state) { hit(state, cache->get(state), own(draws, state)); });
}

void run_small(const Rounds& rounds, MedianReporter& reporter) {
  Group group;
  const auto zipf = draws_of(Distribution::kZipf, kSmall);
  const auto uniform = draws_of(Distribution::kUniform, kSmall);
  AllCaches::for_each([&]<typename Cache>() {
    const auto cache = lazy<Cache>([] { return holding_all<Cache>(kSmall); });
    add_hits(group, "hit_zipf100k", cache, zipf);
    add_hits(group, "hit_uniform100k", cache, uniform);
    group.add("hotkey", Cache::kName, [=](State& state) { hot_key(state, cache->get(state)); });
    if constexpr (std::is_same_v<Cache, TiercelCache>) {
      group.add("pin_zipf100k", "tiercel_pin", 1,
                [=](State& state) { pin(state, cache->get(state).cache(), own(zipf, state)); });
    }
  });
  const auto shared =
      lazy<SharedPtrLruCache>([] { return filled_with<SharedPtrLruCache>(kSmall); });
  group.add("pin_zipf100k", "shared_ptr_lru", 1,
            [=](State& state) { share(state, shared->get(state), own(zipf, state)); });
  group.run(rounds, reporter);
}

void run_large(const Rounds& rounds, MedianReporter& reporter) {
  Group group;
  const auto zipf = draws_of(Distribution::kZipf, kLarge);
  const auto uniform = draws_of(Distribution::kUniform, kLarge);
  AllCaches::for_each([&]<typename Cache>() {
    const auto cache = lazy<Cache>([] { return holding_all<Cache>(kLarge); });
    add_hits(group, "hit_zipf1M", cache, zipf);
    add_hits(group, "hit_uniform1M", cache, uniform);
    if constexpr (!std::is_same_v<Cache, TbbLruCache>) {  // It cannot replace.
      group.add("mix95_zipf1M", Cache::kName,
                [=](State& state) { mix(state, cache->get(state), own(zipf, state)); });
    }
    if constexpr (std::is_same_v<Cache, TiercelCache>) {
      group.add("getmany32_zipf1M", "get_many", 1, [=](State& state) {
        get_many(state, cache->get(state).cache(), own(zipf, state));
      });
      group.add("getmany32_zipf1M", "try_get", 1,
                [=](State& state) { get_singly(state, cache->get(state), own(zipf, state)); });
    }
  });
  group.run(rounds, reporter);
}

// Filled by the traffic itself, before anything is measured.
template <typename Cache>
std::unique_ptr<Cache> warmed_by(const KeySequence& keys) {
  auto cache = std::make_unique<Cache>(kSmall);
  Value out;
  for (std::size_t i = 0; i < KeySequence::kSize; ++i) {
    const Value value = make_value(keys[i]);
    get_or_put(*cache, keys[i].text(), {value.data(), value.size()}, out.data());
  }
  return cache;
}

void run_aside(const Rounds& rounds, MedianReporter& reporter) {
  Group group;
  const KeySequence warm_up{Distribution::kZipf, kAsideUniverse, kThreadsMax + 1};
  const auto zipf = draws_of(Distribution::kZipf, kAsideUniverse);
  AllCaches::for_each([&]<typename Cache>() {
    if constexpr (Cache::kBounded) {
      const auto cache = lazy<Cache>([&warm_up] { return warmed_by<Cache>(warm_up); });
      group.add("aside_zipf100k", Cache::kName,
                [=](State& state) { aside(state, cache->get(state), own(zipf, state)); });
    }
  });
  group.run(rounds, reporter);
}

// ---------------------------------------------------------------- the answers

struct MemoryFigures {
  Overhead plain;
  Overhead with_version_and_deadline;
  Residence residence;
};

MemoryFigures measure_memory() {
  std::fprintf(stderr, "memory …\n");
  constexpr std::size_t kResidenceBytes = std::size_t{256} << 20;
  const l1::EntryMeta versioned{.version = 7,
                                .expires_at = Clock::system().now() + std::chrono::hours{1}};
  // Resident memory first, while the process has not grown by anything else.
  const Residence residence = measure_residence(kResidenceBytes);
  return {.plain = measure_overhead(kLarge, {}),
          .with_version_and_deadline = measure_overhead(kLarge, versioned),
          .residence = residence};
}

double over(std::size_t one, std::size_t other) {
  return static_cast<double>(one) / static_cast<double>(other);
}

void print_memory(const MemoryFigures& memory) {
  const Residence& residence = memory.residence;
  std::printf(
      "\nMemory: %.1f bytes an entry beside key and value, table included (%zu entries in a full\n"
      "cache); with version and deadline %.1f (%zu entries). After churning values of 1 byte to\n"
      "4 KiB through %zu MiB: %.3f of them charged, the process %.3f of them larger.\n",
      memory.plain.bytes, memory.plain.entries, memory.with_version_and_deadline.bytes,
      memory.with_version_and_deadline.entries, residence.capacity_bytes >> 20,
      over(residence.charged_bytes, residence.capacity_bytes),
      over(residence.resident_bytes, residence.capacity_bytes));
}

std::vector<Column> all_columns() {
  std::vector<Column> columns;
  AllCaches::for_each([&]<typename Cache>() {
    columns.push_back({.name = Cache::kName, .is_bounded = Cache::kBounded});
  });
  return columns;
}

void print_figures(const MedianReporter& reporter, const std::optional<MemoryFigures>& memory) {
  const auto columns = all_columns();
  const std::string ours = TiercelCache::kName;
  std::printf("\n");
  for (const std::string scenario :
       {"hit_zipf100k", "hit_zipf1M", "mix95_zipf1M", "aside_zipf100k"}) {
    for (int threads = 1; threads <= kThreadsMax; ++threads) {
      print_figure("l1_" + scenario + "_t" + std::to_string(threads) + "_vs_best_bounded",
                   reporter.vs_best_bounded(scenario, threads, columns, ours));
    }
  }
  print_figure("l1_hotkey_scaling_t2",
               ratio(reporter.median_ns("hotkey", 1, ours), reporter.median_ns("hotkey", 2, ours)));
  print_figure("l1_getmany32_zipf1M_vs_single",
               ratio(reporter.median_ns("getmany32_zipf1M", 1, "try_get"),
                     reporter.median_ns("getmany32_zipf1M", 1, "get_many")));
  print_figure("l1_pin_vs_shared_ptr_lru",
               ratio(reporter.median_ns("pin_zipf100k", 1, "shared_ptr_lru"),
                     reporter.median_ns("pin_zipf100k", 1, "tiercel_pin")));
  if (!memory) return;
  print_figure("l1_overhead_bytes", memory->plain.bytes);
  print_figure("l1_overhead_bytes_with_version_and_deadline",
               memory->with_version_and_deadline.bytes);
  print_figure("l1_rss_over_charged",
               over(memory->residence.resident_bytes, memory->residence.charged_bytes));
}

// Takes --quick out of the arguments.
Settings take_settings(int& argc, char** argv) {
  char** const end = argv + argc;
  char** const kept =
      std::remove_if(argv, end, [](const char* arg) { return std::strcmp(arg, "--quick") == 0; });
  argc = static_cast<int>(kept - argv);
  return kept == end ? Settings{} : kQuick;
}

int run(const Settings& settings) {
  std::optional<MemoryFigures> memory;
  if (is_wanted("memory")) memory = measure_memory();
  MedianReporter reporter;
  run_small(settings.rounds, reporter);
  run_large(settings.rounds, reporter);
  run_aside(settings.rounds, reporter);
  reporter.print_tables(all_columns(), TiercelCache::kName);
  if (is_wanted("tail")) print_tail_latency(settings.tail_reads);
  if (memory) print_memory(*memory);
  if (refusals > 0) {
    std::printf("\n%llu entries were refused\n", static_cast<unsigned long long>(refusals.load()));
  }
  print_figures(reporter, memory);
  return reporter.has_failed() ? 1 : 0;
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  const auto settings = tiercel::bench::take_settings(argc, argv);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  // A second thread that sleeps all the while. In a process that has never had one, locks, malloc
  // and shared_ptr take short cuts which no process with a shared cache can take.
  std::atomic<bool> is_over{false};
  std::thread second{[&is_over] { is_over.wait(false); }};
  const int status = tiercel::bench::run(settings);
  is_over = true;
  is_over.notify_all();
  second.join();
  benchmark::Shutdown();
  return status;
}
