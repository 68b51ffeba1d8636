// clear() and sweep(): generations, and memory given back in bounded steps.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <string>

#include "l1_test_support.h"

namespace tiercel::l1 {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

void fill(LruCache& cache, int count, TimePoint expires_at = TimePoint::max()) {
  for (int i = 0; i < count; ++i) {
    ASSERT_TRUE(cache.insert(std::to_string(i), "value", {.expires_at = expires_at}));
  }
}

TEST(LruCacheClear, KillsAllEntriesByMovingTheGeneration) {
  const auto cache = make_cache({});
  fill(*cache, 1000);
  const Handle before = cache->find("7");
  const std::uint64_t generation = cache->generation();
  const Stats full = cache->stats();
  EXPECT_EQ(full.entries, 1000U);

  cache->clear();
  EXPECT_EQ(cache->generation(), generation + 1);
  EXPECT_NE(before.generation(), cache->generation());
  // Nothing was walked: the entries still stand, dead, until something meets them.
  EXPECT_EQ(cache->stats().entries, 1000U);
  EXPECT_EQ(cache->stats().bytes_charged, full.bytes_charged);

  for (int i = 0; i < 500; ++i) EXPECT_FALSE(cache->find(std::to_string(i)));
  EXPECT_EQ(cache->stats().entries, 500U);
  EXPECT_EQ(cache->stats().evicted_cleared, 500U);
  EXPECT_FALSE(cache->erase("600"));  // It was gone already.
  EXPECT_FALSE(cache->erase_older("601", 1));
  ASSERT_TRUE(cache->insert("602", "new"));
  EXPECT_EQ(cache->find("602").value(), "new");
  EXPECT_EQ(cache->find("602").generation(), generation + 1);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_cleared, 503U);
  EXPECT_EQ(stats.replaced, 0U);
  EXPECT_EQ(stats.evicted_erased, 0U);
  EXPECT_TRUE(counters_balance(stats));
}

TEST(LruCacheClear, RoomIsMadeFromDeadEntriesFirst) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  int count = 0;
  while (cache->stats().evicted_capacity == 0) {
    ASSERT_TRUE(cache->insert(std::to_string(count++), "value"));
  }
  cache->clear();
  const std::uint64_t evicted = cache->stats().evicted_capacity;
  for (int i = 0; i < count / 2; ++i) ASSERT_TRUE(cache->insert("new" + std::to_string(i), "v"));
  EXPECT_EQ(cache->stats().evicted_capacity, evicted);
  EXPECT_GT(cache->stats().evicted_cleared, 0U);
  for (int i = 0; i < count / 2; ++i) EXPECT_TRUE(cache->find("new" + std::to_string(i)));
}

TEST(LruCacheClear, AValueOfAnOlderGenerationIsNotPutIn) {
  const auto cache = make_cache({});
  const std::uint64_t noted = cache->generation();
  ASSERT_TRUE(cache->insert("k", "fetched in time", {.generation = noted}));
  EXPECT_TRUE(cache->find("k"));
  cache->clear();
  // The fetch began before the clear and ended after it.
  EXPECT_TRUE(cache->insert("k", "late", {.generation = noted}));
  EXPECT_FALSE(cache->find("k"));
  // And it does not disturb what is newer.
  ASSERT_TRUE(cache->insert("k", "new"));
  EXPECT_TRUE(cache->insert("k", "late", {.generation = noted}));
  EXPECT_EQ(cache->find("k").value(), "new");
  EXPECT_TRUE(counters_balance(cache->stats()));
}

TEST(LruCacheClear, AGenerationThatHasNotBeenIsRefused) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("k", "old"));
  auto refused = cache->insert("k", "v", {.generation = cache->generation() + 1});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("generation 2"));
  EXPECT_FALSE(cache->find("k"));
  cache->clear();
  EXPECT_FALSE(cache->find("k"));
}

TEST(LruCacheSweep, RemovesExpiredAndClearedEntriesOnly) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const std::uint64_t empty = cache->stats().bytes_charged;
  fill(*cache, 1000, clock.now() + milliseconds{10});
  ASSERT_TRUE(cache->insert("stays", "v", {.expires_at = clock.now() + milliseconds{11}}));
  EXPECT_EQ(cache->sweep(std::numeric_limits<std::size_t>::max()), 0U);
  clock.advance(milliseconds{10});
  EXPECT_EQ(cache->sweep(std::numeric_limits<std::size_t>::max()), 1000U);
  EXPECT_TRUE(cache->find("stays"));
  EXPECT_EQ(cache->stats().evicted_expired, 1000U);

  cache->clear();
  EXPECT_EQ(cache->sweep(std::numeric_limits<std::size_t>::max()), 1U);
  EXPECT_EQ(cache->stats().evicted_cleared, 1U);
  EXPECT_EQ(cache->stats().entries, 0U);
  EXPECT_EQ(cache->stats().bytes_charged, empty);
  EXPECT_EQ(cache->sweep(std::numeric_limits<std::size_t>::max()), 0U);
  EXPECT_EQ(cache->sweep(0), 0U);
}

TEST(LruCacheSweep, WalksNoMoreThanItIsToldAndGoesOnWhereItStopped) {
  ManualClock clock;
  const auto cache = make_cache({.stripes = 8, .clock = &clock});
  fill(*cache, 1000, clock.now() + milliseconds{1});
  clock.advance(milliseconds{1});
  std::size_t removed = 0;
  for (int call = 1; call <= 100; ++call) {
    const std::size_t now_removed = cache->sweep(10);
    EXPECT_EQ(now_removed, 10U) << "in call " << call;
    removed += now_removed;
  }
  EXPECT_EQ(removed, 1000U);
  EXPECT_EQ(cache->sweep(10), 0U);
}

TEST(LruCacheSweep, ReachesEveryStripeThoughOneIsAlwaysInUse) {
  ManualClock clock;
  const auto cache = make_cache({.stripes = 4, .hash_seed = 1, .clock = &clock});
  for (int i = 0; i < 400; ++i) ASSERT_TRUE(cache->insert("live" + std::to_string(i), "v"));
  fill(*cache, 400, clock.now() + milliseconds{1});
  clock.advance(milliseconds{1});
  std::size_t removed = 0;
  // Each step is followed by uses that move live entries ahead of the sweep again. 800 entries are
  // walked one by one; the order of the LRU changes all the time.
  for (int step = 0; step < 1000; ++step) {
    removed += cache->sweep(1);
    for (int i = 0; i < 8; ++i) {
      ASSERT_TRUE(cache->find("live" + std::to_string((step * 8 + i) % 400)));
    }
  }
  EXPECT_EQ(removed, 400U);
  EXPECT_EQ(cache->stats().entries, 400U);
}

TEST(LruCacheSweep, SurvivesTheRemovalOfTheEntryItStoodAt) {
  ManualClock clock;
  const auto cache = make_cache({.stripes = 1, .clock = &clock});
  fill(*cache, 100, clock.now() + milliseconds{1});
  EXPECT_EQ(cache->sweep(10), 0U);  // Stands at "10" now.
  EXPECT_TRUE(cache->erase("10"));
  EXPECT_TRUE(cache->find("11"));  // Becomes the newest.
  clock.advance(milliseconds{1});
  EXPECT_EQ(cache->sweep(89), 89U);  // 12 to 99, then 11.
  EXPECT_EQ(cache->stats().entries, 10U);
  EXPECT_EQ(cache->sweep(10), 10U);
}

}  // namespace
}  // namespace tiercel::l1
