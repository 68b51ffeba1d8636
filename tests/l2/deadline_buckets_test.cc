// The buckets against a sorted list: what is due, and nothing else, in the order of the buckets.

#include "deadline_buckets.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <set>
#include <vector>

#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;

TimePoint at(Duration since) { return TimePoint{1h + since}; }

TEST(DeadlineBuckets, NothingIsDueBeforeItsDeadlineOrMuchLater) {
  DeadlineBuckets buckets;
  std::deque<PendingCommand> commands(100);
  for (std::size_t i = 0; i < commands.size(); ++i) {
    commands[i].deadline = at(std::chrono::microseconds{100 * static_cast<int>(i)});
    buckets.add(commands[i]);
  }
  std::size_t taken = 0;
  for (Duration since{}; since < 20ms; since += 50us) {
    while (PendingCommand* const due = buckets.take_due(at(since))) {
      EXPECT_LE(due->deadline, at(since));
      ++taken;
    }
    const auto late = static_cast<std::size_t>(
        std::count_if(commands.begin(), commands.end(), [&](const PendingCommand& command) {
          return command.deadline + DeadlineBuckets::kSpan <= at(since);
        }));
    EXPECT_GE(taken, late) << since.count();
  }
  EXPECT_EQ(taken, commands.size());
  EXPECT_TRUE(buckets.empty());
}

TEST(DeadlineBuckets, TheFarthestDeadlineIsNeverDue) {
  DeadlineBuckets buckets;
  PendingCommand command;
  command.deadline = TimePoint::max();
  buckets.add(command);
  EXPECT_EQ(buckets.take_due(at(24h)), nullptr);
  buckets.remove(command);
  EXPECT_TRUE(buckets.empty());
  buckets.add(command);  // May come again.
  buckets.remove(command);
}

TEST(DeadlineBuckets, AgreesWithAModel) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE(seed);
    Random random{seed};
    DeadlineBuckets buckets;
    std::deque<PendingCommand> commands(300);
    std::set<PendingCommand*> in;
    Duration now{};
    for (int step = 0; step < 5000; ++step) {
      PendingCommand& command = commands[random.below(commands.size())];
      switch (random.below(3)) {
        case 0:
          if (in.contains(&command)) break;
          // Crowded, or alone; sometimes past.
          command.deadline = at(now + std::chrono::microseconds{random.below(20'000)} - 2ms);
          buckets.add(command);
          in.insert(&command);
          break;
        case 1:
          if (in.erase(&command) == 1) buckets.remove(command);
          break;
        default:
          now += std::chrono::microseconds{random.below(300)};
          TimePoint last{};
          for (std::uint64_t left = random.below(20); left > 0; --left) {
            PendingCommand* const due = buckets.take_due(at(now));
            if (due == nullptr) break;
            ASSERT_EQ(in.erase(due), 1u);
            ASSERT_LE(due->deadline, at(now));
            ASSERT_LT(last, due->deadline + DeadlineBuckets::kSpan);
            last = std::max(last, due->deadline);
          }
      }
      for (const PendingCommand& each : commands) {
        if (step % 100 == 0) {
          ASSERT_EQ(each.is_in_bucket, in.contains(const_cast<PendingCommand*>(&each)));
        }
      }
    }
    while (buckets.take_due(at(1h)) != nullptr) in.erase(in.begin());
    EXPECT_TRUE(in.empty());
    EXPECT_TRUE(buckets.empty());
  }
}

}  // namespace
}  // namespace tiercel::l2
