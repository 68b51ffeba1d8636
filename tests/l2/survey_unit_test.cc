// What a survey of the Sentinels means, and what they published of a failover, without a socket.

#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <string>
#include <vector>

#include "failover_signs.h"
#include "tiercel/l2/sentinel_survey.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using Kind = SentinelEvent::Kind;

constexpr TimePoint kStart{1000s};

Endpoint at(std::uint16_t port) { return {"10.0.0.1", port, {}}; }

TEST(SentinelFlagsTest, ReadsTheWordsThatMatter) {
  EXPECT_EQ(SentinelFlags::parse("master"), SentinelFlags{});
  EXPECT_EQ(SentinelFlags::parse(""), SentinelFlags{});
  EXPECT_EQ(SentinelFlags::parse("s_down,o_down,master,disconnected"),
            (SentinelFlags{.s_down = true, .o_down = true, .disconnected = true}));
  EXPECT_EQ(SentinelFlags::parse("master,failover_in_progress"),
            (SentinelFlags{.failover_in_progress = true}));
  EXPECT_EQ(SentinelFlags::parse("master,force_failover"),
            (SentinelFlags{.failover_in_progress = true}));
  EXPECT_EQ(SentinelFlags::parse("slave,promoted"), (SentinelFlags{.promoted = true}));
  EXPECT_EQ(SentinelFlags::parse("slave,s_downer,not_o_down"), SentinelFlags{});
}

class SentinelSurveyTest : public ::testing::Test {
 protected:
  // Three Sentinels, all of which name server 1, and list server 2 as its replica.
  SentinelSurveyTest() {
    survey_.known = 3;
    for (std::uint16_t i = 1; i <= 3; ++i) {
      survey_.views.push_back({.sentinel = at(static_cast<std::uint16_t>(100 + i)),
                               .master = at(1),
                               .replicas = {{.endpoint = at(2), .master = at(1)}},
                               .is_heard = true,
                               .heard_for = 1s});
    }
  }
  [[nodiscard]] bool calm_with(const std::function<void(SentinelSurvey&)>& change) const {
    SentinelSurvey changed = survey_;
    change(changed);
    return changed.is_calm(at(1));
  }

  SentinelSurvey survey_;
};

TEST_F(SentinelSurveyTest, IsCalmWhenNobodyKnowsOfAnythingElse) {
  EXPECT_TRUE(survey_.is_calm(at(1)));
  EXPECT_FALSE(survey_.is_calm(at(2)));
  EXPECT_FALSE(calm_with([](SentinelSurvey& survey) { survey.views[1].master = at(2); }));
  EXPECT_TRUE(
      calm_with([](SentinelSurvey& survey) { survey.views[1].master_flags.s_down = true; }));
  EXPECT_FALSE(
      calm_with([](SentinelSurvey& survey) { survey.views[1].master_flags.o_down = true; }));
  EXPECT_FALSE(calm_with(
      [](SentinelSurvey& survey) { survey.views[1].master_flags.failover_in_progress = true; }));
  EXPECT_FALSE(
      calm_with([](SentinelSurvey& survey) { survey.views[1].replicas[0].flags.promoted = true; }));
  EXPECT_FALSE(calm_with([](SentinelSurvey& survey) { survey.views[1].is_tilted = true; }));
  EXPECT_FALSE(calm_with([](SentinelSurvey& survey) { survey.views[1].is_heard = false; }));
  EXPECT_FALSE(calm_with([](SentinelSurvey& survey) { survey.views.clear(); }));
}

TEST_F(SentinelSurveyTest, TheFailoverThatMadeItTheMasterIsNoSignOfAnother) {
  const auto leader_says = [](SentinelSurvey& survey) {
    SentinelView& leader = survey.views[1];
    leader.flagged_master = at(3);
    leader.master_flags = {.s_down = true, .o_down = true, .failover_in_progress = true};
    leader.replicas = {{.endpoint = at(1), .flags = {.promoted = true}, .master = at(3)},
                       {.endpoint = at(2), .master = at(3)}};
  };
  EXPECT_TRUE(calm_with(leader_says));
  EXPECT_FALSE(calm_with([&](SentinelSurvey& survey) {
    leader_says(survey);
    survey.views[1].flagged_master = at(1);
  }));
  EXPECT_FALSE(calm_with([&](SentinelSurvey& survey) {
    leader_says(survey);
    survey.views[1].flagged_master = {};
  }));
  EXPECT_FALSE(calm_with([&](SentinelSurvey& survey) {
    leader_says(survey);
    survey.views[1].replicas[1].flags.promoted = true;
  }));
  EXPECT_FALSE(calm_with([&](SentinelSurvey& survey) {
    leader_says(survey);
    survey.views[1].master = at(2);
  }));
}

TEST_F(SentinelSurveyTest, WithoutAllOfThemTheOthersMustHaveBeenHeardForLong) {
  survey_.views.pop_back();
  EXPECT_FALSE(survey_.is_calm(at(1)));
  survey_.views[0].heard_for = SentinelSurvey::kQuietAfter;
  EXPECT_FALSE(survey_.is_calm(at(1)));
  survey_.views[1].heard_for = SentinelSurvey::kQuietAfter;
  EXPECT_TRUE(survey_.is_calm(at(1)));
}

TEST_F(SentinelSurveyTest, IsQuietWhenEverySignIsOldOrSettledOnTheMaster) {
  survey_.signs = {{at(101), 9s, {}}};
  EXPECT_FALSE(survey_.is_quiet(at(1)));
  EXPECT_FALSE(survey_.is_calm(at(1)));
  survey_.signs = {{at(101), SentinelSurvey::kQuietAfter, {}}};
  EXPECT_TRUE(survey_.is_quiet(at(1)));
  survey_.signs = {{at(101), 1s, at(1)}, {at(102), 2s, at(1)}};
  EXPECT_TRUE(survey_.is_quiet(at(1)));
  EXPECT_TRUE(survey_.is_calm(at(1)));
  EXPECT_FALSE(survey_.is_quiet(at(2)));
  survey_.signs.push_back({at(103), 1s, at(2)});
  EXPECT_FALSE(survey_.is_quiet(at(1)));
}

TEST_F(SentinelSurveyTest, CountsWhoSeesAReplicaDown) {
  survey_.views[0].replicas = {{.endpoint = at(3)}, {.endpoint = at(2)}};
  survey_.views[1].replicas[0].flags.s_down = true;
  survey_.views[2].replicas[0].flags.disconnected = true;
  auto replicas = survey_.replicas();
  ASSERT_EQ(replicas.size(), 2u);
  EXPECT_EQ(replicas[0].endpoint, at(3));
  EXPECT_EQ(replicas[0].down_count, 0u);
  EXPECT_EQ(replicas[1].endpoint, at(2));
  EXPECT_EQ(replicas[1].down_count, 2u);
  survey_.views[2].is_tilted = true;
  EXPECT_EQ(survey_.replicas()[1].down_count, 1u);
}

class FailoverSignsTest : public ::testing::Test {
 protected:
  void hear(std::uint64_t sentinel, Kind kind, TimePoint now, std::uint16_t port = 1) {
    signs_.hear(sentinel, {.kind = kind, .endpoint = at(port)}, now);
  }

  FailoverSigns signs_;
};

TEST_F(FailoverSignsTest, EveryWordOfAFailoverIsASignForTenSeconds) {
  for (const Kind kind :
       {Kind::kPromoted, Kind::kOrdered, Kind::kElected, Kind::kCandidacy, Kind::kVote,
        Kind::kAborted, Kind::kFailoverStep, Kind::kOthersMoved, Kind::kSwitched}) {
    FailoverSigns signs;
    signs.hear(7, {.kind = kind, .endpoint = at(2)}, kStart);
    const auto recent = signs.recent(kStart + 10s - 1ms);
    ASSERT_EQ(recent.size(), 1u);
    EXPECT_EQ(recent.at(7).at, kStart);
    EXPECT_EQ(recent.at(7).settled_on.has_value(),
              kind == Kind::kSwitched || kind == Kind::kPromoted);
    EXPECT_TRUE(signs.recent(kStart + 10s).empty());
  }
  for (const Kind kind :
       {Kind::kNewEpoch, Kind::kMasterBack, Kind::kSentinelSeen, Kind::kViewChanged}) {
    hear(7, kind, kStart);
    EXPECT_TRUE(signs_.recent(kStart).empty());
  }
}

TEST_F(FailoverSignsTest, TheLastSignOfEachSentinelCounts) {
  hear(1, Kind::kVote, kStart);
  hear(1, Kind::kSwitched, kStart + 1s, 2);
  hear(2, Kind::kSwitched, kStart + 1s, 2);
  hear(2, Kind::kFailoverStep, kStart + 2s);
  auto recent = signs_.recent(kStart + 3s);
  EXPECT_EQ(recent.at(1).settled_on, at(2));
  EXPECT_FALSE(recent.at(2).settled_on);
  EXPECT_EQ(recent.at(2).at, kStart + 2s);
}

TEST_F(FailoverSignsTest, AfterThePromotionTheLeaderOnlyMovesTheOthers) {
  hear(1, Kind::kOthersMoved, kStart);
  EXPECT_FALSE(signs_.recent(kStart).at(1).settled_on);
  hear(1, Kind::kPromoted, kStart + 1s, 2);
  hear(1, Kind::kOthersMoved, kStart + 2s);
  EXPECT_EQ(signs_.recent(kStart + 2s).at(1).settled_on, at(2));
  EXPECT_EQ(signs_.recent(kStart + 2s).at(1).at, kStart + 2s);
  hear(1, Kind::kCandidacy, kStart + 3s);
  hear(1, Kind::kOthersMoved, kStart + 4s);
  EXPECT_FALSE(signs_.recent(kStart + 4s).at(1).settled_on);
}

TEST_F(FailoverSignsTest, ASignOutlivesTheSubscription) {
  signs_.subscribed(1, kStart);
  EXPECT_EQ(signs_.heard_since(1), kStart);
  EXPECT_FALSE(signs_.heard_since(2));
  hear(1, Kind::kVote, kStart + 1s);
  signs_.unsubscribed(1);
  EXPECT_FALSE(signs_.heard_since(1));
  EXPECT_EQ(signs_.recent(kStart + 2s).size(), 1u);
  signs_.subscribed(1, kStart + 3s);
  EXPECT_EQ(signs_.heard_since(1), kStart + 3s);
  EXPECT_TRUE(signs_.recent(kStart + 11s).empty());
  EXPECT_EQ(signs_.heard_since(1), kStart + 3s);
}

// As published by Redis 7.0.15.
TEST_F(FailoverSignsTest, TheStepsOfAFailoverAreUnderstood) {
  const auto kind_of = [](std::string_view channel, std::string_view payload) {
    const auto event = parse_sentinel_event(channel, payload, "my");
    return event ? std::optional{event->kind} : std::nullopt;
  };
  EXPECT_EQ(kind_of("+odown", "master my 10.0.0.1 1 #quorum 2/2"), Kind::kFailoverStep);
  EXPECT_EQ(kind_of("+selected-slave", "slave 10.0.0.1:2 10.0.0.1 2 @ my 10.0.0.1 1"),
            Kind::kFailoverStep);
  EXPECT_EQ(kind_of("+failover-state-select-slave", "master my 10.0.0.1 1"), Kind::kFailoverStep);
  EXPECT_EQ(
      kind_of("+failover-state-send-slaveof-noone", "slave 10.0.0.1:2 10.0.0.1 2 @ my 10.0.0.1 1"),
      Kind::kFailoverStep);
  EXPECT_EQ(kind_of("+failover-state-reconf-slaves", "master my 10.0.0.1 1"), Kind::kOthersMoved);
  EXPECT_EQ(kind_of("+failover-end", "master my 10.0.0.1 1"), Kind::kOthersMoved);
  EXPECT_EQ(kind_of("+failover-end-for-timeout", "master my 10.0.0.1 1"), Kind::kOthersMoved);
  EXPECT_EQ(kind_of("+odown", "master other 10.0.0.1 1 #quorum 2/2"), std::nullopt);
  EXPECT_EQ(kind_of("+odown", "sentinel x 10.0.0.1 1 @ my 10.0.0.1 1"), std::nullopt);
}

}  // namespace
}  // namespace tiercel::l2
