// Histories of failovers, zombies, restarts and resyncs, as the witness sees them: X is the branch
// of our master, the servers are a, b and c, our own master (where it needs a name) is m.

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "tiercel/coherence/witness.h"
#include "witness_driver.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

using Addresses = std::vector<std::string>;

// Master of X with replicas a and b, both heard at `t`; with Sentinels, they are calm.
Witness healthy(bool has_sentinels, int t = 0) {
  Witness witness{has_sentinels};
  witness.follow("X");
  witness.master_said(master_of("X", {"a", "b"}), at(t));
  if (has_sentinels) witness.sentinels_said(calm({"a", "b"}), at(t));
  witness.candidate_said("a", replica_of("X"), at(t));
  witness.candidate_said("b", replica_of("X"), at(t));
  return witness;
}

TEST(WitnessStory, AZombieWhosePromotedReplicaIsSeen) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness = healthy(has_sentinels);
    // The master hung. a was promoted, b follows a. The master wakes up: both have left its list.
    witness.master_said(master_of("X"), at(5000));
    witness.candidate_said("b", replica_of("Y"), at(5000));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
    witness.candidate_said("a", promoted("X", "Y", {"b"}), at(5000));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
  }
}

TEST(WitnessStory, AZombieWhosePromotedReplicaIsNotSeen) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X"), at(5000));
  witness.candidate_said("b", replica_of("Y"), at(5000));
  witness.candidate_silent("a", at(5100));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_EQ(witness.proof(kAnyMode).at, at(0)) << "as old as their last calm round";
  // Sentinels that still speak for the zombie would have to be all of them.
  witness.sentinels_said(calm({"a", "b"}, 2), at(5000));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.sentinels_said(alarmed({"b"}), at(5200));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed) << "not known for sure";
}

TEST(WitnessStory, WithoutSentinelsAReplicaThatLeftIsNoWeakProofEither) {
  Witness witness = healthy(false);
  witness.master_said(master_of("X"), at(5000));
  witness.candidate_silent("a", at(5100));
  witness.candidate_said("b", replica_of("Y"), at(5100));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt)
      << "kNone is for candidates that do not answer; this one does, and is not good";
}

TEST(WitnessStory, ANewcomerOnAZombieLearnsOfThePromotedReplicaFromTheSentinels) {
  // It was promoted a moment ago: the old master does not list it any more, a and b never followed
  // as far as this witness knows.
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "an empty list alone is no proof";
  witness.sentinels_said(calm({"a", "b"}), at(0));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  witness.candidate_said("b", replica_of("Y"), at(10));  // Of another branch, to all we know: good.
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "a has not been heard";
  witness.candidate_said("a", promoted("X", "Y", {"b"}), at(10));
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(WitnessStory, ASecondPromotionDoesNotHideTheFirst) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness = healthy(has_sentinels);
    // a was promoted from X and died; b, a replica of a by then, was promoted from it.
    witness.master_said(master_of("X"), at(9000));
    witness.candidate_silent("a", at(9000));
    witness.candidate_said("b", promoted("Y", "Z"), at(9000));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed) << "b followed X";
    // a comes back as a replica of b.
    witness.candidate_said("a", replica_of("Z"), at(12000));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  }
}

TEST(WitnessStory, ANewcomerOnTheMasterOfTwoPromotionsAgo) {
  // X -> Y (a, dead and back as a replica of b) -> Z (b). None of the two has X anywhere. What the
  // Sentinels say is all that tells.
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  witness.sentinels_said(alarmed({"a", "b"}), at(0));
  witness.candidate_said("a", replica_of("Z"), at(10));
  witness.candidate_said("b", promoted("Y", "Z", {"a"}), at(10));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "a majority names another master";
}

TEST(WitnessStory, ANewcomerOnAZombieAfterTheSentinelsSwitched) {
  // Their list is that of the new master, a: the replica b and the zombie m, and not a itself.
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  witness.sentinels_said(alarmed({"b", "m"}), at(0));
  witness.candidate_said("b", replica_of("Y"), at(10));
  witness.candidate_said("m", master_of("X"), at(10));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "a took writes";
}

TEST(WitnessStory, OnTheNewMasterTheOldOneIsNoDanger) {
  // S went over to a, which was promoted from X; b follows it; the old master m came back.
  Witness witness = healthy(true);
  witness.follow("Y");
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.master_said(promoted("X", "Y", {"b"}), at(5000));
  witness.sentinels_said(calm({"b", "m"}), at(5000));
  witness.candidate_said("a", promoted("X", "Y", {"b"}), at(5000));
  witness.candidate_said("b", replica_of("Y"), at(5000));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "m has not been heard";
  witness.candidate_said("m", master_of("X"), at(5000));  // The zombie still thinks so.
  EXPECT_EQ(witness.proof(kAnyMode).at, at(5000));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  witness.candidate_said("m", replica_of("Y"), at(6000));  // Sentinel put it under a.
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(5000));
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
}

TEST(WitnessStory, TheNextPromotionFromTheNewBranchIsSeen) {
  Witness witness = healthy(true);
  witness.follow("Y");
  witness.master_said(promoted("X", "Y", {"b"}), at(5000));
  witness.sentinels_said(calm({"b", "m"}), at(5000));
  witness.candidate_said("m", replica_of("Y"), at(5000));
  witness.candidate_said("b", replica_of("Y"), at(5000));
  ASSERT_EQ(witness.candidates(), (Addresses{"b", "m"})) << "a is our master now";
  ASSERT_EQ(witness.proof(WitnessMode::kReplicas).at, at(5000));
  witness.candidate_said("m", promoted("Y", "Z", {"b"}), at(7000));
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(WitnessStory, TwoArePromotedFromTheSameBranch) {
  // A partition: a was promoted from X by an operator, c by the Sentinels. S went to a.
  Witness witness = healthy(true);
  witness.follow("Y");
  witness.master_said(promoted("X", "Y", {"b"}), at(5000));
  witness.candidate_said("b", replica_of("Y"), at(5000));
  witness.sentinels_said(calm({"b", "c"}), at(4000));
  witness.candidate_said("c", promoted("X", "Z"), at(5000));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "a rival";
  witness.sentinels_said(alarmed({"b", "a"}), at(5000));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "they name c";
}

TEST(WitnessStory, AMasterOfAnotherPastStartsAfresh) {
  Witness witness = healthy(false);
  witness.follow("N");
  witness.master_said(master_of("N", {"a"}), at(5000));
  EXPECT_EQ(witness.candidates(), (Addresses{"a"})) << "b was of a branch that is none of ours";
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "heard for X, not for N";
  witness.candidate_said("a", replica_of("N"), at(5001));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(5001));
}

TEST(WitnessStory, TheSentinelsListIsNeededForEachBranch) {
  Witness witness = healthy(true);
  witness.follow("N");
  witness.master_said(master_of("N", {"a"}), at(5000));
  witness.candidate_said("a", replica_of("N"), at(5000));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_TRUE(witness.needs_sentinels());
}

TEST(WitnessStory, AReconnectionToTheSameBranchForgetsNobody) {
  Witness witness = healthy(true);
  witness.follow("X");
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "the master's list is asked for anew";
  // a was promoted while S was away: it is not in the list.
  witness.master_said(master_of("X", {"b"}), at(3000));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  witness.candidate_said("b", replica_of("X"), at(3000));
  witness.candidate_said("a", promoted("X", "Y"), at(3000));
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(WitnessStory, WhatWasSaidBeforeTheReconnectionIsNoWitnessForAfterwards) {
  Witness witness = healthy(true);
  witness.follow("X");
  witness.master_said(master_of("X", {"a", "b"}), at(3000));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "nobody was asked since";
  witness.candidate_said("a", replica_of("X"), at(3000));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.candidate_said("b", replica_of("X"), at(3000));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(3000));
}

TEST(WitnessStory, ALoneMasterIsAskedAnewAfterAReconnection) {
  Witness witness{false};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  witness.follow("X");
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "it may have a replica by now";
}

TEST(WitnessStory, OnANewBranchTheSentinelsWordForTheOldOneIsNone) {
  Witness witness = healthy(true);
  witness.follow("Y");
  witness.master_said(promoted("X", "Y"), at(5000));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
}

TEST(WitnessStory, WhoTheMasterBeforeOursWasIsForgottenWithTheBranch) {
  Witness witness{true};
  witness.follow("Y");
  witness.master_said(promoted("X", "Y"), at(0));
  witness.follow("Z");
  witness.sentinels_said(calm({"m"}), at(100));
  witness.candidate_said("m", master_of("X"), at(100));  // Before Z's master spoke.
  witness.master_said(promoted("Y", "Z", {"b"}), at(100));
  witness.candidate_said("b", replica_of("Z"), at(100));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "a rival, to all we know";
}

TEST(WitnessStory, AReplicaIsKilled) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_silent("b", at(150));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0)) << "its last answer";
  witness.sentinels_said(calm({"a", "b"}), at(160));
  EXPECT_EQ(witness.proof(WitnessMode::kSentinels).at, at(100)) << "at once, by all Sentinels";
  witness.sentinels_said(calm_but_down("b", 2, 2), at(1000));
  EXPECT_EQ(witness.proof(WitnessMode::kSentinels).at, at(100)) << "later, by a majority";
}

TEST(WitnessStory, AReplicaHangsAndGoesOn) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a", "b"}), at(100));  // The link is still there.
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_silent("b", at(200));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0));
  witness.candidate_said("b", replica_of("X"), at(300));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(100));
}

TEST(WitnessStory, AReplicaRestartsWithAFullResync) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  // Before it has loaded the master's data it has an id of its own, and is a replica.
  witness.candidate_said("b", replica_of("own-1"), at(100));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  witness.master_said(master_of("X", {"a", "b"}), at(200));
  witness.candidate_said("a", replica_of("X"), at(200));
  witness.candidate_said("b", replica_of("X"), at(200));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(200));
}

TEST(WitnessStory, AReplicaRestartsAsAMasterOfItsOwn) {
  // Its configuration was not written: it comes back empty as a master, until Sentinel puts it
  // back.
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_said("b", master_of("own-1"), at(100));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "it followed, and takes writes";
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
  witness.candidate_said("b", replica_of("X"), at(9000));
  witness.candidate_said("a", replica_of("X"), at(9000));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(9000));
}

TEST(WitnessStory, AReplicaIsGivenAnotherMaster) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_said("b", replica_of("other"), at(100));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  witness.sentinels_said(calm({"a"}), at(200));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(100)) << "they do not list it any more, or vouch for it";
}

TEST(WitnessStory, AnOperatorPromotesAReplicaByHand) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness = healthy(has_sentinels);
    witness.master_said(master_of("X", {"a"}), at(100));
    witness.candidate_said("a", replica_of("X"), at(100));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0)) << "b's word is of then";
    witness.candidate_said("b", promoted("X", "Y"), at(100));
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed) << "REPLICAOF NO ONE";
    if (has_sentinels) {
      witness.sentinels_said(calm({"a", "b"}), at(120));
      EXPECT_TRUE(witness.proof(kAnyMode).is_deposed) << "the Sentinels have not noticed";
    }
  }
}

TEST(WitnessStory, ANodeDiesWithAReplicaAndASentinel) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_silent("b", at(200));
  witness.sentinels_said(calm({"a", "b"}, 2), at(200));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(0)) << "b's last word: the third could be promoting it";
  witness.sentinels_said(calm_but_down("b", 2, 2), at(1200));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(100)) << "once both that are left see it down";
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
}

TEST(WitnessStory, AllSentinelsDieWhileTheReplicasAnswer) {
  Witness witness = healthy(true);
  witness.sentinels_said({.known = 3, .answered = 0}, at(100));
  witness.master_said(master_of("X", {"a", "b"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_said("b", replica_of("X"), at(100));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(100));
}

}  // namespace
}  // namespace tiercel::coherence
