// Stories in which the Session once did not keep what docs/design/coherence.md promises.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

// Our master M of branch X is turned into a replica of a server whose branch Y left X before
// message 10 (REPLICAOF closes no connection), and has caught up before it is asked the next time.
// There "k" still has version 5, which is read and goes into L1. Then Z is promoted from X, with
// all of X: the write of version 10, whose message was applied long ago, is on it, and is not in
// L1. It is not among the keys ahead, since 5 is before what is confirmed, so the stale value stays
// until its TTL.
TEST(SessionGaps, AFillFromAServerThatHadGoneOverDoesNotOutliveTheEpoch) {
  Driver driver = at_ten();
  driver.session.note_fill("k", 5);
  driver.tick_when_due();
  ASSERT_EQ(kinds(driver.data_said(replica_of("Y"))), Kinds{Kind::kLeaveMaster});
  driver.world.master = promoted("X", "Y");  // kOther's branch: the one that counts.
  driver.data_down();
  driver.reconnect(kOther);
  EXPECT_EQ(evicted(driver.settle()), Keys{"k!"});
  EXPECT_TRUE(driver.leased());
}

// M answered as master of X; then it is turned into a replica of Y's server, and has caught up when
// the history is read from it. What was written on X while S was down, 11, is in neither. S's ping
// and the master's word are from before, so the lease is granted until that word + Δ, though the
// write 11 was acknowledged before.
TEST(SessionGaps, TheLeaseRestsOnAMasterThatWasAskedAfterTheHistoryWasRead) {
  Driver driver = at_ten();
  driver.stream_down();
  driver.now += 10ms;
  // Acknowledged here by M, whose other clients go on: version 11, of "k".
  driver.now += 10ms;
  driver.stream_up();
  driver.now += 1ms;
  driver.pong();
  driver.data_said(master_of("X"));
  driver.now += kRound / 2;
  // By now M follows Y.
  driver.history_said({.entries = {change_of({"k"}, 10), change_of({"other"}, 12)}});
  EXPECT_EQ(driver.session.lease_until(), TimePoint{})
      << "that the history is that of X nobody has said";
}

// D is on the other server for a moment, S stays. What was read there has not landed yet when D is
// back (its tags are asked of Redis first, cache/src/reads.cc): fills_allowed() is true again and
// nothing bars it.
TEST(SessionGaps, WhatWasReadOnAnotherServerIsBarredWhenTheDataConnectionIsBack) {
  Driver driver = at_ten();
  Actions all = driver.data_up(kOther);
  driver.data_down();
  for (const auto& action : driver.data_up(kServer)) all.push_back(action);
  EXPECT_TRUE(driver.session.fills_allowed());
  EXPECT_TRUE(has(all, Kind::kBarFills));
}

// The master's replication id changes (its first replica attaches; it is demoted and promoted
// again) while S is down. S learns the new one; D has the old one, and is never asked. Redialling S
// again and again does not help: D is what must be left.
TEST(SessionGaps, ADataConnectionThatKnowsAnOldIdIsLeft) {
  Driver driver = at_ten();
  Server renamed = kServer;
  renamed.replication_id = "X2";
  driver.world.master = master_of("X2", {"a"});
  driver.world.candidates = {{"a", replica_of("X2")}};
  driver.stream_down();
  driver.stream_up(renamed);
  bool is_left = false;
  for (int i = 0; i < 20 && !is_left; ++i) {
    const Actions actions = driver.run_for(2 * kStreamTimeout);
    is_left = has(actions, Kind::kLeaveMaster);
    if (!has(actions, Kind::kRedialStream)) continue;
    driver.stream_down();
    driver.stream_up(renamed);
  }
  EXPECT_TRUE(is_left);
}

}  // namespace
}  // namespace tiercel::coherence
