// Whom the witness asks: whom it forgets, and how many it can hold.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
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

TEST(WitnessForgets, OneThatTheSentinelsNoLongerList) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  witness.candidate_silent("b", at(100));
  witness.sentinels_said(calm({"a", "b"}), at(200));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"})) << "they still list it";
  witness.sentinels_said(calm({"a"}, 1), at(300));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"})) << "one Sentinel is no majority";
  witness.sentinels_said(calm({"a"}, 2), at(400));
  EXPECT_EQ(witness.candidates(), (Addresses{"a"}));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(100));
}

TEST(WitnessForgets, NobodyWhomTheMasterLists) {
  Witness witness = healthy(true);
  witness.candidate_silent("b", at(100));
  witness.sentinels_said(calm({"a"}), at(200));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
}

TEST(WitnessForgets, NobodyWhoAnswers) {
  Witness witness = healthy(true);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.sentinels_said(calm({"a"}), at(200));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"})) << "b's last answer is a good one";
  witness.sentinels_said(calm({"a"}), at(400));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
}

TEST(WitnessForgets, NobodyByTheWordOfSentinelsWhoWereAskedBeforeTheMasterLetGoOfIt) {
  Witness witness = healthy(true);
  witness.sentinels_said(calm({"a"}), at(100));  // They have not heard of b yet.
  witness.candidate_silent("b", at(200));
  witness.master_said(master_of("X", {"a"}), at(300));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"})) << "they may have promoted it since";
  witness.sentinels_said(calm({"a"}), at(250));  // Asked before the master's answer had come.
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"}));
  witness.sentinels_said(calm({"a"}), at(300));
  EXPECT_EQ(witness.candidates(), (Addresses{"a"}));
}

TEST(WitnessForgets, AnotherMasterThatNoSentinelKnows) {
  // A replica was taken out of service and made a master of its own (a copy of the data), and the
  // Sentinels were told so by SENTINEL RESET.
  for (const auto& other : {promoted("X", "Y"), master_of("own-1")}) {
    Witness witness = healthy(true);
    witness.master_said(master_of("X", {"a"}), at(100));
    witness.candidate_said("a", replica_of("X"), at(100));
    witness.candidate_said("b", other, at(100));
    witness.sentinels_said(calm({"a", "b"}), at(200));
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
    witness.sentinels_said(alarmed({"a"}), at(300));
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
    witness.sentinels_said(calm({"a"}, 1), at(300));
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed) << "no majority";
    witness.sentinels_said(calm({"a"}), at(400));
    EXPECT_EQ(witness.candidates(), (Addresses{"a"}));
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(100));
  }
}

TEST(WitnessForgets, NoOtherMasterThatAnswersWhereThereAreNoSentinels) {
  Witness witness = healthy(false);
  for (TimePoint now = at(0); now < at(0) + 2 * Witness::kForgetAfter; now += 1s) {
    witness.master_said(master_of("X", {"a"}), now);
    witness.candidate_said("b", promoted("X", "Y"), now);
    ASSERT_TRUE(witness.proof(kAnyMode).is_deposed);
  }
}

TEST(WitnessForgets, OneThatWasGivenOtherWorkOnceNobodyListsIt) {
  for (const bool has_sentinels : {true, false}) {
    Witness witness = healthy(has_sentinels);
    TimePoint now = at(0);
    bool was_there = true;
    for (; was_there && now < at(0) + 2 * Witness::kForgetAfter; now += 1s) {
      witness.master_said(master_of("X", {"a"}), now);
      witness.candidate_said("a", replica_of("X"), now);
      witness.candidate_said("b", replica_of("other"), now);
      EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at.has_value(),
                witness.candidates().size() == 1);
      if (has_sentinels) witness.sentinels_said(calm({"a"}), now);
      was_there = witness.candidates().size() == 2;
    }
    EXPECT_FALSE(was_there) << "it would cost the lease, or its best witness, for ever";
    EXPECT_GE(now, has_sentinels ? at(0) : at(0) + Witness::kForgetAfter);
    EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, now - 1s);
  }
}

TEST(WitnessForgets, NobodyByTheWordOfSentinelsThatNameAnotherMaster) {
  // Their list is that of the other master, who is not in it: he is who must not be forgotten.
  Witness witness = healthy(true);
  witness.master_said(master_of("X"), at(100));
  witness.candidate_said("a", promoted("X", "Y"), at(100));
  witness.candidate_silent("a", at(200));
  witness.sentinels_said(alarmed({"b", "m"}), at(300));
  EXPECT_EQ(witness.candidates(), (Addresses{"a", "b", "m"}));
  EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
}

TEST(WitnessForgets, WithoutSentinelsOnlyAfterAWhile) {
  Witness witness = healthy(false);
  witness.master_said(master_of("X", {"a"}), at(100));
  witness.candidate_said("a", replica_of("X"), at(100));
  TimePoint now = at(100);
  const TimePoint gone = now;
  for (; now < gone + Witness::kForgetAfter; now += 500ms) {
    witness.candidate_silent("b", now);
    witness.master_said(master_of("X", {"a"}), now);
    ASSERT_EQ(witness.candidates(), (Addresses{"a", "b"})) << (now - gone) / 1ms << " ms";
  }
  now = gone + Witness::kForgetAfter + 1s;
  witness.candidate_silent("b", now);
  witness.master_said(master_of("X", {"a"}), now);
  EXPECT_EQ(witness.candidates(), (Addresses{"a"}));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(100));
}

TEST(WitnessForgets, TheWaitBeginsAnewWithEachSignOfLife) {
  for (const bool answers : {false, true}) {
    Witness witness = healthy(false);
    witness.master_said(master_of("X", {"a"}), at(0));
    witness.candidate_silent("b", at(0));
    TimePoint now = at(0) + Witness::kForgetAfter - 1s;
    witness.candidate_silent("b", now);
    if (answers) {
      witness.candidate_said("b", replica_of("X"), now);
    } else {
      witness.master_said(master_of("X", {"a", "b"}), now);
    }
    now += 2s;
    if (!answers) witness.master_said(master_of("X", {"a"}), now);
    witness.candidate_silent("b", now);
    witness.master_said(master_of("X", {"a"}), now);
    EXPECT_EQ(witness.candidates(), (Addresses{"a", "b"})) << answers;
    now += Witness::kForgetAfter + 1s;
    witness.candidate_silent("b", now);
    witness.master_said(master_of("X", {"a"}), now);
    EXPECT_EQ(witness.candidates(), (Addresses{"a"})) << answers;
  }
}

TEST(WitnessForgets, ADeposerOnlyByTheSentinels) {
  // Silence is no all-clear.
  Witness witness = healthy(false);
  witness.master_said(master_of("X", {"a"}), at(0));
  witness.candidate_said("b", promoted("X", "Y"), at(0));
  for (TimePoint now = at(0); now < at(0) + Witness::kForgetAfter - 1s; now += 1s) {
    witness.candidate_silent("b", now);
    witness.master_said(master_of("X", {"a"}), now);
    EXPECT_TRUE(witness.proof(kAnyMode).is_deposed);
  }
}

TEST(WitnessBounds, TooManyCandidatesCountAsOneThatCannotBeReached) {
  Witness witness{false};
  witness.follow("X");
  Addresses all;
  for (std::size_t i = 0; i < Witness::kCandidatesMax; ++i) {
    all.push_back("r" + std::to_string(1000 + i));
  }
  witness.master_said(master_of("X", all), at(0));
  for (const auto& address : all) witness.candidate_said(address, replica_of("X"), at(0));
  EXPECT_EQ(witness.candidates(), all);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0)) << "as many as that are fine";
  Addresses more = all;
  more.push_back("one-more");
  witness.master_said(master_of("X", more), at(10));
  EXPECT_EQ(witness.candidates().size(), Witness::kCandidatesMax);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  EXPECT_NE(witness.proof(WitnessMode::kReplicas).why_not, "");
  EXPECT_EQ(witness.proof(kAnyMode).at, at(0)) << "per server";
}

TEST(WitnessBounds, TheOneThatFoundNoRoomIsNotTakenForAskedWhenAnotherIsForgotten) {
  Witness witness{false};
  witness.follow("X");
  Addresses all;
  for (std::size_t i = 0; i < Witness::kCandidatesMax; ++i) {
    all.push_back("r" + std::to_string(1000 + i));
  }
  witness.master_said(master_of("X", all), at(0));
  for (const auto& address : all) witness.candidate_said(address, replica_of("X"), at(0));
  Addresses next{all.begin() + 1, all.end()};
  witness.master_said(master_of("X", next), at(0));
  witness.candidate_silent(all.front(), at(0));  // Gone from here on.
  next.push_back("new");
  witness.master_said(master_of("X", next), at(0) + Witness::kForgetAfter);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  witness.master_said(master_of("X", next), at(0) + Witness::kForgetAfter + 1s);
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "not heard yet";
  witness.candidate_said("new", replica_of("X"), at(5));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0));
}

TEST(WitnessBounds, TheSentinelsListIsCutUntilTheyGiveAShorterOne) {
  Witness witness{true};
  witness.follow("X");
  witness.master_said(master_of("X", {"a"}), at(0));
  Addresses all{"a"};
  for (std::size_t i = 0; i < Witness::kCandidatesMax; ++i) all.push_back("r" + std::to_string(i));
  witness.sentinels_said(calm(all), at(0));
  for (const auto& address : witness.candidates()) {
    witness.candidate_said(address, replica_of("X"), at(0));
  }
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt);
  witness.sentinels_said(calm({"a"}, 1), at(10));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, std::nullopt) << "no majority says so";
  witness.sentinels_said(calm({"a"}), at(20));
  EXPECT_EQ(witness.proof(WitnessMode::kReplicas).at, at(0));
}

TEST(WitnessBounds, WithSentinelsAllOfThemMustVouchForTheOverflow) {
  Witness witness{true};
  witness.follow("X");
  Addresses all;
  for (std::size_t i = 0; i <= Witness::kCandidatesMax; ++i) {
    all.push_back("r" + std::to_string(1000 + i));
  }
  witness.master_said(master_of("X", all), at(0));
  for (const auto& address : witness.candidates()) {
    witness.candidate_said(address, replica_of("X"), at(0));
  }
  witness.sentinels_said(calm(all, 2), at(0));
  EXPECT_EQ(witness.proof(kAnyMode).at, std::nullopt);
  EXPECT_TRUE(witness.needs_sentinels());
  witness.sentinels_said(calm(all), at(5));
  EXPECT_EQ(witness.proof(kAnyMode).at, at(0));
  EXPECT_EQ(witness.proof(kAnyMode).mode, WitnessMode::kSentinels);
}

}  // namespace
}  // namespace tiercel::coherence
