// What all Sentinels say at one moment.

#include <algorithm>
#include <set>

#include "asking_fixture.h"
#include "fake_sentinel.h"
#include "support/redis_server.h"
#include "support/reserved_port.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using tiercel::testing::ReservedPort;
using tiercel::testing::SentinelSetup;

// Sentinels that say what a test wants, of a master that is a fake, too.
class SurveyTest : public AskingTest {
 protected:
  ~SurveyTest() override { client_.reset(); }

  void start_sentinels(std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      sentinels_.push_back(std::make_unique<FakeSentinel>(
          FakeSentinel::Story{.run_id = "sentinel-" + std::to_string(i),
                              .master_port = server_.port(),
                              .replicas = {{.port = kReplica, .master_port = server_.port()}}}));
    }
  }
  [[nodiscard]] std::vector<std::uint16_t> ports() const {
    std::vector<std::uint16_t> all;
    for (const auto& sentinel : sentinels_) all.push_back(sentinel->port());
    return all;
  }
  // Opens, and waits until all of them are heard and answer.
  void start(std::size_t count = 3) {
    start_sentinels(count);
    open(sentinel_url(ports(), "mymaster"));
    ASSERT_TRUE(wait_data_up());
    ASSERT_TRUE(wait_calm());
  }
  bool wait_calm() {
    return poll_until([this] { return survey().is_calm(master()); }, kPatience);
  }
  [[nodiscard]] Endpoint master() const { return at(server_.port()); }
  [[nodiscard]] std::string address() const {
    return "127.0.0.1 " + std::to_string(server_.port());
  }

  static constexpr std::uint16_t kReplica = 2;
  FakeServer server_;
  std::vector<std::unique_ptr<FakeSentinel>> sentinels_;
};

TEST_F(SurveyTest, SaysWhatEachOfThemSays) {
  start();
  sentinels_[1]->change([](FakeSentinel::Story& story) {
    story.master_flags = "s_down,master";
    story.epoch = 7;
    story.is_tilted = true;
    story.replicas = {{.port = 3, .flags = "s_down,slave,disconnected"}, {.port = kReplica}};
  });
  const SentinelSurvey said = survey();
  EXPECT_EQ(said.known, 3u);
  ASSERT_EQ(said.answered(), 3u);
  EXPECT_TRUE(said.silent.empty());
  EXPECT_TRUE(said.signs.empty());
  for (std::size_t i = 0; i < 3; ++i) {
    const SentinelView& view = said.views[i];
    EXPECT_EQ(view.sentinel, at(sentinels_[i]->port()));
    EXPECT_EQ(view.run_id, "sentinel-" + std::to_string(i));
    EXPECT_EQ(view.master, master());
    EXPECT_TRUE(view.is_heard);
    EXPECT_GT(view.heard_for, 0ms);
  }
  EXPECT_EQ(said.views[0].master_flags, SentinelFlags{});
  EXPECT_EQ(said.views[0].config_epoch, 1u);
  ASSERT_EQ(said.views[0].replicas.size(), 1u);
  EXPECT_EQ(said.views[0].replicas[0].endpoint, at(kReplica));
  EXPECT_EQ(said.views[0].replicas[0].master, master());
  EXPECT_EQ(said.views[1].master_flags, (SentinelFlags{.s_down = true}));
  EXPECT_EQ(said.views[1].config_epoch, 7u);
  EXPECT_TRUE(said.views[1].is_tilted);
  ASSERT_EQ(said.views[1].replicas.size(), 2u);
  EXPECT_EQ(said.views[1].replicas[0].flags, (SentinelFlags{.s_down = true, .disconnected = true}));
  EXPECT_EQ(said.views[1].replicas[0].master, Endpoint{});
  EXPECT_EQ(said.replicas().size(), 2u);
}

TEST_F(SurveyTest, OneThatIsSilentIsWaitedForUntilTheDeadline) {
  start();
  sentinels_[2]->change([](FakeSentinel::Story& story) { story.is_silent = true; });
  for (int i = 0; i < 3; ++i) {
    const SentinelSurvey said = survey(100ms);
    EXPECT_EQ(said.known, 3u);
    EXPECT_LE(said.answered(), 2u);  // Fewer on a machine that stands still.
    EXPECT_FALSE(said.is_calm(master()));
    const auto silent = std::find_if(said.silent.begin(), said.silent.end(), [&](const auto& one) {
      return one.sentinel == at(sentinels_[2]->port());
    });
    ASSERT_NE(silent, said.silent.end());
    EXPECT_NE(silent->why.message.find("no answer in time"), std::string::npos);
  }
  sentinels_[2]->change([](FakeSentinel::Story& story) { story.is_silent = false; });
  EXPECT_TRUE(wait_calm());
}

// It may be half open: the next survey must not wait on it again.
TEST_F(SurveyTest, AConnectionThatDidNotAnswerInTimeIsGivenUp) {
  start(1);
  const auto rounds = [this] {
    return sentinels_[0]->question_count() - sentinels_[0]->survey_count();
  };
  const auto hold = [this](bool holds) {
    sentinels_[0]->change([=](FakeSentinel::Story& story) { story.holds_answers = holds; });
  };
  // Once more where a round came in between: that one waits longer, on the same connection.
  EXPECT_TRUE(poll_until(
      [&] {
        const int rounds_before = rounds();
        const int accepted = sentinels_[0]->accepted_count();
        hold(true);
        EXPECT_EQ(survey(50ms).answered(), 0u);
        hold(false);  // What was held is lost.
        const SentinelSurvey said = survey();
        // Or where its events have got a connection meanwhile, too.
        if (rounds() != rounds_before || sentinels_[0]->accepted_count() != accepted + 1) {
          sentinels_[0]->release();
          return false;
        }
        EXPECT_EQ(said.answered(), 1u);
        return true;
      },
      kPatience));
}

TEST_F(SurveyTest, OneThatIsDeadIsNotWaitedFor) {
  const auto dead = ReservedPort::any();
  start_sentinels(2);
  auto all = ports();
  all.push_back(dead.port());
  open(sentinel_url(all, "mymaster"));
  ASSERT_TRUE(wait_data_up());
  const SentinelSurvey said = survey(1h);
  EXPECT_EQ(said.known, 3u);
  EXPECT_EQ(said.answered(), 2u);
  ASSERT_EQ(said.silent.size(), 1u);
  EXPECT_EQ(said.silent[0].sentinel, at(dead.port()));
  EXPECT_EQ(said.silent[0].why.code, ErrorCode::kUnavailable);
}

TEST_F(SurveyTest, OneThatRefusesToListTheReplicasHasNotAnswered) {
  start();
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.permits_replicas = false; });
  sentinels_[1]->change([](FakeSentinel::Story& story) { story.names = {"other"}; });
  for (int i = 0; i < 3; ++i) {
    const SentinelSurvey said = survey(1h);
    EXPECT_EQ(said.answered(), 1u);
    ASSERT_EQ(said.silent.size(), 2u);
    EXPECT_EQ(said.silent[0].why.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(said.silent[0].why.message.find("+sentinel|replicas is missing"), std::string::npos)
        << said.silent[0].why.message;
    EXPECT_EQ(said.silent[1].why.code, ErrorCode::kInvalidArgument);
    EXPECT_NE(said.silent[1].why.message.find("knows no master"), std::string::npos)
        << said.silent[1].why.message;
  }
}

TEST_F(SurveyTest, OneUnderTwoAddressesCountsOnce) {
  start_sentinels(2);
  const std::string port = std::to_string(sentinels_[0]->port());
  open("redis+sentinel://127.0.0.1:" + port + ",localhost:" + port +
       ",127.0.0.1:" + std::to_string(sentinels_[1]->port()) + "/mymaster");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_calm());
  const SentinelSurvey said = survey();
  EXPECT_EQ(said.known, 2u);
  EXPECT_EQ(said.answered(), 2u);
  EXPECT_EQ(client_->sentinels().size(), 3u);
}

TEST_F(SurveyTest, LearnedOnesAreAskedToo) {
  start_sentinels(2);
  sentinels_[0]->change([this](FakeSentinel::Story& story) {
    story.sentinels = {{"sentinel-1", sentinels_[1]->port()}};
  });
  open(sentinel_url({sentinels_[0]->port()}, "mymaster"));
  ASSERT_TRUE(wait_data_up());
  EXPECT_TRUE(poll_until([this] { return survey().answered() == 2; }, kPatience));
  EXPECT_EQ(survey().known, 2u);
}

// A failover may be the work of one that we have never reached.
TEST_F(SurveyTest, LearnedOnesThatNeverAnsweredAreKnown) {
  const auto dead = ReservedPort::any();
  start_sentinels(1);
  sentinels_[0]->change([&](FakeSentinel::Story& story) {
    story.sentinels = {{"sentinel-1", dead.port()}};
  });
  open(sentinel_url(ports(), "mymaster"));
  ASSERT_TRUE(wait_data_up());
  EXPECT_TRUE(poll_until([this] { return survey().known == 2; }, kPatience));
  EXPECT_EQ(survey().answered(), 1u);
}

TEST_F(SurveyTest, EveryWordOfAFailoverIsHeardBeforeTheSurveyEnds) {
  struct Word {
    const char* channel;
    std::string payload;
  };
  const std::string ours = "master mymaster " + address();
  const std::string replica = "slave r:2 127.0.0.1 2 @ mymaster " + address();
  for (const Word& word : {Word{"+odown", ours + " #quorum 2/2"}, Word{"+try-failover", ours},
                           Word{"+vote-for-leader", "somebody 5"}, Word{"+elected-leader", ours},
                           Word{"+selected-slave", replica}, Word{"+failover-end", ours},
                           Word{"+failover-state-send-slaveof-noone", replica},
                           Word{"+failover-state-wait-promotion", replica},
                           Word{"+failover-state-reconf-slaves", ours}}) {
    start(1);
    sentinels_[0]->publish(word.channel, word.payload);
    const SentinelSurvey said = survey();
    ASSERT_EQ(said.signs.size(), 1u) << word.channel;
    EXPECT_EQ(said.signs[0].sentinel, at(sentinels_[0]->port()));
    EXPECT_FALSE(said.is_quiet(master())) << word.channel;
    EXPECT_FALSE(said.is_calm(master()));
    client_.reset();
    sentinels_.clear();
  }
  start(1);
  for (const Word& harmless :
       {Word{"+odown", "master other " + address() + " #quorum 2/2"}, Word{"-odown", ours}}) {
    sentinels_[0]->publish(harmless.channel, harmless.payload);
  }
  EXPECT_TRUE(survey().is_calm(master()));
}

TEST_F(SurveyTest, ASwitchThatEndedInTheMasterIsQuiet) {
  start();
  for (const auto& sentinel : sentinels_) {
    sentinel->publish("+vote-for-leader", "somebody 5");
  }
  EXPECT_FALSE(survey().is_quiet(master()));
  for (const auto& sentinel : sentinels_) {
    EXPECT_FALSE(survey().is_quiet(master()));  // Not until the last of them has told.
    sentinel->publish("+switch-master", "mymaster 127.0.0.1 1 " + address());
  }
  const SentinelSurvey said = survey();
  EXPECT_EQ(said.signs.size(), 3u);
  EXPECT_TRUE(said.is_quiet(master()));
  EXPECT_FALSE(said.is_quiet(at(1)));
}

TEST_F(SurveyTest, WhoseEventsDoNotReachUsIsNotHeard) {
  start();
  // Again while a slow machine keeps the others from being heard in time, too.
  const auto are_only_others_heard = [&] {
    const SentinelSurvey said = survey(200ms);
    EXPECT_EQ(said.known, 3u);
    bool are_others_heard = said.answered() == 3;
    for (const SentinelView& view : said.views) {
      if (view.sentinel == at(sentinels_[0]->port())) {
        EXPECT_FALSE(view.is_heard);
      } else {
        are_others_heard = are_others_heard && view.is_heard;
      }
    }
    return are_others_heard;
  };
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.permits_ping = false; });
  const SentinelSurvey refused = survey(1h);  // It is not waited for.
  ASSERT_EQ(refused.answered(), 3u);
  EXPECT_FALSE(refused.views[0].is_heard);
  EXPECT_TRUE(refused.views[1].is_heard);
  EXPECT_FALSE(refused.is_calm(master()));
  sentinels_[0]->change([](FakeSentinel::Story& story) {
    story.permits_ping = true;
    story.withholds_pongs = true;  // As if its subscription were cut off.
  });
  EXPECT_TRUE(poll_until(are_only_others_heard, kPatience));
  // The pong to an older ping proves nothing.
  sentinels_[0]->change([](FakeSentinel::Story& story) {
    story.withholds_pongs = false;
    story.pong = "1";
  });
  EXPECT_TRUE(poll_until(are_only_others_heard, kPatience));
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.pong.clear(); });
  EXPECT_TRUE(survey(1h).views[0].is_heard);
}

// A survey that was given up leaves its replies to come, where a round still waits on the same
// connection. The next one must not take them for its own.
TEST_F(SurveyTest, LateRepliesAreNotThoseOfTheNextSurvey) {
  start(1);
  const int rounds = sentinels_[0]->question_count() - sentinels_[0]->survey_count();
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.holds_answers = true; });
  sentinels_[0]->publish("+reset-master", "master mymaster " + address());
  ASSERT_TRUE(poll_until(
      [&] { return sentinels_[0]->question_count() - sentinels_[0]->survey_count() > rounds; }));
  EXPECT_EQ(survey(50ms).answered(), 0u);
  const int asked = sentinels_[0]->survey_count();
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.epoch = 9; });
  const auto next = begin_survey();
  ASSERT_TRUE(poll_until([&] { return sentinels_[0]->survey_count() > asked; }));
  sentinels_[0]->release();
  const SentinelSurvey said = next.get();
  ASSERT_EQ(said.answered(), 1u);
  EXPECT_EQ(said.views[0].config_epoch, 9u);
  EXPECT_EQ(sentinels_[0]->accepted_count(), 2);  // The round's connection was not given up.
}

TEST_F(SurveyTest, OneThatPermitsOnlyTheSwitchIsNotHeard) {
  start_sentinels(1);
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.permits_all_channels = false; });
  open(sentinel_url(ports(), "mymaster"));
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(poll_until([&] { return sentinels_[0]->subscriber_count("+switch-master") == 1; }));
  ASSERT_TRUE(poll_until([&] { return client_->sentinels()[0].is_subscribed; }));
  const SentinelSurvey said = survey(1h);
  ASSERT_EQ(said.answered(), 1u);
  EXPECT_FALSE(said.views[0].is_heard);
}

TEST_F(SurveyTest, UsesTheConnectionsOfTheRoundsAndDisturbsNone) {
  start();
  const int rounds = sentinels_[0]->question_count() - sentinels_[0]->survey_count();
  const int accepted = sentinels_[0]->accepted_count();
  for (int i = 0; i < 200; ++i) EXPECT_TRUE(survey().is_calm(master()));
  EXPECT_EQ(sentinels_[0]->accepted_count(), accepted);  // One for questions, one for events.
  EXPECT_LE(accepted, 2);
  // A round beside a survey: it is asked for by an event, and finds what it is to find.
  FakeServer other;
  const Pending parked = send(Retry::kSafe, {"ECHO", "x"});
  for (int i = 0; i < 100 && observer_.seen().data_server.endpoint != at(other.port()); ++i) {
    for (const auto& sentinel : sentinels_) {
      sentinel->change([&](FakeSentinel::Story& story) {
        story.master_port = other.port();
        story.epoch = 2;
      });
      sentinel->publish("+reset-master", "master mymaster " + address());
    }
    for (int j = 0; j < 10; ++j) survey();
  }
  EXPECT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up && seen.data_server.endpoint == at(other.port());
  }));
  EXPECT_EQ(sentinels_[0]->accepted_count(), accepted);
  EXPECT_GT(sentinels_[0]->question_count() - sentinels_[0]->survey_count(), rounds);
}

TEST_F(SurveyTest, ALostConnectionIsMadeAnewWithinTheSurvey) {
  const auto setup = RedisServer::start({.sentinel = true,
                                         .config = {"sentinel monitor mymaster "
                                                    "127.0.0.1 " +
                                                    std::to_string(server_.port()) + " 1"}});
  open(sentinel_url({setup->port()}, "mymaster"));
  ASSERT_TRUE(wait_data_up());
  ASSERT_EQ(survey().answered(), 1u);
  setup->kill();
  setup->restart();
  EXPECT_EQ(survey().answered(), 1u);
}

TEST_F(SurveyTest, OneAtATime) {
  start();
  const Awaited<SentinelSurvey> first;
  const Awaited<SentinelSurvey> second;
  on_loop([&] {  // Within it the first cannot end.
    client_->survey_sentinels(in(kPatience), first.callback());
    client_->survey_sentinels(in(kPatience), second.callback());
  });
  const SentinelSurvey refused = second.get();
  EXPECT_EQ(refused.known, 3u);
  EXPECT_EQ(refused.answered(), 0u);
  const SentinelSurvey said = first.get();
  EXPECT_EQ(said.known, 3u);
  EXPECT_EQ(said.answered(), 3u);
  const SentinelSurvey late = survey(-1s);
  EXPECT_EQ(late.answered(), 0u);
}

TEST_F(SurveyTest, AFixedServerHasNoSentinels) {
  open(server_.url());
  const SentinelSurvey said = survey(1h);
  EXPECT_EQ(said.known, 0u);
  EXPECT_EQ(said.answered(), 0u);
  EXPECT_FALSE(said.is_calm(master()));
}

TEST_F(SurveyTest, IsAnsweredWhenTheClientCloses) {
  start();
  for (const auto& sentinel : sentinels_) {
    sentinel->change([](FakeSentinel::Story& story) { story.is_silent = true; });
  }
  const auto under_way = begin_survey(1h);
  on_loop([] {});
  client_->close();
  EXPECT_EQ(under_way.get().answered(), 0u);
  EXPECT_EQ(survey().answered(), 0u);
}

// ----- real Sentinels

class RealSurveyTest : public AskingTest {
 protected:
  template <typename Predicate>
  bool survey_until(Predicate predicate, Duration each = 5s) {
    return poll_until([&] { return predicate(survey(each)); }, 120s);
  }
  static std::set<std::uint16_t> ports_of(const SentinelSurvey& survey) {
    std::set<std::uint16_t> ports;
    for (const auto& replica : survey.replicas()) ports.insert(replica.endpoint.port);
    return ports;
  }
};

TEST_F(RealSurveyTest, CalmThenAFailoverThenCalmAgain) {
  const auto setup = SentinelSetup::start();
  open(setup->url());
  ASSERT_TRUE(wait_data_up());
  const Endpoint old_master = at(setup->server(0).port());
  ASSERT_TRUE(survey_until([&](const SentinelSurvey& said) { return said.is_calm(old_master); }));
  const SentinelSurvey calm = survey();
  EXPECT_EQ(calm.known, 3u);
  EXPECT_EQ(calm.answered(), 3u);
  EXPECT_EQ(ports_of(calm),
            (std::set<std::uint16_t>{setup->server(1).port(), setup->server(2).port()}));
  for (const SentinelView& view : calm.views) {
    EXPECT_FALSE(view.run_id.empty());
    for (const SentinelReplica& replica : view.replicas) EXPECT_EQ(replica.master, old_master);
  }

  setup->server(0).kill();
  // It is not calm any more before the first Sentinel stands, and until D is on the new master.
  bool saw_signs = false;
  bool saw_flags = false;
  Endpoint master;
  const auto has_moved = [&](const SentinelSurvey& said) {
    saw_signs = saw_signs || !said.signs.empty();
    for (const SentinelView& view : said.views) {
      saw_flags = saw_flags || view.master_flags.o_down || view.master_flags.failover_in_progress;
    }
    EXPECT_FALSE((saw_signs || saw_flags) && said.is_calm(old_master));
    const Observed seen = observer_.seen();
    master = seen.data_server.endpoint;
    return seen.is_data_up && master != old_master && said.is_calm(master);
  };
  // Short ones: one that is held up must not miss the whole failover.
  ASSERT_TRUE(survey_until(has_moved, 200ms));
  EXPECT_TRUE(saw_signs);
  EXPECT_TRUE(saw_flags);
  // The dead one is its replica now, and everybody sees it down.
  EXPECT_TRUE(survey_until([&](const SentinelSurvey& said) {
    const auto replicas = said.replicas();
    return std::any_of(replicas.begin(), replicas.end(), [&](const auto& replica) {
      return replica.endpoint == old_master && replica.down_count == 3;
    });
  }));
}

TEST_F(RealSurveyTest, OneSentinelAndOneReplicaStopped) {
  const auto setup = SentinelSetup::start();
  open(setup->url());
  ASSERT_TRUE(wait_data_up());
  const Endpoint master = at(setup->server(0).port());
  ASSERT_TRUE(survey_until([&](const SentinelSurvey& said) { return said.is_calm(master); }));
  setup->sentinel(2).stop_process();
  setup->server(2).stop_process();
  const SentinelSurvey without = survey(500ms);
  EXPECT_EQ(without.known, 3u);
  EXPECT_LE(without.answered(), 2u);
  // The other two see the replica down; and have been heard for long enough to vouch alone.
  EXPECT_TRUE(survey_until(
      [&](const SentinelSurvey& said) {
        if (said.answered() != 2 || !said.is_calm(master)) return false;
        const auto replicas = said.replicas();
        return std::any_of(replicas.begin(), replicas.end(), [&](const auto& replica) {
          return replica.endpoint == at(setup->server(2).port()) && replica.down_count == 2;
        });
      },
      500ms));
  setup->sentinel(2).continue_process();
  EXPECT_TRUE(survey_until([&](const SentinelSurvey& said) { return said.answered() == 3; }));
}

}  // namespace
}  // namespace tiercel::l2
