// Fills that come to the same step at the same moment take it in one call; each over a real Redis.

#include "cache_fixture.h"
#include "support/blocking_redis.h"
#include "support/redis_server.h"
#include "tiercel/serialization/message.h"

namespace tiercel::testing {
namespace {

std::string key_of(std::size_t i) { return "k" + std::to_string(i); }
Result<std::optional<Loaded>> load(std::string_view key) {
  return Loaded{"value of " + std::string{key}};
}

class FillCallsTest : public ::testing::Test {
 protected:
  using Read = Answer<ReadResult>;

  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    options.executor = &pool_;
    return open_ready(with_long_lease(std::move(options)));
  }
  static Read get(Cache& cache, const std::string& key, Loader loader) {
    Read answer;
    cache.get_async(key, {.timeout = kPatience, .loader = std::move(loader)}, answer.callback());
    return answer;
  }
  static std::vector<Read> get_all(Cache& cache, std::size_t count, const Loader& loader) {
    std::vector<Read> answers;
    for (std::size_t i = 0; i < count; ++i) answers.push_back(get(cache, key_of(i), loader));
    return answers;
  }
  std::string stored(const std::string& key) {
    const std::string bytes = server_->command({"GET", "tiercel:" + key});
    const std::size_t at = bytes.find("value of ");
    return at == std::string::npos ? "(none)" : bytes.substr(at, 9 + key.size());
  }

  // Each has been answered, the one way or the other.
  static void expect_closed_or_loaded(std::vector<Read>& answers) {
    for (std::size_t i = 0; i < answers.size(); ++i) {
      ASSERT_TRUE(answers[i].arrived()) << i;
      const ReadResult answer = answers[i].take();
      if (answer) {
        EXPECT_EQ(described(answer), "value of " + key_of(i) + "@loader");
      } else {
        EXPECT_EQ(answer.error().code, ErrorCode::kClosed) << answer.error().to_string();
      }
    }
  }

  CountingPool pool_;
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(FillCallsTest, ThoseThatMissTogetherTakeEachStepInFewCalls) {
  constexpr std::size_t kKeys = 40;
  constexpr int kCalls = 3;  // Of 16, 16 and 8 keys.
  const auto cache = open();
  Gate gate;
  const int granted_before = server_->calls_of("hsetnx");
  std::vector<Read> answers;
  {
    const LoopHold hold{*cache};
    answers = get_all(*cache, kKeys, [gate](std::string_view key) {
      gate.pass();
      return load(key);
    });
  }
  ASSERT_TRUE(gate.wait_until_arrived(kKeys)) << "all of them load at the same time";
  EXPECT_EQ(server_->calls_of("hsetnx") - granted_before, kCalls);
  const int stored_before = server_->calls_of("hget");
  {
    const LoopHold hold{*cache};
    gate.open();
    ASSERT_TRUE(pool_.wait_until_ended(kKeys));
  }
  for (std::size_t i = 0; i < kKeys; ++i) {
    EXPECT_EQ(described(answers[i].take()), "value of " + key_of(i) + "@loader");
    EXPECT_EQ(stored(key_of(i)), "value of " + key_of(i));
    EXPECT_EQ(server_->command({"EXISTS", "tiercel/fill:" + key_of(i)}), "0");
  }
  EXPECT_EQ(server_->calls_of("hget") - stored_before, kCalls);
  EXPECT_EQ(cache->stats().loads_not_stored, 0U);
}

TEST_F(FillCallsTest, EachIsAnsweredForItself) {
  const auto cache = open();
  const auto other = open();
  ASSERT_TRUE(other->set("there", "of the other"));
  server_->command({"RPUSH", "tiercel:list", "foreign"});
  server_->command({"RPUSH", "tiercel/fill:no lease", "foreign"});
  server_->command({"SET", "tiercel:corrupt", std::string(8, '\1') + "\xf1TCL broken"});
  server_->command({"SET", "tiercel/fill:taken", "somebody's", "PX", "700"});
  std::vector<Read> answers;
  const std::vector<std::string> keys{"absent",  "there", "list",   "no lease",
                                      "corrupt", "taken", "failing"};
  {
    const LoopHold hold{*cache};
    for (const std::string& key : keys) {
      answers.push_back(get(*cache, key, [](std::string_view asked) {
        if (asked == "failing") return Result<std::optional<Loaded>>{internal("no such row")};
        return load(asked);
      }));
    }
  }
  EXPECT_EQ(described(answers[0].take()), "value of absent@loader");
  EXPECT_EQ(described(answers[1].take()), "of the other@l2");
  EXPECT_EQ(described(answers[2].take()), "value of list@loader");
  EXPECT_EQ(described(answers[3].take()), "value of no lease@loader");
  EXPECT_EQ(described(answers[4].take()), "value of corrupt@loader");
  EXPECT_EQ(described(answers[5].take()), "value of taken@loader") << "when the lease has run out";
  EXPECT_EQ(code_of(answers[6].take()), ErrorCode::kInternal);
  for (const std::string key : {"absent", "list", "corrupt", "taken"}) {
    EXPECT_EQ(stored(key), "value of " + key);
  }
  EXPECT_EQ(cache->stats().loads_not_stored, 1U) << "the one without a lease";
  EXPECT_EQ(cache->stats().values_corrupt, 2U);
  for (const std::string& key : keys) {
    EXPECT_TRUE(poll_until([&] {
      return key == "no lease" || server_->command({"EXISTS", "tiercel/fill:" + key}) == "0";
    })) << key;
  }
}

TEST_F(FillCallsTest, AnInvalidationBarsOneOfThemAndNotItsNeighbours) {
  const auto cache = open();
  const auto other = open();
  Gate gate;
  auto answers = get_all(*cache, 3, [gate](std::string_view key) {
    gate.pass();
    return load(key);
  });
  ASSERT_TRUE(gate.wait_until_arrived(3));
  {
    const LoopHold hold{*cache};
    ASSERT_TRUE(other->invalidate(key_of(1)));
    gate.open();
    ASSERT_TRUE(pool_.wait_until_ended(3));
  }
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(described(answers[i].take()), "value of " + key_of(i) + "@loader");
  }
  EXPECT_EQ(stored(key_of(0)), "value of k0");
  EXPECT_EQ(stored(key_of(1)), "(none)");
  EXPECT_EQ(stored(key_of(2)), "value of k2");
  EXPECT_EQ(cache->stats().loads_not_stored, 1U);
  EXPECT_FALSE(cache->try_get(key_of(1)));
}

// What it was granted at cannot be compared with what another branch of history says.
TEST_F(FillCallsTest, ALoadThatBeganInAnEarlierEpochIsNotStored) {
  const auto cache = open();
  const auto epochs = cache->stats().epochs;
  Gate gate;
  auto answers = get_all(*cache, 2, [gate](std::string_view key) {
    gate.pass();
    return load(key);
  });
  ASSERT_TRUE(gate.wait_until_arrived(2));
  server_->command({"CLIENT", "KILL", "TYPE", "pubsub"});
  ASSERT_TRUE(poll_until([&] { return cache->stats().epochs > epochs; }, kPatience));
  gate.open();
  for (std::size_t i = 0; i < answers.size(); ++i) {
    EXPECT_EQ(described(answers[i].take()), "value of " + key_of(i) + "@loader");
    EXPECT_EQ(stored(key_of(i)), "(none)");
    EXPECT_TRUE(poll_until([&] {
      return server_->command({"EXISTS", "tiercel/fill:" + key_of(i)}) == "0";
    })) << "given back";
  }
  EXPECT_EQ(cache->stats().loads_not_stored, 2U);
}

TEST_F(FillCallsTest, LargeValuesAreStoredToo) {
  const auto cache = open();
  const std::string large(40'000, 'v');
  std::vector<Read> answers;
  {
    const LoopHold hold{*cache};
    answers = get_all(*cache, 5, [&](std::string_view) { return Loaded{large}; });
  }
  for (auto& answer : answers) EXPECT_EQ(described(answer.take()), large + "@loader");
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_GT(std::stoi(server_->command({"STRLEN", "tiercel:" + key_of(i)})), 40'000);
  }
}

// What the client's queue takes bounds what leaves together.
TEST_F(FillCallsTest, ASmallQueueTakesThemOneByOne) {
  auto redis = l2::parse_url(server_->url());
  ASSERT_TRUE(redis);
  redis->queue_bytes_max = std::size_t{64} << 10;
  const auto cache = open_ready({.redis = *redis, .executor = &pool_});
  const std::string value(12'000, 'v');
  Gate gate;
  auto answers = get_all(*cache, 16, [&](std::string_view) {
    gate.pass();
    return Loaded{value};
  });
  ASSERT_TRUE(gate.wait_until_arrived(16));
  {
    const LoopHold hold{*cache};
    gate.open();
    ASSERT_TRUE(pool_.wait_until_ended(16));
  }
  for (auto& answer : answers) EXPECT_EQ(described(answer.take()), value + "@loader");
  EXPECT_LT(cache->stats().loads_not_stored, 16U) << "the first of them found room";
}

// So large that their names do not fit into one message.
TEST_F(FillCallsTest, LongKeysAreStoredToo) {
  const auto cache = open();
  const auto key = [](char letter) { return std::string(30'000, letter); };
  std::vector<Read> answers;
  {
    const LoopHold hold{*cache};
    for (const char letter : {'a', 'b', 'c', 'd'}) {
      answers.push_back(get(*cache, key(letter), [](std::string_view) { return Loaded{"v"}; }));
    }
  }
  for (auto& answer : answers) EXPECT_EQ(described(answer.take()), "v@loader");
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    EXPECT_EQ(server_->command({"EXISTS", "tiercel:" + key(letter)}), "1");
  }
}

// Whether they were sent or not, each is answered once, and the close ends.
TEST_F(FillCallsTest, TheCloseAnswersWhatWaitsToBeAsked) {
  auto cache = open();
  LoopHold hold{*cache};
  auto answers = get_all(*cache, 20, load);
  std::thread closer{[&] { cache.reset(); }};
  hold.release();
  closer.join();
  expect_closed_or_loaded(answers);
}

TEST_F(FillCallsTest, TheCloseAnswersWhatWaitsToBeStored) {
  auto cache = open();
  Gate gate;
  auto answers = get_all(*cache, 20, [gate](std::string_view key) {
    gate.pass();
    return load(key);
  });
  ASSERT_TRUE(gate.wait_until_arrived(20));
  LoopHold hold{*cache};
  gate.open();
  ASSERT_TRUE(pool_.wait_until_ended(20));
  std::thread closer{[&] { cache.reset(); }};
  hold.release();
  closer.join();
  expect_closed_or_loaded(answers);
}

// A load that another instance waits for is told, also beside loads that nobody waits for.
TEST_F(FillCallsTest, WhoWaitsForOneOfThemIsWoken) {
  const auto cache = open();
  const auto other = open({.fill_lease = 60s});
  Gate gate;
  auto answers = get_all(*cache, 3, [gate](std::string_view key) {
    gate.pass();
    return load(key);
  });
  ASSERT_TRUE(gate.wait_until_arrived(3));
  Read waits = get(*other, key_of(1), load);
  ASSERT_TRUE(poll_until([&] {
    return server_->command({"GET", "tiercel/fill:" + key_of(1)}).ends_with("w");
  }));
  auto subscriber = BlockingRedis::connect("127.0.0.1", server_->port());
  ASSERT_TRUE(subscriber) << subscriber.error().to_string();
  ASSERT_TRUE(subscriber->command({"SUBSCRIBE", "tiercel/changes"}));
  {
    const LoopHold hold{*cache};
    gate.open();
    ASSERT_TRUE(pool_.wait_until_ended(3));
  }
  const auto told = subscriber->read_reply();
  ASSERT_TRUE(told && told->elements.size() == 3U);
  const auto message = serialization::decode_message(told->elements[2].text);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->message.kind, serialization::MessageKind::kFillDone);
  EXPECT_THAT(message->message.keys,
              ::testing::UnorderedElementsAre(key_of(0), key_of(1), key_of(2)));
  EXPECT_EQ(described(waits.take()), "value of k1@l2");
  EXPECT_EQ(described(answers[1].take()), "value of k1@loader");
}

}  // namespace
}  // namespace tiercel::testing
