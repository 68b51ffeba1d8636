// Options, lease, pings, redials and epochs of a Session.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

TEST(SessionOptions, TheDefaultsAndTheEdgesAreValid) {
  EXPECT_TRUE(validate({}));
  EXPECT_TRUE(validate({.lease = 20ms, .stream_timeout = 20ms}));
  EXPECT_TRUE(validate({.lease = 60s, .stream_timeout = 60s}));
  EXPECT_TRUE(validate({.lease = 60s, .stream_timeout = 10min}));
  EXPECT_TRUE(validate({.has_sentinels = true, .witness_min = WitnessMode::kSentinels}));
  EXPECT_TRUE(validate({.has_sentinels = true, .witness_min = WitnessMode::kReplicas}));
  EXPECT_TRUE(validate({.witness_min = WitnessMode::kReplicas})) << "replicas without Sentinels";
}

TEST(SessionOptions, AnErrorNamesTheField) {
  const auto message = [](SessionOptions options) -> std::string {
    const auto valid = validate(options);
    if (valid) return "accepted";
    EXPECT_EQ(valid.error().code, ErrorCode::kInvalidArgument);
    return valid.error().message;
  };
  EXPECT_TRUE(message({.lease = 20ms - 1ns, .stream_timeout = 2s}).starts_with("lease is 19 ms"));
  EXPECT_TRUE(message({.lease = 60s + 1ns, .stream_timeout = 60s + 1ns}).starts_with("lease"));
  EXPECT_TRUE(message({.lease = 0ms, .stream_timeout = 2s}).starts_with("lease"));
  EXPECT_TRUE(message({.lease = -1s, .stream_timeout = 2s}).starts_with("lease"));
  EXPECT_TRUE(message({.lease = 2s, .stream_timeout = 2s - 1ns}).starts_with("stream_timeout"));
  EXPECT_TRUE(message({.lease = 2s, .stream_timeout = 10min + 1ns}).starts_with("stream_timeout"));
  EXPECT_TRUE(message({.witness_min = WitnessMode::kSentinels}).starts_with("witness_min"));
}

TEST(SessionLease, ThereIsNoneBeforeAPong) {
  Driver driver;
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_EQ(driver.session.proven_at(), TimePoint{});
  EXPECT_NE(driver.session.why_no_lease(), "");
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.message(change_of({"k"}, 5));
  driver.run_for(1s);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "a message is no proof";
  driver.pong(driver.open(Kind::kSendPing)->action.token + 100);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "nobody asked that";
  driver.world.mute = {};
  driver.run_for(kRound);
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.why_no_lease(), "");
}

TEST(SessionLease, CountsFromTheSendTimeOfThePing) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  const TimePoint sent = driver.now;
  driver.now += 30ms;
  driver.settle();
  driver.pong();
  EXPECT_EQ(driver.session.lease_until(), sent + kLease);
  EXPECT_EQ(driver.session.proven_at(), sent);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, ALatePongProvesOnlyWhatItCan) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  const TimePoint sent = driver.now;
  driver.run_for(kLease + 100ms);
  const Actions actions = driver.pong();
  EXPECT_EQ(driver.session.lease_until(), sent + kLease);
  EXPECT_FALSE(driver.leased()) << "it is over already";
  EXPECT_NE(driver.session.why_no_lease(), "");
  EXPECT_EQ(kinds(actions), Kinds{Kind::kSendPing}) << "the next is long due";
  driver.now += 1ms;
  driver.pong();
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, ALapseKeepsTheEntriesAndTheNextProofsMakeThemGoodAgain) {
  Driver driver;
  driver.connect_and_lease();
  driver.world.mute = {Kind::kSendPing, Kind::kAskMaster};
  Actions all = driver.run_for(kLease + 300ms);
  EXPECT_FALSE(driver.leased());
  driver.world.mute = {};
  driver.now += 1ms;
  for (const auto& action : driver.run_for(kRound)) all.push_back(action);
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(deeds(all), Kinds{});
  EXPECT_EQ(driver.session.epochs(), 1U);
}

TEST(SessionLease, APongOfAPreviousConnectionProvesNothing) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  const std::uint64_t old = driver.open(Kind::kSendPing)->action.token;
  driver.now += 1ms;
  driver.stream_down();
  driver.now += 1ms;
  driver.pong(old);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "S is down";
  driver.stream_up();
  driver.settle();
  driver.now += 1ms;
  EXPECT_TRUE(driver.pong(old).empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.pong();
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, APongCountsOnce) {
  Driver driver;
  driver.connect();
  const std::uint64_t first = driver.open(Kind::kSendPing)->action.token;
  driver.now += 1ms;
  driver.settle();
  const TimePoint until = driver.session.lease_until();
  driver.now += 50ms;
  EXPECT_TRUE(driver.pong(first).empty());
  EXPECT_EQ(driver.session.lease_until(), until);
}

TEST(SessionLease, EndsWithTheStream) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_EQ(deeds(driver.stream_down()), Kinds{Kind::kBarFills});
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_NE(driver.session.why_no_lease(), "");
}

TEST(SessionPings, LeaveEveryFifthOfTheLease) {
  Driver driver;
  driver.connect();
  TimePoint last = driver.pinged_at;
  for (int i = 0; i < 20; ++i) {
    driver.now += 2ms;
    EXPECT_FALSE(has(driver.settle(), Kind::kSendPing)) << "not due yet";
    EXPECT_EQ(driver.session.next_tick(), last + kRound);
    driver.now = last + kRound - 1ns;
    EXPECT_TRUE(driver.tick().empty());
    EXPECT_TRUE(has(driver.tick_when_due(), Kind::kSendPing));
    EXPECT_EQ(driver.pinged_at, last + kRound);
    last = driver.pinged_at;
  }
}

// With a long lease, too, a master that becomes a replica is noticed soon.
TEST(SessionPings, LeaveEverySecondAtLeast) {
  struct Case {
    Duration lease;
    Duration round;
  };
  for (const auto& [lease, round] : {Case{4s, 800ms}, Case{5s, 1s}, Case{10s, 1s}, Case{60s, 1s}}) {
    Driver driver{{.lease = lease, .stream_timeout = lease}};
    driver.connect_and_lease();
    driver.world.mute = {Kind::kSendPing, Kind::kAskMaster};
    TimePoint last = driver.now - 1ms;
    EXPECT_EQ(driver.session.next_tick(), last + round);
    driver.tick_when_due();
    // What is answered later than that is asked again at once, what is answered sooner is not.
    driver.now += round - 1ns;
    EXPECT_FALSE(has(driver.data_said(driver.world.master), Kind::kAskMaster));
    EXPECT_FALSE(has(driver.pong(), Kind::kSendPing));
    driver.tick_when_due();
    driver.now += round;
    EXPECT_TRUE(has(driver.data_said(driver.world.master), Kind::kAskMaster));
  }
}

TEST(SessionPings, OneIsOutstandingAtATime) {
  Driver driver;  // Which checks it.
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  const TimePoint start = driver.now;
  while (driver.now < start + kStreamTimeout - 10ms) {
    driver.run_for(10ms);
    driver.data_up();
    driver.message(change_of({}, 1 + static_cast<Version>((driver.now - start).count())));
  }
  EXPECT_EQ(driver.pinged_at, start);
}

TEST(SessionPings, WithALongRoundTripTheNextLeavesWithThePong) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  for (int i = 0; i < 10; ++i) {
    driver.run_for(2 * kRound + 20ms);
    EXPECT_EQ(kinds(driver.pong()), Kinds{Kind::kSendPing});
    EXPECT_TRUE(driver.leased()) << "the trip takes less than the lease";
  }
}

TEST(SessionPings, APongWithinItsRoundIsNotFollowedAtOnce) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  driver.now += kRound - 1ns;
  EXPECT_TRUE(driver.pong().empty());
}

TEST(SessionPings, ARefusalIsNoEvidenceAndIsFollowedAtTheUsualPace) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  int pings = 0;
  const TimePoint start = driver.now;
  while (driver.now < start + 10s) {
    driver.now += 1ms;
    EXPECT_TRUE(driver.ping_refused().empty()) << "no ping at once, no redial";
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
    const Actions actions = driver.tick_when_due();
    ASSERT_EQ(deeds(actions), Kinds{}) << "the server lives: no redial";
    ASSERT_TRUE(has(actions, Kind::kSendPing));
    driver.settle();
    ++pings;
  }
  EXPECT_GE(pings, 90);
  EXPECT_LE(pings, 101);
  driver.now += 1ms;
  driver.pong();
  EXPECT_TRUE(driver.leased());
}

TEST(SessionPings, ARefusedPingCannotBeAnsweredLater) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  driver.settle();
  const std::uint64_t refused = driver.open(Kind::kSendPing)->action.token;
  driver.ping_refused();
  driver.pong(refused);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionRedial, FollowsAnUnansweredPingOnce) {
  Driver driver;
  driver.connect_and_lease();
  driver.world.mute = {Kind::kSendPing};
  driver.tick_when_due();
  driver.settle();
  const TimePoint pinged_at = driver.pinged_at;
  Actions actions = driver.run_for(pinged_at + kStreamTimeout - 1ns - driver.now);
  EXPECT_EQ(deeds(actions), Kinds{});
  EXPECT_EQ(driver.session.next_tick(), pinged_at + kStreamTimeout);
  actions = driver.tick_when_due();
  ASSERT_EQ(kinds(actions), Kinds{Kind::kRedialStream}) << "what is in L1 waits for stream_down";
  EXPECT_NE(actions[0].reason.find("2000 ms"), std::string::npos) << actions[0].reason;
  EXPECT_EQ(driver.session.why_no_lease(), actions[0].reason);
  EXPECT_FALSE(driver.leased());
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  for (int i = 0; i < 10; ++i) {
    driver.now += 1s;
    EXPECT_TRUE(driver.tick().empty()) << "asked for already";
    EXPECT_TRUE(driver.data_up().empty());
  }
  EXPECT_EQ(deeds(driver.stream_down()), Kinds{Kind::kBarFills});
  driver.world.mute = {};
  driver.stream_up();
  driver.settle();
  EXPECT_TRUE(driver.leased());
  driver.world.mute = {Kind::kSendPing};
  EXPECT_TRUE(has(driver.run_for(kRound + kStreamTimeout), Kind::kRedialStream)) << "and again";
}

TEST(SessionRedial, ItsDeadlineNeedNotBeThatOfARound) {
  Driver driver{{.lease = kLease, .stream_timeout = kStreamTimeout + 30ms}};
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  const TimePoint deadline = driver.now + kStreamTimeout + 30ms;
  EXPECT_FALSE(has(driver.run_for(kStreamTimeout), Kind::kRedialStream));
  EXPECT_EQ(driver.session.next_tick(), deadline);
  EXPECT_TRUE(has(driver.tick_when_due(), Kind::kRedialStream));
}

TEST(SessionRedial, NothingIsGrantedToAStreamThatWasGivenUp) {
  // With the shortest stream_timeout the pong and the deadline can fall together.
  Driver driver{{.lease = 500ms, .stream_timeout = 500ms}};
  driver.connect_and_lease();
  driver.world.mute = {Kind::kSendPing};
  EXPECT_TRUE(has(driver.run_for(kRound + 500ms), Kind::kRedialStream));
  EXPECT_TRUE(driver.pong().empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.world.mute = {};
  EXPECT_TRUE(driver.settle().empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionRedial, AStreamThatCameBackByItselfIsAsGood) {
  Driver driver;
  driver.world.mute = {Kind::kSendPing};
  driver.connect();
  ASSERT_TRUE(has(driver.run_for(kStreamTimeout), Kind::kRedialStream));
  driver.world.mute = {};
  driver.stream_up();
  EXPECT_EQ(driver.session.next_tick(), driver.now + kRound);
  driver.settle();
  EXPECT_TRUE(driver.leased());
}

TEST(SessionEpoch, AStreamThatComesUpAnewHasNoLeaseYet) {
  Driver driver;
  driver.connect_and_lease();
  const Actions actions = driver.stream_up();
  EXPECT_EQ(actions[0].kind, Kind::kBarFills) << "its loss need not have been told";
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionEpoch, BeginsAndEndsWithTheStreamAndBarsFillsEachTime) {
  Driver driver;
  EXPECT_EQ(driver.session.epochs(), 0U);
  EXPECT_EQ(driver.session.epoch(), "");
  EXPECT_FALSE(driver.session.stream_is_up());
  driver.connect_and_lease();
  EXPECT_TRUE(driver.session.stream_is_up());
  EXPECT_EQ(driver.session.epochs(), 1U);
  EXPECT_EQ(driver.session.epoch(), "run-one-:X:1");
  EXPECT_EQ(driver.session.server_name(), "127.0.0.1:7001");
  EXPECT_EQ(kinds(driver.stream_down()), Kinds{Kind::kBarFills});
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_FALSE(driver.session.stream_is_up());
  EXPECT_EQ(driver.session.epoch(), "");
  EXPECT_EQ(driver.session.server_name(), "");
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.stream_up();
  EXPECT_EQ(driver.session.epochs(), 2U);
  EXPECT_EQ(driver.session.epoch(), "run-one-:X:2") << "another epoch though the same server";
}

TEST(SessionEpoch, DownTwiceEndsOnce) {
  Driver driver;
  EXPECT_TRUE(driver.stream_down().empty()) << "nothing was there to lose";
  driver.connect();
  EXPECT_EQ(driver.stream_down().size(), 1U);
  EXPECT_TRUE(driver.stream_down().empty());
}

TEST(SessionEpoch, WhatComesWhileTheStreamIsDownIsIgnored) {
  Driver driver;
  driver.connect_and_lease();
  driver.tick_when_due();
  const std::uint64_t master = driver.open(Kind::kAskMaster)->action.token;
  driver.stream_down();
  EXPECT_TRUE(driver.message(change_of({"k"}, 5)).empty());
  EXPECT_TRUE(driver.message({.kind = ChangeKind::kAll, .version = 6}).empty());
  EXPECT_TRUE(driver.foreign_change({"k"}).empty());
  EXPECT_TRUE(driver.foreign_flush().empty());
  EXPECT_TRUE(driver.data_said(master, master_of("other")).empty());
  EXPECT_TRUE(driver.replay_waits(false).empty());
  EXPECT_TRUE(driver.pong().empty());
  EXPECT_TRUE(driver.ping_refused().empty());
  EXPECT_TRUE(driver.tick().empty());
  EXPECT_EQ(kinds(driver.data_up(kOther)), Kinds{Kind::kBarFills});
  EXPECT_TRUE(driver.data_down().empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

}  // namespace
}  // namespace tiercel::coherence
