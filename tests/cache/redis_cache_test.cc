// The cache over a real Redis, in health.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"

namespace tiercel::testing {
namespace {

class RedisCache : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(RedisCache, AWriteIsReadFromL1ByItsWriterAndFromL2ByOthers) {
  const auto writer = open(with_long_lease({}));
  const auto reader = open(with_long_lease({}));
  const auto written = writer->set("k", "v");
  ASSERT_TRUE(written) << written.error().to_string();

  const auto own = writer->try_get("k");
  ASSERT_TRUE(own);
  EXPECT_EQ(own->version(), written->version);
  EXPECT_LE(own->age_bound(), Duration{60s}) << "the lease";

  const auto first = reader->get("k");
  EXPECT_EQ(described(first), "v@l2");
  EXPECT_EQ((*first)->version(), written->version);
  EXPECT_EQ(described(reader->get("k")), "v@l1");
}

TEST_F(RedisCache, AChangeReachesAnotherInstance) {
  const auto a = open();
  const auto b = open();
  ASSERT_TRUE(a->set("k", "1"));
  ASSERT_EQ(read_value(*b, "k"), "1");
  const auto second = a->set("k", "2");
  ASSERT_TRUE(second);
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "2"; }));
  ASSERT_TRUE(b->invalidate("k"));
  EXPECT_TRUE(poll_until([&] { return read_value(*a, "k") == "(absent)"; }));
}

TEST_F(RedisCache, VersionsRise) {
  const auto cache = open();
  std::uint64_t last = 0;
  for (int i = 0; i < 100; ++i) {
    const auto written = cache->set("k" + std::to_string(i % 3), "v");
    ASSERT_TRUE(written);
    EXPECT_GT(written->version, last);
    last = written->version;
  }
}

TEST_F(RedisCache, NamespacesAreApart) {
  const auto a = open({.name_space = "a"});
  const auto b = open({.name_space = "b"});
  ASSERT_TRUE(a->set("k", "of a"));
  EXPECT_EQ(described(b->get("k")), "(absent)");
}

TEST_F(RedisCache, AnyBytesGoThere) {
  const auto a = open();
  const auto b = open();
  const std::string key("\0 \xff\r\n", 5);
  std::string value;
  for (int i = 0; i < 256; ++i) value += static_cast<char>(i);
  for (const std::string& v : {value, std::string{}, std::string(300000, '\0')}) {
    ASSERT_TRUE(a->set(key, v));
    EXPECT_TRUE(poll_until([&] { return read_value(*b, key) == v; }));
  }
}

TEST_F(RedisCache, EntriesExpireInBothTiers) {
  const auto a = open();
  const auto b = open();
  std::string key;
  for (auto life = 300ms;; life *= 2) {
    ASSERT_LT(life, kPatience);
    key = "k" + std::to_string(life.count());
    ASSERT_TRUE(a->set(key, "v", {.ttl = life}));
    const std::string read = read_value(*b, key);
    if (read == "v") break;
    ASSERT_EQ(read, "(absent)") << "its life was over";
  }
  EXPECT_TRUE(poll_until([&] { return read_value(*a, key) == "(absent)"; }));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, key) == "(absent)"; }));
  EXPECT_EQ(server_->command({"EXISTS", "tiercel:" + key}), "0");
}

TEST_F(RedisCache, L1DoesNotOutliveRedis) {
  const auto a = open();
  const auto b = open();
  const auto with_foreign_writers = open({.foreign_writers = true});
  // Their lives may be over before they are read.
  std::string key;
  for (auto life = 1000ms;; life *= 2) {
    ASSERT_LT(life, kPatience);
    key = "k" + std::to_string(life.count());
    ASSERT_TRUE(a->set(key, "v", {.ttl = life}));
    if (read_value(*b, key) == "v") break;
  }
  EXPECT_TRUE(poll_until([&] { return server_->command({"EXISTS", "tiercel:" + key}) == "0"; }));
  EXPECT_FALSE(b->try_get(key));
  // Foreign writers may have said something else than the value does.
  for (auto life = 200ms;; life *= 2) {
    ASSERT_LT(life, kPatience);
    key = "foreign" + std::to_string(life.count());
    ASSERT_TRUE(a->set(key, "v", {.ttl = 600s}));
    server_->command({"PEXPIRE", "tiercel:" + key, std::to_string(life.count())});
    if (read_value(*with_foreign_writers, key) == "v") break;
  }
  EXPECT_TRUE(poll_until([&] { return !with_foreign_writers->try_get(key); }));
}

TEST_F(RedisCache, WhatWasLoadedLongAfterTheLastWriteIsKeptAllTheSame) {
  const auto a = open();
  const auto b = open();
  ASSERT_TRUE(a->set("the last write", "v"));
  const auto written_at = Clock::system().now();
  EXPECT_TRUE(poll_until([&] { return Clock::system().now() > written_at + 600ms; }));
  const ReadOptions loading{.timeout = kPatience, .loader = [](std::string_view) {
                              return Loaded{"v", 500ms};
                            }};
  ASSERT_EQ(described(a->get("k", loading)), "v@loader");
  EXPECT_TRUE(poll_until([&] { return described(b->get("k", loading)) == "v@l1"; }));
  EXPECT_TRUE(poll_until([&] { return server_->command({"EXISTS", "tiercel:k"}) == "0"; }));
  EXPECT_FALSE(b->try_get("k"));
}

TEST_F(RedisCache, TheTtlPolicyReachesRedis) {
  const auto cache = open({.ttl = 10000ms, .ttl_jitter = 0.5});
  ASSERT_TRUE(cache->set("k", "v"));
  const int left = std::stoi(server_->command({"PTTL", "tiercel:k"}));
  EXPECT_LE(left, 10000);
  EXPECT_GT(left, 0);
  ASSERT_TRUE(cache->set("own", "v", {.ttl = 60000ms}));
  EXPECT_GT(std::stoi(server_->command({"PTTL", "tiercel:own"})), 10000);
  const auto for_ever = open({.name_space = "ever", .ttl = std::nullopt});
  ASSERT_TRUE(for_ever->set("k", "v"));
  EXPECT_EQ(server_->command({"PTTL", "ever:k"}), "-1");
}

TEST_F(RedisCache, GetManyMixesTiers) {
  const auto a = open();
  const auto b = open(with_long_lease({}));
  ASSERT_TRUE(a->set("one", "1"));
  ASSERT_TRUE(a->set("two", "2"));
  ASSERT_EQ(read_value(*b, "one"), "1");
  ASSERT_TRUE(poll_until([&] { return b->try_get("one").has_value(); }));
  const std::vector<std::string_view> keys{"one", "two", "three"};
  const auto results = b->get_many(keys);
  EXPECT_EQ(described(results[0]), "1@l1");
  EXPECT_EQ(described(results[1]), "2@l2");
  EXPECT_EQ(described(results[2]), "(absent)");
}

TEST_F(RedisCache, TenThousandKeysInOneCall) {
  const auto a = open();
  const auto b = open();
  std::vector<std::string> keys;
  std::vector<Answer<WriteResult>> written(10000);
  for (std::size_t i = 0; i < written.size(); ++i) {
    keys.push_back("key:" + std::to_string(i));
    a->set_async(keys[i], std::to_string(i), {.timeout = kPatience}, written[i].callback());
  }
  for (auto& answer : written) ASSERT_TRUE(answer.take());
  const std::vector<std::string_view> views{keys.begin(), keys.end()};
  const auto results = b->get_many(views, {.timeout = kPatience});
  ASSERT_EQ(results.size(), keys.size());
  for (std::size_t i = 0; i < results.size(); ++i) {
    ASSERT_TRUE(results[i] && *results[i]) << described(results[i]);
    EXPECT_EQ((*results[i])->bytes(), std::to_string(i));
  }
}

TEST_F(RedisCache, WhatIsLoadedIsStoredForTheFleet) {
  const auto a = open(with_long_lease({}));
  const auto b = open(with_long_lease({}));
  std::atomic<int> loads{0};
  const ReadOptions options{.timeout = kPatience, .loader = [&](std::string_view) {
                              ++loads;
                              return Loaded{"v"};
                            }};
  EXPECT_EQ(described(a->get("k", options)), "v@loader");
  EXPECT_EQ(described(a->get("k", options)), "v@l1");
  EXPECT_EQ(described(b->get("k", options)), "v@l2");
  EXPECT_EQ(loads, 1);
  EXPECT_EQ(server_->command({"EXISTS", "tiercel/fill:k"}), "0");
}

TEST_F(RedisCache, InstancesShareOneLoad) {
  const auto a = open();
  const auto b = open();
  std::atomic<int> loads{0};
  Gate gate;
  const ReadOptions options{.timeout = kPatience, .loader = [&](std::string_view) {
                              ++loads;
                              gate.pass();
                              return Loaded{"v"};
                            }};
  Answer<ReadResult> in_a;
  Answer<ReadResult> in_b;
  a->get_async("k", options, in_a.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  b->get_async("k", options, in_b.callback());
  gate.open();
  EXPECT_EQ(described(in_a.take()), "v@loader");
  EXPECT_EQ(described(in_b.take()), "v@l2");
  EXPECT_EQ(loads, 1);
}

// Who has no loader is answered by Redis and does not wait for another's load, nor gets its error.
TEST_F(RedisCache, AReaderWithoutALoaderDoesNotWaitForALoad) {
  const auto cache = open();
  Gate gate;
  Answer<ReadResult> loading;
  cache->get_async("k", {.timeout = kPatience, .loader = loader_behind(gate, "v")},
                   loading.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ(described(cache->get("k", {.timeout = kPatience})), "(absent)");
  gate.open();
  EXPECT_EQ(described(loading.take()), "v@loader");
}

TEST_F(RedisCache, DatabasesAreApart) {
  CacheOptions options = with_long_lease({});
  options.redis_url = server_->url() + "/0";
  const auto zero = open_ready(options);
  options.redis_url = server_->url() + "/1";
  const auto one = open_ready(options);
  ASSERT_TRUE(zero->set("k", "of zero"));
  EXPECT_EQ(described(one->get("k")), "(absent)");
  ASSERT_TRUE(one->set("k", "of one"));
  ASSERT_TRUE(one->set("marker", "v"));
  EXPECT_TRUE(poll_until([&] { return one->stats().messages >= 2; }));
  EXPECT_TRUE(poll_until([&] { return zero->stats().messages >= 1; }));
  EXPECT_EQ(zero->stats().messages, 1U);
  EXPECT_EQ(described(zero->try_get("k")), "of zero@l1");
}

TEST_F(RedisCache, AnAclWithoutTheChannelIsSaidClearly) {
  server_->command(
      {"ACL", "SETUSER", "game", "on", ">pass", "allkeys", "allcommands", "resetchannels"});
  const auto cache =
      open_cache({.redis_url = "redis://game:pass@127.0.0.1:" + std::to_string(server_->port())});
  const auto ready = cache->wait_until_ready(kPatience);
  ASSERT_FALSE(ready);
  EXPECT_EQ(ready.error().code, ErrorCode::kInvalidArgument) << ready.error().to_string();
  EXPECT_THAT(ready.error().message, ::testing::HasSubstr("tiercel/changes"));
}

TEST_F(RedisCache, ALoadThatIsInvalidatedIsStoredNowhere) {
  const auto a = open();
  const auto b = open();
  Gate gate;
  Answer<ReadResult> reader;
  a->get_async("k", {.timeout = kPatience, .loader = loader_behind(gate, "old")},
               reader.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(b->invalidate("k"));  // By another instance: in Redis it takes the fill lease away.
  gate.open();
  EXPECT_EQ(described(reader.take()), "old@loader");
  EXPECT_EQ(server_->command({"EXISTS", "tiercel:k"}), "0");
  EXPECT_EQ(described(a->try_get("k")), "(none)");
  EXPECT_EQ(a->stats().loads_not_stored, 1U);
}

TEST_F(RedisCache, AFailedLoadGivesTheLeaseBack) {
  const auto cache = open();
  const auto failed = cache->get(
      "k", {.timeout = kPatience, .loader = [](std::string_view) -> Result<std::optional<Loaded>> {
              return unavailable("the database is away");
            }});
  EXPECT_EQ(code_of(failed), ErrorCode::kUnavailable);
  EXPECT_TRUE(poll_until([&] { return server_->command({"EXISTS", "tiercel/fill:k"}) == "0"; }));
}

TEST_F(RedisCache, NothingFoundIsKeptForTheFleet) {
  const auto a = open(with_long_lease({.negative_ttl = 10min}));
  const auto b = open(with_long_lease({.negative_ttl = 10min}));
  std::atomic<int> loads{0};
  const ReadOptions options{.timeout = kPatience, .loader = [&](std::string_view) {
                              ++loads;
                              return std::optional<Loaded>{};
                            }};
  EXPECT_EQ(described(a->get("k", options)), "(absent)");
  EXPECT_EQ(described(a->get("k", options)), "(absent)");
  EXPECT_EQ(described(b->get("k", options)), "(absent)");
  EXPECT_EQ(loads, 1);
  ASSERT_TRUE(a->set("k", "there"));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "there"; }));
}

TEST_F(RedisCache, TheLeaseIsHeldAndSaysByWhom) {
  const auto cache = open();
  const LeaseInfo lease = cache->lease();
  EXPECT_TRUE(lease.held);
  EXPECT_EQ(lease.mode, LeaseMode::kRedis);
  EXPECT_EQ(lease.witness, WitnessMode::kNone) << "a lone master has none";
  EXPECT_EQ(lease.why, "");
  EXPECT_GT(lease.remaining, 0ms);
  EXPECT_LE(lease.remaining, 500ms);
  EXPECT_EQ(lease.master, "127.0.0.1:" + std::to_string(server_->port()));
  EXPECT_FALSE(lease.epoch.empty());
}

TEST_F(RedisCache, WorksOverAUnixSocket) {
  const auto cache = open_ready(with_long_lease({.redis_url = "unix://" + server_->unix_path()}));
  ASSERT_TRUE(cache->set("k", "v"));
  EXPECT_EQ(described(cache->try_get("k")), "v@l1");
}

TEST_F(RedisCache, ReadsItsOwnWritesFromManyThreads) {
  const auto cache = open();
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string key = "key:" + std::to_string(t);
      for (int i = 0; i < 200; ++i) {
        const std::string value = std::to_string(i);
        ASSERT_TRUE(cache->set(key, value, {.timeout = kPatience}));
        ASSERT_EQ(read_value(*cache, key), value);
      }
    });
  }
  for (auto& thread : threads) thread.join();
}

}  // namespace
}  // namespace tiercel::testing
