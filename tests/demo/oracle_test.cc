// The oracle, one read at a time: what it must let pass, and what it must catch.

#include "fleet/oracle.h"

#include <gtest/gtest.h>

#include <vector>

#include "failover/board.h"

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kKey = 5;

// Times are milliseconds; the lease is 500 of them, so a read may be behind by 550.
class OracleTest : public ::testing::Test {
 protected:
  static Board make_board() {
    BoardConfig config;
    config.key_count = 10;
    config.log_capacity = 1000;
    config.lease_ms = 500;
    auto board = Board::create(config, {});
    return std::move(board).value();
  }
  static TimePoint at(int milliseconds) {
    return TimePoint{1h + std::chrono::milliseconds{milliseconds}};
  }

  // The write `sequence` has version 100 + sequence.
  void acked(std::uint32_t sequence, int milliseconds) {
    ASSERT_TRUE(
        oracle_.record_write(kKey, sequence, Outcome::kAcked, 100 + sequence, at(milliseconds)));
  }
  void ended(std::uint32_t sequence, Outcome outcome, int milliseconds) {
    ASSERT_TRUE(oracle_.record_write(kKey, sequence, outcome, 0, at(milliseconds)));
  }
  void read(std::uint32_t sequence, int began_at, bool from_l1 = true) {
    oracle_.judge_read(kKey, seen(sequence), at(began_at), from_l1);
  }
  static Seen seen(std::uint32_t sequence) {
    return {.sequence = sequence, .version = sequence == 0 ? 0U : 100U + sequence};
  }
  // With all of these writes in the final master's history.
  Verdict verdict(std::vector<std::uint32_t> living) {
    std::vector<std::uint64_t> versions;
    for (const std::uint32_t sequence : living) versions.push_back(100 + sequence);
    return judge_run(board_.log(), History{versions});
  }

  Board board_ = make_board();
  Oracle oracle_{board_.log()};
};

TEST_F(OracleTest, NothingWrittenNothingWrong) {
  read(0, 0);
  const Verdict found = verdict({});
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.worst_staleness, Duration{0});
}

TEST_F(OracleTest, TheLatestOrALaterWriteIsNeverStale) {
  acked(1, 0);
  acked(2, 100);
  read(2, 100'000);
  read(3, 100'000);  // Not acknowledged yet, but already seen.
  const Verdict found = verdict({1, 2});
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.worst_staleness, Duration{0});
}

TEST_F(OracleTest, BehindWithinTheBoundIsMeasuredNotBlamed) {
  acked(1, 0);
  acked(2, 1000);
  read(1, 1550);  // Exactly the bound: not acknowledged *before* t - 550 ms.
  const Verdict found = verdict({1, 2});
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.worst_staleness, 550ms);
}

TEST_F(OracleTest, ADeliberatelyStaleReaderIsCaught) {
  acked(1, 0);
  acked(2, 1000);
  read(1, 1551);
  read(1, 1552);
  read(1, 1700, /*from_l1=*/false);  // Redis must not be stale either,
  const Verdict found = verdict({1, 2});
  EXPECT_EQ(found.stale_beyond_bound, 3U);
  EXPECT_EQ(found.worst_staleness, 552ms);  // but the measure is L1's.
}

TEST_F(OracleTest, AValueThatVanishedIsStale) {
  acked(1, 0);
  read(0, 1000);
  EXPECT_EQ(verdict({1}).stale_beyond_bound, 1U);
}

TEST_F(OracleTest, AWriteAcknowledgedAfterTheReadBeganIsNotMissed) {
  acked(1, 0);
  acked(2, 1000);
  read(1, 999);
  read(1, 1000);
  EXPECT_EQ(verdict({1, 2}).worst_staleness, Duration{0});
}

TEST_F(OracleTest, StalenessCountsFromTheOldestMissedWrite) {
  acked(1, 0);
  acked(2, 1000);
  acked(3, 1300);
  read(1, 1400);
  EXPECT_EQ(verdict({1, 2, 3}).worst_staleness, 400ms);
}

TEST_F(OracleTest, OneReadThatMissedManyWritesCountsOnce) {
  for (std::uint32_t i = 1; i <= 50; ++i) acked(i, static_cast<int>(i));
  read(3, 10'000);
  read(3, 10'000);
  read(4, 10'000);
  std::vector<std::uint32_t> all;
  for (std::uint32_t i = 1; i <= 50; ++i) all.push_back(i);
  EXPECT_EQ(verdict(all).stale_beyond_bound, 3U);
}

TEST_F(OracleTest, WritesLostWithTheOldMasterAreSetApart) {
  acked(1, 0);
  acked(2, 1000);
  acked(3, 1001);
  read(1, 5000);
  const Verdict found = verdict({1});
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.lost_branch_reads, 1U);
  EXPECT_EQ(found.writes_lost, 2U);
  EXPECT_EQ(found.worst_staleness, Duration{0});
}

TEST_F(OracleTest, ALostWriteDoesNotHideALivingOne) {
  acked(1, 0);
  acked(2, 1000);  // Lost.
  acked(3, 3000);  // On the new master.
  read(1, 4000);
  const Verdict found = verdict({1, 3});
  EXPECT_EQ(found.stale_beyond_bound, 1U);
  EXPECT_EQ(found.lost_branch_reads, 0U);
  EXPECT_EQ(found.worst_staleness, 1000ms);  // Behind the living one.

  read(1, 3100);  // Behind the living one within the bound, beyond it only behind the lost.
  EXPECT_EQ(verdict({1, 3}).stale_beyond_bound, 1U);
  EXPECT_EQ(verdict({1, 3}).lost_branch_reads, 1U);
}

TEST_F(OracleTest, WritesOfUnknownOutcomeAndFailedOnesRaiseNoFloor) {
  acked(1, 0);
  ended(2, Outcome::kUnknown, 1000);
  ended(3, Outcome::kFailed, 1001);
  read(1, 5000);
  read(2, 5000);
  const Verdict found = verdict({1});
  EXPECT_EQ(found.stale_beyond_bound, 0U);
  EXPECT_EQ(found.writes_lost, 0U);
  EXPECT_EQ(found.worst_staleness, Duration{0});
}

TEST_F(OracleTest, AnUnknownWriteThatWasExecutedLateIsNotStale) {
  acked(1, 0);
  ended(2, Outcome::kUnknown, 1000);
  acked(3, 1100);
  // 2 reached Redis after 3.
  oracle_.judge_read(kKey, {.sequence = 2, .version = 500}, at(5000), true);
  oracle_.judge_order(kKey, seen(3), {.sequence = 2, .version = 500});
  EXPECT_EQ(verdict({1, 3}).stale_beyond_bound, 0U);
  EXPECT_EQ(verdict({1, 3}).monotonic_violations, 0U);
  // 2 was executed before 3, and 3 is missed. Nor does a high version excuse a known write.
  oracle_.judge_read(kKey, {.sequence = 2, .version = 102}, at(5000), true);
  oracle_.judge_read(kKey, {.sequence = 1, .version = 500}, at(5000), true);
  oracle_.judge_order(kKey, seen(3), {.sequence = 2, .version = 102});
  oracle_.judge_order(kKey, seen(3), {.sequence = 1, .version = 500});
  EXPECT_EQ(verdict({1, 3}).stale_beyond_bound, 2U);
  EXPECT_EQ(verdict({1, 3}).monotonic_violations, 2U);
}

TEST_F(OracleTest, KeysAreJudgedByThemselves) {
  acked(1, 0);
  acked(2, 10);
  oracle_.judge_read(kKey + 1, seen(0), at(5000), true);
  EXPECT_EQ(verdict({1, 2}).stale_beyond_bound, 0U);
}

TEST_F(OracleTest, GoingBackIsCaught) {
  for (std::uint32_t i = 1; i <= 3; ++i) acked(i, static_cast<int>(i));
  oracle_.judge_order(kKey, seen(2), seen(2));
  oracle_.judge_order(kKey, seen(2), seen(3));
  EXPECT_EQ(verdict({1, 2, 3}).monotonic_violations, 0U);
  oracle_.judge_order(kKey, seen(3), seen(2));
  oracle_.judge_order(kKey, seen(3), seen(0));
  EXPECT_EQ(verdict({1, 2, 3}).monotonic_violations, 2U);
}

TEST_F(OracleTest, GoingBackBehindALostWriteIsSetApart) {
  acked(1, 0);
  acked(2, 1000);
  oracle_.judge_order(kKey, seen(2), seen(1));
  EXPECT_EQ(verdict({1}).monotonic_violations, 0U);
  EXPECT_EQ(verdict({1}).lost_branch_reads, 1U);
}

// Two masters at a time can give the same version: the key tells which branch it was of.
TEST_F(OracleTest, AnEntryOfAnotherKeyDoesNotSaveAWrite) {
  acked(1, 0);
  acked(2, 1000);
  read(1, 5000);
  const JudgeOptions named{.name_of_key = [](std::uint32_t) { return std::string{"ours"}; },
                           .branch_ended_at = std::nullopt};
  const auto judged = [&](const std::string& key_of_2) {
    return judge_run(board_.log(),
                     History{std::vector<History::Entry>{{101, {"ours"}}, {102, {key_of_2}}}},
                     named);
  };
  EXPECT_EQ(judged("ours").writes_lost, 0U);
  EXPECT_EQ(judged("ours").stale_beyond_bound, 1U);
  EXPECT_EQ(judged("another").writes_lost, 1U);
  EXPECT_EQ(judged("another").stale_beyond_bound, 0U);
}

TEST_F(OracleTest, ALostWriteMayBeServedForAWhileAfterItsBranchEnded) {
  acked(1, 0);
  acked(2, 1000);
  read(2, 2000);
  const auto ghosts = [&](int ended_at) {
    return judge_run(board_.log(), History{std::vector<std::uint64_t>{101}},
                     {.name_of_key = {}, .branch_ended_at = at(ended_at)});
  };
  EXPECT_EQ(ghosts(1450).ghosts, 0U);
  EXPECT_EQ(ghosts(1450).worst_ghost, 550ms);
  EXPECT_EQ(ghosts(1449).ghosts, 1U);
  EXPECT_EQ(ghosts(2000).ghosts, 0U);
  EXPECT_EQ(verdict({101, 102}).ghosts, 0U);
}

TEST(OracleTableTest, WhatTheTableCannotHoldCountsAsWrong) {
  constexpr std::uint32_t kReads = 70'000;
  BoardConfig config;
  config.key_count = kReads;
  config.log_capacity = kReads;
  auto board = Board::create(config, {});
  ASSERT_TRUE(board);
  Oracle oracle{board->log()};
  // Every read misses a write of its own.
  for (std::uint32_t key = 0; key < kReads; ++key) {
    ASSERT_TRUE(oracle.record_write(key, 1, Outcome::kAcked, 1 + key, TimePoint{1h}));
    oracle.judge_read(key, Seen{}, TimePoint{2h}, true);
  }
  // All of them were lost, so blamed is only what could not be noted down.
  const Verdict found = judge_run(board->log(), History{std::vector<std::uint64_t>{}});
  EXPECT_GE(found.suspects_overflowed, kReads - Suspects::kSlots);
  EXPECT_EQ(found.stale_beyond_bound, found.suspects_overflowed);
  EXPECT_EQ(found.stale_beyond_bound + found.lost_branch_reads, kReads);
}

}  // namespace
}  // namespace tiercel::failover
