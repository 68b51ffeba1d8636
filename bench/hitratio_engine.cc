#include "hitratio_engine.h"

#include <algorithm>
#include <string_view>

#include "tiercel/base/check.h"

namespace tiercel::bench {
namespace {

constexpr std::size_t kCapacityBytesMin = std::size_t{64} << 10;
constexpr std::size_t kCapacityBytesStep = 64;

struct Shape {
  std::size_t capacity_bytes;
  std::size_t value_bytes;
};

std::unique_ptr<l1::LruCache> make_cache(const Shape& shape, l1::Eviction policy,
                                         std::uint64_t seed = 1) {
  auto cache = l1::LruCache::create({.capacity_bytes_max = shape.capacity_bytes,
                                     .stripes = 1,
                                     .eviction = policy,
                                     .huge_pages = false,
                                     .hash_seed = seed});
  TIERCEL_CHECK(cache);
  return *std::move(cache);
}

std::string_view key_of(const Id& id) { return {reinterpret_cast<const char*>(&id), sizeof id}; }

// How many entries there are after each insert, on average, once the cache is full and all memory
// that the policy wants has been given to it. 0 if an entry is too large.
std::size_t entries_when_full(const Shape& shape, l1::Eviction policy, std::size_t expected) {
  const auto cache = make_cache(shape, policy);
  const std::string value(shape.value_bytes, 'v');
  Id next = 0;
  for (const std::size_t fill = 500 + 5 * expected; next < fill; ++next) {
    if (!cache->insert(key_of(next), value)) return 0;
  }
  constexpr std::size_t kMeasured = 64;
  std::size_t sum = 0;
  for (std::size_t i = 0; i < kMeasured; ++i, ++next) {
    TIERCEL_CHECK(cache->insert(key_of(next), value));
    sum += cache->stats().entries;
  }
  return (sum + kMeasured / 2) / kMeasured;
}

// The smallest capacity at which there are `entries` or more.
std::size_t capacity_bytes_for(std::size_t entries, std::size_t value_bytes, l1::Eviction policy) {
  const auto suffices = [&](std::size_t steps) {
    const Shape shape{steps * kCapacityBytesStep, value_bytes};
    return entries_when_full(shape, policy, entries) >= entries;
  };
  std::size_t low = kCapacityBytesMin / kCapacityBytesStep;
  if (suffices(low)) return low * kCapacityBytesStep;
  std::size_t high = std::max(low, entries * value_bytes / kCapacityBytesStep);
  while (!suffices(high)) high += high / 4;
  while (high - low > 1) {
    const std::size_t middle = low + (high - low) / 2;
    (suffices(middle) ? high : low) = middle;
  }
  return high * kCapacityBytesStep;
}

// With this size of the values or, for very few entries, a larger one, because the cache has at
// least 64 KiB. In the middle between too little and too much.
Shape shape_with(std::size_t value_bytes, std::size_t entries, l1::Eviction policy) {
  while (entries_when_full({kCapacityBytesMin, value_bytes}, policy, entries) > entries) {
    value_bytes += value_bytes / 8;
  }
  const std::size_t least = capacity_bytes_for(entries, value_bytes, policy);
  const std::size_t too_much = capacity_bytes_for(entries + 1, value_bytes, policy);
  const std::size_t middle = least + (too_much - least) / 2;
  return {middle - middle % kCapacityBytesStep, value_bytes};
}

// Values of 1 KB make the table small beside the entries. Where the policy asks for another piece
// of memory just then, a number of entries may be out of reach; then other sizes are tried.
Shape shape_for(std::size_t entries, l1::Eviction policy) {
  constexpr std::size_t kFewEntriesBytes = std::size_t{96} << 10;
  constexpr int kTries = 8;
  std::size_t value_bytes = std::clamp<std::size_t>(kFewEntriesBytes / entries, 1000, 24'000);
  Shape best{};
  std::size_t best_off = entries + 1;
  for (int i = 0; i < kTries && best_off > 0; ++i, value_bytes += value_bytes / 16) {
    const Shape shape = shape_with(value_bytes, entries, policy);
    const std::size_t reached = entries_when_full(shape, policy, entries);
    const std::size_t off = std::max(reached, entries) - std::min(reached, entries);
    if (off < best_off) best = shape;
    best_off = std::min(off, best_off);
  }
  return best;
}

}  // namespace

Engine::Engine(std::size_t entries, l1::Eviction policy, std::uint64_t seed) {
  const Shape shape = shape_for(entries, policy);
  cache_ = make_cache(shape, policy, seed);
  value_.assign(shape.value_bytes, 'v');
}

bool Engine::access(Id id) {
  if (cache_->try_get(key_of(id), {})) return true;
  TIERCEL_CHECK(cache_->insert(key_of(id), value_));
  constexpr std::size_t kInsertsPerCount = 16;
  if (++inserts_ % kInsertsPerCount != 0) return false;
  const l1::Stats stats = cache_->stats();
  if (stats.evicted_capacity == 0) return false;
  sum_ += stats.entries;
  ++counted_;
  return false;
}

std::size_t Engine::entries() const {
  return counted_ == 0 ? cache_->stats().entries : (sum_ + counted_ / 2) / counted_;
}

}  // namespace tiercel::bench
