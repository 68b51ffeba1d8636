#include "tiercel/coherence/audit_judge.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "tiercel/base/random.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;
using Kind = AuditVerdict::Kind;

constexpr Version kAll = AuditEvidence::kAll;
constexpr TimePoint kStart{1000s};

TimePoint at(int ms) { return kStart + std::chrono::milliseconds{ms}; }

// Of version 10, answered at 1000 ms with a proof of 900 ms.
constexpr AuditedHit kHit{
    .version = 10, .epoch = 1, .proven_at = kStart + 900ms, .at = kStart + 1000ms};

AuditEvidence changes(std::vector<Version> versions) {
  return {.changes = std::move(versions), .searched_from = 10, .searched_to = kAll};
}

AuditJudge begun() {
  AuditJudge judge;
  judge.begin_epoch(1, at(0));
  return judge;
}

TEST(AuditJudge, WhatDidNotChangeIsFresh) {
  EXPECT_EQ(begun().judge(kHit, changes({})).kind, Kind::kFresh) << "no probe is needed for that";
}

TEST(AuditJudge, AChangeThatAProbeSawBeforeTheProofIsAViolation) {
  AuditJudge judge = begun();
  judge.probed(at(500), at(501), 11);
  judge.probed(at(600), at(602), 15);
  const auto verdict = judge.judge(kHit, changes({13, 20}));
  EXPECT_EQ(verdict.kind, Kind::kViolation);
  EXPECT_EQ(verdict.change, 13U);
  EXPECT_EQ(verdict.at_least, 398ms) << "it was there when the answer came";
  EXPECT_EQ(verdict.at_most, 500ms) << "and not yet when the question before was sent";
}

TEST(AuditJudge, TheProofIsTheLimit) {
  for (const int late_ns : {0, 1}) {
    AuditJudge judge = begun();
    judge.probed(at(800), at(801), 10);
    judge.probed(at(899), kHit.proven_at + Duration{late_ns}, 11);
    const auto verdict = judge.judge(kHit, changes({11}));
    EXPECT_EQ(verdict.kind, late_ns == 0 ? Kind::kViolation : Kind::kStaleWithinBound);
    EXPECT_EQ(verdict.at_least, 100ms - Duration{late_ns});
    EXPECT_EQ(verdict.at_most, 200ms);
  }
}

TEST(AuditJudge, WhatChangedAfterTheHitIsFresh) {
  AuditJudge judge = begun();
  judge.probed(at(900), at(901), 10);
  judge.probed(at(1000), at(1001), 12);  // Sent at the hit, and has not seen 13.
  judge.probed(at(1100), at(1101), 13);
  EXPECT_EQ(judge.judge(kHit, changes({13})).kind, Kind::kFresh);
  EXPECT_EQ(judge.judge(kHit, changes({12, 13})).kind, Kind::kStaleWithinBound);
}

TEST(AuditJudge, WhatMayHaveChangedBeforeTheHitCountsAsStale) {
  AuditJudge judge = begun();
  judge.probed(at(980), at(981), 10);
  judge.probed(at(1080), at(1081), 13);
  const auto verdict = judge.judge(kHit, changes({13}));
  EXPECT_EQ(verdict.kind, Kind::kStaleWithinBound);
  EXPECT_EQ(verdict.at_least, 0ms);
  EXPECT_EQ(verdict.at_most, 20ms);
}

TEST(AuditJudge, ProbesThatSawTheSameCountAsOne) {
  AuditJudge judge = begun();
  judge.probed(at(100), at(101), 11);
  judge.probed(at(200), at(201), 11);
  judge.probed(at(300), at(301), 12);
  EXPECT_EQ(judge.judge(kHit, changes({11})).at_least, 899ms) << "by the first answer";
  EXPECT_EQ(judge.judge(kHit, changes({12})).at_most, 800ms) << "by the last question";
}

TEST(AuditJudge, WithoutProbesAChangeSaysNothing) {
  EXPECT_EQ(begun().judge(kHit, changes({11})).kind, Kind::kInconclusive);
  AuditJudge judge = begun();
  judge.probed(at(950), at(960), 11);  // The first one, too late to prove anything.
  EXPECT_EQ(judge.judge(kHit, changes({11})).kind, Kind::kInconclusive);
}

TEST(AuditJudge, ATrimmedHistoryProvesViolationsAndNothingElse) {
  AuditJudge judge = begun();
  judge.probed(at(500), at(501), 15);
  AuditEvidence trimmed = changes({});
  trimmed.searched_from = 14;
  EXPECT_EQ(judge.judge(kHit, trimmed).kind, Kind::kInconclusive);
  trimmed.changes = {15};
  const auto verdict = judge.judge(kHit, trimmed);
  EXPECT_EQ(verdict.kind, Kind::kViolation);
  EXPECT_EQ(verdict.at_least, 499ms);
  EXPECT_FALSE(verdict.at_most) << "it may be the second change";
}

TEST(AuditJudge, ALaterChangeIsJudgedWhereTheHistoryReachesBackToTheProof) {
  AuditJudge judge = begun();
  judge.probed(at(800), at(801), 15);
  judge.probed(at(960), at(961), 15);
  judge.probed(at(980), at(981), 20);
  AuditEvidence evidence = changes({17});
  evidence.searched_from = 15;
  const auto verdict = judge.judge(kHit, evidence);
  EXPECT_EQ(verdict.kind, Kind::kStaleWithinBound);
  EXPECT_EQ(verdict.at_most, 40ms);
  evidence.searched_from = 16;
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kInconclusive) << "16 may be another one";
}

TEST(AuditJudge, WhatWasNotSearchedMayHoldTheFirstChange) {
  AuditJudge judge = begun();
  judge.probed(at(950), at(951), 20);
  judge.probed(at(960), at(961), 28);
  judge.probed(at(970), at(971), 30);
  AuditEvidence evidence = changes({});
  evidence.searched_to = 25;
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kInconclusive);
  // Seen elsewhere than in the pages: whether it is the first one is not known.
  evidence.changes = {30};
  const auto verdict = judge.judge(kHit, evidence);
  EXPECT_EQ(verdict.kind, Kind::kStaleWithinBound);
  EXPECT_EQ(verdict.at_least, 29ms);
  EXPECT_EQ(verdict.at_most, 50ms);
  // All that was not searched was made after the hit.
  judge.probed(at(1000), at(1001), 30);
  evidence.changes = {};
  evidence.searched_to = 30;
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kFresh);
}

TEST(AuditJudge, AnotherValueThatNothingExplainsIsInconclusive) {
  AuditJudge judge = begun();
  judge.probed(at(500), at(501), 15);
  judge.probed(at(1000), at(1001), 15);
  AuditEvidence evidence = changes({});
  evidence.is_unexplained = true;
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kInconclusive);
  evidence.changes = {16};  // After the hit: it may have been another by then already.
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kInconclusive);
  evidence.changes = {15};
  EXPECT_EQ(judge.judge(kHit, evidence).kind, Kind::kViolation) << "proven all the same";
}

TEST(AuditJudge, AHitIsVoidUnlessItsProofIsOfTheEpoch) {
  AuditJudge judge;
  judge.begin_epoch(1, at(900));
  EXPECT_TRUE(judge.covers(kHit));
  judge.begin_epoch(1, kHit.proven_at + 1ns);
  EXPECT_FALSE(judge.covers(kHit)) << "the value may be older than the epoch";
  judge.begin_epoch(2, at(0));
  EXPECT_FALSE(judge.covers(kHit));
}

TEST(AuditJudge, AnEpochForgetsTheProbesOfTheLast) {
  AuditJudge judge = begun();
  judge.probed(at(500), at(501), 15);
  EXPECT_EQ(judge.known_before(at(501)), 15U);
  judge.begin_epoch(2, at(600));
  EXPECT_EQ(judge.known_before(at(900)), kVersionUnknown);
}

TEST(AuditJudge, AResetHistoryVoidsWhatWasBefore) {
  AuditJudge judge = begun();
  judge.probed(at(500), at(501), 15);
  judge.probed(at(910), at(911), kVersionUnknown);
  EXPECT_FALSE(judge.covers(kHit));
  EXPECT_EQ(judge.known_before(at(1000)), kVersionUnknown);
  AuditedHit later = kHit;
  later.proven_at = at(911);
  EXPECT_TRUE(judge.covers(later));
}

TEST(AuditJudge, ItRemembersABoundedNumberOfProbes) {
  AuditJudge judge = begun();
  constexpr int kProbes = static_cast<int>(AuditJudge::kProbesMax);
  for (int i = 0; i <= kProbes; ++i) judge.probed(at(i), at(i), 11 + static_cast<Version>(i));
  EXPECT_EQ(judge.known_before(at(0)), kVersionUnknown) << "the first one is forgotten";
  EXPECT_EQ(judge.known_before(at(1)), 12U);
  const auto verdict = judge.judge(kHit, changes({11}));
  EXPECT_EQ(verdict.kind, Kind::kViolation) << "what is older than all is proven by the oldest";
  EXPECT_EQ(verdict.at_least, 999ms);
  // A quiet time takes no room.
  for (int i = 0; i <= kProbes; ++i) judge.probed(at(900), at(900), 11 + kProbes);
  EXPECT_EQ(judge.known_before(at(1)), 12U);
}

// A world that knows when everything was executed; the judge sees probes with random delays, and a
// history that is searched in part.
TEST(AuditJudge, IsNeverWrongAndMissesNothingThatIsFarOut) {
  const std::uint64_t seed = entropy_u64();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  int violations = 0;
  int fresh = 0;
  int stale = 0;
  for (int round = 0; round < 20000; ++round) {
    // Version v is executed at execution[v]; each third is a change of the entry.
    std::vector<TimePoint> execution{kStart};
    while (execution.size() < 60) {
      execution.push_back(execution.back() + Duration{1 + random.below(20'000'000)});
    }
    const auto newest_at = [&](TimePoint time) {
      return static_cast<Version>(std::upper_bound(execution.begin() + 1, execution.end(), time) -
                                  execution.begin() - 1);
    };
    AuditJudge judge;
    judge.begin_epoch(1, kStart);
    constexpr Duration kDelayMax = 5ms;
    constexpr Duration kProbeEvery = 20ms;
    const auto delay = [&] { return Duration{random.below(kDelayMax.count())}; };
    for (TimePoint sent = kStart; sent < execution.back() + 100ms; sent += kProbeEvery) {
      const TimePoint executed = sent + delay();
      judge.probed(sent, executed + delay(), newest_at(executed));
    }
    AuditedHit hit{.version = 1 + random.below(40), .epoch = 1};
    hit.at = execution[hit.version] + Duration{random.below(400'000'000)};
    hit.proven_at = std::max(kStart, hit.at - Duration{random.below(200'000'000)});
    AuditEvidence evidence{.searched_from = hit.version, .searched_to = kAll};
    if (random.below(4) == 0) evidence.searched_from = hit.version + random.below(10);
    if (random.below(4) == 0) evidence.searched_to = hit.version + 10 + random.below(30);
    std::optional<Version> first;
    for (Version v = hit.version + 1; v < execution.size(); ++v) {
      if (v % 3 != 0) continue;
      if (!first) first = v;
      if (v > evidence.searched_from && v <= evidence.searched_to) evidence.changes.push_back(v);
    }
    const auto verdict = judge.judge(hit, evidence);
    const bool is_searched = evidence.searched_from == hit.version;
    if (verdict.kind == Kind::kViolation) {
      ++violations;
      ASSERT_TRUE(first);
      EXPECT_LT(execution[*first], hit.proven_at);
      EXPECT_LE(verdict.at_least, hit.at - execution[*first]);
      EXPECT_GE(verdict.at_most.value_or(Duration::max()), hit.at - execution[*first]);
    } else if (verdict.kind == Kind::kFresh && is_searched) {
      ++fresh;
      EXPECT_TRUE(!first || execution[*first] >= hit.at);
    } else if (verdict.kind == Kind::kStaleWithinBound && is_searched) {
      ++stale;
      ASSERT_TRUE(verdict.at_most);
      EXPECT_GE(*verdict.at_most, hit.at - execution[*first]);
      EXPECT_LE(verdict.at_least, std::max(Duration{0}, hit.at - execution[*first]));
    }
    const bool is_far_out = first && is_searched && *first <= evidence.searched_to &&
                            execution[*first] + kProbeEvery + 2 * kDelayMax < hit.proven_at;
    EXPECT_TRUE(!is_far_out || verdict.kind == Kind::kViolation);
  }
  EXPECT_GT(violations, 1000);
  EXPECT_GT(fresh, 100);
  EXPECT_GT(stale, 100);
}

}  // namespace
}  // namespace tiercel::coherence
