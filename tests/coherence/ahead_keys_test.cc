// Which keys of L1 are newer than the stream.

#include "tiercel/coherence/ahead_keys.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

namespace tiercel::coherence {
namespace {

using Keys = std::vector<std::string>;

Keys taken(AheadKeys& ahead) {
  Keys keys = ahead.take();
  std::sort(keys.begin(), keys.end());
  keys.erase(std::unique(keys.begin(), keys.end()), keys.end());
  return keys;
}

TEST(AheadKeys, BeginEmpty) {
  AheadKeys ahead;
  EXPECT_EQ(ahead.size(), 0U);
  EXPECT_FALSE(ahead.has_overflowed());
  EXPECT_TRUE(ahead.take().empty());
  ahead.asked();
  ahead.reached(100);
  EXPECT_TRUE(ahead.take().empty());
}

TEST(AheadKeys, AreThoseThatTheStreamHasNotReached) {
  AheadKeys ahead;
  ahead.add("c", 30);
  ahead.add("a", 10);
  ahead.add("b", 20);
  ahead.add("b2", 20);
  EXPECT_EQ(ahead.size(), 4U);
  ahead.asked();
  ahead.reached(9);
  EXPECT_EQ(ahead.size(), 4U);
  ahead.asked();
  ahead.reached(20);
  EXPECT_EQ(ahead.size(), 1U) << "a message of that very version vouches for them";
  EXPECT_EQ(taken(ahead), Keys{"c"});
}

TEST(AheadKeys, AreForgottenWhenTaken) {
  AheadKeys ahead;
  ahead.add("a", 10);
  ahead.add("u", kVersionUnknown);
  EXPECT_EQ(taken(ahead), (Keys{"a", "u"}));
  EXPECT_EQ(ahead.size(), 0U);
  EXPECT_TRUE(ahead.take().empty());
}

TEST(AheadKeys, OfUnknownVersionNobodyVouchesFor) {
  AheadKeys ahead;
  ahead.add("u", kVersionUnknown);
  ahead.add("u", kVersionUnknown);
  ahead.asked();
  ahead.reached(~Version{0});
  EXPECT_EQ(taken(ahead), Keys{"u"});
}

TEST(AheadKeys, AKeyStaysAheadUntilItsNewestVersionIsReached) {
  AheadKeys ahead;
  ahead.add("a", 10);
  ahead.add("a", 20);
  ahead.asked();
  ahead.reached(15);
  EXPECT_EQ(taken(ahead), Keys{"a"});
}

// The answer may have been given before the value was read, elsewhere.
TEST(AheadKeys, AnAnswerVouchesOnlyForWhatWasThereWhenItWasAskedFor) {
  AheadKeys ahead;
  ahead.add("before", 5);
  ahead.asked();
  ahead.add("after", 5);
  ahead.reached(10);
  EXPECT_EQ(taken(ahead), Keys{"after"});
  ahead.add("old", 5);  // Older than what the stream has reached.
  ahead.asked();
  EXPECT_EQ(ahead.size(), 1U) << "no answer yet";
  ahead.asked();  // The first was not answered.
  ahead.add("later", 5);
  ahead.reached(10);
  EXPECT_EQ(taken(ahead), Keys{"later"});
}

TEST(AheadKeys, AnOverflowAfterTheQuestionIsNotPassedByItsAnswer) {
  AheadKeys ahead;
  ahead.asked();
  for (std::size_t i = 0; i <= AheadKeys::kKeysMax; ++i) ahead.add("k" + std::to_string(i), 5);
  ahead.reached(10);
  EXPECT_TRUE(ahead.has_overflowed());
  ahead.asked();
  ahead.reached(10);
  EXPECT_FALSE(ahead.has_overflowed());
}

TEST(AheadKeys, AreClearedWithL1) {
  AheadKeys ahead;
  ahead.add("a", 10);
  ahead.add("u", kVersionUnknown);
  ahead.clear();
  EXPECT_EQ(ahead.size(), 0U);
  EXPECT_TRUE(ahead.take().empty());
}

// Adds `count` keys at rising versions from 1 on.
void fill(AheadKeys& ahead, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    ahead.add("k" + std::to_string(i), static_cast<Version>(i + 1));
  }
}

TEST(AheadKeys, AreRememberedUpToTheirLimit) {
  AheadKeys ahead;
  fill(ahead, AheadKeys::kKeysMax);
  EXPECT_FALSE(ahead.has_overflowed());
  EXPECT_EQ(ahead.size(), AheadKeys::kKeysMax);
  ahead.asked();
  ahead.reached(1);
  ahead.add("one more", 1'000'000);
  EXPECT_FALSE(ahead.has_overflowed()) << "there was room again";
}

TEST(AheadKeys, PastTheLimitSayThatAllMustGo) {
  for (const Version version : {Version{1'000'000}, kVersionUnknown}) {
    AheadKeys ahead;
    fill(ahead, AheadKeys::kKeysMax);
    ahead.add("one more", version);
    EXPECT_TRUE(ahead.has_overflowed());
    EXPECT_LE(ahead.size(), AheadKeys::kKeysMax);
    for (int i = 0; i < 100; ++i) ahead.add("x" + std::to_string(i), version);
    EXPECT_EQ(ahead.size(), 0U) << "none is remembered any more";
    ahead.clear();
    EXPECT_FALSE(ahead.has_overflowed());
    EXPECT_EQ(ahead.size(), 0U);
    ahead.add("after", 5);
    EXPECT_EQ(taken(ahead), Keys{"after"});
  }
}

TEST(AheadKeys, UnversionedOnesCountTowardsTheLimit) {
  AheadKeys ahead;
  for (std::size_t i = 0; i <= AheadKeys::kKeysMax; ++i) {
    ahead.add("u" + std::to_string(i), kVersionUnknown);
  }
  EXPECT_TRUE(ahead.has_overflowed());
  EXPECT_LE(ahead.size(), AheadKeys::kKeysMax);
}

TEST(AheadKeys, AnOverflowOutlivesTheStreamsProgress) {
  // The key that was not remembered may still be ahead.
  AheadKeys ahead;
  fill(ahead, AheadKeys::kKeysMax);
  ahead.add("lost", 1'000'000);
  ahead.asked();
  ahead.reached(AheadKeys::kKeysMax);
  EXPECT_TRUE(ahead.has_overflowed());
  ahead.asked();
  ahead.reached(999'999);
  EXPECT_TRUE(ahead.has_overflowed());
  ahead.asked();
  ahead.reached(1'000'000);
  EXPECT_FALSE(ahead.has_overflowed()) << "none that was not remembered is ahead any more";
  ahead.add("after", 1'000'001);
  EXPECT_EQ(taken(ahead), Keys{"after"}) << "and keys are remembered again";
}

TEST(AheadKeys, AnOverflowWaitsForTheNewestOfThoseThatWereRememberedToo) {
  AheadKeys ahead;
  ahead.add("newest", 2'000'000);
  fill(ahead, AheadKeys::kKeysMax - 1);
  ahead.add("one more", 1'000'000);
  ahead.asked();
  ahead.reached(1'000'000);
  EXPECT_TRUE(ahead.has_overflowed());
  ahead.asked();
  ahead.reached(2'000'000);
  EXPECT_FALSE(ahead.has_overflowed());
}

TEST(AheadKeys, AnOverflowWaitsForWhatComesWhileItLasts) {
  AheadKeys ahead;
  fill(ahead, AheadKeys::kKeysMax + 1);
  ahead.add("later", 3'000'000);
  ahead.add("sooner", 2'000'000);
  ahead.asked();
  ahead.reached(2'999'999);
  EXPECT_TRUE(ahead.has_overflowed());
  ahead.asked();
  ahead.reached(3'000'000);
  EXPECT_FALSE(ahead.has_overflowed());
}

// Nothing vouches for those of unknown version, remembered or not, until L1 is empty.
TEST(AheadKeys, AnOverflowWithAnUnversionedOneDoesNotPass) {
  for (const int which : {0, 1, 2}) {
    AheadKeys ahead;
    if (which == 0) ahead.add("u", kVersionUnknown);
    fill(ahead, AheadKeys::kKeysMax - (which == 0 ? 1 : 0));
    ahead.add("one more", which == 1 ? kVersionUnknown : 1'000'000);
    if (which == 2) ahead.add("u", kVersionUnknown);
    ahead.asked();
    ahead.reached(1'000'000'000);
    EXPECT_TRUE(ahead.has_overflowed()) << which;
    ahead.clear();
    EXPECT_FALSE(ahead.has_overflowed());
  }
}

}  // namespace
}  // namespace tiercel::coherence
