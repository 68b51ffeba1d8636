// CHAOS.md at the level of the connection, D: 5, 6, 12, 13, 25, 26 and 30. What holds of every
// command under every fault: exactly one answer, and if it is a reply, the reply to this command.

#include <unistd.h>

#include <fstream>
#include <thread>

#include "client_fixture.h"
#include "numbered_commands.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using Fault = FakeServer::Fault;

struct Numbered {
  int kind;
  std::uint64_t id;
  Retry retry;
  Pending answer;
};

class ChaosDataTest : public ClientTest {
 protected:
  void SetUp() override { numbered_.serve(fake_); }
  void TearDown() override { client_.reset(); }

  void open_fake(std::chrono::milliseconds response_timeout = 60s) {
    auto options = options_for(fake_.url());
    options.response_timeout = response_timeout;
    options.backoff_min = 1ms;
    options.backoff_max = 4ms;
    open(options);
    ASSERT_TRUE(wait_data_up());
  }

  // In one task of the loop, so that they are pipelined.
  std::vector<Numbered> send_batch(std::size_t count, Duration timeout = kPatience) {
    std::vector<Numbered> batch;
    for (std::size_t i = 0; i < count; ++i) {
      const std::uint64_t id = ++last_id_;
      batch.push_back({static_cast<int>(id % NumberedCommands::kKinds),
                       id,
                       id % 2 == 0 ? Retry::kSafe : Retry::kIfNotSent,
                       {}});
    }
    std::promise<void> sent;
    loop_.post([&] {
      for (const Numbered& command : batch) submit(command, timeout);
      sent.set_value();
    });
    sent.get_future().get();
    return batch;
  }
  void expect_idle() {
    EXPECT_TRUE(poll_until([&] { return client_->stats().commands_waiting == 0; }));
  }
  void submit(const Numbered& command, Duration timeout) {
    client_->submit(
        Command{command.retry, {"NUM", std::to_string(command.kind), std::to_string(command.id)}},
        in(timeout), command.answer.callback());
  }

  void expect_right(const Numbered& command) {
    const auto reply = command.answer.get();
    ASSERT_TRUE(reply) << command.id << ": " << reply.error().to_string();
    EXPECT_TRUE(NumberedCommands::is_reply_of(command.kind, command.id, *reply))
        << command.kind << " " << command.id << ": '" << reply->text << "'";
  }
  // Right, or told to be unknown where that is allowed; carried out as often as the answer says.
  void expect_right_or_unknown(const Numbered& command) {
    const auto reply = command.answer.get();
    const int executions = numbered_.executions(command.id);
    if (reply || command.retry == Retry::kSafe) {
      expect_right(command);
      EXPECT_GE(executions, 1) << command.id;
      EXPECT_TRUE(command.retry == Retry::kSafe || executions == 1) << executions;
      return;
    }
    EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded) << reply.error().to_string();
    EXPECT_LE(executions, 1) << command.id;
  }

  static FakeServer::Predicate number(std::uint64_t id) {
    return [id](const FakeServer::Request& request) {
      return request.is("NUM") && request.words[2] == std::to_string(id);
    };
  }

  NumberedCommands numbered_;
  FakeServer fake_;                  // Gone before the ledger that its handler writes.
  std::uint64_t last_id_ = 100'000;  // The ids are equally long.
};

constexpr std::size_t kBatch = 2 * NumberedCommands::kKinds;

std::size_t stream_bytes(const std::vector<Numbered>& batch, std::size_t commands) {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < commands; ++i) {
    bytes += NumberedCommands::reply_text(batch[i].kind, batch[i].id).size();
  }
  return bytes;
}

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
    fake_.release();
    for (const Numbered& command : send_batch(NumberedCommands::kKinds)) expect_right(command);
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
    EXPECT_GE(numbered_.executions(first), 1) << loss.name;
    // Not the one that was lost, nor one that was closed, is waited for any more.
    for (const Numbered& command : send_batch(kBatch)) expect_right(command);
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
  for (const Numbered& command : send_batch(kBatch)) expect_right(command);
  for (const Numbered& command : batch) expect_right_or_unknown(command);
}

// 25.
TEST_F(ChaosDataTest, AServerThatIsNotReadyIsWaitedForAndABusyOneAnswers) {
  open_fake();
  for (const char* refusal : {"LOADING Redis is loading the dataset in memory",
                              "MASTERDOWN Link with MASTER is down and "
                              "replica-serve-stale-data is set to 'no'."}) {
    fake_.with_redis([&](auto& redis) { redis.set_refusal(refusal); });
    const Pending hasty = send(Retry::kIfNotSent, {"SET", "k", "v"}, 50ms);
    std::vector<Pending> patient;
    for (int i = 0; i < 20; ++i) patient.push_back(send(Retry::kIfNotSent, {"INCR", refusal}));
    const auto answer = hasty.get();
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, ErrorCode::kUnavailable) << answer.error().to_string();
    for (const Pending& pending : patient) EXPECT_FALSE(pending.has_come());
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
  std::thread reload{[&] { EXPECT_EQ(server->command({"DEBUG", "RELOAD"}), "OK"); }};
  ASSERT_TRUE(poll_until([&] { return server->command({"PING"}).starts_with("-LOADING"); }));
  std::vector<Pending> writes;
  for (int i = 0; i < 50; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
  for (int i = 0; i < 50; ++i) {
    const auto reply = writes[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_EQ(reply->integer, i + 1);
  }
  reload.join();
  EXPECT_GT(client_->stats().retries, 0U);
  EXPECT_EQ(text_of({"GET", "499"}), std::string(100, 'v'));
}

// Many callers, each of which sees its own counter and its own echo.
class Callers {
 public:
  Callers(Client& client, int count, Duration timeout, Duration patience)
      : client_(client), timeout_(timeout), patience_(patience) {
    for (int i = 0; i < count; ++i) threads_.emplace_back([this, i] { run(i); });
  }
  ~Callers() { join(); }
  void join() {
    is_over_ = true;
    for (std::thread& thread : threads_) {
      if (thread.joinable()) thread.join();
    }
  }
  [[nodiscard]] int answered() const { return answered_; }
  [[nodiscard]] int unknown() const { return unknown_; }
  [[nodiscard]] int unavailable() const { return unavailable_; }
  [[nodiscard]] int wrong() const { return wrong_; }

 private:
  void run(int caller) {
    const std::string key = "counter-" + std::to_string(caller);
    for (int i = 0; !is_over_; ++i) {
      const std::string word = key + ":" + std::to_string(i);
      count(client_.call(Command{Retry::kSafe, {"ECHO", word}}, after(patience_)),
            [&](const Reply& reply) { return reply.is_string() && reply.text == word; });
      count(client_.call(Command{Retry::kIfNotSent, {"INCR", key}}, after(timeout_)),
            [&](const Reply& reply) { return reply.is_integer() && reply.integer >= 1; });
    }
  }
  static TimePoint after(Duration duration) { return Clock::system().now() + duration; }
  template <typename IsRight>
  void count(const Result<Reply>& reply, IsRight is_right) {
    if (reply) {
      ++(is_right(*reply) ? answered_ : wrong_);
    } else if (reply.error().code == ErrorCode::kDeadlineExceeded) {
      ++unknown_;
    } else {
      ++(reply.error().code == ErrorCode::kUnavailable ? unavailable_ : wrong_);
    }
  }

  Client& client_;
  const Duration timeout_;
  const Duration patience_;
  std::atomic<bool> is_over_{false};
  std::atomic<int> answered_{0};
  std::atomic<int> unknown_{0};
  std::atomic<int> unavailable_{0};
  std::atomic<int> wrong_{0};
  std::vector<std::thread> threads_;
};

// 12, the connection's part.
TEST_F(ChaosDataTest, AServerKilledUnderLoadLosesNoCallerAndComesBack) {
  const auto server = RedisServer::start();
  open(server->url(), "news");
  Callers callers{*client_, 6, kPatience, kPatience};
  for (int round = 1; round <= 3; ++round) {
    const int before = callers.answered();
    ASSERT_TRUE(poll_until([&] { return callers.answered() > before + 200; }, kPatience));
    server->kill();
    ASSERT_TRUE(observe([&](const Observed& seen) { return !seen.is_data_up; }));
    server->restart();
  }
  const int before = callers.answered();
  ASSERT_TRUE(poll_until([&] { return callers.answered() > before + 200; }, kPatience));
  callers.join();
  EXPECT_EQ(callers.wrong(), 0);
  EXPECT_EQ(callers.unavailable(), 0);  // They had the time to wait.
  EXPECT_LE(callers.unknown(), 3 * 6);  // One each, at each kill.
  expect_idle();
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

// 13, the connection's part: the same connection goes on.
TEST_F(ChaosDataTest, AServerThatSleepsUnderLoadIsOutwaited) {
  const auto server = RedisServer::start();
  open(server->url());
  ASSERT_TRUE(wait_data_up());
  Callers callers{*client_, 6, 20ms, 20ms};
  for (int round = 0; round < 3; ++round) {
    const int before = callers.answered();
    ASSERT_TRUE(poll_until([&] { return callers.answered() > before + 200; }, kPatience));
    server->stop_process();
    const int unknown = callers.unknown();
    ASSERT_TRUE(poll_until([&] { return callers.unknown() > unknown + 12; }, kPatience));
    server->continue_process();
  }
  callers.join();
  EXPECT_EQ(callers.wrong(), 0);
  EXPECT_GT(callers.unavailable(), 0);  // The reads.
  EXPECT_EQ(text_of({"ECHO", "in step"}), "in step");
  EXPECT_GT(client_->stats().replies_late, 36U);
  EXPECT_EQ(observer_.seen().data_downs, 0);
  expect_idle();
}

// Of this process, in bytes; 0 where the kernel does not tell.
std::size_t resident_bytes() {
  std::size_t total = 0;
  std::size_t resident = 0;
  std::ifstream{"/proc/self/statm"} >> total >> resident;
  return resident * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
}

// 30. Ten times what may wait is submitted while nothing is answered.
TEST_F(ChaosDataTest, AFullQueueRefusesAtOnceStaysSmallAndEmptiesAgain) {
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 2000;
  options.queue_bytes_max = 64 << 20;
  open(options);
  ASSERT_TRUE(wait_data_up());
  server->stop_process();  // A pause that ends when the test says so.
  const std::size_t resident_before = resident_bytes();
  constexpr int kThreads = 4;
  const std::string payload(100'000, 'p');
  std::atomic<int> echoed{0};
  std::atomic<int> wrong{0};
  std::atomic<int> overloaded_at_once{0};
  std::atomic<std::size_t> waiting_max{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const auto self = std::this_thread::get_id();
      for (int i = 0; i < 4000; ++i) {  // 1.6 GB in all.
        client_->submit(Command{Retry::kIfNotSent, {"ECHO", payload}}, in(kPatience),
                        [&, self](Result<Reply> reply) {
                          if (reply) {
                            ++(reply->text.size() == payload.size() ? echoed : wrong);
                          } else if (reply.error().code == ErrorCode::kOverloaded &&
                                     std::this_thread::get_id() == self) {
                            ++overloaded_at_once;
                          } else {
                            ++wrong;
                          }
                        });
        const std::size_t waiting = client_->stats().commands_waiting;
        std::size_t old = waiting_max;
        while (waiting > old && !waiting_max.compare_exchange_weak(old, waiting)) {
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_LE(waiting_max, (std::size_t{64} << 20) / payload.size() + kThreads);
  EXPECT_GT(waiting_max, 100U);
  EXPECT_EQ(client_->stats().commands_overloaded, static_cast<std::uint64_t>(overloaded_at_once));
  EXPECT_GT(overloaded_at_once, 10'000);
  if (resident_before > 0) {
    // The queue, and the writes that the kernel has not taken; under a sanitizer more.
    EXPECT_LT(resident_bytes(), resident_before + (std::size_t{640} << 20));
  }
  server->continue_process();
  ASSERT_TRUE(poll_until([&] { return echoed + overloaded_at_once + wrong == kThreads * 4000; },
                         kPatience));
  EXPECT_EQ(wrong, 0);
  expect_idle();
  for (int i = 0; i < 20; ++i) EXPECT_EQ(text_of({"ECHO", "again"}), "again");
}

// 30, by CLIENT PAUSE, with commands whose deadlines pass while they are in flight: they keep
// counting until their replies have come, so that a silent server cannot make the queue grow.
TEST_F(ChaosDataTest, CommandsPastTheirDeadlineCountUntilTheirRepliesCome) {
  auto options = options_for(fake_.url());
  options.queue_commands_max = 500;
  open(options);
  ASSERT_TRUE(wait_data_up());
  fake_.inject({.hang_after_bytes = 0}, FakeServer::named("PING"));
  std::vector<Pending> answers{send(Retry::kSafe, {"PING"}, 1ms)};
  bool is_full = false;
  ASSERT_TRUE(poll_until(
      [&] {
        for (int i = 0; i < 100 && !is_full; ++i) {
          answers.push_back(send(Retry::kIfNotSent, {"INCR", "n"}, 5ms));
          is_full = answers.back().has_come() && !answers.back().get() &&
                    answers.back().get().error().code == ErrorCode::kOverloaded;
        }
        return is_full;
      },
      kPatience));
  for (const Pending& answer : answers) EXPECT_FALSE(answer.get());  // None waits for the server.
  EXPECT_LE(client_->stats().commands_waiting, 500U);
  EXPECT_GE(fake_.requests("INCR") + 1, client_->stats().commands_waiting);
  fake_.release();
  ASSERT_TRUE(poll_until([&] { return client_->stats().commands_waiting == 0; }));
  EXPECT_EQ(text_of({"ECHO", "again"}), "again");
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(ChaosDataTest, APausedServerUnderLoadOverloadsAndRecovers) {
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 100;
  open(options);
  ASSERT_TRUE(wait_data_up());
  std::vector<Pending> answers;
  // Should the pause be over before the queue is full, on a slow machine: again.
  ASSERT_TRUE(poll_until(
      [&] {
        EXPECT_EQ(server->command({"CLIENT", "PAUSE", "500"}), "OK");
        for (int i = 0; i < 300; ++i) answers.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
        return client_->stats().commands_overloaded > 0;
      },
      kPatience));
  std::int64_t last = 0;
  for (const Pending& answer : answers) {
    const auto reply = answer.get();
    if (reply) {
      EXPECT_EQ(reply->integer, ++last);
    } else {
      EXPECT_EQ(reply.error().code, ErrorCode::kOverloaded) << reply.error().to_string();
    }
  }
  EXPECT_EQ(text_of({"GET", "n"}), std::to_string(last));
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

}  // namespace
}  // namespace tiercel::l2
