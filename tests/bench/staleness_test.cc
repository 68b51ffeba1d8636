// What `./run bench coherence` calls stale, one read at a time.

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "coherence_staleness.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kKey = 1;

TimePoint at(int milliseconds) { return TimePoint{1h + std::chrono::milliseconds{milliseconds}}; }

// The key was written at 100, 200 and 300 ms; its neighbour at 50.
WriteTimes three_writes() {
  WriteTimes writes{3};
  for (const int when : {100, 200, 300}) writes.acknowledged(kKey, at(when));
  writes.acknowledged(kKey + 1, at(50));
  return writes;
}

Staleness judge_one(std::uint32_t sequence, int began, int ended, Duration bound = 500ms) {
  Staleness staleness;
  const std::vector<Read> reads{
      {.key = kKey, .sequence = sequence, .began_at = at(began), .ended_at = at(ended)}};
  judge(three_writes(), reads, bound, staleness);
  return staleness;
}

TEST(StalenessTest, TheNewestWriteIsNeverStale) {
  const Staleness found = judge_one(3, 900, 901);
  EXPECT_EQ(found.reads, 1U);
  EXPECT_EQ(found.stale, 0U);
  EXPECT_EQ(judge_one(4, 900, 901).stale, 0U);  // Read before its writer knew.
}

TEST(StalenessTest, AWriteThatWasAcknowledgedDuringTheReadMayBeMissed) {
  EXPECT_EQ(judge_one(2, 299, 350).stale, 0U);
  EXPECT_EQ(judge_one(2, 300, 350).stale, 0U);  // At the same moment: not before.
  EXPECT_EQ(judge_one(2, 301, 350).stale, 1U);
}

TEST(StalenessTest, TheAgeCountsFromTheFirstWriteThatIsMissed) {
  const Staleness found = judge_one(1, 310, 330);
  EXPECT_EQ(found.stale, 1U);
  EXPECT_EQ(found.worst, 110ms);
  EXPECT_EQ(found.worst_at_end, 130ms);
  EXPECT_EQ(judge_one(0, 310, 330).worst, 210ms);  // What was there before the run.
}

TEST(StalenessTest, TheBoundItselfIsWithinTheBound) {
  EXPECT_EQ(judge_one(1, 700, 701).beyond_bound, 0U);
  EXPECT_EQ(judge_one(1, 701, 702).beyond_bound, 1U);
  EXPECT_EQ(judge_one(1, 701, 702).stale, 1U);
}

TEST(StalenessTest, ReadsAddUpOverThreads) {
  Staleness staleness;
  const WriteTimes writes = three_writes();
  const auto read = [](std::uint32_t key, std::uint32_t sequence, int began) {
    return Read{.key = key, .sequence = sequence, .began_at = at(began), .ended_at = at(began)};
  };
  judge(writes, std::vector<Read>{read(kKey, 3, 400), read(kKey, 2, 400)}, 50ms, staleness);
  judge(writes, std::vector<Read>{read(kKey + 1, 0, 60), read(0, 0, 60)}, 50ms, staleness);
  EXPECT_EQ(staleness.reads, 4U);
  EXPECT_EQ(staleness.stale, 2U);
  EXPECT_EQ(staleness.beyond_bound, 1U);
  EXPECT_EQ(staleness.worst, 100ms);
  EXPECT_EQ(staleness.ages, (std::vector<Duration>{100ms, 10ms}));
  EXPECT_DOUBLE_EQ(staleness.stale_percent(), 50);
}

TEST(StalenessTest, NoReadsAreNotStale) { EXPECT_EQ(Staleness{}.stale_percent(), 0); }

}  // namespace
}  // namespace tiercel::bench
