// What a hit in L1 may not do, not even one that is audited: allocate, or take a lock. A program of
// its own, since it replaces what all of it allocates by.

#include <pthread.h>

#include <cstdlib>
#include <new>

#include "cache_fixture.h"
#include "support/redis_server.h"

namespace {

struct Counts {
  std::uint64_t allocations = 0;
  std::uint64_t locks = 0;
};
constinit thread_local Counts counts;

void* allocate(std::size_t size) noexcept {
  ++counts.allocations;
  void* const memory = std::malloc(size);
  if (memory == nullptr) std::abort();
  return memory;
}

}  // namespace

void* operator new(std::size_t size) { return allocate(size); }
void* operator new[](std::size_t size) { return allocate(size); }
// All of them: a sanitizer's own would not know by which of ours it is given back.
void* operator new(std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void* operator new[](std::size_t size, const std::nothrow_t&) noexcept { return allocate(size); }
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

// By the linker's --wrap, for all that is linked into this program.
extern "C" {
int __real_pthread_mutex_lock(pthread_mutex_t* mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t* mutex);
int __wrap_pthread_mutex_lock(pthread_mutex_t* mutex) {
  ++counts.locks;
  return __real_pthread_mutex_lock(mutex);
}
int __wrap_pthread_mutex_trylock(pthread_mutex_t* mutex) {
  ++counts.locks;
  return __real_pthread_mutex_trylock(mutex);
}
}

namespace tiercel::testing {
namespace {

class HitPath : public ::testing::Test {
 protected:
  // What some thousand hits of `key` did on this thread.
  static Counts of_hits(Cache& cache, std::string_view key) {
    // The first one of a thread registers it.
    EXPECT_TRUE(poll_until([&] { return cache.try_get(key).has_value(); }, kPatience));
    const Counts before = counts;
    for (int i = 0; i < 5000; ++i) (void)cache.try_get(key);
    return {counts.allocations - before.allocations, counts.locks - before.locks};
  }

  const std::unique_ptr<RedisServer> server_ = RedisServer::start();
};

TEST_F(HitPath, TheCountersCount) {
  const Counts before = counts;
  { const auto memory = std::make_unique<std::string>(100, 'x'); }
  Mutex mutex;
  { MutexLock lock{mutex}; }
  EXPECT_EQ(counts.allocations - before.allocations, 2U);
  EXPECT_GE(counts.locks - before.locks, 1U);
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

}  // namespace
}  // namespace tiercel::testing
