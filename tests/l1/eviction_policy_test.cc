// The cache with the adaptive eviction policy: all that it promises with LRU, and what the policy
// is for.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "entry.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kKiB = 1024;

std::unique_ptr<LruCache> adaptive_cache(std::size_t capacity, std::size_t stripes = 1,
                                         const Clock& clock = Clock::system()) {
  return make_cache({.capacity_bytes_max = capacity,
                     .stripes = stripes,
                     .eviction = Eviction::kAdaptive,
                     .huge_pages = false,
                     .hash_seed = 7,
                     .clock = &clock});
}

std::string key_of(std::uint64_t number) { return "key:" + std::to_string(number); }

// Reads, and puts in what was missed, as a user would; true for a hit.
bool use(LruCache& cache, const std::string& key, const std::string& value) {
  if (has(cache, key)) return true;
  EXPECT_TRUE(cache.insert(key, value));
  return false;
}

// ---------------------------------------------------------------- what LRU promises, too

struct Known {
  std::string value;
  TimePoint expires_at;
  std::uint64_t generation;
};

class RandomRun {
 public:
  RandomRun(std::uint64_t seed, std::size_t capacity, std::size_t stripes)
      : random_(seed),
        cache_(adaptive_cache(capacity, stripes, clock_)),
        small_bytes_max_(std::max<std::size_t>(300, capacity / 1000)),
        keys_(8 * capacity / small_bytes_max_),
        pins_(8) {}

  void step() {
    const std::uint64_t dice = random_.below(1000);
    // A few keys are used much more often than others.
    const std::string key = key_of(random_.below(random_.below(2) == 0 ? keys_ / 20 + 1 : keys_));
    if (dice < 400) {
      insert(key);
    } else if (dice < 800) {
      check_hit(key, read(*cache_, key));
    } else if (dice < 860) {
      (void)cache_->erase(key);
      known_.erase(key);
    } else if (dice < 940) {
      Handle& pin = pins_[random_.below(pins_.size())];
      pin = cache_->pin(key);
      if (pin) check_hit(key, std::string{pin.value()});
    } else if (dice < 970) {
      clock_.advance(milliseconds{random_.below(40)});
    } else {
      sweep();
    }
    const Stats stats = cache_->stats();
    ASSERT_LE(stats.bytes_charged, cache_->capacity_bytes_max());
    ASSERT_TRUE(counters_balance(stats));
  }
  [[nodiscard]] LruCache& cache() { return *cache_; }

 private:
  void insert(const std::string& key) {
    const bool large = random_.below(100) == 0;
    const std::size_t size =
        random_.below(large ? cache_->entry_bytes_max() / 2 : small_bytes_max_);
    Known known{.value = std::string(size, static_cast<char>('a' + random_.below(26))),
                .expires_at = TimePoint::max(),
                .generation = cache_->generation()};
    if (random_.below(4) == 0) known.expires_at = clock_.now() + milliseconds{random_.below(1000)};
    if (!cache_->insert(key, known.value, {.expires_at = known.expires_at})) {
      // The pins part a small stripe into pieces.
      ASSERT_TRUE(large);
      ASSERT_FALSE(has(*cache_, key));
      known_.erase(key);
      return;
    }
    known_[key] = known;
    ASSERT_EQ(has(*cache_, key), known.expires_at > clock_.now());
  }

  void check_hit(const std::string& key, const std::optional<std::string>& value) {
    if (!value) return;
    const auto found = known_.find(key);
    ASSERT_NE(found, known_.end()) << key;
    ASSERT_EQ(*value, found->second.value);
    ASSERT_EQ(found->second.generation, cache_->generation());
    ASSERT_GT(found->second.expires_at, clock_.now());
  }

  void sweep() {
    const std::uint64_t before = cache_->stats().entries;
    const std::size_t removed = cache_->sweep(50);
    ASSERT_LE(removed, 50U);
    ASSERT_EQ(cache_->stats().entries, before - removed);
  }

  ManualClock clock_;
  Random random_;
  const std::unique_ptr<LruCache> cache_;
  const std::size_t small_bytes_max_;  // Of most values.
  const std::uint64_t keys_;
  std::map<std::string, Known> known_;  // What was put in last, and not erased since.
  std::vector<Handle> pins_;
};

// The policy's memory grows on the way, and is part of what is charged.
TEST(EvictionPolicy, AnswersAreRightAndTheBudgetIsKeptAtEachStep) {
  for (const std::size_t capacity : {64 * kKiB, 100 * kKiB, 400 * kKiB, 2048 * kKiB}) {
    for (const std::size_t stripes : {1U, 4U}) {
      SCOPED_TRACE(std::to_string(capacity) + " bytes, " + std::to_string(stripes) + " stripes");
      RandomRun run{capacity + stripes, capacity, stripes};
      const int steps = kSanitized ? 10'000 : 60'000;
      for (int step = 0; step < steps; ++step) {
        run.step();
        if (step == steps / 2) run.cache().clear();
        if (step % 1000 == 0) {
          ASSERT_TRUE(run.cache().check());
        }
        if (HasFatalFailure()) FAIL() << "at step " << step;
      }
      ASSERT_TRUE(run.cache().check());
      const Stats stats = run.cache().stats();
      EXPECT_GT(stats.hits, 1000U);
      EXPECT_GT(stats.evicted_capacity, 200U);
      EXPECT_GT(stats.evicted_expired, 20U);
      EXPECT_GT(stats.evicted_cleared, 50U);
    }
  }
}

TEST(EvictionPolicy, ItsMemoryIsCharged) {
  const auto lru = make_cache({.capacity_bytes_max = 4096 * kKiB, .stripes = 1});
  const auto adaptive = adaptive_cache(4096 * kKiB);
  for (const auto& cache : {lru.get(), adaptive.get()}) {
    for (std::uint64_t i = 0; i < 10'000; ++i)
      ASSERT_TRUE(cache->insert(key_of(10'000 + i), "value"));
  }
  ASSERT_GE(adaptive->stats().entries, 9'990U);  // A few buckets of the table were full.
  const std::uint64_t more = adaptive->stats().bytes_charged - lru->stats().bytes_charged;
  EXPECT_GT(more, 40'000U);  // 4 bytes an entry of ghosts and counts.
  EXPECT_LT(more, 90'000U);  // And up to 29 KiB of shadows.
}

TEST(EvictionPolicy, LargeAndSmallEntriesTakeTurns) {
  const auto cache = adaptive_cache(512 * kKiB);
  std::uint64_t next = 1'000'000;
  for (int round = 0; round < 2; ++round) {
    for (const std::size_t size : {4096U, 40U, 100'000U, 0U}) {
      SCOPED_TRACE(size);
      const std::size_t charge = Entry::units_for(11, size, false, false) * 8;
      const std::string value(size, 'v');
      for (std::size_t i = 0; i < 6 * 512 * kKiB / charge; ++i) {
        ASSERT_TRUE(cache->insert(key_of(next++), value));
        if (i % 16 != 0) continue;
        ASSERT_LE(cache->stats().bytes_charged, 512 * kKiB);
      }
      ASSERT_TRUE(cache->check());
      EXPECT_GE(cache->stats().bytes_charged, 512 * kKiB / 10 * 6);
    }
  }
}

// Whatever the policy asks for while the cache is nearly full.
TEST(EvictionPolicy, AFullCacheUsesItsCapacity) {
  const std::string value(1000, 'v');
  for (std::size_t capacity = 100 * kKiB; capacity < 400 * kKiB; capacity += 2 * kKiB) {
    const auto cache = adaptive_cache(capacity);
    for (std::uint64_t i = 0; i < 2000; ++i) ASSERT_TRUE(cache->insert(key_of(i), value));
    // But for a reserve of a sixteenth.
    EXPECT_GE(cache->stats().bytes_charged, capacity / 100 * 92) << capacity;
  }
}

// ---------------------------------------------------------------- each way out

TEST(EvictionPolicy, ClearedEntriesAreGoneAtOnceAndSweptInFull) {
  const auto cache = adaptive_cache(256 * kKiB);
  const std::string value(100, 'v');
  Random random{3};
  // Some of them used, so that they stand on different lists.
  for (std::uint64_t i = 0; i < 20'000; ++i) (void)use(*cache, key_of(random.below(2000)), value);
  const std::uint64_t old_ones = cache->stats().entries;
  cache->clear();
  for (std::uint64_t i = 0; i < 2000; ++i) ASSERT_FALSE(has(*cache, key_of(i)));
  for (std::uint64_t i = 0; i < 300; ++i)
    ASSERT_TRUE(cache->insert("new " + std::to_string(i), value));
  // Cleared ones made room for those; the rest is found by sweeping.
  for (std::uint64_t i = 0; i < 300; ++i) EXPECT_TRUE(has(*cache, "new " + std::to_string(i)));
  (void)cache->sweep(old_ones);
  EXPECT_EQ(cache->stats().entries, 300U);
  EXPECT_EQ(cache->stats().evicted_cleared, old_ones);
  EXPECT_TRUE(cache->check());
}

TEST(EvictionPolicy, ExpiredEntriesAreMissesAndSwept) {
  ManualClock clock;
  const auto cache = adaptive_cache(256 * kKiB, 1, clock);
  const TimePoint soon = clock.now() + milliseconds{100};
  for (std::uint64_t i = 0; i < 200; ++i)
    ASSERT_TRUE(cache->insert(key_of(i), "v", {.expires_at = soon}));
  for (std::uint64_t i = 200; i < 400; ++i) ASSERT_TRUE(cache->insert(key_of(i), "v"));
  clock.advance(milliseconds{200});
  for (std::uint64_t i = 0; i < 400; ++i) EXPECT_EQ(has(*cache, key_of(i)), i >= 200);
  EXPECT_EQ(cache->sweep(1000), 200U);
  EXPECT_EQ(cache->stats().entries, 200U);
  EXPECT_TRUE(cache->check());
}

TEST(EvictionPolicy, WhatIsPinnedIsWorkedAround) {
  const auto cache = adaptive_cache(128 * kKiB);
  std::vector<Handle> pins;
  for (std::uint64_t i = 0; i < 100; ++i) {
    const std::string value = "pinned " + std::to_string(i) + std::string(200, 'p');
    ASSERT_TRUE(cache->insert(key_of(i), value));
    pins.push_back(cache->pin(key_of(i)));
    ASSERT_TRUE(pins.back());
  }
  for (std::uint64_t i = 0; i < 5000; ++i) {
    ASSERT_TRUE(cache->insert(key_of(1000 + i), std::string(200, 'v')));
    ASSERT_LE(cache->stats().bytes_charged, 128 * kKiB);
  }
  for (std::size_t i = 0; i < pins.size(); ++i) {
    EXPECT_EQ(pins[i].value(), "pinned " + std::to_string(i) + std::string(200, 'p'));
  }
  EXPECT_TRUE(cache->check());
  pins.clear();
  for (std::uint64_t i = 0; i < 100; ++i) (void)cache->erase(key_of(i));
  for (std::uint64_t i = 0; i < 100; ++i) EXPECT_FALSE(has(*cache, key_of(i)));
  EXPECT_TRUE(cache->check());
}

// ---------------------------------------------------------------- what it is for

struct Hits {
  std::size_t hot = 0;
  std::size_t all = 0;
};

// 300 hot keys, each used once a round, and 1,200 keys between two rounds that never come again.
Hits hot_keys_under_scans(LruCache& cache) {
  const std::string value(500, 'v');
  Hits hits;
  std::uint64_t fresh = 1'000'000;
  for (int round = 0; round < 100; ++round) {
    for (std::uint64_t i = 0; i < 300; ++i) {
      const bool hit = use(cache, key_of(i), value);
      if (round < 20) continue;  // It may learn first.
      hits.hot += hit ? 1 : 0;
      ++hits.all;
    }
    for (std::uint64_t i = 0; i < 1200; ++i) (void)use(cache, key_of(fresh++), value);
  }
  return hits;
}

TEST(EvictionPolicy, ScansDoNotWashOutWhatIsHot) {
  const auto lru = make_cache(
      {.capacity_bytes_max = 512 * kKiB, .stripes = 1, .huge_pages = false, .hash_seed = 7});
  EXPECT_EQ(hot_keys_under_scans(*lru).hot, 0U);
  const auto adaptive = adaptive_cache(512 * kKiB);
  const Hits hits = hot_keys_under_scans(*adaptive);
  EXPECT_GT(hits.hot, hits.all / 2) << "of " << hits.all;
  EXPECT_TRUE(adaptive->check());
}

std::size_t hits_in_a_loop(LruCache& cache, std::size_t keys) {
  const std::string value(500, 'v');
  std::size_t hits = 0;
  for (std::size_t i = 0; i < 100 * keys; ++i) hits += use(cache, key_of(i % keys), value) ? 1 : 0;
  return hits;
}

TEST(EvictionPolicy, ALoopALittleLongerThanTheCacheHits) {
  constexpr std::size_t kCapacity = 128 * kKiB;
  constexpr std::size_t kKeys = 300;  // Of which about 200 fit.
  const auto lru = make_cache(
      {.capacity_bytes_max = kCapacity, .stripes = 1, .huge_pages = false, .hash_seed = 7});
  EXPECT_EQ(hits_in_a_loop(*lru, kKeys), 0U);
  const auto adaptive = adaptive_cache(kCapacity);
  EXPECT_GT(hits_in_a_loop(*adaptive, kKeys), 100 * kKeys / 4);
}

// ---------------------------------------------------------------- threads

// A value that shows whose it is and whether it is whole.
std::string value_of(std::uint64_t number) {
  return std::string(number % 300, static_cast<char>('a' + number % 26)) + std::to_string(number);
}

void work(LruCache& cache, std::uint64_t seed, std::atomic<std::uint64_t>& wrong) {
  Random random{seed};
  std::array<Handle, 3> pins;
  const int steps = kSanitized ? 15'000 : 60'000;
  for (int step = 0; step < steps; ++step) {
    const std::uint64_t number = random.below(random.below(2) == 0 ? 100 : 3000);
    const std::string key = key_of(number);
    const std::uint64_t dice = random.below(1000);
    if (dice < 850) {
      if (const auto value = read(cache, key)) {
        wrong += *value == value_of(number) ? 0 : 1;
      } else {
        wrong += cache.insert(key, value_of(number)) ? 0 : 1;
      }
    } else if (dice < 900) {
      Handle& pin = pins[random.below(pins.size())];
      pin = cache.pin(key);
      if (pin) wrong += pin.value() == value_of(number) ? 0 : 1;
    } else if (dice < 940) {
      (void)cache.erase(key);
    } else if (dice < 998) {
      wrong += cache.stats().bytes_charged <= cache.capacity_bytes_max() ? 0 : 1;
    } else if (random.below(10) == 0) {
      cache.clear();
    } else {
      (void)cache.sweep(100);
    }
  }
}

TEST(EvictionPolicy, ThreadsGetRightAnswersWithinTheBudget) {
  for (const std::size_t stripes : {1U, 4U}) {
    const auto cache = adaptive_cache(400 * kKiB, stripes);
    std::atomic<std::uint64_t> wrong{0};
    {
      std::vector<std::jthread> threads;
      for (std::uint64_t id = 0; id < 4; ++id) {
        threads.emplace_back([&, id] { work(*cache, id, wrong); });
      }
    }
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_TRUE(cache->check());
    EXPECT_TRUE(counters_balance(cache->stats()));
    EXPECT_GT(cache->stats().evicted_capacity, 100U);
  }
}

}  // namespace
}  // namespace tiercel::l1
