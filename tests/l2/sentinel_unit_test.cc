// What needs no socket: the events of Sentinels, elections, the directory and the gate.

#include <gtest/gtest.h>

#include <chrono>
#include <string>
#include <vector>

#include "dial_gate.h"
#include "election.h"
#include "sentinel_directory.h"
#include "sentinel_event.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using Kind = SentinelEvent::Kind;

constexpr TimePoint kStart{1000s};

Endpoint at(std::uint16_t port) { return {"10.0.0.1", port, {}}; }

std::optional<SentinelEvent> parsed(std::string_view channel, std::string_view payload,
                                    std::string_view name = "my") {
  return parse_sentinel_event(channel, payload, name);
}

// As published by Sentinel 7.0.15.
TEST(SentinelEvents, AreUnderstood) {
  const auto switched = parsed("+switch-master", "my 10.0.0.1 1 10.0.0.1 2");
  ASSERT_TRUE(switched);
  EXPECT_EQ(switched->kind, Kind::kSwitched);
  EXPECT_EQ(switched->old_master, at(1));
  EXPECT_EQ(switched->endpoint, at(2));

  const auto promoted = parsed("+promoted-slave", "slave 10.0.0.1:2 10.0.0.1 2 @ my 10.0.0.1 1");
  ASSERT_TRUE(promoted);
  EXPECT_EQ(promoted->kind, Kind::kPromoted);
  EXPECT_EQ(promoted->endpoint, at(2));
  EXPECT_EQ(promoted->old_master, at(1));
  const auto ordered =
      parsed("+failover-state-wait-promotion", "slave 10.0.0.1:2 10.0.0.1 2 @ my 10.0.0.1 1");
  ASSERT_TRUE(ordered);
  EXPECT_EQ(ordered->kind, Kind::kOrdered);
  EXPECT_EQ(ordered->endpoint, at(2));

  EXPECT_EQ(parsed("+elected-leader", "master my 10.0.0.1 1")->kind, Kind::kElected);
  EXPECT_EQ(parsed("+try-failover", "master my 10.0.0.1 1")->kind, Kind::kCandidacy);
  EXPECT_EQ(parsed("+new-epoch", "12")->epoch, 12u);
  const auto vote = parsed("+vote-for-leader", "4837519b65e23ceee7a7863c1561ac3a89e77280 12");
  ASSERT_TRUE(vote);
  EXPECT_EQ(vote->run_id, "4837519b65e23ceee7a7863c1561ac3a89e77280");
  EXPECT_EQ(vote->epoch, 12u);
  EXPECT_EQ(parsed("-failover-abort-not-elected", "master my 10.0.0.1 1")->kind, Kind::kAborted);
  EXPECT_EQ(parsed("-failover-abort-slave-timeout", "slave a:2 a 2 @ my 10.0.0.1 1")->kind,
            Kind::kAborted);
  EXPECT_EQ(parsed("-odown", "master my 10.0.0.1 1")->endpoint, at(1));
  const auto seen = parsed("+sentinel", "sentinel 48375 10.0.0.1 26379 @ my 10.0.0.1 1");
  ASSERT_TRUE(seen);
  EXPECT_EQ(seen->kind, Kind::kSentinelSeen);
  EXPECT_EQ(seen->endpoint, at(26379));
  EXPECT_EQ(seen->run_id, "48375");
  EXPECT_EQ(parsed("-tilt", "#tilt mode exited")->kind, Kind::kViewChanged);
}

TEST(SentinelEvents, KnowNamesWithSpacesHostNamesAndIpv6) {
  EXPECT_EQ(parsed("+switch-master", "my own db-1.example 1 ::1 2", "my own")->endpoint,
            (Endpoint{"::1", 2, {}}));
  EXPECT_EQ(parsed("+elected-leader", "master my own 10.0.0.1 1", "my own")->endpoint, at(1));
  EXPECT_EQ(parsed("+promoted-slave", "slave a:2 a.example 2 @ my own ::1 1", "my own")->endpoint,
            (Endpoint{"a.example", 2, {}}));
}

TEST(SentinelEvents, OfOthersOrNotUnderstoodAreNone) {
  for (const char* payload :
       {"", "my", "my ", "mymaster 10.0.0.1 1 10.0.0.1 2", "m 10.0.0.1 1 10.0.0.1 2",
        "my 10.0.0.1 1", "my 10.0.0.1 1 10.0.0.1 x", "my 10.0.0.1 1 10.0.0.1 0",
        "my 10.0.0.1 1 10.0.0.1 65536", "my 10.0.0.1 1 10.0.0.1 2 more", "my 10.0.0.1 1  2"}) {
    EXPECT_FALSE(parsed("+switch-master", payload)) << payload;
  }
  for (const char* payload :
       {"", "slave", "slave x:2 10.0.0.1 2", "slave x:2 10.0.0.1 2 @ other 10.0.0.1 1",
        "slave x:2 10.0.0.1 2 @ my", "slave x:2 10.0.0.1 y @ my 10.0.0.1 1",
        "sentinel x 10.0.0.1 2 @ my 10.0.0.1 1", "master my 10.0.0.1 1"}) {
    EXPECT_FALSE(parsed("+promoted-slave", payload)) << payload;
  }
  EXPECT_FALSE(parsed("-sdown", "slave x:2 10.0.0.1 2 @ my 10.0.0.1 1"));
  EXPECT_FALSE(parsed("-sdown", "sentinel x 10.0.0.1 2 @ my 10.0.0.1 1"));
  EXPECT_FALSE(parsed("+new-epoch", "twelve"));
  EXPECT_FALSE(parsed("+vote-for-leader", " 12"));
  EXPECT_FALSE(parsed("+vote-for-leader", "abc"));
  EXPECT_FALSE(parsed("+sdown", "master my 10.0.0.1 1"));
}

// ----- elections

class ElectionTest : public ::testing::Test {
 protected:
  static constexpr std::size_t kVoters = 3;

  std::optional<Election::Promotion> hear(std::uint64_t sentinel, Kind kind,
                                          std::uint64_t epoch = 0, const std::string& run_id = {},
                                          std::uint16_t port = 0) {
    SentinelEvent event{.kind = kind, .epoch = epoch, .run_id = run_id};
    if (port != 0) event.endpoint = at(port);
    return election_.hear(sentinel, event, kVoters);
  }
  // Sentinel 1, "one", stands, votes for itself and is elected; nobody else was heard.
  void stand(std::uint64_t epoch) {
    EXPECT_FALSE(hear(1, Kind::kNewEpoch, epoch));
    EXPECT_FALSE(hear(1, Kind::kCandidacy));
    EXPECT_FALSE(hear(1, Kind::kVote, epoch, "one"));
  }

  Election election_;
};

TEST_F(ElectionTest, AMajorityAndTheLeadersOrderMakeAPromotion) {
  stand(7);
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "one"));
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_EQ(hear(1, Kind::kOrdered, 0, {}, 2), (Election::Promotion{at(2), 7}));
  EXPECT_FALSE(hear(3, Kind::kVote, 7, "one"));  // Told once.
}

TEST_F(ElectionTest, VotesMayComeAfterTheOrder) {
  stand(7);
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));
  EXPECT_EQ(hear(3, Kind::kVote, 7, "one"), (Election::Promotion{at(2), 7}));
}

TEST_F(ElectionTest, WithoutAMajorityThereIsNone) {
  stand(7);
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "two"));  // For itself.
  EXPECT_FALSE(hear(3, Kind::kVote, 6, "one"));  // In an earlier epoch.
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "one"));  // A second vote in the epoch: it has none.
  EXPECT_FALSE(hear(1, Kind::kVote, 7, "one"));  // Nor does the same voice count twice.
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));
}

TEST_F(ElectionTest, OnlyTheElectedOnesOrderCounts) {
  stand(7);
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "one"));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));  // It has not said that it was elected.
  EXPECT_FALSE(hear(2, Kind::kElected));            // It never stood.
  EXPECT_FALSE(hear(2, Kind::kOrdered, 0, {}, 3));
}

TEST_F(ElectionTest, AnAbortAnInterruptionAndANewTryBeginAnew) {
  stand(7);
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));
  EXPECT_FALSE(hear(1, Kind::kAborted));
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "one"));

  stand(8);
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));
  election_.interrupted(1);
  EXPECT_FALSE(hear(2, Kind::kVote, 8, "one"));

  stand(9);
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_FALSE(hear(1, Kind::kOrdered, 0, {}, 2));
  stand(10);
  EXPECT_FALSE(hear(2, Kind::kVote, 9, "one"));
  EXPECT_FALSE(hear(2, Kind::kVote, 10, "one"));  // Not elected yet in this one.
}

TEST_F(ElectionTest, AnOldOrderIsNotHeardAgain) {
  stand(7);
  EXPECT_FALSE(hear(2, Kind::kVote, 7, "one"));
  EXPECT_FALSE(hear(1, Kind::kElected));
  EXPECT_TRUE(hear(1, Kind::kOrdered, 0, {}, 2));
  for (const std::uint64_t voter : {2u, 3u}) {
    EXPECT_FALSE(hear(voter, Kind::kNewEpoch, 8));
    if (voter == 2) {
      EXPECT_FALSE(hear(2, Kind::kCandidacy));
    }
    EXPECT_FALSE(hear(voter, Kind::kVote, 8, "two"));
  }
  EXPECT_FALSE(hear(2, Kind::kElected));
  EXPECT_EQ(hear(2, Kind::kOrdered, 0, {}, 3), (Election::Promotion{at(3), 8}));
  EXPECT_FALSE(hear(1, Kind::kVote, 8, "two"));
}

// ----- the directory

std::size_t count(const SentinelDirectory& directory) { return directory.all().size(); }

TEST(SentinelDirectoryTest, LearnsEachSentinelOnce) {
  const std::vector<Endpoint> configured{at(1), at(2)};
  SentinelDirectory directory{configured, kStart};
  directory.learn(at(3), "c", kStart);
  directory.learn(at(3), "c", kStart);
  directory.learn(at(1), "a", kStart);
  directory.learn(at(33), "c", kStart);  // The same one by another address.
  EXPECT_EQ(count(directory), 3u);
  const auto statuses = directory.statuses();
  ASSERT_EQ(statuses.size(), 3u);
  EXPECT_TRUE(statuses[1].is_configured);
  EXPECT_FALSE(statuses[2].is_configured);
  EXPECT_EQ(statuses[2].endpoint, at(3));
}

TEST(SentinelDirectoryTest, ForgetsTheSecondAddressOfASentinel) {
  const std::vector<Endpoint> configured{{"sentinel.example", 1, {}}};
  SentinelDirectory directory{configured, kStart};
  directory.learn(at(1), "a", kStart);  // Told before the configured one has said who it is.
  directory.learn(at(2), "b", kStart);
  directory.answered(directory.all()[0].id, "a", kStart);
  ASSERT_EQ(count(directory), 2u);
  EXPECT_TRUE(directory.all()[0].is_configured);
  EXPECT_EQ(directory.all()[1].endpoint, at(2));
  directory.learn(at(3), "", kStart);
  const auto alias = directory.all()[2].id;
  directory.answered(alias, "a", kStart);
  EXPECT_EQ(directory.find(alias), nullptr);
  EXPECT_EQ(count(directory), 2u);
}

TEST(SentinelDirectoryTest, IsBounded) {
  const std::vector<Endpoint> configured{at(1)};
  SentinelDirectory directory{configured, kStart};
  for (std::uint16_t port = 2; port < 1000; ++port) directory.learn(at(port), {}, kStart);
  EXPECT_EQ(count(directory), SentinelDirectory::kSentinelsMax);
  EXPECT_EQ(directory.statuses().size(), SentinelDirectory::kSentinelsMax);
}

TEST(SentinelDirectoryTest, OnlyThoseThatSpokeAreVoters) {
  const std::vector<Endpoint> configured{at(1)};
  SentinelDirectory directory{configured, kStart};
  directory.learn(at(2), "b", kStart);
  directory.learn(at(3), "c", kStart);
  EXPECT_EQ(directory.voters(), 1u);
  directory.answered(directory.all()[1].id, "b", kStart);
  directory.subscribed(directory.all()[2].id, true);
  EXPECT_EQ(directory.voters(), 3u);
}

TEST(SentinelDirectoryTest, ForgetsLearnedOnesThatAreLongSilentWhileOthersAnswer) {
  const std::vector<Endpoint> configured{at(1), at(2)};
  SentinelDirectory directory{configured, kStart};
  directory.learn(at(3), "c", kStart);
  directory.learn(at(4), "d", kStart);
  const auto id = [&](std::size_t i) { return directory.all()[i].id; };
  for (std::size_t i = 0; i < 4; ++i) directory.answered(id(i), {}, kStart);
  const Error gone = unavailable("gone");
  for (std::size_t i = 0; i < 4; ++i) directory.failed(id(i), gone);
  const TimePoint later = kStart + SentinelDirectory::kForgetAfter;
  directory.forget_silent(later);
  EXPECT_EQ(count(directory), 4u);  // Nobody answers: the trouble may be ours.
  directory.answered(id(0), {}, later);
  directory.forget_silent(later - 1s);
  EXPECT_EQ(count(directory), 4u);
  directory.answered(id(3), {}, later);
  directory.forget_silent(later);
  ASSERT_EQ(count(directory), 3u);  // Not the configured one, which is silent as well.
  EXPECT_EQ(directory.all()[1].endpoint, at(2));
  EXPECT_EQ(directory.all()[2].endpoint, at(4));
}

TEST(SentinelDirectoryTest, TellsWhatIsWrongWithEach) {
  const std::vector<Endpoint> configured{at(1)};
  SentinelDirectory directory{configured, kStart};
  EXPECT_TRUE(directory.statuses()[0].trouble);
  directory.answered(directory.all()[0].id, {}, kStart);
  directory.subscribed(directory.all()[0].id, true);
  EXPECT_FALSE(directory.statuses()[0].trouble);
  EXPECT_TRUE(directory.statuses()[0].is_subscribed);
  directory.failed(directory.all()[0].id, invalid_argument("refused"));
  directory.subscribed(directory.all()[0].id, false);
  EXPECT_EQ(directory.statuses()[0].trouble->code, ErrorCode::kInvalidArgument);
  EXPECT_FALSE(directory.statuses()[0].is_subscribed);
}

// ----- the gate

TEST(DialGateTest, KeepsAttemptsApart) {
  DialGate gate;
  EXPECT_EQ(gate.wait(kStart), 0ms);
  EXPECT_FALSE(gate.attempted(kStart));
  EXPECT_EQ(gate.wait(kStart), DialGate::kGap);
  EXPECT_EQ(gate.wait(kStart + 20ms), DialGate::kGap - 20ms);
  EXPECT_EQ(gate.wait(kStart + DialGate::kGap), 0ms);
  EXPECT_EQ(gate.attempted(kStart + 70ms), Duration{70ms});
}

}  // namespace
}  // namespace tiercel::l2
