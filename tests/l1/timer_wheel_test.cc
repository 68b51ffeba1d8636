// The timer wheel by itself: what it finds, and when.

#include "timer_wheel.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::minutes;
using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr Duration kTick{std::int64_t{1} << 23};
constexpr Duration kYear = hours{24 * 365};

class WheelUnderTest {
 public:
  static constexpr std::uint32_t kEntryUnits = 6;

  WheelUnderTest(std::size_t entries_max, TimePoint now)
      : memory_(1 + entries_max * kEntryUnits), blocks_(memory_.blocks()), wheel_(blocks_, now) {
    for (std::size_t i = entries_max; i > 0; --i) {
      unused_.push_back(static_cast<Ref>(1 + (i - 1) * kEntryUnits));
    }
  }

  Ref insert(TimePoint now, TimePoint deadline) {
    const Ref ref = unused_.back();
    unused_.pop_back();
    make_entry(blocks_, ref, kEntryUnits, 0, deadline);
    wheel_.insert(ref);
    in_.emplace(ref, Times{now, deadline});
    return ref;
  }

  void remove(Ref ref) {
    wheel_.remove(ref);
    in_.erase(ref);
    unused_.push_back(ref);
  }

  // Removes all that is found; returns how many calls it took. No one is early.
  int ask(TimePoint now) {
    bool more = false;
    for (int calls = 1;; ++calls) {
      const Ref ref = wheel_.expired(now, more);
      if (ref == kNoRef && !more) return calls;
      if (ref == kNoRef) continue;
      EXPECT_FALSE(more);
      EXPECT_LE(in_.at(ref).deadline, now);
      remove(ref);
      ++found_;
    }
  }

  // Of what is in, nothing has been due for longer than about an eighth of its life (or a tick).
  // (Not quite: an entry goes to a coarser level when less than 7.75 of its slots are to come.)
  void check(TimePoint now) const {
    ASSERT_EQ(wheel_.entries(), in_.size());
    for (const auto& [ref, times] : in_) {
      const Duration life = times.deadline - times.since;
      ASSERT_LE(now - times.deadline, std::max(life / 100 * 13, kTick))
          << "life " << life.count() << " ns, late " << (now - times.deadline).count();
    }
  }

  struct Times {
    TimePoint since;
    TimePoint deadline;
  };
  [[nodiscard]] const std::map<Ref, Times>& in() const { return in_; }
  [[nodiscard]] std::uint64_t found() const { return found_; }
  [[nodiscard]] bool is_full() const { return unused_.empty(); }
  TimerWheel& wheel() { return wheel_; }

 private:
  BlockMemory memory_;
  const Blocks blocks_;
  TimerWheel wheel_;
  std::vector<Ref> unused_;
  std::map<Ref, Times> in_;
  std::uint64_t found_ = 0;
};

// From 1 ms to 20 years, evenly over the orders of magnitude.
Duration random_life(Random& random) {
  const std::int64_t magnitude = std::int64_t{1} << random.below(40);
  const auto life =
      magnitude + static_cast<std::int64_t>(random.below(static_cast<std::uint64_t>(magnitude)));
  return std::min<Duration>(milliseconds{life}, 20 * kYear);
}

TEST(TimerWheel, FindsEachDeadlineNeverEarlyAndAtMostAnEighthLate) {
  // Time goes in steps of about one size for a while, so that each level gets its turn.
  for (const Duration step :
       {Duration{milliseconds{1}}, Duration{milliseconds{8}}, Duration{milliseconds{100}},
        Duration{seconds{3}}, Duration{minutes{5}}, Duration{hours{30}},
        100 * Duration{hours{24}}}) {
    SCOPED_TRACE("step " + std::to_string(step.count()));
    Random random{static_cast<std::uint64_t>(step.count())};
    TimePoint now{seconds{12345} + nanoseconds{random.below(1'000'000'000)}};
    WheelUnderTest test{300, now};
    const auto asks = std::min<std::int64_t>(5000, 150 * kYear / step);  // Until the end of time.
    for (std::int64_t i = 0; i < asks; ++i) {
      for (int j = 0; j < 3 && !test.is_full(); ++j) {
        // Half of the lives are short enough to end within the run.
        const Duration life =
            random.below(2) == 0
                ? random_life(random)
                : Duration{static_cast<std::int64_t>(random.below(200)) * step.count() + 1};
        test.insert(now, now + life);
      }
      if (random.below(4) == 0) {
        auto out = test.in().lower_bound(static_cast<Ref>(random.below(300 * 6)));
        if (out == test.in().end()) out = test.in().begin();
        test.remove(out->first);
      }
      now += Duration{
          static_cast<std::int64_t>(random.below(2 * static_cast<std::uint64_t>(step.count())))};
      (void)test.ask(now);
      test.check(now);
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(test.found(), 200U);
    now += 60 * kYear;
    (void)test.ask(now);
    EXPECT_TRUE(test.in().empty());
  }
}

TEST(TimerWheel, FindsAllThatHasExpiredAfterAnyTimeOfIdleness) {
  Random random{99};
  for (const Duration idle : {Duration{milliseconds{1}}, Duration{seconds{1}}, Duration{hours{1}},
                              Duration{hours{24 * 40}}, 3 * kYear, 50 * kYear}) {
    SCOPED_TRACE("idle " + std::to_string(idle.count()));
    TimePoint now{seconds{7}};
    WheelUnderTest test{1000, now};
    for (int round = 0; round < 5; ++round) {
      while (!test.is_full()) test.insert(now, now + random_life(random));
      now += idle;
      (void)test.ask(now);
      test.check(now);
      if (HasFatalFailure()) return;
    }
  }
}

// Not an eighth: the wheel learns the time only when it is asked. But all comes once it is due by
// the coarsest measure, and nothing comes early.
TEST(TimerWheel, WhatIsFiledAfterIdlenessIsFoundLateButFound) {
  TimePoint now{seconds{1}};
  WheelUnderTest test{100, now};
  now += hours{5};
  for (int i = 0; i < 100; ++i) test.insert(now, now + milliseconds{10 + i});
  (void)test.ask(now);
  EXPECT_EQ(test.in().size(), 100U);
  now += hours{5};
  (void)test.ask(now);
  EXPECT_TRUE(test.in().empty());
}

TEST(TimerWheel, TakesDeadlinesOfThePastAndTheEndsOfTime) {
  TimePoint now{seconds{1000}};
  WheelUnderTest test{10, now};
  test.insert(now, now);
  test.insert(now, now - seconds{900});
  test.insert(now, TimePoint{});
  test.insert(now, TimePoint::min());
  const Ref last = test.insert(now, TimePoint::max() - Duration{1});
  now += 2 * kTick;
  (void)test.ask(now);
  EXPECT_EQ(test.in().size(), 1U);
  now += 250 * kYear;
  (void)test.ask(now);
  ASSERT_EQ(test.in().size(), 1U);
  EXPECT_EQ(test.in().begin()->first, last);
  test.remove(last);
  EXPECT_EQ(test.wheel().entries(), 0U);
}

TEST(TimerWheel, EqualDeadlinesLeaveInAnyOrder) {
  Random random{4};
  const TimePoint now{seconds{1000}};
  WheelUnderTest test{200, now};
  for (int round = 0; round < 20; ++round) {
    while (!test.is_full()) test.insert(now, now + seconds{1 + static_cast<int>(random.below(2))});
    while (test.in().size() > 50) {
      auto out = test.in().lower_bound(static_cast<Ref>(random.below(200 * 6)));
      if (out == test.in().end()) out = test.in().begin();
      test.remove(out->first);
    }
  }
  EXPECT_EQ(test.ask(now + seconds{1} - Duration{1}), 1);
  (void)test.ask(now + seconds{3});
  EXPECT_TRUE(test.in().empty());
  EXPECT_EQ(test.found(), 50U);
}

TEST(TimerWheel, DoesABoundedPieceOfWorkAtATime) {
  constexpr std::size_t kCount = 1000;
  TimePoint now{seconds{1}};
  WheelUnderTest test{kCount, now};
  // Farther than the wheel reaches: each must be looked at and filed again now and then.
  for (std::size_t i = 0; i < kCount; ++i) test.insert(now, now + 20 * kYear);
  now += kYear;
  bool more = false;
  EXPECT_EQ(test.wheel().expired(now, more), kNoRef);
  EXPECT_TRUE(more);
  // 32 a call, and a filing reaches 12 days: it ends.
  const int calls = test.ask(now);
  EXPECT_GT(calls, 20);
  EXPECT_LT(calls, static_cast<int>(kCount * 31 / 32) + 31);
  EXPECT_EQ(test.in().size(), kCount);
  EXPECT_EQ(test.ask(now), 1);
  now += 19 * kYear - Duration{1};
  (void)test.ask(now);
  EXPECT_EQ(test.in().size(), kCount);
  now += 3 * kYear;
  (void)test.ask(now);
  EXPECT_TRUE(test.in().empty());
}

}  // namespace
}  // namespace tiercel::l1
