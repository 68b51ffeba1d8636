// Invariants: whatever an answer touches lives until the last answer has come, which every
// measurement waits for.

#include "fill_rate.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <chrono>
#include <deque>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <regex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "coherence_load.h"
#include "in_flight.h"
#include "l2_server.h"
#include "l2_work.h"
#include "tiercel/cache/cache.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

using Bytes = serialization::BytesCodec;
using Space = Keyspace<Bytes>;

constexpr std::size_t kValueBytes = 100;
constexpr std::size_t kKeys = 20'000;
constexpr std::size_t kHotKeys = 61;
constexpr std::size_t kInFlight = 512;
constexpr std::size_t kBatch = 64;                    // Keys of a get_many,
constexpr std::size_t kBatches = kInFlight / kBatch;  // by so many threads.
// Some thousand entries, in the order in which they are asked for.
constexpr std::size_t kSmallL1Bytes = std::size_t{256} << 10;
constexpr std::size_t kSmallL1Stripes = 4;
constexpr double kFromL1Max = 0.001;  // Of the reads that Redis is to answer.
constexpr std::chrono::milliseconds kReadMax = 30s;

std::string text_of(const Space::FindResult& found) {
  if (!found) return found.error().to_string();
  if (!*found) return "no such entry";
  return std::string{to_string((*found)->value().tier())} + " answered";
}

class Arena {
 public:
  Result<void> open() {
    if (auto filled = server_.fill(yardstick_data_); !filled) return filled;
    auto opened = open_cache({.name_space = kNamespace,
                              .redis_url = server_.url(),
                              .l1_capacity_bytes_max = kSmallL1Bytes,
                              .l1_stripes = kSmallL1Stripes});
    if (!opened) return opened.error();
    cache_ = *std::move(opened);
    // Of the same name: the same entries.
    if (auto made = make(fetched_, {.name = "hit"}); !made) return made;
    const auto refuse = [](std::string_view, const Space::Old&) {
      return Space::Loaded{internal("a load of what Redis has")};
    };
    auto made = make(hit_, {.name = "hit", .loader = refuse});
    if (!made) return made;
    made = make(latest_, {.name = "latest", .loader = refuse});
    if (!made) return made;
    made = make(missed_, {.name = "miss", .loader = [this](std::string_view key, const auto&) {
                            return load(key);
                          }});
    if (!made) return made;
    made = make(missed_together_, {.name = "miss_together",
                                   .batch_loader = [this](std::span<const std::string_view> keys) {
                                     std::vector<Space::Loaded> loaded;
                                     loaded.reserve(keys.size());
                                     for (const auto key : keys) loaded.push_back(load(key));
                                     return loaded;
                                   }});
    if (!made) return made;
    if (auto stored = store(*hit_, kKeys); !stored) return stored;
    return store(*latest_, kHotKeys);
  }

  Result<Measurement> run_yardstick(Duration time) { return server_.run_for(yardstick_, time); }
  [[nodiscard]] std::string yardstick_line() const { return yardstick_.command_line(); }

  Result<Measurement> fetch(Duration time) { return run_chains(time, hits_of(*fetched_)); }
  Result<Measurement> hit(Duration time) { return run_chains(time, hits_of(*hit_)); }
  Result<Measurement> hit_latest(Duration time) {
    ReadsOf reads = hits_of(*latest_);
    reads.options.freshness = Freshness::latest();
    reads.keys = kHotKeys;
    return run_chains(time, reads);
  }
  Result<Measurement> hit_by_coroutines(Duration time);
  Result<Measurement> hit_together(Duration time) { return run_together(time, hits_of(*hit_)); }
  Result<Measurement> miss(Duration time) { return run_chains(time, misses_of(*missed_)); }
  Result<Measurement> miss_together(Duration time) {
    return run_together(time, misses_of(*missed_together_));
  }

  [[nodiscard]] nlohmann::json describe() { return describe_machine(server_); }

 private:
  // What the chains of a measurement read, and what is right.
  struct ReadsOf {
    const Space& space;
    Tier tier;
    std::size_t keys = kKeys;  // Goes round so many; 0: a new one each time.
    ReadOptions options{.timeout = kReadMax};
  };
  class Chain;

  static Result<void> make(std::optional<Space>& space, Space::Options options, Cache& cache) {
    auto made = Space::open(cache, std::move(options));
    if (!made) return made.error();
    space.emplace(*std::move(made));
    return {};
  }
  Result<void> make(std::optional<Space>& space, Space::Options options) {
    return make(space, std::move(options), *cache_);
  }
  static ReadsOf hits_of(const Space& space) { return {.space = space, .tier = Tier::kL2}; }
  static ReadsOf misses_of(const Space& space) {
    return {.space = space, .tier = Tier::kLoader, .keys = 0};
  }

  // The first so many keys, by writes that leave together.
  Result<void> store(const Space& space, std::size_t keys) const {
    Mistake mistake;
    for (std::size_t first = 0; first < keys; first += kInFlight) {
      const std::size_t end = std::min(first + kInFlight, keys);
      Countdown left{end - first};
      for (std::size_t key = first; key < end; ++key) {
        space.set_async(data_.keys[key], data_.values[key], {.timeout = kReadMax},
                        [&](const WriteResult& written) {
                          if (!written) mistake.note(written.error().to_string());
                          left.done();
                        });
      }
      left.wait();
    }
    const auto stored = mistake.unless_made({});
    return stored ? Result<void>{} : Result<void>{stored.error()};
  }

  [[nodiscard]] Space::Loaded load(std::string_view key) const {
    std::uint64_t number = 0;
    std::from_chars(key.data(), key.data() + key.size(), number);
    return Space::Load{data_.values[number % kKeys]};
  }

  // Of those that go round all keys each goes on where the last one stopped.
  std::uint64_t next(const ReadsOf& reads) {
    auto& number = reads.keys == kKeys ? round_ : other_;
    return number.fetch_add(1, std::memory_order_relaxed);
  }

  // Of the answer to the read of this number.
  bool check(const ReadsOf& reads, std::uint64_t number, const Space::FindResult& found,
             Mistake& mistake) {
    const bool is_from_l1 = found && *found && (*found)->value().tier() == Tier::kL1;
    if (is_from_l1 && reads.tier == Tier::kL2) {
      from_l1_.fetch_add(1, std::memory_order_relaxed);
    } else if (!found || !*found || (*found)->value().tier() != reads.tier) {
      mistake.note("read " + std::to_string(number) + ": " + text_of(found));
      return false;
    }
    if ((*found)->value().version() == 0) {
      mistake.note("what was loaded was not stored");
      return false;
    }
    const std::size_t key = number % (reads.keys == 0 ? kKeys : reads.keys);
    return mistake.check(data_, key, (*found)->view());
  }

  // L1 evicts what was not asked for longest by and large: an entry may outlive a round.
  Result<Measurement> judged(const Measurement& measurement, Mistake& mistake) {
    const auto from_l1 = static_cast<double>(from_l1_.exchange(0));
    if (from_l1 > measurement.operations * kFromL1Max) {
      mistake.note("L1 answered " + std::to_string(from_l1) + " of " +
                   std::to_string(measurement.operations) + " reads");
    }
    return mistake.unless_made(measurement);
  }

  Result<Measurement> run_chains(Duration time, const ReadsOf& reads);
  Result<Measurement> run_together(Duration time, const ReadsOf& reads);

  const DataSet yardstick_data_ = make_data_set(0, kHotKeys, kHotKeys, kValueBytes);
  const DataSet data_ = make_data_set(0, kKeys, kHotKeys, kValueBytes);
  const Yardstick yardstick_{&yardstick_data_, 8, 64};
  BenchServer server_{BenchServer::Wire::kPlain};
  std::atomic<std::uint64_t> from_l1_{0};
  std::atomic<std::uint64_t> round_{0};
  std::atomic<std::uint64_t> other_{0};
  std::unique_ptr<Cache> cache_;
  std::optional<Space> fetched_;  // Without a loader.
  std::optional<Space> hit_;
  std::optional<Space> latest_;
  std::optional<Space> missed_;
  std::optional<Space> missed_together_;
};

// Reads of which each is begun by the answer to the one before.
class Arena::Chain {
 public:
  Chain(Arena& arena, const ReadsOf& reads, Chains& all)
      : arena_(arena), reads_(reads), all_(all) {}

  void submit() {
    number_ = arena_.next(reads_);
    const auto callback = [this](Space::FindResult found) {
      arena_.check(reads_, number_, found, all_.mistake);
      ++answered_;
      if (all_.must_stop()) return all_.running.done();
      submit();
    };
    if (reads_.keys == 0) {
      reads_.space.get_async(number_, reads_.options, callback);
    } else {
      reads_.space.get_async(arena_.data_.keys[number_ % reads_.keys], reads_.options, callback);
    }
  }

  // When all are done.
  [[nodiscard]] std::uint64_t answered() const noexcept { return answered_; }

 private:
  Arena& arena_;
  const ReadsOf& reads_;
  Chains& all_;
  std::uint64_t number_ = 0;
  std::uint64_t answered_ = 0;
};

Result<Measurement> Arena::run_chains(Duration time, const ReadsOf& reads) {
  Chains all{kInFlight, time};
  std::deque<Chain> chains;
  const Stopwatch watch;
  for (std::size_t i = 0; i < kInFlight; ++i) chains.emplace_back(*this, reads, all).submit();
  all.run(time);
  std::uint64_t answered = 0;
  for (const Chain& chain : chains) answered += chain.answered();
  return judged(watch.stop(answered), all.mistake);
}

Result<Measurement> Arena::hit_by_coroutines(Duration time) {
  Chains all{kInFlight, time};
  std::vector<std::uint64_t> answered(kInFlight);
  const ReadsOf what = hits_of(*hit_);
  const auto reads = [&](std::uint64_t& count) -> Detached {
    do {
      const std::uint64_t number = next(what);
      const auto found = co_await hit_->co_get(data_.keys[number % kKeys], what.options);
      check(what, number, found, all.mistake);
      ++count;
    } while (!all.must_stop());
    all.running.done();
  };
  const Stopwatch watch;
  for (std::uint64_t& count : answered) reads(count);
  all.run(time);
  std::uint64_t sum = 0;
  for (const std::uint64_t count : answered) sum += count;
  return judged(watch.stop(sum), all.mistake);
}

Result<Measurement> Arena::run_together(Duration time, const ReadsOf& reads) {
  Mistake mistake;
  std::atomic<bool> stop{false};
  std::array<std::uint64_t, kBatches> answered{};
  std::vector<std::jthread> threads;
  const auto run = [&](std::uint64_t& count) {
    std::vector<std::uint64_t> numbers(kBatch);
    std::vector<std::string> keys(kBatch);
    while (!stop.load(std::memory_order_relaxed) && !mistake.was_made()) {
      for (std::size_t i = 0; i < kBatch; ++i) {
        numbers[i] = next(reads);
        keys[i] =
            reads.keys == 0 ? std::to_string(numbers[i]) : data_.keys[numbers[i] % reads.keys];
      }
      const auto found = reads.space.get_many(std::span<const std::string>{keys}, reads.options);
      for (std::size_t i = 0; i < kBatch; ++i) check(reads, numbers[i], found[i], mistake);
      count += kBatch;
    }
  };
  const Stopwatch watch;
  for (std::uint64_t& count : answered) threads.emplace_back([&] { run(count); });
  std::this_thread::sleep_for(time);
  stop.store(true);
  threads.clear();  // Joins them.
  std::uint64_t sum = 0;
  for (const std::uint64_t count : answered) sum += count;
  return judged(watch.stop(sum), mistake);
}

std::vector<Task> all_tasks(Arena& arena) {
  std::vector<Task> tasks;
  const std::string reference = "redis_benchmark";
  const auto add = [&](Row row, Result<Measurement> (Arena::*run)(Duration)) {
    if (row.name != reference) row.yardstick = reference;
    tasks.push_back(
        single(std::move(row), [&arena, run](Duration time) { return (arena.*run)(time); }));
  };
  add({.name = reference, .about = arena.yardstick_line()}, &Arena::run_yardstick);
  add({.name = "fetch512",
       .about = "reads without a loader: 512 in flight, each callback begins the next"},
      &Arena::fetch);
  add({.name = "hit512",
       .about = "as fetch512, with a loader (which is not called: Redis has the value)",
       .figure = "fill_hit512_vs_redis_benchmark"},
      &Arena::hit);
  add({.name = "hit512_latest",
       .about = "as hit512, with Freshness::latest(), of 61 keys",
       .figure = "fill_hit512_latest_vs_redis_benchmark"},
      &Arena::hit_latest);
  add({.name = "hit512_coroutines", .about = "as hit512, by 512 coroutines on Keyspace::co_get"},
      &Arena::hit_by_coroutines);
  add({.name = "hit512_together",
       .about =
           "as hit512, by 8 threads, one blocking get_many of 64 keys after the other in each"},
      &Arena::hit_together);
  add({.name = "miss512",
       .about = "new keys: lease, instant loader, store-back; 512 in flight as in hit512",
       .figure = "fill_miss512_vs_redis_benchmark"},
      &Arena::miss);
  add({.name = "miss512_together",
       .about = "as miss512, by 8 threads and a batch loader, 64 keys at a time in each"},
      &Arena::miss_together);
  return tasks;
}

}  // namespace

Result<RateResult> run_rates(const RateSettings& settings) {
  Arena arena;
  if (auto opened = arena.open(); !opened) return opened.error();
  std::vector<Task> tasks = wanted(all_tasks(arena), std::regex{settings.filter});
  if (tasks.empty()) return invalid_argument("no row has '" + settings.filter + "' in its name");
  std::vector<Row> rows;
  for (const Task& task : tasks) rows.push_back(task.rows[0]);
  Rounds rounds{std::move(rows)};
  const auto turn =
      std::chrono::duration_cast<Duration>(std::chrono::duration<double>(settings.seconds));
  if (auto measured = measure(tasks, settings.rounds, turn, rounds); !measured) {
    return measured.error();
  }
  return RateResult{std::move(rounds), arena.describe()};
}

}  // namespace tiercel::bench
