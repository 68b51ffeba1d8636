#include "tiercel/base/clock.h"

#include <gtest/gtest.h>
#include <time.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

TEST(ManualClock, StandsStillUntilToldOtherwise) {
  ManualClock clock;
  const TimePoint start = clock.now();
  EXPECT_EQ(clock.now(), start);
  EXPECT_GT(start, TimePoint{}) << "TimePoint{} must stay free to mean 'never'";
  clock.advance(5ms);
  EXPECT_EQ(clock.now(), start + 5ms);
  clock.advance(Duration{1});
  EXPECT_EQ(clock.now(), start + 5ms + 1ns);
  EXPECT_EQ(ManualClock{TimePoint{3s}}.now(), TimePoint{3s});
}

TEST(ManualClock, MayBeDrivenAndReadFromManyThreads) {
  ManualClock clock;
  const TimePoint start = clock.now();
  constexpr int kSteps = 10000;
  std::atomic<int> went_back{0};
  std::array<std::thread, 3> threads;
  for (auto& thread : threads) {
    thread = std::thread{[&] {
      TimePoint last = clock.now();
      for (int i = 0; i < kSteps; ++i) {
        clock.advance(1us);
        const TimePoint now = clock.now();
        if (now < last + 1us) went_back.fetch_add(1);
        last = now;
      }
    }};
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(went_back.load(), 0);
  EXPECT_EQ(clock.now(), start + 3 * kSteps * 1us);
}

TEST(SystemClock, NeverGoesBackAndMoves) {
  const Clock& clock = Clock::system();
  TimePoint last = clock.now();
  const TimePoint start = last;
  for (int i = 0; i < 100000; ++i) {
    const TimePoint now = clock.now();
    ASSERT_GE(now, last);
    last = now;
  }
  std::this_thread::sleep_for(2ms);
  EXPECT_GE(clock.now(), start + 2ms);
}

TEST(SystemClock, IsOneTimelineForAllThreads) {
  // A time read before a hand-over is never after one that the receiver reads.
  std::atomic<Duration::rep> handed{Clock::system().now().time_since_epoch().count()};
  std::atomic<int> went_back{0};
  std::array<std::thread, 2> threads;
  for (auto& thread : threads) {
    thread = std::thread{[&] {
      for (int i = 0; i < 20000; ++i) {
        const auto before = handed.load(std::memory_order_acquire);
        const auto now = Clock::system().now().time_since_epoch().count();
        if (now < before) went_back.fetch_add(1);
        handed.store(now, std::memory_order_release);
      }
    }};
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(went_back.load(), 0);
}

TEST(SystemClock, CountsFromTheBootOfTheMachine) {
  // So other processes of the machine, which ask the kernel themselves, are on the same timeline.
  timespec before{};
  clock_gettime(CLOCK_BOOTTIME, &before);
  const Duration now = Clock::system().now().time_since_epoch();
  timespec after{};
  clock_gettime(CLOCK_BOOTTIME, &after);
  EXPECT_GE(now, std::chrono::seconds{before.tv_sec} + std::chrono::nanoseconds{before.tv_nsec});
  EXPECT_LE(now, std::chrono::seconds{after.tv_sec} + std::chrono::nanoseconds{after.tv_nsec});
}

TEST(ToMilliseconds, RoundsTowardsZero) {
  EXPECT_EQ(to_milliseconds(1999us), 1);
  EXPECT_EQ(to_milliseconds(-1999us), -1);
  EXPECT_EQ(to_milliseconds(Duration{999999}), 0);
  EXPECT_EQ(to_milliseconds(2s), 2000);
}

}  // namespace
}  // namespace tiercel
