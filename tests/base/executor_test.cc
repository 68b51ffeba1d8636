#include "tiercel/base/executor.h"

#include <gtest/gtest.h>
#include <pthread.h>

#include <atomic>
#include <chrono>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/gate.h"
#include "support/poll_until.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;

using testing::Gate;
using testing::poll_until;

// Opens the gate however the test ends, so that the pool behind it can be joined.
class OpensAtEnd {
 public:
  explicit OpensAtEnd(const Gate& gate) : gate_(gate) {}
  ~OpensAtEnd() { gate_.open(); }
  OpensAtEnd(const OpensAtEnd&) = delete;
  OpensAtEnd& operator=(const OpensAtEnd&) = delete;

 private:
  const Gate gate_;
};

std::unique_ptr<ThreadPool> make_pool(std::size_t threads_max, std::size_t queue_max) {
  auto pool = ThreadPool::create({.threads_max = threads_max, .queue_max = queue_max});
  EXPECT_TRUE(pool);
  return std::move(pool).value();
}

TEST(ThreadPool, CreateNamesTheFieldThatIsWrong) {
  const auto message = [](ThreadPoolOptions options) -> std::string {
    const auto pool = ThreadPool::create(options);
    if (pool) return "accepted";
    EXPECT_EQ(pool.error().code, ErrorCode::kInvalidArgument);
    return pool.error().message;
  };
  EXPECT_NE(message({.threads_max = 0, .queue_max = 1}).find("threads_max"), std::string::npos);
  EXPECT_NE(message({.threads_max = 1025, .queue_max = 1}).find("threads_max"), std::string::npos);
  EXPECT_NE(message({.threads_max = 1, .queue_max = 0}).find("queue_max"), std::string::npos);
  EXPECT_NE(message({.threads_max = 1, .queue_max = 1048577}).find("queue_max"), std::string::npos);
  EXPECT_EQ(message({.threads_max = 1, .queue_max = 1}), "accepted");
  EXPECT_EQ(message({.threads_max = 1024, .queue_max = 1048576}), "accepted");
  EXPECT_EQ(message({}), "accepted");
}

TEST(ThreadPool, RunsEachTaskOnceOnAnotherThread) {
  constexpr std::size_t kTasks = 500;
  std::vector<std::atomic<int>> runs(kTasks);
  std::atomic<bool> on_the_caller{false};
  const auto caller = std::this_thread::get_id();
  {
    const auto pool = make_pool(3, kTasks);
    for (std::size_t i = 0; i < kTasks; ++i) {
      ASSERT_TRUE(pool->post([&, i] {
        runs[i].fetch_add(1);
        if (std::this_thread::get_id() == caller) on_the_caller.store(true);
      }));
    }
  }
  for (const auto& count : runs) EXPECT_EQ(count.load(), 1);
  EXPECT_FALSE(on_the_caller.load());
}

TEST(ThreadPool, DestructionRunsWhatWasAccepted) {
  Gate gate;
  std::atomic<int> ran{0};
  auto pool = make_pool(1, 100);
  ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
  for (int i = 0; i < 100; ++i) {
    // Refused only where the first was not taken from the queue yet.
    while (!pool->post([&] { ran.fetch_add(1); })) std::this_thread::sleep_for(1ms);
  }
  std::thread opener{[&] { gate.open(); }};
  pool.reset();
  opener.join();
  EXPECT_EQ(ran.load(), 100);
}

TEST(ThreadPool, RefusesPastItsBoundAndTakesWorkAgain) {
  Gate gate;
  std::atomic<int> ran{0};
  auto pool = make_pool(2, 3);
  const OpensAtEnd opens{gate};
  for (int i = 0; i < 2; ++i) ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
  ASSERT_TRUE(gate.wait_until_arrived(2));
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(pool->post([&] { ran.fetch_add(1); }));

  auto alive = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = alive;
  const auto refused = pool->post([&ran, alive = std::move(alive)] { ran.fetch_add(*alive); });
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
  EXPECT_NE(refused.error().message.find("queue_max (3)"), std::string::npos);
  EXPECT_TRUE(watch.expired()) << "a refused task is destroyed, not kept";

  gate.open();
  Gate again;
  again.open();
  const TimePoint limit = Clock::system().now() + 60s;
  while (!pool->post([&] { again.pass(); })) {
    ASSERT_LT(Clock::system().now(), limit);
    std::this_thread::sleep_for(1ms);
  }
  ASSERT_TRUE(again.wait_until_arrived(1));
  // The other thread may still be about to run the last of them.
  EXPECT_TRUE(poll_until([&] { return ran.load() == 3; })) << "each accepted task runs";
  pool.reset();
  EXPECT_EQ(ran.load(), 3) << "the refused one does not";
}

// queue_max bounds the tasks for which no thread is left; a burst that the threads can take must
// not be refused just because they have not come round to it.
TEST(ThreadPool, ABurstThatTheThreadsCanTakeIsNotRefused) {
  for (int round = 0; round < 50; ++round) {
    Gate gate;
    const auto pool = make_pool(4, 1);
    const OpensAtEnd opens{gate};
    for (int i = 0; i < 5; ++i) {
      const auto posted = pool->post([gate] { gate.pass(); });
      ASSERT_TRUE(posted) << "task " << i << ": " << posted.error().to_string();
    }
    EXPECT_FALSE(pool->post([gate] { gate.pass(); })) << "four run or will, one waits: full";
    ASSERT_TRUE(gate.wait_until_arrived(4));
    EXPECT_EQ(gate.arrived(), 4);
  }
}

TEST(ThreadPool, GrowsOnlyWhenNoThreadIsIdle) {
  Mutex mutex;
  std::set<std::thread::id> ids;
  const auto pool = make_pool(8, 100);
  for (int i = 0; i < 50; ++i) {
    Gate done;
    done.open();
    ASSERT_TRUE(pool->post([&] {
      {
        MutexLock lock{mutex};
        ids.insert(std::this_thread::get_id());
      }
      done.pass();
    }));
    ASSERT_TRUE(done.wait_until_arrived(1));
    // Give the thread time to be idle again. Were it late, a second thread would be right.
    std::this_thread::sleep_for(5ms);
  }
  MutexLock lock{mutex};
  EXPECT_LT(ids.size(), 8U) << "one at a time, yet every thread was started";
}

TEST(ThreadPool, GrowsToItsBoundUnderLoadAndNoFurther) {
  Gate gate;
  const auto pool = make_pool(3, 10);
  const OpensAtEnd opens{gate};
  for (int i = 0; i < 6; ++i) ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
  ASSERT_TRUE(gate.wait_until_arrived(3)) << "all threads must start though all tasks block";
  std::this_thread::sleep_for(20ms);
  EXPECT_EQ(gate.arrived(), 3);
}

// Each thread that takes a task wakes the next one.
TEST(ThreadPool, ABurstOfTasksThatBlockGetsAllThreadsThatAreIdle) {
  const auto pool = make_pool(6, 10);
  for (int round = 0; round < 20; ++round) {
    Gate gate;
    const OpensAtEnd opens{gate};
    for (int i = 0; i < 6; ++i) ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
    ASSERT_TRUE(gate.wait_until_arrived(6)) << "round " << round;
  }
}

TEST(ThreadPool, TasksMayPostTasks) {
  std::atomic<int> ran{0};
  Gate gate;
  gate.open();
  const auto pool = make_pool(2, 10);
  ASSERT_TRUE(pool->post([&] {
    ran.fetch_add(1);
    const auto inner = pool->post([&] {
      ran.fetch_add(1);
      gate.pass();
    });
    if (!inner) ran.fetch_add(100);
  }));
  ASSERT_TRUE(gate.wait_until_arrived(1));
  EXPECT_EQ(ran.load(), 2);
}

TEST(ThreadPool, RefusesWhatItsTasksPostDuringDestruction) {
  Gate gate;
  std::atomic<bool> refused_as_closed{false};
  auto pool = make_pool(1, 10);
  ThreadPool* const raw = pool.get();
  ASSERT_TRUE(pool->post([&, raw] {
    gate.pass();
    // The gate opens only just before the destructor runs: post until that is seen.
    for (;;) {
      const auto posted = raw->post([] {});
      if (!posted && posted.error().code == ErrorCode::kClosed) {
        refused_as_closed.store(true);
        return;
      }
      std::this_thread::sleep_for(1ms);
    }
  }));
  ASSERT_TRUE(gate.wait_until_arrived(1));
  gate.open();
  pool.reset();
  EXPECT_TRUE(refused_as_closed.load());
}

TEST(ThreadPool, ManyPostersLoseNothing) {
  constexpr int kPosters = 4;
  constexpr int kTasksEach = 2000;
  std::atomic<int> accepted{0};
  std::atomic<int> ran{0};
  {
    const auto pool = make_pool(3, 16);
    std::vector<std::thread> posters;
    for (int p = 0; p < kPosters; ++p) {
      posters.emplace_back([&] {
        for (int i = 0; i < kTasksEach; ++i) {
          if (pool->post([&] { ran.fetch_add(1); })) {
            accepted.fetch_add(1);
          } else {
            std::this_thread::yield();
          }
        }
      });
    }
    for (auto& poster : posters) poster.join();
  }
  EXPECT_EQ(ran.load(), accepted.load());
  EXPECT_GE(accepted.load(), 16);
}

// Asks for more stack than there are addresses, so that no thread can start while it lives.
class NoThreadsCanStart {
 public:
  NoThreadsCanStart() {
    pthread_getattr_default_np(&before_);
    pthread_attr_t huge;
    pthread_getattr_default_np(&huge);
    EXPECT_EQ(pthread_attr_setstacksize(&huge, std::size_t{1} << 47), 0);
    EXPECT_EQ(pthread_setattr_default_np(&huge), 0);
    pthread_attr_destroy(&huge);
  }
  ~NoThreadsCanStart() {
    pthread_setattr_default_np(&before_);
    pthread_attr_destroy(&before_);
  }
  NoThreadsCanStart(const NoThreadsCanStart&) = delete;
  NoThreadsCanStart& operator=(const NoThreadsCanStart&) = delete;

 private:
  pthread_attr_t before_{};
};

TEST(ThreadPool, LivesWithASystemThatRefusesThreads) {
  Gate gate;
  std::atomic<int> ran{0};
  {
    const auto pool = make_pool(4, 2);
    const OpensAtEnd opens{gate};
    {
      const NoThreadsCanStart none;
      const auto refused = pool->post([&] { ran.fetch_add(100); });
      ASSERT_FALSE(refused) << "nobody could ever run it";
      EXPECT_EQ(refused.error().code, ErrorCode::kOverloaded);
    }
    ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
    ASSERT_TRUE(gate.wait_until_arrived(1));
    const NoThreadsCanStart none;
    EXPECT_TRUE(pool->post([&] { ran.fetch_add(1); })) << "the one thread will come to it";
  }
  EXPECT_EQ(ran.load(), 1);
}

TEST(ThreadPool, DestroysATaskOnceItHasRun) {
  Gate gate;
  const auto pool = make_pool(1, 10);
  auto alive = std::make_shared<int>(1);
  const std::weak_ptr<int> watch = alive;
  ASSERT_TRUE(pool->post([alive = std::move(alive)] {}));
  gate.open();
  ASSERT_TRUE(pool->post([gate] { gate.pass(); }));
  ASSERT_TRUE(gate.wait_until_arrived(1));
  EXPECT_TRUE(watch.expired()) << "a thread that turned to the next task still holds the last";
}

}  // namespace
}  // namespace tiercel
