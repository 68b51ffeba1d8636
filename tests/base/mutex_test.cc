#include "tiercel/base/mutex.h"

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <chrono>
#include <thread>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

struct Shared {
  Mutex mutex;
  CondVar changed;
  int number TIERCEL_GUARDED_BY(mutex) = 0;
};

TEST(Mutex, KeepsOthersOut) {
  Shared shared;
  constexpr int kSteps = 20000;
  std::array<std::thread, 3> threads;
  for (auto& thread : threads) {
    thread = std::thread{[&] {
      for (int i = 0; i < kSteps; ++i) {
        MutexLock lock{shared.mutex};
        ++shared.number;
      }
    }};
  }
  for (auto& thread : threads) thread.join();
  MutexLock lock{shared.mutex};
  EXPECT_EQ(shared.number, 3 * kSteps);
}

TEST(CondVar, WaitForIsOverWhenTheTimeIsUpAndHoldsTheMutexThen) {
  Shared shared;
  const TimePoint start = Clock::system().now();
  MutexLock lock{shared.mutex};
  // A wake-up for no reason is allowed, so only the final answer says anything.
  while (shared.changed.wait_for(shared.mutex, 5ms)) {
  }
  EXPECT_GE(Clock::system().now() - start, 5ms);
  shared.number = 1;  // Guarded: under tsan this shows that the mutex is ours again.
}

TEST(CondVar, WaitForTakesTimesThatAreOver) {
  Shared shared;
  MutexLock lock{shared.mutex};
  while (shared.changed.wait_for(shared.mutex, Duration{0})) {
  }
  while (shared.changed.wait_for(shared.mutex, -1h)) {
  }
}

TEST(CondVar, WaitForTakesTheLongestTime) {
  Shared shared;
  std::thread setter{[&] {
    MutexLock lock{shared.mutex};
    shared.number = 1;
    shared.changed.notify_all();
  }};
  {
    MutexLock lock{shared.mutex};
    while (shared.number == 0) {
      EXPECT_TRUE(shared.changed.wait_for(shared.mutex, Duration::max())) << "292 years are over";
    }
  }
  setter.join();
}

TEST(CondVar, TimedWaitsPassAValueToAndFro) {
  Shared shared;
  constexpr int kRounds = 500;
  const auto play = [&shared](int parity) {
    for (int i = 0; i < kRounds; ++i) {
      MutexLock lock{shared.mutex};
      while (shared.number % 2 != parity) {
        shared.changed.wait_for(shared.mutex, 20ms);
      }
      ++shared.number;
      shared.changed.notify_one();
    }
  };
  std::thread even{[&] { play(0); }};
  std::thread odd{[&] { play(1); }};
  even.join();
  odd.join();
  MutexLock lock{shared.mutex};
  EXPECT_EQ(shared.number, 2 * kRounds);
}

TEST(CondVar, NotifyAllWakesAll) {
  Shared shared;
  std::atomic<int> awake{0};
  std::array<std::thread, 3> threads;
  for (auto& thread : threads) {
    thread = std::thread{[&] {
      MutexLock lock{shared.mutex};
      while (shared.number == 0) shared.changed.wait(shared.mutex);
      awake.fetch_add(1);
    }};
  }
  {
    MutexLock lock{shared.mutex};
    shared.number = 1;
    shared.changed.notify_all();
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(awake.load(), 3);
}

}  // namespace
}  // namespace tiercel
