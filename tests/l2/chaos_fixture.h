#pragma once

// What the tests of D under faults share: a fake server that knows numbered commands, and a client.

#include <gtest/gtest.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <future>
#include <string>
#include <vector>

#include "client_fixture.h"
#include "numbered_commands.h"
#include "support/fake_server.h"

namespace tiercel::l2 {

inline constexpr std::size_t kBatch = 2 * NumberedCommands::kKinds;

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

  // False where some are unknown: a connection may be given up that was only slow.
  bool whole_batch_is_right() {
    bool is_whole = true;
    for (const Numbered& command : send_batch(kBatch)) {
      expect_right_or_unknown(command);
      is_whole = is_whole && command.answer.get().has_value();
    }
    return is_whole;
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

inline std::size_t stream_bytes(const std::vector<Numbered>& batch, std::size_t commands) {
  std::size_t bytes = 0;
  for (std::size_t i = 0; i < commands; ++i) {
    bytes += NumberedCommands::reply_text(batch[i].kind, batch[i].id).size();
  }
  return bytes;
}

}  // namespace tiercel::l2
