// clear(): generations, and the memory of what was cleared.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "l1_test_support.h"

namespace tiercel::l1 {
namespace {

using testing::HasSubstr;

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

void fill(LruCache& cache, int count) {
  for (int i = 0; i < count; ++i) ASSERT_TRUE(cache.insert(std::to_string(i), "value"));
}

TEST(LruCacheClear, KillsAllEntriesByMovingTheGeneration) {
  const auto cache = make_cache({});
  EXPECT_EQ(cache->generation(), 1U);
  fill(*cache, 1000);
  const Handle before = cache->pin("7");
  const Stats full = cache->stats();
  EXPECT_EQ(full.entries, 1000U);

  cache->clear();
  EXPECT_EQ(cache->generation(), 2U);
  EXPECT_EQ(before.generation(), 1U);
  EXPECT_EQ(before.value(), "value");
  // Nothing was walked: the entries still stand, dead, until something meets them.
  for (int i = 0; i < 500; ++i) EXPECT_FALSE(has(*cache, std::to_string(i)));
  EXPECT_EQ(cache->stats().entries, 1000U);
  EXPECT_EQ(cache->stats().bytes_charged, full.bytes_charged);

  EXPECT_FALSE(cache->erase("600"));  // It was gone already.
  EXPECT_FALSE(cache->erase_older("601", 1));
  ASSERT_TRUE(cache->insert("602", "new"));
  EXPECT_EQ(read(*cache, "602"), "new");
  EXPECT_EQ(cache->pin("602").generation(), 2U);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_cleared, 3U);
  EXPECT_EQ(stats.replaced, 0U);
  EXPECT_EQ(stats.evicted_erased, 0U);
  EXPECT_TRUE(counters_balance(stats));
  EXPECT_TRUE(cache->check());
}

TEST(LruCacheClear, RoomIsMadeFromDeadEntriesFirst) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const std::string value(300, 'v');
  int count = 0;
  while (cache->stats().evicted_capacity == 0) {
    ASSERT_TRUE(cache->insert(std::to_string(count++), value));
  }
  // Used or not makes no difference.
  for (int i = 0; i < count; i += 3) (void)has(*cache, std::to_string(i));
  cache->clear();
  const std::uint64_t evicted = cache->stats().evicted_capacity;
  for (int i = 0; i < count / 2; ++i) ASSERT_TRUE(cache->insert("new" + std::to_string(i), value));
  EXPECT_EQ(cache->stats().evicted_capacity, evicted);
  EXPECT_GT(cache->stats().evicted_cleared, 0U);
  for (int i = 0; i < count / 2; ++i) EXPECT_TRUE(has(*cache, "new" + std::to_string(i)));
  EXPECT_TRUE(counters_balance(cache->stats()));
}

TEST(LruCacheClear, AValueOfAnOlderGenerationIsNotPutIn) {
  const auto cache = make_cache({});
  const std::uint64_t noted = cache->generation();
  ASSERT_TRUE(cache->insert("k", "fetched in time", {.generation = noted}));
  EXPECT_TRUE(has(*cache, "k"));
  cache->clear();
  // The fetch began before the clear and ended after it.
  EXPECT_TRUE(cache->insert("k", "late", {.generation = noted}));
  EXPECT_FALSE(has(*cache, "k"));
  // And it does not disturb what is newer.
  ASSERT_TRUE(cache->insert("k", "new"));
  for (const std::size_t size : {0U, 10U, 100U, 5000U, 50000U}) {
    EXPECT_TRUE(cache->insert("k", std::string(size, 'x'), {.generation = noted}));
    EXPECT_TRUE(cache->insert("k", std::string(size, 'x'), {.generation = 0}));
    EXPECT_EQ(read(*cache, "k"), "new");
  }
  EXPECT_TRUE(counters_balance(cache->stats()));
  EXPECT_TRUE(cache->check());
}

TEST(LruCacheClear, AGenerationThatHasNotBeenIsRefused) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("k", "old"));
  auto refused = cache->insert("k", "v", {.generation = cache->generation() + 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("generation 2"));
  EXPECT_FALSE(has(*cache, "k"));
  cache->clear();
  EXPECT_FALSE(has(*cache, "k"));
}

TEST(LruCacheClear, AVisitAndANestedVisitThatItComesInto) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("a", "1"));
  ASSERT_TRUE(cache->insert("b", "2"));
  EXPECT_TRUE(cache->visit("a", [&](const EntryView& hit) {
    cache->clear();
    EXPECT_EQ(hit.value(), "1");
    EXPECT_EQ(hit.generation(), 1U);  // Shows that it is of before.
    EXPECT_FALSE(has(*cache, "b"));
    EXPECT_FALSE(has(*cache, "a"));
    ASSERT_TRUE(cache->insert("a", "new"));
    EXPECT_EQ(hit.value(), "1");
    EXPECT_EQ(read(*cache, "a"), "new");
  }));
}

TEST(LruCacheClear, DuringGetManyTheRestAreMisses) {
  const auto cache = make_cache({});
  std::vector<std::string> names;
  for (int i = 0; i < 50; ++i) {
    names.push_back(std::to_string(i));
    ASSERT_TRUE(cache->insert(names.back(), "v"));
  }
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  std::size_t calls = 0;
  EXPECT_EQ(cache->get_many(keys,
                            [&](std::size_t index, const EntryView& hit) {
                              EXPECT_EQ(index, calls++);
                              EXPECT_EQ(hit.generation(), 1U);
                              if (index == 9) cache->clear();
                            }),
            10U);
  EXPECT_EQ(calls, 10U);
}

TEST(LruCacheClear, ManyInARowCountEachEntryOnce) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  for (int round = 0; round < 300; ++round) {
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(cache->insert(std::to_string(round % 7 * 10 + i), "value"));
    }
    cache->clear();
    if (round % 3 == 0) (void)cache->sweep(7);
    ASSERT_TRUE(counters_balance(cache->stats()));
  }
  (void)cache->sweep(kAll);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.entries, 0U);
  EXPECT_EQ(stats.evicted_cleared, 300U * 20);
  EXPECT_EQ(stats.evicted_capacity, 0U);
  EXPECT_EQ(cache->generation(), 301U);
  EXPECT_TRUE(cache->check());
}

TEST(LruCacheSweep, RemovesClearedEntriesAndCountsThemAsCleared) {
  ManualClock clock;
  const auto cache = make_cache({.stripes = 4, .clock = &clock});
  fill(*cache, 500);
  const std::chrono::seconds second{1};
  ASSERT_TRUE(cache->insert("timed", "v", {.expires_at = clock.now() + second}));
  cache->clear();
  ASSERT_TRUE(cache->insert("new", "v"));
  ASSERT_TRUE(cache->insert("new and timed", "v", {.expires_at = clock.now() + second}));
  clock.advance(second * 2);
  EXPECT_EQ(cache->sweep(100), 100U);
  EXPECT_EQ(cache->sweep(kAll), 402U);
  EXPECT_EQ(cache->sweep(kAll), 0U);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_cleared, 501U);  // Also the timed one: it was dead before its deadline.
  EXPECT_EQ(stats.evicted_expired, 1U);
  EXPECT_EQ(stats.entries, 1U);
  EXPECT_TRUE(has(*cache, "new"));
  EXPECT_TRUE(cache->check());
}

// Eviction passes over what is pinned; that must not hide it from the sweep.
TEST(LruCacheSweep, FindsClearedEntriesThatWerePinnedWhileOthersWereEvicted) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const std::string value(200, 'v');
  std::vector<Handle> pins;
  int count = 0;
  while (cache->stats().evicted_capacity == 0) {
    const std::string key = std::to_string(count++);
    ASSERT_TRUE(cache->insert(key, value));
    if (count % 5 == 0) pins.push_back(cache->pin(key));
  }
  cache->clear();
  // Half a capacity of new entries, so that eviction has to look at what is dead.
  for (int i = 0; i < count / 2; ++i) ASSERT_TRUE(cache->insert("new" + std::to_string(i), value));
  pins.clear();
  (void)cache->sweep(kAll);
  EXPECT_EQ(cache->stats().entries, static_cast<std::uint64_t>(count / 2));
  for (int i = 0; i < count / 2; ++i) EXPECT_TRUE(has(*cache, "new" + std::to_string(i)));
  EXPECT_TRUE(cache->check());
}

}  // namespace
}  // namespace tiercel::l1
