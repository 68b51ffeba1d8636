// CHAOS.md at the level of the connection, D under load: 12, 13 and 30; and closing under faults.

#include <unistd.h>

#include <atomic>
#include <fstream>
#include <thread>

#include "chaos_fixture.h"
#include "support/redis_server.h"
#include "tiercel/base/sanitizers.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;
using Fault = FakeServer::Fault;

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
  constexpr std::size_t kBytesMax = 16 << 20;
  const auto server = RedisServer::start();
  auto options = options_for(server->url());
  options.queue_commands_max = 2000;
  options.queue_bytes_max = kBytesMax;
  open(options);
  ASSERT_TRUE(wait_data_up());
  server->stop_process();  // A pause that ends when the test says so.
  const std::size_t resident_before = resident_bytes();
  constexpr int kThreads = 4;
  constexpr int kEach = 400;
  const std::string payload(100'000, 'p');
  std::atomic<int> echoed{0};
  std::atomic<int> wrong{0};
  std::atomic<int> overloaded_at_once{0};
  std::atomic<std::size_t> waiting_max{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&] {
      const auto self = std::this_thread::get_id();
      for (int i = 0; i < kEach; ++i) {  // 160 MB in all.
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
  EXPECT_LE(waiting_max, kBytesMax / payload.size() + kThreads);
  EXPECT_GT(waiting_max, 100U);
  EXPECT_EQ(client_->stats().commands_overloaded, static_cast<std::uint64_t>(overloaded_at_once));
  EXPECT_GT(overloaded_at_once, 1400);
  if (resident_before > 0 && !TIERCEL_ASAN && !TIERCEL_TSAN) {  // They keep what was given back.
    // The queue, what is formatted by each thread, and what the allocator holds: a part of 160 MB.
    EXPECT_LT(resident_bytes(), resident_before + 5 * kBytesMax);
  }
  server->continue_process();
  ASSERT_TRUE(poll_until([&] { return echoed + overloaded_at_once + wrong == kThreads * kEach; },
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
  // One that is not sent within its deadline, on a slow machine, makes nothing hang.
  std::vector<Pending> answers;
  ASSERT_TRUE(poll_until([&] {
    if (fake_.requests("PING") > 0) return true;
    answers.push_back(send(Retry::kSafe, {"PING"}, 50ms));
    return false;
  }));
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
  // What has been sent, of which more than one PING may be, waits until its reply comes, and
  // nothing else does. It may not have been received yet.
  EXPECT_TRUE(poll_until([&] {
    return fake_.requests("INCR") + fake_.requests("PING") == client_->stats().commands_waiting;
  }));
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

// The server stops reading in the middle of large writes: what waits behind them is told that it
// was not sent, what the kernel may have taken that it is unknown; and when the server reads on,
// the stream is in step.
TEST_F(ChaosDataTest, AServerThatStopsReadingLeavesTheStreamInStep) {
  open_fake();
  const std::string padding(1 << 20, 'p');
  for (int round = 0; round < 3; ++round) {
    fake_.inject({.stops_reading = true}, FakeServer::named("PING"));
    EXPECT_EQ(text_of({"PING"}), "PONG");
    std::vector<Numbered> commands;
    for (int i = 0; i < 40; ++i) {
      const std::uint64_t id = ++last_id_;
      commands.push_back(
          {static_cast<int>(id % NumberedCommands::kKinds), id, Retry::kIfNotSent, {}});
      client_->submit(
          Command{Retry::kIfNotSent,
                  {"NUM", std::to_string(commands.back().kind), std::to_string(id), padding}},
          in(i % 2 == 0 ? 50ms : kPatience), commands.back().answer.callback());
    }
    for (std::size_t i = 0; i < commands.size(); i += 2) {
      const auto reply = commands[i].answer.get();
      EXPECT_FALSE(reply);
      EXPECT_EQ(numbered_.executions(commands[i].id), 0);
    }
    fake_.release();
    for (std::size_t i = 1; i < commands.size(); i += 2) expect_right(commands[i]);
    for (const Numbered& command : send_batch(kBatch)) expect_right(command);
    for (const Numbered& command : commands) {
      const auto reply = command.answer.get();
      const int executions = numbered_.executions(command.id);
      EXPECT_LE(executions, 1);
      EXPECT_TRUE(reply || reply.error().code != ErrorCode::kUnavailable || executions == 0);
    }
  }
  EXPECT_EQ(observer_.seen().data_downs, 0);
  expect_idle();
}

TEST_F(ChaosDataTest, ClosesInTheMiddleOfEveryFault) {
  for (const Fault& fault :
       {Fault{.end_after_bytes = 30}, Fault{.end_after_bytes = 30, .resets = true},
        Fault{.chunk_bytes_max = 1}, Fault{.delay = 50ms}, Fault{.hang_after_bytes = 20},
        Fault{.stops_reading = true}, Fault{.copies = 0, .hang_after_bytes = 0},
        Fault{.instead = "!"}}) {
    for (const bool in_handshake : {false, true}) {
      fake_.inject(fault, in_handshake ? FakeServer::named("ROLE") : FakeServer::named("NUM"));
      auto options = options_for(fake_.url());
      options.backoff_min = 1ms;
      options.backoff_max = 4ms;
      open(options, "news");
      ASSERT_TRUE(in_handshake || wait_data_up());
      const std::size_t before = fake_.requests("NUM");
      const auto batch = send_batch(kBatch);
      if (!in_handshake) {
        ASSERT_TRUE(poll_until([&] { return fake_.requests("NUM") > before; }));
      }
      client_.reset();
      for (const Numbered& command : batch) {
        ASSERT_TRUE(command.answer.has_come());
        const auto reply = command.answer.get();
        if (reply) {
          EXPECT_TRUE(NumberedCommands::is_reply_of(command.kind, command.id, *reply));
          continue;
        }
        EXPECT_TRUE(reply.error().code == ErrorCode::kClosed ||
                    reply.error().code == ErrorCode::kDeadlineExceeded)
            << reply.error().to_string();
      }
      fake_.clear_faults();
      fake_.release();
    }
  }
}

}  // namespace
}  // namespace tiercel::l2
