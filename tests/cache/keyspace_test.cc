// Keyspaces: typed values, without Redis and over a real one.

#include "tiercel/cache/keyspace.h"

#include <array>
#include <cstring>

#include "cache_fixture.h"
#include "support/detached.h"
#include "support/redis_server.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

using Bytes = serialization::BytesCodec;

// Two numbers as text: a codec of the user's own, which can refuse bytes.
struct Point {
  int x = 0;
  int y = 0;
};
struct PointCodec {
  using Value = Point;
  using View = Point;
  [[nodiscard]] std::uint32_t codec_id() const noexcept {
    return serialization::derived_codec_id("test.point.1");
  }
  [[nodiscard]] Result<std::string> encode(const Point& point) const {
    return std::to_string(point.x) + ' ' + std::to_string(point.y);
  }
  [[nodiscard]] Result<Point> decode(std::string_view bytes) const {
    const auto space = bytes.find(' ');
    if (space == std::string_view::npos) return corrupt("point: no space");
    return Point{std::stoi(std::string{bytes.substr(0, space)}),
                 std::stoi(std::string{bytes.substr(space + 1)})};
  }
};

template <typename C>
Keyspace<C> open_keyspace(Cache& cache, typename Keyspace<C>::Options options) {
  auto keyspace = Keyspace<C>::open(cache, std::move(options));
  EXPECT_TRUE(keyspace) << keyspace.error().to_string();
  return std::move(keyspace).value();
}

TEST(Keyspace, AnIdIsLoadedAndThenReadInPlace) {
  const auto cache = open_cache({});
  int loads = 0;
  const auto points = open_keyspace<PointCodec>(
      *cache, {.name = "point", .loader = [&](std::string_view key, const auto& old) {
                 EXPECT_FALSE(old.view);
                 ++loads;
                 using Load = Keyspace<PointCodec>::Load;
                 if (key == "404") return Keyspace<PointCodec>::Loaded{std::nullopt};
                 return Keyspace<PointCodec>::Loaded{Load{Point{std::stoi(std::string{key}), 2}}};
               }});
  EXPECT_FALSE(points.try_get(7));
  const auto found = points.get(7);
  ASSERT_TRUE(found && *found) << found.error().to_string();
  EXPECT_EQ((*found)->view().x, 7);
  EXPECT_EQ((*found)->value().tier(), Tier::kLoader);
  const auto hit = points.try_get(7);
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit->view().y, 2);
  EXPECT_EQ(hit->value().tier(), Tier::kL1);
  const auto none = points.get(404);
  ASSERT_TRUE(none) << none.error().to_string();
  EXPECT_FALSE(*none);
  EXPECT_EQ(loads, 2);
  const KeyspaceStats stats = points.stats();
  EXPECT_EQ(stats.loads, 2U);
  EXPECT_EQ(stats.hits_l1, 1U);
  EXPECT_EQ(stats.breaker, BreakerState::kClosed);
}

TEST(Keyspace, WhatIsSetIsReadAndWhatIsInvalidatedIsNot) {
  const auto cache = open_cache({});
  const auto points = open_keyspace<PointCodec>(*cache, {.name = "point"});
  const auto names = open_keyspace<Bytes>(*cache, {.name = "name"});
  ASSERT_TRUE(points.set(1, Point{3, 4}));
  ASSERT_TRUE(names.set(1, "Ann"));
  EXPECT_EQ(points.try_get(1)->view().y, 4);
  EXPECT_EQ(names.try_get(1)->view(), "Ann") << "another keyspace's key";
  ASSERT_TRUE(points.invalidate(1));
  EXPECT_FALSE(points.try_get(1));
  EXPECT_TRUE(names.try_get(1));
}

Detached await_point(const Keyspace<PointCodec>& points, int id,
                     UniqueFunction<void(Keyspace<PointCodec>::FindResult)> told) {
  told(co_await points.co_get(id));
}

TEST(Keyspace, EveryFormOfACall) {
  const auto cache = open_cache({});
  const auto points = open_keyspace<PointCodec>(*cache, {.name = "point"});
  Answer<WriteResult> written;
  points.set_async(1, Point{3, 4}, {}, written.callback());
  ASSERT_TRUE(written.take());
  Answer<Keyspace<PointCodec>::FindResult> awaited;
  await_point(points, 1, awaited.callback());
  EXPECT_EQ((*awaited.take())->view().y, 4);
  Answer<Keyspace<PointCodec>::FindResult> told;
  points.get_async(1, {}, told.callback());
  EXPECT_EQ((*told.take())->view().x, 3);
  Answer<WriteResult> invalidated;
  points.invalidate_async(1, {}, invalidated.callback());
  ASSERT_TRUE(invalidated.take());
  EXPECT_FALSE(points.try_get(1));
  const std::string too_long(70'000, 'k');
  Answer<WriteResult> refused;
  points.set_async(too_long, Point{}, {}, refused.callback());
  EXPECT_EQ(refused.take().error().code, ErrorCode::kInvalidArgument);
}

TEST(Keyspace, TheLastResortOfAReadThatFails) {
  const auto cache = open_cache({});
  const auto points = open_keyspace<PointCodec>(
      *cache,
      {.name = "point",
       .loader = [](std::string_view,
                    const auto&) { return Keyspace<PointCodec>::Loaded{unavailable("away")}; },
       .default_value = Point{-1, -1}});
  const auto found = points.get(7);
  ASSERT_TRUE(found && *found);
  EXPECT_EQ((*found)->view().x, -1);
  EXPECT_FALSE(points.try_get(7)) << "it is kept nowhere";
}

TEST(Keyspace, ManyAreLoadedByOneCall) {
  const auto cache = open_cache({});
  std::vector<std::size_t> calls;
  using Space = Keyspace<Bytes>;
  const auto names = open_keyspace<Bytes>(
      *cache, {.name = "name", .batch_loader = [&](std::span<const std::string_view> keys) {
                 calls.push_back(keys.size());
                 std::vector<Space::Loaded> loaded;
                 for (const auto key : keys) {
                   loaded.push_back(Space::Load{"name of " + std::string{key}});
                 }
                 return loaded;
               }});
  const std::array<int, 3> ids{1, 2, 3};
  const auto found = names.get_many(std::span<const int>{ids});
  ASSERT_EQ(found.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) {
    ASSERT_TRUE(found[i] && *found[i]);
    EXPECT_EQ((*found[i])->view(), "name of " + std::to_string(ids[i]));
  }
  EXPECT_EQ(calls, std::vector<std::size_t>{3});
  const std::array<std::string, 3> some_wrong{"4", std::string(70'000, 'k'), "5"};
  const auto partly = names.get_many(std::span<const std::string>{some_wrong});
  EXPECT_EQ((*partly[0])->view(), "name of 4");
  EXPECT_EQ(partly[1].error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ((*partly[2])->view(), "name of 5");
}

TEST(Keyspace, OfOneNameHasOneCodecInACache) {
  const auto cache = open_cache({});
  { const auto points = open_keyspace<PointCodec>(*cache, {.name = "thing"}); }
  EXPECT_TRUE(Keyspace<PointCodec>::open(*cache, {.name = "thing"}));
  const auto bytes = Keyspace<Bytes>::open(*cache, {.name = "thing"});
  ASSERT_FALSE(bytes);
  EXPECT_EQ(bytes.error().code, ErrorCode::kConflict);
  EXPECT_THAT(bytes.error().message, ::testing::HasSubstr("'thing'"));
}

TEST(Keyspace, WhatIsWrongIsNamed) {
  const auto cache = open_cache({});
  const auto refusal = [&](Keyspace<Bytes>::Options options) {
    const auto opened = Keyspace<Bytes>::open(*cache, std::move(options));
    return opened ? std::string{} : opened.error().message;
  };
  EXPECT_THAT(refusal({.name = ""}), ::testing::HasSubstr("name"));
  EXPECT_THAT(refusal({.name = "a:b"}), ::testing::HasSubstr("a:b"));
  EXPECT_THAT(refusal({.name = "x", .policy = {.ttl = 0ms}}), ::testing::HasSubstr("'x': ttl"));
  const auto names = open_keyspace<Bytes>(*cache, {.name = "name"});
  EXPECT_EQ(names.get(std::string(70'000, 'k')).error().code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(names.try_get(std::string(70'000, 'k')));
  ASSERT_TRUE(names.set(std::string(1000, 'k'), "long"));
  EXPECT_EQ((*names.get(std::string(1000, 'k')))->view(), "long");
}

// ---- on a tick thread

class TickTest : public ::testing::Test {
 protected:
  Keyspace<Bytes> open(FillPolicy policy) {
    policy.ttl_jitter = 0.0;
    return open_keyspace<Bytes>(
        *cache_, {.name = "n", .policy = policy, .loader = [this](std::string_view, const auto&) {
                    return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::to_string(++loads_)}};
                  }});
  }
  ManualClock clock_;
  std::unique_ptr<Cache> cache_ = open_cache({.clock = &clock_});
  std::atomic<int> loads_{0};
};

TEST_F(TickTest, AHitThatIsDueIsRenewedInTheBackground) {
  const auto names = open({.ttl = 1000ms, .refresh_ahead = 0.4});
  ASSERT_TRUE(names.get("k"));
  clock_.advance(599ms);
  EXPECT_EQ(names.try_get("k")->view(), "1");
  clock_.advance(2ms);
  EXPECT_EQ(names.try_get("k")->view(), "1");
  EXPECT_TRUE(poll_until([&] { return names.try_get("k")->view() == "2"; }));
  EXPECT_EQ(loads_, 2) << "once, and not before it was due";
}

TEST_F(TickTest, WhatIsStaleIsGivenWhereReadersHaveNoPatience) {
  const auto names = open({.ttl = 1000ms, .stale_max = 1h, .soft_deadline = 0ms});
  ASSERT_TRUE(names.get("k"));
  clock_.advance(1001ms);
  const auto stale = names.try_get("k");
  ASSERT_TRUE(stale);
  EXPECT_EQ(stale->view(), "1");
  EXPECT_TRUE(stale->value().is_stale());
  EXPECT_TRUE(poll_until([&] { return names.try_get("k")->view() == "2"; }));
}

TEST_F(TickTest, WhatIsStaleIsNotGivenWhereTheyHave) {
  const auto names = open({.ttl = 1000ms, .stale_max = 1h});
  ASSERT_TRUE(names.get("k"));
  clock_.advance(1001ms);
  EXPECT_FALSE(names.try_get("k"));
}

// ---- over Redis

class KeyspaceRedisTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(with_long_lease(std::move(options)));
  }
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(KeyspaceRedisTest, WhatAnotherCodecStoredIsAMissAndCounted) {
  const auto a = open();
  const auto b = open();
  const auto old_names = open_keyspace<Bytes>(*a, {.name = "thing"});
  ASSERT_TRUE(old_names.set(1, "no point"));
  int loads = 0;
  const auto points = open_keyspace<PointCodec>(
      *b, {.name = "thing", .loader = [&](std::string_view, const auto&) {
             ++loads;
             return Keyspace<PointCodec>::Loaded{Keyspace<PointCodec>::Load{Point{5, 6}}};
           }});
  const auto found = points.get(1);
  ASSERT_TRUE(found && *found) << found.error().to_string();
  EXPECT_EQ((*found)->view().x, 5);
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(points.stats().codec_mismatches, 1U);
  EXPECT_EQ(points.try_get(1)->view().y, 6);
}

TEST_F(KeyspaceRedisTest, ALoadServesTheWholeFleetAndIsRenewedByOne) {
  const auto a = open();
  const auto b = open();
  std::atomic<int> loads{0};
  const auto options = [&] {
    return Keyspace<Bytes>::Options{
        .name = "n",
        .policy = {.ttl = 2s, .ttl_jitter = 0.0, .refresh_ahead = 0.9, .stale_max = 1h},
        .loader = [&](std::string_view, const auto&) {
          return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::to_string(++loads)}};
        }};
  };
  const auto of_a = open_keyspace<Bytes>(*a, options());
  const auto of_b = open_keyspace<Bytes>(*b, options());
  EXPECT_EQ((*of_a.get("k", {.timeout = kPatience}))->view(), "1");
  EXPECT_EQ((*of_b.get("k", {.timeout = kPatience}))->view(), "1");
  EXPECT_EQ(loads, 1);
  // From 0.2 s on each read wants it renewed; readers never wait, and never see it expire.
  EXPECT_TRUE(poll_until([&] {
    const auto one = of_a.get("k", {.timeout = kPatience});
    const auto other = of_b.get("k", {.timeout = kPatience});
    EXPECT_TRUE(one && *one && other && *other);
    return loads >= 4;
  }));
}

TEST_F(KeyspaceRedisTest, TheStaleValueInRedisIsAWayOutForAll) {
  const auto a = open();
  std::atomic<bool> fails{false};
  const auto options = [&] {
    return Keyspace<Bytes>::Options{
        .name = "n",
        .policy = {.ttl = 50ms, .ttl_jitter = 0.0, .stale_max = 1h, .stale_throttle = 1h},
        .loader = [&](std::string_view, const auto& old) {
          if (fails) return Keyspace<Bytes>::Loaded{unavailable("away")};
          if (old.view) return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load::unchanged()};
          return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"first"}}};
        }};
  };
  const auto of_a = open_keyspace<Bytes>(*a, options());
  EXPECT_EQ((*of_a.get("k", {.timeout = kPatience}))->view(), "first");
  EXPECT_TRUE(poll_until([&] { return !of_a.try_get("k"); })) << "its life ends";
  EXPECT_EQ((*of_a.get("k", {.timeout = kPatience}))->view(), "first") << "unchanged";
  fails = true;
  const auto b = open();
  const auto of_b = open_keyspace<Bytes>(*b, options());
  EXPECT_TRUE(poll_until([&] {
    const auto found = of_b.get("k", {.timeout = kPatience});
    EXPECT_TRUE(found && *found) << found.error().to_string();
    return found && *found && (*found)->value().is_stale();
  }));
  EXPECT_TRUE(poll_until([&] { return of_b.try_get("k").has_value(); })) << "for a while";
  ASSERT_TRUE(of_a.invalidate("k"));
  EXPECT_TRUE(poll_until([&] { return !of_b.get("k", {.timeout = kPatience}); }))
      << "what was invalidated is no way out";
}

TEST_F(KeyspaceRedisTest, WhoWaitsForAnothersLoadIsWoken) {
  const auto a = open({.fill_lease = 60s});
  const auto b = open({.fill_lease = 60s});
  Gate gate;
  const auto options = [&] {
    return Keyspace<Bytes>::Options{
        .name = "n", .loader = [&](std::string_view, const auto&) {
          gate.pass();
          return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"v"}}};
        }};
  };
  const auto of_a = open_keyspace<Bytes>(*a, options());
  const auto of_b = open_keyspace<Bytes>(*b, options());
  Answer<Keyspace<Bytes>::FindResult> first;
  of_a.get_async("k", {.timeout = kPatience}, first.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  Answer<Keyspace<Bytes>::FindResult> second;
  of_b.get_async("k", {.timeout = kPatience}, second.callback());
  EXPECT_TRUE(poll_until([&] {
    return server_->command({"STRLEN", "tiercel/fill:n:k"}) == "17";
  })) << "it waits: "
      << server_->command({"KEYS", "*"});
  gate.open();
  EXPECT_EQ((*second.take())->view(), "v");
  EXPECT_EQ((*first.take())->view(), "v");
  EXPECT_EQ(of_a.stats().loads + of_b.stats().loads, 1U);
}

TEST_F(KeyspaceRedisTest, NothingFoundIsKeptForTheFleetAlsoWhereStaleValuesAre) {
  const auto a = open();
  const auto b = open();
  std::atomic<int> loads{0};
  const auto options = [&] {
    return Keyspace<Bytes>::Options{.name = "n",
                                    .policy = {.ttl = 1h, .negative_ttl = 1h, .stale_max = 1h},
                                    .loader = [&](std::string_view, const auto&) {
                                      ++loads;
                                      return Keyspace<Bytes>::Loaded{std::nullopt};
                                    }};
  };
  EXPECT_FALSE(*open_keyspace<Bytes>(*a, options()).get("k"));
  EXPECT_FALSE(*open_keyspace<Bytes>(*b, options()).get("k"));
  EXPECT_EQ(loads, 1);
}

TEST_F(KeyspaceRedisTest, AForeignWriteDuringARenewalIsNotOverwritten) {
  const auto cache = open();
  Gate gate;
  std::atomic<int> loads{0};
  const auto names =
      open_keyspace<Bytes>(*cache, {.name = "n",
                                    .policy = {.ttl = 50ms, .ttl_jitter = 0.0, .stale_max = 1h},
                                    .loader = [&](std::string_view, const auto&) {
                                      if (++loads == 2) gate.pass();
                                      return Keyspace<Bytes>::Loaded{
                                          Keyspace<Bytes>::Load{"load " + std::to_string(loads)}};
                                    }});
  EXPECT_EQ((*names.get("k"))->view(), "load 1");
  EXPECT_TRUE(poll_until([&] {
    return !names.try_get("k") && std::stoll(server_->command({"PTTL", "tiercel:n:k"})) < 3600'000;
  })) << "its life ends";
  Answer<Keyspace<Bytes>::FindResult> answer;
  names.get_async("k", {.timeout = kPatience}, answer.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ(server_->command({"SET", "tiercel:n:k", "foreign"}), "OK");
  gate.open();
  EXPECT_EQ((*answer.take())->view(), "load 2");
  EXPECT_EQ(server_->command({"GET", "tiercel:n:k"}), "foreign");
}

TEST_F(KeyspaceRedisTest, ALoaderThatDiedIsReplacedWhenItsLeaseRunsOut) {
  const auto cache = open();
  std::atomic<int> loads{0};
  const auto names = open_keyspace<Bytes>(
      *cache, {.name = "n", .loader = [&](std::string_view, const auto&) {
                 ++loads;
                 return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"v"}}};
               }});
  const auto began_at = Clock::system().now();
  EXPECT_EQ(server_->command({"SET", "tiercel/fill:n:k", "0123456789abcdef", "PX", "700"}), "OK");
  const auto found = names.get("k", {.timeout = kPatience});
  ASSERT_TRUE(found && *found) << found.error().to_string();
  EXPECT_GE(Clock::system().now() - began_at, 690ms) << "while it lasted, it was respected";
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(server_->command({"EXISTS", "tiercel/fill:n:k"}), "0");
}

TEST_F(KeyspaceRedisTest, ALoadThatOutlastsItsLeaseIsNotStoredOverTheNextOne) {
  const auto a = open({.fill_lease = 50ms});
  const auto b = open();
  Gate gate;
  const auto slow = open_keyspace<Bytes>(
      *a, {.name = "n", .loader = [&](std::string_view, const auto&) {
             gate.pass();
             return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"slow"}}};
           }});
  const auto quick = open_keyspace<Bytes>(
      *b, {.name = "n", .loader = [&](std::string_view, const auto&) {
             return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"quick"}}};
           }});
  Answer<Keyspace<Bytes>::FindResult> first;
  slow.get_async("k", {.timeout = kPatience}, first.callback());
  EXPECT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ((*quick.get("k", {.timeout = kPatience}))->view(), "quick");
  gate.open();
  EXPECT_EQ((*first.take())->view(), "slow") << "who waited for it is given it";
  EXPECT_EQ(a->stats().loads_not_stored, 1U);
  EXPECT_FALSE(slow.try_get("k")) << "but it is kept nowhere";
  EXPECT_EQ((*slow.get("k", {.timeout = kPatience}))->view(), "quick");
}

TEST_F(KeyspaceRedisTest, WhileRedisKeepsFailingLoadsDoNotWaitForIt) {
  const auto cache = open({.read_timeout_before_load = 50ms,
                           .l2_breaker = BreakerOptions{.calls_min = 2, .open_for = 200ms}});
  std::atomic<int> loads{0};
  const auto names =
      open_keyspace<Bytes>(*cache, {.name = "n", .loader = [&](std::string_view, const auto&) {
                                      return Keyspace<Bytes>::Loaded{
                                          Keyspace<Bytes>::Load{"load " + std::to_string(++loads)}};
                                    }});
  const auto get = [&](std::string_view key) {
    const auto found = names.get(key, {.timeout = kPatience});
    EXPECT_TRUE(found && *found);
  };
  get("a");
  EXPECT_EQ(cache->stats().l2_breaker, BreakerState::kClosed);
  server_->stop_process();
  EXPECT_TRUE(poll_until([&] {
    get("k");
    return cache->stats().loads_past_l2 > 0;
  }));
  // From time to time it is tried again.
  server_->continue_process();
  EXPECT_TRUE(poll_until([&] {
    get("k");
    return cache->stats().l2_breaker == BreakerState::kClosed;
  }));
  server_->kill();
  EXPECT_TRUE(poll_until([&] {
    get("k");
    return cache->stats().l2_breaker != BreakerState::kClosed;
  }));
  server_->restart();
  ASSERT_TRUE(cache->wait_until_ready(kPatience));
  EXPECT_TRUE(poll_until([&] {
    get("k");
    return names.try_get("k").has_value();
  })) << "what is loaded is stored and kept again";
}

TEST_F(KeyspaceRedisTest, PushedValuesAreCheckedByTheCodec) {
  const auto a = open({.value_push_bytes_max = 1000});
  const auto b = open({.value_push_bytes_max = 1000});
  const auto c = open({.value_push_bytes_max = 1000});
  const auto points_of_a = open_keyspace<PointCodec>(*a, {.name = "n"});
  const auto bytes_of_c = open_keyspace<Bytes>(*c, {.name = "n"});
  const auto points_of_b = open_keyspace<PointCodec>(*b, {.name = "n"});
  ASSERT_TRUE(points_of_a.set(1, Point{1, 2}));
  ASSERT_TRUE(points_of_b.get(1));
  ASSERT_TRUE(points_of_a.set(1, Point{3, 4}));
  EXPECT_TRUE(poll_until([&] {
    const auto found = points_of_b.try_get(1);
    return found && found->view().x == 3;
  })) << "it is refreshed, and not dropped";
  EXPECT_GE(b->stats().refreshed, 1U);
  ASSERT_TRUE(bytes_of_c.set(1, "no point"));
  EXPECT_TRUE(poll_until([&] { return !points_of_b.try_get(1); }));
  const auto found = points_of_b.get(1);
  ASSERT_TRUE(found) << found.error().to_string();
  EXPECT_FALSE(*found);
}

TEST_F(KeyspaceRedisTest, TaggedValuesAreAuditedWithTheirTags) {
  const auto cache = open({.audit_one_in = 1});
  const auto names = open_keyspace<Bytes>(*cache, {.name = "n"});
  ASSERT_TRUE(names.set(1, "a value that is shorter than its tags would be", {.tags = {"a", "b"}}));
  ASSERT_TRUE(names.set(2, std::string(5000, 'v'), {.tags = {"a"}}));
  EXPECT_TRUE(poll_until([&] {
    (void)names.try_get(1);
    (void)names.try_get(2);
    const AuditStats audit = cache->stats().audit;
    EXPECT_EQ(audit.violations, 0U);
    return audit.fresh > 10;
  }));
}

TEST_F(KeyspaceRedisTest, WhatIsUnchangedKeepsItsTags) {
  const auto cache = open();
  std::atomic<int> loads{0};
  const auto names = open_keyspace<Bytes>(
      *cache, {.name = "n",
               .policy = {.ttl = 50ms, .ttl_jitter = 0.0, .stale_max = 1h},
               .loader = [&](std::string_view, const auto& old) {
                 if (++loads > 1 && old.view) {
                   return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load::unchanged()};
                 }
                 Keyspace<Bytes>::Load load{std::to_string(loads)};
                 load.tags = {"team"};
                 return Keyspace<Bytes>::Loaded{std::move(load)};
               }});
  EXPECT_EQ((*names.get("k"))->view(), "1");
  EXPECT_TRUE(poll_until([&] {
    EXPECT_EQ((*names.get("k"))->view(), "1");
    return loads > 1;
  }));
  ASSERT_TRUE(cache->invalidate_tag("team"));
  const auto found = names.get("k");
  ASSERT_TRUE(found && *found);
  EXPECT_NE((*found)->view(), "1") << "its tag reaches it still";
}

TEST_F(KeyspaceRedisTest, NothingFoundTakesAwayWhatWasThere) {
  const auto cache = open();
  std::atomic<bool> is_there{true};
  const auto names = open_keyspace<Bytes>(
      *cache,
      {.name = "n",
       .policy = {.ttl = 50ms, .ttl_jitter = 0.0, .negative_ttl = std::nullopt, .stale_max = 1h},
       .loader = [&](std::string_view, const auto&) {
         if (!is_there) return Keyspace<Bytes>::Loaded{std::nullopt};
         return Keyspace<Bytes>::Loaded{Keyspace<Bytes>::Load{std::string{"v"}}};
       }});
  ASSERT_TRUE(*names.get("k"));
  is_there = false;
  EXPECT_TRUE(poll_until([&] {
    const auto found = names.get("k");
    EXPECT_TRUE(found);
    return found && !*found;
  }));
  EXPECT_TRUE(poll_until([&] { return server_->command({"EXISTS", "tiercel:n:k"}) == "0"; }));
}

}  // namespace
}  // namespace tiercel::testing
