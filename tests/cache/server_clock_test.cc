#include "server_clock.h"

#include <gtest/gtest.h>

#include "luck.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;

constexpr coherence::Version version_at(std::uint64_t ms) {
  return (ms << coherence::kVersionSequenceBits) + 5;
}
TimePoint at(Duration since) { return TimePoint{1000s} + since; }

TEST(ServerClock, AValueEndsByItsOwnWord) {
  ServerClock clock;
  EXPECT_FALSE(clock.end_of(version_at(50'000), 10s)) << "not known yet";
  clock.said(at(0s), 60'000ms);
  EXPECT_FALSE(clock.end_of(coherence::kVersionUnknown, 10s));
  EXPECT_EQ(*clock.end_of(version_at(60'000), 10s), at(10s) - ServerClock::kDrift);
  EXPECT_EQ(*clock.end_of(version_at(55'000), 10s), at(5s) - ServerClock::kDrift);
  EXPECT_EQ(*clock.end_of(version_at(45'000), 10s), at(-5s) - ServerClock::kDrift) << "it is over";
  clock.said(at(1s), 61'500ms);
  EXPECT_EQ(*clock.end_of(version_at(60'000), 10s), at(9500ms) - ServerClock::kDrift);
  clock.reset();
  EXPECT_FALSE(clock.end_of(version_at(60'000), 10s));
}

TEST(Luck, TurnsWithWhatIsTold) {
  Luck luck;
  EXPECT_TRUE(luck.is_good());
  luck.tell(false);
  EXPECT_FALSE(luck.is_good());
  luck.tell(true);
  EXPECT_TRUE(luck.is_good());
  for (int i = 0; i < 1000; ++i) luck.tell(true);
  for (int i = 0; i < 40; ++i) luck.tell(false);
  EXPECT_FALSE(luck.is_good()) << "soon, however long it was good";
  for (int i = 0; i < 1000; ++i) luck.tell(false);
  for (int i = 0; i < 40; ++i) luck.tell(true);
  EXPECT_TRUE(luck.is_good());
}

}  // namespace
}  // namespace tiercel
