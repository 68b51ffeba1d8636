// What does L1 cost? Hits under a zipf distribution over 100,000 entries, and inserts that evict,
// with 24-byte keys and 100-byte values, by one and by two threads.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/base/random.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {
namespace {

constexpr std::size_t kEntries = 100'000;
constexpr std::size_t kDraws = std::size_t{1} << 20;  // A power of two, walked round and round.
constexpr double kZipfExponent = 0.99;

std::vector<std::string> make_keys(std::size_t count) {
  std::vector<std::string> keys(count);
  for (std::size_t i = 0; i < count; ++i) {
    const std::string number = std::to_string(i);
    keys[i] = "bench:key:" + std::string(14 - number.size(), '0') + number;
  }
  return keys;
}

// Indexes into the keys. Ranks are spread over the numbers, so that neighbours in rank are no
// neighbours in memory.
std::vector<std::uint32_t> zipf_draws(std::uint64_t seed) {
  std::vector<double> cumulated(kEntries);
  double sum = 0;
  for (std::size_t rank = 0; rank < kEntries; ++rank) {
    cumulated[rank] = sum += 1 / std::pow(static_cast<double>(rank + 1), kZipfExponent);
  }
  Random random{seed};
  std::vector<std::uint32_t> draws(kDraws);
  for (auto& draw : draws) {
    const auto rank = static_cast<std::size_t>(
        std::ranges::lower_bound(cumulated, random.unit() * sum) - cumulated.begin());
    draw = static_cast<std::uint32_t>(rank * 40'503 % kEntries);
  }
  return draws;
}

std::unique_ptr<LruCache> make_cache(std::size_t capacity_bytes_max) {
  auto cache = LruCache::create({.capacity_bytes_max = capacity_bytes_max});
  if (!cache) std::abort();
  return *std::move(cache);
}

void hit_zipf100k(benchmark::State& state) {
  static const auto keys = make_keys(kEntries);
  static const auto draws = zipf_draws(1);
  static const auto cache = [] {
    auto filled = make_cache(std::size_t{64} << 20);
    for (const auto& key : keys) {
      if (!filled->insert(key, std::string(100, 'v'))) std::abort();
    }
    return filled;
  }();
  std::size_t i = static_cast<std::size_t>(state.thread_index()) * kDraws / 2;
  for (auto _ : state) {
    const Handle hit = cache->find(keys[draws[i++ % kDraws]]);
    if (!hit) state.SkipWithError("a miss: the cache is too small");
    benchmark::DoNotOptimize(hit.value().data());
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(hit_zipf100k)->ThreadRange(1, 2)->UseRealTime();

// Ten times more keys than fit, in turn: every insert is a new key and evicts an old one.
void insert_evicting(benchmark::State& state) {
  static const auto keys = make_keys(10 * kEntries);
  static const auto cache = make_cache(std::size_t{20} << 20);
  const std::string value(100, 'v');
  std::size_t i = static_cast<std::size_t>(state.thread_index()) * keys.size() / 2;
  for (auto _ : state) {
    if (!cache->insert(keys[i++ % keys.size()], value)) state.SkipWithError("refused");
  }
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(insert_evicting)->ThreadRange(1, 2)->UseRealTime();

}  // namespace
}  // namespace tiercel::l1
