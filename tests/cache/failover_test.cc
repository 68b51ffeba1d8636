// The master is killed under real Sentinels.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"

namespace tiercel::testing {
namespace {

TEST(Failover, TwoInstancesComeThroughAKilledMaster) {
  const auto redis = SentinelSetup::start();
  const auto a = open_ready({.redis_url = redis->url()});
  const auto b = open_ready({.redis_url = redis->url()});
  ASSERT_TRUE(a->set("k", "before"));
  ASSERT_EQ(read_value(*b, "k"), "before");
  const LeaseInfo lease_before = b->lease();

  const int old_master = redis->master_index();
  ASSERT_GE(old_master, 0);
  redis->server(static_cast<std::size_t>(old_master)).kill();
  EXPECT_TRUE(poll_until([&] { return !b->lease().held; }));
  EXPECT_EQ(described(b->try_get("k")), "(none)");

  const int new_master = redis->wait_for_new_master(old_master);
  ASSERT_GE(new_master, 0);
  EXPECT_TRUE(poll_until(
      [&] { return static_cast<bool>(a->set("k", "after", {.timeout = 1000ms})); }, 60s));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "after"; }, 60s));
  EXPECT_TRUE(poll_until([&] { return b->lease().held && a->lease().held; }, 60s));
  const LeaseInfo lease_after = b->lease();
  EXPECT_NE(lease_after.epoch, lease_before.epoch);
  EXPECT_NE(lease_after.master, lease_before.master);
  EXPECT_EQ(
      lease_after.master,
      "127.0.0.1:" + std::to_string(redis->server(static_cast<std::size_t>(new_master)).port()));

  // The old one comes back as a replica and disturbs nobody.
  redis->restart_as_replica(static_cast<std::size_t>(old_master));
  ASSERT_TRUE(a->set("k", "healed", {.timeout = kPatience}));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "healed"; }));
  EXPECT_EQ(b->lease().master, lease_after.master);
}

TEST(Failover, AWrongMasterNameIsSaidClearly) {
  const auto redis = SentinelSetup::start({.replicas = 1, .sentinels = 1});
  std::string url = redis->url();
  url.replace(url.find("mymaster"), 8, "nosuchmaster");
  const auto cache = open_cache({.redis_url = url});
  EXPECT_TRUE(poll_until([&] {
    const auto read = cache->get("k", {.timeout = 200ms});
    return !read && read.error().message.find("nosuchmaster") != std::string::npos;
  }));
}

}  // namespace
}  // namespace tiercel::testing
