// The embedded default: no Redis, the same API.

#include <set>

#include "cache_fixture.h"

namespace tiercel::testing {
namespace {

TEST(LocalCache, StoresReadsAndForgets) {
  const auto cache = open_cache({});
  EXPECT_EQ(described(cache->get("k")), "(absent)");
  EXPECT_EQ(described(cache->try_get("k")), "(none)");

  const auto first = cache->set("k", "one");
  ASSERT_TRUE(first);
  EXPECT_EQ(described(cache->get("k")), "one@l1");
  EXPECT_EQ(described(cache->try_get("k")), "one@l1");

  const auto second = cache->set("k", "two");
  ASSERT_TRUE(second);
  EXPECT_GT(second->version, first->version);
  const auto found = cache->try_get("k");
  ASSERT_TRUE(found);
  EXPECT_EQ(found->version(), second->version);
  EXPECT_EQ(found->age_bound(), Duration{0});

  EXPECT_TRUE(cache->invalidate("k"));
  EXPECT_EQ(described(cache->get("k")), "(absent)");
}

TEST(LocalCache, HoldsAnyBytes) {
  const auto cache = open_cache({});
  const std::string key("\0\xff key\n", 7);
  const std::string value("\0\0\xf1TCL", 6);
  ASSERT_TRUE(cache->set(key, value));
  ASSERT_TRUE(cache->set("", ""));
  EXPECT_EQ(read_value(*cache, key), value);
  EXPECT_EQ(read_value(*cache, ""), "");
}

TEST(LocalCache, LeaseIsLocalAndAlwaysHeld) {
  const auto cache = open_cache({});
  EXPECT_TRUE(cache->wait_until_ready(1ms));
  const LeaseInfo lease = cache->lease();
  EXPECT_TRUE(lease.held);
  EXPECT_EQ(lease.mode, LeaseMode::kLocal);
  EXPECT_EQ(lease.remaining, std::chrono::milliseconds::max());
}

TEST(LocalCache, EntriesExpireOnTheGivenClock) {
  ManualClock clock;
  const auto cache = open_cache({.ttl = 1000ms, .ttl_jitter = 0.0, .clock = &clock});
  ASSERT_TRUE(cache->set("policy", "v"));
  ASSERT_TRUE(cache->set("own", "v", {.ttl = 10ms}));
  clock.advance(9ms);
  EXPECT_EQ(described(cache->try_get("own")), "v@l1");
  clock.advance(1ms);
  EXPECT_EQ(described(cache->try_get("own")), "(none)");
  clock.advance(989ms);
  EXPECT_EQ(described(cache->try_get("policy")), "v@l1");
  clock.advance(1ms);
  EXPECT_EQ(described(cache->try_get("policy")), "(none)");
}

TEST(LocalCache, WithoutATtlNothingExpires) {
  ManualClock clock;
  const auto cache = open_cache({.ttl = std::nullopt, .clock = &clock});
  ASSERT_TRUE(cache->set("k", "v"));
  clock.advance(std::chrono::hours{24 * 365 * 50});
  EXPECT_EQ(described(cache->try_get("k")), "v@l1");
}

// Jitter only shortens, by no more than its fraction, and spreads over all of it.
TEST(LocalCache, JitterSpreadsExpiry) {
  ManualClock clock;
  const auto cache = open_cache({.ttl = 1000ms, .ttl_jitter = 0.5, .clock = &clock, .seed = 42});
  constexpr int kKeys = 1000;
  for (int i = 0; i < kKeys; ++i) ASSERT_TRUE(cache->set(std::to_string(i), "v"));
  const auto alive = [&] {
    int count = 0;
    for (int i = 0; i < kKeys; ++i) count += cache->try_get(std::to_string(i)).has_value();
    return count;
  };
  clock.advance(499ms);
  EXPECT_EQ(alive(), kKeys);
  int before = kKeys;
  for (int step = 0; step < 5; ++step) {
    clock.advance(100ms);
    const int now = alive();
    EXPECT_NEAR(before - now, kKeys / 5, kKeys / 15) << step;
    before = now;
  }
  clock.advance(2ms);
  EXPECT_EQ(alive(), 0);
}

TEST(LocalCache, ValuesOutliveEvictionAndTheCache) {
  auto cache = open_cache({});
  ASSERT_TRUE(cache->set("k", std::string(1000, 'x')));
  const auto value = cache->try_get("k");
  ASSERT_TRUE(value);
  ASSERT_TRUE(cache->invalidate("k"));
  cache.reset();
  EXPECT_EQ(value->bytes(), std::string(1000, 'x'));
}

TEST(LocalCache, TooLargeForL1IsRefusedAndLeavesNothingOld) {
  const auto cache = open_cache({.l1_capacity_bytes_max = std::size_t{1} << 20, .l1_stripes = 4});
  ASSERT_TRUE(cache->set("k", "small"));
  const auto refused = cache->set("k", std::string(std::size_t{1} << 20, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(described(cache->get("k")), "(absent)");
}

TEST(LocalCache, BadArgumentsAreRefusedWithTheLimit) {
  const auto cache = open_cache({.value_bytes_max = 10});
  const std::string long_key(kKeyBytesMax + 1, 'k');
  EXPECT_EQ(code_of(cache->get(long_key)), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(cache->get("k", {.timeout = 0ms})), ErrorCode::kInvalidArgument);
  EXPECT_EQ(code_of(cache->get("k", {.timeout = 2h})), ErrorCode::kInvalidArgument);
  const auto too_large = cache->set("k", "12345678901");
  ASSERT_FALSE(too_large);
  EXPECT_THAT(too_large.error().message, ::testing::HasSubstr("value_bytes_max is 10"));
  EXPECT_FALSE(cache->set("k", "v", {.ttl = 0ms}));
  EXPECT_FALSE(cache->set(long_key, "v"));
  EXPECT_FALSE(cache->invalidate(long_key));
}

TEST(LocalCache, GetManyAnswersEachKeyInOrder) {
  const auto cache = open_cache({});
  ASSERT_TRUE(cache->set("a", "1"));
  ASSERT_TRUE(cache->set("c", "3"));
  const std::vector<std::string_view> keys{"a", "b", "c", "a"};
  const auto results = cache->get_many(keys);
  ASSERT_EQ(results.size(), 4U);
  EXPECT_EQ(described(results[0]), "1@l1");
  EXPECT_EQ(described(results[1]), "(absent)");
  EXPECT_EQ(described(results[2]), "3@l1");
  EXPECT_EQ(described(results[3]), "1@l1");
  EXPECT_TRUE(cache->get_many({}).empty());
}

TEST(LocalCache, CountsWhoAnswered) {
  const auto cache = open_cache({});
  ASSERT_TRUE(cache->set("k", "v"));
  (void)cache->get("k");
  (void)cache->get("missing");
  (void)cache->get("loaded", {.loader = [](std::string_view) { return Loaded{"x"}; }});
  const CacheStats stats = cache->stats();
  EXPECT_EQ(stats.reads_l1, 1U);
  EXPECT_EQ(stats.reads_absent, 1U);
  EXPECT_EQ(stats.reads_loader, 1U);
  EXPECT_EQ(stats.loads, 1U);
  EXPECT_EQ(stats.writes_acknowledged, 1U);
  EXPECT_EQ(stats.reads_waiting, 0U);
  EXPECT_EQ(stats.l1.entries, 2U);
}

}  // namespace
}  // namespace tiercel::testing
