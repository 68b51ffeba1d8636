#include "l1_memory.h"

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "l1_keys.h"
#include "support/resident_memory.h"
#include "tiercel/base/check.h"
#include "tiercel/base/random.h"

namespace tiercel::bench {
namespace {

constexpr std::size_t kFirstGuessBytes = kKeyBytes + kValueBytes + 48;

std::unique_ptr<l1::LruCache> make_cache(std::size_t capacity_bytes) {
  auto cache = l1::LruCache::create({.capacity_bytes_max = capacity_bytes});
  TIERCEL_CHECK(cache);
  return *std::move(cache);
}

// Fresh keys, more than fit: the state in which a cache spends its life.
l1::Stats fill_to_the_brim(std::size_t capacity_bytes, std::size_t entries,
                           const l1::EntryMeta& meta) {
  const auto cache = make_cache(capacity_bytes);
  for (std::size_t number = 0; number < entries + entries / 4; ++number) {
    const Key key = make_key(number);
    const Value value = make_value(key);
    TIERCEL_CHECK(cache->insert(key.text(), {value.data(), value.size()}, meta));
  }
  return cache->stats();
}

}  // namespace

std::size_t tiercel_capacity_bytes(std::size_t entries, const l1::EntryMeta& meta) {
  // Tables grow in steps, so entries are not quite in proportion to bytes: a few guesses are
  // needed, and after a step is met they may not get any better.
  constexpr int kGuessesMax = 4;
  constexpr double kCloseEnough = 0.005;
  std::size_t capacity_bytes = entries * kFirstGuessBytes;
  for (int guess = 0; guess < kGuessesMax; ++guess) {
    const l1::Stats stats = fill_to_the_brim(capacity_bytes, entries, meta);
    const double ratio = static_cast<double>(entries) / static_cast<double>(stats.entries);
    if (std::abs(ratio - 1) < kCloseEnough) break;
    capacity_bytes = static_cast<std::size_t>(static_cast<double>(capacity_bytes) * ratio);
  }
  return capacity_bytes;
}

Overhead measure_overhead(std::size_t entries, const l1::EntryMeta& meta) {
  const l1::Stats stats = fill_to_the_brim(tiercel_capacity_bytes(entries, meta), entries, meta);
  const double charge =
      static_cast<double>(stats.bytes_charged) / static_cast<double>(stats.entries);
  return {.entries = stats.entries, .bytes = charge - (kKeyBytes + kValueBytes)};
}

Residence measure_residence(std::size_t capacity_bytes) {
  constexpr std::size_t kTurnovers = 4;
  constexpr std::size_t kStepBytes = 16;
  constexpr std::size_t kPowersOfTwo = 9;
  const std::string bytes(kStepBytes << (kPowersOfTwo - 1), 'v');
  const std::size_t before = testing::resident_bytes();
  const auto cache = make_cache(capacity_bytes);
  Random random{1};
  for (std::size_t put_bytes = 0; put_bytes < kTurnovers * capacity_bytes;) {
    // As many small ones as large ones: sizes are spread evenly over the powers of two.
    const std::size_t size = (kStepBytes << random.below(kPowersOfTwo)) - random.below(kStepBytes);
    const std::uint64_t universe = capacity_bytes / 256;
    TIERCEL_CHECK(cache->insert(make_key(random.below(universe)).text(), {bytes.data(), size}));
    cache->erase(make_key(random.below(universe)).text());
    put_bytes += size;
  }
  return {.capacity_bytes = capacity_bytes,
          .charged_bytes = cache->stats().bytes_charged,
          .resident_bytes = testing::resident_bytes() - before};
}

}  // namespace tiercel::bench
