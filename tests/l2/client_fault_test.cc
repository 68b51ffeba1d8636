// The client against servers that hang, die, refuse and talk nonsense.

#include <thread>

#include "client_fixture.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::LinkFault;
using tiercel::testing::RedisServer;
using tiercel::testing::TcpProxy;

// In this order: a connection that lived on after bytes of it were lost would be out of step, which
// no TCP connection ever is.
void cut_then_heal(TcpProxy& proxy) {
  proxy.reset_all();
  proxy.heal();
}

TEST_F(ClientTest, DeadlinesPassWhileTheServerHangsAndLateRepliesAreDiscarded) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  server->stop_process();
  call_until_sent(Retry::kIfNotSent, {"SET", "k", "late"}, 50ms);
  call_until_sent(Retry::kSafe, {"GET", "k"}, 50ms);
  const Pending patient = send(Retry::kSafe, {"ECHO", "patient"});
  EXPECT_FALSE(patient.has_come());
  server->continue_process();
  EXPECT_EQ(patient.get()->text, "patient");  // Not the reply to one of the others.
  EXPECT_EQ(text_of({"GET", "k"}), "late");   // Unknown meant unknown: it was executed.
  EXPECT_EQ(client_->stats().replies_late, 2u);
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(ClientTest, ACommandPastItsDeadlineIsNeverSent) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(wait_data_up());
  const auto late = call(Retry::kIfNotSent, {"SET", "k", "v"}, -1ms);
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(text_of({"EXISTS", "k"}), "0");
}

TEST_F(ClientTest, AConnectionThatAnswersNothingIsReplaced) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  auto options = options_for(proxy.url());
  options.response_timeout = 300ms;
  options.connect_timeout = 500ms;  // Attempts fail too until the proxy heals.
  open(options);
  // The same happens to one that is only slow.
  ASSERT_TRUE(poll_until(
      [&] {
        return call(Retry::kIfNotSent, {"SET", "k", "v"}).has_value();
      },
      kPatience));
  proxy.set_server_to_client({.blackhole = true});
  Pending read;
  Pending write;
  on_loop([&] {  // The write must not come when the read has ended the connection.
    read = send(Retry::kSafe, {"GET", "k"});
    write = send(Retry::kIfNotSent, {"INCR", "n"});
  });
  EXPECT_EQ(write.get().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_NE(observer_.seen().data_reason.find("no reply for 300 ms"), std::string::npos)
      << observer_.seen().data_reason;
  proxy.heal();
  EXPECT_EQ(read.get()->text, "v");
}

TEST_F(ClientTest, WaitingCommandsAreSentWhenTheServerIsBack) {
  auto server = RedisServer::start();
  open(server->url(), "channel");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  const std::string first_run = observer_.seen().data_server.run_id;
  server->kill();
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_data_up && !seen.is_stream_up; }));
  ASSERT_TRUE(client_->data_trouble());
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "waited"});
  const Pending read = send(Retry::kSafe, {"GET", "k"});
  const Pending hasty = send(Retry::kSafe, {"GET", "k"}, 20ms);
  EXPECT_EQ(hasty.get().error().code, ErrorCode::kUnavailable);
  EXPECT_NE(hasty.get().error().message.find("not sent"), std::string::npos);
  server->restart();
  ASSERT_TRUE(write.get()) << write.get().error().to_string();
  EXPECT_EQ(read.get()->text, "waited");
  ASSERT_TRUE(wait_stream_up());
  const auto seen = observer_.seen();
  EXPECT_NE(seen.data_server.run_id, first_run);
  EXPECT_EQ(seen.data_server, seen.stream_server);
  EXPECT_EQ(seen.out_of_order, 0);
  EXPECT_GE(client_->stats().connects_attempted, 4u);
}

TEST_F(ClientTest, TellsTheUnknownOutcomeOfAWriteWhoseReplyWasLost) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  auto options = options_for(proxy.url());
  options.connect_timeout = 500ms;  // An attempt may fall into the silence.
  open(options);
  ASSERT_TRUE(wait_data_up());
  proxy.set_server_to_client({.blackhole = true});
  const Pending write = send(Retry::kIfNotSent, {"INCR", "n"});
  ASSERT_TRUE(poll_until([&] { return server->command({"GET", "n"}) == "1"; }));
  EXPECT_FALSE(write.has_come());
  cut_then_heal(proxy);
  const auto unknown = write.get();
  EXPECT_EQ(unknown.error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(text_of({"GET", "n"}), "1");  // It was not sent again.
}

TEST_F(ClientTest, SendsReadsAgainInTheirOrder) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  auto options = options_for(proxy.url());
  options.connect_timeout = 500ms;  // An attempt may fall into the silence.
  open(options);
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  proxy.set_server_to_client({.blackhole = true});
  std::vector<Pending> answers;
  for (int i = 0; i < 100; ++i) {
    answers.push_back(send(Retry::kSafe, {"ECHO", std::to_string(i)}));
    if (i == 50) {
      ASSERT_TRUE(poll_until([&] { return client_->stats().commands_waiting == 51; }));
    }
  }
  cut_then_heal(proxy);
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(answers[static_cast<std::size_t>(i)].get()->text, std::to_string(i));
  }
  EXPECT_EQ(text_of({"GET", "k"}), "v");
}

TEST_F(ClientTest, ReadsWhateverTheChunks) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_server_to_client({.chunk_bytes_max = 1});
  proxy.set_client_to_server({.chunk_bytes_max = 3});
  open(proxy.url(), "channel");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "a value"}));
  EXPECT_EQ(text_of({"GET", "k"}), "a value");
  EXPECT_TRUE(wait_stream_up());
}

TEST_F(ClientTest, SurvivesResetsAtEveryMoment) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  open(proxy.url(), "channel");
  std::vector<Pending> writes;
  for (int round = 0; round < 60; ++round) {
    for (int i = 0; i < 20; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
    std::this_thread::sleep_for(std::chrono::milliseconds{round % 7});
    // A slow machine may be connected for too short a time to be answered anything in between.
    if (round % 20 == 19) {
      ASSERT_TRUE(poll_until([&] {
        writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
        return writes.back().get().has_value();
      }));
    }
    proxy.reset_all();
  }
  int acknowledged = 0;
  int unknown = 0;
  std::int64_t last = 0;
  for (const Pending& write : writes) {
    const auto reply = write.get();
    if (reply) {
      EXPECT_GT(reply->integer, last);  // In order, each once.
      last = reply->integer;
      ++acknowledged;
    } else {
      EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded) << reply.error().to_string();
      ++unknown;
    }
  }
  const int executed = std::stoi(server->command({"GET", "n"}));
  EXPECT_GE(executed, acknowledged);
  EXPECT_LE(executed, acknowledged + unknown);
  EXPECT_GE(acknowledged, 3);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_F(ClientTest, LeavesAServerThatBecameAReplicaAndWaitsForAMaster) {
  const auto master = RedisServer::start();
  const auto server = RedisServer::start();
  open(server->url(), "channel");
  bool is_hasty_known = false;
  // Again with more time where the hasty one was not refused in its own: it may be unknown then.
  for (Duration timeout = 1500ms; !is_hasty_known; timeout *= 2) {
    ASSERT_LT(timeout, kPatience);
    ASSERT_TRUE(wait_data_up());
    ASSERT_TRUE(wait_stream_up());
    EXPECT_EQ(server->command({"REPLICAOF", "127.0.0.1", std::to_string(master->port())}), "OK");
    // REPLICAOF closes nothing; only the first write tells. All that were sent come back
    // unexecuted; sent together, so that no reply is still to come 100 ms after the first.
    const std::string key = "n" + std::to_string(timeout.count());  // Replicas take the master's.
    std::vector<Pending> writes;
    Pending hasty;
    on_loop([&] {
      for (int i = 0; i < 50; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", key}));
      hasty = send(Retry::kIfNotSent, {"INCR", key}, timeout);
    });
    ASSERT_TRUE(
        observe([](const Observed& seen) { return !seen.is_data_up && !seen.is_stream_up; }));
    const auto answer = hasty.get();
    ASSERT_FALSE(answer);
    is_hasty_known = answer.error().code == ErrorCode::kUnavailable;
    EXPECT_TRUE(is_hasty_known || answer.error().code == ErrorCode::kDeadlineExceeded)
        << answer.error().to_string();
    ASSERT_TRUE(poll_until([&] {
      const auto trouble = client_->data_trouble();
      return trouble && trouble->message.find("not a master") != std::string::npos;
    }));
    EXPECT_FALSE(writes[0].has_come());
    EXPECT_EQ(server->command({"REPLICAOF", "NO", "ONE"}), "OK");
    int n = 0;
    for (const Pending& write : writes) {
      const auto reply = write.get();
      ASSERT_TRUE(reply) << reply.error().to_string();
      EXPECT_EQ(reply->integer, ++n);
    }
  }
  EXPECT_TRUE(wait_stream_up());
}

TEST_F(ClientTest, WaitsForReplicasThatAreMissing) {
  const auto server = RedisServer::start({.arguments = {"--min-replicas-to-write", "1"}});
  open(server->url());
  const Pending patient = send(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("NOREPLICAS") != std::string::npos;
  }));
  const Error answer = error_of_refused({"SET", "k", "v"}, 300ms);
  EXPECT_EQ(answer.code, ErrorCode::kUnavailable) << answer.to_string();
  EXPECT_NE(answer.message.find("NOREPLICAS"), std::string::npos) << answer.to_string();
  EXPECT_FALSE(patient.has_come());
  EXPECT_EQ(server->command({"CONFIG", "SET", "min-replicas-to-write", "0"}), "OK");
  ASSERT_TRUE(patient.get()) << patient.get().error().to_string();
  EXPECT_FALSE(client_->data_trouble());
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(ClientTest, SendsAgainWhatALoadingServerDidNotRun) {
  std::atomic<int> left{5};
  std::atomic<int> sets{0};
  FakeServer server{[&](const FakeServer::Words& request) -> std::string {
    if (auto reply = FakeServer::handshake_reply(request); !reply.empty()) return reply;
    if (left.fetch_sub(1) > 0) return "-LOADING Redis is loading the dataset in memory\r\n";
    return ":" + std::to_string(sets.fetch_add(1)) + "\r\n";
  }};
  open("redis://127.0.0.1:" + std::to_string(server.port()));
  const Pending first = send(Retry::kIfNotSent, {"INCR", "n"});
  const Pending second = send(Retry::kIfNotSent, {"INCR", "n"});
  EXPECT_EQ(first.get()->integer + second.get()->integer, 1);
  EXPECT_GE(client_->stats().retries, 5u);
}

TEST_F(ClientTest, KnowsReadOnlyInTheWordsOfOlderServers) {
  std::atomic<int> readonly{2};
  FakeServer server{[&](const FakeServer::Words& request) -> std::string {
    if (auto reply = FakeServer::handshake_reply(request); !reply.empty()) return reply;
    if (readonly.fetch_sub(1) > 0) {
      return "-ERR Error running script (call to f_1): @user_script:1: -READONLY You can't write "
             "against a read only replica.\r\n";
    }
    return "+done\r\n";
  }};
  open("redis://127.0.0.1:" + std::to_string(server.port()));
  const Pending run = send(Retry::kIfNotSent, {"EVAL", "…", "0"});
  EXPECT_EQ(run.get()->text, "done");
  EXPECT_EQ(observer_.seen().data_downs, 2);
}

TEST_F(ClientTest, LeavesAServerThatTalksNonsense) {
  std::atomic<int> round{0};
  FakeServer server{[&](const FakeServer::Words& request) -> std::string {
    if (auto reply = FakeServer::handshake_reply(request); !reply.empty()) return reply;
    switch (round.fetch_add(1)) {
      case 0: return "HTTP/1.1 400 Bad Request\r\n\r\n";
      case 1: return ":1\r\n:2\r\n";  // One reply too many.
      case 2: return FakeServer::kHangUp;
      default: return "+fine\r\n";
    }
  }};
  open("redis://127.0.0.1:" + std::to_string(server.port()));
  EXPECT_EQ(send(Retry::kIfNotSent, {"SET", "a", "b"}).get().error().code,
            ErrorCode::kDeadlineExceeded);
  EXPECT_NE(observer_.seen().data_reason.find("protocol"), std::string::npos);
  EXPECT_EQ(send(Retry::kIfNotSent, {"SET", "a", "b"}).get()->integer, 1);
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.data_downs == 2; }));
  EXPECT_EQ(send(Retry::kSafe, {"GET", "a"}).get()->text, "fine");  // Hung up on, and sent again.
  EXPECT_EQ(observer_.seen().data_downs, 3);
}

TEST_F(ClientTest, GivesUpAnAttemptThatHangs) {
  // Accepts, and says nothing.
  FakeServer server{[](const FakeServer::Words&) { return std::string{}; }};
  auto options = options_for("redis://127.0.0.1:" + std::to_string(server.port()));
  options.connect_timeout = 50ms;
  open(options);
  ASSERT_TRUE(poll_until([&] { return client_->stats().connects_failed >= 3; }));
  const auto trouble = client_->data_trouble();
  ASSERT_TRUE(trouble);
  EXPECT_NE(trouble->message.find("within 50 ms"), std::string::npos) << trouble->message;
}

TEST_F(ClientTest, FullServersAreTriedAgain) {
  auto server = RedisServer::start({.arguments = {"--maxclients", "2"}});
  open(server->url());
  ASSERT_TRUE(wait_data_up());
  ClientConfig config;
  config.redis = options_for(server->url());
  auto second = Client::open(config, loop_);
  ASSERT_TRUE(second);
  ASSERT_TRUE((*second)->call(Command{Retry::kSafe, {"PING"}}, in(kPatience)));
  auto third = Client::open(config, loop_);
  ASSERT_TRUE(third);
  const auto refused = (*third)->call(Command{Retry::kSafe, {"PING"}}, in(300ms));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable) << refused.error().to_string();
  (*second)->close();
  EXPECT_TRUE((*third)->call(Command{Retry::kSafe, {"PING"}}, in(kPatience)));
}

}  // namespace
}  // namespace tiercel::l2
