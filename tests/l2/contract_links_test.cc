// The contract, the links: the subscription, who may connect, and what ends a connection. See
// contract_fixture.h.

#include "contract_fixture.h"

namespace tiercel::l2 {
namespace {

TEST_P(ContractTest, MessagesArriveInOrderBeforeThePongThatFollows) {
  open_up("news");
  std::vector<std::string> sent{"", std::string{"\0\r\n$-1\r\n", 8}, std::string(1 << 20, 'm')};
  for (int i = 0; i < 300; ++i) sent.push_back(std::to_string(i));
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (i % 2 == 0) {
      ASSERT_EQ(admin({"PUBLISH", "news", sent[i]}), "1");
    } else {
      ASSERT_EQ(call(Retry::kIfNotSent, {"PUBLISH", "news", sent[i]})->integer, 1);
    }
    ASSERT_EQ(admin({"PUBLISH", "other", sent[i]}), "0");
  }
  ping("after");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.pongs[0], "after");
  EXPECT_TRUE(seen.messages == sent) << seen.messages.size();
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.out_of_order, 0);
}

TEST_P(ContractTest, PongsBringTheirTokensInOrder) {
  open_up("news");
  std::vector<std::string> tokens{"x", "0", std::string(64, 't'), "pong", "$5", "\xff\x01"};
  for (int i = 0; i < 30; ++i) tokens.push_back("token-" + std::to_string(i));
  for (const std::string& token : tokens) ping(token);
  ASSERT_TRUE(observe([&](const Observed& seen) { return seen.pongs.size() == tokens.size(); }));
  EXPECT_EQ(observer_.seen().pongs, tokens);
  EXPECT_TRUE(observer_.seen().refusals.empty());
}

TEST_P(ContractTest, RefusedCredentialsAreNamedAndHealed) {
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "on", ">right", "~*", "&*", "+@all"}), "OK");
  struct Case {
    const char* user_info;
    const char* said;
  };
  for (const Case& wrong : {Case{"app:mistaken@", "'app'"}, Case{"ghost:mistaken@", "'ghost'"},
                            Case{":mistaken@", "remove ours"}}) {
    open(options(wrong.user_info), "news");
    const auto refused = call(Retry::kIfNotSent, {"SET", "k", "v"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().to_string();
    EXPECT_NE(refused.error().message.find(wrong.said), std::string::npos)
        << refused.error().to_string();
  }
  ASSERT_EQ(admin({"CONFIG", "SET", "requirepass", "later"}), "OK");
  open(options(), "news");
  const auto missing = call(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(missing.error().message.find("wants a password"), std::string::npos);
  EXPECT_NE(text_of({"EXISTS", "k"}), "1");
  ASSERT_EQ(admin({"CONFIG", "SET", "requirepass", ""}), "OK");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(log().find("mistaken"), std::string::npos);

  open(options("app:right@"), "news");
  EXPECT_EQ(text_of({"ACL", "WHOAMI"}), "app");
  EXPECT_TRUE(wait_stream_up());
}

TEST_P(ContractTest, APermissionThatIsMissingIsAnErrorReply) {
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-incr"}), "OK");
  open(options("app:pw@"));
  const Pending before = send(Retry::kSafe, {"ECHO", "before"});
  const auto refused = call(Retry::kIfNotSent, {"INCR", "n"});
  ASSERT_TRUE(refused) << refused.error().to_string();
  EXPECT_TRUE(refused->is_error("NOPERM")) << refused->text;
  EXPECT_EQ(before.get()->text, "before");
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "+incr"}), "OK");
  EXPECT_EQ(text_of({"INCR", "n"}), "1");  // It had not run.
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_P(ContractTest, DatabasesAreApart) {
  open(options({}, 3));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "three"}));
  EXPECT_EQ(admin({"GET", "k"}), "(nil)");
  EXPECT_EQ(admin({"SELECT", "3"}), "OK");
  EXPECT_EQ(admin({"GET", "k"}), "three");
  // Chosen again on each new connection.
  ASSERT_EQ(admin({"CLIENT", "KILL", "ID", id_of("tiercel-data")}), "1");
  EXPECT_EQ(text_of({"GET", "k"}), "three");

  open(options({}, 99));
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("database 99"), std::string::npos);
}

// CHAOS.md, 8: D is killed and S lives, while commands are under way.
TEST_P(ContractTest, AKilledDataConnectionIsReplacedAndTheStreamGoesOn) {
  open_up("news");
  const auto first = observer_.seen().data_server;
  for (int round = 1; round <= 5; ++round) {
    std::vector<Pending> reads;
    std::vector<Pending> writes;
    const auto send_some = [&] {
      for (int i = 0; i < 50; ++i) {
        reads.push_back(send(Retry::kSafe, {"ECHO", std::to_string(reads.size())}));
        writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
      }
    };
    std::string id;
    ASSERT_TRUE(poll_until([&] { return !(id = id_of("tiercel-data")).empty(); }));
    send_some();
    ASSERT_EQ(admin({"CLIENT", "KILL", "ID", id}), "1");
    send_some();
    for (std::size_t i = 0; i < reads.size(); ++i) {
      EXPECT_EQ(reads[i].get()->text, std::to_string(i));
    }
    for (const Pending& write : writes) {
      const auto reply = write.get();
      if (reply) continue;
      EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded) << reply.error().to_string();
    }
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.data_downs == round && seen.data_ups == round + 1;
    }));
  }
  ASSERT_EQ(admin({"PUBLISH", "news", "still here"}), "1");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.stream_ups, 1);
  EXPECT_EQ(seen.data_server, first);
  EXPECT_EQ(seen.out_of_order, 0);
}

// CHAOS.md, 7.
TEST_P(ContractTest, AKilledStreamIsReplacedAndTheDataConnectionGoesOn) {
  open_up("news");
  for (int round = 1; round <= 5; ++round) {
    ASSERT_EQ(admin({"PUBLISH", "news", "before " + std::to_string(round)}), "1");
    // In order on one connection: what was published before the kill has been sent before it.
    const Pending read = send(Retry::kSafe, {"ECHO", "x"});
    ASSERT_EQ(admin({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.stream_downs == round && seen.stream_ups == round + 1;
    }));
    EXPECT_EQ(read.get()->text, "x");
    ping("alive");
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.pongs.size() == static_cast<std::size_t>(round);
    }));
  }
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_P(ContractTest, AServerThatIsAReplicaIsLeftAndReported) {
  open_up("news");
  // Nobody listens there.
  ASSERT_EQ(admin({"REPLICAOF", "127.0.0.1", "1"}), "OK");
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("it is a replica of 127.0.0.1:1") != std::string::npos;
  }));
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_stream_up; }));
  EXPECT_FALSE(write.has_come());
  ASSERT_EQ(admin({"REPLICAOF", "NO", "ONE"}), "OK");
  EXPECT_EQ(write.get()->text, "OK");
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(admin({"GET", "k"}), "v");
}

TEST_P(ContractTest, APauseOfTheServerIsOnlyAPause) {
  open_up("news");
  ASSERT_EQ(admin({"CLIENT", "PAUSE", "200"}), "OK");
  std::vector<Pending> writes;
  for (int i = 0; i < 100; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
  // Either it is answered late, or in time, on a slow machine; never out of step.
  const Pending hasty = send(Retry::kIfNotSent, {"SET", "k", "v"}, 20ms);
  ping("paused");
  for (int i = 0; i < 100; ++i) {
    const auto reply = writes[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_EQ(reply->integer, i + 1);
  }
  const auto answer = hasty.get();
  EXPECT_TRUE(answer || answer.error().code == ErrorCode::kDeadlineExceeded ||
              answer.error().code == ErrorCode::kUnavailable);
  EXPECT_EQ(text_of({"ECHO", "in step"}), "in step");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.data_downs, 0);
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_TRUE(seen.refusals.empty());
}

TEST_P(ContractTest, ARestartedServerIsAnother) {
  open_up("news");
  const auto first = observer_.seen().data_server;
  ASSERT_FALSE(first.run_id.empty());
  EXPECT_EQ(run(count_script(), {"n"}, {"x"}).get()->text, "1:x");
  if (is_real()) {
    real_->kill();
    real_->restart();
  } else {
    fake_->kill();
    fake_->restart();
  }
  ASSERT_TRUE(
      observe([](const Observed& seen) { return seen.data_ups == 2 && seen.stream_ups == 2; }));
  const auto second = observer_.seen().data_server;
  EXPECT_NE(second.run_id, first.run_id);
  EXPECT_NE(second.replication_id, first.replication_id);
  EXPECT_EQ(second.endpoint, first.endpoint);
  EXPECT_EQ(observer_.seen().stream_server, second);
  EXPECT_EQ(run(count_script(), {"n"}, {"y"}).get()->text, "1:y");  // Script and data are gone.
}

TEST_P(ContractTest, TheStreamIsToldOfForeignWriters) {
  track_prefix_ = "ns:";
  open_up("news");
  ASSERT_EQ(admin({"SET", "ns:a", "v"}), "OK");
  ASSERT_EQ(admin({"SET", "other", "v"}), "OK");
  ASSERT_EQ(admin({"PEXPIRE", "ns:a", "100000"}), "1");
  ASSERT_EQ(admin({"PUBLISH", "news", "message"}), "1");
  ASSERT_EQ(admin({"DEL", "ns:a"}), "1");
  ASSERT_EQ(admin({"DEL", "ns:a"}), "0");  // Nothing has changed.
  EXPECT_EQ(run(count_script(), {"ns:n"}, {"x"}).get()->text, "1:x");
  ASSERT_EQ(admin({"FLUSHALL"}), "OK");
  ping("after");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  // A real one puts what one turn of its loop changes into one message, each key once.
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.tracked, (std::vector<std::string>{"a", "a", "a", "n"}));
  EXPECT_EQ(seen.flushes, 1);
  EXPECT_EQ(seen.messages, std::vector<std::string>{"message"});
  EXPECT_EQ(seen.out_of_order, 0);
  ASSERT_EQ(admin({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
  ASSERT_TRUE(observe([](const Observed& now) { return now.stream_ups == 2; }));
  ASSERT_EQ(admin({"SET", "ns:b", "v"}), "OK");
  EXPECT_TRUE(observe([](const Observed& now) { return now.tracked.back() == "b"; }));
}

TEST_P(ContractTest, SaysWhereItStandsInReplication) {
  open_up();
  const auto ask = [this] {
    std::promise<Result<ReplicationInfo>> answer;
    loop_.post([&] {
      client_->ask_replication(
          in(kPatience), [&](Result<ReplicationInfo> info) { answer.set_value(std::move(info)); });
    });
    return answer.get_future().get();
  };
  const auto before = ask();
  ASSERT_TRUE(before) << before.error().to_string();
  EXPECT_TRUE(before->is_master);
  EXPECT_EQ(before->replication_id, observer_.seen().data_server.replication_id);
  EXPECT_EQ(before->former_replication_id, "");
  EXPECT_TRUE(before->replicas.empty());
  ASSERT_EQ(admin({"REPLICAOF", "127.0.0.1", "1"}), "OK");  // Nobody is there.
  const auto demoted = ask();  // On the connection that is there already.
  ASSERT_TRUE(demoted) << demoted.error().to_string();
  EXPECT_FALSE(demoted->is_master);
  ASSERT_EQ(admin({"REPLICAOF", "NO", "ONE"}), "OK");
  const auto promoted = ask();
  ASSERT_TRUE(promoted) << promoted.error().to_string();
  EXPECT_TRUE(promoted->is_master);
  EXPECT_EQ(promoted->former_replication_id, before->replication_id);
  EXPECT_NE(promoted->replication_id, before->replication_id);
}

}  // namespace
}  // namespace tiercel::l2
