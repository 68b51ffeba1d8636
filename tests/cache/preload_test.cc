// What comes into L1 before anybody asks for it.

#include <array>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

using Bytes = serialization::BytesCodec;
using Names = Keyspace<Bytes>;

class PreloadTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_cache(with_long_lease(std::move(options)));
  }
  std::unique_ptr<Cache> open_and_wait(CacheOptions options = {}) {
    auto cache = open(std::move(options));
    EXPECT_TRUE(cache->wait_until_ready(kPatience));
    return cache;
  }
  static std::vector<std::string> numbered(int count) {
    std::vector<std::string> keys;
    for (int i = 0; i < count; ++i) keys.push_back("k" + std::to_string(i));
    return keys;
  }
  static Preloaded preload(Cache& cache, std::vector<std::string> keys,
                           PreloadOptions options = {}) {
    Answer<Preloaded> answer;
    EXPECT_TRUE(cache.preload(std::move(keys), options, told(answer)));
    return answer.take();
  }
  static PreloadCallback told(Answer<Preloaded>& answer) {
    return [callback = answer.callback()](const Preloaded& done) mutable { callback(done); };
  }
  static Result<Names> open_names(Cache& cache, std::atomic<int>* loads = nullptr) {
    Names::Options options{.name = "name"};
    if (loads != nullptr) {
      options.loader = [loads](std::string_view key, const auto&) -> Names::Loaded {
        ++*loads;
        if (key == "404") return std::optional<Names::Load>{};
        if (key == "500") return unavailable("away");
        return Names::Load{"name of " + std::string{key}};
      };
    }
    return Names::open(cache, std::move(options));
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(PreloadTest, WhatRedisHasIsInL1Then) {
  const auto writer = open_and_wait();
  for (const std::string& key : numbered(300)) ASSERT_TRUE(writer->set(key, "v of " + key));
  auto keys = numbered(300);
  keys.push_back("nothing");
  // At once: it waits until L1 may be filled.
  const auto cache = open();
  const Preloaded done = preload(*cache, keys);
  EXPECT_EQ(done.keys, 301U);
  EXPECT_EQ(done.found, 300U);
  EXPECT_EQ(done.absent, 1U);
  EXPECT_EQ(done.failed, 0U);
  for (const std::string& key : numbered(300)) {
    EXPECT_EQ(described(cache->try_get(key)), "v of " + key + "@l1");
  }
  EXPECT_EQ(preload(*cache, {}).keys, 0U);
}

TEST_F(PreloadTest, AKeyspaceLoadsWhatRedisDoesNotHave) {
  const auto cache = open_and_wait();
  std::atomic<int> loads{0};
  const auto names = open_names(*cache, &loads);
  ASSERT_TRUE(names->set(7, "stored"));
  ASSERT_TRUE(cache->invalidate("another"));
  const auto other = open_and_wait();
  const auto others = open_names(*other, &loads);
  const std::array<int, 4> ids{7, 8, 404, 500};
  Answer<Preloaded> answer;
  ASSERT_TRUE(others->preload(std::span<const int>{ids}, {}, told(answer)));
  const Preloaded done = answer.take();
  EXPECT_EQ(done.found, 2U);
  EXPECT_EQ(done.absent, 1U);
  EXPECT_EQ(done.failed, 1U);
  EXPECT_EQ(loads, 3);
  EXPECT_EQ(others->try_get(7)->view(), "stored");
  EXPECT_EQ(others->try_get(8)->view(), "name of 8");
}

TEST_F(PreloadTest, TheRateIsBounded) {
  const auto cache = open_and_wait();
  const auto began_at = Clock::system().now();
  EXPECT_EQ(preload(*cache, numbered(100), {.keys_per_second = 200}).absent, 100U);
  EXPECT_GE(Clock::system().now() - began_at, 400ms);
}

TEST_F(PreloadTest, WrongOnesAreRefused) {
  const auto cache = open_and_wait();
  const auto refusal = [](const Result<void>& result) {
    return result ? std::string{} : result.error().to_string();
  };
  using ::testing::HasSubstr;
  EXPECT_THAT(refusal(cache->preload({"k"}, {.keys_per_second = 0})), HasSubstr("keys_per_second"));
  EXPECT_THAT(refusal(cache->warm_up({.keys_per_second = 1'000'001})),
              HasSubstr("keys_per_second"));
  EXPECT_THAT(refusal(cache->preload({std::string(70'000, 'k')})), HasSubstr("70000 bytes"));
}

TEST_F(PreloadTest, TheCloseEndsIt) {
  Answer<Preloaded> answer;
  {
    const auto cache = open_and_wait();
    ASSERT_TRUE(cache->preload(numbered(1000), {.keys_per_second = 1}, told(answer)));
  }
  const Preloaded done = answer.take();
  EXPECT_EQ(done.keys, 1000U);
  EXPECT_LT(done.found + done.absent + done.failed, 1000U);
}

TEST_F(PreloadTest, ManyAtOnce) {
  const auto cache = open_and_wait();
  std::vector<Answer<Preloaded>> answers(8);
  std::vector<std::thread> threads;
  for (auto& answer : answers) {
    threads.emplace_back([&] { EXPECT_TRUE(cache->preload(numbered(500), {}, told(answer))); });
  }
  for (auto& thread : threads) thread.join();
  for (auto& answer : answers) EXPECT_EQ(answer.take().absent, 500U);
}

TEST_F(PreloadTest, ANewInstanceStartsWithWhatIsHotElsewhere) {
  const auto old = open_and_wait({.hot_keys_max = 3, .hot_keys_every = 100ms});
  std::atomic<int> loads{0};
  const auto names = open_names(*old, &loads);
  ASSERT_TRUE(old->set("plain", "v"));
  ASSERT_TRUE(names->set(7, "Ann"));
  for (const std::string& key : numbered(100)) ASSERT_TRUE(old->set(key, "cold"));
  // Nothing was hot yet: one that starts now is not kept waiting.
  EXPECT_TRUE(poll_until([&] {
    for (int i = 0; i < 1000; ++i) {
      (void)old->try_get("plain");
      (void)names->try_get(7);
    }
    (void)old->try_get("k5");
    const std::string told = server_->command({"GET", "tiercel/hot"});
    return told.find("plain") != std::string::npos && told.find("name:7") != std::string::npos;
  }));
  const auto fresh = open();
  const auto fresh_names = open_names(*fresh, &loads);
  Answer<Preloaded> answer;
  ASSERT_TRUE(fresh->warm_up({}, told(answer)));
  const Preloaded done = answer.take();
  EXPECT_GE(done.found, 2U);
  EXPECT_LE(done.keys, 3U);
  EXPECT_EQ(described(fresh->try_get("plain")), "v@l1");
  ASSERT_TRUE(fresh_names->try_get(7));
  EXPECT_EQ(fresh_names->try_get(7)->view(), "Ann");
  EXPECT_EQ(loads, 0);
}

TEST_F(PreloadTest, AWarmStartWithoutAnythingToStartWith) {
  Mutex mutex;
  std::string logged;
  const auto cache = open({.log = [&](LogLevel level, std::string_view line) {
    MutexLock lock{mutex};
    if (level >= LogLevel::kWarning) logged += line;
  }});
  Answer<Preloaded> nothing;
  ASSERT_TRUE(cache->warm_up({}, told(nothing)));
  EXPECT_EQ(nothing.take().keys, 0U);
  server_->command({"SET", "tiercel/hot", "garbage"});
  Answer<Preloaded> garbage;
  ASSERT_TRUE(cache->warm_up({}, told(garbage)));
  EXPECT_EQ(garbage.take().keys, 0U);
  {
    MutexLock lock{mutex};
    EXPECT_THAT(logged, ::testing::HasSubstr("hot keys"));
  }
  const auto local = open_cache({});
  Answer<Preloaded> without_redis;
  ASSERT_TRUE(local->warm_up({}, told(without_redis)));
  EXPECT_EQ(without_redis.take().keys, 0U);
}

}  // namespace
}  // namespace tiercel::testing
