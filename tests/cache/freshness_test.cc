// What each read may ask for, and what it gets while the lease is lost.

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

class FreshnessTest : public ::testing::Test {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    options.redis_url = server_->url();
    return open_ready(std::move(options));
  }
  // The master says nothing any more; the lease runs out.
  void lose_lease(Cache& cache) {
    server_->stop_process();
    EXPECT_TRUE(poll_until([&] { return !cache.lease().held; }));
  }

  std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(FreshnessTest, AtMostAnAgeIsStricterOrLooserThanTheLease) {
  const auto cache = open({.lease = 2000ms, .stream_timeout = 60s});
  ASSERT_TRUE(cache->set("k", "v"));
  EXPECT_EQ(described(cache->try_get("k", Freshness::at_most(60s))), "v@l1");
  lose_lease(*cache);
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  EXPECT_EQ(described(cache->try_get("k", Freshness::at_most(1ms))), "(none)");
  const auto old = cache->try_get("k", Freshness::at_most(1h));
  ASSERT_EQ(described(old), "v@l1");
  EXPECT_GE(old->age_bound(), 2000ms) << "longer than the lease, which is lost";
  EXPECT_LT(old->age_bound(), 1h);
  server_->continue_process();
}

TEST_F(FreshnessTest, AtLeastAVersionIsAnsweredByL1OnlyIfItHasIt) {
  const auto writer = open(with_long_lease({}));
  const auto reader = open(with_long_lease({}));
  const auto first = writer->set("k", "1");
  ASSERT_TRUE(first);
  ASSERT_EQ(read_value(*reader, "k"), "1");
  EXPECT_EQ(described(reader->try_get("k", Freshness::at_least(first->version))), "1@l1");
  const auto second = writer->set("k", "2");
  ASSERT_TRUE(second);
  // Whether or not the message has come by now.
  const auto read =
      reader->get("k", {.timeout = kPatience, .freshness = Freshness::at_least(second->version)});
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ((*read)->to_string(), "2");
  EXPECT_GE((*read)->version(), second->version);
}

TEST_F(FreshnessTest, AVersionThatIsGoneIsToldAndNotReplacedByAnOlderOne) {
  const auto cache = open();
  const auto written = cache->set("k", "v");
  ASSERT_TRUE(written);
  const auto read = cache->get(
      "k", {.timeout = kPatience, .freshness = Freshness::at_least(written->version + 1)});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message.find("lost by a failover"), std::string::npos);
  EXPECT_EQ(
      described(cache->get("absent", {.timeout = kPatience, .freshness = Freshness::at_least(1)})),
      "(absent)");
}

TEST_F(FreshnessTest, TheLatestIsAskedOfTheMaster) {
  const auto cache = open(with_long_lease({}));
  ASSERT_TRUE(cache->set("k", "v"));
  ASSERT_EQ(described(cache->get("k")), "v@l1");
  EXPECT_EQ(described(cache->get("k", {.freshness = Freshness::latest()})), "v@l2");
  EXPECT_EQ(described(cache->try_get("k", Freshness::latest())), "(none)");
}

TEST_F(FreshnessTest, WithoutALeaseAReadFailsWhereItWasToldTo) {
  const auto cache = open({.lease = 200ms, .stream_timeout = 60s});
  ASSERT_TRUE(cache->set("k", "v"));
  lose_lease(*cache);
  const auto read = cache->get("k", {.without_lease = WithoutLease::fail()});
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(read.error().message.find("L1 may not answer: "), std::string::npos);
  server_->continue_process();
}

TEST_F(FreshnessTest, WithoutALeaseAReadIsServedStaleAsFarAsItAllows) {
  const auto cache = open({.lease = 200ms, .stream_timeout = 60s});
  ASSERT_TRUE(cache->set("k", "v"));
  lose_lease(*cache);
  const auto stale = cache->get("k", {.without_lease = WithoutLease::serve_stale(24h)});
  EXPECT_EQ(described(stale), "v@l1");
  EXPECT_GE((*stale)->age_bound(), 200ms);
  EXPECT_EQ(cache->stats().reads_stale, 1U);
  EXPECT_FALSE(cache->get("k", {.timeout = 50ms, .without_lease = WithoutLease::serve_stale(1ms)}))
      << "older than that: Redis is asked, which is silent";
  server_->continue_process();
  EXPECT_TRUE(poll_until([&] { return cache->lease().held; }));
  EXPECT_TRUE(poll_until([&] { return described(cache->try_get("k")) == "v@l1"; }))
      << "the stream was unbroken";
}

TEST_F(FreshnessTest, WrongOnesAreRefused) {
  const auto cache = open();
  for (const ReadOptions& wrong :
       {ReadOptions{.freshness = Freshness::at_most(0ms)},
        ReadOptions{.freshness = Freshness::at_most(1h + 1ms)},
        ReadOptions{.without_lease = WithoutLease::serve_stale(0ms)},
        ReadOptions{.without_lease = WithoutLease::serve_stale(24h + 1ms)}}) {
    EXPECT_EQ(code_of(cache->get("k", wrong)), ErrorCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace tiercel::testing
