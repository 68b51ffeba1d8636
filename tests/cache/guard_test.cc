// The Bloom guard of a keyspace: without Redis, and over a real one.

#include "tiercel/cache/bloom_guard.h"

#include <atomic>
#include <set>
#include <string>

#include "cache_fixture.h"
#include "guard_source.h"
#include "guard_state.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

TEST(Guard, RefusesWhatTheSourceDoesNotHave) {
  Source source{{"1", "2", "3"}};
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(answers(items));
  EXPECT_EQ(read(items, 1), "item 1");
  EXPECT_EQ(read(items, 7), "(absent)");
  EXPECT_EQ(source.asked_for("7"), 0U);
  const GuardStats stats = items.stats().guard;
  EXPECT_EQ(stats.refused, 1U);
  EXPECT_EQ(stats.keys, 3U);
  EXPECT_EQ(stats.built, 1U);
  EXPECT_GE(stats.bytes, 64U);
}

TEST(Guard, WhatIsCreatedIsNotRefused) {
  Source source;
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(answers(items));
  EXPECT_EQ(read(items, 7), "(absent)");
  source.create("7");
  ASSERT_TRUE(items.invalidate(7));
  EXPECT_EQ(read(items, 7), "item 7");
  source.create("8");
  ASSERT_TRUE(items.set(8, "eight"));
  ASSERT_TRUE(cache->invalidate("item:8"));
  EXPECT_EQ(read(items, 8), "item 8");
}

TEST(Guard, AsksTheLoaderUntilItIsWhole) {
  Source source{{"1"}};
  Gate gate;
  source.enumerate_behind(gate);
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(
      poll_until([&] { return items.stats().guard.state == GuardState::kBuilding; }, kPatience));
  EXPECT_EQ(read(items, 7), "(absent)");
  EXPECT_EQ(source.asked_for("7"), 1U);
  gate.open();
  ASSERT_TRUE(answers(items));
  EXPECT_EQ(read(items, 8), "(absent)");
  EXPECT_EQ(source.asked_for("8"), 0U);
}

TEST(Guard, ARebuildForgetsWhatWasDeleted) {
  Source source{{"1", "2"}};
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(answers(items));
  source.remove("2");
  const std::uint64_t before = items.stats().guard.generation;
  ASSERT_TRUE(items.rebuild_guard());
  ASSERT_TRUE(poll_until([&] { return items.stats().guard.generation > before; }, kPatience));
  EXPECT_EQ(read(items, 2), "(absent)");
  EXPECT_EQ(source.asked_for("2"), 0U);
  EXPECT_EQ(read(items, 1), "item 1");
}

TEST(Guard, AnEnumeratorThatFailsIsTriedAgain) {
  Source source{{"1"}};
  source.fail_enumerations(2);
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(answers(items));
  EXPECT_EQ(items.stats().guard.failures, 2U);
  EXPECT_THAT(items.stats().guard.last_failure, ::testing::HasSubstr("the database is away"));
}

TEST(Guard, OneThatIsOverfullIsMadeLarger) {
  Source source;
  for (int i = 0; i < 20'000; ++i) source.create(std::to_string(i));
  const auto cache = open_cache({});
  const auto items = open_guarded(*cache, source, {.keys_expected = 100});
  ASSERT_TRUE(poll_until(
      [&] {
        const GuardStats stats = items.stats().guard;
        return stats.built > 1 && stats.false_positive_rate < 0.02;
      },
      kPatience));
  EXPECT_NEAR(static_cast<double>(items.stats().guard.keys), 20'000, 500);
}

TEST(Guard, WhatIsWrongIsNamed) {
  Source source;
  const auto cache = open_cache({});
  const auto refusal = [&](Cache& in, Items::Options options) {
    const auto opened = Items::open(in, std::move(options));
    return opened ? std::string{} : opened.error().message;
  };
  using ::testing::HasSubstr;
  const auto guard = [&](BloomGuardOptions options) {
    options.enumerate = source.enumerator();
    return refusal(*cache, {.name = "x", .guard = std::move(options)});
  };
  EXPECT_THAT(guard({}), HasSubstr("'x': guard: keys_expected"));
  EXPECT_THAT(guard({.keys_expected = 1, .false_positive_rate = 2.0}),
              HasSubstr("false_positive_rate"));
  EXPECT_THAT(guard({.keys_expected = 1, .bits_per_key = 1000.0}), HasSubstr("bits_per_key"));
  EXPECT_THAT(guard({.keys_expected = 1'000'000, .bytes_max = 64}), HasSubstr("bytes_max"));
  EXPECT_THAT(guard({.keys_expected = 1, .bytes_per_second_max = 1}),
              HasSubstr("bytes_per_second_max"));
  EXPECT_THAT(refusal(*cache, {.name = "x", .guard = BloomGuardOptions{.keys_expected = 1}}),
              HasSubstr("without Redis"));
  EXPECT_THAT(refusal(*cache, {.name = "x",
                               .loader = source.loader(),
                               .guard = BloomGuardOptions{.keys_expected = 1}}),
              HasSubstr("has a loader"));
  EXPECT_EQ(guard({.keys_expected = 1}), "");
  EXPECT_THAT(guard({.keys_expected = 1}), HasSubstr("already"));
  const auto plain = Items::open(*cache, {.name = "plain"});
  EXPECT_EQ(plain->rebuild_guard().error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(plain->stats().guard.state, GuardState::kNone);
}

TEST(Guard, ACacheIsClosedInTheMidstOfAnEnumeration) {
  Source source;
  source.enumerate_endlessly();
  auto cache = open_cache({});
  const auto items = open_guarded(*cache, source);
  ASSERT_TRUE(poll_until([&] { return source.enumerations() > 0; }, kPatience));
  cache.reset();  // Does not wait for the end of what has none.
}

// ---- over Redis

class GuardRedisTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }
  std::string redis(const std::vector<std::string>& words) { return server_->command(words); }
  std::vector<std::string> guard_keys() { return lines_of(redis({"KEYS", "tiercel/bloom:*"})); }
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(GuardRedisTest, OneBuildsAndTheOthersPrime) {
  Source source{{"1", "2"}};
  // Without the auditor's questions, which would be counted.
  const auto first = open(with_long_lease({.audit_one_in = std::nullopt}));
  const auto second = open(with_long_lease({}));
  const auto here = open_guarded(*first, source);
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(here));
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(source.enumerations(), 1U) << "two wanted to build at once";
  EXPECT_EQ(here.stats().guard.built + there.stats().guard.built, 1U);
  EXPECT_EQ(here.stats().guard.primed + there.stats().guard.primed, 1U);
  for (const auto* items : {&here, &there}) {
    EXPECT_EQ(read(*items, 1), "item 1");
    EXPECT_EQ(read(*items, 7), "(absent)");
  }
  EXPECT_EQ(source.asked_for("7"), 0U);
  const auto counted = first->stats().l2.commands_submitted;
  EXPECT_EQ(read(here, 8), "(absent)");
  EXPECT_LE(first->stats().l2.commands_submitted - counted, 20U);  // Those of the lease.
}

TEST_F(GuardRedisTest, WhatAnotherInstanceCreatesIsNotRefused) {
  Source source;
  const auto first = open({.value_push_bytes_max = 100});
  const auto second = open({.value_push_bytes_max = 100});
  const auto here = open_guarded(*first, source);
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(here) && answers(there));
  for (int key = 0; key < 50; ++key) {
    source.create(std::to_string(key));
    if (key % 2 == 0) {
      ASSERT_TRUE(here.invalidate(key));
    } else {
      ASSERT_TRUE(here.set(key, "its message has this"));
    }
    ASSERT_TRUE(poll_until([&] { return read(there, key) != "(absent)"; }, kPatience)) << key;
  }
}

// Whoever was not there when the message came finds the bits in Redis: of each kind of write.
TEST_F(GuardRedisTest, EachKindOfWriteSetsTheBitsInRedis) {
  Source source;
  const auto first = open({.value_push_bytes_max = 100});
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  for (int i = 1; i <= 40; ++i) source.create(std::to_string(i));
  ASSERT_TRUE(here.set(1, "pushed"));
  ASSERT_TRUE(here.set(2, std::string(1000, 'x')));
  ASSERT_TRUE(here.invalidate(3));
  ASSERT_TRUE(first->invalidate_many(std::vector<std::string_view>{"item:4", "item:5", "other"}));
  ASSERT_TRUE(here.set(6, "once", {.if_version = WriteOptions::kAbsent}));
  ASSERT_TRUE(here.set(7, "fenced", {.fence = true}));
  // Those that leave together.
  std::vector<Answer<WriteResult>> answers_of(20);
  for (int i = 0; i < 20; ++i) {
    first->set_async("item:" + std::to_string(i + 10), std::string(200, 'x'), {},
                     answers_of[static_cast<std::size_t>(i)].callback());
  }
  for (auto& answer : answers_of) ASSERT_TRUE(answer.take());

  const auto second = open({.value_push_bytes_max = 100});
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(there.stats().guard.primed, 1U);
  for (int i = 1; i < 30; ++i) {
    if (i == 8 || i == 9) continue;
    EXPECT_NE(read(there, i), "(absent)") << i;
  }
  EXPECT_EQ(read(there, 35), "(absent)") << "nobody told of it";
}

TEST_F(GuardRedisTest, AReplayedInvalidationSetsTheBits) {
  TcpProxy proxy{server_->port()};
  Source source;
  CacheOptions options;
  options.redis_url = proxy.url();
  const auto first = open_ready(std::move(options));
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  proxy.set_accepting(false);
  proxy.reset_all();
  source.create("7");
  EXPECT_FALSE(here.invalidate(7, {.timeout = 50ms}));
  proxy.set_accepting(true);
  ASSERT_TRUE(poll_until([&] { return first->stats().invalidations_queued == 0; }, kPatience));
  const auto second = open();
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(read(there, 7), "item 7");
}

TEST_F(GuardRedisTest, WithoutHistory) {
  Source source;
  const auto first = open({.history = false});
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  source.create("7");
  ASSERT_TRUE(here.invalidate(7));
  const auto second = open(with_long_lease({.history = false}));
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(read(there, 7), "item 7");
  EXPECT_EQ(read(there, 8), "(absent)");
  EXPECT_EQ(source.asked_for("8"), 0U);
}

TEST_F(GuardRedisTest, AWarmReconnectKeepsItAndAColdOneDoesNot) {
  TcpProxy proxy{server_->port()};
  Source source;
  CacheOptions options;
  options.redis_url = proxy.url();
  const auto second = open();
  ASSERT_TRUE(second->invalidate("other"));  // So that there is a history to go on from.
  const auto first = open_ready(std::move(options));
  const auto here = open_guarded(*first, source);
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(here) && answers(there));

  const auto away = [&](const std::string& created, bool loses_history) {
    const auto epochs = first->stats().epochs;
    proxy.set_accepting(false);
    proxy.reset_all();
    source.create(created);
    EXPECT_TRUE(second->invalidate("item:" + created));
    if (loses_history) {
      redis({"DEL", "tiercel/history"});
    }
    proxy.set_accepting(true);
    EXPECT_TRUE(poll_until([&] { return first->stats().epochs > epochs && first->lease().held; },
                           kPatience));
  };
  const std::uint64_t lost = here.stats().guard.lost;
  away("7", false);
  EXPECT_EQ(read(here, 7), "item 7");
  EXPECT_EQ(here.stats().guard.lost, lost);
  away("8", true);
  EXPECT_EQ(read(here, 8), "item 8");
  EXPECT_EQ(here.stats().guard.lost, lost + 1);
  ASSERT_TRUE(answers(here));
  EXPECT_EQ(read(here, 8), "item 8");
  EXPECT_EQ(read(here, 9), "(absent)");
}

TEST_F(GuardRedisTest, WhatWasFlushedIsStoredAnewWithoutTheSource) {
  Source source{{"1"}};
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  redis({"FLUSHALL"});
  source.create("2");
  ASSERT_TRUE(here.invalidate(2));
  ASSERT_TRUE(poll_until([&] { return here.stats().guard.stored == 2; }, kPatience));
  EXPECT_EQ(source.enumerations(), 1U);
  const auto second = open(with_long_lease({}));
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(there.stats().guard.primed, 1U);
  EXPECT_EQ(read(there, 1), "item 1");
  EXPECT_EQ(read(there, 2), "item 2");
  EXPECT_EQ(read(there, 3), "(absent)");
  EXPECT_EQ(source.asked_for("3"), 0U);
}

// No bit was set of what was created while Redis had no filter. Its message tells, and must have
// come before what is here goes into Redis.
TEST_F(GuardRedisTest, WhatIsStoredAnewHasWhatIsUnderWay) {
  TcpProxy proxy{server_->port()};
  proxy.set_marker("SUBSCRIBE");
  Source source{{"1"}};
  CacheOptions options{.lease = 60s, .stream_timeout = 60s};
  options.redis_url = proxy.url();
  const auto first = open_ready(std::move(options));
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  const std::string name = "tiercel/bloom:item";
  {
    const auto writer = open();
    const auto there = open_guarded(*writer, source);
    ASSERT_TRUE(answers(there));
    proxy.set_server_to_client({.delay = 3s});
    redis({"SET", name + ":building", "nobody yet"});
    redis({"DEL", name});
    source.create("2");
    ASSERT_TRUE(there.invalidate(2));
  }
  redis({"DEL", name + ":building"});
  ASSERT_TRUE(poll_until([&] { return redis({"EXISTS", name}) == "1"; }, kPatience));
  const auto second = open();
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(there.stats().guard.primed, 1U);
  EXPECT_EQ(read(there, 2), "item 2");
  EXPECT_EQ(source.enumerations(), 1U);
}

TEST_F(GuardRedisTest, ABuilderKeepsItsLeaseAndReturnsIt) {
  const std::string lease = "tiercel/bloom:item:building";
  Source source{{"1"}};
  const Gate gate;
  source.enumerate_behind(gate);
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_EQ(redis({"PERSIST", lease}), "1");  // It has no end, until it is renewed.
  EXPECT_TRUE(poll_until([&] { return std::stol(redis({"PTTL", lease})) > 0; }, kPatience));
  ASSERT_EQ(redis({"PERSIST", lease}), "1");  // And does not end by itself.
  gate.open();
  ASSERT_TRUE(answers(here) && stored(here));
  EXPECT_TRUE(poll_until([&] { return redis({"EXISTS", lease}) == "0"; }, kPatience));
}

// Of builders that died, and of masters that are gone.
TEST_F(GuardRedisTest, WhatOthersHaveLeftIsClearedAwayAndOutnumbered) {
  constexpr std::uint64_t kFuture = std::uint64_t{1} << 52;  // In us since 1970: the year 2112.
  const auto filter = [](std::uint64_t generation) {
    return BloomHeader{.blocks = 1, .keys_expected = 1, .generation = generation};
  };
  const std::string name = "tiercel/bloom:item";
  redis({"SET", name,
         encode_guard({.id = "0123456789abcdef",
                       .branch = "of a master that is gone",
                       .current = filter(5),
                       .next = filter(6),
                       .garbage = {filter(kFuture)}})});
  for (const std::uint64_t generation : {std::uint64_t{5}, std::uint64_t{6}, kFuture}) {
    redis({"SET", chunk_key(name, generation, 0), std::string(64, '\xff')});
  }
  Source source{{"1"}};
  const Gate gate;
  source.enumerate_behind(gate);
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(gate.wait_until_arrived(1));
  const auto announced = decode_guard(redis({"GET", name}));
  ASSERT_TRUE(announced);
  EXPECT_NE(announced->branch, "of a master that is gone");
  EXPECT_FALSE(announced->current) << "nobody may begin with what that master had";
  gate.open();
  ASSERT_TRUE(answers(here) && stored(here));
  EXPECT_EQ(source.enumerations(), 1U);
  EXPECT_EQ(read(here, 7), "(absent)");
  EXPECT_EQ(source.asked_for("7"), 0U);
  const std::uint64_t generation = here.stats().guard.generation;
  EXPECT_GT(generation, kFuture);
  const auto only_ours = [&] {
    const auto keys = guard_keys();
    return std::set<std::string>{keys.begin(), keys.end()} ==
           std::set<std::string>{name, chunk_key(name, generation, 0)};
  };
  EXPECT_TRUE(poll_until(only_ours, kPatience)) << redis({"KEYS", "tiercel/bloom:*"});

  // Also above what only we know.
  redis({"FLUSHALL"});
  ASSERT_TRUE(poll_until([&] { return here.stats().guard.stored == 2; }, kPatience));
  const auto stored_again = decode_guard(redis({"GET", name}));
  ASSERT_TRUE(stored_again && stored_again->current);
  EXPECT_GT(stored_again->current->generation, generation);
}

TEST_F(GuardRedisTest, ARestartOfTheMasterAsksTheSource) {
  Source source{{"1"}};
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  redis({"CONFIG", "SET", "dir", server_->folder()});
  redis({"SAVE"});
  source.create("2");
  ASSERT_TRUE(here.invalidate(2));  // The saved filter does not have it.
  server_->restart();
  ASSERT_TRUE(
      poll_until([&] { return source.enumerations() == 2 && first->lease().held; }, kPatience));
  ASSERT_TRUE(answers(here));
  EXPECT_EQ(read(here, 2), "item 2");
  EXPECT_GE(here.stats().guard.lost, 1U);
}

TEST_F(GuardRedisTest, ADamagedChunkIsNoticedByWhoPrimes) {
  Source source{{"1"}};
  auto first = open();
  {
    const auto here = open_guarded(*first, source);
    ASSERT_TRUE(answers(here) && stored(here));
  }
  first.reset();
  const std::string chunk = only_chunk(guard_keys());
  for (const std::vector<std::string>& damage :
       {std::vector<std::string>{"DEL", chunk},
        {"APPEND", chunk, "x"},
        {"SETRANGE", chunk, "0", std::string(std::stoul(redis({"STRLEN", chunk})), '\0')}}) {
    const std::size_t before = source.enumerations();
    auto again = open();
    const std::string kept = only_chunk(guard_keys());
    std::vector<std::string> words = damage;
    words[1] = kept;
    redis(words);
    const auto there = open_guarded(*again, source);
    ASSERT_TRUE(answers(there) && stored(there)) << damage[0];
    EXPECT_EQ(source.enumerations(), before + 1) << damage[0];
    EXPECT_EQ(read(there, 1), "item 1");
    EXPECT_EQ(there.stats().guard.failures, 1U);
  }
}

TEST_F(GuardRedisTest, ALostChunkIsNoticedByWhoWrites) {
  Source source{{"1"}};
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  redis({"DEL", only_chunk(guard_keys())});
  source.create("2");
  ASSERT_TRUE(here.invalidate(2));
  // It is stored anew, from what is here.
  ASSERT_TRUE(poll_until([&] { return here.stats().guard.stored == 2; }, kPatience));
  const auto second = open();
  const auto there = open_guarded(*second, source);
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(read(there, 1), "item 1");
  EXPECT_EQ(read(there, 2), "item 2");
  EXPECT_EQ(source.enumerations(), 1U);
}

TEST_F(GuardRedisTest, RedisKeepsNothingOfFormerGenerations) {
  Source source{{"1"}};
  const auto first = open();
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here) && stored(here));
  ASSERT_TRUE(poll_until([&] { return guard_keys().size() == 2; }, kPatience));
  const auto keys = guard_keys();
  ASSERT_TRUE(here.rebuild_guard());
  ASSERT_TRUE(poll_until([&] { return here.stats().guard.stored == 2; }, kPatience));
  ASSERT_TRUE(poll_until([&] { return guard_keys().size() == 2; }, kPatience));
  EXPECT_NE(guard_keys(), keys);
}

TEST_F(GuardRedisTest, AnotherSizeIsTakenAsItIsAndOneThatIsTooLargeIsNot) {
  Source source{{"1"}};
  const auto first = open();
  const auto here = open_guarded(*first, source, {.keys_expected = 2'000'000});
  ASSERT_TRUE(answers(here) && stored(here));
  const auto second = open();
  const auto there = open_guarded(*second, source, {.keys_expected = 10});
  ASSERT_TRUE(answers(there));
  EXPECT_EQ(there.stats().guard.bytes, here.stats().guard.bytes);
  const auto third = open();
  const auto small = open_guarded(*third, source, {.keys_expected = 10, .bytes_max = 4096});
  ASSERT_TRUE(poll_until([&] { return small.stats().guard.failures > 0; }, kPatience));
  EXPECT_THAT(small.stats().guard.last_failure, ::testing::HasSubstr("bytes_max"));
  EXPECT_EQ(small.stats().guard.state, GuardState::kNotPrimed);
  EXPECT_EQ(read(small, 7), "(absent)");
  EXPECT_EQ(source.asked_for("7"), 1U);
}

TEST_F(GuardRedisTest, WithoutPermissionNothingIsRefusedAndNothingIsWrittenPastTheFilter) {
  redis({"ACL", "SETUSER", "app", "on", ">secret", "+@all", "&*", "~tiercel:*", "~tiercel/fill:*",
         "~tiercel/history", "~tiercel/tags", "~tiercel/lease"});
  Source source{{"1"}};
  CacheOptions options;
  options.redis_url = "redis://app:secret@" + server_->endpoint();
  const auto first = open_ready(std::move(options));
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(poll_until([&] { return here.stats().guard.failures > 0; }, kPatience));
  EXPECT_THAT(here.stats().guard.last_failure, ::testing::HasSubstr("NOPERM"));
  EXPECT_EQ(read(here, 7), "(absent)");
  EXPECT_EQ(source.asked_for("7"), 1U);
  const auto written = here.set(1, "x");
  ASSERT_FALSE(written);
  EXPECT_THAT(written.error().message, ::testing::HasSubstr("NOPERM"));
}

TEST_F(GuardRedisTest, ForeignWritersAreRefused) {
  Source source;
  const auto cache = open({.foreign_writers = true});
  const auto opened = Items::open(*cache, {.name = "item", .guard = source.options({})});
  ASSERT_FALSE(opened);
  EXPECT_THAT(opened.error().message, ::testing::HasSubstr("foreign_writers"));
}

TEST_F(GuardRedisTest, TheKeysOfRedisItself) {
  const auto first = open();
  {
    const auto before = Items::open(*first, {.name = "item"});
    for (int i = 0; i < 2000; ++i) ASSERT_TRUE(before->set(i, "x"));
    ASSERT_TRUE(first->set("items:7000", "of another keyspace"));
  }
  const auto second = open();
  const auto items =
      Items::open(*second, {.name = "item", .guard = BloomGuardOptions{.keys_expected = 5000}});
  ASSERT_TRUE(items) << items.error().to_string();
  ASSERT_TRUE(answers(*items));
  for (int i = 0; i < 2000; ++i) EXPECT_NE(read(*items, i), "(absent)") << i;
  EXPECT_EQ(read(*items, 7000), "(absent)");
  EXPECT_NEAR(static_cast<double>(items->stats().guard.keys), 2000, 20);
  ASSERT_TRUE(items->set(5000, "new"));
  EXPECT_EQ(read(*items, 5000), "new");
}

// What is asked of a version, or of the master, may be newer than the filter.
TEST_F(GuardRedisTest, OnlyReadsThatL1MayAnswerAreRefused) {
  Source source;
  const auto first = open(with_long_lease({}));
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here));
  const auto refused = [&](Freshness freshness) {
    const std::uint64_t before = here.stats().guard.refused;
    EXPECT_TRUE(here.get(7, {.freshness = freshness}));
    return here.stats().guard.refused > before;
  };
  EXPECT_TRUE(refused(Freshness::leased()));
  EXPECT_TRUE(refused(Freshness::at_most(10s)));
  EXPECT_FALSE(refused(Freshness::latest()));
  EXPECT_FALSE(refused(Freshness::at_least(1)));
}

TEST_F(GuardRedisTest, WithoutLeaseNothingIsRefused) {
  TcpProxy proxy{server_->port()};
  Source source;
  CacheOptions options;
  options.redis_url = proxy.url();
  options.lease = 100ms;
  options.read_timeout_before_load = 50ms;
  const auto first = open_ready(std::move(options));
  const auto here = open_guarded(*first, source);
  ASSERT_TRUE(answers(here));
  // While the machine stands still the lease runs out.
  ASSERT_TRUE(poll_until(
      [&] {
        EXPECT_EQ(read(here, 7), "(absent)");
        return here.stats().guard.refused > 0;
      },
      kPatience));
  const std::uint64_t refused = here.stats().guard.refused;
  const std::size_t asked = source.asked_for("7");
  proxy.set_accepting(false);
  proxy.reset_all();
  ASSERT_TRUE(poll_until([&] { return !first->lease().held; }, kPatience));
  EXPECT_EQ(read(here, 7), "(absent)");
  EXPECT_EQ(here.stats().guard.refused, refused);
  EXPECT_EQ(source.asked_for("7"), asked + 1);
}

}  // namespace
}  // namespace tiercel::testing
