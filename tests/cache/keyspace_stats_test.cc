// What a keyspace counts.

#include "tiercel/cache/keyspace_stats.h"

#include <array>
#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

using Texts = Keyspace<serialization::BytesCodec>;

Texts open_texts(Cache& cache, Texts::Options options) {
  auto opened = Texts::open(cache, std::move(options));
  EXPECT_TRUE(opened) << opened.error().to_string();
  return std::move(opened).value();
}

TEST(LoadTimes, EachBucketHoldsUpToItsBound) {
  EXPECT_EQ(LoadTimes::bucket_of(0ns), 0U);
  EXPECT_EQ(LoadTimes::bucket_of(100us), 0U);
  EXPECT_EQ(LoadTimes::bucket_of(100us + 1ns), 1U);
  EXPECT_EQ(LoadTimes::bucket_of(30s), LoadTimes::kBuckets - 2);
  EXPECT_EQ(LoadTimes::bucket_of(30s + 1ns), LoadTimes::kBuckets - 1);
  EXPECT_TRUE(std::ranges::is_sorted(LoadTimes::kUpTo));
}

// Without Redis, on a hand-driven clock that the loader moves by what it "takes".
class KeyspaceStatsTest : public ::testing::Test {
 protected:
  Texts open(FillPolicy policy) {
    policy.ttl_jitter = 0.0;
    return open_texts(*cache_, {.name = "t", .policy = policy, .loader = [this](auto key, auto&) {
                                  return load(key);
                                }});
  }
  Texts::Loaded load(std::string_view key) {
    clock_.advance(took_);
    if (fails_) return unavailable("away");
    if (key == "none") return std::nullopt;
    return Texts::Load{"value"};
  }

  ManualClock clock_;
  std::unique_ptr<Cache> cache_ = open_cache({.clock = &clock_});
  Duration took_{0};
  bool fails_ = false;
};

TEST_F(KeyspaceStatsTest, ReadsByWhatL1Said) {
  const auto texts = open({});
  EXPECT_FALSE(texts.try_get("a"));
  EXPECT_TRUE(texts.get("a"));
  EXPECT_TRUE(texts.try_get("a"));
  EXPECT_TRUE(texts.get("a"));
  EXPECT_TRUE(texts.get("none"));
  EXPECT_TRUE(texts.get("none"));
  const KeyspaceStats stats = texts.stats();
  EXPECT_EQ(stats.hits_l1, 2U);
  EXPECT_EQ(stats.misses, 3U);
  EXPECT_EQ(stats.absent, 1U);
  EXPECT_EQ(stats.hits_l2, 0U);
  EXPECT_EQ(stats.loads, 2U);
}

TEST_F(KeyspaceStatsTest, WithoutALoaderToo) {
  const auto texts = open_texts(*cache_, {.name = "t"});
  EXPECT_TRUE(texts.get("a"));
  ASSERT_TRUE(texts.set("a", "value"));
  EXPECT_TRUE(texts.get("a"));
  EXPECT_EQ(texts.stats().misses, 1U);
  EXPECT_EQ(texts.stats().hits_l1, 1U);
}

TEST_F(KeyspaceStatsTest, HowLongLoadsTook) {
  const auto texts = open({});
  took_ = 2ms;
  EXPECT_TRUE(texts.get("a"));
  EXPECT_TRUE(texts.get("b"));
  took_ = 40s;
  fails_ = true;
  EXPECT_FALSE(texts.get("c"));
  const KeyspaceStats stats = texts.stats();
  EXPECT_EQ(stats.loads, 3U);
  EXPECT_EQ(stats.loads_failed, 1U);
  EXPECT_EQ(stats.load_times.calls(), 3U);
  EXPECT_EQ(stats.load_times.counts[LoadTimes::bucket_of(2ms)], 2U);
  EXPECT_EQ(stats.load_times.counts.back(), 1U);
  EXPECT_EQ(stats.load_times.sum, 40s + 4ms);
}

TEST_F(KeyspaceStatsTest, ABatchIsOneCall) {
  const auto texts = open_texts(
      *cache_, {.name = "t", .batch_loader = [this](std::span<const std::string_view> keys) {
                  clock_.advance(3ms);
                  std::vector<Texts::Loaded> loaded;
                  for (const auto key : keys) loaded.push_back(Texts::Load{std::string{key}});
                  return loaded;
                }});
  const std::array<int, 3> ids{1, 2, 3};
  EXPECT_EQ(texts.get_many(std::span<const int>{ids}).size(), 3U);
  const KeyspaceStats stats = texts.stats();
  EXPECT_EQ(stats.loads, 3U);
  EXPECT_EQ(stats.load_times.calls(), 1U);
  EXPECT_EQ(stats.load_times.sum, 3ms);
}

TEST_F(KeyspaceStatsTest, StaleAnswersWhateverTheWay) {
  const auto texts = open({.ttl = 1s, .stale_max = 1h, .stale_throttle = 5s});
  EXPECT_TRUE(texts.get("a"));
  EXPECT_EQ(texts.stats().stale_served, 0U);
  clock_.advance(2s);
  fails_ = true;
  EXPECT_TRUE((*texts.get("a"))->value().is_stale()) << "the load failed";
  EXPECT_EQ(texts.stats().stale_served, 1U);
  EXPECT_TRUE((*texts.get("a"))->value().is_stale()) << "for a while nobody tries again";
  EXPECT_EQ(texts.stats().stale_served, 2U);
  EXPECT_TRUE(texts.try_get("a")->value().is_stale());
  EXPECT_EQ(texts.stats().stale_served, 3U);
  EXPECT_EQ(texts.stats().hits_l1, 2U);
}

TEST_F(KeyspaceStatsTest, StaleAnswersOfTheImpatient) {
  const auto at_once = open({.ttl = 1s, .stale_max = 1h, .soft_deadline = 0ms});
  EXPECT_TRUE(at_once.get("a"));
  clock_.advance(2s);
  EXPECT_TRUE((*at_once.get("a"))->value().is_stale());
  EXPECT_EQ(at_once.stats().stale_served, 1U);
  EXPECT_EQ(at_once.stats().refreshes, 1U);
  EXPECT_EQ(at_once.stats().hits_l1, 1U);
}

TEST_F(KeyspaceStatsTest, TheBreakerOnTheCachesOwnClock) {
  const auto texts = open({.breaker = BreakerOptions{.calls_min = 2, .open_for = 10s}});
  fails_ = true;
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(texts.get("a"));
  EXPECT_EQ(texts.stats().breaker, BreakerState::kOpen);
  EXPECT_EQ(texts.stats().breaker_openings, 1U);
  EXPECT_EQ(texts.stats().loads, 2U);
  EXPECT_EQ(texts.stats().loads_refused_breaker, 3U);
  EXPECT_EQ(texts.stats().loads_refused_bulkhead, 0U);
  clock_.advance(10s);
  EXPECT_EQ(texts.stats().breaker, BreakerState::kHalfOpen);
}

TEST_F(KeyspaceStatsTest, TheBulkheadAndTheLastResort) {
  Gate gate;
  const auto texts =
      open_texts(*cache_, {.name = "t",
                           .policy = {.loads_running_max = 1, .loads_waiting_max = 0},
                           .loader =
                               [&](std::string_view, const auto&) {
                                 gate.pass();
                                 return Texts::Loaded{Texts::Load{std::string{"v"}}};
                               },
                           .default_value = "default"});
  Answer<Texts::FindResult> slow;
  texts.get_async("slow", {.timeout = kPatience}, slow.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ((*texts.get("b", {.timeout = kPatience}))->view(), "default");
  Answer<Texts::FindResult> same;
  texts.get_async("slow", {.timeout = kPatience}, same.callback());
  gate.open();
  EXPECT_TRUE(slow.take() && same.take());
  const KeyspaceStats stats = texts.stats();
  EXPECT_EQ(stats.loads_refused_bulkhead, 1U);
  EXPECT_EQ(stats.loads_refused_breaker, 0U);
  EXPECT_EQ(stats.defaults_served, 1U);
  EXPECT_EQ(stats.joined, 1U);
}

TEST(KeyspaceStatsOverRedis, HitsOfL2AndWaitsForAnotherProcess) {
  const auto server = RedisServer::start();
  const CacheOptions options{.redis_url = server->url(), .fill_lease = 60s};
  const auto a = open_ready(options);
  const auto b = open_ready(options);
  Gate gate;
  const auto with_gate = [&] {
    return Texts::Options{.name = "t", .loader = [&](std::string_view, const auto&) {
                            gate.pass();
                            return Texts::Loaded{Texts::Load{std::string{"v"}}};
                          }};
  };
  const auto of_a = open_texts(*a, with_gate());
  const auto of_b = open_texts(*b, with_gate());
  Answer<Texts::FindResult> first;
  Answer<Texts::FindResult> second;
  Answer<Texts::FindResult> third;
  of_a.get_async("k", {.timeout = kPatience}, first.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  of_b.get_async("k", {.timeout = kPatience}, second.callback());
  of_b.get_async("k", {.timeout = kPatience}, third.callback());
  EXPECT_TRUE(poll_until([&] { return of_b.stats().waits == 1; }));
  gate.open();
  EXPECT_TRUE(first.take() && second.take() && third.take());
  EXPECT_EQ(of_a.stats().hits_l2, 0U);
  EXPECT_EQ(of_a.stats().waits, 0U);
  EXPECT_EQ(of_b.stats().hits_l2, 2U) << "both readers";
  EXPECT_EQ(of_b.stats().waits, 1U) << "one flight, however often it asked";
  EXPECT_EQ(of_b.stats().misses, 2U);
  EXPECT_EQ(of_b.stats().loads, 0U);
}

}  // namespace
}  // namespace tiercel::testing
