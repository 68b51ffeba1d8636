// The client behind Sentinels.

#include <algorithm>
#include <thread>

#include "client_fixture.h"
#include "fake_sentinel.h"
#include "support/fake_server.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using tiercel::testing::SentinelSetup;

TEST_F(ClientTest, FollowsAFailover) {
  const auto setup = SentinelSetup::start();
  open(setup->url(), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "before"}));
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, setup->server(0).port());

  setup->server(0).kill();
  ASSERT_TRUE(wait_data_lost());
  // Waits through the failover.
  const auto resumed = call(Retry::kIfNotSent, {"SET", "k", "after"}, 120s);
  ASSERT_TRUE(resumed) << resumed.error().to_string();
  ASSERT_FALSE(resumed->is_error()) << resumed->text;
  ASSERT_TRUE(wait_stream_up());
  const int master = setup->wait_for_new_master(0);
  ASSERT_GT(master, 0);
  RedisServer& promoted = setup->server(static_cast<std::size_t>(master));
  ASSERT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up && seen.is_stream_up &&
           seen.data_server.endpoint.port == promoted.port() &&
           seen.stream_server == seen.data_server;
  }));
  EXPECT_EQ(promoted.command({"GET", "k"}), "after");
  EXPECT_GE(client_->stats().master_changes, 1u);
  EXPECT_NE(log().find("the master was"), std::string::npos);

  // The old one comes back as a replica; nobody moves there.
  setup->restart_as_replica(0);
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", "x"}));
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.messages.empty(); }));
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, promoted.port());
}

TEST_F(ClientTest, LeavesAHungMasterWhenAnotherIsAnnounced) {
  const auto setup = SentinelSetup::start();
  open(setup->url(), "news");  // response_timeout is a minute: only the announcement is that fast.
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "before"}));
  ASSERT_TRUE(wait_stream_up());
  for (std::size_t i = 1; i < setup->server_count(); ++i) {  // Replication is asynchronous.
    ASSERT_TRUE(poll_until([&] { return setup->server(i).command({"GET", "k"}) == "before"; }));
  }
  setup->server(0).stop_process();
  const Pending read = send(Retry::kSafe, {"GET", "k"}, 50s);  // In flight to the hung one.
  ASSERT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up && seen.is_stream_up &&
           seen.data_server.endpoint.port != setup->server(0).port() &&
           seen.stream_server == seen.data_server;
  }));
  EXPECT_EQ(read.get()->text, "before");
  setup->server(0).continue_process();
}

TEST_F(ClientTest, NeedsOnlyOneLivingSentinel) {
  const auto setup = SentinelSetup::start({.replicas = 1});
  setup->sentinel(0).kill();
  setup->sentinel(1).stop_process();  // Accepts, and does not answer.
  open(setup->url(), "news");
  const auto reply = call(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_TRUE(reply) << reply.error().to_string();
  EXPECT_TRUE(wait_stream_up());
}

TEST_F(ClientTest, NamesTheMasterThatNoSentinelKnows) {
  const auto setup = SentinelSetup::start({.replicas = 1});
  open(sentinel_url(setup->sentinel_ports(), "nobody"));
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().to_string();
  EXPECT_NE(refused.error().message.find("'nobody'"), std::string::npos);
  EXPECT_NE(refused.error().message.find("it knows 'mymaster'"), std::string::npos)
      << refused.error().message;
  for (const std::uint16_t port : setup->sentinel_ports()) {
    EXPECT_NE(refused.error().message.find(":" + std::to_string(port)), std::string::npos)
        << refused.error().message;
  }
  // One that cannot be asked might know it.
  setup->sentinel(2).kill();
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->code == ErrorCode::kUnavailable &&
           trouble->message.find("connection refused") != std::string::npos;
  }));
}

TEST_F(ClientTest, SaysWhenNoSentinelCanBeReached) {
  auto gone = RedisServer::start();
  const std::string url = sentinel_url({gone->port()}, "mymaster");
  gone->kill();
  open(url);
  const auto reply = call(Retry::kSafe, {"GET", "k"}, 300ms);
  ASSERT_FALSE(reply);
  EXPECT_EQ(reply.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(reply.error().message.find("connection refused"), std::string::npos)
      << reply.error().message;
}

TEST_F(ClientTest, SaysWhenASentinelIsAServerOrTheOtherWayRound) {
  const auto server = RedisServer::start();
  open(sentinel_url({server->port()}, "mymaster"));
  const auto no_sentinel = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(no_sentinel);
  EXPECT_NE(no_sentinel.error().message.find("not a Sentinel"), std::string::npos)
      << no_sentinel.error().message;

  const auto setup = SentinelSetup::start({.replicas = 1});
  open("redis://127.0.0.1:" + std::to_string(setup->sentinel_ports()[0]));
  const auto no_server = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(no_server);
  EXPECT_NE(no_server.error().message.find("redis+sentinel"), std::string::npos)
      << no_server.error().message;
}

// A Sentinel that names `master` with this epoch.
FakeServer::Handler sentinel_naming(const std::uint16_t& master, int epoch, int delay_ms) {
  return [&master, epoch, delay_ms](const FakeServer::Words& request) -> std::string {
    const auto bulk = [](const std::string& text) {
      return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
    };
    if (request[0] == "SUBSCRIBE") return FakeServer::handshake_reply(request);
    if (request[0] != "SENTINEL") return "-ERR unknown\r\n";
    const std::string port = std::to_string(master);
    if (request[1] != "MASTER") return "*2\r\n" + bulk("127.0.0.1") + bulk(port);
    std::this_thread::sleep_for(std::chrono::milliseconds{delay_ms});
    return "*8\r\n" + bulk("name") + bulk("mymaster") + bulk("ip") + bulk("127.0.0.1") +
           bulk("port") + bulk(port) + bulk("config-epoch") + bulk(std::to_string(epoch));
  };
}

TEST_F(ClientTest, BelievesTheSentinelWithTheNewestConfiguration) {
  const auto old_master = RedisServer::start();
  const auto new_master = RedisServer::start();
  const std::uint16_t old_port = old_master->port();
  const std::uint16_t new_port = new_master->port();
  FakeServer cut_off{sentinel_naming(old_port, 7, 0)};
  FakeServer current{sentinel_naming(new_port, 8, 5)};
  open(sentinel_url({cut_off.port(), current.port()}, "mymaster"));
  const auto is_at_new = [&](const Observed& seen) {
    return seen.is_data_up && seen.data_server.endpoint.port == new_port;
  };
  // The other may be so much faster that it is followed first. Once both have spoken it is not.
  ASSERT_TRUE(observe(is_at_new));
  const int ups = observer_.seen().data_ups;
  EXPECT_NE(new_master->command({"CLIENT", "KILL", "TYPE", "normal"}), "0");
  ASSERT_TRUE(observe([&](const Observed& seen) { return seen.data_ups > ups; }));
  EXPECT_EQ(observer_.seen().data_server.endpoint.port, new_port);
}

TEST_F(ClientTest, GivesSentinelsTheirOwnPassword) {
  const auto master = RedisServer::start();
  const std::uint16_t port = master->port();
  std::atomic<bool> is_authenticated{false};
  const auto answer = sentinel_naming(port, 1, 0);
  FakeServer sentinel{[&](const FakeServer::Words& request) -> std::string {
    if (request[0] == "AUTH") {
      is_authenticated = request.back() == "sesame";
      return is_authenticated ? "+OK\r\n" : "-WRONGPASS invalid username-password pair\r\n";
    }
    return is_authenticated ? answer(request) : "-NOAUTH Authentication required.\r\n";
  }};
  auto options = options_for(sentinel_url({sentinel.port()}, "mymaster"));
  struct Case {
    std::string password;
    const char* said;
  };
  for (const Case& wrong : {Case{"", "none is configured"}, Case{"guess", "is wrong"}}) {
    options.sentinel_credentials.password = wrong.password;
    open(options);
    const auto refused = call(Retry::kSafe, {"GET", "k"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_NE(refused.error().message.find("Sentinel refuses us"), std::string::npos)
        << refused.error().message;
    EXPECT_NE(refused.error().message.find(wrong.said), std::string::npos)
        << refused.error().message;
  }
  options.sentinel_credentials.password = "sesame";
  open(options);
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
}

TEST_F(ClientTest, MovesToTheMasterThatIsAnnounced) {
  const auto first = RedisServer::start();
  const auto second = RedisServer::start();
  // A real server does the publishing, since only its subscription matters here; the answers to
  // SENTINEL MASTER come from the fake one.
  const std::uint16_t first_port = first->port();
  FakeServer sentinel{sentinel_naming(first_port, 1, 0)};
  const auto publisher = RedisServer::start();
  open(sentinel_url({sentinel.port(), publisher->port()}, "my"), "news");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  ASSERT_TRUE(poll_until([&] {
    return publisher->command({"PUBSUB", "NUMSUB", "+switch-master"}).ends_with("1");
  }));

  const std::string from = " 127.0.0.1 " + std::to_string(first->port());
  const std::string to = " 127.0.0.1 " + std::to_string(second->port());
  // Not ours, or not understood: ignored.
  for (const std::string& other :
       {"mymaster" + from + to, "m" + from + to, "my" + from, "my" + from + " 127.0.0.1 x",
        "my" + from + to + " more", std::string{}, std::string{"my"}}) {
    EXPECT_EQ(publisher->command({"PUBLISH", "+switch-master", other}), "1");
  }
  EXPECT_EQ(publisher->command({"PUBLISH", "+switch-master", "my" + from + to}), "1");
  ASSERT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up && seen.is_stream_up &&
           seen.data_server.endpoint.port == second->port() &&
           seen.stream_server.endpoint.port == second->port();
  }));
  EXPECT_EQ(client_->stats().master_changes, 1u);
  EXPECT_EQ(observer_.seen().data_downs, 1);
  EXPECT_EQ(observer_.seen().stream_downs, 1);
}

// ----- real Sentinels, real faults (CHAOS 12, 13, 22)

TEST_F(ClientTest, LearnsTheOthersFromOneSentinelAndFollowsWithoutIt) {
  const auto setup = SentinelSetup::start();
  // By a name that is not the one under which the others know it: it is still one of three.
  open("redis+sentinel://localhost:" + std::to_string(setup->sentinel_ports()[0]) + "/mymaster");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  const auto all_subscribed = [&] {
    const auto statuses = client_->sentinels();
    return statuses.size() == 3 &&
           std::all_of(statuses.begin(), statuses.end(),
                       [](const SentinelStatus& status) { return status.is_subscribed; });
  };
  ASSERT_TRUE(poll_until(all_subscribed));
  setup->sentinel(0).kill();
  setup->server(0).kill();
  ASSERT_TRUE(wait_data_lost());
  const auto resumed = call(Retry::kIfNotSent, {"SET", "k", "after"}, 120s);
  ASSERT_TRUE(resumed) << resumed.error().to_string();
  EXPECT_EQ(client_->sentinels().size(), 3u);
}

TEST_F(ClientTest, FollowsTheElectionAheadOfTheAnnouncement) {
  const auto setup = SentinelSetup::start();
  open(setup->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(poll_until([&] {
    const auto statuses = client_->sentinels();
    return std::all_of(statuses.begin(), statuses.end(),
                       [](const SentinelStatus& status) { return status.is_subscribed; });
  }));
  setup->server(0).kill();
  ASSERT_TRUE(wait_data_lost());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "w"}, 120s));
  EXPECT_NE(log().find("promotes 127.0.0.1:"), std::string::npos) << log();
  const int master = setup->wait_for_new_master(0);
  ASSERT_GT(master, 0);
  EXPECT_TRUE(observe([&](const Observed& seen) {
    return seen.is_data_up &&
           seen.data_server.endpoint.port == setup->server(static_cast<std::size_t>(master)).port();
  }));
}

TEST_F(ClientTest, AMasterThatHangsAWhileIsWaitedFor) {
  const auto setup = SentinelSetup::start({.replicas = 1, .down_after = 60s});
  open(setup->url(), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ASSERT_TRUE(wait_stream_up());
  setup->server(0).stop_process();
  const Pending hasty = send(Retry::kSafe, {"GET", "k"}, 300ms);
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "w"});
  const Pending read = send(Retry::kSafe, {"GET", "k"});
  EXPECT_EQ(hasty.get().error().code, ErrorCode::kUnavailable);
  setup->server(0).continue_process();
  EXPECT_TRUE(write.get());
  EXPECT_EQ(read.get()->text, "w");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", "x"}));
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.messages.empty(); }));
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().stream_downs, 0);
}

TEST_F(ClientTest, SentinelsAndReplicasMayDieWhileTheMasterLives) {
  const auto setup = SentinelSetup::start({.down_after = 60s});
  open(setup->url(), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "0"}));
  ASSERT_TRUE(wait_stream_up());
  const auto goes_on = [&] { return call(Retry::kIfNotSent, {"INCR", "k"}).has_value(); };
  setup->sentinel(0).stop_process();
  EXPECT_TRUE(goes_on());
  setup->server(1).kill();  // A replica.
  EXPECT_TRUE(goes_on());
  setup->sentinel(1).kill();
  setup->sentinel(2).kill();
  EXPECT_TRUE(goes_on());
  // The mode is reported.
  ASSERT_TRUE(poll_until([&] {
    const auto statuses = client_->sentinels();
    return statuses[1].trouble && statuses[2].trouble && !statuses[1].is_subscribed;
  }));
  // And left, when they are back.
  setup->sentinel(0).continue_process();
  setup->sentinel(1).restart();
  ASSERT_TRUE(poll_until([&] { return client_->sentinels()[1].is_subscribed; }, kPatience));
  ASSERT_TRUE(poll_until([&] { return !client_->sentinels()[1].trouble; }, kPatience));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.data_downs, 0);
  EXPECT_EQ(seen.stream_downs, 0);
}

TEST_F(ClientTest, FollowsHostNamesThatSentinelsAnnounce) {
  const auto master = RedisServer::start();
  const auto sentinel = RedisServer::start(
      {.sentinel = true,
       .config = {"sentinel resolve-hostnames yes", "sentinel announce-hostnames yes",
                  "sentinel monitor mymaster localhost " + std::to_string(master->port()) + " 1"}});
  open(sentinel_url({sentinel->port()}, "mymaster"));
  ASSERT_TRUE(wait_data_up());
  EXPECT_EQ(observer_.seen().data_server.endpoint.to_string(),
            "localhost:" + std::to_string(master->port()));
  // Looked up again for each connection.
  EXPECT_NE(master->command({"CLIENT", "KILL", "TYPE", "normal"}), "0");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.data_ups == 2; }));
}

TEST_F(ClientTest, MakesDoWithWhatASentinelsAclPermits) {
  const auto master = RedisServer::start();
  const auto sentinel = RedisServer::start(
      {.sentinel = true,
       .config = {"sentinel monitor mymaster 127.0.0.1 " + std::to_string(master->port()) + " 1",
                  "user tiercel on >sesame resetchannels &+switch-master -@all +auth +subscribe "
                  "+sentinel|master +sentinel|get-master-addr-by-name",
                  "user stranger on >sesame resetchannels -@all +auth"}});
  auto options = options_for(sentinel_url({sentinel->port()}, "mymaster"));
  options.sentinel_credentials = {"tiercel", "sesame"};
  open(options);
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(poll_until([&] { return client_->sentinels()[0].is_subscribed; }));
  EXPECT_FALSE(client_->sentinels()[0].trouble);

  options.sentinel_credentials = {"stranger", "sesame"};
  open(options);
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("+sentinel"), std::string::npos)
      << refused.error().message;
}

}  // namespace
}  // namespace tiercel::l2
