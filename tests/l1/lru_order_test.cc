// Which entry leaves: the order by itself, against a list; and what a cache makes of it.

#include "lru_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <numeric>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

// An LruOrder beside the exact times of use.
class OrderUnderTest {
 public:
  explicit OrderUnderTest(std::uint32_t entries_max)
      : memory_(1 + entries_max * kUnits + LruOrder::kSentinelUnits),
        order_(memory_.blocks(), ref(entries_max), clock_),
        used_at_(entries_max, 0) {
    clock_.set(12345);
    for (std::uint32_t i = entries_max; i > 0; --i) unused_.push_back(i - 1);
  }

  void insert() {
    const std::uint32_t i = unused_.back();
    unused_.pop_back();
    make_entry(memory_.blocks(), ref(i), kUnits);
    order_.insert(ref(i));
    used_at_[i] = ++now_;
  }
  // Of the i-th place, if it is in.
  void use(std::uint64_t i) {
    if (used_at_[i] == 0) return;
    LruOrder::use(memory_.blocks()[ref(i)], clock_, order_.window());
    used_at_[i] = ++now_;
  }
  void remove(std::uint64_t i) {
    if (used_at_[i] == 0) return;
    order_.remove(ref(i));
    used_at_[i] = 0;
    unused_.push_back(static_cast<std::uint32_t>(i));
  }
  // How many others were used less recently than the entry that must go; takes that out.
  std::size_t evict() {
    Ref out = order_.victim(1);
    while (out == kNoRef) out = order_.victim(1);
    TIERCEL_CHECK(out != kNoRef);
    const std::uint32_t i = (out - 1) / kUnits;
    const std::uint64_t at = used_at_[i];
    TIERCEL_CHECK(at != 0);
    remove(i);
    return static_cast<std::size_t>(
        std::ranges::count_if(used_at_, [&](auto other) { return other != 0 && other < at; }));
  }
  // The places of all, from old to new.
  [[nodiscard]] std::vector<std::uint32_t> by_age() const {
    std::vector<std::uint32_t> places;
    for (std::uint32_t i = 0; i < used_at_.size(); ++i) {
      if (used_at_[i] != 0) places.push_back(i);
    }
    std::ranges::sort(places, {}, [&](std::uint32_t i) { return used_at_[i]; });
    return places;
  }
  [[nodiscard]] bool is_full() const { return unused_.empty(); }
  LogicalClock& clock() { return clock_; }

 private:
  static constexpr std::uint32_t kUnits = 4;
  static Ref ref(std::uint64_t i) { return static_cast<Ref>(1 + i * kUnits); }

  BlockMemory memory_;
  LogicalClock clock_;
  LruOrder order_;
  std::vector<std::uint32_t> unused_;
  std::vector<std::uint64_t> used_at_;  // By place; 0: not in.
  std::uint64_t now_ = 0;
};

TEST(LruOrder, WithoutUsesItIsExact) {
  for (const std::uint32_t entries : {1U, 2U, 30U, 100U, 256U, 257U, 5000U}) {
    SCOPED_TRACE(std::to_string(entries) + " entries");
    OrderUnderTest order{entries};
    for (std::uint32_t i = 0; i < 5 * entries + 1000; ++i) {
      if (order.is_full()) {
        ASSERT_EQ(order.evict(), 0U) << "in step " << i;
      }
      order.insert();
    }
  }
}

TEST(LruOrder, UpTo64EntriesItIsExact) {
  for (const std::uint32_t entries : {20U, 40U, 64U}) {
    for (const std::uint64_t uses_per_insert : {1U, 3U, 20U}) {
      SCOPED_TRACE(std::to_string(entries) + " entries, " + std::to_string(uses_per_insert) +
                   " uses an insert");
      Random random{entries + uses_per_insert};
      OrderUnderTest order{entries};
      for (int step = 0; step < 5000; ++step) {
        if (random.below(uses_per_insert + 1) > 0) {
          order.use(random.below(entries));
        } else if (random.below(20) == 0) {
          order.remove(random.below(entries));
        } else {
          if (order.is_full()) {
            ASSERT_EQ(order.evict(), 0U) << "in step " << step;
          }
          order.insert();
        }
      }
    }
  }
}

TEST(LruOrder, UpTo64EntriesItIsExactAlsoWhenAllAreUsedBetweenTwoInserts) {
  for (const bool backwards : {false, true}) {
    SCOPED_TRACE(backwards ? "backwards" : "forwards");
    OrderUnderTest order{60};
    while (!order.is_full()) order.insert();
    for (int round = 0; round < 50; ++round) {
      auto places = order.by_age();
      if (backwards) std::ranges::reverse(places);
      for (const std::uint32_t place : places) order.use(place);
      for (int i = 0; i < 10; ++i) {
        ASSERT_EQ(order.evict(), 0U);
        order.insert();
      }
    }
  }
}

// "True to an eighth of the stripe's turnover".
TEST(LruOrder, BeyondThatWhatLeavesIsOfTheOldest) {
  constexpr std::uint32_t kCount = 4000;
  for (const std::uint64_t uses_per_insert : {0U, 1U, 5U, 30U}) {
    SCOPED_TRACE(std::to_string(uses_per_insert) + " uses an insert");
    Random random{uses_per_insert};
    OrderUnderTest order{kCount};
    std::size_t evicted = 0;
    std::size_t wrong = 0;
    for (int step = 0; step < 30'000; ++step) {
      if (order.is_full()) {
        ++evicted;
        wrong += order.evict() > kCount / 4 ? 1 : 0;
      }
      order.insert();
      for (std::uint64_t i = 0; i < uses_per_insert; ++i) {
        // Mostly of a hot tenth, the one or other of any.
        order.use(random.below(random.below(4) == 0 ? kCount : kCount / 10));
      }
    }
    EXPECT_LE(wrong, evicted / 50) << "of " << evicted;
  }
}

// A run of entries that came together and are all hot must not lose one for each few that it keeps.
TEST(LruOrder, ALongRunOfHotEntriesIsSteppedOver) {
  constexpr std::uint32_t kCount = 4000;
  OrderUnderTest order{kCount};
  while (!order.is_full()) order.insert();
  for (std::uint32_t i = 0; i < kCount / 2; ++i) order.use(i);  // The older half.
  std::size_t wrong = 0;
  for (std::uint32_t i = 0; i < kCount / 3; ++i) {
    wrong += order.evict() > kCount / 4 ? 1 : 0;
    order.insert();
  }
  EXPECT_LE(wrong, kCount / 3 / 50);
}

// A reader that stops between its two plain stores puts the clock back by all that came meanwhile.
TEST(LruOrder, AClockThatWasPutBackDoesNotTurnTheOrderAround) {
  constexpr std::uint32_t kCount = 1000;
  OrderUnderTest order{kCount};
  while (!order.is_full()) order.insert();
  order.clock().set(order.clock().now() - 300);
  for (std::uint32_t i = 0; i < kCount / 2; ++i) {
    ASSERT_LE(order.evict(), kCount / 4) << "as victim " << i;
    if (i % 2 == 0) order.insert();
  }
}

// The order of a cache with one small stripe, seen from outside: a miss of a key that was put in
// tells that it was evicted, and then so must all be that were used less recently.
class SmallCache {
 public:
  explicit SmallCache(std::size_t entries)
      : cache_(make_cache({.capacity_bytes_max = 65536, .stripes = 1, .hash_seed = 42})),
        value_((std::size_t{56} << 10) / entries - 44, 'v') {}

  void insert(const std::string& key) {
    ASSERT_TRUE(cache_->insert(key, value_));
    used_at_[key] = ++now_;
  }
  void use(const std::string& key) {
    const auto known = used_at_.find(key);
    if (known == used_at_.end()) return;
    if (!has(*cache_, key)) {
      last_evicted_ = std::max(last_evicted_, known->second);
      used_at_.erase(known);
      return;
    }
    ASSERT_GT(known->second, last_evicted_) << key << " is in, a later used one left";
    known->second = ++now_;
  }
  void erase(const std::string& key) {
    (void)cache_->erase(key);
    used_at_.erase(key);
  }
  // Uses all, the oldest first: that leaves their order as it is.
  void use_all() {
    std::vector<std::pair<std::uint64_t, std::string>> all;
    for (const auto& [key, at] : used_at_) all.emplace_back(at, key);
    std::ranges::sort(all);
    for (const auto& [at, key] : all) use(key);
  }
  [[nodiscard]] std::uint64_t evicted() const { return cache_->stats().evicted_capacity; }
  [[nodiscard]] LruCache& cache() { return *cache_; }

 private:
  const std::unique_ptr<LruCache> cache_;
  const std::string value_;
  std::unordered_map<std::string, std::uint64_t> used_at_;
  std::uint64_t now_ = 0;
  std::uint64_t last_evicted_ = 0;
};

TEST(LruCacheOrder, ASmallStripeEvictsExactlyTheLeastRecentlyUsed) {
  for (const std::size_t entries : {10U, 40U, 60U}) {
    for (const std::uint64_t uses_per_insert : {0U, 1U, 3U, 20U}) {
      SCOPED_TRACE(std::to_string(entries) + " entries, " + std::to_string(uses_per_insert) +
                   " uses an insert");
      Random random{entries + uses_per_insert};
      SmallCache cache{entries};
      const std::uint64_t keys = entries * 3 / 2;
      for (int step = 0; step < 3000 + 1500 * static_cast<int>(uses_per_insert); ++step) {
        const std::string key = std::to_string(random.below(keys));
        if (random.below(uses_per_insert + 1) > 0) {
          cache.use(key);
        } else if (random.below(20) == 0) {
          cache.erase(key);
        } else {
          cache.insert(key);  // Of new ones, and of some that are in: a replacement is a use.
        }
        if (step % 500 == 499) cache.use_all();
        if (HasFatalFailure()) return;
      }
      EXPECT_GT(cache.evicted(), 20U);
      EXPECT_TRUE(cache.cache().check());
    }
  }
}

TEST(LruCacheOrder, UsesCountAlsoWhileThereIsRoom) {
  SmallCache cache{100};
  int count = 0;
  for (; count < 20; ++count) cache.insert(std::to_string(count));
  cache.use("0");  // Now 1 is the least recently used.
  while (cache.evicted() == 0) cache.insert(std::to_string(count++));
  EXPECT_TRUE(has(cache.cache(), "0"));
  EXPECT_FALSE(has(cache.cache(), "1"));
}

// Puts in what `prefix` and a number name until memory is scarce; returns how many.
int fill(LruCache& cache, const std::string& prefix, const std::string& value) {
  const std::size_t full = cache.capacity_bytes_max() - cache.capacity_bytes_max() / 32;
  int count = 0;
  while (cache.stats().bytes_charged < full) {
    TIERCEL_CHECK(cache.insert(prefix + std::to_string(count++), value));
  }
  return count;
}

// A seed of its own: with one in some hundreds the table grows in the midst of the scan, and takes
// the memory of more hot ones.
TEST(LruCacheOrder, AHotTenthSurvivesAScanOfTwiceTheCapacity) {
  const auto cache =
      make_cache({.capacity_bytes_max = std::size_t{4} << 20, .stripes = 2, .hash_seed = 42});
  const std::string value(100, 'v');
  const int count = fill(*cache, "warm", value);
  const int hot = count / 10;
  for (int i = 0; i < hot; ++i) ASSERT_TRUE(cache->insert("hot" + std::to_string(i), value));
  // For each entry of the scan a use of a hot one, in turn: each is used about every tenth of a
  // capacity. A few may leave because the table needs their memory, or their bucket is full.
  int lost = 0;
  for (int i = 0; i < 2 * count; ++i) {
    ASSERT_TRUE(cache->insert("scan" + std::to_string(i), value));
    const std::string key = "hot" + std::to_string(i % hot);
    if (has(*cache, key)) continue;
    ++lost;
    ASSERT_TRUE(cache->insert(key, value));
  }
  EXPECT_LE(lost, hot / 40);
  int warm = 0;
  for (int i = 0; i < count; ++i) warm += has(*cache, "warm" + std::to_string(i)) ? 1 : 0;
  EXPECT_EQ(warm, 0);
  EXPECT_TRUE(cache->check());
}

// Reads all keys in an order that has nothing to do with that of the inserts, with an insert after
// each `reads` of them, then inserts half of a capacity. Of what was read, about the first half
// must go and the other stay; "true to an eighth of the stripe's turnover". Returns which part is
// wrong.
double part_out_of_order(std::size_t reads) {
  const auto cache = make_cache({.capacity_bytes_max = std::size_t{2} << 20, .stripes = 1});
  const std::string value(100, 'v');
  const int count = fill(*cache, "old", value);
  int extra = 0;
  const auto insert_new = [&] {
    TIERCEL_CHECK(cache->insert("new" + std::to_string(extra++), value));
  };
  std::vector<int> keys(static_cast<std::size_t>(count));
  std::iota(keys.begin(), keys.end(), 0);
  Random random{8};
  for (std::size_t i = keys.size(); i > 1; --i) std::swap(keys[i - 1], keys[random.below(i)]);
  std::vector<std::string> read;
  for (const int i : keys) {
    if (!has(*cache, "old" + std::to_string(i))) continue;
    read.push_back("old" + std::to_string(i));
    if (read.size() % reads == 0) insert_new();
  }
  while (extra < count / 2) insert_new();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < read.size(); ++i) {
    const bool in = has(*cache, read[i]);
    const bool early = i < read.size() / 4;
    const bool late = i >= read.size() * 3 / 4;
    wrong += (in && early) || (!in && late) ? 1 : 0;
  }
  TIERCEL_CHECK(cache->check());
  return static_cast<double>(wrong) / static_cast<double>(read.size());
}

TEST(LruCacheOrder, ALargeStripeKeepsWhatWasReadLaterAmidInserts) {
  EXPECT_LT(part_out_of_order(20), 0.02);
}

TEST(LruCacheOrder, ALargeStripeKeepsWhatWasReadLaterAfterALongTimeOfReadsOnly) {
  EXPECT_LT(part_out_of_order(1'000'000'000), 0.02);
}

}  // namespace
}  // namespace tiercel::l1
