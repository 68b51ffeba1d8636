#include <dlfcn.h>
#include <gtest/gtest.h>
#include <uv.h>

#include <atomic>
#include <future>
#include <memory>
#include <thread>
#include <vector>

#include "event_loop_native.h"
#include "support/poll_until.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;

// Of the next wake-up: it is entered, and goes on a while later.
std::atomic<bool> must_hold_wake_up{false};
std::atomic<bool> holds_wake_up{false};

// Runs `task` on the loop and waits for it.
template <typename Task>
void run_on(EventLoop& loop, Task task) {
  std::promise<void> done;
  loop.post([&] {
    task();
    done.set_value();
  });
  done.get_future().get();
}

TEST(EventLoop, ThatIsNeverUsedStartsNothing) {
  EventLoop loop;
  EXPECT_FALSE(loop.on_loop_thread());
}

TEST(EventLoop, RunsTasksInTheOrderOfPosting) {
  EventLoop loop;
  std::vector<int> order;
  for (int i = 0; i < 1000; ++i) {
    loop.post([&order, i] { order.push_back(i); });
  }
  run_on(loop, [&] {
    EXPECT_TRUE(loop.on_loop_thread());
    ASSERT_EQ(order.size(), 1000u);
    for (int i = 0; i < 1000; ++i) EXPECT_EQ(order[static_cast<std::size_t>(i)], i);
  });
  EXPECT_FALSE(loop.on_loop_thread());
}

TEST(EventLoop, TakesTasksFromManyThreads) {
  EventLoop loop;
  int ran = 0;  // Loop thread only.
  constexpr int kEach = 5000;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < kEach; ++i) loop.post([&ran] { ++ran; });
    });
  }
  for (auto& thread : threads) thread.join();
  run_on(loop, [&] { EXPECT_EQ(ran, 4 * kEach); });
}

TEST(EventLoop, ATaskMayPostTheNext) {
  EventLoop loop;
  std::promise<void> done;
  struct Chain {
    EventLoop& loop;
    std::promise<void>& done;
    void step(int left) {
      if (left == 0) return done.set_value();
      loop.post([this, left] { step(left - 1); });
    }
  } chain{loop, done};
  loop.post([&] { chain.step(1000); });
  done.get_future().get();
}

TEST(EventLoop, RunsTimersInOrderAndNeverEarly) {
  // When a timer is due is known to lie between these two. A pause while they are set, which
  // changes the order that is right, shows in them.
  struct Due {
    TimePoint from;
    TimePoint to;
  };
  EventLoop loop;
  std::promise<void> done;
  std::vector<Due> set;
  std::vector<std::size_t> order;
  loop.post([&] {
    for (const Duration delay : {60ms, 20ms, 40ms, 0ms}) {
      const TimePoint from = Clock::system().now() + delay;
      loop.run_after(delay, [&, number = set.size()] {
        EXPECT_GE(Clock::system().now(), set[number].from);
        order.push_back(number);
        if (order.size() == 4) done.set_value();
      });
      set.push_back({from, Clock::system().now() + delay});
    }
  });
  done.get_future().get();
  run_on(loop, [&] {
    ASSERT_EQ(order.size(), 4u);
    for (std::size_t i = 0; i < order.size(); ++i) {
      for (std::size_t later = i + 1; later < order.size(); ++later) {
        EXPECT_NE(order[i], order[later]);
        EXPECT_GE(set[order[later]].to, set[order[i]].from) << order[later] << " was due first";
      }
    }
  });
}

TEST(EventLoop, ACancelledTimerDoesNotRun) {
  EventLoop loop;
  std::promise<void> done;
  bool ran = false;
  auto held = std::make_shared<int>(1);
  const std::weak_ptr<int> watched = held;
  loop.post([&, held = std::move(held)]() mutable {
    const auto far = loop.run_after(1h, [&ran, held = std::move(held)] { ran = true; });
    loop.run_after(10ms, [&, far] {
      loop.cancel(far);
      loop.cancel(far);
      loop.cancel(0);
      loop.cancel(999'999);
      EXPECT_TRUE(watched.expired());                  // Its task is gone at once.
      loop.run_after(1ms, [&] { done.set_value(); });  // And the next one runs.
    });
  });
  done.get_future().get();
  run_on(loop, [&] { EXPECT_FALSE(ran); });
}

TEST(EventLoop, DestroysQueuedTasksWithoutRunningThem) {
  auto held = std::make_shared<int>(1);
  bool ran = false;
  std::promise<void> blocked;
  std::promise<void> release;
  auto loop = std::make_unique<EventLoop>();
  const EventLoop::Native& native = loop->native();
  loop->post([&, raw = loop.get()] {
    raw->run_after(1h, [held] {});
    blocked.set_value();
    release.get_future().get();
  });
  blocked.get_future().get();
  for (int i = 0; i < 10; ++i) {
    loop->post([&ran, held] { ran = true; });
  }
  EXPECT_EQ(held.use_count(), 12);
  std::thread destroyer{[&] { loop.reset(); }};
  EXPECT_TRUE(tiercel::testing::poll_until([&] { return native.stopping.load(); }));
  release.set_value();
  destroyer.join();
  EXPECT_EQ(held.use_count(), 1);
  EXPECT_FALSE(ran);
}

TEST(EventLoop, StartsOnDemandAndTwice) {
  EventLoop loop;
  EXPECT_TRUE(loop.start());
  EXPECT_TRUE(loop.start());
  run_on(loop, [] {});
}

// libuv aborts where a loop that is closed is woken.
TEST(EventLoop, IsNotClosedBeforeTheWakeUpOfWhoStopsIt) {
  EventLoop loop;
  holds_wake_up = false;
  std::atomic<bool> runs{false};
  loop.post([&] {
    runs = true;
    // So the loop is awake, and sees by itself that it is to stop.
    while (!holds_wake_up) std::this_thread::yield();
  });
  ASSERT_TRUE(testing::poll_until([&] { return runs.load(); }));
  must_hold_wake_up = true;
  loop.stop();
  EXPECT_TRUE(holds_wake_up);
}

TEST(EventLoop, IsNotClosedBeforeTheWakeUpOfWhoPosts) {
  EventLoop loop;
  holds_wake_up = false;
  run_on(loop, [] {});
  std::thread poster{[&] {
    while (!holds_wake_up) {  // It may not be asleep yet.
      must_hold_wake_up = true;
      loop.post([] {});
      std::this_thread::sleep_for(1ms);
    }
  }};
  ASSERT_TRUE(testing::poll_until([&] { return holds_wake_up.load(); }));
  loop.stop();
  poster.join();
}

}  // namespace
}  // namespace tiercel::l2

// In front of libuv's.
extern "C" int uv_async_send(uv_async_t* handle) {
  using namespace std::chrono_literals;
  static const auto of_libuv =
      reinterpret_cast<int (*)(uv_async_t*)>(::dlsym(RTLD_NEXT, "uv_async_send"));
  if (tiercel::l2::must_hold_wake_up.exchange(false)) {
    tiercel::l2::holds_wake_up = true;
    std::this_thread::sleep_for(100ms);
  }
  return of_libuv(handle);
}
