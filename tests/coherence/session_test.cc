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
}

TEST(SessionLease, ThereIsNoneBeforeAPong) {
  Driver driver;
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.data_up();
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_EQ(kinds(driver.stream_up()), (Kinds{Kind::kDropAll, Kind::kSendPing}));
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.message(change_of({"k"}, 5));
  driver.now += 1s;
  driver.tick();
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "a message is no proof";
  driver.pong(driver.token + 1);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "nobody asked that";
}

TEST(SessionLease, CountsFromTheSendTimeOfThePing) {
  Driver driver;
  driver.connect();
  const TimePoint sent = driver.now;
  driver.now += 30ms;
  driver.pong(driver.token);
  EXPECT_EQ(driver.session.lease_until(), sent + kLease);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, ALatePongProvesOnlyWhatItCan) {
  Driver driver;
  driver.connect();
  const TimePoint sent = driver.now;
  driver.now += kLease + 100ms;
  const Actions actions = driver.pong(driver.token);
  EXPECT_EQ(driver.session.lease_until(), sent + kLease);
  EXPECT_FALSE(driver.leased()) << "it is over already";
  EXPECT_EQ(kinds(actions), Kinds{Kind::kSendPing}) << "the next is long due";
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, ALapseKeepsTheEntriesAndThePongMakesThemGoodAgain) {
  Driver driver;
  driver.connect_and_lease();
  driver.tick_when_due();
  driver.now += kLease + 300ms;
  EXPECT_FALSE(driver.leased());
  Actions all = driver.tick();
  const Actions more = driver.pong(driver.token);
  all.insert(all.end(), more.begin(), more.end());
  driver.now += 1ms;
  const Actions last = driver.pong(driver.token);
  all.insert(all.end(), last.begin(), last.end());
  EXPECT_TRUE(driver.leased());
  for (const auto& action : all) EXPECT_EQ(action.kind, Kind::kSendPing) << action.reason;
}

TEST(SessionLease, APongOfAPreviousConnectionProvesNothing) {
  Driver driver;
  const std::uint64_t old = driver.connect();
  driver.now += 1ms;
  driver.stream_down();
  driver.now += 1ms;
  driver.pong(old);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "S is down";
  driver.stream_up();
  EXPECT_NE(driver.token, old);
  driver.now += 1ms;
  EXPECT_TRUE(driver.pong(old).empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.pong(driver.token);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionLease, APongCountsOnce) {
  Driver driver;
  const std::uint64_t first = driver.connect();
  driver.now += 1ms;
  driver.pong(first);
  const TimePoint until = driver.session.lease_until();
  driver.now += 50ms;
  EXPECT_TRUE(driver.pong(first).empty());
  EXPECT_EQ(driver.session.lease_until(), until);
}

TEST(SessionLease, HoldsWhileTheDataConnectionIsDown) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_TRUE(driver.data_down().empty());
  EXPECT_TRUE(driver.leased()) << "S alone proves what L1 holds";
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.tick_when_due();
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_EQ(driver.session.lease_until(), driver.pinged_at + kLease);
}

TEST(SessionPings, LeaveEveryFifthOfTheLease) {
  Driver driver;
  driver.connect();
  TimePoint last = driver.pinged_at;
  for (int i = 0; i < 20; ++i) {
    driver.now += 2ms;
    EXPECT_TRUE(driver.pong(driver.token).empty()) << "not due yet";
    EXPECT_EQ(driver.session.next_tick(), last + kPingEvery);
    driver.now = last + kPingEvery - 1ns;
    EXPECT_TRUE(driver.tick().empty());
    EXPECT_EQ(kinds(driver.tick_when_due()), Kinds{Kind::kSendPing});
    EXPECT_EQ(driver.pinged_at, last + kPingEvery);
    last = driver.pinged_at;
  }
}

TEST(SessionPings, OneIsOutstandingAtATime) {
  Driver driver;
  driver.connect();
  for (Duration waited{0}; waited < kStreamTimeout - 10ms; waited += 10ms) {
    driver.now += 10ms;
    EXPECT_TRUE(driver.tick().empty());
    EXPECT_TRUE(driver.data_up().empty());
    EXPECT_TRUE(driver.message(change_of({}, 1 + static_cast<Version>(waited.count()))).empty());
  }
}

TEST(SessionPings, WithALongRoundTripTheNextLeavesWithThePong) {
  Driver driver;
  driver.connect();
  for (int i = 0; i < 10; ++i) {
    driver.now += 3 * kPingEvery;
    EXPECT_EQ(kinds(driver.pong(driver.token)), Kinds{Kind::kSendPing});
    EXPECT_TRUE(driver.leased()) << "the trip takes less than the lease";
  }
}

TEST(SessionPings, ARefusalIsNoEvidenceAndIsFollowedAtTheUsualPace) {
  Driver driver;
  driver.connect();
  int pings = 0;
  const TimePoint start = driver.now;
  while (driver.now < start + 10s) {
    driver.now += 1ms;
    EXPECT_TRUE(driver.ping_refused().empty()) << "no ping at once, no redial";
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
    const Actions actions = driver.tick_when_due();
    ASSERT_EQ(kinds(actions), Kinds{Kind::kSendPing}) << "the server lives: no redial";
    ++pings;
  }
  EXPECT_GE(pings, 90);
  EXPECT_LE(pings, 101);
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionPings, ARefusedPingCannotBeAnsweredLater) {
  Driver driver;
  const std::uint64_t refused = driver.connect();
  driver.ping_refused();
  driver.pong(refused);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionPings, ALateRefusalWaitsBeforeTheNext) {
  Driver driver;
  driver.connect();
  driver.now += 1s;
  driver.ping_refused();
  EXPECT_EQ(driver.session.next_tick(), driver.now + kPingEvery) << "-BUSY is not to be hammered";
}

TEST(SessionRedial, FollowsAnUnansweredPingOnce) {
  Driver driver;
  driver.connect_and_lease();
  driver.tick_when_due();
  EXPECT_EQ(driver.session.next_tick(), driver.pinged_at + kStreamTimeout);
  driver.now = driver.pinged_at + kStreamTimeout - 1ns;
  EXPECT_TRUE(driver.tick().empty());
  const Actions actions = driver.tick_when_due();
  ASSERT_EQ(kinds(actions), Kinds{Kind::kRedialStream}) << "what is in L1 waits for stream_down";
  EXPECT_NE(actions[0].reason.find("2000 ms"), std::string::npos) << actions[0].reason;
  EXPECT_FALSE(driver.leased());
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  for (int i = 0; i < 10; ++i) {
    driver.now += 1s;
    EXPECT_TRUE(driver.tick().empty()) << "asked for already";
    EXPECT_TRUE(driver.data_up().empty());
  }
  EXPECT_EQ(kinds(driver.stream_down()), Kinds{Kind::kDropAll});
  EXPECT_EQ(kinds(driver.stream_up()), (Kinds{Kind::kDropAll, Kind::kSendPing}));
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_TRUE(driver.leased());
  driver.tick_when_due();
  EXPECT_EQ(kinds(driver.tick_when_due()), Kinds{Kind::kRedialStream}) << "and the same again";
}

TEST(SessionRedial, NothingIsGrantedToAStreamThatWasGivenUp) {
  // With the shortest stream_timeout the pong and the deadline can fall together.
  Driver driver{{.lease = 500ms, .stream_timeout = 500ms}};
  driver.connect();
  EXPECT_EQ(kinds(driver.tick_when_due()), Kinds{Kind::kRedialStream});
  EXPECT_TRUE(driver.pong(driver.token).empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionRedial, AStreamThatCameBackByItselfIsAsGood) {
  Driver driver;
  driver.connect();
  driver.tick_when_due();
  EXPECT_EQ(kinds(driver.stream_up()), (Kinds{Kind::kDropAll, Kind::kSendPing}));
  EXPECT_EQ(driver.session.next_tick(), driver.pinged_at + kStreamTimeout);
}

TEST(SessionEpoch, AStreamThatComesUpAnewHasNoLeaseYet) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_EQ(kinds(driver.stream_up()), (Kinds{Kind::kDropAll, Kind::kSendPing}))
      << "its loss need not have been told";
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionEpoch, BeginsAndEndsWithTheStreamAndDropsEachTime) {
  Driver driver;
  EXPECT_EQ(driver.session.epochs(), 0U);
  EXPECT_EQ(driver.session.epoch(), "");
  EXPECT_FALSE(driver.session.stream_is_up());
  driver.connect_and_lease();
  EXPECT_TRUE(driver.session.stream_is_up());
  EXPECT_EQ(driver.session.epochs(), 1U);
  EXPECT_EQ(driver.session.epoch(), "run-one-:rep-1:1");
  EXPECT_EQ(driver.session.server_name(), "127.0.0.1:7001");
  EXPECT_EQ(kinds(driver.stream_down()), Kinds{Kind::kDropAll});
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_EQ(driver.session.epoch(), "");
  EXPECT_EQ(driver.session.server_name(), "");
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.stream_up();
  EXPECT_EQ(driver.session.epochs(), 2U);
  EXPECT_EQ(driver.session.epoch(), "run-one-:rep-1:2") << "another epoch though the same server";
}

TEST(SessionEpoch, DownTwiceDropsOnce) {
  Driver driver;
  EXPECT_TRUE(driver.stream_down().empty()) << "nothing was there to lose";
  driver.connect();
  EXPECT_EQ(driver.stream_down().size(), 1U);
  EXPECT_TRUE(driver.stream_down().empty());
}

TEST(SessionEpoch, WhatComesWhileTheStreamIsDownIsIgnored) {
  Driver driver;
  driver.connect_and_lease();
  driver.stream_down();
  EXPECT_TRUE(driver.message(change_of({"k"}, 5)).empty());
  EXPECT_TRUE(driver.message({.kind = ChangeKind::kAll, .version = 6, .keys = {}}).empty());
  EXPECT_TRUE(driver.ping_refused().empty());
  EXPECT_TRUE(driver.tick().empty());
  EXPECT_TRUE(driver.pong(driver.token).empty());
  EXPECT_TRUE(driver.data_up(kOther).empty());
  EXPECT_TRUE(driver.data_down().empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

}  // namespace
}  // namespace tiercel::coherence
