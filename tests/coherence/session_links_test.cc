// What a Session makes of its two links together.

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

TEST(SessionLinks, FillsNeedBothOnTheSameServer) {
  Driver driver;
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.stream_up();
  driver.settle();
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kOther);
  driver.settle();
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kServer);
  EXPECT_FALSE(driver.session.fills_allowed()) << "the history has not been joined";
  driver.settle();
  EXPECT_TRUE(driver.session.fills_allowed());
  Server elsewhere = kServer;
  elsewhere.name = "a-name-for-the-same:1";
  driver.data_up(elsewhere);
  EXPECT_TRUE(driver.session.fills_allowed()) << "an address is only a name";
  Server promoted = kServer;
  promoted.replication_id = "X9";
  driver.data_up(promoted);
  EXPECT_FALSE(driver.session.fills_allowed()) << "another branch of history";
  Server restarted = kServer;
  restarted.run_id = "run-nine";
  driver.data_up(restarted);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kServer);
  EXPECT_TRUE(driver.session.fills_allowed());
  driver.data_down();
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kServer);
  driver.stream_down();
  EXPECT_FALSE(driver.session.fills_allowed());
}

TEST(SessionLinks, NothingIsAskedOfADataConnectionOnAnotherServer) {
  Driver driver;
  driver.data_up(kOther);
  driver.stream_up();
  driver.run_for(1s);
  EXPECT_FALSE(driver.open(Kind::kAskMaster).has_value());
  EXPECT_FALSE(driver.open(Kind::kAskHistory).has_value());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  const Actions actions = driver.data_up(kServer);
  EXPECT_TRUE(has(actions, Kind::kAskMaster)) << "at once, not at the next round";
  EXPECT_TRUE(has(actions, Kind::kAskHistory));
  driver.settle();
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLinks, NobodyIsAskedWithoutAStream) {
  for (const bool is_redialling : {false, true}) {
    Driver driver{{.lease = kLease, .stream_timeout = kStreamTimeout, .has_sentinels = true}};
    driver.world.master = master_of("X", {"a"});
    driver.world.sentinels = calm({"a"});
    driver.world.candidates = {{"a", replica_of("X")}};
    driver.connect_and_lease();
    if (is_redialling) {
      driver.tick_when_due();
      driver.data_said(replica_of("X"));
      driver.now += kRound;
    } else {
      driver.now += kRound;
      driver.stream_down();
    }
    EXPECT_TRUE(driver.data_up().empty());
    EXPECT_TRUE(driver.tick().empty());
    EXPECT_FALSE(driver.session.fills_allowed());
  }
}

TEST(SessionLinks, NothingIsAskedOfADataConnectionThatIsDown) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_down();
  const Actions actions = driver.run_for(1s);
  EXPECT_FALSE(has(actions, Kind::kAskMaster));
  EXPECT_FALSE(driver.leased());
  EXPECT_EQ(deeds(actions), Kinds{});
  driver.reconnect();
  driver.run_for(1s);
  EXPECT_FALSE(driver.open(Kind::kAskHistory).has_value());
}

TEST(SessionLinks, TheLeaseRunsOutWhileTheDataConnectionIsDown) {
  Driver driver;
  driver.connect_and_lease();
  const TimePoint until = driver.session.lease_until();
  EXPECT_TRUE(driver.data_down().empty());
  EXPECT_TRUE(driver.leased()) << "what was proven stays proven";
  driver.run_for(kLease);
  // The ping was a millisecond older than the master's word.
  EXPECT_LE(driver.session.lease_until(), until + 1ms) << "S alone does not prove a master";
  EXPECT_FALSE(driver.leased());
  driver.data_up();
  driver.run_for(kRound);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLinks, AQuestionOnALostDataConnectionIsAskedAgainOnTheNext) {
  Driver driver;
  driver.connect();
  const std::uint64_t master = driver.open(Kind::kAskMaster)->action.token;
  const std::uint64_t history = driver.open(Kind::kAskHistory)->action.token;
  driver.data_down();
  driver.now += 10ms;
  const Actions actions = driver.data_up();
  EXPECT_TRUE(has(actions, Kind::kAskMaster));
  EXPECT_TRUE(has(actions, Kind::kAskHistory));
  EXPECT_TRUE(driver.data_said(master, master_of("X")).empty());
  EXPECT_TRUE(driver.history_said(history, {}).empty());
  EXPECT_FALSE(driver.session.fills_allowed()) << "those were of the lost one";
  driver.settle();
  EXPECT_EQ(driver.session.proven_at(), driver.now - 10ms) << "the ping was sent then";
}

TEST(SessionLinks, DisagreementEndsTheLeaseAtOnceAndGrantsNothing) {
  Driver driver;
  driver.connect_and_lease();
  driver.world.mute = {Kind::kSendPing};
  driver.tick_when_due();
  driver.settle();
  driver.data_up(kOther);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_NE(driver.session.why_no_lease(), "");
  driver.now += 1ms;
  driver.pong();
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionLinks, WhatTheOtherServerSaidIsNoProofForOurs) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  driver.now += 1ms;
  driver.data_up(kServer);
  driver.replay_waits(false);  // Makes it look at what it has.
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "its word is from before the doubt";
}

TEST(SessionLinks, DisagreementRedialsTheStreamAfterAWhile) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  EXPECT_EQ(deeds(driver.run_for(kStreamTimeout - kRound)), Kinds{});
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  const Actions actions = driver.run_for(2 * kRound);
  ASSERT_EQ(deeds(actions), Kinds{Kind::kRedialStream});
  EXPECT_NE(first(actions, Kind::kRedialStream).reason.find("another server"), std::string::npos);
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  driver.stream_down();
  driver.world.master = master_of("Y");
  driver.stream_up(kOther);
  driver.now += 1ms;
  driver.settle();
  EXPECT_TRUE(driver.leased());
  EXPECT_TRUE(driver.session.fills_allowed());
}

TEST(SessionLinks, AgreeingAgainBeforeTheRedialRestoresTheLease) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  Actions actions = driver.run_for(1s);
  for (const auto& action : driver.data_up(kServer)) actions.push_back(action);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "a new proof is needed";
  for (const auto& action : driver.run_for(kStreamTimeout)) actions.push_back(action);
  EXPECT_EQ(deeds(actions), Kinds{Kind::kBarFills}) << "S is unbroken: its entries are good";
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLinks, ADataConnectionThatComesAndGoesDoesNotHideTheDisagreement) {
  Driver driver;
  driver.connect_and_lease();
  const TimePoint start = driver.now;
  bool redialled = false;
  while (!redialled && driver.now < start + 20s) {
    driver.data_down();
    driver.now += 50ms;
    redialled = has(driver.data_up(kOther), Kind::kRedialStream) ||
                has(driver.run_for(450ms), Kind::kRedialStream);
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  }
  EXPECT_TRUE(redialled) << "each reconnection of D to the other server began the wait anew";
}

TEST(SessionLinks, ASecondDisagreementWaitsAsLongAsTheFirst) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  EXPECT_FALSE(has(driver.run_for(kStreamTimeout - 100ms), Kind::kRedialStream));
  driver.data_up(kServer);
  EXPECT_FALSE(has(driver.run_for(10s), Kind::kRedialStream));
  driver.data_up(kOther);
  EXPECT_FALSE(has(driver.run_for(kStreamTimeout - 100ms), Kind::kRedialStream));
  EXPECT_TRUE(has(driver.run_for(10s), Kind::kRedialStream));
}

TEST(SessionLinks, ANewStreamThatDisagreesTooGetsItsTime) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  EXPECT_FALSE(has(driver.run_for(kStreamTimeout - 100ms), Kind::kRedialStream));
  driver.stream_up();
  EXPECT_FALSE(has(driver.run_for(kStreamTimeout - 100ms), Kind::kRedialStream));
  EXPECT_TRUE(has(driver.run_for(10s), Kind::kRedialStream));
}

TEST(SessionLinks, WhereALostDataConnectionWasSaysNothingAboutWhereItWillBe) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_down();
  driver.stream_down();
  driver.stream_up(kOther);
  EXPECT_FALSE(has(driver.run_for(10s), Kind::kRedialStream)) << "D is not up: no disagreement";
}

// Redis gives a master a new replication id, without a promotion, when its first replica attaches.
// It names no former one. The same process goes on with the same data.
TEST(SessionLinks, AMastersFirstReplicaCostsOneReconnectionAndNothingOfL1) {
  Server renamed = kServer;
  renamed.replication_id = "X2";
  enum class First : std::uint8_t { kData, kStream, kStreamBeforeDataIsLeft };
  for (const First first_up : {First::kData, First::kStream, First::kStreamBeforeDataIsLeft}) {
    for (const bool has_sentinels : {false, true}) {
      Driver driver{
          {.lease = kLease, .stream_timeout = kStreamTimeout, .has_sentinels = has_sentinels}};
      driver.connect_and_lease();
      driver.write(change_of({"k"}, 10));
      driver.confirm();
      driver.world.history.push_back(change_of({"missed"}, 11));
      driver.world.master = master_of("X2", {"a"});
      driver.world.candidates = {{"a", replica_of("X2")}};
      driver.world.sentinels = calm({"a"});
      ASSERT_EQ(deeds(driver.run_for(kRound)), Kinds{Kind::kLeaveMaster});
      EXPECT_EQ(driver.session.lease_until(), TimePoint{});
      if (first_up != First::kStreamBeforeDataIsLeft) driver.data_down();
      EXPECT_EQ(kinds(driver.stream_down()), Kinds{Kind::kBarFills});
      driver.now += 1ms;
      Actions all;
      const auto note = [&all](const Actions& more) {
        all.insert(all.end(), more.begin(), more.end());
      };
      if (first_up == First::kData) driver.data_up(renamed);
      note(driver.stream_up(renamed));
      note(driver.settle());
      if (first_up == First::kStreamBeforeDataIsLeft) driver.data_down();
      if (first_up != First::kData) note(driver.data_up(renamed));
      note(driver.settle());
      EXPECT_TRUE(driver.leased()) << driver.session.why_no_lease();
      EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kReplicas);
      note(driver.run_for(10 * kStreamTimeout));
      const bool was_elsewhere = first_up == First::kStreamBeforeDataIsLeft;
      EXPECT_EQ(deeds(all), was_elsewhere ? (Kinds{Kind::kBarFills, Kind::kBarFills, Kind::kEvict})
                                          : (Kinds{Kind::kBarFills, Kind::kEvict}))
          << "no drop, and no loop";
      EXPECT_TRUE(driver.leased());
      EXPECT_EQ(driver.session.epochs(), 2U);
      EXPECT_EQ(driver.session.epochs_warm(), 1U);
    }
  }
}

}  // namespace
}  // namespace tiercel::coherence
