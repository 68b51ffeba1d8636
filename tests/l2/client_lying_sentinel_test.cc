// The client and Sentinels that lie, lag, hang, refuse and talk nonsense; and what it makes of
// their events. The servers are real, the Sentinels are not.

#include <algorithm>
#include <array>

#include "client_fixture.h"
#include "fake_sentinel.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;

class FakeSentinelTest : public ClientTest {
 protected:
  static constexpr std::size_t kSentinels = 3;

  FakeSentinelTest() {
    for (std::size_t i = 0; i < kSentinels; ++i) {
      sentinels_[i] = std::make_unique<FakeSentinel>(
          FakeSentinel::Story{.run_id = name_of(i), .master_port = master_->port(), .epoch = 5});
    }
  }
  // The client goes first: it speaks of the sentinels in this class's members.
  ~FakeSentinelTest() override { client_.reset(); }

  static std::string name_of(std::size_t i) { return "sentinel-" + std::to_string(i); }

  [[nodiscard]] std::vector<std::uint16_t> ports() const {
    std::vector<std::uint16_t> ports;
    for (const auto& sentinel : sentinels_) ports.push_back(sentinel->port());
    return ports;
  }
  void open_all(std::string channel = {}) {
    open(sentinel_url(ports(), "mymaster"), std::move(channel));
  }
  void wait_subscribed() {
    ASSERT_TRUE(poll_until([&] {
      const auto statuses = client_->sentinels();
      return std::all_of(statuses.begin(), statuses.end(),
                         [](const SentinelStatus& status) { return status.is_subscribed; });
    }));
  }
  bool wait_data_at(const RedisServer& server) {
    return observe([&](const Observed& seen) {
      return seen.is_data_up && seen.data_server.endpoint.port == server.port();
    });
  }
  // Whether both links stay at `server` while `disturb` goes on. Again where they do not: the
  // answers of the others may have come later than they are waited for.
  template <typename Disturb>
  bool leaves_in_peace(const RedisServer& server, Disturb disturb) {
    return poll_until(
        [&] {
          EXPECT_TRUE(wait_data_at(server));
          EXPECT_TRUE(wait_stream_up());
          const Observed before = observer_.seen();
          disturb();
          const Observed after = observer_.seen();
          return before.is_data_up && before.is_stream_up &&
                 before.data_server.endpoint.port == server.port() &&
                 after.data_downs == before.data_downs && after.stream_downs == before.stream_downs;
        },
        kPatience);
  }
  // Closes D, as a network fault might.
  static void drop_connections(RedisServer& server) {
    static_cast<void>(server.command({"CLIENT", "KILL", "TYPE", "normal"}));
  }
  // Makes the client ask all Sentinels anew, `rounds` times.
  static void make_it_ask(FakeSentinel& sentinel, int rounds = 1) {
    for (int i = 0; i < rounds; ++i) {
      const int before = sentinel.question_count();
      sentinel.publish("-tilt", "#tilt mode exited");
      ASSERT_TRUE(poll_until([&] { return sentinel.question_count() > before; }, kPatience));
    }
  }

  std::string address(const RedisServer& server) {
    return "127.0.0.1 " + std::to_string(server.port());
  }
  void publish_switch(FakeSentinel& sentinel, const RedisServer& from, const RedisServer& to) {
    sentinel.publish("+switch-master", "mymaster " + address(from) + " " + address(to));
  }

  std::unique_ptr<RedisServer> master_ = RedisServer::start();
  std::unique_ptr<RedisServer> other_ = RedisServer::start();
  std::array<std::unique_ptr<FakeSentinel>, kSentinels> sentinels_;
};

TEST_F(FakeSentinelTest, ALiarIsNotBelievedOnceTheServerDenies) {
  other_->command({"REPLICAOF", "127.0.0.1", std::to_string(master_->port())});
  sentinels_[0]->change([&](FakeSentinel::Story& story) {
    story.master_port = other_->port();
    story.epoch = 99;
  });
  open_all("news");
  ASSERT_TRUE(wait_data_at(*master_));
  ASSERT_TRUE(wait_stream_up());
  // Nor is what it publishes, and nobody is disturbed by what it goes on to say.
  wait_subscribed();
  EXPECT_TRUE(leaves_in_peace(*master_, [&] {
    for (int i = 0; i < 3; ++i) {
      publish_switch(*sentinels_[0], *master_, *other_);
      make_it_ask(*sentinels_[1]);
    }
    EXPECT_TRUE(call(Retry::kSafe, {"GET", "k"}));
  }));
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
}

TEST_F(FakeSentinelTest, ALiarThatNamesAnUnreachableMasterCostsSecondsOnly) {
  const std::uint16_t nobody = other_->port();
  other_->kill();
  sentinels_[0]->change([&](FakeSentinel::Story& story) {
    story.master_port = nobody;
    story.epoch = 99;
  });
  open_all();
  ASSERT_TRUE(wait_data_at(*master_));
}

TEST_F(FakeSentinelTest, AnOldStoryIsNotBelievedThoughItIsTheOnlyOneLeft) {
  for (const std::size_t i : {1u, 2u}) {
    sentinels_[i]->change([&](FakeSentinel::Story& story) {
      story.master_port = other_->port();
      story.epoch = 6;
    });
  }
  open_all();
  ASSERT_TRUE(wait_data_at(*other_));
  const auto settled = observer_.seen();  // It may have been the first to answer.
  sentinels_[1].reset();
  sentinels_[2].reset();
  drop_connections(*other_);
  ASSERT_TRUE(observe([&](const Observed& seen) { return seen.data_ups == settled.data_ups + 1; }));
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, other_->port());
  make_it_ask(*sentinels_[0], 2);
  EXPECT_EQ(observer_.seen().data_downs, settled.data_downs + 1);
}

TEST_F(FakeSentinelTest, ATiltedSentinelCountsLess) {
  sentinels_[0]->change([&](FakeSentinel::Story& story) {
    story.master_port = other_->port();
    story.is_tilted = true;
  });
  open(sentinel_url({sentinels_[0]->port(), sentinels_[1]->port()}, "mymaster"));
  EXPECT_TRUE(wait_data_at(*master_));  // When both have answered.
}

TEST_F(FakeSentinelTest, WhenAllAreTiltedTheyAreBelieved) {
  for (const auto& sentinel : sentinels_) {
    sentinel->change([](FakeSentinel::Story& story) { story.is_tilted = true; });
  }
  open_all();
  EXPECT_TRUE(wait_data_at(*master_));
}

TEST_F(FakeSentinelTest, SilentAndGarbledSentinelsAreDoneWithout) {
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.is_silent = true; });
  sentinels_[1]->change(
      [](FakeSentinel::Story& story) { story.garbage = "HTTP/1.1 400 Bad Request\r\n\r\n"; });
  auto options = options_for(sentinel_url(ports(), "mymaster"));
  options.connect_timeout = 300ms;
  open(options, "news");
  ASSERT_TRUE(wait_data_at(*master_));
  ASSERT_TRUE(wait_stream_up());
  ASSERT_TRUE(poll_until([&] {
    const auto statuses = client_->sentinels();
    return statuses[0].trouble && statuses[0].trouble->message == "no answer in time" &&
           statuses[1].trouble && statuses[1].trouble->code == ErrorCode::kProtocol &&
           !statuses[2].trouble && statuses[2].is_subscribed;
  }));
}

TEST_F(FakeSentinelTest, OneThatRefusesIsToldApartFromOneThatIsDead) {
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.password = "sesame"; });
  sentinels_[1]->change([](FakeSentinel::Story& story) { story.names = {"cache", "queue"}; });
  const auto all = ports();
  sentinels_[2].reset();
  open(sentinel_url(all, "mymaster"));
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("no Sentinel names") != std::string::npos;
  }));
  const auto statuses = client_->sentinels();
  ASSERT_EQ(statuses.size(), 3u);
  EXPECT_EQ(statuses[0].trouble->code, ErrorCode::kInvalidArgument);
  EXPECT_NE(statuses[0].trouble->message.find("refuses us"), std::string::npos);
  EXPECT_EQ(statuses[1].trouble->code, ErrorCode::kInvalidArgument);
  EXPECT_NE(statuses[1].trouble->message.find("it knows 'cache', 'queue'"), std::string::npos)
      << statuses[1].trouble->message;
  EXPECT_EQ(statuses[2].trouble->code, ErrorCode::kUnavailable);
  // The dead one might know, so it is not the configuration that must change.
  EXPECT_EQ(client_->data_trouble()->code, ErrorCode::kUnavailable);
}

TEST_F(FakeSentinelTest, AReducedAclStillFollowsSwitchMaster) {
  sentinels_[0]->change([](FakeSentinel::Story& story) { story.permits_all_channels = false; });
  open(sentinel_url({sentinels_[0]->port()}, "mymaster"));
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  publish_switch(*sentinels_[0], *master_, *other_);
  EXPECT_TRUE(wait_data_at(*other_));
}

TEST_F(FakeSentinelTest, LearnsOtherSentinelsAndGoesOnWithThem) {
  sentinels_[0]->change([&](FakeSentinel::Story& story) {
    story.sentinels = {{name_of(1), sentinels_[1]->port(), false},
                       {name_of(2), sentinels_[2]->port(), true}};
  });
  open(sentinel_url({sentinels_[0]->port()}, "mymaster"));
  ASSERT_TRUE(poll_until([&] { return client_->sentinels().size() == 2; }));
  wait_subscribed();
  EXPECT_EQ(client_->sentinels()[1].endpoint.port, sentinels_[1]->port());  // Not the one down.
  EXPECT_FALSE(client_->sentinels()[1].is_configured);
  // One that is announced.
  sentinels_[1]->publish("+sentinel", "sentinel " + name_of(2) + " 127.0.0.1 " +
                                          std::to_string(sentinels_[2]->port()) + " @ mymaster " +
                                          address(*master_));
  ASSERT_TRUE(poll_until([&] { return client_->sentinels().size() == 3; }));
  wait_subscribed();
  // The only one that was configured dies, and then the master is replaced.
  sentinels_[0].reset();
  sentinels_[1]->change([&](FakeSentinel::Story& story) {
    story.master_port = other_->port();
    story.epoch = 6;
  });
  drop_connections(*master_);
  EXPECT_TRUE(wait_data_at(*other_));
  EXPECT_EQ(client_->sentinels().size(), 3u);
}

TEST_F(FakeSentinelTest, AsksOverTheConnectionsThatItHas) {
  open_all("news");
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  for (int i = 0; i < 10; ++i) {
    drop_connections(*master_);
    ASSERT_TRUE(observe([&](const Observed& seen) { return seen.data_ups == i + 2; }));
  }
  EXPECT_GE(sentinels_[0]->question_count(), 10);
  EXPECT_EQ(sentinels_[0]->accepted_count(), 2);  // One to ask, one to listen.
}

TEST_F(FakeSentinelTest, WithoutAnySentinelTheSameProcessIsUsedAndNoOther) {
  open_all();
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  for (auto& sentinel : sentinels_) sentinel.reset();
  // What is up stays up.
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_EQ(observer_.seen().data_downs, 0);
  // Once it knows that they are gone: a round that has begun before may still name the master.
  ASSERT_TRUE(poll_until(
      [&] {
        return std::ranges::all_of(client_->sentinels(), [](const SentinelStatus& status) {
          return status.trouble && !status.is_subscribed;
        });
      },
      kPatience));
  drop_connections(*master_);
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.data_ups == 2; }));
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "w"}));
  EXPECT_NE(log().find("the last known master is used"), std::string::npos) << log();
  master_->restart();
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("it was restarted") != std::string::npos;
  }));
  EXPECT_EQ(observer_.seen().data_ups, 2);
}

TEST_F(FakeSentinelTest, ANameThatTheSentinelsHaveForgottenIsNotUsedOn) {
  open_all();
  ASSERT_TRUE(wait_data_at(*master_));
  for (const auto& sentinel : sentinels_) {
    sentinel->change([](FakeSentinel::Story& story) { story.names.clear(); });
  }
  drop_connections(*master_);
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("knows no master named") != std::string::npos;
  }));
  EXPECT_EQ(client_->data_trouble()->code, ErrorCode::kInvalidArgument);
}

TEST_F(FakeSentinelTest, AnAnnouncementThatDoesNotContinueOurStoryIsAskedAbout) {
  open_all();
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  const auto stranger = RedisServer::start();
  const int before = sentinels_[1]->question_count();
  publish_switch(*sentinels_[0], *stranger, *other_);
  ASSERT_TRUE(poll_until([&] { return sentinels_[1]->question_count() > before; }));
  make_it_ask(*sentinels_[1]);
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, master_->port());
}

TEST_F(FakeSentinelTest, AMasterThatIsBackIsDialledAtOnce) {
  auto options = options_for(sentinel_url(ports(), "mymaster"));
  options.backoff_min = 60s;  // Nothing but the event makes it this fast (nor slow: a draw of less
  options.backoff_max = 60s;  // than the limit below passes in any case).
  open(options);
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  master_->kill();
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_data_up; }));
  master_->restart();
  sentinels_[0]->publish("-odown", "master mymaster " + address(*master_));
  EXPECT_TRUE(poll_until([&] { return observer_.seen().data_ups == 2; }, 10s));
}

TEST_F(FakeSentinelTest, AServerThatRefusesWritesIsAskedAbout) {
  master_->command({"CONFIG", "SET", "min-replicas-to-write", "1"});
  open_all();
  ASSERT_TRUE(wait_data_at(*master_));
  wait_subscribed();
  make_it_ask(*sentinels_[0]);  // The next refresh is 5 s away or more.
  for (const auto& sentinel : sentinels_) {
    sentinel->change([&](FakeSentinel::Story& story) {
      story.master_port = other_->port();
      story.epoch = 6;
    });
  }
  std::ignore = poll_until([] { return false; }, 1100ms);            // kSuspicionGap.
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});  // NOREPLICAS
  EXPECT_TRUE(poll_until([&] { return write.has_come(); }, 3500ms));
  EXPECT_TRUE(write.get());
  EXPECT_EQ(other_->command({"GET", "k"}), "v");
}

// Some announce host names, some addresses: it is one server all the same.
TEST_F(FakeSentinelTest, NamesAndAddressesOfOneMasterMayBeMixed) {
  for (const std::size_t named : {0u, 1u}) {
    for (std::size_t i = 0; i < kSentinels; ++i) {
      sentinels_[i]->change([&](FakeSentinel::Story& story) {
        story.master_host = (i == 0) == (named == 0) ? "localhost" : "127.0.0.1";
      });
    }
    open_all("news");
    ASSERT_TRUE(wait_data_at(*master_));
    ASSERT_TRUE(wait_stream_up());
    wait_subscribed();
    make_it_ask(*sentinels_[2], 2);
    EXPECT_TRUE(leaves_in_peace(*master_, [&] {
      make_it_ask(*sentinels_[2], 5);
      sentinels_[0]->publish("-tilt", "#tilt mode exited");
      make_it_ask(*sentinels_[1], 5);
    }));
    EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  }
  // The failover is announced under the other name than the one that we use.
  for (const auto& sentinel : sentinels_) {
    sentinel->change([&](FakeSentinel::Story& story) {
      story.master_port = other_->port();
      story.epoch = 6;
    });
  }
  for (const char* host : {"localhost ", "127.0.0.1 "}) {
    sentinels_[0]->publish("+switch-master", "mymaster " + std::string{host} +
                                                 std::to_string(master_->port()) + " " + host +
                                                 std::to_string(other_->port()));
  }
  EXPECT_TRUE(wait_data_at(*other_));
}

// ----- elections

class FakeElectionTest : public FakeSentinelTest {
 protected:
  void SetUp() override {
    other_->command({"REPLICAOF", "127.0.0.1", std::to_string(master_->port())});
    open_all("news");
    ASSERT_TRUE(wait_data_at(*master_));
    ASSERT_TRUE(wait_stream_up());
    wait_subscribed();
  }
  void vote(std::size_t voter, const std::string& epoch) {
    sentinels_[voter]->publish("+new-epoch", epoch);
    if (voter == 0) sentinels_[0]->publish("+try-failover", "master mymaster " + address(*master_));
    sentinels_[voter]->publish("+vote-for-leader", name_of(0) + " " + epoch);
  }
  void order() {
    sentinels_[0]->publish("+elected-leader", "master mymaster " + address(*master_));
    sentinels_[0]->publish("+failover-state-wait-promotion", "slave " + other_->endpoint() + " " +
                                                                 address(*other_) + " @ mymaster " +
                                                                 address(*master_));
  }
};

TEST_F(FakeElectionTest, ThePromotedReplicaIsUsedBeforeAnySentinelNamesIt) {
  vote(0, "6");
  vote(1, "6");
  order();
  // Both leave the old master at once, and no command is given to a replica.
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_data_up && !seen.is_stream_up; }));
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});
  EXPECT_EQ(other_->command({"REPLICAOF", "NO", "ONE"}), "OK");
  ASSERT_TRUE(write.get()) << write.get().error().to_string();
  EXPECT_EQ(other_->command({"GET", "k"}), "v");
  for (const auto& sentinel : sentinels_) {
    sentinel->change([&](FakeSentinel::Story& story) {
      story.master_port = other_->port();
      story.epoch = 6;
    });
  }
  ASSERT_TRUE(wait_stream_up());
  make_it_ask(*sentinels_[0], 3);
  EXPECT_EQ(observer_.seen().data_downs, 1);
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, other_->port());
}

TEST_F(FakeElectionTest, OneThatNobodyConfirmsIsLeftAgain) {
  vote(0, "6");
  vote(1, "6");
  order();
  EXPECT_EQ(other_->command({"REPLICAOF", "NO", "ONE"}), "OK");
  ASSERT_TRUE(wait_data_at(*other_));
  ASSERT_TRUE(wait_data_at(*master_));
}

TEST_F(FakeElectionTest, WithoutAMajorityNothingHappens) {
  vote(0, "6");
  order();
  EXPECT_EQ(other_->command({"REPLICAOF", "NO", "ONE"}), "OK");
  make_it_ask(*sentinels_[0], 2);
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, master_->port());
}

}  // namespace
}  // namespace tiercel::l2
