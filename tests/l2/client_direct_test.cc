// Direct calls: a thread that calls alone uses the connection by itself (docs/design/l2.md). What
// is promised must hold whichever way a call takes, so no test here depends on its having been
// direct at one moment; that direct calls take place at all is asked of the statistics.

#include <thread>

#include "client_fixture.h"
#include "support/gate.h"
#include "support/redis_server.h"
#include "support/resp_text.h"
#include "support/tcp_proxy.h"

namespace tiercel::l2 {
namespace {

namespace resp = tiercel::testing::resp;
using tiercel::testing::Gate;
using tiercel::testing::RedisServer;
using tiercel::testing::TcpProxy;

class ClientDirect : public ClientTest {
 protected:
  // Calls until calls are direct. One after the other: who pauses has to begin anew.
  void get_on_loan() {
    const auto before = client_->stats().direct_calls;
    const TimePoint give_up_at = Clock::system().now() + kPatience;
    while (client_->stats().direct_calls == before) {
      ASSERT_LT(Clock::system().now(), give_up_at);
      ASSERT_EQ(text_of({"ECHO", "warm"}), "warm");
    }
  }
  void open_fake() {
    auto options = options_for(fake_.url());
    options.backoff_min = 1ms;
    options.backoff_max = 4ms;
    open(options);
    ASSERT_TRUE(wait_data_up());
  }
  void expect_idle() {
    EXPECT_TRUE(poll_until([&] { return client_->stats().commands_waiting == 0; }));
  }

  FakeServer fake_;
};

TEST_F(ClientDirect, ALonelyCallerNeedsNoLoop) {
  const auto server = RedisServer::start();
  open(server->url());
  get_on_loan();
  const ClientStats before = client_->stats();
  for (int i = 0; i < 1000; ++i) {
    ASSERT_EQ(text_of({"ECHO", std::to_string(i)}), std::to_string(i));
  }
  const ClientStats after = client_->stats();
  EXPECT_GT(after.direct_calls, before.direct_calls);
  EXPECT_EQ(after.commands_submitted, before.commands_submitted + 1000);
  EXPECT_EQ(after.commands_waiting, 0u);
  EXPECT_EQ(after.connects_attempted, 1u);
}

TEST_F(ClientDirect, RepliesOfEverySizeAndKind) {
  const auto server = RedisServer::start();
  open(server->url());
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{1000},
                                  std::size_t{20'000}, std::size_t{3'000'000}}) {
    get_on_loan();
    const std::string value(bytes, 'v');
    ASSERT_EQ(text_of({"SET", "k", value}), "OK");
    get_on_loan();
    ASSERT_EQ(text_of({"GET", "k"}), value) << bytes;
    const auto many = call(Retry::kSafe, {"MGET", "k", "missing", "k"});
    ASSERT_EQ(many->elements.size(), 3u);
    ASSERT_EQ(many->elements[2].text, value);
  }
  EXPECT_EQ(text_of({"RPUSH", "list", "element"}), "1");
  get_on_loan();
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "list"})->is_error("WRONGTYPE"));
  EXPECT_EQ(text_of({"GET", "k"}).size(), 3'000'000u);
}

TEST_F(ClientDirect, ACallSeesWhatItsThreadHasSubmittedBefore) {
  const auto server = RedisServer::start();
  open(server->url());
  std::atomic<bool> stop{false};
  Mutex alone;
  std::thread other{[&] {  // So that the connection is borrowed, too, when something is submitted.
    for (int i = 0; !stop; ++i) {
      if (i % 20 == 0) std::this_thread::sleep_for(3ms);
      MutexLock lock{alone};
      ASSERT_EQ(text_of({"ECHO", "other"}), "other");
    }
  }};
  for (int i = 0; i < 2000; ++i) {
    if (i % 20 == 0) {
      MutexLock lock{alone};
      get_on_loan();
    }
    std::vector<Pending> writes;
    for (int n = 0; n <= i % 3; ++n) {
      writes.push_back(
          send(Retry::kIfNotSent, {"SET", "k", std::to_string(i) + ":" + std::to_string(n)}));
    }
    EXPECT_EQ(text_of({"GET", "k"}), std::to_string(i) + ":" + std::to_string(i % 3));
    for (const Pending& write : writes) EXPECT_TRUE(write.get());
    if (::testing::Test::HasFailure()) break;
  }
  stop = true;
  other.join();
}

TEST_F(ClientDirect, ThreadsThatCallAtTheSameTimeGetEachItsOwnAnswer) {
  const auto server = RedisServer::start();
  open(server->url());
  for (const int count : {2, 3, 16}) {
    std::atomic<int> right{0};
    std::vector<std::thread> threads;
    for (int t = 0; t < count; ++t) {
      threads.emplace_back([&, t] {
        for (int i = 0; i < 500; ++i) {
          const std::string word = std::to_string(t) + ":" + std::to_string(i);
          if (text_of({"ECHO", word}) == word) right.fetch_add(1);
          // Alone now and then, so that the loan begins and ends many times.
          if (i % 50 == t) std::this_thread::sleep_for(1ms);
        }
      });
    }
    for (auto& thread : threads) thread.join();
    EXPECT_EQ(right, 500 * count);
  }
  get_on_loan();
  expect_idle();
}

TEST_F(ClientDirect, CommandsOfOthersDoNotWaitForTheBorrowersReply) {
  open_fake();
  const Gate asked;
  asked.open();
  fake_.on("HANG", [asked](const FakeServer::Words&) {
    asked.pass();
    return resp::ok();
  });
  fake_.inject({.hang_after_bytes = 0}, FakeServer::named("HANG"));
  get_on_loan();
  std::thread caller{[&] { call_until_sent(Retry::kIfNotSent, {"HANG"}, 300ms); }};
  EXPECT_TRUE(asked.wait_until_arrived(1));
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});
  EXPECT_TRUE(poll_until([&] { return fake_.requests("SET") == 1; }));
  caller.join();
  EXPECT_FALSE(write.has_come());
  fake_.end_connections(false);
  EXPECT_EQ(write.get().error().code, ErrorCode::kDeadlineExceeded);
}

TEST_F(ClientDirect, AServerThatClosedTheConnectionCostsNoWriteItsOutcome) {
  open_fake();
  int unknown = 0;
  constexpr int kRounds = 40;
  for (int i = 0; i < kRounds; ++i) {
    get_on_loan();
    fake_.end_connections(i % 2 == 0);
    std::this_thread::sleep_for(1ms);  // A call right after the last need not look.
    const auto reply = call(Retry::kIfNotSent, {"INCR", "n"});
    if (reply) {
      EXPECT_TRUE(reply->is_integer());
    } else {
      // Not lent any more, and submitted before the loop had seen the end.
      EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded);
      ++unknown;
    }
  }
  EXPECT_LT(unknown, kRounds / 2);
}

TEST_F(ClientDirect, TheEndOfAnIdleConnectionIsNoticed) {
  open_fake();
  get_on_loan();
  fake_.end_connections(false);
  EXPECT_TRUE(observe([](const Observed& seen) { return seen.data_ups == 2; }));
  EXPECT_EQ(text_of({"ECHO", "again"}), "again");
}

TEST_F(ClientDirect, AConnectionLostDuringTheCall) {
  open_fake();
  for (int i = 0; i < 40; ++i) {
    get_on_loan();
    const std::size_t cut = static_cast<std::size_t>(i) % 4;  // Of ":1\r\n".
    fake_.inject({.end_after_bytes = cut, .resets = i % 3 == 0}, FakeServer::named("INCR"));
    const auto write = call(Retry::kIfNotSent, {"INCR", "n"});
    ASSERT_FALSE(write);
    EXPECT_EQ(write.error().code, ErrorCode::kDeadlineExceeded) << write.error().to_string();
    get_on_loan();
    fake_.inject({.end_after_bytes = cut, .resets = i % 3 == 0}, FakeServer::named("EXISTS"));
    EXPECT_EQ(text_of({"EXISTS", "n"}), "1");  // A read is sent again.
  }
  EXPECT_EQ(text_of({"GET", "n"}), "40");
  expect_idle();
}

TEST_F(ClientDirect, DeadlinesHoldAndLateRepliesAreDiscarded) {
  open_fake();
  const auto expect_in_step = [&] {
    const Pending read = send(Retry::kSafe, {"GET", "k"});
    EXPECT_TRUE(poll_until([&] {
      fake_.release();  // It may not have come to the place where it hangs.
      return read.has_come();
    }));
    EXPECT_EQ(read.get()->text, "v");  // Not "OK", nor 1.
  };
  for (int i = 0; i < 10 && !HasFailure(); ++i) {
    get_on_loan();
    fake_.inject({.hang_after_bytes = 0}, FakeServer::named("SET"));
    call_until_sent(Retry::kIfNotSent, {"SET", "k", "v"}, 20ms);
    expect_in_step();

    get_on_loan();
    fake_.inject({.hang_after_bytes = 0}, FakeServer::named("EXISTS"));
    call_until_sent(Retry::kSafe, {"EXISTS", "k"}, 3ms);
    expect_in_step();
  }
  EXPECT_EQ(client_->stats().replies_late, 20u);
  EXPECT_EQ(observer_.seen().data_downs, 0);
  get_on_loan();
  EXPECT_EQ(call(Retry::kIfNotSent, {"SET", "k", "late"}, -1ms).error().code,
            ErrorCode::kUnavailable);
  EXPECT_EQ(text_of({"GET", "k"}), "v");  // Never sent.
}

TEST_F(ClientDirect, SlowAndStutteringAnswersAreWaitedFor) {
  open_fake();
  for (int i = 0; i < 10; ++i) {
    get_on_loan();
    fake_.inject({.delay = std::chrono::milliseconds{4 * i}}, FakeServer::named("EXISTS"));
    EXPECT_EQ(text_of({"EXISTS", "k"}), "0");
  }
  get_on_loan();
  fake_.inject({.chunk_bytes_max = 1}, FakeServer::named("SET"));
  EXPECT_EQ(text_of({"SET", "k", std::string(500, 'v')}), "OK");
  get_on_loan();
  EXPECT_EQ(text_of({"GET", "k"}), std::string(500, 'v'));
}

TEST_F(ClientDirect, ASurplusReplyAnswersNobody) {
  open_fake();
  for (int i = 0; i < 20; ++i) {
    get_on_loan();
    const int downs = observer_.seen().data_downs;
    // At once, or a moment after the reply.
    fake_.inject({.copies = 2, .chunk_bytes_max = i % 2 == 0 ? std::size_t{0} : std::size_t{4}},
                 FakeServer::named("EXISTS"));
    EXPECT_EQ(text_of({"EXISTS", "k"}), "0");
    if (i % 2 == 0) {
      EXPECT_EQ(text_of({"ECHO", "next"}), "next");
    }
    EXPECT_TRUE(observe([&](const Observed& seen) { return seen.data_downs == downs + 1; }));
    EXPECT_NE(observer_.seen().data_reason.find("no command"), std::string::npos);
  }
}

TEST_F(ClientDirect, WhatIsNoReplyEndsTheConnection) {
  open_fake();
  for (int i = 0; i < 10; ++i) {
    get_on_loan();
    fake_.inject({.instead = "HTTP/1.1 400 Bad Request\r\n\r\n"}, FakeServer::named("INCR"));
    const auto write = call(Retry::kIfNotSent, {"INCR", "n"});
    ASSERT_FALSE(write);
    EXPECT_EQ(write.error().code, ErrorCode::kDeadlineExceeded) << write.error().to_string();
  }
  EXPECT_EQ(observer_.seen().data_downs, 10);
}

TEST_F(ClientDirect, RepliesThatMeanThatNothingRanAreNotAnswers) {
  open_fake();
  for (int i = 1; i <= 10; ++i) {
    get_on_loan();
    for (const char* refusal : {"LOADING Redis is loading", "MASTERDOWN Link is down"}) {
      fake_.inject({.instead = resp::error(refusal)}, FakeServer::named("TYPE"), 2);
    }
    fake_.on("TYPE", [](const FakeServer::Words&) { return resp::status("none"); });
    EXPECT_EQ(text_of({"TYPE", "k"}), "none");
  }
  EXPECT_GE(client_->stats().retries, 40u);
  EXPECT_FALSE(client_->data_trouble());
}

TEST_F(ClientDirect, LeavesAServerThatBecameAReplica) {
  const auto master = RedisServer::start();
  const auto server = RedisServer::start();
  for (const bool stream_tells : {false, true}) {
    open(server->url(), "channel");
    ASSERT_TRUE(wait_stream_up());
    get_on_loan();
    ASSERT_EQ(server->command({"REPLICAOF", "127.0.0.1", std::to_string(master->port())}), "OK");
    if (stream_tells) loop_.post([this] { client_->stream_redial("asks for the role again"); });
    EXPECT_EQ(error_of_refused({"INCR", "n"}, 300ms).code, ErrorCode::kUnavailable);
    ASSERT_EQ(server->command({"REPLICAOF", "NO", "ONE"}), "OK");
    EXPECT_TRUE(call(Retry::kIfNotSent, {"INCR", "n"})->is_integer());
  }
}

TEST_F(ClientDirect, TheServerPausesDiesAndComesBack) {
  const auto server = RedisServer::start();
  open(server->url());
  get_on_loan();
  ASSERT_EQ(server->command({"CLIENT", "PAUSE", "600000", "WRITE"}), "OK");
  call_until_sent(Retry::kIfNotSent, {"INCR", "n"}, 50ms);
  ASSERT_EQ(server->command({"CLIENT", "UNPAUSE"}), "OK");
  EXPECT_EQ(text_of({"GET", "n"}), "1");
  get_on_loan();
  server->stop_process();
  std::thread killer{[&] { server->kill(); }};
  const auto killed = call(Retry::kIfNotSent, {"INCR", "n"}, 300ms);
  ASSERT_FALSE(killed);
  killer.join();
  server->restart();
  EXPECT_EQ(text_of({"EXISTS", "n"}), "0");
  get_on_loan();
}

TEST_F(ClientDirect, CloseAnswersACallThatIsUnderWay) {
  for (int i = 0; i < 30; ++i) {
    open_fake();
    std::promise<void> asked;
    fake_.on("HANG", [&asked](const FakeServer::Words&) {
      asked.set_value();
      return std::string{};
    });
    get_on_loan();
    const Retry retry = i % 2 == 0 ? Retry::kSafe : Retry::kIfNotSent;
    std::optional<Result<Reply>> reply;
    std::thread caller{[&] { reply = call(retry, {"HANG"}); }};
    asked.get_future().get();
    client_->close();
    caller.join();
    ASSERT_FALSE(*reply);
    EXPECT_EQ(reply->error().code,
              retry == Retry::kSafe ? ErrorCode::kClosed : ErrorCode::kDeadlineExceeded);
    EXPECT_EQ(call(Retry::kSafe, {"ECHO", "x"}).error().code, ErrorCode::kClosed);
    client_.reset();
  }
}

TEST_F(ClientDirect, CloseWhileAThreadCallsAndCalls) {
  for (int i = 0; i < 30; ++i) {
    open_fake();
    get_on_loan();
    std::thread caller{[&] {
      while (true) {
        const auto reply = call(Retry::kSafe, {"ECHO", "x"});
        if (reply) continue;
        EXPECT_EQ(reply.error().code, ErrorCode::kClosed);
        return;
      }
    }};
    std::this_thread::sleep_for(std::chrono::microseconds{100 * i});
    client_->close();
    caller.join();
  }
}

}  // namespace
}  // namespace tiercel::l2
