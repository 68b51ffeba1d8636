// S as the target of its own CLIENT TRACKING: what foreign writers do.

#include <algorithm>
#include <thread>

#include "asking_fixture.h"
#include "support/blocking_redis.h"
#include "support/redis_server.h"
#include "support/resp_text.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::BlockingRedis;
using tiercel::testing::RedisServer;
namespace resp = tiercel::testing::resp;

class TrackingTest : public ClientTest {
 protected:
  TrackingTest() { track_prefix_ = "ns:"; }
  ~TrackingTest() override { client_.reset(); }

  void start(std::vector<std::string> arguments = {}) {
    server_ = RedisServer::start({.arguments = std::move(arguments)});
    open(server_->url(), "news");
    ASSERT_TRUE(wait_stream_up());
  }
  bool wait_tracked(const std::string& key) {
    return observe([&](const Observed& seen) {
      return std::find(seen.tracked.begin(), seen.tracked.end(), key) != seen.tracked.end();
    });
  }
  // Whether the client is told of `key` after `words`, which are a foreign client's.
  bool tells(const std::vector<std::string>& words, const std::string& key) {
    const std::string reply = server_->command(words);
    EXPECT_FALSE(reply.starts_with("-")) << words[0] << ": " << reply;
    return wait_tracked(key);
  }
  // All that was published or written before has been told when it returns.
  void barrier() {
    const std::size_t pongs = observer_.seen().pongs.size();
    ping("barrier");
    EXPECT_TRUE(observe([&](const Observed& seen) { return seen.pongs.size() == pongs + 1; }));
  }

  std::unique_ptr<RedisServer> server_;
};

TEST_F(TrackingTest, TellsOfEveryKindOfChange) {
  start();
  EXPECT_TRUE(tells({"SET", "ns:set", "v"}, "set"));
  EXPECT_TRUE(tells({"DEL", "ns:set"}, "set"));
  EXPECT_TRUE(tells({"SET", "ns:from", "v"}, "from"));
  EXPECT_TRUE(tells({"RENAME", "ns:from", "ns:to"}, "to"));
  const auto seen = observer_.seen();
  EXPECT_EQ(std::count(seen.tracked.begin(), seen.tracked.end(), "from"), 2);  // And its end.
  EXPECT_TRUE(tells({"EVAL", "return redis.call('SET', KEYS[1], 'v')", "1", "ns:lua"}, "lua"));
  EXPECT_TRUE(tells({"SET", "ns:brief", "v", "PX", "30"}, "brief"));
  EXPECT_TRUE(observe([](const Observed& now) {
    return std::count(now.tracked.begin(), now.tracked.end(), "brief") == 2;  // It has expired.
  }));
  EXPECT_TRUE(tells({"SET", "ns:", "v"}, ""));  // The key that is the prefix.
  EXPECT_TRUE(observe([](const Observed& now) { return !now.is_read_open; }));
  EXPECT_EQ(observer_.seen().flushes, 0);
  EXPECT_EQ(observer_.seen().stream_downs, 0);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_F(TrackingTest, TellsOfAWriteThatWasAcknowledgedBeforeThePing) {
  start();
  for (int i = 0; i < 200; ++i) {
    const std::string key = std::to_string(i);
    ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "ns:" + key, "v"}));
    barrier();
    const auto seen = observer_.seen();
    ASSERT_EQ(seen.tracked.back(), key);
  }
}

TEST_F(TrackingTest, KeysOfOthersAreNotTold) {
  start();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "other:k", "v"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "ns", "v"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "ns:k", "v"}));
  barrier();
  EXPECT_EQ(observer_.seen().tracked, std::vector<std::string>{"k"});
}

TEST_F(TrackingTest, TellsOfFlushes) {
  start();
  EXPECT_EQ(server_->command({"FLUSHALL"}), "OK");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.flushes == 1; }));
  auto admin = BlockingRedis::connect("127.0.0.1", server_->port());
  ASSERT_TRUE(admin);
  for (const char* word : {"MULTI", "FLUSHALL", "EXEC"}) {
    ASSERT_TRUE(admin->command({word}));
  }
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.flushes == 2; }));
  ASSERT_TRUE(admin->command({"SELECT", "3"}));
  ASSERT_TRUE(admin->command({"FLUSHDB"}));
  ASSERT_TRUE(
      observe([](const Observed& seen) { return seen.flushes == 3 && !seen.is_read_open; }));
  EXPECT_EQ(observer_.seen().stream_downs, 0);
}

TEST_F(TrackingTest, TellsOfEvictions) {
  start({"--maxmemory-policy", "allkeys-random"});
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(
        call(Retry::kIfNotSent, {"SET", "ns:" + std::to_string(i), std::string(1000, 'v')}));
  }
  barrier();
  const std::size_t written = observer_.seen().tracked.size();
  EXPECT_EQ(written, 50u);
  EXPECT_EQ(server_->command({"CONFIG", "SET", "maxmemory", "1"}), "OK");
  EXPECT_TRUE(observe([&](const Observed& seen) { return seen.tracked.size() == written + 50; }));
}

TEST_F(TrackingTest, MessagesAndInvalidationsShareTheStream) {
  start();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", "a message"}));
  EXPECT_TRUE(tells({"SET", "ns:k", "v"}, "k"));
  EXPECT_EQ(observer_.seen().messages, std::vector<std::string>{"a message"});
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_F(TrackingTest, IsThereAgainAfterAReconnect) {
  start();
  for (int round = 1; round <= 3; ++round) {
    ASSERT_EQ(server_->command({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
    ASSERT_TRUE(observe(
        [&](const Observed& seen) { return seen.stream_ups == round + 1 && seen.is_stream_up; }));
    EXPECT_TRUE(tells({"SET", "ns:" + std::to_string(round), "v"}, std::to_string(round)));
  }
}

// What a foreign client publishes to the channel of the invalidations is none.
TEST_F(TrackingTest, AnythingOddEndsTheStream) {
  start();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "__redis__:invalidate", "odd"}));
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.stream_ups == 2; }));
  EXPECT_NE(observer_.seen().stream_reason.find("unexpected"), std::string::npos);
  EXPECT_TRUE(tells({"SET", "ns:k", "v"}, "k"));
}

TEST_F(TrackingTest, WithoutAPrefixNothingIsTracked) {
  track_prefix_.clear();
  start();
  EXPECT_EQ(server_->command({"CLIENT", "LIST"}).find("flags=t"), std::string::npos);
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "ns:k", "v"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"FLUSHALL"}));
  barrier();
  EXPECT_TRUE(observer_.seen().tracked.empty());
  EXPECT_EQ(observer_.seen().flushes, 0);
}

TEST_F(TrackingTest, APrefixNeedsAChannel) {
  ClientConfig config;
  config.redis = options_for("redis://127.0.0.1:1");
  config.track_prefix = "ns:";
  const auto client = Client::open(std::move(config), loop_);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(TrackingTest, APermissionThatIsMissingIsNamed) {
  server_ = RedisServer::start();
  const auto set_user = [&](std::vector<std::string> rules) {
    rules.insert(rules.begin(), {"ACL", "SETUSER", "app"});
    EXPECT_EQ(server_->command(rules), "OK");
  };
  const auto expect_trouble = [&](const std::string& said) {
    std::optional<Error> trouble;
    EXPECT_TRUE(poll_until([&] {
      trouble = client_->stream_trouble();
      return trouble && trouble->message.find(said) != std::string::npos;
    })) << said
        << ": " << (trouble ? trouble->message : "no trouble");
    EXPECT_EQ(trouble->code, ErrorCode::kInvalidArgument);
  };
  set_user({"on", ">pw", "~*", "resetchannels", "&news", "+@all", "-client|id"});
  open("redis://app:pw@127.0.0.1:" + std::to_string(server_->port()), "news");
  expect_trouble("+client|id is missing");
  set_user({"+client|id", "-client|tracking"});
  expect_trouble("+client|tracking is missing");
  set_user({"+client|tracking"});
  expect_trouble("&__redis__:invalidate is missing");
  EXPECT_EQ(observer_.seen().stream_ups, 0);
  set_user({"&__redis__:invalidate"});
  ASSERT_TRUE(wait_stream_up());
  EXPECT_TRUE(tells({"SET", "ns:k", "v"}, "k"));
}

// By a server that does what a real one does not.
TEST_F(TrackingTest, EachStepOfTheHandshakeMustSucceed) {
  std::atomic<int> round{0};
  std::atomic<int> subscribes{0};
  const auto subscribed = [](const std::string& channel, int count) {
    return resp::array({resp::bulk("subscribe"), resp::bulk(channel), resp::integer(count)});
  };
  const auto invalidated = [](const std::string& what) {
    return resp::array({resp::bulk("message"), resp::bulk("__redis__:invalidate"), what});
  };
  FakeServer server{[&](const FakeServer::Words& request) -> std::string {
    if (request[0] == "CLIENT" && request[1] == "ID") {
      return round == 0 ? resp::error("ERR unknown subcommand 'ID'") : resp::integer(7);
    }
    if (request[0] == "CLIENT" && request[1] == "TRACKING") {
      const FakeServer::Words expected{"CLIENT", "TRACKING", "ON",     "REDIRECT",
                                       "7",      "BCAST",    "PREFIX", "ns:"};
      EXPECT_EQ(request, expected);
      return round == 1 ? resp::error("ERR unknown subcommand 'TRACKING'") : resp::ok();
    }
    if (request[0] != "SUBSCRIBE") return FakeServer::handshake_reply(request);
    ++subscribes;
    EXPECT_EQ(request, (FakeServer::Words{"SUBSCRIBE", "news", "__redis__:invalidate"}));
    const std::string first = subscribed("news", 1);
    const std::string second = subscribed("__redis__:invalidate", 2);
    switch (round) {
      case 2: return first;  // It stays there.
      case 3: return second + first;
      case 4: return first + second + invalidated(resp::bulk("ns:k"));
      case 5: return first + second + invalidated(resp::array({resp::integer(1)}));
      case 6: return first + second + invalidated(resp::array({resp::bulk("other:k")}));
      default:
        return first + second + invalidated(resp::array({resp::bulk("x"), resp::bulk("ns:ok")})) +
               invalidated(resp::nil());
    }
  }};
  open(server.url(), "news");
  const auto trouble_says = [&](const std::string& said) {
    return poll_until([&] {
      const auto trouble = client_->stream_trouble();
      return trouble && trouble->code == ErrorCode::kInvalidArgument &&
             trouble->message.find(said) != std::string::npos;
    });
  };
  EXPECT_TRUE(trouble_says("CLIENT ID was answered with"));
  round = 1;
  EXPECT_TRUE(trouble_says("CLIENT TRACKING was answered with"));
  round = 2;
  const int before = subscribes;
  EXPECT_TRUE(poll_until([&] { return subscribes > before; }));
  EXPECT_EQ(observer_.seen().stream_ups, 0);  // Not all is confirmed.
  for (round = 3; round <= 5; ++round) {
    server.end_connections(true);
    const int asked = subscribes;
    EXPECT_TRUE(poll_until([&] { return subscribes >= asked + 2; })) << round;
  }
  server.end_connections(true);  // In round 6.
  ASSERT_TRUE(wait_stream_up());
  EXPECT_TRUE(observer_.seen().tracked.empty());
  round = 7;
  server.end_connections(true);
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.flushes == 1; }));
  EXPECT_EQ(observer_.seen().tracked, std::vector<std::string>{"ok"});
}

// ----- what one read brings

TEST_F(ClientTest, TheEndOfEachReadIsTold) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(observer_.seen().read_ends, 0);  // The confirmation is no message.
  // Delivered together: they are published by one script.
  const std::string script = "for i = 1, 50 do redis.call('PUBLISH', 'news', i) end return 1";
  for (int round = 1; round <= 10; ++round) {
    ASSERT_TRUE(call(Retry::kIfNotSent, {"EVAL", script, "0"}));
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.messages.size() == static_cast<std::size_t>(50 * round) && !seen.is_read_open;
    }));
  }
  const auto seen = observer_.seen();
  int told = 0;
  for (const int count : seen.told_in_read) {
    EXPECT_GT(count, 0);
    told += count;
  }
  EXPECT_EQ(told, 500);
  EXPECT_LT(seen.read_ends, 250);  // Ten, in peace; the kernel may hand out a burst in pieces.
  ping("token");
  ASSERT_TRUE(observe([&](const Observed& now) { return now.read_ends == seen.read_ends + 1; }));
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

}  // namespace
}  // namespace tiercel::l2
