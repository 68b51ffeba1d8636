#include "l1_tail.h"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "l1_caches.h"
#include "l1_keys.h"

namespace tiercel::bench {
namespace {

constexpr std::size_t kEntries = 100'000;

using SteadyClock = std::chrono::steady_clock;

// What the clock and the machine do to the reader when it reads nothing.
class TimerAlone : public MutexLruCache {
 public:
  static constexpr const char* kName = "(timer alone)";
  using MutexLruCache::MutexLruCache;
  bool get(std::string_view, char*) noexcept { return true; }
};

struct Traffic {
  KeySequence reads{Distribution::kZipf, kEntries, 1};
  KeySequence writes{Distribution::kZipf, kEntries, 2};
  KeySequence fresh = KeySequence::ascending(kEntries);
};

struct Tail {
  std::vector<std::uint32_t> ns;  // Of each read, sorted.
  double hits;                    // Of one read.
  double writes_per_second;
  std::uint64_t refused;

  [[nodiscard]] std::uint32_t at(double quantile) const {
    return ns[static_cast<std::size_t>(quantile * static_cast<double>(ns.size() - 1))];
  }
};

struct Written {
  std::uint64_t operations = 0;
  std::uint64_t refused = 0;
};

// A third each: replaces or puts back, invalidates, evicts (a fresh key into a full cache).
template <typename Cache>
Written write_until(const std::atomic<bool>& stop, Cache& cache, const Traffic& traffic) {
  Written written;
  const Value bytes = make_value(traffic.fresh[0]);
  const std::string_view value{bytes.data(), bytes.size()};
  for (std::size_t i = 0; !stop.load(std::memory_order_relaxed); ++i) {
    if (!cache.put(traffic.writes[2 * i].text(), value)) ++written.refused;
    cache.erase(traffic.writes[2 * i + 1].text());
    if (!cache.put(traffic.fresh[i].text(), value)) ++written.refused;
    written.operations += 3;
  }
  return written;
}

// One look at the clock between any two reads ends the one and begins the other, so each measured
// time contains the cost of one.
template <typename Cache>
std::uint64_t time_reads(Cache& cache, const Traffic& traffic, std::vector<std::uint32_t>& ns) {
  std::uint64_t hits = 0;
  Value out;
  benchmark::DoNotOptimize(out.data());
  auto before = SteadyClock::now();
  for (std::size_t i = 0; i < ns.size(); ++i) {
    if (cache.get(traffic.reads[i].text(), out.data())) ++hits;
    const auto after = SteadyClock::now();
    ns[i] =
        static_cast<std::uint32_t>(std::min<std::int64_t>((after - before).count(), UINT32_MAX));
    before = after;
  }
  return hits;
}

template <typename Cache>
Tail measure_tail(const Traffic& traffic, std::size_t reads) {
  const auto cache = std::make_unique<Cache>(kEntries);
  for (const std::uint32_t number : shuffled_numbers(kEntries)) {
    const Key key = make_key(number);
    const Value value = make_value(key);
    cache->put(key.text(), {value.data(), value.size()});
  }
  std::vector<std::uint32_t> ns(reads, 0);
  std::atomic<bool> stop{false};
  Written written;
  const auto begin = SteadyClock::now();
  std::thread writer{[&] { written = write_until(stop, *cache, traffic); }};
  const std::uint64_t hits = time_reads(*cache, traffic, ns);
  stop.store(true);
  writer.join();
  const std::chrono::duration<double> seconds = SteadyClock::now() - begin;
  std::ranges::sort(ns);
  return {.ns = std::move(ns),
          .hits = static_cast<double>(hits) / static_cast<double>(reads),
          .writes_per_second = static_cast<double>(written.operations) / seconds.count(),
          .refused = written.refused};
}

template <typename Cache>
void print_row(const Traffic& traffic, std::size_t reads) {
  const Tail tail = measure_tail<Cache>(traffic, reads);
  std::printf("%-14s %8u %8u %8u %8u %10u %7.1f %9.2f %8llu\n", Cache::kName, tail.at(0.5),
              tail.at(0.99), tail.at(0.999), tail.at(0.9999), tail.ns.back(), 100 * tail.hits,
              tail.writes_per_second / 1e6, static_cast<unsigned long long>(tail.refused));
}

}  // namespace

void print_tail_latency(std::size_t reads) {
  const Traffic traffic;
  std::printf(
      "\nA read's latency in ns, over %zu reads (zipf, %zu entries) by one thread while another\n"
      "puts, erases and evicts as fast as it can. Each contains one look at the clock.\n"
      "%-14s %8s %8s %8s %8s %10s %7s %9s %8s\n",
      reads, kEntries, "", "p50", "p99", "p99.9", "p99.99", "worst", "hits %", "M writes/s",
      "refused");
  print_row<TimerAlone>(traffic, reads);
  print_row<TiercelCache>(traffic, reads);
  print_row<MutexLruCache>(traffic, reads);
  print_row<LevelDbCache>(traffic, reads);
  print_row<RocksDbLruCache>(traffic, reads);
  print_row<RocksDbClockCache>(traffic, reads);
}

}  // namespace tiercel::bench
