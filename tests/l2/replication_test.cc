// Questions about replication: to the master over D, and to other servers over connections of their
// own.

#include <algorithm>
#include <set>

#include "asking_fixture.h"
#include "support/redis_server.h"
#include "support/reserved_port.h"
#include "support/resp_text.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using tiercel::testing::ReservedPort;
namespace resp = tiercel::testing::resp;

std::unique_ptr<RedisServer> start_replica(std::uint16_t master_port,
                                           std::vector<std::string> arguments = {}) {
  arguments.insert(arguments.end(), {"--replicaof", "127.0.0.1", std::to_string(master_port)});
  return RedisServer::start({.arguments = std::move(arguments)});
}

std::set<std::uint16_t> ports_of(const std::vector<Endpoint>& endpoints) {
  std::set<std::uint16_t> ports;
  for (const Endpoint& endpoint : endpoints) ports.insert(endpoint.port);
  return ports;
}

// Connections with this name that the server has.
std::ptrdiff_t count_named(RedisServer& server, const std::string& name) {
  const std::string list = server.command({"CLIENT", "LIST"});
  std::ptrdiff_t count = 0;
  for (auto at = list.find("name=" + name + " "); at != std::string::npos;
       at = list.find("name=" + name + " ", at + 1)) {
    ++count;
  }
  return count;
}

using AskReplicationTest = AskingTest;

TEST_F(AskReplicationTest, SaysWhatTheMasterIsAndWhoFollowsIt) {
  const auto master = RedisServer::start();
  const auto first = start_replica(master->port());
  const auto second = start_replica(master->port());
  open(master->url());
  ASSERT_TRUE(wait_data_up());
  const std::set<std::uint16_t> both{first->port(), second->port()};
  ASSERT_TRUE(poll_until([&] {
    const auto info = ask_replication();
    return info && ports_of(info->replicas) == both;
  }));
  const auto info = ask_replication();
  ASSERT_TRUE(info) << info.error().to_string();
  EXPECT_TRUE(info->is_master);
  EXPECT_NE(master->command({"INFO", "replication"}).find("master_replid:" + info->replication_id),
            std::string::npos);
  EXPECT_EQ(info->former_replication_id, "");
  EXPECT_EQ(info->replicas.size(), 2u);
  EXPECT_EQ(info->replicas[0].host, "127.0.0.1");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_GT(ask_replication()->offset, info->offset);
}

TEST_F(AskReplicationTest, FailsAtOnceWhileThereIsNoConnection) {
  const auto port = ReservedPort::any();
  open("redis://127.0.0.1:" + std::to_string(port.port()));
  std::atomic<bool> is_within{true};
  std::promise<bool> was_within;
  loop_.post([&] {
    client_->ask_replication(in(1h), [&](const Result<ReplicationInfo>& answer) {
      EXPECT_FALSE(answer);
      EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
      was_within.set_value(is_within);
    });
    is_within = false;
  });
  EXPECT_FALSE(was_within.get_future().get());  // And not after an hour.
}

TEST_F(AskReplicationTest, IsNeverSentOnAnotherConnection) {
  FakeServer server;
  open(server.url());
  ASSERT_TRUE(wait_data_up());
  const std::size_t before = server.requests("INFO");
  server.inject({.hang_after_bytes = 0}, FakeServer::named("INFO"));
  const auto question = begin_ask_replication();
  ASSERT_TRUE(poll_until([&] { return server.requests("INFO") == before + 1; }));
  const Pending read = send(Retry::kSafe, {"ECHO", "again"});  // Behind it: not answered here.
  ASSERT_TRUE(poll_until([&] { return server.requests("ECHO") == 1; }));
  server.end_connections(true);
  const auto answer = question.get();
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(answer.error().message.find("lost before the answer"), std::string::npos)
      << answer.error().message;
  EXPECT_EQ(read.get()->text, "again");  // That one is.
  // Of the new connection, two belong to its handshake.
  EXPECT_EQ(server.requests("INFO"), before + 3);
  EXPECT_TRUE(ask_replication());
}

TEST_F(AskReplicationTest, GoesAheadOfWhatWaitsForTheServer) {
  FakeServer server;
  std::atomic<bool> is_loading{true};
  server.on("GET", [&](const FakeServer::Words&) {
    return is_loading ? resp::error("LOADING Redis is loading the dataset in memory")
                      : resp::bulk("v");
  });
  open(server.url());
  ASSERT_TRUE(wait_data_up());
  const Pending waits = send(Retry::kSafe, {"GET", "k"});
  ASSERT_TRUE(poll_until([&] { return client_->data_trouble().has_value(); }));
  for (int i = 0; i < 20; ++i) EXPECT_TRUE(ask_replication());
  EXPECT_FALSE(waits.has_come());
  is_loading = false;
  EXPECT_EQ(waits.get()->text, "v");
}

// Asked from the answer to a command that is too late, while others are being sent.
TEST_F(AskReplicationTest, KeepsItsPlaceAmongCommandsThatAreBeingSent) {
  FakeServer server;
  open(server.url());
  ASSERT_TRUE(wait_data_up());
  const AwaitedInfo question;
  Pending first;
  Pending last;
  on_loop([&] {
    client_->submit(Command{Retry::kSafe, {"ECHO", "first"}}, in(kPatience), first.callback());
    client_->submit(Command{Retry::kSafe, {"ECHO", "late"}}, in(-1s),
                    [this, question](const Result<Reply>& late) {
                      EXPECT_FALSE(late);
                      client_->ask_replication(in(kPatience), question.callback());
                    });
    client_->submit(Command{Retry::kSafe, {"ECHO", "last"}}, in(kPatience), last.callback());
  });
  const auto info = question.get();
  EXPECT_TRUE(info) << info.error().to_string();
  EXPECT_EQ(first.get()->text, "first");
  EXPECT_EQ(last.get()->text, "last");
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(AskReplicationTest, SaysWhatTheServerSaidInstead) {
  FakeServer server;
  open(server.url());
  ASSERT_TRUE(wait_data_up());
  struct Case {
    std::string reply;
    ErrorCode code;
    const char* said;
  };
  for (const Case& refusal :
       {Case{resp::error("LOADING Redis is loading"), ErrorCode::kUnavailable, "LOADING"},
        Case{resp::error("NOPERM this user has no permissions to run the 'info' command"),
             ErrorCode::kInvalidArgument, "+info is missing"},
        Case{resp::bulk("role:master"), ErrorCode::kUnavailable, "makes no sense"}}) {
    server.on("INFO", [&](const FakeServer::Words&) { return refusal.reply; });
    const auto answer = ask_replication();
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, refusal.code);
    EXPECT_NE(answer.error().message.find(refusal.said), std::string::npos)
        << answer.error().message;
  }
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(AskReplicationTest, IsBoundedTimedAndClosed) {
  FakeServer server;
  open(server.url());
  ASSERT_TRUE(wait_data_up());
  server.freeze();
  const auto hasty = begin_ask_replication(50ms);
  std::vector<AwaitedInfo> patient;
  for (int i = 0; i < 7; ++i) patient.push_back(begin_ask_replication(1h));
  EXPECT_EQ(begin_ask_replication(1h).get().error().code, ErrorCode::kOverloaded);
  EXPECT_EQ(hasty.get().error().code, ErrorCode::kUnavailable);
  EXPECT_EQ(begin_ask_replication(-1s).get().error().code, ErrorCode::kUnavailable);
  client_->close();
  for (const AwaitedInfo& answer : patient) {
    EXPECT_EQ(answer.get().error().code, ErrorCode::kClosed);
  }
  EXPECT_EQ(begin_ask_replication().get().error().code, ErrorCode::kClosed);
  EXPECT_EQ(begin_ask_server(at(1)).get().error().code, ErrorCode::kClosed);
}

class AskServerTest : public AskingTest {
 protected:
  // A master, one replica of it, and a client that watches the replica.
  void start() {
    master_ = RedisServer::start();
    replica_ = start_replica(master_->port());
    open(master_->url());
    ASSERT_TRUE(wait_data_up());
    watch({replica()});
    ASSERT_TRUE(wait_follows());
  }
  [[nodiscard]] Endpoint replica() const { return at(replica_->port()); }
  // Not what D found when it connected: the first replica that a master ever has gives it a new id.
  [[nodiscard]] std::string branch() {
    const auto info = ask_replication();
    return info ? info->replication_id : info.error().to_string();
  }
  bool wait_follows() {
    return ask_until(replica(), [this](const ReplicationInfo& info) {
      return !info.is_master && info.replication_id == branch();
    });
  }

  std::unique_ptr<RedisServer> master_;
  std::unique_ptr<RedisServer> replica_;
};

TEST_F(AskServerTest, AReplicaNamesTheBranchThatItFollows) {
  start();
  const auto info = ask_server(replica());
  ASSERT_TRUE(info) << info.error().to_string();
  EXPECT_FALSE(info->is_master);
  EXPECT_EQ(info->replication_id, branch());
  EXPECT_TRUE(info->replicas.empty());
  watch({replica(), replica()});
  EXPECT_TRUE(ask_server(replica()));  // Kept.
  EXPECT_EQ(count_named(*replica_, "tiercel-witness"), 1);
}

TEST_F(AskServerTest, AKilledServerFailsAtOnceAndIsFoundAgain) {
  start();
  replica_->kill();
  ASSERT_TRUE(poll_until([&] { return !ask_server(replica(), 1h); }));
  const auto dead = ask_server(replica(), 1h);
  ASSERT_FALSE(dead);
  EXPECT_EQ(dead.error().code, ErrorCode::kUnavailable);
  replica_->restart();
  EXPECT_TRUE(wait_follows());
}

TEST_F(AskServerTest, AStoppedServerIsGivenUpAtTheDeadlineAndFoundAgain) {
  start();
  replica_->stop_process();
  const auto other = begin_ask_server(replica(), 1h);
  const auto hung = ask_server(replica(), 50ms);
  ASSERT_FALSE(hung);
  EXPECT_NE(hung.error().message.find("no answer in time"), std::string::npos)
      << hung.error().message;
  EXPECT_FALSE(other.get());  // With the connection.
  const auto at_once = ask_server(replica(), 1h);
  ASSERT_FALSE(at_once);
  EXPECT_EQ(at_once.error().code, ErrorCode::kUnavailable);
  replica_->continue_process();
  EXPECT_TRUE(wait_follows());
  EXPECT_TRUE(poll_until([&] { return count_named(*replica_, "tiercel-witness") == 1; }));
}

TEST_F(AskServerTest, APromotedReplicaNamesTheBranchThatItLeft) {
  start();
  const std::string old_branch = branch();
  EXPECT_EQ(replica_->command({"REPLICAOF", "NO", "ONE"}), "OK");
  const auto info = ask_server(replica());
  ASSERT_TRUE(info) << info.error().to_string();
  EXPECT_TRUE(info->is_master);
  EXPECT_NE(info->replication_id, old_branch);
  EXPECT_EQ(info->former_replication_id, old_branch);
}

// INFO is answered where PING is not.
TEST_F(AskServerTest, AReplicaThatHasLostItsMasterAnswers) {
  start();
  EXPECT_EQ(replica_->command({"CONFIG", "SET", "replica-serve-stale-data", "no"}), "OK");
  const std::string followed = branch();
  master_->kill();
  ASSERT_TRUE(poll_until([&] { return replica_->command({"PING"}).starts_with("-MASTERDOWN"); }));
  EXPECT_EQ(replica_->command({"CLIENT", "KILL", "TYPE", "normal"}).empty(), false);
  EXPECT_TRUE(ask_until(replica(), [&](const ReplicationInfo& info) {
    return !info.is_master && info.replication_id == followed;
  }));
}

TEST_F(AskServerTest, WhatIsNotWatchedAnyMoreIsClosed) {
  start();
  replica_->stop_process();
  const auto outstanding = begin_ask_server(replica(), 1h);
  watch({});
  EXPECT_NE(outstanding.get().error().message.find("not watched any more"), std::string::npos);
  EXPECT_NE(ask_server(replica(), 1h).error().message.find("not watched"), std::string::npos);
  replica_->continue_process();
  EXPECT_TRUE(poll_until([&] { return count_named(*replica_, "tiercel-witness") == 0; }));
}

TEST_F(AskServerTest, NoMoreThanSixtyFourAreWatched) {
  FakeServer master;
  FakeServer last;
  open(master.url());
  std::vector<Endpoint> servers;
  for (std::uint16_t i = 1; i <= Client::kServersWatchedMax; ++i) {
    servers.push_back({"192.0.2.1", i, {}});  // Nobody's.
  }
  servers.push_back(at(last.port()));
  watch(servers);
  const auto refused = ask_server(servers.back());
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().message.find("at most 64"), std::string::npos)
      << refused.error().message;
  EXPECT_EQ(last.connections_accepted(), 0);
  servers.erase(servers.begin());
  watch(servers);
  EXPECT_TRUE(wait_answered(servers.back()));
}

TEST_F(AskServerTest, SaysWhyAServerRefusesUs) {
  FakeServer master;
  const auto server = RedisServer::start();
  master.with_redis([](testing::FakeRedis& redis) { redis.set_password("pw"); });
  open("redis://:pw@" + master.endpoint());
  watch({at(server->port())});
  const auto expect_refusal = [&](const char* said, ErrorCode code) {
    Error why;
    EXPECT_TRUE(poll_until([&] {
      const auto answer = ask_server(at(server->port()));
      if (!answer) why = answer.error();
      return why.message.find(said) != std::string::npos;
    })) << said
        << ": " << why.message;
    EXPECT_EQ(why.code, code);
  };
  expect_refusal("remove ours", ErrorCode::kInvalidArgument);
  EXPECT_EQ(server->command({"CONFIG", "SET", "requirepass", "pw"}), "OK");
  EXPECT_TRUE(wait_answered(at(server->port())));
  // The name of the connection is only for people.
  EXPECT_EQ(server->command({"ACL", "SETUSER", "default", "-client|setname"}, "pw"), "OK");
  watch({});
  watch({at(server->port())});
  EXPECT_TRUE(wait_answered(at(server->port())));
  EXPECT_EQ(server->command({"ACL", "SETUSER", "default", "-info"}, "pw"), "OK");
  expect_refusal("+info is missing", ErrorCode::kInvalidArgument);
}

TEST_F(AskServerTest, ACallbackMayForgetTheServerThatItComesFrom) {
  FakeServer master;
  FakeServer server;
  open(master.url());
  watch({at(server.port())});
  ASSERT_TRUE(wait_answered(at(server.port())));
  std::promise<void> done;
  loop_.post([&] {
    client_->ask_server(at(server.port()), in(kPatience), [&](const auto& answer) {
      EXPECT_TRUE(answer);
      client_->watch_servers({});
    });
    client_->ask_server(at(server.port()), in(kPatience), [&](const auto& answer) {
      EXPECT_FALSE(answer);
      done.set_value();
    });
  });
  done.get_future().wait();
  // And when the connection is lost.
  watch({at(server.port())});
  ASSERT_TRUE(wait_answered(at(server.port())));
  server.freeze();
  std::promise<void> lost;
  loop_.post([&] {
    for (int i = 0; i < 2; ++i) {
      client_->ask_server(at(server.port()), in(50ms), [&, i](const auto& answer) {
        EXPECT_FALSE(answer);
        client_->watch_servers({});
        if (i == 1) lost.set_value();
      });
    }
  });
  lost.get_future().wait();
  server.thaw();
}

TEST_F(AskServerTest, IsBoundedAndClosed) {
  FakeServer master;
  FakeServer server;
  open(master.url());
  watch({at(server.port())});
  ASSERT_TRUE(wait_answered(at(server.port())));
  server.freeze();
  std::vector<AwaitedInfo> answers;
  for (int i = 0; i < 8; ++i) answers.push_back(begin_ask_server(at(server.port()), 1h));
  EXPECT_EQ(ask_server(at(server.port()), 1h).error().code, ErrorCode::kOverloaded);
  client_->close();
  for (const AwaitedInfo& answer : answers) {
    EXPECT_EQ(answer.get().error().code, ErrorCode::kClosed);
  }
}

}  // namespace
}  // namespace tiercel::l2
