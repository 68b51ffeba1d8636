// FakeServer's scripts and faults, seen through a client that shares nothing with the library's.
// What its commands do is held against the real server by tests/l2/contract_test.cc.

#include "support/fake_server.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <future>
#include <string>
#include <thread>
#include <vector>

#include "support/blocking_redis.h"
#include "support/poll_until.h"
#include "support/resp_text.h"

namespace tiercel::testing {
namespace {

using namespace std::chrono_literals;
using Kind = RedisReply::Kind;

BlockingRedis connect_to(const FakeServer& server) {
  auto redis = BlockingRedis::connect("127.0.0.1", server.port());
  if (!redis) ADD_FAILURE() << redis.error().to_string();
  return std::move(redis).value();
}

std::string ask(BlockingRedis& redis, const std::vector<std::string>& words) {
  const auto reply = redis.command(words);
  return reply ? reply->to_text() : reply.error().to_string();
}

// Every byte until the end of the connection, and whether it was an orderly one.
std::string read_to_end(BlockingRedis& redis, bool& was_reset) {
  std::string got;
  while (true) {
    const auto reply = redis.read_reply();
    if (!reply) {
      was_reset = reply.error().message.find("reset") != std::string::npos;
      return got;
    }
    got += reply->to_text() + ";";
  }
}

TEST(RequestReader, ReadsRequestsInAnyPieces) {
  const std::string bytes = resp::request({"SET", "k\r\n", ""}) + resp::request({"GET", "k"});
  resp::RequestReader reader;
  resp::RequestReader::Words words;
  std::vector<resp::RequestReader::Words> all;
  for (const char byte : bytes) {
    reader.feed({&byte, 1});
    while (reader.next(words) == resp::RequestReader::Outcome::kRequest) all.push_back(words);
  }
  ASSERT_EQ(all.size(), 2U);
  EXPECT_EQ(all[0], (resp::RequestReader::Words{"SET", "k\r\n", ""}));
  EXPECT_EQ(all[1], (resp::RequestReader::Words{"GET", "k"}));
  EXPECT_EQ(reader.buffered_bytes(), 0U);
  for (const char* garbage : {"GET k\r\n", "*0\r\n", "*x\r\n", "*1\r\n+a\r\n", "*1\r\n$-1\r\n"}) {
    resp::RequestReader other;
    other.feed(garbage);
    EXPECT_EQ(other.next(words), resp::RequestReader::Outcome::kGarbage) << garbage;
  }
}

TEST(FakeServer, AnswersOverTcpAndUnixSocket) {
  FakeServer server;
  auto tcp = connect_to(server);
  EXPECT_EQ(ask(tcp, {"SET", "k", "v"}), "OK");
  auto local = BlockingRedis::connect_unix(server.unix_path());
  ASSERT_TRUE(local) << local.error().to_string();
  EXPECT_EQ(ask(*local, {"get", "k"}), "v");
  EXPECT_EQ(server.connections_accepted(), 2);
  EXPECT_EQ(server.connections_open(), 2U);
  EXPECT_EQ(server.requests("GET"), 1U);
}

TEST(FakeServer, RefusesGarbage) {
  FakeServer server;
  auto redis = connect_to(server);
  ASSERT_TRUE(redis.send_raw("GET / HTTP/1.1\r\n"));
  bool was_reset = true;
  EXPECT_TRUE(read_to_end(redis, was_reset).starts_with("-ERR Protocol error"));
}

TEST(FakeServer, FollowsAScript) {
  FakeServer server;
  auto redis = connect_to(server);
  server.on("get", [](const FakeServer::Words& words) { return resp::bulk(words[1] + "!"); });
  EXPECT_EQ(ask(redis, {"GET", "k"}), "k!");
  server.on("GET", {});
  EXPECT_EQ(ask(redis, {"GET", "k"}), "(nil)");
  server.on("GET", [](const FakeServer::Words&) { return FakeServer::kHangUp; });
  EXPECT_FALSE(redis.command({"GET", "k"}));

  FakeServer all{[](const FakeServer::Words& words) { return resp::bulk(words[0]); }};
  auto other = connect_to(all);
  EXPECT_EQ(ask(other, {"ANYTHING"}), "ANYTHING");
}

TEST(FakeServer, CutsAtEveryByte) {
  FakeServer server;
  const std::string replies = resp::bulk("a") + resp::bulk("bb") + resp::bulk("ccc");
  for (const bool resets : {false, true}) {
    for (std::size_t k = 0; k <= replies.size(); ++k) {
      server.inject({.end_after_bytes = k, .resets = resets}, FakeServer::named("ECHO"));
      auto redis = connect_to(server);
      // At once: a later send() would find the connection reset.
      ASSERT_TRUE(redis.send_raw(resp::request({"ECHO", "a"}) + resp::request({"ECHO", "bb"}) +
                                 resp::request({"ECHO", "ccc"})));
      bool was_reset = false;
      const std::string got = read_to_end(redis, was_reset);
      const std::string expected = std::string{k >= 7 ? "a;" : ""} + (k >= 15 ? "bb;" : "") +
                                   (k >= replies.size() ? "ccc;" : "");
      if (resets) {
        EXPECT_TRUE(expected.starts_with(got)) << k << ": " << got;
        EXPECT_TRUE(was_reset) << k;
      } else {
        EXPECT_EQ(got, expected) << k;
        EXPECT_FALSE(was_reset) << k;
      }
    }
  }
}

TEST(FakeServer, ChoosesWhereAFaultStrikes) {
  FakeServer server;
  server.inject({.instead = "+second\r\n"}, FakeServer::at(1, 2));
  server.inject({.instead = "+other\r\n"}, FakeServer::at(2, 1));
  server.choose_faults([](const FakeServer::Request& request) -> std::optional<FakeServer::Fault> {
    if (request.words.back() != "chosen") return std::nullopt;
    return FakeServer::Fault{.instead = "+seen\r\n"};
  });
  auto first = connect_to(server);
  EXPECT_EQ(ask(first, {"PING"}), "PONG");
  EXPECT_EQ(ask(first, {"PING"}), "second");
  EXPECT_EQ(ask(first, {"PING"}), "PONG");
  EXPECT_EQ(ask(first, {"ECHO", "chosen"}), "seen");
  auto second = connect_to(server);
  EXPECT_EQ(ask(second, {"PING"}), "other");
  server.clear_faults();
  EXPECT_EQ(ask(first, {"ECHO", "chosen"}), "chosen");
}

TEST(FakeServer, AnswersTwiceHalfAndNotAtAll) {
  FakeServer server;
  auto redis = connect_to(server);
  server.inject({.copies = 2}, FakeServer::named("PING"));
  EXPECT_EQ(ask(redis, {"PING"}), "PONG");
  EXPECT_EQ(redis.read_reply()->to_text(), "PONG");
  server.inject({.copies = 0}, FakeServer::named("SET"));
  ASSERT_TRUE(redis.send({"SET", "k", "v"}));
  EXPECT_EQ(ask(redis, {"GET", "k"}), "v");  // Carried out; this is the first reply that comes.
  server.inject({.truncate_to_bytes = 3}, FakeServer::named("PING"));
  ASSERT_TRUE(redis.send({"PING"}));
  EXPECT_EQ(ask(redis, {"ECHO", "x"}), "PO$1");  // Out of step, as meant.
}

TEST(FakeServer, HangsStopsReadingAndGoesOn) {
  FakeServer server;
  auto redis = connect_to(server);
  server.inject({.hang_after_bytes = 0}, FakeServer::named("INCR"));
  ASSERT_TRUE(redis.send({"INCR", "n"}));
  ASSERT_TRUE(redis.send({"INCR", "n"}));
  ASSERT_TRUE(poll_until([&] { return server.requests("INCR") == 2; }));
  EXPECT_EQ(redis.read_reply(20ms).error().code, ErrorCode::kDeadlineExceeded);
  server.release();
  EXPECT_EQ(redis.read_reply()->integer, 1);
  EXPECT_EQ(redis.read_reply()->integer, 2);
  server.inject({.hang_after_bytes = 9}, FakeServer::named("ECHO"));
  EXPECT_EQ(ask(redis, {"ECHO", "ab"}), "ab");
  ASSERT_TRUE(redis.send({"ECHO", "cd"}));
  EXPECT_EQ(redis.read_reply(20ms).error().code, ErrorCode::kDeadlineExceeded);
  server.release();
  EXPECT_EQ(redis.read_reply()->to_text(), "cd");

  server.inject({.stops_reading = true}, FakeServer::named("PING"));
  EXPECT_EQ(ask(redis, {"PING"}), "PONG");  // This one still.
  ASSERT_TRUE(redis.send({"INCR", "n"}));
  auto other = connect_to(server);  // The others go on.
  EXPECT_EQ(ask(other, {"GET", "n"}), "2");
  EXPECT_EQ(redis.read_reply(20ms).error().code, ErrorCode::kDeadlineExceeded);
  server.release();
  EXPECT_EQ(redis.read_reply()->integer, 3);

  server.freeze();
  auto waiting = connect_to(server);  // The kernel accepts.
  ASSERT_TRUE(waiting.send({"INCR", "n"}));
  EXPECT_EQ(waiting.read_reply(20ms).error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(server.requests("INCR"), 3U);
  server.thaw();
  EXPECT_EQ(waiting.read_reply()->integer, 4);
}

TEST(FakeServer, DelaysAndKeepsTheOrder) {
  FakeServer server;
  auto redis = connect_to(server);
  server.inject({.delay = 50ms}, FakeServer::named("PING"));
  const TimePoint before = Clock::system().now();
  ASSERT_TRUE(redis.send({"PING"}));
  ASSERT_TRUE(redis.send({"ECHO", "behind"}));
  EXPECT_EQ(redis.read_reply()->to_text(), "PONG");
  EXPECT_GE(Clock::system().now() - before, 50ms);
  EXPECT_EQ(redis.read_reply()->to_text(), "behind");
}

TEST(FakeServer, SendsInChunks) {
  FakeServer server;
  auto redis = connect_to(server);
  server.inject({.chunk_bytes_max = 1}, FakeServer::named("PING"));
  EXPECT_EQ(ask(redis, {"PING"}), "PONG");
  const std::string value(500, 'x');
  const TimePoint before = Clock::system().now();
  EXPECT_EQ(ask(redis, {"ECHO", value}), value);
  EXPECT_GE(Clock::system().now() - before, 500 * 20us);
}

TEST(FakeServer, PausesItsClients) {
  FakeServer server;
  auto redis = connect_to(server);
  const TimePoint before = Clock::system().now();
  EXPECT_EQ(ask(redis, {"CLIENT", "PAUSE", "50"}), "OK");
  EXPECT_EQ(ask(redis, {"PING"}), "PONG");
  EXPECT_GE(Clock::system().now() - before, 50ms);
}

TEST(FakeServer, IsKilledAndRestartedOnItsPort) {
  FakeServer server;
  auto redis = connect_to(server);
  EXPECT_EQ(ask(redis, {"SET", "k", "v"}), "OK");
  const std::string before = ask(redis, {"INFO", "server"});
  server.kill();
  EXPECT_FALSE(redis.command({"PING"}));
  EXPECT_FALSE(BlockingRedis::connect("127.0.0.1", server.port()));
  EXPECT_FALSE(BlockingRedis::connect_unix(server.unix_path()));
  EXPECT_EQ(server.connections_open(), 0U);
  server.restart();
  auto again = connect_to(server);
  EXPECT_EQ(ask(again, {"GET", "k"}), "(nil)");
  EXPECT_NE(ask(again, {"INFO", "server"}), before);
}

TEST(FakeServer, DisconnectsSlowSubscribers) {
  FakeServer server;
  server.limit_subscribers(64 << 10);
  auto slow = connect_to(server);
  ASSERT_TRUE(slow.command({"SUBSCRIBE", "news"}));
  const std::string payload(64 << 10, 'x');
  int published = 0;
  while (server.publish("news", payload) == 1 && ++published < 10'000) {
  }
  EXPECT_LT(published, 10'000);
  EXPECT_GT(published, 0);
  bool was_reset = false;
  read_to_end(slow, was_reset);
  EXPECT_TRUE(was_reset);
}

TEST(FakeServer, IsToldWhatToDoByItsOwnHandlers) {
  FakeServer server;
  server.on("FIRE", [&](const FakeServer::Words&) {
    return resp::integer(static_cast<std::int64_t>(server.publish("news", "fire")));
  });
  auto subscriber = connect_to(server);
  ASSERT_TRUE(subscriber.command({"SUBSCRIBE", "news"}));
  auto redis = connect_to(server);
  EXPECT_EQ(ask(redis, {"FIRE"}), "1");
  EXPECT_EQ(subscriber.read_reply()->to_text(), "message\nnews\nfire");
}

TEST(FakeServer, EndsWithItsOwnerWhateverItDoes) {
  for (int round = 0; round < 20; ++round) {
    auto server = std::make_unique<FakeServer>();
    auto redis = connect_to(*server);
    if (round % 3 == 0) server->freeze();
    if (round % 3 == 1) server->inject({.hang_after_bytes = 0}, FakeServer::any_request());
    ASSERT_TRUE(redis.send({"PING"}));
    std::thread caller{[&] { static_cast<void>(server->requests("PING")); }};
    caller.join();
    const std::string path = server->unix_path();
    server.reset();
    EXPECT_FALSE(BlockingRedis::connect_unix(path));
    bool was_reset = false;
    read_to_end(redis, was_reset);  // It ends.
  }
}

}  // namespace
}  // namespace tiercel::testing
