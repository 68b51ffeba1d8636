// What of this stream is of this branch for certain: up to the position at which the master was
// last asked, and answered as master of it. A server that is turned into a replica closes no
// connection; what it says from then on is its new master's.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/base/random.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

// Where the next epoch would begin; unknown: cold.
Version confirmed(Driver& driver) {
  driver.reconnect();
  return driver.asked_from();
}

// S's server was given another master behind our back, and what came last is the other's.
TEST(SessionConfirmed, WhatAServerSaidThatHadGoneOverIsNotTakenForOurs) {
  for (const bool is_pushed : {false, true}) {
    Driver driver = at_ten();
    Change lost = change_of({"lost"}, 11);
    if (is_pushed) {
      lost.value = "its value";
    } else {
      driver.session.note_fill("lost", 11);
    }
    driver.message(lost);  // Of X, on this server alone.
    // REPLICAOF; it has caught up, and publishes what its new master does.
    driver.message(change_of({"other"}, 12));
    driver.world.history = {change_of({"k"}, 10), change_of({"other"}, 12)};
    driver.tick_when_due();
    ASSERT_EQ(kinds(driver.data_said(replica_of("Y"))), Kinds{Kind::kLeaveMaster});
    driver.world.master = promoted("X", "Y");
    driver.data_down();
    driver.reconnect(kOther);
    EXPECT_EQ(driver.asked_from(), 10U);
    EXPECT_EQ(evicted(driver.settle()), (Keys{"lost!", "other@12"}));
    EXPECT_TRUE(driver.leased());
    EXPECT_EQ(driver.session.epochs_warm(), 1U);
  }
}

// The same, and then a third one takes our place, who has nothing of what that server said last.
TEST(SessionConfirmed, WhatAServerSaidThatHadGoneOverDoesNotMakeTheNextEpochCold) {
  Driver driver = at_ten();
  driver.message(change_of({"other"}, 12));
  driver.tick_when_due();
  driver.data_said(replica_of("Y"));
  driver.world.master = promoted("X", "Z");
  driver.world.history = {change_of({"k"}, 10), change_of({"missed"}, 11)};
  driver.data_down();
  Server third = kOther;
  third.replication_id = "Z";
  driver.reconnect(third);
  EXPECT_EQ(evicted(driver.settle()), Keys{"missed@11"});
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
}

TEST(SessionConfirmed, IsWhatWasAppliedWhenTheQuestionWasSent) {
  Driver driver = at_ten();
  driver.message(change_of({"a"}, 11));
  driver.tick_when_due();
  driver.message(change_of({"b"}, 12));
  driver.session.note_fill("a", 11);
  driver.session.note_fill("b", 12);
  driver.data_said(driver.world.master);
  driver.world.history = {change_of({"k"}, 10), change_of({"a"}, 11), change_of({"b"}, 12)};
  EXPECT_EQ(confirmed(driver), 11U) << "the rest came after the question";
  EXPECT_EQ(evicted(driver.settle()), (Keys{"a!", "b!", "b@12"}))
      << "a's value came after the question, too: who knows from where";
}

TEST(SessionConfirmed, NothingIsWithoutTheMastersWord) {
  enum class Answer : std::uint8_t { kNone, kSilent, kReplica, kOtherBranch };
  for (const Answer answer :
       {Answer::kNone, Answer::kSilent, Answer::kReplica, Answer::kOtherBranch}) {
    Driver driver = at_ten();
    driver.message(change_of({"a"}, 11));
    driver.tick_when_due();
    if (answer == Answer::kSilent) driver.data_silent();
    if (answer == Answer::kReplica) driver.data_said(replica_of("X"));
    if (answer == Answer::kOtherBranch) driver.data_said(promoted("X", "X2"));
    EXPECT_EQ(confirmed(driver), 10U) << static_cast<int>(answer);
  }
}

TEST(SessionConfirmed, NothingIsByAQuestionFromBeforeItHadJoined) {
  // In the midst of the history, too: what that says is confirmed with what follows it.
  Driver driver = at_ten();
  driver.world.mute = {Kind::kAskMaster};
  driver.reconnect();
  driver.history_said({.entries = {change_of({"k"}, 10), change_of({"a"}, 11)}, .is_last = false});
  driver.data_silent();
  driver.tick_when_due();  // Asked between two pages.
  driver.history_said({.entries = {change_of({"a"}, 11), change_of({"b"}, 12)}});
  ASSERT_TRUE(driver.session.fills_allowed());
  driver.session.note_fill("b", 12);
  driver.data_said(driver.world.master);
  driver.world.history = {change_of({"k"}, 10), change_of({"a"}, 11), change_of({"b"}, 12)};
  EXPECT_EQ(confirmed(driver), 10U);
  EXPECT_EQ(evicted(driver.settle()), (Keys{"b!", "a@11", "b@12"}));
  driver.world.mute = {};
  driver.confirm();
  EXPECT_EQ(confirmed(driver), 12U) << "the next one does";
}

TEST(SessionConfirmed, AColdEpochIsByTheQuestionThatFollowsItsHistory) {
  Driver driver;
  driver.world.history = {change_of({"k"}, 10)};
  driver.connect();
  driver.pong();
  driver.history_said({.entries = {change_of({"k"}, 10)}});
  driver.data_said(driver.world.master);  // Asked before the history.
  EXPECT_FALSE(driver.leased());
  ASSERT_TRUE(driver.open(Kind::kAskMaster).has_value()) << "asked again at once";
  driver.data_said(driver.world.master);
  EXPECT_TRUE(driver.leased()) << driver.session.why_no_lease();
  EXPECT_EQ(confirmed(driver), 10U);
}

TEST(SessionConfirmed, ALateAnswerConfirmsWhatItsQuestionCanAndTheNextTheRest) {
  Driver driver = at_ten();
  driver.world.mute = {Kind::kAskMaster};
  driver.tick_when_due();
  driver.message(change_of({"a"}, 11));
  driver.run_for(3 * kRound);
  const std::uint64_t late = driver.open(Kind::kAskMaster)->action.token;
  EXPECT_TRUE(has(driver.data_said(driver.world.master), Kind::kAskMaster)) << "at once";
  driver.message(change_of({"b"}, 12));
  driver.data_said(driver.world.master);
  EXPECT_TRUE(driver.data_said(late, driver.world.master).empty()) << "it is not taken back";
  EXPECT_EQ(confirmed(driver), 11U);
}

TEST(SessionConfirmed, AQuestionOnALostDataConnectionConfirmsNothing) {
  Driver driver = at_ten();
  driver.message(change_of({"a"}, 11));
  driver.tick_when_due();
  const std::uint64_t old = driver.open(Kind::kAskMaster)->action.token;
  driver.data_down();
  driver.data_up();
  driver.data_said(old, driver.world.master);
  EXPECT_EQ(confirmed(driver), 10U);
}

TEST(SessionConfirmed, AResetTakesItBackAndWhatIsAskedAlready) {
  for (const bool is_answered : {false, true}) {
    Driver driver = at_ten();
    driver.tick_when_due();
    ASSERT_TRUE(driver.open(Kind::kAskMaster));
    driver.message(change_of({"a"}, 5));  // A FLUSHALL before it.
    driver.session.note_fill("a", 5);
    if (is_answered) driver.data_said(driver.world.master);
    EXPECT_EQ(confirmed(driver), kVersionUnknown) << "10 was of what there is no more";
  }
  Driver driver = at_ten();
  driver.message(change_of({"a"}, 5));
  driver.session.note_fill("a", 5);
  driver.world.history = {change_of({"a"}, 5)};
  driver.confirm();
  EXPECT_EQ(confirmed(driver), 5U);
  EXPECT_EQ(evicted(driver.settle()), Keys{});
}

TEST(SessionConfirmed, AnEpochThatBecameColdTakesItBack) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.history_said({});  // L1 is dropped; where the history stands is asked.
  ASSERT_EQ(driver.asked_from(), kVersionUnknown);
  driver.reconnect();  // And not answered.
  EXPECT_EQ(driver.asked_from(), kVersionUnknown);
  driver.world.history = {change_of({"k"}, 10), change_of({"a"}, 11)};
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
}

TEST(SessionConfirmed, KeysAheadAreThoseBeyondIt) {
  Driver driver = at_ten();
  driver.message(change_of({"a"}, 11));
  driver.session.note_fill("k", 10);
  driver.session.note_fill("a", 11);
  driver.world.history = {change_of({"k"}, 10), change_of({"a"}, 11)};
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), (Keys{"k!", "a!", "a@11"}))
      << "that 11 is ours nobody has said, nor that the server was our master when k was read";
  driver.session.note_fill("a", 11);
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{});
}

TEST(SessionConfirmed, AnOverflowOfTheKeysAheadPassesWithIt) {
  Driver driver = at_ten();
  for (std::size_t i = 0; i <= AheadKeys::kKeysMax; ++i) {
    driver.session.note_fill("k" + std::to_string(i), 11);
  }
  driver.write(change_of({"k0"}, 11));
  driver.confirm();
  driver.stream_down();
  EXPECT_EQ(deeds(driver.stream_up()), Kinds{Kind::kBarFills});
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
}

// Against a model: the position when the question that was answered was sent. On one branch it
// never goes back.
TEST(SessionConfirmed, OnlyRises) {
  constexpr std::uint64_t kSeed = 20240612;
  SCOPED_TRACE("seed " + std::to_string(kSeed));
  Random random{kSeed};
  Driver driver = at_ten();
  driver.world.mute = {Kind::kSendPing, Kind::kAskMaster};
  Version asked_at = 10;  // Of the open question.
  Version expected = 10;
  Version last = 10;
  int rises = 0;
  const auto note_question = [&](const Actions& actions) {
    if (has(actions, Kind::kAskMaster)) asked_at = last;
  };
  for (int step = 0; step < 20000; ++step) {
    driver.now += 1ms * static_cast<int>(random.below(40));
    const std::uint64_t dice = random.below(100);
    if (dice < 40) {
      driver.write(change_of({"k"}, ++last));
    } else if (dice < 60) {
      note_question(driver.tick());
    } else if (dice < 80) {
      if (!driver.open(Kind::kAskMaster)) continue;
      rises += expected < asked_at ? 1 : 0;
      if (asked_at != kVersionUnknown) expected = asked_at;
      note_question(driver.data_said(driver.world.master));
    } else if (dice < 85) {
      if (driver.open(Kind::kAskMaster)) driver.data_silent();
    } else if (dice < 90) {
      driver.data_down();
      note_question(driver.data_up());
    } else {
      if (driver.open(Kind::kSendPing)) note_question(driver.pong());
    }
    if (dice < 97 && driver.session.next_tick()) continue;
    const Version version = confirmed(driver);
    ASSERT_EQ(version, expected) << "step " << step;
    asked_at = kVersionUnknown;  // It is asked before it has joined.
    driver.settle();
    ASSERT_TRUE(driver.session.fills_allowed());
  }
  EXPECT_GE(rises, 500);
}

}  // namespace
}  // namespace tiercel::coherence
