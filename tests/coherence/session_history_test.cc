// How a new epoch joins the history: what of L1 outlives it.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

// `count` changes after version 10 of the keys "w11", "w12", …
void write_unseen(Driver& driver, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    const Version version = driver.world.history.back().version + 1;
    driver.world.history.push_back(change_of({"w" + std::to_string(version)}, version));
  }
}

TEST(SessionHistory, TheFirstEpochBeginsColdAndAsksWhereItStands) {
  Driver driver;
  driver.data_up();
  const Actions actions = driver.stream_up();
  EXPECT_EQ(deeds(actions), (Kinds{Kind::kBarFills, Kind::kDropAll}));
  const Action& question = first(actions, Kind::kAskHistory);
  EXPECT_EQ(question.version, kVersionUnknown);
  EXPECT_EQ(question.count, 1U);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.settle();
  EXPECT_TRUE(driver.session.fills_allowed());
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
}

TEST(SessionHistory, AColdEpochGoesOnFromTheNewestEntry) {
  Driver driver;
  driver.world.history = {change_of({"old"}, 9), change_of({"k"}, 10)};
  driver.connect();
  EXPECT_EQ(deeds(driver.settle()), Kinds{}) << "that entry is not news";
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), 10U);
}

TEST(SessionHistory, AnEmptyHistoryIsNothingToGoOnFrom) {
  Driver driver;
  driver.connect_and_lease();
  driver.stream_down();
  EXPECT_EQ(deeds(driver.stream_up()), (Kinds{Kind::kBarFills, Kind::kDropAll}));
}

TEST(SessionHistory, AReconnectionKeepsL1AndAppliesWhatWasMissed) {
  Driver driver = at_ten();
  write_unseen(driver, 2);
  driver.stream_down();
  const Actions actions = driver.stream_up();
  EXPECT_EQ(deeds(actions), Kinds{Kind::kBarFills});
  const Action& question = first(actions, Kind::kAskHistory);
  EXPECT_EQ(question.version, 10U);
  EXPECT_EQ(question.count, Session::kHistoryPage);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_FALSE(driver.session.fills_allowed());
  EXPECT_EQ(evicted(driver.settle()), (Keys{"w11@11", "w12@12"}));
  EXPECT_TRUE(driver.session.fills_allowed());
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs(), 2U);
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), 12U) << "what is applied is applied";
}

TEST(SessionHistory, AFailoverThatLostNothingKeepsL1) {
  Driver driver = at_ten();
  write_unseen(driver, 1);
  driver.world.master = promoted("X", "Y");
  const Actions actions = driver.reconnect(kOther);
  EXPECT_FALSE(has(actions, Kind::kDropAll));
  EXPECT_EQ(evicted(driver.settle()), Keys{"w11@11"});
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
}

TEST(SessionHistory, EveryKindOfChangeIsCaughtUp) {
  Driver driver = at_ten();
  auto& history = driver.world.history;
  history.push_back(change_of({"t"}, 11));
  history.back().kind = ChangeKind::kTags;
  history.push_back(change_of({}, 12));
  history.back().kind = ChangeKind::kNone;
  history.push_back(change_of({"r"}, 13));
  history.back().value = "value";
  history.push_back(change_of({}, 14));
  history.back().kind = ChangeKind::kClear;
  history.push_back(change_of({}, 15));
  history.back().kind = ChangeKind::kAll;
  driver.reconnect();
  EXPECT_EQ(deeds(driver.settle()),
            (Kinds{Kind::kTag, Kind::kRefresh, Kind::kClear, Kind::kDropAll}));
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), 15U);
}

void expect_cold(Driver& driver) {
  const Actions actions = driver.settle();
  EXPECT_EQ(deeds(actions), Kinds{Kind::kDropAll});
  EXPECT_NE(first(actions, Kind::kDropAll).reason, "");
  EXPECT_EQ(first(actions, Kind::kAskHistory).version, kVersionUnknown) << "where it stands";
  EXPECT_EQ(first(actions, Kind::kAskHistory).count, 1U);
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
}

TEST(SessionHistory, AnEntryThatIsGoneDropsL1) {
  Driver driver = at_ten();
  driver.world.history = {change_of({"x"}, 11), change_of({"y"}, 12)};  // Trimmed.
  driver.reconnect();
  expect_cold(driver);
}

TEST(SessionHistory, AHistoryThatIsGoneDropsL1) {
  Driver driver = at_ten();
  driver.world.history.clear();
  driver.reconnect();
  expect_cold(driver);
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), kVersionUnknown);
}

TEST(SessionHistory, AnotherEntryUnderTheSameIdIsOfAnotherBranch) {
  for (const bool other_origin : {true, false}) {
    Driver driver = at_ten();
    Change& entry = driver.world.history.back();
    ++(other_origin ? entry.origin : entry.nonce);
    driver.reconnect();
    expect_cold(driver);
    driver.confirm();
    driver.reconnect();
    EXPECT_EQ(driver.asked_from(), 10U) << "and it goes on from there";
    driver.settle();
    EXPECT_EQ(driver.session.epochs_warm(), 1U);
  }
}

TEST(SessionHistory, OfAnOtherBranchNothingIsAppliedByItsVersion) {
  Driver driver = at_ten();
  driver.world.history = {change_of({"x"}, 10), change_of({"k"}, 11)};
  driver.world.history.front().nonce = 99;
  driver.reconnect();
  EXPECT_TRUE(evicted(driver.settle()).empty()) << "L1 is empty";
}

TEST(SessionHistory, IsReadPageByPage) {
  Driver driver = at_ten();
  write_unseen(driver, 2 * Session::kHistoryPage);
  driver.reconnect();
  Keys all;
  int pages = 0;
  while (driver.open(Kind::kAskHistory)) {
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
    EXPECT_FALSE(driver.session.fills_allowed());
    driver.world.mute = {Kind::kSendPing, Kind::kAskMaster};
    const Version from = driver.asked_from();
    EXPECT_EQ(from, 10 + all.size());
    HistoryPage page;
    for (const Change& entry : driver.world.history) {
      if (entry.version < from || page.entries.size() == Session::kHistoryPage) continue;
      page.entries.push_back(entry);
    }
    ASSERT_FALSE(page.entries.empty());
    page.is_last = page.entries.back().version == driver.world.history.back().version;
    for (const auto& key : evicted(driver.history_said(page))) all.push_back(key);
    ASSERT_LE(++pages, 5);
  }
  EXPECT_EQ(pages, 3);
  EXPECT_EQ(all.size(), 2 * Session::kHistoryPage);
  EXPECT_EQ(all.front(), "w11@11");
  EXPECT_EQ(driver.session.epochs_warm(), 1U) << "counted once";
  EXPECT_TRUE(driver.session.fills_allowed());
}

TEST(SessionHistory, ThatIsTrimmedWhileItIsReadDropsL1) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.history_said({.entries = {change_of({"k"}, 10), change_of({"a"}, 11)}, .is_last = false});
  driver.world.history = {change_of({"z"}, 900)};
  expect_cold(driver);
}

TEST(SessionHistory, ALossInTheMidstBeginsAgainWithWhatWasConfirmed) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.history_said({.entries = {change_of({"k"}, 10), change_of({"a"}, 11)}, .is_last = false});
  driver.stream_down();
  const Actions actions = driver.stream_up();
  EXPECT_EQ(first(actions, Kind::kAskHistory).version, 10U);
  EXPECT_EQ(deeds(actions), Kinds{Kind::kBarFills});
}

TEST(SessionHistory, IsAskedAgainWhenTheDataConnectionWasLost) {
  Driver driver = at_ten();
  driver.reconnect();
  const std::uint64_t old = driver.open(Kind::kAskHistory)->action.token;
  driver.data_down();
  driver.data_up();
  EXPECT_EQ(driver.asked_from(), 10U);
  EXPECT_TRUE(driver.history_said(old, {}).empty()) << "the answer of the lost one";
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
}

TEST(SessionHistory, ASilenceOfAnEarlierEpochPutsNothingOff) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.history_silent();
  driver.stream_down();
  EXPECT_TRUE(has(driver.stream_up(), Kind::kAskHistory));
}

TEST(SessionHistory, IsNotAskedOfADataConnectionThatWasLostInTheMidst) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.data_down();
  driver.history_silent();
  EXPECT_FALSE(has(driver.run_for(1s), Kind::kAskHistory));
  EXPECT_TRUE(has(driver.data_up(), Kind::kAskHistory));
}

TEST(SessionHistory, AnAnswerOfAnEarlierEpochIsNone) {
  Driver driver = at_ten();
  driver.reconnect();
  const std::uint64_t old = driver.open(Kind::kAskHistory)->action.token;
  driver.reconnect();
  EXPECT_TRUE(driver.history_said(old, {}).empty());
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
}

TEST(SessionHistory, AnAnswerAfterTheStreamWasGivenUpJoinsNothing) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.data_said(replica_of("Y"));
  EXPECT_TRUE(driver.settle().empty());
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
  EXPECT_FALSE(driver.session.fills_allowed());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionHistory, IsAskedWhenTheDataConnectionComes) {
  Driver driver = at_ten();
  driver.data_down();
  driver.stream_down();
  driver.now += 1s;
  EXPECT_FALSE(has(driver.stream_up(), Kind::kAskHistory));
  driver.run_for(1s);
  const Actions actions = driver.data_up();
  EXPECT_TRUE(has(actions, Kind::kAskHistory));
  EXPECT_TRUE(has(actions, Kind::kAskMaster)) << "what it said in the last epoch is of then";
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 1U);
  EXPECT_FALSE(has(driver.run_for(1s), Kind::kAskHistory)) << "once it has joined, never again";
}

TEST(SessionHistory, LiveMessagesWhileJoiningEvictHard) {
  // Whether their versions compare with those in L1 is not known yet.
  Driver driver = at_ten();
  driver.reconnect();
  Change change = change_of({"a"}, 5);
  change.value = "new";
  EXPECT_EQ(evicted(driver.write(change)), Keys{"a!"});
  EXPECT_EQ(evicted(driver.write(change_of({"b", "c"}, 12))), (Keys{"b!", "c!"}));
  Change tags = change_of({"t"}, 13);
  tags.kind = ChangeKind::kTags;
  EXPECT_EQ(kinds(driver.write(tags)), Kinds{Kind::kTag});
  EXPECT_EQ(kinds(driver.write({.kind = ChangeKind::kClear, .version = 14})), Kinds{Kind::kClear});
  EXPECT_EQ(kinds(driver.write({.kind = ChangeKind::kAll, .version = 15})), Kinds{Kind::kDropAll});
}

TEST(SessionHistory, LiveMessagesThatThePageDoesNotHoldAreNotMissed) {
  // The page was made before the message, and arrives after it.
  Driver driver = at_ten();
  driver.reconnect();
  driver.message(change_of({"a"}, 12));
  driver.history_said({.entries = {change_of({"k"}, 10), change_of({"b"}, 11)}});
  EXPECT_EQ(evicted(driver.message(change_of({"c"}, 13))), Keys{"c@13"});
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), 13U);
}

TEST(SessionHistory, AFillIsAheadOnlyOfWhatTheStreamHasReached) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.message(change_of({"a"}, 12));
  driver.history_said({.entries = {change_of({"k"}, 10)}});
  driver.session.note_fill("a", 12);
  driver.world.history = {change_of({"k"}, 10), change_of({"a"}, 12)};
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{}) << "12 came while it was joining";
}

TEST(SessionHistory, WhatThePageHeldAlreadyIsNoReset) {
  // Published after SUBSCRIBE and before the page was made; the page was quicker.
  for (const bool is_cold : {false, true}) {
    Driver driver = at_ten();
    if (is_cold) driver.world.history.front().nonce = 99;
    driver.reconnect();
    write_unseen(driver, 3);
    const auto told = driver.world.history;
    driver.world.mute = {Kind::kSendPing};
    driver.settle();
    ASSERT_TRUE(driver.session.fills_allowed());
    driver.pong();  // Its ping was sent before the page came: it does not follow the overlap.
    for (std::size_t i = 1; i < told.size(); ++i) {
      const Actions actions = driver.message(told[i]);
      EXPECT_EQ(kinds(actions), Kinds{Kind::kEvict}) << "it was heard twice, no more";
    }
    EXPECT_EQ(evicted(driver.write(change_of({"next"}, 14))), Keys{"next@14"});
    driver.confirm();
    driver.reconnect();
    EXPECT_EQ(driver.asked_from(), 14U);
  }
}

TEST(SessionHistory, AResetAfterTheOverlapIsSeen) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.settle();
  driver.run_for(kRound);  // A ping that was sent after the page had come is answered.
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 9))), Kinds{Kind::kDropAll});
}

TEST(SessionHistory, AResetWithinTheOverlapIsSeenByWhatTheStreamItselfSaid) {
  Driver driver = at_ten();
  driver.reconnect();
  write_unseen(driver, 3);
  driver.world.mute = {Kind::kSendPing};
  driver.settle();
  driver.message(change_of({"w12"}, 12));
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 11))), Kinds{Kind::kDropAll});
}

TEST(SessionHistory, AResetWhileItIsJoinedStartsCold) {
  Driver driver = at_ten();
  driver.reconnect();
  driver.message(change_of({"a"}, 12));
  const std::uint64_t old = driver.open(Kind::kAskHistory)->action.token;
  driver.forget(Kind::kAskHistory);
  const Actions actions = driver.message(change_of({"b"}, 11));
  EXPECT_EQ(deeds(actions), (Kinds{Kind::kDropAll, Kind::kEvict}));
  EXPECT_EQ(first(actions, Kind::kAskHistory).version, kVersionUnknown);
  EXPECT_TRUE(driver.history_said(old, {.entries = {change_of({"k"}, 10)}}).empty());
  driver.world.history = {change_of({"b"}, 11)};
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
  EXPECT_EQ(evicted(driver.message(change_of({"c"}, 12))), Keys{"c@12"});
}

TEST(SessionHistory, TagsOfTheOverlapReachAllThatWasJoined) {
  // Were it a reset after all, their version would say nothing about that of L1's entries.
  Driver driver = at_ten();
  driver.reconnect();
  write_unseen(driver, 3);
  driver.world.mute = {Kind::kSendPing};
  driver.settle();
  Change tags = change_of({"t"}, 11);
  tags.kind = ChangeKind::kTags;
  EXPECT_EQ(first(driver.message(tags), Kind::kTag).version, 13U);
}

// --- keys ahead of the stream

TEST(SessionAhead, WhatTheStreamHasReachedOutlivesTheEpoch) {
  Driver driver = at_ten();
  driver.session.note_fill("own", 11);
  driver.write(change_of({"own"}, 11));
  driver.session.note_fill("k", 11);
  driver.session.note_fill("older", 4);
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{});
}

TEST(SessionAhead, WhatItHasNotReachedDoesNot) {
  Driver driver = at_ten();
  driver.session.note_fill("own", 11);  // Acknowledged, and its message lost with the server.
  driver.session.note_fill("foreign", kVersionUnknown);
  driver.world.history.push_back(change_of({"other"}, 11));
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), (Keys{"own!", "foreign!", "other@11"}))
      << "before anything that follows is applied";
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{}) << "it was confirmed right after the history";
}

TEST(SessionAhead, AreForgottenWithL1) {
  Driver driver = at_ten();
  driver.session.note_fill("own", 11);
  driver.write({.kind = ChangeKind::kAll, .version = 12});
  driver.session.note_fill("own", 13);
  driver.write({.kind = ChangeKind::kClear, .version = 13});
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{});
}

TEST(SessionAhead, TooManyOfThemDropL1) {
  Driver driver = at_ten();
  for (std::size_t i = 0; i <= AheadKeys::kKeysMax; ++i) {
    driver.session.note_fill("k" + std::to_string(i), 11 + i);
  }
  driver.stream_down();
  const Actions actions = driver.stream_up();
  EXPECT_EQ(deeds(actions), (Kinds{Kind::kBarFills, Kind::kDropAll}));
  EXPECT_EQ(first(actions, Kind::kAskHistory).version, kVersionUnknown);
  driver.settle();
  driver.write(change_of({"k"}, 100'000));
  driver.confirm();
  driver.reconnect();
  driver.settle();
  EXPECT_EQ(driver.session.epochs_warm(), 1U) << "and then all is well again";
}

TEST(SessionProvenAt, OutlivesALapseAndAWarmReconnection) {
  Driver driver = at_ten();
  const TimePoint proven = driver.session.proven_at();
  driver.now += 1s;
  driver.reconnect();
  EXPECT_EQ(driver.session.proven_at(), proven);
}

TEST(SessionProvenAt, IsNotOfAnL1ThatWasDropped) {
  Driver driver = at_ten();
  driver.world.history = {change_of({"x"}, 11)};
  driver.reconnect();
  driver.world.mute = {Kind::kSendPing};
  driver.settle();
  ASSERT_TRUE(driver.session.fills_allowed());
  EXPECT_EQ(driver.session.proven_at(), TimePoint{})
      << "what is filled from this server has not been vouched for";
}

}  // namespace
}  // namespace tiercel::coherence
