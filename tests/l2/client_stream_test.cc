// S, the subscription.

#include <thread>

#include "client_fixture.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using tiercel::testing::TcpProxy;

TEST_F(ClientTest, DeliversMessagesAndPongsInOrder) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  ASSERT_TRUE(wait_stream_up());
  const std::string_view bytes{"\0\r\n\xff", 4};
  for (int i = 0; i < 500; ++i) {
    ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", std::to_string(i)}));
  }
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", bytes}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "other", "not ours"}));
  ping("token-1");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  const auto seen = observer_.seen();  // The pong came after all of the messages.
  EXPECT_EQ(seen.pongs[0], "token-1");
  ASSERT_EQ(seen.messages.size(), 501u);
  for (int i = 0; i < 500; ++i) {
    EXPECT_EQ(seen.messages[static_cast<std::size_t>(i)], std::to_string(i));
  }
  EXPECT_EQ(seen.messages[500], bytes);
  EXPECT_EQ(seen.data_server, seen.stream_server);
  EXPECT_EQ(seen.out_of_order, 0);
  EXPECT_NE(server->command({"CLIENT", "LIST"}).find("name=tiercel-stream"), std::string::npos);
  EXPECT_NE(server->command({"CLIENT", "LIST"}).find("name=tiercel-data"), std::string::npos);
}

TEST_F(ClientTest, ReportsAKilledSubscriptionAndComesBack) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  ASSERT_TRUE(wait_data_up());
  for (int round = 1; round <= 3; ++round) {
    ASSERT_TRUE(observe(
        [&](const Observed& seen) { return seen.stream_ups == round && seen.is_stream_up; }));
    ASSERT_EQ(server->command({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
    ASSERT_TRUE(observe([&](const Observed& seen) { return seen.stream_downs == round; }));
  }
  ASSERT_TRUE(wait_stream_up());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", "again"}));
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 1; }));
  EXPECT_EQ(observer_.seen().data_downs, 0);  // D is another connection.
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_F(ClientTest, ADataConnectionThatIsKilledLeavesTheStreamAlone) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  ASSERT_TRUE(wait_stream_up());
  for (int round = 1; round <= 3; ++round) {
    ASSERT_TRUE(wait_data_up());
    const auto id = call(Retry::kSafe, {"CLIENT", "ID"});
    ASSERT_TRUE(id) << id.error().to_string();
    EXPECT_EQ(server->command({"CLIENT", "KILL", "ID", std::to_string(id->integer)}), "1");
    EXPECT_EQ(text_of({"ECHO", "reads go on"}), "reads go on");
    ASSERT_TRUE(observe([&](const Observed& seen) { return seen.data_ups == round + 1; }));
    EXPECT_EQ(server->command({"PUBLISH", "news", std::to_string(round)}), "1");
  }
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 3; }));
  EXPECT_EQ(observer_.seen().stream_downs, 0);
  EXPECT_EQ(observer_.seen().data_downs, 3);
}

TEST_F(ClientTest, RedialsTheStreamOnRequest) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  ASSERT_TRUE(wait_stream_up());
  std::promise<int> downs;
  loop_.post([&] {
    client_->stream_redial("the pong is late");
    downs.set_value(observer_.seen().stream_downs);
  });
  EXPECT_EQ(downs.get_future().get(), 1);  // At once.
  EXPECT_NE(observer_.seen().stream_reason.find("the pong is late"), std::string::npos);
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.stream_ups == 2; }));
}

TEST_F(ClientTest, ABusyServerRefusesPings) {
  const auto server = RedisServer::start({.arguments = {"--lua-time-limit", "10"}});
  open(server->url(), "news");
  ASSERT_TRUE(wait_stream_up());
  const Pending endless = send(Retry::kSafe, {"EVAL", "while true do end", "0"});
  ASSERT_TRUE(poll_until([&] { return server->command({"PING"}).starts_with("-BUSY"); }));
  ping("t");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.refusals.size() == 1; }));
  EXPECT_TRUE(observer_.seen().refusals[0].starts_with("BUSY"));
  EXPECT_TRUE(observer_.seen().pongs.empty());
  EXPECT_EQ(server->command({"SCRIPT", "KILL"}), "OK");
  EXPECT_TRUE(endless.get()->is_error());
  ping("u");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  EXPECT_EQ(observer_.seen().pongs[0], "u");
  EXPECT_EQ(observer_.seen().stream_downs, 0);
}

TEST_F(ClientTest, EndsAStreamThatCarriesAnythingUnexpected) {
  std::atomic<int> round{0};
  FakeServer server{[&](const FakeServer::Words& request) -> std::string {
    std::string reply = FakeServer::handshake_reply(request);
    if (request[0] != "SUBSCRIBE") return reply;
    switch (round.fetch_add(1)) {
      case 0: return reply + "+PONG\r\n";
      case 1: return reply + "-ERR out of the blue\r\n";  // No ping is outstanding.
      case 2: return reply + "*3\r\n$7\r\nmessage\r\n$5\r\nother\r\n$1\r\nx\r\n";
      case 3: return reply + "*2\r\n$4\r\npong\r\n$0\r\n\r\n";  // Nor here.
      case 4: return reply + "*3\r\n$11\r\nunsubscribe\r\n$4\r\nnews\r\n:0\r\n";
      case 5: return reply + "garbage\r\n";
      case 6: return "+OK\r\n";  // In place of the confirmation.
      default: return reply + "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$2\r\nok\r\n";
    }
  }};
  open("redis://127.0.0.1:" + std::to_string(server.port()), "news");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.messages[0], "ok");
  EXPECT_EQ(seen.stream_ups, 7);
  EXPECT_EQ(seen.stream_downs, 6);
  EXPECT_TRUE(seen.pongs.empty());
  EXPECT_TRUE(seen.refusals.empty());
  EXPECT_EQ(seen.out_of_order, 0);
}

TEST_F(ClientTest, WithoutAChannelThereIsNoStream) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  ping("ignored");
  EXPECT_EQ(text_of({"GET", "k"}), "v");
  EXPECT_EQ(observer_.seen().stream_ups, 0);
  EXPECT_EQ(client_->stats().connects_attempted, 1u);
}

}  // namespace
}  // namespace tiercel::l2
