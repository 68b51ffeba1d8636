// What a hit in L1 may not do, not even one that is audited: allocate, or take a lock. A program of
// its own, since it replaces what all of it allocates by.

#include "cache_fixture.h"
#include "support/allocations.h"
#include "support/locks.h"
#include "support/redis_server.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::testing {
namespace {

struct Counts {
  std::uint64_t allocations = tiercel::testing::allocations();
  std::uint64_t locks = tiercel::testing::locks();

  // Of this thread, since it was made.
  [[nodiscard]] Counts since() const {
    const Counts now;
    return {.allocations = now.allocations - allocations, .locks = now.locks - locks};
  }
};

class HitPath : public ::testing::Test {
 protected:
  // What some thousand hits of `key` did on this thread.
  static Counts of_hits(Cache& cache, std::string_view key) {
    // The first one of a thread registers it.
    EXPECT_TRUE(poll_until([&] { return cache.try_get(key).has_value(); }, kPatience));
    const Counts before;
    for (int i = 0; i < 5000; ++i) (void)cache.try_get(key);
    return before.since();
  }

  const std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(HitPath, TheCountersCount) {
  const Counts before;
  { const auto memory = std::make_unique<std::string>(100, 'x'); }
  Mutex mutex;
  { MutexLock lock{mutex}; }
  const Counts done = before.since();
  EXPECT_EQ(done.allocations, 2U);
  EXPECT_GE(done.locks, 1U);
}

TEST_F(HitPath, AHitNeitherAllocatesNorLocksAlsoWhenItIsAudited) {
  const auto cache = open_ready({.redis_url = server_->url(),
                                 .lease = 10000ms,
                                 .stream_timeout = 10000ms,
                                 .audit_one_in = 1});
  const std::string long_key(1000, 'k');
  ASSERT_TRUE(cache->set("plain", "v"));
  ASSERT_TRUE(cache->set("tagged", std::string(10000, 'v'), {.tags = {"a", "b"}}));
  ASSERT_TRUE(cache->set(long_key, "v"));
  for (const std::string& key : {std::string{"plain"}, std::string{"tagged"}, long_key}) {
    const Counts done = of_hits(*cache, key);
    EXPECT_EQ(done.allocations, 0U) << key;
    EXPECT_EQ(done.locks, 0U) << key;
  }
  const AuditStats audit = cache->stats().audit;
  EXPECT_GT(audit.sampled, 0U);
  EXPECT_GT(audit.dropped, 0U);
  EXPECT_GT(audit.skipped, 0U);
}

// Also one that is due to be renewed, and that is counted as hot.
TEST_F(HitPath, ATypedHitNeitherAllocatesNorLocks) {
  const auto cache = open_ready({.redis_url = server_->url(),
                                 .lease = 10000ms,
                                 .stream_timeout = 10000ms,
                                 .hot_keys_max = 10});
  using Names = Keyspace<serialization::BytesCodec>;
  std::atomic<int> loads{0};
  const auto names =
      Names::open(*cache, {.name = "n",
                           .policy = {.ttl = 100ms, .stale_max = 1h, .soft_deadline = 0ms},
                           .loader = [&](std::string_view, const auto&) -> Names::Loaded {
                             if (++loads > 1) return unavailable("away");
                             return Names::Load{std::string{"v"}};
                           }});
  ASSERT_TRUE(names);
  ASSERT_TRUE(names->get(7));
  EXPECT_TRUE(poll_until(
      [&] {
        const auto found = names->try_get(7);
        return found && found->value().is_stale();
      },
      kPatience));
  const Counts before;
  for (int i = 0; i < 5000; ++i) (void)names->try_get(7);
  for (int i = 0; i < 5000; ++i) (void)names->try_get(8);
  const Counts done = before.since();
  EXPECT_EQ(done.allocations, 0U);
  EXPECT_EQ(done.locks, 0U);
}

}  // namespace
}  // namespace tiercel::testing
