// Locks in health: over a real Redis, and without one.

#include "tiercel/cache/lock.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <deque>

#include "cache_fixture.h"
#include "support/detached.h"
#include "support/redis_server.h"

namespace tiercel::testing {
namespace {

using ::testing::HasSubstr;

constexpr std::chrono::milliseconds kTtlMost = 10min;

// Each test runs over Redis and without.
class LockTest : public ::testing::TestWithParam<bool> {
 protected:
  std::unique_ptr<Cache> open(CacheOptions options = {}) {
    if (server_) options.redis_url = server_->url();
    options.write_timeout = kPatience;  // Of try_lock and release.
    return open_ready(std::move(options));
  }
  static bool is_free(Cache& cache, std::string_view name) {
    auto lock = cache.try_lock(name);
    EXPECT_TRUE(lock) << lock.error().to_string();
    if (!lock || !*lock) return false;
    (void)(*lock)->release();
    return true;
  }

  std::unique_ptr<RedisServer> server_ = GetParam() ? RedisServer::start() : nullptr;
};

INSTANTIATE_TEST_SUITE_P(Stores, LockTest, ::testing::Bool(), [](const auto& parameter) {
  return parameter.param ? std::string{"Redis"} : std::string{"Local"};
});

ErrorCode code_of_lock(const Result<Lock>& result) {
  return result ? ErrorCode::kInternal : result.error().code;
}

// As README and lock.h have it.
TEST_P(LockTest, TheExample) {
  const auto cache = open();
  struct {
    std::uint64_t fence = 0;
    bool update(std::uint64_t by) { return by >= std::exchange(fence, std::max(fence, by)); }
  } db;

  auto lock = cache->lock("nightly-report", {.wait = 5s});
  ASSERT_TRUE(lock) << lock.error().to_string();
  while (lock->is_held() && db.update(lock->fencing_number()) && db.fence == 0) continue;
  EXPECT_GT(db.fence, 0U);

  EXPECT_EQ(lock->name(), "nightly-report");
  EXPECT_GT(lock->remaining(), 0ms);
  EXPECT_LE(lock->remaining(), LockOptions{}.ttl);
  const auto released = lock->release();
  ASSERT_TRUE(released) << released.error().to_string();
  EXPECT_TRUE(*released);
  EXPECT_FALSE(lock->is_held());
  EXPECT_EQ(lock->remaining(), 0ms);
  EXPECT_FALSE(*lock->release()) << "there is nothing left to give back";
}

TEST_P(LockTest, WhatIsHeldIsNobodyElses) {
  const auto cache = open();
  auto first = cache->lock("l", {.ttl = kTtlMost});
  ASSERT_TRUE(first) << first.error().to_string();
  const auto tried = cache->try_lock("l");
  ASSERT_TRUE(tried) << tried.error().to_string();
  EXPECT_FALSE(*tried);
  auto waited = cache->lock("l", {.wait = 20ms});
  for (auto wait = 40ms; code_of_lock(waited) == ErrorCode::kUnavailable && wait < kPatience;
       wait *= 2) {
    waited = cache->lock("l", {.wait = wait});  // Redis had no time to answer.
  }
  EXPECT_EQ(code_of_lock(waited), ErrorCode::kConflict) << waited.error().to_string();
  EXPECT_THAT(waited.error().message, HasSubstr("'l' is held by someone else"));
  EXPECT_TRUE(is_free(*cache, "other"));
  EXPECT_TRUE(first->is_held());
  const std::uint64_t number = first->fencing_number();
  ASSERT_TRUE(*first->release());
  auto next = cache->try_lock("l");
  ASSERT_TRUE(next && *next);
  EXPECT_GT((*next)->fencing_number(), number);
}

TEST_P(LockTest, GoesBackWithItsHandle) {
  const auto cache = open();
  { ASSERT_TRUE(cache->lock("l", {.ttl = kTtlMost})); }
  auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(lock) << lock.error().to_string();
  Lock moved{std::move(*lock)};
  EXPECT_TRUE(moved.is_held());
  EXPECT_FALSE(lock->is_held());
  EXPECT_EQ(lock->fencing_number(), 0U);
  auto other = cache->lock("m", {.ttl = kTtlMost});
  ASSERT_TRUE(other);
  moved = std::move(*other);
  EXPECT_EQ(moved.name(), "m");
  EXPECT_TRUE(poll_until([&] { return is_free(*cache, "l"); })) << "what it held before";
  EXPECT_FALSE(is_free(*cache, "m"));
  moved = Lock{};
  EXPECT_TRUE(poll_until([&] { return is_free(*cache, "m"); }));
}

// Nobody holds it together with another, each number is higher, and nobody is left out.
TEST_P(LockTest, OneHolderAtATime) {
  constexpr int kThreads = 8;
  constexpr int kEach = 6;
  std::vector<std::unique_ptr<Cache>> caches;
  for (int i = 0; i < (GetParam() ? 4 : 1); ++i) caches.push_back(open());
  std::atomic<int> holders{0};
  std::atomic<int> counter{0};
  std::atomic<std::uint64_t> fence{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (const auto& cache : caches) {
    for (int thread = 0; thread < kThreads; ++thread) {
      threads.emplace_back([&] {
        for (int i = 0; i < kEach; ++i) {
          auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = 5min});
          if (!lock) {
            ADD_FAILURE() << lock.error().to_string();
            return;
          }
          if (holders.fetch_add(1) != 0) ++wrong;
          if (fence.exchange(lock->fencing_number()) >= lock->fencing_number()) ++wrong;
          const int seen = counter.load();
          std::this_thread::yield();
          counter.store(seen + 1);
          if (!lock->is_held()) ++wrong;
          holders.fetch_sub(1);
          if (i % 2 == 0) (void)lock->release();
        }
      });
    }
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong.load(), 0);
  EXPECT_EQ(counter.load(), static_cast<int>(threads.size()) * kEach);
  for (const auto& cache : caches) EXPECT_EQ(cache->stats().locks_granted, kThreads * kEach);
}

TEST_P(LockTest, WaitersOfOneCacheAreServedInOrder) {
  const auto cache = open();
  auto first = cache->lock("l", {.ttl = kTtlMost});
  ASSERT_TRUE(first);
  std::deque<Answer<Result<Lock>>> answers(5);
  for (auto& answer : answers) {
    cache->lock_async("l", {.ttl = kTtlMost, .wait = kPatience}, answer.callback());
  }
  ASSERT_TRUE(poll_until([&] { return cache->stats().locks_waiting == 5; }));
  std::uint64_t number = first->fencing_number();
  ASSERT_TRUE(*first->release());
  for (auto& answer : answers) {
    auto lock = answer.take();
    ASSERT_TRUE(lock) << lock.error().to_string();
    EXPECT_GT(lock->fencing_number(), number);
    number = lock->fencing_number();
    EXPECT_EQ(std::ranges::count_if(answers, [](const auto& one) { return one.arrived(); }),
              &answer - &answers.front() + 1);
  }
  EXPECT_EQ(cache->stats().locks_waiting, 0U);
}

TEST_P(LockTest, WithoutAWatchdogItEndsByItself) {
  const auto cache = open();
  std::atomic<int> lost{0};
  auto lock = cache->lock("l", {.ttl = 100ms, .watchdog = false, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  auto next = cache->lock("l", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(next) << next.error().to_string();
  EXPECT_FALSE(lock->is_held()) << "before anyone else has it";
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  EXPECT_EQ(cache->stats().locks_lost, 1U);
  EXPECT_GT(next->fencing_number(), lock->fencing_number());
  const auto released = lock->release();
  ASSERT_TRUE(released) << released.error().to_string();
  EXPECT_FALSE(*released) << "it was not its owner's any more";
  EXPECT_FALSE(is_free(*cache, "l")) << "nor was the other's touched";
  EXPECT_TRUE(next->is_held());
  EXPECT_TRUE(*next->release());
}

// A renewal sets the time that is left back to the whole ttl.
TEST_P(LockTest, TheWatchdogKeepsIt) {
  const auto cache = open();
  auto lock =
      cache->lock("l", {.ttl = 12s, .wait = kPatience, .on_lost = [] { ADD_FAILURE() << "lost"; }});
  ASSERT_TRUE(lock);
  auto left = lock->remaining();
  EXPECT_TRUE(poll_until([&] {
    const auto before = std::exchange(left, lock->remaining());
    return left > before;
  }));
  EXPECT_TRUE(lock->is_held());
  if (server_) {
    EXPECT_GT(std::stoi(server_->command({"PTTL", "tiercel/lock:l"})), 8000) << "in Redis, too";
  }
  EXPECT_FALSE(is_free(*cache, "l"));
  EXPECT_TRUE(*lock->release());
}

// What a stopped process is: its loop does not run, its clock does.
TEST_P(LockTest, AStoppedHolderSeesThatItMayNotBeHeld) {
  ManualClock clock;
  // No lease is ever proven by a clock that stands still; a lock needs none.
  const auto cache = open_cache({.redis_url = server_ ? server_->url() : "", .clock = &clock});
  std::atomic<int> lost{0};
  auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = 1h, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  EXPECT_TRUE(lock->is_held());
  const auto remaining = lock->remaining();
  EXPECT_LT(remaining, kTtlMost) << "the server's clock may be faster";
  clock.advance(remaining - 1ms);
  EXPECT_TRUE(lock->is_held());
  clock.advance(2ms);
  EXPECT_FALSE(lock->is_held());
  EXPECT_EQ(lock->remaining(), 0ms);
  EXPECT_EQ(lost, 0) << "its loop has not come to it yet: the watchdog's next turn is far off";
}

TEST_P(LockTest, ItIsLostAsSoonAsNothingVouchesForIt) {
  ManualClock clock;
  const auto cache = open_cache({.redis_url = server_ ? server_->url() : "", .clock = &clock});
  std::atomic<int> lost{0};
  auto lock =
      cache->lock("l", {.ttl = 100ms, .wait = 1h, .watchdog = false, .on_lost = [&] { ++lost; }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  clock.advance(99ms);  // There it stands still: who waits for a later moment waits for ever.
  EXPECT_FALSE(lock->is_held());
  EXPECT_TRUE(poll_until([&] { return lost == 1; }));
  EXPECT_EQ(cache->stats().locks_lost, 1U);
}

// Its end comes while it waits to be given back.
TEST_P(LockTest, WhatIsBeingGivenBackIsNotLost) {
  ManualClock clock;
  const auto cache = open_cache({.redis_url = server_ ? server_->url() : "", .clock = &clock});
  auto lock = cache->lock("l", {.ttl = 100ms, .wait = 1h, .watchdog = false, .on_lost = [] {
                                  ADD_FAILURE() << "lost";
                                }});
  ASSERT_TRUE(lock) << lock.error().to_string();
  Gate gate;
  cache->lock_async("m", {.wait = 1h}, [gate](const Result<Lock>&) { gate.pass(); });
  ASSERT_TRUE(gate.wait_until_arrived(1));
  Answer<Result<bool>> released;
  lock->release_async(released.callback());
  clock.advance(1s);
  // The loop's timers go by the system's clock: the end is due before the release is come to.
  const TimePoint began = Clock::system().now();
  EXPECT_TRUE(poll_until([&] { return Clock::system().now() - began > 200ms; }));
  gate.open();
  EXPECT_TRUE(released.take());
  EXPECT_EQ(cache->stats().locks_lost, 0U);
}

TEST_P(LockTest, HeldLocksAreBounded) {
  const auto cache = open();
  std::deque<Answer<Result<Lock>>> answers(kLocksHeldMax);
  for (std::size_t i = 0; i < answers.size(); ++i) {
    cache->lock_async("l" + std::to_string(i), {.ttl = kTtlMost, .wait = kPatience},
                      answers[i].callback());
  }
  std::vector<Lock> locks;
  for (auto& answer : answers) {
    auto lock = answer.take();
    ASSERT_TRUE(lock) << lock.error().to_string();
    locks.push_back(std::move(*lock));
  }
  EXPECT_EQ(cache->stats().locks_held, kLocksHeldMax);
  const auto refused = cache->lock("one more");
  EXPECT_EQ(code_of_lock(refused), ErrorCode::kOverloaded);
  EXPECT_THAT(refused.error().message, HasSubstr("kLocksHeldMax"));
  EXPECT_FALSE(cache->try_lock("one more"));
  ASSERT_TRUE(*locks.back().release());
  EXPECT_TRUE(cache->lock("one more"));
}

TEST_P(LockTest, WaitingCallsAreBounded) {
  auto cache = open();
  auto held = cache->lock("l", {.ttl = kTtlMost});
  ASSERT_TRUE(held);
  std::atomic<int> closed{0};
  for (std::size_t i = 0; i < kLocksWaitingMax; ++i) {
    cache->lock_async("l", {.wait = 1h}, [&](Result<Lock> lock) {
      if (code_of_lock(lock) == ErrorCode::kClosed) ++closed;
    });
  }
  ASSERT_TRUE(poll_until([&] { return cache->stats().locks_waiting == kLocksWaitingMax; }));
  const auto refused = cache->lock("other");
  EXPECT_EQ(code_of_lock(refused), ErrorCode::kOverloaded);
  EXPECT_THAT(refused.error().message, HasSubstr("kLocksWaitingMax"));
  cache.reset();
  EXPECT_EQ(closed, static_cast<int>(kLocksWaitingMax));
}

TEST_P(LockTest, TheEndOfTheCacheGivesAllBackAndAnswersAll) {
  auto cache = open();
  auto held = cache->lock("held", {.ttl = kTtlMost, .on_lost = [] { ADD_FAILURE() << "lost"; }});
  ASSERT_TRUE(held);
  { ASSERT_TRUE(cache->lock("just released", {.ttl = kTtlMost})); }
  Answer<Result<Lock>> waits;
  cache->lock_async("held", {.wait = 1h}, waits.callback());
  // Asked for in the last moment: granted or not, it must not stay locked.
  Answer<Result<Lock>> asks;
  cache->lock_async("asked for", {.ttl = kTtlMost, .wait = 1h}, asks.callback());
  cache.reset();
  ASSERT_TRUE(waits.arrived());
  EXPECT_EQ(code_of_lock(waits.take()), ErrorCode::kClosed);
  ASSERT_TRUE(asks.arrived());
  EXPECT_FALSE(held->is_held());
  EXPECT_EQ(held->remaining(), 0ms);
  const auto released = held->release();
  ASSERT_FALSE(released);
  EXPECT_EQ(released.error().code, ErrorCode::kClosed);
  if (server_) {
    for (const char* name : {"held", "just released", "asked for"}) {
      EXPECT_EQ(server_->command({"EXISTS", "tiercel/lock:" + std::string{name}}), "0") << name;
    }
  }
}

// However long a callback keeps the loop: the close waits for it, and then answers the others.
TEST_P(LockTest, TheEndOfTheCacheAnswersAllBehindASlowCallback) {
  auto cache = open();
  auto held = cache->lock("held", {.ttl = kTtlMost});
  ASSERT_TRUE(held);
  Answer<Result<Lock>> waits;
  cache->lock_async("held", {.wait = 1h}, waits.callback());
  Gate gate;
  cache->lock_async("slow", {.wait = kPatience}, [gate](const Result<Lock>&) { gate.pass(); });
  ASSERT_TRUE(gate.wait_until_arrived(1));
  std::thread closing{[&] { cache.reset(); }};
  const TimePoint began = Clock::system().now();
  EXPECT_TRUE(poll_until([&] { return Clock::system().now() - began > 1s; }));
  gate.open();
  closing.join();
  ASSERT_TRUE(waits.arrived());
  EXPECT_EQ(code_of_lock(waits.take()), ErrorCode::kClosed);
  EXPECT_FALSE(held->is_held());
}

TEST_P(LockTest, AForkedChildGivesNothingBack) {
  const auto cache = open();
  auto lock = cache->lock("l", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(lock) << lock.error().to_string();
  auto other = cache->lock("m", {.ttl = kTtlMost, .wait = kPatience});
  ASSERT_TRUE(other) << other.error().to_string();
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    alarm(60);
    const auto released = lock->release();
    bool good = !released && released.error().code == ErrorCode::kClosed;
    *other = Lock{};
    good = good && code_of_lock(cache->lock("n", {.wait = 1h})) == ErrorCode::kClosed;
    const auto tried = cache->try_lock("n");
    good = good && !tried && tried.error().code == ErrorCode::kClosed;
    _exit(good ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(lock->is_held() && other->is_held());
  EXPECT_FALSE(is_free(*cache, "l"));
  EXPECT_FALSE(is_free(*cache, "m"));
  EXPECT_TRUE(*lock->release()) << "it was ours until now";
}

TEST_P(LockTest, WrongInputIsRefusedByName) {
  const auto cache = open();
  const auto refusal = [&](std::string_view name, LockOptions options) {
    const auto lock = cache->lock(name, std::move(options));
    EXPECT_EQ(code_of_lock(lock), ErrorCode::kInvalidArgument);
    return lock ? std::string{} : lock.error().message;
  };
  EXPECT_THAT(refusal("", {}), HasSubstr("name"));
  EXPECT_THAT(refusal(std::string(kLockNameBytesMax + 1, 'n'), {}), HasSubstr("name"));
  EXPECT_THAT(refusal("l", {.ttl = 99ms}), HasSubstr("ttl"));
  EXPECT_THAT(refusal("l", {.ttl = kTtlMost + 1ms}), HasSubstr("ttl"));
  EXPECT_THAT(refusal("l", {.wait = 0ms}), HasSubstr("wait"));
  EXPECT_THAT(refusal("l", {.wait = 1h + 1ms}), HasSubstr("wait"));
  EXPECT_THAT(refusal("l", {.replicas = 65}), HasSubstr("replicas"));
  EXPECT_FALSE(cache->try_lock("", {}));
  const std::string odd(kLockNameBytesMax, '\0');
  EXPECT_TRUE(cache->lock(odd, {.ttl = 100ms, .wait = 1h})) << "any bytes will do";
}

TEST_P(LockTest, OnTheLoopThreadNothingBlocks) {
  const auto cache = open();
  Answer<std::string> answer;
  auto tell = answer.callback();
  cache->lock_async("l", {.ttl = kTtlMost}, [&](Result<Lock> lock) {
    std::string seen = lock ? "locked" : lock.error().to_string();
    for (const ErrorCode code : {cache->lock("m").error().code, cache->try_lock("m").error().code,
                                 lock->release().error().code}) {
      if (code != ErrorCode::kInvalidArgument) seen += ", blocked";
    }
    if (!lock->is_held()) seen += ", released";
    lock->release_async([tell = std::move(tell), seen](Result<bool> released) mutable {
      tell(seen + (released && *released ? ", released at last" : ", not released"));
    });
  });
  EXPECT_EQ(answer.take(), "locked, released at last");
}

TEST_P(LockTest, ACoroutineWaits) {
  const auto cache = open();
  auto held = cache->lock("l", {.ttl = kTtlMost});
  ASSERT_TRUE(held);
  Answer<bool> answer;
  auto tell = answer.callback();
  const auto coroutine = [&]() -> Detached {
    auto lock = co_await cache->co_lock("l", {.ttl = kTtlMost, .wait = kPatience});
    tell(lock && lock->is_held());
  };
  coroutine();
  EXPECT_FALSE(answer.arrived());
  ASSERT_TRUE(*held->release());
  EXPECT_TRUE(answer.take());
}

}  // namespace
}  // namespace tiercel::testing
