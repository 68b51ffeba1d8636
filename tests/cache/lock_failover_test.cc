// Locks through a failover with real Sentinels: what holds, and what does not.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

constexpr std::chrono::milliseconds kTtlMost = 10min;

TEST(LockFailover, ALockThatTheReplicasHaveOutlivesItsMaster) {
  const auto redis = SentinelSetup::start();
  const auto holder = open_ready({.redis_url = redis->url()});
  const auto other = open_ready({.redis_url = redis->url()});
  std::atomic<int> lost{0};
  auto lock = holder->lock(
      "l", {.ttl = kTtlMost, .wait = kPatience, .replicas = 2, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();

  const int old_master = redis->master_index();
  redis->server(static_cast<std::size_t>(old_master)).kill();
  ASSERT_GE(redis->wait_for_new_master(old_master), 0);
  auto anew = other->lock("m", {.wait = 60s});
  ASSERT_TRUE(anew) << anew.error().to_string();
  EXPECT_GT(anew->fencing_number(), lock->fencing_number());
  const auto tried = other->try_lock("l");
  ASSERT_TRUE(tried) << tried.error().to_string();
  EXPECT_FALSE(*tried);
  EXPECT_TRUE(lock->is_held());
  EXPECT_EQ(lost, 0);
  const auto released = lock->release();
  ASSERT_TRUE(released) << released.error().to_string();
  EXPECT_TRUE(*released) << "though the only replica that is left is not two";
  EXPECT_TRUE(other->lock("l", {.wait = 60s}));
}

TEST(LockFailover, WithTooFewReplicasNothingIsGrantedAndWhatIsHeldIsLost) {
  // Nobody is promoted: one Sentinel that was late would do it alone.
  const auto redis = SentinelSetup::start({.replicas = 1, .sentinels = 1, .down_after = 10min});
  auto cache = open_ready({.redis_url = redis->url()});
  std::atomic<int> lost{0};
  auto lock =
      cache->lock("l", {.ttl = 2s, .wait = kPatience, .replicas = 1, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  redis->server(1).kill();
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  EXPECT_FALSE(lock->is_held());
  const auto refused = cache->lock("m", {.ttl = kTtlMost, .wait = 3s, .replicas = 1});
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("1 replicas"));
  EXPECT_TRUE(cache->lock("m", {.wait = kPatience})) << "the master's grant was given back";
  Answer<Result<Lock>> waits;
  cache->lock_async("n", {.ttl = kTtlMost, .wait = 1h, .replicas = 1}, waits.callback());
  const auto is_at_master = [&] {
    return redis->server(0).command({"EXISTS", "tiercel/lock:n"}) == "1";
  };
  EXPECT_TRUE(poll_until(is_at_master));
  cache.reset();
  EXPECT_EQ(waits.take().error().code, ErrorCode::kClosed);
  EXPECT_FALSE(is_at_master());
}

// An old master that is cut off from all but one instance grants on. There are two holders, which
// lock.h does not deny; the numbers tell which of them came later.
TEST(LockFailover, TwoMastersTwoHoldersAndTheNumbersTell) {
  const auto redis = SentinelSetup::start({.master_behind_proxy = true});
  const auto pinned = open_ready({.redis_url = redis->server(0).url()});
  const auto other = open_ready({.redis_url = redis->url()});
  redis->master_proxy().set_client_to_server({.blackhole = true});
  redis->master_proxy().set_server_to_client({.blackhole = true});
  // Nobody but the pinned one is told.
  auto old_grant = pinned->lock("l", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(old_grant) << old_grant.error().to_string();
  const auto new_master = static_cast<std::size_t>(redis->wait_for_new_master(0));
  ASSERT_LT(new_master, redis->server_count());
  auto new_grant = other->lock("l", {.ttl = kTtlMost, .wait = 60s});
  ASSERT_TRUE(new_grant) << new_grant.error().to_string();
  EXPECT_TRUE(old_grant->is_held() && new_grant->is_held()) << "what cannot be helped";
  EXPECT_GT(new_grant->fencing_number(), old_grant->fencing_number());

  // Healed, the old master becomes a replica, and forgets what it granted.
  redis->master_proxy().heal();
  EXPECT_TRUE(poll_until([&] {
    return redis->server(0).command({"GET", "tiercel/lock:l"}) ==
           redis->server(new_master).command({"GET", "tiercel/lock:l"});
  }));
  EXPECT_TRUE(new_grant->is_held());
}

}  // namespace
}  // namespace tiercel::testing
