// Deadlines by the ten thousand, spread out, of commands in every state that a command can wait in:
// CHAOS.md 13, 26 and 30. None is answered early or twice or not at all, and the stream stays in
// step. How long the loop is held up by them is measured by the benchmark.

#include <algorithm>

#include "chaos_fixture.h"
#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

// Commands in one task of the loop, in an order that has nothing to do with their deadlines.
class ChaosDeadlineTest : public ChaosDataTest {
 protected:
  static constexpr std::size_t kCommands = 20'000;

  struct Timed {
    Numbered command;
    TimePoint deadline;
    bool is_patient;
    TimePoint answered_at{};
    Result<Reply> answer{internal("no answer yet")};
    int answers = 0;
  };

  void open_wide() {
    auto options = options_for(fake_.url());
    options.queue_commands_max = 2 * kCommands;
    options.queue_bytes_max = std::size_t{1} << 30;
    options.backoff_min = 1ms;
    options.backoff_max = 4ms;
    open(options);
    ASSERT_TRUE(wait_data_up());
  }

  void send_spread(std::chrono::milliseconds spread = 900ms) {
    const auto spread_ms = static_cast<std::uint64_t>(spread.count());
    Random random{7};
    timed_.clear();
    left_ = kCommands;
    for (std::size_t i = 0; i < kCommands; ++i) {
      const std::uint64_t id = ++last_id_;
      const bool is_patient = random.below(3) == 0;
      timed_.push_back(
          {.command = {static_cast<int>(id % NumberedCommands::kKinds),
                       id,
                       random.below(2) == 0 ? Retry::kSafe : Retry::kIfNotSent,
                       {}},
           .deadline = in(is_patient ? kPatience + 60s
                                     : std::chrono::milliseconds{random.below(spread_ms)}),
           .is_patient = is_patient});
    }
    on_loop([this] {
      for (Timed& timed : timed_) {
        const Numbered& command = timed.command;
        client_->submit(Command{command.retry,
                                {"NUM", std::to_string(command.kind), std::to_string(command.id)}},
                        timed.deadline, [this, &timed](Result<Reply> reply) {
                          timed.answered_at = Clock::system().now();
                          timed.answer = std::move(reply);
                          ++timed.answers;
                          left_.fetch_sub(1);
                        });
      }
    });
  }

  [[nodiscard]] std::size_t patient() const {
    return static_cast<std::size_t>(std::count_if(
        timed_.begin(), timed_.end(), [](const Timed& timed) { return timed.is_patient; }));
  }
  // Until none but the patient are left.
  void wait_for_the_impatient() {
    ASSERT_TRUE(poll_until([&] { return left_ <= patient(); }, kPatience)) << left_;
  }
  // When all are answered.
  void check(bool unknown_allowed) {
    ASSERT_TRUE(poll_until([&] { return left_ == 0; }, kPatience)) << left_;
    on_loop([&] {
      for (const Timed& timed : timed_) {
        const Numbered& command = timed.command;
        ASSERT_EQ(timed.answers, 1);
        if (timed.answer) {
          EXPECT_TRUE(NumberedCommands::is_reply_of(command.kind, command.id, *timed.answer));
          continue;
        }
        const Error& error = timed.answer.error();
        if (error.code == ErrorCode::kDeadlineExceeded) {
          EXPECT_TRUE(unknown_allowed && command.retry == Retry::kIfNotSent) << error.to_string();
        } else {
          EXPECT_EQ(error.code, ErrorCode::kUnavailable) << error.to_string();
        }
        // One that lost its connection may be told at once.
        if (timed.is_patient || error.code == ErrorCode::kUnavailable) {
          EXPECT_FALSE(timed.is_patient && error.code == ErrorCode::kUnavailable);
          EXPECT_TRUE(timed.is_patient || timed.answered_at >= timed.deadline);
        }
      }
    });
    for (const Numbered& command : send_batch(kBatch)) expect_right(command);
    expect_idle();
  }

  std::vector<Timed> timed_;  // Written on the loop thread while commands are under way.
  std::atomic<std::size_t> left_{0};
};

TEST_F(ChaosDeadlineTest, OfCommandsInFlight) {
  open_wide();
  // Where the machine is so slow that all deadlines pass before anything is sent: longer ones.
  int rounds = 0;
  for (auto spread = 900ms; ++rounds <= 2 || client_->stats().replies_late == 0; spread *= 2) {
    ASSERT_LT(spread, kPatience);
    const std::size_t before = fake_.requests("NUM");
    fake_.inject({.hang_after_bytes = 0}, FakeServer::named("NUM"));
    send_spread(spread);
    wait_for_the_impatient();
    EXPECT_GE(left_, patient());
    // Or the server would hang after it was released.
    ASSERT_TRUE(poll_until([&] { return fake_.requests("NUM") > before; }));
    fake_.release();
    check(true);
  }
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(ChaosDeadlineTest, OfCommandsThatWaitForAConnection) {
  open_wide();
  for (int round = 0; round < 2; ++round) {
    fake_.kill();
    ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_data_up; }));
    send_spread();
    wait_for_the_impatient();
    EXPECT_EQ(client_->stats().commands_waiting, patient());  // The others take no place any more.
    fake_.restart();
    check(false);
  }
}

// Sent, lost with their connection, and waiting for the next: those of Retry::kSafe.
TEST_F(ChaosDeadlineTest, OfCommandsThatAreToBeSentAgain) {
  open_wide();
  for (int round = 0; round < 2; ++round) {
    const std::size_t before = fake_.requests("NUM");
    fake_.inject({.hang_after_bytes = 0}, FakeServer::named("NUM"));
    send_spread();
    ASSERT_TRUE(poll_until([&] { return fake_.requests("NUM") > before; }));
    fake_.kill();
    wait_for_the_impatient();
    fake_.release();
    fake_.restart();
    check(true);
  }
  EXPECT_GT(client_->stats().retries, 0u);
}

TEST_F(ChaosDeadlineTest, OfCommandsThatClosingAnswers) {
  open_wide();
  fake_.inject({.hang_after_bytes = 0}, FakeServer::named("NUM"));
  send_spread();
  ASSERT_TRUE(poll_until([&] { return left_ < kCommands; }));  // Some are sorted, some answered.
  client_->close();
  EXPECT_EQ(left_, 0u);
  for (const Timed& timed : timed_) EXPECT_EQ(timed.answers, 1);
}

TEST_F(ChaosDeadlineTest, ADeadlineThatIsPastAtSubmissionIsCalledSo) {
  open_wide();
  const auto late = call(Retry::kIfNotSent, {"NUM", "0", "1"}, -1ms);
  ASSERT_FALSE(late);
  EXPECT_EQ(late.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(late.error().message.find("was past"), std::string::npos) << late.error().to_string();
  EXPECT_EQ(numbered_.executions(1), 0);
}

}  // namespace
}  // namespace tiercel::l2
