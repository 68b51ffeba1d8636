// The rules of belief, by hand: which server is taken for the master, after what was claimed,
// announced and found.

#include "master_belief.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <vector>

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1000s};

Endpoint at(std::uint16_t port) { return {"10.0.0.1", port, {}}; }

class BeliefTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kVoters = 3;

  static SentinelClaim claim(std::uint16_t port, std::uint64_t epoch, bool is_tilted = false) {
    return {at(port), epoch, is_tilted};
  }
  // The port chosen; 0: nothing.
  std::uint16_t choose(const std::vector<SentinelClaim>& claims, TimePoint now = kStart) {
    choice_ = belief_.choose(claims, kVoters, now);
    return choice_ ? choice_->endpoint.port : std::uint16_t{0};
  }
  static ServerIdentity identity(std::uint16_t port) { return {at(port), "run", "replid"}; }
  // A link found a master at port 1, named in epoch 5.
  void believe_in_1() {
    EXPECT_EQ(choose({claim(1, 5), claim(1, 5), claim(1, 5)}), 1);
    belief_.found_master(identity(1));
  }

  MasterBelief belief_;
  std::optional<Resolution> choice_;
};

TEST_F(BeliefTest, TheHighestEpochCountsThenTheMostVotes) {
  EXPECT_EQ(choose({}), 0);
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5), claim(2, 6)}), 2);
  EXPECT_EQ(choose({claim(2, 6), claim(1, 7), claim(2, 6)}), 1);
  EXPECT_EQ(choose({claim(1, 7), claim(2, 7), claim(2, 7)}), 2);
}

TEST_F(BeliefTest, ATiltedSentinelCountsLessAmongEquals) {
  EXPECT_EQ(choose({claim(1, 5, true), claim(2, 5)}), 2);
  EXPECT_EQ(choose({claim(1, 5, true), claim(1, 5, true), claim(2, 5)}), 2);
  EXPECT_EQ(choose({claim(1, 6, true), claim(2, 5)}), 1);  // An epoch is a fact all the same.
  EXPECT_EQ(choose({claim(1, 6, true), claim(1, 6, true)}), 1);
}

TEST_F(BeliefTest, AnOldClaimCountsForNothingOnceANewerOneIsProven) {
  believe_in_1();
  EXPECT_EQ(choose({claim(2, 4)}), 1);
  EXPECT_FALSE(choice_->only_if);
  EXPECT_EQ(choose({claim(2, 4), claim(3, 3)}, kStart + 60s), 1);
  EXPECT_EQ(choose({claim(2, 6), claim(1, 5)}), 2);
}

TEST_F(BeliefTest, AMajorityThatStaysBelowTheProvenEpochWins) {
  believe_in_1();
  const std::vector<SentinelClaim> anew{claim(2, 0), claim(2, 0)};
  EXPECT_EQ(choose(anew), 1);
  EXPECT_EQ(choose(anew, kStart + MasterBelief::kOutvotedMax - 1ms), 1);
  EXPECT_EQ(choose({claim(2, 0), claim(1, 5)}, kStart + 9s), 1);  // Not all: it begins anew.
  EXPECT_EQ(choose(anew, kStart + 11s), 1);
  EXPECT_EQ(choose(anew, kStart + 11s + MasterBelief::kOutvotedMax), 2);
  belief_.found_master(identity(2));
  EXPECT_EQ(choose({claim(2, 0)}), 2);
}

TEST_F(BeliefTest, WhatTheServerDeniesIsRefutedIfAMajorityNamesAnother) {
  believe_in_1();
  const std::vector<SentinelClaim> liar{claim(9, 99), claim(1, 5), claim(1, 5)};
  EXPECT_EQ(choose(liar), 9);
  belief_.found_not_master(at(9));
  EXPECT_EQ(choose(liar), 1);
  EXPECT_EQ(choose(liar, kStart + 1h), 1);  // For as long as it says the same.
  // One that is alone with it proves nothing.
  EXPECT_EQ(choose({claim(9, 99), claim(1, 5)}), 9);
  EXPECT_EQ(choose({claim(9, 100), claim(1, 5), claim(1, 5)}), 9);  // It says something new.
  belief_.found_not_master(at(9));
  EXPECT_EQ(choose({claim(9, 100), claim(1, 5), claim(1, 5)}), 1);
  // And when it becomes true, it is believed.
  belief_.found_master(identity(9));
  EXPECT_EQ(choose({claim(9, 100), claim(1, 5), claim(1, 5)}), 9);
}

TEST_F(BeliefTest, WhatCannotBeReachedForLongIsRefutedToo) {
  believe_in_1();
  const std::vector<SentinelClaim> claims{claim(9, 6), claim(1, 5), claim(1, 5)};
  EXPECT_EQ(choose(claims), 9);
  belief_.found_unreachable(at(9), kStart);
  EXPECT_EQ(choose(claims), 9);
  belief_.found_unreachable(at(9), kStart + MasterBelief::kUnreachableMax - 1ms);
  EXPECT_EQ(choose(claims), 9);
  belief_.found_unreachable(at(9), kStart + MasterBelief::kUnreachableMax);
  EXPECT_EQ(choose(claims), 1);
}

TEST_F(BeliefTest, WithoutASentinelTheSameLifeOfTheSameServerRemains) {
  EXPECT_EQ(choose({claim(1, 5)}), 1);
  EXPECT_EQ(choose({}), 0);  // No link has ever found a master there.
  believe_in_1();
  EXPECT_EQ(choose({}), 1);
  ASSERT_TRUE(choice_->only_if);
  EXPECT_EQ(*choice_->only_if, identity(1));
  EXPECT_EQ(choose({claim(1, 5)}), 1);
  EXPECT_FALSE(choice_->only_if);
}

TEST_F(BeliefTest, AnAnnouncementCountsWhileTheSentinelsCatchUp) {
  believe_in_1();
  EXPECT_FALSE(belief_.announced(at(3), at(2), kStart));  // Not from where we are.
  EXPECT_TRUE(belief_.announced(at(1), at(2), kStart));
  EXPECT_TRUE(belief_.announced(at(1), at(2), kStart));  // By the next Sentinel.
  EXPECT_TRUE(belief_.is_ahead(kStart));
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}), 2);
  belief_.found_master(identity(2));
  EXPECT_EQ(choose({claim(1, 5), claim(2, 6)}), 2);
  EXPECT_FALSE(belief_.is_ahead(kStart));
  EXPECT_EQ(choose({claim(1, 5)}), 2);
}

TEST_F(BeliefTest, AnAnnouncementThatTheServerDeniesIsForgotten) {
  believe_in_1();
  EXPECT_TRUE(belief_.announced(at(1), at(9), kStart));
  belief_.found_not_master(at(9));
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}), 1);
  EXPECT_FALSE(belief_.announced(at(1), at(9), kStart));  // Once bitten.
}

TEST_F(BeliefTest, APromotionCountsAtOnceAndIsProvenByASentinelOnly) {
  believe_in_1();
  EXPECT_FALSE(belief_.promotion_ordered(at(2), 5, kStart));  // An older story.
  EXPECT_TRUE(belief_.promotion_ordered(at(2), 6, kStart));
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5), claim(1, 5)}), 2);
  belief_.found_not_master(at(2));  // Not yet.
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5), claim(1, 5)}), 2);
  belief_.found_master(identity(2));
  // The elected Sentinel was lost with it, say: nobody ever confirms.
  const TimePoint later = kStart + MasterBelief::kAheadMax;
  EXPECT_TRUE(belief_.is_ahead(later - 1ms));
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}, later - 1ms), 2);
  EXPECT_FALSE(belief_.is_ahead(later));
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}, later), 1);
}

TEST_F(BeliefTest, AConfirmedPromotionStands) {
  believe_in_1();
  EXPECT_TRUE(belief_.promotion_ordered(at(2), 6, kStart));
  belief_.found_master(identity(2));
  EXPECT_EQ(choose({claim(1, 5), claim(2, 6)}), 2);
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}, kStart + 1s), 2);  // They have not heard of it yet.
  EXPECT_EQ(choose({}), 2);
  EXPECT_EQ(*choice_->only_if, identity(2));
}

TEST_F(BeliefTest, AnAbortedPromotionIsForgotten) {
  believe_in_1();
  EXPECT_TRUE(belief_.promotion_ordered(at(2), 6, kStart));
  belief_.promotion_aborted();
  EXPECT_EQ(choose({claim(1, 5), claim(1, 5)}), 1);
}

}  // namespace
}  // namespace tiercel::l2
