#pragma once

// What the client's tests share: an observer that writes everything down, and a client with its
// loop.

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/fake_server.h"
#include "support/poll_until.h"
#include "tiercel/base/mutex.h"
#include "tiercel/l2/client.h"

namespace tiercel::l2 {

using namespace std::chrono_literals;
using tiercel::testing::FakeServer;
using tiercel::testing::poll_until;

struct Observed {
  int data_ups = 0;
  int data_downs = 0;
  int stream_ups = 0;
  int stream_downs = 0;
  bool is_data_up = false;
  bool is_stream_up = false;
  ServerIdentity data_server;
  ServerIdentity stream_server;
  std::vector<std::string> messages;
  std::vector<std::string> pongs;
  std::vector<std::string> refusals;
  std::vector<std::string> tracked;
  int flushes = 0;
  int read_ends = 0;
  bool is_read_open = false;      // Something was told, and the read's end is still to come.
  std::vector<int> told_in_read;  // How much was told until each read_end.
  std::string data_reason;
  std::string stream_reason;
  int out_of_order = 0;  // An up while up, a down while down, a message while down.
};

class RecordingObserver final : public LinkObserver {
 public:
  // While no client knows it.
  void forget() {
    MutexLock lock{mutex_};
    seen_ = {};
  }
  [[nodiscard]] Observed seen() const {
    MutexLock lock{mutex_};
    return seen_;
  }

  void data_up(const ServerIdentity& server) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_data_up ? 1 : 0;
    seen_.is_data_up = true;
    ++seen_.data_ups;
    seen_.data_server = server;
  }
  void data_down(const Error& reason) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_data_up ? 0 : 1;
    seen_.is_data_up = false;
    ++seen_.data_downs;
    seen_.data_reason = reason.to_string();
  }
  void stream_up(const ServerIdentity& server) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 1 : 0;
    seen_.is_stream_up = true;
    ++seen_.stream_ups;
    seen_.stream_server = server;
  }
  void stream_down(const Error& reason) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 0 : 1;
    seen_.is_stream_up = false;
    seen_.is_read_open = false;
    told_ = 0;
    ++seen_.stream_downs;
    seen_.stream_reason = reason.to_string();
  }
  void stream_message(std::string_view payload) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 0 : 1;
    seen_.messages.emplace_back(payload);
    told();
  }
  void stream_pong(std::string_view token) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 0 : 1;
    seen_.pongs.emplace_back(token);
    told();
  }
  void stream_ping_refused(std::string_view server_error) override {
    MutexLock lock{mutex_};
    seen_.refusals.emplace_back(server_error);
    told();
  }
  void stream_tracked(std::span<const std::string_view> keys) override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 0 : 1;
    seen_.tracked.insert(seen_.tracked.end(), keys.begin(), keys.end());
    told();
  }
  void stream_flushed() override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up ? 0 : 1;
    ++seen_.flushes;
    told();
  }
  void stream_read_end() override {
    MutexLock lock{mutex_};
    seen_.out_of_order += seen_.is_stream_up && seen_.is_read_open ? 0 : 1;
    seen_.is_read_open = false;
    ++seen_.read_ends;
    seen_.told_in_read.push_back(std::exchange(told_, 0));
  }

 private:
  void told() TIERCEL_REQUIRES(mutex_) {
    seen_.is_read_open = true;
    ++told_;
  }

  mutable Mutex mutex_;
  int told_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Observed seen_ TIERCEL_GUARDED_BY(mutex_);
};

// An answer that is on its way.
class Pending {
 public:
  Pending() : state_(std::make_shared<State>()) {}

  ReplyCallback callback() const {
    return [state = state_](Result<Reply> result) {
      MutexLock lock{state->mutex};
      ++state->answers;
      state->result = std::move(result);
    };
  }
  [[nodiscard]] bool has_come() const {
    MutexLock lock{state_->mutex};
    return state_->result.has_value();
  }
  // Fails the test, and answers kInternal, when none came in a minute or more than one.
  [[nodiscard]] Result<Reply> get() const {
    EXPECT_TRUE(poll_until([this] { return has_come(); }, 60s));
    MutexLock lock{state_->mutex};
    EXPECT_EQ(state_->answers, 1);
    return state_->result ? *state_->result : Result<Reply>{internal("no answer came")};
  }

 private:
  struct State {
    Mutex mutex;
    int answers TIERCEL_GUARDED_BY(mutex) = 0;
    std::optional<Result<Reply>> result TIERCEL_GUARDED_BY(mutex);
  };
  std::shared_ptr<State> state_;
};

class ClientTest : public ::testing::Test {
 protected:
  static constexpr Duration kPatience = 60s;

  static TimePoint in(Duration duration) { return Clock::system().now() + duration; }

  static RedisOptions options_for(const std::string& url) {
    auto options = parse_url(url);
    EXPECT_TRUE(options) << options.error().to_string();
    // A loaded machine must not fail an attempt that would have succeeded.
    options->connect_timeout = 10s;
    options->response_timeout = 60s;
    options->backoff_max = 100ms;
    return *options;
  }

  void open(const std::string& url, std::string channel = {}) {
    open(options_for(url), std::move(channel));
  }
  void open(RedisOptions options, std::string channel = {}) {
    client_.reset();
    observer_.forget();  // close() does not tell it that the links are down.
    ClientConfig config;
    config.redis = std::move(options);
    config.channel = std::move(channel);
    config.track_prefix = track_prefix_;
    config.observer = &observer_;
    config.seed = 42;
    config.log = [this](LogLevel level, std::string_view message) {
      if (level == LogLevel::kDebug) return;
      MutexLock lock{log_mutex_};
      log_.append(message).append("\n");
    };
    auto client = Client::open(std::move(config), loop_);
    ASSERT_TRUE(client) << client.error().to_string();
    client_ = std::move(*client);
  }

  [[nodiscard]] std::string log() const {
    MutexLock lock{log_mutex_};
    return log_;
  }

  Pending send(Retry retry, std::initializer_list<std::string_view> words,
               Duration timeout = kPatience) {
    Pending pending;
    client_->submit(Command{retry, words}, in(timeout), pending.callback());
    return pending;
  }
  Result<Reply> call(Retry retry, std::initializer_list<std::string_view> words,
                     Duration timeout = kPatience) {
    return client_->call(Command{retry, words}, in(timeout));
  }
  std::string text_of(std::initializer_list<std::string_view> words, Duration timeout = kPatience) {
    const auto reply = call(Retry::kSafe, words, timeout);
    if (!reply) return reply.error().to_string();
    return reply->is_integer() ? std::to_string(reply->integer) : reply->text;
  }

  // Runs `task` on the loop thread, and returns when it has run.
  template <typename Task>
  void on_loop(Task task) {
    std::promise<void> done;
    loop_.post([&] {
      task();
      done.set_value();
    });
    done.get_future().wait();
  }

  // For a server that answers nothing: again, with more and more time, until it was sent before its
  // deadline passed. It is sent exactly once.
  void call_until_sent(Retry retry, std::initializer_list<std::string_view> words,
                       Duration timeout) {
    while (true) {
      ASSERT_LT(timeout, kPatience);
      const TimePoint begin = Clock::system().now();
      const auto reply = call(retry, words, timeout);
      ASSERT_FALSE(reply);
      EXPECT_GE(Clock::system().now() - begin, timeout);
      const Error& error = reply.error();
      if (error.code == ErrorCode::kDeadlineExceeded && retry == Retry::kIfNotSent) return;
      ASSERT_EQ(error.code, ErrorCode::kUnavailable) << error.to_string();
      if (error.message.find("no reply in time") != std::string::npos) {
        ASSERT_EQ(retry, Retry::kSafe) << error.to_string();
        return;
      }
      timeout *= 2;
    }
  }
  // Why a write cannot be carried out within `timeout`, each try of it being refused. Again where
  // it says nothing of that: a try was under way when the time was up, so that the outcome is
  // unknown, or the time was up before the loop saw the command.
  Error error_of_refused(std::initializer_list<std::string_view> words, Duration timeout) {
    Error error = internal("not tried");
    EXPECT_TRUE(poll_until(
        [&] {
          const auto reply = call(Retry::kIfNotSent, words, timeout);
          error = reply ? internal("it was carried out") : reply.error();
          return error.code != ErrorCode::kDeadlineExceeded &&
                 error.message.find("when it was submitted") == std::string::npos;
        },
        kPatience));
    return error;
  }

  // Returns when it is on its way: the client may go after that.
  void ping(const std::string& token) {
    const auto sent = std::make_shared<std::promise<void>>();
    loop_.post([this, token, sent] {
      client_->stream_ping(token);
      sent->set_value();
    });
    EXPECT_EQ(sent->get_future().wait_for(kPatience), std::future_status::ready);
  }

  template <typename Predicate>
  bool observe(Predicate predicate) {
    return poll_until([&] { return predicate(observer_.seen()); }, kPatience);
  }
  // After a kill: what is submitted before the client has seen it may count as sent.
  bool wait_data_lost() {
    return observe([](const Observed& seen) { return seen.data_downs > 0; });
  }
  bool wait_data_up() {
    return observe([](const Observed& seen) { return seen.is_data_up; });
  }
  bool wait_stream_up() {
    return observe([](const Observed& seen) { return seen.is_stream_up; });
  }

  std::string track_prefix_;  // For open().
  mutable Mutex log_mutex_;
  std::string log_ TIERCEL_GUARDED_BY(log_mutex_);
  RecordingObserver observer_;
  EventLoop loop_;
  std::unique_ptr<Client> client_;  // Closed before the loop and the observer go.
};

}  // namespace tiercel::l2
