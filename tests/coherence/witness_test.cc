// What each answer is worth to the witness, and what each mode rests on.

#include "tiercel/coherence/witness.h"

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "witness_driver.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

using Addresses = std::vector<std::string>;

// A branch X with the replicas a and b, as the master lists them.
Witness with_two_replicas(bool has_sentinels) {
  Witness witness{has_sentinels};
  witness.follow("X");
  witness.master_said(master_of("X", {"a", "b"}), at(0));
  return witness;
}

// The same, and Sentinels that list them too.
Witness with_sentinels_and_two_replicas() {
  Witness witness = with_two_replicas(true);
  witness.sentinels_said(calm({"a", "b"}), at(0));
  return witness;
}

TEST(WitnessMode, HasNames) {
  EXPECT_EQ(to_string(WitnessMode::kNone), "none");
  EXPECT_EQ(to_string(WitnessMode::kSentinels), "sentinels");
  EXPECT_EQ(to_string(WitnessMode::kReplicas), "replicas");
  EXPECT_LT(WitnessMode::kNone, WitnessMode::kSentinels);
  EXPECT_LT(WitnessMode::kSentinels, WitnessMode::kReplicas);
}

TEST(Witness, KnowsNothingBeforeTheMastersList) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness{has_sentinels};
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
    witness.follow("X");
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
    EXPECT_NE(witness.proof(kAnyMode).why_not, "");
    EXPECT_TRUE(witness.candidates().empty());
    EXPECT_EQ(witness.needs_sentinels(), has_sentinels);
  }
}

TEST(Witness, EveryReplicaThatFollowsIsAProofAsOldAsTheOldestQuestion) {
  Witness witness = with_two_replicas(false);
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  witness.candidate_said("a", replica_of("X"), at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "b has not been heard";
  witness.candidate_said("b", replica_of("X"), at(20));
  const auto proof = witness.proof(WitnessMode::kReplicas);
  EXPECT_EQ(proof.at, at(20));
  EXPECT_EQ(proof.mode, WitnessMode::kReplicas);
  EXPECT_EQ(proof.why_not, "");
  EXPECT_FALSE(proof.is_deposed);
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kReplicas) << "the strongest is named";
  witness.candidate_said("b", replica_of("X"), at(90));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(30));
}

TEST(Witness, ALateReplicaHoldsTheProofAtItsLastAnswer) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  witness.candidate_silent("b", at(200));
  witness.candidate_said("a", replica_of("X"), at(250));
  auto proof = witness.proof(WitnessMode::kReplicas);
  EXPECT_EQ(proof.at, at(10)) << "what it said of then is as true as it was";
  EXPECT_EQ(proof.mode, WitnessMode::kReplicas);
  proof = witness.proof(WitnessMode::kNone);
  EXPECT_EQ(proof.at, at(250)) << "a newer one, if a weaker";
  EXPECT_EQ(proof.mode, WitnessMode::kNone);
  witness.candidate_said("b", replica_of("X"), at(300));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(250));
  EXPECT_EQ(witness.proof(WitnessMode::kNone).mode, WitnessMode::kReplicas);
}

TEST(Witness, OneThatHasNeverAnsweredIsNoLateOne) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_silent("b", at(200));
  const auto proof = witness.proof(WitnessMode::kReplicas);
  EXPECT_EQ(proof.at, std::nullopt);
  EXPECT_NE(proof.why_not.find('b'), std::string::npos) << proof.why_not;
  EXPECT_FALSE(proof.is_deposed);
}

TEST(Witness, TheNewerOfTwoProofsCounts) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  EXPECT_FALSE(witness.needs_sentinels());
  witness.candidate_silent("b", at(100));
  EXPECT_TRUE(witness.needs_sentinels()) << "before the proof is too old";
  witness.candidate_said("a", replica_of("X"), at(120));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(10));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kReplicas);
  witness.sentinels_said(calm({"a", "b"}), at(110));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(110));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
  witness.sentinels_said(alarmed({"a", "b"}), at(130));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(10)) << "what b said stands";
}

TEST(Witness, AReplicaThatKnowsNoBranchYetIsLateAndNotLost) {
  ReplicationState restarted = replica_of("own-1");
  restarted.is_linked = false;
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", restarted, at(10));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_EQ(witness.proof(kAnyMode).at, at(10)) << "per server, until it has synchronised";
  ReplicationState promoted_and_demoted = restarted;
  promoted_and_demoted.former_replication_id = "X";
  witness.candidate_said("b", promoted_and_demoted, at(20));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "it was promoted from our branch";
  ReplicationState cut_off = replica_of("X");
  cut_off.is_linked = false;
  witness.candidate_said("b", cut_off, at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10)) << "it was not promoted";
}

TEST(Witness, AReplicaThatLeftForAnotherBranchProvesNothing) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("Y"), at(20));
  const auto proof = witness.proof(WitnessMode::kReplicas);
  EXPECT_EQ(proof.at, std::nullopt) << "the master says that it followed: it is lost";
  EXPECT_FALSE(proof.is_deposed) << "that its new master was promoted from X is not known";
  witness.candidate_said("b", replica_of("X"), at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10)) << "it came back";
}

TEST(Witness, OneThatFollowedByItsOwnWordAndLeftIsLost) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  witness.sentinels_said(calm({"a"}), at(0));
  witness.candidate_said("a", replica_of("X"), at(10));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
  witness.candidate_said("a", replica_of("Y"), at(20));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
}

TEST(Witness, AServerPromotedFromOurBranchDeposesUs) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness{has_sentinels};
    witness.follow("X");
    witness.master_said(master_of("X", {"b"}), at(0));
    if (has_sentinels) witness.sentinels_said(calm({"a", "b"}), at(0));
    witness.candidate_said("b", replica_of("X"), at(10));
    if (!has_sentinels) {
      witness.master_said(master_of("X", {"a", "b"}), at(10));
    }
    witness.candidate_said("a", promoted("X", "Y"), at(10));
    for (const auto mode : {WitnessMode::kNone, WitnessMode::kSentinels, WitnessMode::kReplicas}) {
      const auto proof = witness.proof(mode);
      EXPECT_EQ(proof.at, std::nullopt);
      EXPECT_TRUE(proof.is_deposed);
      EXPECT_NE(proof.why_not.find('a'), std::string::npos) << proof.why_not;
    }
  }
}

TEST(Witness, AMasterThatFollowedUsDeposesUsWhateverItsFormerIdIs) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", promoted("Y", "Z"), at(20));  // Promoted twice since.
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
}

TEST(Witness, TheNewestAnswerCounts) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", promoted("X", "Y"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  ASSERT_TRUE(witness.proof(kAnyMode).is_deposed);
  witness.candidate_said("a", replica_of("X"), at(20));  // Put back under our master.
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
}

TEST(Witness, ADeposerThatFallsSilentIsNoAllClear) {
  for (const bool has_sentinels : {false, true}) {
    Witness witness = with_two_replicas(has_sentinels);
    if (has_sentinels) witness.sentinels_said(calm({"a", "b"}), at(0));
    witness.candidate_said("a", promoted("X", "Y"), at(10));
    witness.candidate_said("b", replica_of("X"), at(10));
    witness.candidate_silent("a", at(20));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed) << "that is its last word";
    if (!has_sentinels) continue;
    witness.sentinels_said(calm({"a", "b"}), at(30));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "they do not see it down";
    witness.sentinels_said(calm_but_down("a", 3), at(40));
    EXPECT_FALSE(witness.proof(kAnyMode).is_deposed) << "it came up, and went down for good";
    EXPECT_EQ(witness.proof(kAnyMode).at, at(10));
    EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  }
}

TEST(Witness, ADeposerThatTheSentinelsSeeDownButThatAnswersUsStillDeposes) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("b", replica_of("X"), at(10));
  witness.candidate_said("a", promoted("X", "Y"), at(10));
  witness.sentinels_said(calm_but_down("a", 2, 2), at(20));
  witness.candidate_said("a", promoted("X", "Y"), at(30));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(Witness, AReplicaOfAnotherBranchThatNeverFollowedOursIsGood) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X", {"a"}), at(0));
  witness.sentinels_said(calm({"a", "c"}), at(0));
  witness.candidate_said("a", replica_of("X"), at(10));
  for (int i = 0; i < 2; ++i) {
    witness.candidate_said("c", replica_of("W"), at(10));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
  }
}

TEST(Witness, TheMasterBeforeOursIsGoodOnceItIsAReplica) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(promoted("V", "X", {"a", "old"}), at(0));
  witness.sentinels_said(calm({"a", "old"}), at(3));
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("old", master_of("V"), at(5));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt)
      << "the Sentinels may choose it again";
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  EXPECT_TRUE(witness.needs_sentinels());
  EXPECT_EQ(witness.proof(kAnyMode).at, at(3)) << "and say that they have not";
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  witness.sentinels_said(alarmed({"a", "old"}), at(6));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.candidate_said("old", replica_of("X"), at(7));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(7));
}

TEST(Witness, WithoutSentinelsTheMasterBeforeOursIsGood) {
  for (const bool is_still_a_master : {true, false}) {
    Witness witness{false};
    witness.follow("X");
    witness.master_said(promoted("V", "X", {"a", "old"}), at(0));
    witness.candidate_said("a", replica_of("X"), at(10));
    witness.candidate_said("old", is_still_a_master ? master_of("V") : replica_of("X"), at(5));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(5)) << "what it takes is lost";
    EXPECT_FALSE(witness.proof(WitnessMode::kReplicas).is_deposed);
  }
}

TEST(Witness, AServerWithoutAPastIsNotTheMasterBeforeOurs) {
  Witness witness = with_two_replicas(false);  // Their master has no former id.
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", master_of(""), at(10));
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(Witness, AnyOtherMasterIsARivalOnWhichTheSentinelsDecide) {
  for (const auto& rival : {promoted("V", "W"), master_of("own-1")}) {
    Witness witness{true};
    witness.follow("X");
    witness.master_said(master_of("X", {"a"}), at(0));
    witness.candidate_said("a", replica_of("X"), at(10));
    witness.sentinels_said(calm({"a", "c"}, 2), at(11));
    witness.candidate_said("c", rival, at(12));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "the third may know it as the master";
    EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
    EXPECT_TRUE(witness.needs_sentinels());
    witness.sentinels_said(calm({"a", "c"}), at(20));
    EXPECT_EQ(witness.proof(kAnyMode).at, at(10));
    EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
    witness.sentinels_said(alarmed({"a", "c"}), at(30));
    EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  }
}

TEST(Witness, OurOwnServerUnderASentinelsNameIsNoWitness) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  witness.sentinels_said(calm({"ourselves"}), at(0));
  witness.candidate_said("ourselves", master_of("X"), at(10));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_FALSE(witness.proof(kAnyMode).is_deposed);
  witness.sentinels_said(calm({"ourselves", "a"}), at(20));
  witness.candidate_said("a", replica_of("X"), at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10)) << "but it does not stand in the way";
}

TEST(Witness, WithSentinelsTheirListMustHaveBeenHeardByAMajorityOnce) {
  Witness witness = with_two_replicas(true);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  EXPECT_TRUE(witness.needs_sentinels());
  witness.sentinels_said(calm({"a", "b"}, 1), at(20));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "one of three";
  EXPECT_TRUE(witness.needs_sentinels());
  witness.sentinels_said(calm({"a", "b"}, 2), at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
  EXPECT_FALSE(witness.needs_sentinels());
  witness.sentinels_said(calm({}, 0), at(40));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10)) << "once is enough";
}

TEST(Witness, AnAlarmOfTheSentinelsDoesNotOutweighTheReplicasThemselves) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  witness.sentinels_said(alarmed({"a", "b"}), at(20));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
}

TEST(Witness, HalfOfTheSentinelsIsNoMajority) {
  EXPECT_FALSE((SentinelRound{.known = 2, .answered = 1}.has_majority()));
  EXPECT_TRUE((SentinelRound{.known = 3, .answered = 2}.has_majority()));
  EXPECT_FALSE((SentinelRound{.known = 4, .answered = 2}.has_majority()));
  EXPECT_TRUE((SentinelRound{.known = 1, .answered = 1}.has_majority()));
  EXPECT_FALSE(SentinelRound{}.has_majority());
}

TEST(Witness, AllSentinelsVouchForTheReplicasThatCannotBeAsked) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(30));
  witness.candidate_silent("b", at(35));
  EXPECT_TRUE(witness.needs_sentinels());
  witness.sentinels_said(calm({"a", "b"}), at(20));
  auto proof = witness.proof(WitnessMode::kSentinels);
  EXPECT_EQ(proof.at, at(20)) << "as old as the Sentinels' round";
  EXPECT_EQ(proof.mode, WitnessMode::kSentinels);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  witness.sentinels_said(calm({"a", "b"}), at(90));
  EXPECT_EQ(witness.proof(WitnessMode::kSentinels).at, at(30)) << "as old as the replica's answer";
  EXPECT_TRUE(witness.needs_sentinels()) << "as long as the replicas are no proof";
  witness.candidate_said("b", replica_of("X"), at(95));
  EXPECT_FALSE(witness.needs_sentinels());
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kReplicas);
}

TEST(Witness, AllSentinelsVouchForAReplicaThatLeft) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(30));
  witness.candidate_said("b", replica_of("Y"), at(30));
  EXPECT_TRUE(witness.needs_sentinels());
  witness.sentinels_said(calm({"a", "b"}), at(40));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(30));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
}

TEST(Witness, SentinelsThatAreNotCalmVouchForNobody) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_silent("b", at(10));
  witness.sentinels_said(calm({"a", "b"}), at(20));
  ASSERT_TRUE(witness.proof(kAnyMode).at.has_value());
  witness.sentinels_said(alarmed({"a", "b"}), at(30));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "the last round is the one that counts";
  SentinelRound down = calm_but_down("b", 3);
  down.is_calm = false;
  witness.sentinels_said(down, at(40));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
}

TEST(Witness, AMajorityOfTheSentinelsVouchesOnlyForWhatEachOfThemSeesDown) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_silent("b", at(10));
  witness.sentinels_said(calm({"a", "b"}, 2), at(20));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "the third may be electing b";
  witness.sentinels_said(calm_but_down("b", 1, 2), at(30));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.sentinels_said(calm_but_down("b", 2, 2), at(40));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(10));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  witness.sentinels_said(calm_but_down("b", 1, 1), at(50));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt) << "no majority";
}

TEST(Witness, WithoutSentinelsTheReplicasThatAnswerAreTheWeakestProof) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_silent("b", at(20));
  const auto proof = witness.proof(WitnessMode::kNone);
  EXPECT_EQ(proof.at, at(10));
  EXPECT_EQ(proof.mode, WitnessMode::kNone);
  EXPECT_EQ(witness.proof(WitnessMode::kSentinels).at, std::nullopt);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
}

TEST(Witness, WithSentinelsThereIsNoProofPerServer) {
  Witness witness = with_sentinels_and_two_replicas();
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_silent("b", at(20));
  witness.sentinels_said(calm({}, 0), at(30));
  EXPECT_EQ(witness.proof(WitnessMode::kNone).at, std::nullopt);
}

TEST(Witness, ALoneMasterWithoutSentinelsIsPerServer) {
  Witness witness{false};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  const auto proof = witness.proof(WitnessMode::kNone);
  EXPECT_EQ(proof.at, TimePoint::max()) << "there is nobody else";
  EXPECT_EQ(proof.mode, WitnessMode::kNone);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_EQ(witness.proof(WitnessMode::kSentinels).at, std::nullopt);
  EXPECT_TRUE(witness.candidates().empty());
  EXPECT_FALSE(witness.needs_sentinels());
}

TEST(Witness, ALoneMasterWithSentinelsRestsOnThem) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X"), at(0));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  witness.sentinels_said(calm({}), at(20));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(20));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
  EXPECT_TRUE(witness.needs_sentinels()) << "again and again";
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  witness.sentinels_said(alarmed({}), at(30));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
}

TEST(Witness, AnAnswerFromSomebodyUnknownIsIgnored) {
  Witness witness = with_two_replicas(false);
  witness.candidate_said("a", replica_of("X"), at(10));
  witness.candidate_said("b", replica_of("X"), at(10));
  witness.candidate_said("stranger", promoted("X", "Y"), at(20));
  witness.candidate_silent("stranger", at(20));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(10));
}

}  // namespace
}  // namespace tiercel::coherence
