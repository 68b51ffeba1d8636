// What the lease rests on: F is the send time of the oldest of its proofs.

#include <gtest/gtest.h>

#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

SessionOptions options_with(bool has_sentinels, WitnessMode witness_min = WitnessMode::kNone) {
  return {.lease = kLease,
          .stream_timeout = kStreamTimeout,
          .has_sentinels = has_sentinels,
          .witness_min = witness_min};
}

// A master with the replicas a and b, all well.
World two_replicas() {
  World world;
  world.master = master_of("X", {"a", "b"});
  world.candidates = {{"a", replica_of("X")}, {"b", replica_of("X")}};
  world.sentinels = calm({"a", "b"});
  return world;
}

Driver leased_driver(SessionOptions options) {
  Driver driver{options};
  driver.world = two_replicas();
  driver.connect_and_lease();
  return driver;
}

TEST(SessionProofs, AllAreAskedTogetherAtOnce) {
  Driver driver{options_with(true)};
  driver.world = two_replicas();
  driver.data_up();
  const Actions actions = driver.stream_up();
  EXPECT_TRUE(has(actions, Kind::kSendPing));
  EXPECT_TRUE(has(actions, Kind::kAskMaster));
  EXPECT_TRUE(has(actions, Kind::kAskSentinels));
  EXPECT_TRUE(has(actions, Kind::kAskHistory));
  const Actions more = driver.data_said(driver.world.master);
  EXPECT_EQ(kinds(more), (Kinds{Kind::kAskCandidate, Kind::kAskCandidate})) << "now they are known";
  EXPECT_EQ(driver.session.candidates(), (Keys{"a", "b"}));
  driver.settle();
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kReplicas);
  EXPECT_EQ(driver.session.proven_at(), driver.now);
}

TEST(SessionProofs, EachCandidateThatTheSentinelsAddIsAskedAtOnce) {
  Driver driver{options_with(true)};
  driver.connect();
  driver.data_said(master_of("X"));
  const Actions actions = driver.sentinels_said(calm({"c"}));
  EXPECT_EQ(first(actions, Kind::kAskCandidate).address, "c");
}

TEST(SessionProofs, FIsTheSendTimeOfTheOldest) {
  for (const Kind late : {Kind::kSendPing, Kind::kAskMaster}) {
    Driver driver = leased_driver(options_with(true));
    driver.world.mute = {late};
    driver.tick_when_due();
    const TimePoint asked_at = driver.now;
    driver.run_for(3 * kRound);
    ASSERT_EQ(driver.open(late)->at, asked_at);
    driver.world.mute = {};
    const Actions actions =
        late == Kind::kSendPing ? driver.pong() : driver.data_said(driver.world.master);
    EXPECT_EQ(driver.session.proven_at(), asked_at);
    EXPECT_EQ(driver.session.lease_until(), asked_at + kLease);
    EXPECT_TRUE(has(actions, late)) << "the next leaves at once";
    driver.run_for(kRound);
    EXPECT_EQ(driver.session.proven_at(), driver.now) << "and then on";
  }
}

TEST(SessionProofs, ALateCandidateCountsFromWhenItWasAsked) {
  Driver driver = leased_driver(options_with(false, WitnessMode::kReplicas));
  driver.world.mute_candidates = {"b"};
  driver.tick_when_due();
  const TimePoint asked_at = driver.now;
  driver.run_for(3 * kRound);
  driver.world.mute_candidates = {};
  driver.candidate_said("b", replica_of("X"));
  EXPECT_EQ(driver.session.proven_at(), asked_at);
  EXPECT_TRUE(driver.open(Kind::kAskCandidate, "b").has_value()) << "the next leaves at once";
}

TEST(SessionProofs, ALateCandidateIsBelievedWhateverWasThoughtMeanwhile) {
  // Its silence was made up for by the Sentinels, who see it down; it was not, and is the master.
  Driver driver = leased_driver(options_with(true));
  driver.world.mute_candidates = {"b"};
  driver.world.sentinels = calm_but_down("b", 3);
  driver.tick_when_due();
  driver.run_for(3 * kRound);
  ASSERT_EQ(driver.session.witness_mode(), WitnessMode::kSentinels);
  ASSERT_TRUE(driver.leased());
  driver.candidate_said("b", promoted("X", "Y"));
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionProofs, ALateCandidateThatWasNoneMeanwhileIsNotHeard) {
  for (const bool is_back : {false, true}) {
    Driver driver = leased_driver(options_with(true));
    driver.tick_when_due();
    const std::uint64_t old = driver.open(Kind::kAskCandidate, "b")->action.token;
    driver.forget(Kind::kAskCandidate, "b");
    driver.data_said(master_of("X", {"a"}));
    driver.world.sentinels = calm({"a"});
    driver.world.master = master_of("X", {"a"});
    driver.run_for(2 * kRound);
    ASSERT_EQ(driver.session.candidates(), Keys{"a"});
    if (is_back) {
      driver.tick_when_due();
      const Actions actions = driver.data_said(two_replicas().master);
      EXPECT_EQ(first(actions, Kind::kAskCandidate).address, "b") << "that is another question";
      EXPECT_GT(first(actions, Kind::kAskCandidate).token, old);
    }
    EXPECT_TRUE(driver.candidate_said("b", old, promoted("X", "Y")).empty());
    driver.world.master = two_replicas().master;
    driver.settle();
    EXPECT_TRUE(driver.leased());
    driver.run_for(kRound);
    EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kReplicas);
  }
}

TEST(SessionProofs, ACandidateThatBecomesKnownBetweenRoundsIsAskedAtOnceAndOnce) {
  Driver driver{options_with(false, WitnessMode::kReplicas)};
  driver.connect();
  driver.settle();
  driver.tick_when_due();
  driver.now += kRound / 2;
  driver.world = two_replicas();
  const Actions actions = driver.data_said(driver.world.master);
  EXPECT_EQ(kinds(actions), (Kinds{Kind::kAskCandidate, Kind::kAskCandidate}));
  EXPECT_FALSE(driver.leased());
  driver.settle();
  driver.run_for(kRound / 2 - 1ns);
  EXPECT_FALSE(driver.open(Kind::kAskCandidate, "a").has_value()) << "once in a round";
  // F is of the round's other questions, and its answer is there at once.
  EXPECT_TRUE(driver.leased()) << driver.session.why_no_lease();
  driver.now += 1ns;
  EXPECT_TRUE(has(driver.tick_when_due(), Kind::kAskCandidate));
}

TEST(SessionProofs, ALateRoundOfTheSentinelsCountsFromWhenTheyWereAsked) {
  Driver driver{options_with(true)};
  driver.connect_and_lease();
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kSentinels);
  driver.world.mute = {Kind::kAskSentinels};
  driver.tick_when_due();
  const TimePoint asked_at = driver.now;
  driver.run_for(3 * kRound);
  driver.sentinels_said(calm({}));
  EXPECT_EQ(driver.session.proven_at(), asked_at);
  EXPECT_TRUE(driver.open(Kind::kAskSentinels).has_value()) << "the next leaves at once";
}

TEST(SessionProofs, WithoutOneOfThemThereIsNoLease) {
  for (const Kind missing :
       {Kind::kSendPing, Kind::kAskMaster, Kind::kAskSentinels, Kind::kAskHistory}) {
    Driver driver{options_with(true)};
    driver.world = two_replicas();
    driver.world.mute = {missing};
    driver.connect();
    driver.run_for(kStreamTimeout - 1ms);
    EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << static_cast<int>(missing);
    EXPECT_NE(driver.session.why_no_lease(), "");
    EXPECT_EQ(driver.session.fills_allowed(), missing != Kind::kAskHistory);
    driver.world.mute = {};
    driver.run_for(1ms);
    EXPECT_TRUE(driver.leased()) << static_cast<int>(missing);
    EXPECT_EQ(driver.session.why_no_lease(), "");
  }
}

TEST(SessionProofs, WithoutACandidateThereIsNoLeaseThatRestsOnReplicas) {
  Driver driver{options_with(false, WitnessMode::kReplicas)};
  driver.world = two_replicas();
  driver.world.mute_candidates = {"a"};
  driver.connect();
  driver.run_for(5s);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_NE(driver.session.why_no_lease().find("a"), std::string::npos);
  driver.world.mute_candidates = {};
  driver.settle();
  driver.run_for(kRound);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionProofs, ALeaseRunsOutWhenOneOfThemStops) {
  for (const Kind missing : {Kind::kSendPing, Kind::kAskMaster, Kind::kAskCandidate}) {
    Driver driver = leased_driver(options_with(false, WitnessMode::kReplicas));
    driver.run_for(kRound);
    driver.world.mute = {missing};
    const TimePoint last = driver.session.proven_at();
    driver.run_for(kLease - 2ms);
    EXPECT_EQ(driver.session.lease_until(), last + kLease) << static_cast<int>(missing);
    EXPECT_TRUE(driver.leased());
    driver.run_for(1s);
    EXPECT_FALSE(driver.leased());
    EXPECT_EQ(driver.session.proven_at(), last) << "what was proven stays proven";
  }
}

TEST(SessionProofs, ASilentMasterIsAskedAgainInTheNextRound) {
  Driver driver = leased_driver(options_with(false));
  driver.world.mute = {Kind::kAskMaster};
  driver.tick_when_due();
  EXPECT_FALSE(has(driver.data_silent(), Kind::kAskMaster));
  driver.settle();
  EXPECT_TRUE(has(driver.tick_when_due(), Kind::kAskMaster));
}

TEST(SessionProofs, ASilentCandidateIsAskedAgainInTheNextRound) {
  Driver driver = leased_driver(options_with(true));
  driver.tick_when_due();
  EXPECT_EQ(kinds(driver.candidate_silent("a")), Kinds{Kind::kAskSentinels})
      << "the Sentinels are needed now";
  driver.settle();
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kSentinels);
  EXPECT_TRUE(driver.leased());
  driver.tick_when_due();
  EXPECT_TRUE(driver.open(Kind::kAskCandidate, "a").has_value());
  driver.settle();
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kReplicas);
}

TEST(SessionProofs, ACandidateThatDoesNotAnswerInItsRoundIsMadeUpForByTheSentinels) {
  Driver driver = leased_driver(options_with(true));
  driver.world.mute_candidates = {"a"};
  driver.run_for(10 * kLease);
  EXPECT_TRUE(driver.leased()) << driver.session.why_no_lease();
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kSentinels);
}

TEST(SessionProofs, AnAnswerOfAnEarlierQuestionIsNone) {
  Driver driver = leased_driver(options_with(true, WitnessMode::kReplicas));
  driver.tick_when_due();
  const std::uint64_t a = driver.open(Kind::kAskCandidate, "a")->action.token;
  const std::uint64_t master = driver.open(Kind::kAskMaster)->action.token;
  driver.settle();
  driver.tick_when_due();
  EXPECT_TRUE(driver.candidate_said("a", a, promoted("X", "Y")).empty());
  EXPECT_TRUE(driver.candidate_silent("a", a).empty());
  EXPECT_TRUE(driver.candidate_said("nobody", a, promoted("X", "Y")).empty());
  EXPECT_TRUE(driver.candidate_silent("nobody", a).empty());
  EXPECT_TRUE(driver.sentinels_said(a, alarmed({})).empty());
  EXPECT_TRUE(driver.data_said(master, replica_of("Y")).empty());
  driver.settle();
  EXPECT_EQ(driver.session.proven_at(), driver.now);
}

TEST(SessionProofs, AnAnswerOfAnEarlierEpochIsNone) {
  Driver driver = leased_driver(options_with(true));
  driver.world.mute = {Kind::kSendPing, Kind::kAskMaster, Kind::kAskCandidate};
  driver.world.sentinels.is_calm = false;
  driver.tick_when_due();
  driver.candidate_silent("a");  // So that the Sentinels are asked, too.
  const Actions asked = driver.stream_up();
  EXPECT_EQ(kinds(asked), (Kinds{Kind::kBarFills, Kind::kDropAll, Kind::kSendPing, Kind::kAskMaster,
                                 Kind::kAskCandidate, Kind::kAskCandidate, Kind::kAskSentinels,
                                 Kind::kAskHistory}))
      << "all is asked anew";
  for (const Asked& old : driver.stale()) {
    const std::uint64_t token = old.action.token;
    switch (old.action.kind) {
      case Kind::kSendPing: driver.pong(token); break;
      case Kind::kAskMaster: driver.data_said(token, replica_of("Y")); break;
      case Kind::kAskCandidate:
        driver.candidate_said(old.action.address, token, promoted("X", "Y"));
        break;
      case Kind::kAskSentinels: driver.sentinels_said(token, alarmed({})); break;
      default: break;
    }
  }
  EXPECT_GE(driver.stale().size(), 4U);
  driver.world = two_replicas();
  driver.now += 1ms;
  driver.settle();
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.proven_at(), driver.now - 1ms);
}

TEST(SessionProofs, AWitnessThatContradictsEndsTheLeaseAtOnce) {
  for (const bool has_sentinels : {false, true}) {
    Driver driver = leased_driver(options_with(has_sentinels));
    driver.tick_when_due();
    driver.candidate_said("a", promoted("X", "Y"));
    EXPECT_EQ(driver.session.lease_until(), TimePoint{});
    EXPECT_NE(driver.session.why_no_lease().find('a'), std::string::npos);
    driver.world.candidates["a"] = promoted("X", "Y");
    driver.run_for(10 * kLease);
    EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "and none is granted";
    driver.world.candidates["a"] = replica_of("X");
    driver.run_for(kRound);
    EXPECT_TRUE(driver.leased()) << "put back under our master: what it took is lost";
  }
}

TEST(SessionProofs, AContradictionThatFallsSilentDoesNotGiveTheLeaseBack) {
  Driver driver = leased_driver(options_with(true));
  driver.world.candidates["a"] = promoted("X", "Y");
  driver.run_for(kRound);
  ASSERT_EQ(driver.session.lease_until(), TimePoint{});
  driver.world.candidates.erase("a");
  for (int i = 0; i < 20; ++i) {
    driver.run_for(kRound / 2);
    ASSERT_EQ(driver.session.lease_until(), TimePoint{}) << i;
  }
}

TEST(SessionProofs, AWitnessThatIsMerelyMissingLetsTheLeaseRunOut) {
  Driver driver = leased_driver(options_with(true, WitnessMode::kReplicas));
  driver.tick_when_due();
  const TimePoint until = driver.session.lease_until();
  driver.candidate_silent("a");
  driver.world.candidates.erase("a");
  driver.settle();
  EXPECT_TRUE(driver.leased()) << "what it said last is still so";
  driver.run_for(kLease);
  EXPECT_LE(driver.session.lease_until(), until + 1ms);
  EXPECT_FALSE(driver.leased());
  EXPECT_NE(driver.session.why_no_lease(), "") << "there is no newer one";
}

TEST(SessionProofs, AMasterThatBecameAReplicaIsLeft) {
  Driver driver = leased_driver(options_with(false));
  driver.tick_when_due();
  const Actions actions = driver.data_said(replica_of("X"));
  ASSERT_EQ(kinds(actions), Kinds{Kind::kLeaveMaster});
  EXPECT_NE(actions[0].reason.find("replica"), std::string::npos);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_EQ(driver.session.next_tick(), std::nullopt) << "it waits for stream_down";
  EXPECT_TRUE(driver.settle().empty());
  EXPECT_TRUE(driver.tick().empty());
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
  EXPECT_EQ(kinds(driver.stream_down()), Kinds{Kind::kBarFills});
}

TEST(SessionProofs, AMasterThatBecameAReplicaIsLeftWhateverIsUnderWay) {
  for (const bool is_late : {false, true}) {
    for (const bool is_joining : {false, true}) {
      Driver driver = leased_driver(options_with(false));
      if (is_joining) {
        driver.reconnect();
        driver.world.mute = {Kind::kAskMaster, Kind::kAskHistory};
      } else {
        driver.world.mute = {Kind::kAskMaster};
        driver.tick_when_due();
      }
      driver.settle();
      if (is_late) driver.run_for(3 * kRound);
      const Actions actions = driver.data_said(replica_of(is_late ? "Y" : "X"));
      ASSERT_EQ(kinds(actions), Kinds{Kind::kLeaveMaster}) << "no other question leaves, either";
      // What comes before the links are closed changes nothing.
      driver.world.mute = {};
      EXPECT_TRUE(driver.settle().empty());
      EXPECT_TRUE(driver.data_up().empty());
      EXPECT_EQ(driver.session.next_tick(), std::nullopt);
      EXPECT_EQ(driver.session.lease_until(), TimePoint{});
      EXPECT_FALSE(driver.session.fills_allowed());
    }
  }
}

TEST(SessionProofs, AStreamThatIsRedialledAlreadyIsNotLeftOnceMore) {
  Driver driver = leased_driver(options_with(false));
  driver.world.mute = {Kind::kSendPing};
  driver.run_for(kRound);
  driver.world.mute = {Kind::kSendPing, Kind::kAskMaster};
  ASSERT_TRUE(has(driver.run_for(kStreamTimeout), Kind::kRedialStream));
  EXPECT_TRUE(driver.data_said(replica_of("X")).empty());
}

TEST(SessionProofs, AMasterWithANewReplicationIdIsLeft) {
  Driver driver = leased_driver(options_with(false));
  driver.tick_when_due();
  const Actions actions = driver.data_said(promoted("X", "X2"));
  ASSERT_EQ(kinds(actions), Kinds{Kind::kLeaveMaster});
  EXPECT_NE(actions[0].reason.find("promoted"), std::string::npos);
  EXPECT_EQ(driver.session.lease_until(), TimePoint{});
}

TEST(SessionProofs, WitnessMinIsTheWeakestThatIsTaken) {
  struct Case {
    WitnessMode min;
    std::set<std::string> mute;
    std::optional<WitnessMode> with_sentinels;
    std::optional<WitnessMode> without;
  };
  const std::vector<Case> cases = {
      {WitnessMode::kNone, {}, WitnessMode::kReplicas, WitnessMode::kReplicas},
      {WitnessMode::kNone, {"a"}, WitnessMode::kSentinels, WitnessMode::kNone},
      {WitnessMode::kSentinels, {"a"}, WitnessMode::kSentinels, std::nullopt},
      {WitnessMode::kReplicas, {"a"}, std::nullopt, std::nullopt},
      {WitnessMode::kReplicas, {}, WitnessMode::kReplicas, WitnessMode::kReplicas},
  };
  for (const bool has_sentinels : {true, false}) {
    for (const Case& one : cases) {
      if (!has_sentinels && one.min == WitnessMode::kSentinels) continue;
      Driver driver{options_with(has_sentinels, one.min)};
      driver.world = two_replicas();
      driver.world.mute_candidates = one.mute;
      driver.connect();
      driver.run_for(3 * kRound);
      const auto expected = has_sentinels ? one.with_sentinels : one.without;
      EXPECT_EQ(driver.leased(), expected.has_value());
      if (!expected) continue;
      EXPECT_EQ(driver.session.witness_mode(), *expected);
    }
  }
}

TEST(SessionProofs, ALoneMasterIsItsOwnBound) {
  Driver driver{options_with(false)};
  driver.connect_and_lease();
  EXPECT_EQ(driver.session.witness_mode(), WitnessMode::kNone);
  EXPECT_EQ(driver.session.proven_at(), driver.now - 1ms);
}

TEST(SessionReplay, NothingIsGrantedWhileInvalidationsWait) {
  Driver driver;
  driver.connect_and_lease();
  const TimePoint until = driver.session.lease_until();
  driver.replay_waits(true);
  driver.run_for(1s);
  EXPECT_LE(driver.session.lease_until(), until);
  EXPECT_FALSE(driver.leased());
  EXPECT_NE(driver.session.why_no_lease().find("replayed"), std::string::npos);
  driver.reconnect();
  driver.settle();
  EXPECT_EQ(driver.session.lease_until(), TimePoint{}) << "nor in the next epoch";
  driver.run_for(kRound);
  driver.replay_waits(false);
  EXPECT_TRUE(driver.leased()) << "at once, the proofs are there";
}

TEST(SessionForeign, EachNewEpochDropsL1) {
  Driver driver{
      {.lease = kLease, .stream_timeout = kStreamTimeout, .observes_foreign_writers = true}};
  driver.connect_and_lease();
  driver.write(change_of({"k"}, 10));
  driver.stream_down();
  EXPECT_EQ(deeds(driver.stream_up()), (Kinds{Kind::kBarFills, Kind::kDropAll}));
  EXPECT_EQ(driver.asked_from(), kVersionUnknown);
  driver.settle();
  EXPECT_TRUE(driver.leased());
  EXPECT_EQ(driver.session.epochs_warm(), 0U);
}

TEST(SessionForeign, AChangeEvictsHardWhateverL1Has) {
  Driver driver{
      {.lease = kLease, .stream_timeout = kStreamTimeout, .observes_foreign_writers = true}};
  driver.connect_and_lease();
  EXPECT_EQ(evicted(driver.foreign_change({"b", "a"})), (Keys{"b!", "a!"}));
  EXPECT_EQ(kinds(driver.foreign_flush()), Kinds{Kind::kDropAll});
  EXPECT_TRUE(driver.leased()) << "the stream is unbroken";
  EXPECT_TRUE(driver.session.fills_allowed());
}

}  // namespace
}  // namespace tiercel::coherence
