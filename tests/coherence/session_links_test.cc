// What a Session makes of its two links together, and of the messages that come.

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

TEST(SessionLinks, FillsNeedBothOnTheSameServer) {
  Driver driver;
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.stream_up();
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kOther);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kServer);
  EXPECT_TRUE(driver.session.fills_allowed());
  Server elsewhere = kServer;
  elsewhere.name = "a-name-for-the-same:1";
  driver.data_up(elsewhere);
  EXPECT_TRUE(driver.session.fills_allowed()) << "an address is only a name";
  Server promoted = kServer;
  promoted.replication_id = "rep-9";
  driver.data_up(promoted);
  EXPECT_FALSE(driver.session.fills_allowed()) << "another branch of history";
  Server restarted = kServer;
  restarted.run_id = "run-nine";
  driver.data_up(restarted);
  EXPECT_FALSE(driver.session.fills_allowed());
  driver.data_up(kServer);
  driver.stream_down();
  EXPECT_FALSE(driver.session.fills_allowed());
}

TEST(SessionLinks, DisagreementEndsTheLeaseAtOnceAndGrantsNothing) {
  Driver driver;
  driver.connect_and_lease();
  ASSERT_TRUE(driver.leased());
  driver.tick_when_due();
  driver.data_up(kOther);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionLinks, DisagreementRedialsTheStreamAfterAWhile) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  const TimePoint start = driver.now;
  Actions last;
  int pings = 0;
  while (driver.now < start + 60s) {
    last = driver.tick_when_due();
    ASSERT_EQ(last.size(), 1U);
    if (last[0].kind == Kind::kRedialStream) break;
    ASSERT_EQ(last[0].kind, Kind::kSendPing);
    ++pings;
    driver.now += 1ms;
    for (const auto& action : driver.pong(driver.token)) last.push_back(action);
    if (last.back().kind == Kind::kRedialStream) break;
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  }
  ASSERT_EQ(last.back().kind, Kind::kRedialStream);
  EXPECT_NE(last.back().reason.find("another server"), std::string::npos);
  EXPECT_GE(driver.now, start + kStreamTimeout);
  EXPECT_LE(driver.now, start + kStreamTimeout + 2 * kPingEvery);
  EXPECT_EQ(driver.session.next_tick(), std::nullopt);
  driver.stream_down();
  driver.stream_up(kOther);
  driver.now += 1ms;
  driver.pong(driver.token);
  EXPECT_TRUE(driver.leased());
  EXPECT_TRUE(driver.session.fills_allowed());
}

TEST(SessionLinks, AgreeingAgainBeforeTheRedialRestoresTheLeaseByAPong) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  driver.now += 1s;
  Actions actions = driver.tick();
  actions = driver.data_up(kServer);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "a new proof is needed";
  driver.now += 1ms;
  for (const auto& action : driver.pong(driver.token)) {
    EXPECT_EQ(action.kind, Kind::kSendPing) << "S is unbroken: its entries are good";
  }
  EXPECT_TRUE(driver.leased());
  driver.now += kStreamTimeout / 2;
  for (const auto& action : driver.tick()) EXPECT_EQ(action.kind, Kind::kSendPing);
}

TEST(SessionLinks, ADataConnectionThatComesAndGoesDoesNotHideTheDisagreement) {
  Driver driver;
  driver.connect_and_lease();
  const TimePoint start = driver.now;
  bool redialled = false;
  while (!redialled && driver.now < start + 20s) {
    driver.data_down();
    driver.now += 50ms;
    Actions actions = driver.data_up(kOther);
    driver.now += 450ms;
    for (const auto& action : driver.tick()) actions.push_back(action);
    for (const auto& action : driver.pong(driver.token)) actions.push_back(action);
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
    for (const auto& action : actions) redialled |= action.kind == Kind::kRedialStream;
  }
  EXPECT_TRUE(redialled) << "each reconnection of D to the other server began the wait anew";
}

// Ticks and answers every ping until `end`; how often a redial was asked for.
int redials_until(Driver& driver, TimePoint end) {
  int redials = 0;
  while (driver.now < end) {
    driver.now += 10ms;
    Actions actions = driver.tick();
    for (const auto& action : driver.pong(driver.token)) actions.push_back(action);
    for (const auto& action : actions) redials += action.kind == Kind::kRedialStream ? 1 : 0;
  }
  return redials;
}

TEST(SessionLinks, ASecondDisagreementWaitsAsLongAsTheFirst) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  EXPECT_EQ(redials_until(driver, driver.now + kStreamTimeout - 100ms), 0);
  driver.data_up(kServer);
  EXPECT_EQ(redials_until(driver, driver.now + 10s), 0);
  driver.data_up(kOther);
  EXPECT_EQ(redials_until(driver, driver.now + kStreamTimeout - 100ms), 0);
  EXPECT_EQ(redials_until(driver, driver.now + 10s), 1);
}

TEST(SessionLinks, ANewStreamThatDisagreesTooGetsItsTime) {
  Driver driver;
  driver.connect_and_lease();
  driver.data_up(kOther);
  EXPECT_EQ(redials_until(driver, driver.now + kStreamTimeout - 100ms), 0);
  driver.stream_up();
  EXPECT_EQ(redials_until(driver, driver.now + kStreamTimeout - 100ms), 0);
  EXPECT_EQ(redials_until(driver, driver.now + 10s), 1);
}

TEST(SessionMessages, EvictKeyByKeyInOrder) {
  Driver driver;
  driver.connect_and_lease();
  const Actions actions = driver.message(change_of({"b", "a", "b"}, 7));
  ASSERT_EQ(actions.size(), 3U);
  const std::vector<std::string> expected = {"b", "a", "b"};
  for (std::size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(actions[i].kind, Kind::kEvict);
    EXPECT_EQ(actions[i].key, expected[i]);
    EXPECT_EQ(actions[i].version, 7U);
  }
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 8))), Kinds{Kind::kEvict});
  EXPECT_TRUE(driver.message(change_of({}, 9)).empty());
  EXPECT_TRUE(driver.leased());
}

TEST(SessionMessages, OfAnUnknownVersionEvictHard) {
  Driver driver;
  driver.connect_and_lease();
  driver.message(change_of({"a"}, 8));
  for (int i = 0; i < 2; ++i) {
    const Actions actions = driver.message(change_of({"a"}, kVersionUnknown));
    ASSERT_EQ(kinds(actions), Kinds{Kind::kEvict}) << "it says nothing about the history";
    EXPECT_EQ(actions[0].version, kVersionUnknown);
  }
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 9))), Kinds{Kind::kEvict});
}

TEST(SessionMessages, AVersionThatDoesNotRiseMeansTheHistoryWasReset) {
  for (const Version after : {Version{1}, Version{99}, Version{100}}) {
    Driver driver;
    driver.connect_and_lease();
    driver.message(change_of({"a"}, 100));
    const Actions actions = driver.message(change_of({"b"}, after));
    ASSERT_EQ(kinds(actions), Kinds{Kind::kDropAll}) << after;
    EXPECT_NE(actions[0].reason.find("reset"), std::string::npos);
    EXPECT_TRUE(driver.leased()) << "the stream is unbroken";
    EXPECT_EQ(kinds(driver.message(change_of({"a"}, after + 1))), Kinds{Kind::kEvict})
        << "the new history counts from where it is";
  }
}

// The history was deleted and the server's clock set back before this epoch saw its first message:
// an entry that was read under the old history must not outlive the writes of the new one.
TEST(SessionMessages, AResetBeforeTheFirstMessageOfAnEpochIsSeen) {
  Driver driver;
  driver.connect_and_lease();
  constexpr Version kFilledAt = 100;  // Into L1, by way of D.
  driver.session.note_fill(kFilledAt);
  for (const Version version : {kFilledAt - 50, kFilledAt - 1}) {
    const Actions actions = driver.message(change_of({"a"}, version));
    ASSERT_EQ(kinds(actions), Kinds{Kind::kEvict});
    EXPECT_EQ(actions[0].version, kVersionUnknown) << "evict, whatever L1 says it is";
  }
  // From here on the messages are known to go on in the history from which L1 was filled.
  const Actions actions = driver.message(change_of({"a"}, kFilledAt));
  ASSERT_EQ(kinds(actions), Kinds{Kind::kEvict});
  EXPECT_EQ(actions[0].version, kFilledAt);
  driver.session.note_fill(kFilledAt + 50);  // Acknowledged before its own message came.
  EXPECT_EQ(driver.message(change_of({"a"}, kFilledAt + 1))[0].version, kFilledAt + 1);
}

TEST(SessionMessages, VersionsOfThePreviousEpochAreForgotten) {
  Driver driver;
  driver.connect_and_lease();
  driver.message(change_of({"a"}, 100));
  driver.stream_down();
  driver.stream_up();
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 5))), Kinds{Kind::kEvict});
}

TEST(SessionMessages, AChangeOfUnknownExtentDropsAll) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_EQ(kinds(driver.message({.kind = ChangeKind::kAll, .version = 10, .keys = {}})),
            Kinds{Kind::kDropAll});
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 9))), Kinds{Kind::kDropAll})
      << "its version counts for the order";
  EXPECT_EQ(
      kinds(driver.message({.kind = ChangeKind::kAll, .version = kVersionUnknown, .keys = {}})),
      Kinds{Kind::kDropAll});
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 10))), Kinds{Kind::kEvict});
  EXPECT_EQ(kinds(driver.message({.kind = ChangeKind::kAll, .version = 2, .keys = {"a"}})),
            Kinds{Kind::kDropAll});
}

TEST(SessionMessages, OfNoConcernDoNothing) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_TRUE(driver.message({.kind = ChangeKind::kNone, .version = 50, .keys = {"a"}}).empty());
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 51))), Kinds{Kind::kEvict});
}

}  // namespace
}  // namespace tiercel::coherence
