#include "tiercel/coherence/fill_table.h"

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "support/allocations.h"
#include "tiercel/base/random.h"

namespace tiercel::coherence {
namespace {

class FillTableTest : public ::testing::Test {
 protected:
  ~FillTableTest() override { EXPECT_EQ(table_.tokens_under_way(), 0U) << "a token leaked"; }

  // Whether the fill was let through; the insertion must run exactly then.
  bool commit(FillTable::Token token, Version version) {
    int insertions = 0;
    const bool good = table_.commit(std::move(token), version, [&] { ++insertions; });
    EXPECT_EQ(insertions, good ? 1 : 0);
    return good;
  }

  FillTable table_{8};
};

TEST_F(FillTableTest, AnUndisturbedFillIsInserted) {
  auto token = table_.begin("k");
  EXPECT_EQ(token.key(), "k");
  EXPECT_EQ(table_.tokens_under_way(), 1U);
  EXPECT_TRUE(table_.untouched(token));
  EXPECT_TRUE(commit(std::move(token), 5));
  EXPECT_EQ(table_.tokens_under_way(), 0U);
}

TEST_F(FillTableTest, AValueOfUnknownVersionIsInsertedWhenNothingHappened) {
  EXPECT_TRUE(commit(table_.begin("k"), kVersionUnknown));
}

// More than the table has room for at first, and then again in the place of those.
TEST_F(FillTableTest, EachOfManyKeysHasItsOwnTokens) {
  constexpr std::size_t kKeys = 2000;
  const auto key_of = [](std::size_t i) { return "key " + std::to_string(i); };
  for (int round = 0; round < 2; ++round) {
    std::vector<FillTable::Token> tokens;
    for (std::size_t i = 0; i < kKeys; ++i) tokens.push_back(table_.begin(key_of(i)));
    EXPECT_EQ(table_.tokens_under_way(), kKeys);
    for (std::size_t i = 0; i < kKeys; i += 3) table_.mark(key_of(i), kVersionUnknown);
    for (std::size_t i = 0; i < kKeys; ++i) {
      EXPECT_EQ(tokens[i].key(), key_of(i));
      EXPECT_EQ(table_.untouched(tokens[i]), i % 3 != 0) << key_of(i);
      EXPECT_EQ(commit(std::move(tokens[i]), 5), i % 3 != 0) << key_of(i);
    }
    EXPECT_EQ(table_.tokens_under_way(), 0U);
  }
}

TEST_F(FillTableTest, AHardMarkBarsEveryTokenThatStands) {
  auto first = table_.begin("k");
  auto second = table_.begin("k");
  auto third = table_.begin("k");
  table_.mark("k", kVersionUnknown);
  EXPECT_FALSE(table_.untouched(first));
  EXPECT_FALSE(commit(std::move(first), 5));
  EXPECT_FALSE(commit(std::move(second), kVersionUnknown));
  EXPECT_FALSE(commit(std::move(third), ~Version{0})) << "no version is new enough";
}

TEST_F(FillTableTest, AHardMarkSparesATokenThatBeginsAfterIt) {
  auto before = table_.begin("k");
  table_.mark("k", kVersionUnknown);
  auto after = table_.begin("k");
  EXPECT_TRUE(table_.untouched(after));
  EXPECT_FALSE(table_.untouched(before));
  EXPECT_TRUE(commit(std::move(after), kVersionUnknown));
  EXPECT_FALSE(commit(std::move(before), 7));
}

TEST_F(FillTableTest, AMarkWithAVersionBarsOnlyWhatIsOlder) {
  auto older = table_.begin("k");
  auto same = table_.begin("k");
  auto newer = table_.begin("k");
  auto unknown = table_.begin("k");
  table_.mark("k", 10);
  EXPECT_FALSE(commit(std::move(older), 9));
  EXPECT_FALSE(commit(std::move(unknown), kVersionUnknown));
  EXPECT_TRUE(commit(std::move(same), 10)) << "it read the change itself";
  EXPECT_TRUE(commit(std::move(newer), 11));
}

TEST_F(FillTableTest, MarksOfVersionsMayComeInAnyOrder) {
  auto token = table_.begin("k");
  auto other = table_.begin("k");
  table_.mark("k", 20);
  table_.mark("k", 10);
  EXPECT_FALSE(commit(std::move(token), 15));
  EXPECT_TRUE(commit(std::move(other), 20));
}

TEST_F(FillTableTest, AnyChangeTouchesAToken) {
  auto token = table_.begin("k");
  table_.mark("k", 10);
  EXPECT_FALSE(table_.untouched(token)) << "a reader that comes now must not share its result";
  auto later = table_.begin("k");
  EXPECT_TRUE(table_.untouched(later));
  table_.mark("other", kVersionUnknown);
  EXPECT_TRUE(table_.untouched(later));
  table_.mark_all();
  EXPECT_FALSE(table_.untouched(later));
}

TEST_F(FillTableTest, OtherKeysAreNoConcern) {
  std::vector<FillTable::Token> tokens;
  for (int i = 0; i < 1000; ++i) tokens.push_back(table_.begin("k" + std::to_string(i)));
  table_.mark("k500", kVersionUnknown);
  for (int i = 0; i < 1000; ++i) {
    auto& token = tokens[static_cast<std::size_t>(i)];
    EXPECT_EQ(commit(std::move(token), 5), i != 500) << i;
  }
}

TEST_F(FillTableTest, KeysAreBytes) {
  const std::string with_zero{"a\0b", 3};
  auto token = table_.begin(with_zero);
  auto empty = table_.begin("");
  table_.mark("a", kVersionUnknown);
  table_.mark(std::string{"a\0c", 3}, kVersionUnknown);
  EXPECT_TRUE(table_.untouched(token));
  table_.mark(with_zero, kVersionUnknown);
  EXPECT_FALSE(commit(std::move(token), 5));
  EXPECT_TRUE(commit(std::move(empty), 5));
}

TEST_F(FillTableTest, MarkAllBarsEveryTokenThatStandsAndNoLaterOne) {
  std::vector<FillTable::Token> tokens;
  for (int i = 0; i < 100; ++i) tokens.push_back(table_.begin("k" + std::to_string(i)));
  table_.mark_all();
  auto later = table_.begin("k1");
  for (auto& token : tokens) {
    EXPECT_FALSE(table_.untouched(token));
    EXPECT_FALSE(commit(std::move(token), ~Version{0}));
  }
  EXPECT_TRUE(commit(std::move(later), 1));
}

TEST_F(FillTableTest, VersionsOfAnEndedEpochSayNothingInTheNext) {
  auto old = table_.begin("k");
  table_.mark("k", 1000);
  EXPECT_TRUE(commit(table_.begin("k"), 2000));
  table_.mark_all();
  auto fresh = table_.begin("k");
  auto unknown = table_.begin("k");
  EXPECT_TRUE(commit(std::move(unknown), kVersionUnknown));
  EXPECT_TRUE(commit(std::move(fresh), 3)) << "1000 and 2000 belong to another branch";
  EXPECT_FALSE(commit(std::move(old), 3000));
}

// A refused fill of an ended epoch must not leave its version behind as a floor of the new one.
TEST_F(FillTableTest, ABarredFillSetsNoFloor) {
  auto standing = table_.begin("k");
  auto old = table_.begin("k");
  table_.mark("k", kVersionUnknown);
  auto fresh = table_.begin("k");
  EXPECT_FALSE(commit(std::move(old), 3000));
  EXPECT_TRUE(commit(std::move(fresh), 3));
  EXPECT_FALSE(commit(std::move(standing), 4000));
}

TEST_F(FillTableTest, AFillDoesNotReplaceANewerOneThatRanBesideIt) {
  auto slow = table_.begin("k");
  auto quick = table_.begin("k");
  EXPECT_TRUE(commit(std::move(quick), 10));
  EXPECT_FALSE(table_.untouched(slow)) << "who comes now may have read version 10";
  EXPECT_FALSE(commit(std::move(slow), 9)) << "L1 may hold version 10 already";
}

TEST_F(FillTableTest, AFillMayReplaceOneOfTheSameVersionOrAnOlder) {
  auto same = table_.begin("k");
  auto newer = table_.begin("k");
  EXPECT_TRUE(commit(table_.begin("k"), 10));
  EXPECT_TRUE(commit(std::move(same), 10));
  EXPECT_TRUE(commit(std::move(newer), 11));
}

TEST_F(FillTableTest, AnUnknownVersionDoesNotReplaceAKnownOne) {
  auto slow = table_.begin("k");
  EXPECT_TRUE(commit(table_.begin("k"), 10));
  EXPECT_FALSE(commit(std::move(slow), kVersionUnknown));
}

// The floor stays as long as any token stands that may have read what is below it.
TEST_F(FillTableTest, TheFloorOutlivesTheFillThatRaisedIt) {
  auto slowest = table_.begin("k");
  EXPECT_TRUE(commit(table_.begin("k"), 10));
  EXPECT_TRUE(commit(table_.begin("k"), 10));
  { const auto abandoned = table_.begin("k"); }
  EXPECT_FALSE(commit(std::move(slowest), 9));
  // Nobody is left who could be behind.
  EXPECT_TRUE(commit(table_.begin("k"), 1));
}

TEST_F(FillTableTest, AMarkWithoutTokensLeavesNothingBehind) {
  for (int i = 0; i < 1000; ++i) table_.mark("k" + std::to_string(i), 100);
  auto token = table_.begin("k5");
  EXPECT_TRUE(table_.untouched(token));
  EXPECT_TRUE(commit(std::move(token), 1)) << "it began after the mark, so it read what came of it";
}

TEST_F(FillTableTest, AnAbandonedTokenIsGone) {
  { const auto token = table_.begin("k"); }
  EXPECT_EQ(table_.tokens_under_way(), 0U);
}

TEST_F(FillTableTest, MovingATokenMovesTheDuty) {
  auto first = table_.begin("k");
  FillTable::Token second{std::move(first)};
  EXPECT_EQ(second.key(), "k");
  EXPECT_EQ(table_.tokens_under_way(), 1U);
  first = table_.begin("other");
  EXPECT_EQ(table_.tokens_under_way(), 2U);
  first = std::move(second);
  EXPECT_EQ(table_.tokens_under_way(), 1U) << "the token of 'other' was abandoned";
  EXPECT_EQ(first.key(), "k");
  auto& itself = first;
  first = std::move(itself);
  EXPECT_EQ(table_.tokens_under_way(), 1U);
  EXPECT_EQ(first.key(), "k");
  first = FillTable::Token{};
  EXPECT_EQ(table_.tokens_under_way(), 0U);
}

TEST_F(FillTableTest, MarksReachATokenThatWasMoved) {
  auto token = table_.begin("k");
  auto moved = std::make_unique<FillTable::Token>(std::move(token));
  table_.mark("k", kVersionUnknown);
  EXPECT_FALSE(table_.untouched(*moved));
  EXPECT_FALSE(commit(std::move(*moved), 5));
}

TEST_F(FillTableTest, AnInsertionThatThrowsEndsTheTokenAndFreesTheStripe) {
  EXPECT_THROW(
      table_.commit(table_.begin("k"), 5, []() -> void { throw std::runtime_error{"no memory"}; }),
      std::runtime_error);
  EXPECT_EQ(table_.tokens_under_way(), 0U);
  EXPECT_TRUE(commit(table_.begin("k"), 1));
}

TEST_F(FillTableTest, TokensEndAlsoWhereThereIsNoMemory) {
  std::vector<FillTable::Token> tokens;
  for (int i = 0; i < 1000; ++i) tokens.push_back(table_.begin("k" + std::to_string(i)));
  {
    const tiercel::testing::NoMemory no_memory;
    EXPECT_TRUE(table_.commit(std::move(tokens.back()), 5, [] {}));
    tokens.pop_back();
    tokens.clear();
  }
  EXPECT_EQ(table_.tokens_under_way(), 0U);
}

// Random steps against the rules of the header written down once more, with a list of all changes
// for each token in place of counters.
TEST_F(FillTableTest, DoesWhatItsRulesSay) {
  struct Standing {
    FillTable::Token token;
    bool barred = false;
    bool touched = false;
  };
  constexpr std::uint64_t kSeed = 20240611;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random{kSeed};
  std::vector<std::vector<Standing>> standing(3);  // For each key.
  std::vector<Version> floors(standing.size(), kVersionUnknown);
  for (int step = 0; step < 50000; ++step) {
    const std::size_t k = random.below(standing.size());
    const std::string key = "key" + std::to_string(k);
    const Version version = random.below(4) == 0 ? kVersionUnknown : 1 + random.below(20);
    const std::uint64_t dice = random.below(100);
    auto& tokens = standing[k];
    if (dice < 40 && tokens.size() < 5) {
      tokens.push_back({.token = table_.begin(key)});
    } else if (dice < 60) {
      table_.mark(key, version);
      for (auto& each : tokens) {
        each.touched = true;
        if (version == kVersionUnknown) each.barred = true;
      }
      if (!tokens.empty()) floors[k] = std::max(floors[k], version);
    } else if (dice < 62) {
      table_.mark_all();
      for (auto& list : standing) {
        for (auto& each : list) each.barred = each.touched = true;
      }
      floors.assign(floors.size(), kVersionUnknown);
    } else if (!tokens.empty()) {
      const std::size_t i = random.below(tokens.size());
      Standing ended = std::move(tokens[i]);
      tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(i));
      ASSERT_EQ(table_.untouched(ended.token), !ended.touched) << "step " << step;
      if (dice < 90) {
        const bool good = !ended.barred && (version != kVersionUnknown
                                                ? version >= floors[k]
                                                : !ended.touched && floors[k] == kVersionUnknown);
        ASSERT_EQ(commit(std::move(ended.token), version), good) << "step " << step;
        if (good && version != kVersionUnknown) {
          floors[k] = std::max(floors[k], version);
          for (auto& each : tokens) each.touched = true;
        }
      } else {
        ended.token = FillTable::Token{};
      }
      if (tokens.empty()) floors[k] = kVersionUnknown;
    }
    std::size_t under_way = 0;
    for (const auto& list : standing) under_way += list.size();
    ASSERT_EQ(table_.tokens_under_way(), under_way) << "step " << step;
  }
}

TEST(FillTableDeathTest, TheNumberOfStripesIsAPowerOfTwo) {
  EXPECT_DEATH(FillTable{0}, "check failed");
  EXPECT_DEATH(FillTable{3}, "check failed");
  EXPECT_EQ(FillTable{1}.tokens_under_way(), 0U);
}

TEST(FillTableDeathTest, ATokenEndsOnce) {
  FillTable table{1};
  auto token = table.begin("k");
  auto moved = std::move(token);
  EXPECT_DEATH(static_cast<void>(table.untouched(token)), "check failed");
  EXPECT_DEATH(table.commit(std::move(token), 1, [] {}), "check failed");
  // Not even by way of another token that happens to stand under the empty key.
  const auto bystander = table.begin("");
  EXPECT_DEATH(table.commit(FillTable::Token{}, 1, [] {}), "check failed");
}

TEST(FillTable, NobodyJoinsAFillThatIsOlderThanOneThatHasLanded) {
  FillTable fills;
  auto slow = fills.begin("k");
  auto quick = fills.begin("k");
  EXPECT_TRUE(fills.untouched(slow));
  EXPECT_TRUE(fills.commit(std::move(quick), 5, [] {}));
  // Whoever comes now may have read version 5.
  EXPECT_FALSE(fills.untouched(slow));
  // It may still go in, if it is that new.
  EXPECT_TRUE(fills.commit(std::move(slow), 5, [] {}));
}

}  // namespace
}  // namespace tiercel::coherence
