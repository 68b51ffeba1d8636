// CHAOS.md at the level of the connection, D: 5, 6, 25 and 26. What holds of every command under
// every fault: exactly one answer, and if it is a reply, the reply to this command. 12, 13 and 30
// are in chaos_load_test.cc.

#include <algorithm>
#include <thread>

#include "chaos_fixture.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::FakeRedis;
using tiercel::testing::RedisServer;
using Fault = FakeServer::Fault;

// 5, for every byte of a stream with every kind of reply.
TEST_F(ChaosDataTest, CutAtEveryByteNothingIsLostOrMixedUp) {
  open_fake();
  for (const bool resets : {false, true}) {
    std::vector<std::vector<Numbered>> all;
    std::size_t stream_end = 1;
    for (std::size_t k = 0; k <= stream_end; ++k) {
      ASSERT_TRUE(wait_data_up());
      const int downs = observer_.seen().data_downs;
      fake_.inject({.end_after_bytes = k, .resets = resets}, number(last_id_ + 1));
      const auto batch = send_batch(kBatch);
      stream_end = stream_bytes(batch, kBatch);
      for (std::size_t i = 0; i < batch.size(); ++i) {
        expect_right_or_unknown(batch[i]);
        // What came before an orderly end has come.
        if (!resets && stream_bytes(batch, i + 1) <= k) expect_right(batch[i]);
      }
      ASSERT_TRUE(observe([&](const Observed& seen) { return seen.data_downs == downs + 1; })) << k;
      ASSERT_FALSE(HasFailure()) << "cut at byte " << k << (resets ? ", reset" : "");
      all.push_back(batch);
    }
    for (const auto& batch : all) {
      for (const Numbered& command : batch) expect_right_or_unknown(command);  // Still one answer.
    }
  }
  EXPECT_EQ(observer_.seen().out_of_order, 0);
  expect_idle();
}

// The reply stops at every byte, its command's deadline passes, and the rest comes.
TEST_F(ChaosDataTest, HungAtEveryByteLateRepliesAreDiscardedAndTheStreamStaysInStep) {
  open_fake();
  std::size_t stream_end = 1;
  std::uint64_t late = 0;
  for (std::size_t k = 0; k < stream_end; ++k) {
    fake_.inject({.hang_after_bytes = k}, number(last_id_ + 1));
    const auto batch = send_batch(NumberedCommands::kKinds, 1ms);
    stream_end = stream_bytes(batch, batch.size());
    for (const Numbered& command : batch) static_cast<void>(command.answer.get());
    // On the same connection: when they are answered, the server has seen all that was sent before.
    const auto after = send_batch(NumberedCommands::kKinds);
    EXPECT_TRUE(poll_until([&] {
      fake_.release();  // It may not have come to the place where it hangs.
      return std::ranges::all_of(after,
                                 [](const auto& command) { return command.answer.has_come(); });
    }));
    for (const Numbered& command : after) expect_right(command);
    for (const Numbered& command : batch) {
      const auto reply = command.answer.get();
      if (reply) {
        EXPECT_TRUE(NumberedCommands::is_reply_of(command.kind, command.id, *reply));
        continue;
      }
      // It was sent and is unknown, or was not sent in time.
      const bool was_sent = numbered_.executions(command.id) == 1;
      late += was_sent ? 1 : 0;
      EXPECT_EQ(reply.error().code, was_sent && command.retry == Retry::kIfNotSent
                                        ? ErrorCode::kDeadlineExceeded
                                        : ErrorCode::kUnavailable)
          << reply.error().to_string();
    }
    ASSERT_FALSE(HasFailure()) << "hung at byte " << k;
  }
  EXPECT_EQ(client_->stats().replies_late, late);
  EXPECT_GT(late, 0U);
  EXPECT_EQ(observer_.seen().data_downs, 0);
  expect_idle();
}

// 6.
TEST_F(ChaosDataTest, OneByteAtATimeIsAsTheBaseline) {
  fake_.inject({.chunk_bytes_max = 1}, FakeServer::any_request(), 1);  // The handshake, too.
  open_fake();
  for (const Numbered& command : send_batch(300)) {
    expect_right(command);
    EXPECT_EQ(numbered_.executions(command.id), 1);
  }
  EXPECT_EQ(client_->stats().retries, 0U);
  EXPECT_EQ(client_->stats().connects_attempted, 1U);
}

// 26: carried out, or not, and nobody tells.
TEST_F(ChaosDataTest, ALostReplyIsToldForWritesAndReadAgainForReads) {
  open_fake(200ms);
  struct Loss {
    const char* name;
    Fault fault;
  };
  for (const Loss& loss :
       {Loss{"closed before the reply", {.end_after_bytes = 0}},
        Loss{"reset before the reply", {.end_after_bytes = 0, .resets = true}},
        Loss{"closed within it", {.end_after_bytes = 2}},
        Loss{"reset within it", {.end_after_bytes = 2, .resets = true}},
        Loss{"dropped", {.copies = 0, .hang_after_bytes = 0}},
        Loss{"hung before it", {.hang_after_bytes = 0}},
        Loss{"hung within it", {.hang_after_bytes = 2}},
        Loss{"garbage in its place", {.instead = "HTTP/1.1 400 Bad Request\r\n\r\n"}}}) {
    ASSERT_TRUE(wait_data_up());
    const std::uint64_t first = last_id_ + 1;
    fake_.inject(loss.fault, number(first));
    const auto batch = send_batch(2);
    for (const Numbered& command : batch) {
      const auto reply = command.answer.get();
      if (command.retry == Retry::kSafe) {
        expect_right(command);
        continue;
      }
      ASSERT_FALSE(reply) << loss.name;
      EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded) << reply.error().to_string();
      EXPECT_EQ(reply.error().endpoint, fake_.endpoint());
      EXPECT_LE(numbered_.executions(command.id), 1) << loss.name;
    }
    // Where the client did not wait so long, the server has yet to come to it.
    EXPECT_TRUE(poll_until([&] { return numbered_.executions(first) >= 1; })) << loss.name;
    // Not the one that was lost, nor one that was closed, is waited for any more.
    EXPECT_TRUE(poll_until([&] { return whole_batch_is_right(); }, kPatience)) << loss.name;
  }
  expect_idle();
}

// 26: the kernel has taken it, the process is asleep; it wakes when the client has long gone.
TEST_F(ChaosDataTest, AWriteThatASleepingServerTookIsUnknownAndNeverSentAgain) {
  open_fake(100ms);
  fake_.freeze();
  const auto batch = send_batch(kBatch);
  for (const Numbered& command : batch) {
    if (command.retry != Retry::kIfNotSent) continue;
    EXPECT_EQ(command.answer.get().error().code, ErrorCode::kDeadlineExceeded);
    EXPECT_EQ(numbered_.executions(command.id), 0);
  }
  fake_.thaw();
  for (const Numbered& command : batch) expect_right_or_unknown(command);
  EXPECT_TRUE(poll_until([&] { return whole_batch_is_right(); }, kPatience));
  for (const Numbered& command : batch) expect_right_or_unknown(command);
}

// 25.
TEST_F(ChaosDataTest, AServerThatIsNotReadyIsWaitedForAndABusyOneAnswers) {
  open_fake();
  for (const char* refusal : {"LOADING Redis is loading the dataset in memory",
                              "MASTERDOWN Link with MASTER is down and "
                              "replica-serve-stale-data is set to 'no'."}) {
    fake_.with_redis([&](auto& redis) { redis.set_refusal(refusal); });
    std::vector<Pending> patient;
    for (int i = 0; i < 20; ++i) patient.push_back(send(Retry::kIfNotSent, {"INCR", refusal}));
    const Error answer = error_of_refused({"SET", "k", "v"}, 50ms);
    EXPECT_EQ(answer.code, ErrorCode::kUnavailable) << answer.to_string();
    for (const Pending& pending : patient) EXPECT_FALSE(pending.has_come());
    // Of the INCRs at most 20 are on their way: behind so many, every SET has been refused, too.
    const std::size_t asked = fake_.requests("INCR");
    ASSERT_TRUE(poll_until([&] { return fake_.requests("INCR") > asked + 20; }));
    fake_.with_redis([](auto& redis) { redis.set_refusal({}); });
    for (int i = 0; i < 20; ++i) {
      const auto reply = patient[static_cast<std::size_t>(i)].get();
      ASSERT_TRUE(reply) << reply.error().to_string();
      EXPECT_EQ(reply->integer, i + 1);
    }
    EXPECT_TRUE(call(Retry::kSafe, {"GET", "k"})->is_nil());
  }
  fake_.with_redis([](auto& redis) { redis.set_refusal("BUSY Redis is busy running a script."); });
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"})->is_error("BUSY"));
  fake_.with_redis([](auto& redis) { redis.set_refusal({}); });
  EXPECT_EQ(text_of({"SET", "k", "v"}), "OK");
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

// 25, with a real data set that takes its time.
TEST_F(ChaosDataTest, AReloadOfTheRealServerIsWaitedFor) {
  const auto server =
      RedisServer::start({.arguments = {"--enable-debug-command", "yes", "--key-load-delay", "1000",
                                        "--loading-process-events-interval-bytes", "1024"}});
  open(server->url());
  std::vector<Pending> fill;
  for (int i = 0; i < 500; ++i) {
    fill.push_back(send(Retry::kIfNotSent, {"SET", std::to_string(i), std::string(100, 'v')}));
  }
  for (const Pending& pending : fill) ASSERT_TRUE(pending.get());
  // Again where it was over before we came to write.
  const TimePoint give_up_at = in(kPatience);
  for (int n = 0; client_->stats().retries == 0;) {
    ASSERT_LT(Clock::system().now(), give_up_at);
    std::atomic<bool> is_over{false};
    const std::jthread reload{[&] {
      EXPECT_EQ(server->command({"DEBUG", "RELOAD"}), "OK");
      is_over = true;
    }};
    ASSERT_TRUE(
        poll_until([&] { return is_over || server->command({"PING"}).starts_with("-LOADING"); }));
    std::vector<Pending> writes;
    for (int i = 0; i < 50; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
    for (const Pending& write : writes) {
      const auto reply = write.get();
      ASSERT_TRUE(reply) << reply.error().to_string();
      EXPECT_EQ(reply->integer, ++n);
    }
  }
  EXPECT_EQ(text_of({"GET", "499"}), std::string(100, 'v'));
}

// NOSCRIPT reaches the client for the first of two scripts in flight; a third is submitted before
// the second hears of it.
TEST_F(ChaosDataTest, ScriptsKeepTheirOrderWhenTheReplyIsCutInTwo) {
  static const Script script{"the fake knows what this does"};
  fake_.with_redis([](FakeRedis& redis) {
    redis.add_script(std::string{script.source()},
                     {std::string{script.sha1()}, [](FakeRedis& self, FakeRedis::Session& session,
                                                     const auto&, const auto& arguments) {
                        return self.execute(session, {"RPUSH", "order", arguments[0]});
                      }});
  });
  open_fake();
  const std::size_t refusal_bytes =
      std::string_view{"-NOSCRIPT No matching script. Please use EVAL.\r\n"}.size();
  fake_.inject({.hang_after_bytes = refusal_bytes}, FakeServer::named("EVALSHA"));
  std::vector<Pending> answers(3);
  const auto run = [&](std::size_t i) {
    const std::string argument = std::to_string(i);
    const std::string_view arguments[] = {argument};
    client_->submit_script(script, {}, arguments, Retry::kIfNotSent, in(kPatience),
                           answers[i].callback());
  };
  on_loop([&] {
    run(0);
    run(1);
  });
  ASSERT_TRUE(poll_until([&] { return client_->stats().retries == 1; }));
  on_loop([&] { run(2); });
  for (int i = 0; i < 3; ++i) on_loop([] {});  // It leaves now, if it does.
  fake_.release();
  for (std::size_t i = 0; i < 3; ++i) {
    const auto reply = answers[i].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_EQ(reply->integer, static_cast<std::int64_t>(i) + 1);
  }
}

// A server that turned into a replica and answers slowly: that the caller has given up does not
// make what the reply says untrue.
TEST_F(ChaosDataTest, AReplyThatComesTooLateStillTellsThatTheServerIsNoMaster) {
  open_fake();
  fake_.with_redis([](FakeRedis& redis) { redis.set_master("10.0.0.9", 6379); });
  fake_.inject({.hang_after_bytes = 0}, FakeServer::named("INCR"));
  call_until_sent(Retry::kIfNotSent, {"INCR", "n"}, 10ms);
  ASSERT_TRUE(poll_until([&] { return fake_.requests("INCR") == 1; }));
  EXPECT_EQ(observer_.seen().data_downs, 0);
  fake_.release();
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.data_downs == 1; }));
  EXPECT_NE(observer_.seen().data_reason.find("not a master"), std::string::npos)
      << observer_.seen().data_reason;
  fake_.with_redis([](FakeRedis& redis) { redis.set_master({}, 0); });
  EXPECT_EQ(text_of({"INCR", "n"}), "1");
}

// A reply that cannot be read ends the connection, at most twice for one command. The others keep
// their own replies, or are told that theirs are lost.
TEST_F(ChaosDataTest, ATooDeepReplyHarmsNobodyElse) {
  open_fake();
  std::string deep;
  for (int i = 0; i < 2000; ++i) deep += "*1\r\n";
  deep += ":1\r\n";
  fake_.on("DEEP", [&](const FakeServer::Words&) { return deep; });
  for (const Retry retry : {Retry::kIfNotSent, Retry::kSafe}) {
    const int downs = observer_.seen().data_downs;
    const std::size_t asked = fake_.requests("DEEP");
    const auto before = send_batch(kBatch);
    const Pending poison = send(retry, {"DEEP"});  // With a minute's time.
    const auto behind = send_batch(kBatch);
    const auto answer = poison.get();
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code,
              retry == Retry::kSafe ? ErrorCode::kProtocol : ErrorCode::kDeadlineExceeded);
    EXPECT_NE(answer.error().message.find("nested too deeply"), std::string::npos)
        << answer.error().to_string();
    for (const auto* batch : {&before, &behind}) {
      for (const Numbered& command : *batch) expect_right_or_unknown(command);
    }
    const int times = retry == Retry::kSafe ? 2 : 1;
    EXPECT_EQ(observer_.seen().data_downs, downs + times);
    EXPECT_EQ(fake_.requests("DEEP"), asked + static_cast<std::size_t>(times));
  }
  for (const Numbered& command : send_batch(kBatch)) expect_right(command);
  expect_idle();
}

// Once, it may be the line that is bad: the command is not blamed, and read again.
TEST_F(ChaosDataTest, OneUnreadableReplyIsAskedForAgain) {
  open_fake();
  for (int round = 0; round < 3; ++round) {
    fake_.inject({.instead = "?"}, FakeServer::named("ECHO"));
    EXPECT_EQ(text_of({"ECHO", "again"}), "again");
  }
  EXPECT_EQ(observer_.seen().data_downs, 3);
}

}  // namespace
}  // namespace tiercel::l2
