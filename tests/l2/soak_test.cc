// Faults at random, for a few seconds: threads submit numbered commands while the fake server cuts,
// resets, stutters, hangs, refuses, is killed and started again. Then the faults stop, and the
// client recovers. The faults are drawn from a seed, printed first; TIERCEL_SEED=… draws them again
// (threads and kernel are not replayed), TIERCEL_SOAK_SECONDS=… goes on for longer.

#include <array>
#include <cstdlib>
#include <iostream>
#include <map>
#include <thread>

#include "client_fixture.h"
#include "numbered_commands.h"
#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

using Fault = FakeServer::Fault;

constexpr int kThreads = 6;
constexpr std::size_t kWindow = 100;    // Each thread's commands under way.
constexpr std::size_t kQueueMax = 400;  // Below what they could submit: overload is part of it.

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* const value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

// What became of one command.
struct Fate {
  int kind = 0;
  Retry retry = Retry::kSafe;
  std::atomic<int> answers{0};
  std::atomic<bool> is_wrong{false};  // The reply is not this command's.
  std::atomic<int> code{-1};          // Of the error; -1: a reply.
};

class SoakTest : public ClientTest {
 protected:
  void TearDown() override { client_.reset(); }

  static constexpr std::size_t kFatesMax = 1 << 20;

  void submit_until(const std::atomic<bool>& is_over, std::uint64_t seed,
                    std::atomic<std::size_t>& under_way) {
    Random random{seed};
    while (!is_over && next_id_ < kFatesMax) {
      if (!poll_until([&] { return is_over || under_way < kWindow; }, kPatience, 1ms)) break;
      const std::uint64_t id = next_id_++;
      if (id >= kFatesMax) break;
      Fate& fate = fates_[id];
      fate.kind = static_cast<int>(random.below(NumberedCommands::kKinds));
      fate.retry = random.below(2) == 0 ? Retry::kSafe : Retry::kIfNotSent;
      const auto timeout =
          std::chrono::milliseconds{random.below(4) == 0 ? random.below(20) : random.below(2000)};
      ++under_way;
      client_->submit(Command{fate.retry, {"NUM", std::to_string(fate.kind), std::to_string(id)}},
                      in(timeout), [&fate, &under_way, this, id](const Result<Reply>& reply) {
                        ++fate.answers;
                        if (reply) {
                          fate.is_wrong = !NumberedCommands::is_reply_of(fate.kind, id, *reply);
                        } else {
                          fate.code = static_cast<int>(reply.error().code);
                        }
                        ++answered_;
                        --under_way;
                      });
      const std::size_t waiting = client_->stats().commands_waiting;
      if (waiting > waiting_max_) waiting_max_ = waiting;
      if (fate.code != static_cast<int>(ErrorCode::kOverloaded)) continue;
      static_cast<void>(poll_until([&] { return is_over.load(); }, 1ms, 1ms));  // Sheds load.
    }
    EXPECT_TRUE(poll_until([&] { return under_way == 0; }, kPatience));
  }

  // On the server's thread.
  std::optional<Fault> draw(const FakeServer::Request& request) {
    if (fault_random_.below(200) != 0) return std::nullopt;
    // An error in place of a pong or of the identity is another test's business.
    const bool is_numbered = request.is("NUM");
    switch (fault_random_.below(7)) {
      case 0: return Fault{.end_after_bytes = fault_random_.below(300)};
      case 1: return Fault{.end_after_bytes = fault_random_.below(300), .resets = true};
      case 2: return Fault{.chunk_bytes_max = 1 + fault_random_.below(7)};
      case 3: return Fault{.delay = std::chrono::milliseconds{fault_random_.below(30)}};
      case 4: return Fault{.hang_after_bytes = fault_random_.below(300)};
      case 5: return Fault{.stops_reading = true};
      default:
        if (!is_numbered) return std::nullopt;
        return Fault{.instead = "!garbage\r\n"};
    }
  }

  void disturb(Random& random) {
    // Paced by what is done, so that a slow machine is not only disturbed.
    const auto before = answered_.load();
    static_cast<void>(
        poll_until([&] { return answered_ > before + 300; }, std::chrono::milliseconds{30}));
    switch (random.below(8)) {
      case 0:
        fake_.kill();
        fake_.restart();
        return;
      case 1: return fake_.end_connections(random.below(2) == 0);
      case 2: return fake_.freeze();
      case 3: return numbered_.refuse_every(static_cast<int>(random.below(10)));
      case 4: static_cast<void>(fake_.publish("news", "disturbance")); return;
      default:
        fake_.thaw();
        fake_.release();
        numbered_.refuse_every(0);
        return;
    }
  }

  NumberedCommands numbered_;
  std::vector<Fate> fates_ = std::vector<Fate>(kFatesMax);
  std::array<std::atomic<std::size_t>, kThreads> under_way_{};
  std::atomic<std::uint64_t> next_id_{0};
  std::atomic<std::uint64_t> answered_{0};
  std::atomic<std::size_t> waiting_max_{0};
  Random fault_random_{0};
  FakeServer fake_;
};

TEST_F(SoakTest, RandomFaultsLoseNothingMixNothingUpAndPass) {
  const std::uint64_t seed = number_from_environment("TIERCEL_SEED", entropy_u64());
  const std::chrono::seconds duration{number_from_environment("TIERCEL_SOAK_SECONDS", 3)};
  std::cout << "TIERCEL_SEED=" << seed << "\n";
  Random random{seed};
  fault_random_ = Random{random.next()};
  numbered_.serve(fake_);
  auto options = options_for(fake_.url());
  options.connect_timeout = 300ms;
  options.response_timeout = 100ms;
  options.backoff_min = 1ms;
  options.backoff_max = 20ms;
  options.queue_commands_max = kQueueMax;
  open(options, "news");
  fake_.choose_faults([this](const FakeServer::Request& request) { return draw(request); });

  std::atomic<bool> is_over{false};
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) {
    threads.emplace_back([&, thread_seed = random.next(), i] {
      submit_until(is_over, thread_seed, under_way_[static_cast<std::size_t>(i)]);
    });
  }
  const TimePoint end = in(duration);
  while (Clock::system().now() < end) disturb(random);
  fake_.choose_faults({});
  fake_.thaw();
  fake_.release();
  numbered_.refuse_every(0);
  is_over = true;
  for (std::thread& thread : threads) thread.join();

  // It recovers: everything is answered, in step.
  ASSERT_TRUE(poll_until([&] { return client_->stats().commands_waiting == 0; }, kPatience));
  for (int i = 0; i < 300; ++i) {
    ASSERT_EQ(text_of({"ECHO", std::to_string(i)}), std::to_string(i));
  }
  ASSERT_TRUE(wait_stream_up());
  ASSERT_TRUE(poll_until([&] {
    ping("recovered");
    return !observer_.seen().pongs.empty();
  }));
  EXPECT_EQ(observer_.seen().out_of_order, 0);
  EXPECT_LE(waiting_max_, kQueueMax + kThreads);

  std::map<int, int> codes;
  const std::uint64_t submitted = std::min<std::uint64_t>(next_id_, kFatesMax);
  for (std::uint64_t id = 0; id < submitted; ++id) {
    const Fate& fate = fates_[id];
    const int executions = numbered_.executions(id);
    const int code = fate.code;
    ++codes[code];
    ASSERT_EQ(fate.answers, 1) << id;
    ASSERT_FALSE(fate.is_wrong) << id;
    const bool may_repeat = fate.retry == Retry::kSafe;
    ASSERT_TRUE(may_repeat || executions <= 1) << id << ": " << executions;
    if (code == -1) {
      ASSERT_GE(executions, 1) << id;
    } else if (code == static_cast<int>(ErrorCode::kOverloaded)) {
      ASSERT_EQ(executions, 0) << id;
    } else if (code == static_cast<int>(ErrorCode::kUnavailable)) {
      ASSERT_TRUE(may_repeat || executions == 0) << id << " was carried out";
    } else if (may_repeat) {
      // Garbage came twice in place of its reply.
      ASSERT_EQ(code, static_cast<int>(ErrorCode::kProtocol)) << id;
    } else {
      ASSERT_EQ(code, static_cast<int>(ErrorCode::kDeadlineExceeded)) << id;
    }
  }
  for (const auto& [code, count] : codes) {
    std::cout << (code == -1 ? "reply" : to_string(static_cast<ErrorCode>(code))) << ": " << count
              << "\n";
  }
  std::cout << "connections: " << fake_.connections_accepted()
            << ", late replies: " << client_->stats().replies_late
            << ", retries: " << client_->stats().retries << "\n";
  EXPECT_GT(codes[-1], 100);
}

}  // namespace
}  // namespace tiercel::l2
