#pragma once

// What the tests of the coherence protocol's questions share: each is asked on the loop thread, as
// it must be, and waited for here.

#include <future>
#include <memory>
#include <utility>
#include <vector>

#include "client_fixture.h"

namespace tiercel::l2 {

class AskingTest : public ClientTest {
 protected:
  ~AskingTest() override { client_.reset(); }

  static Endpoint at(std::uint16_t port) { return {"127.0.0.1", port, {}}; }

  // An answer of either kind that is on its way.
  template <typename Value>
  class Awaited {
   public:
    // Fails the test when it is called twice.
    auto callback() const {
      return [state = state_](auto&& value) {
        EXPECT_FALSE(state->has_come.exchange(true));
        state->promise.set_value(std::forward<decltype(value)>(value));
      };
    }
    // Only once. Aborts the test program rather than wait for ever.
    [[nodiscard]] Value get() const {
      auto future = state_->promise.get_future();
      if (future.wait_for(120s) != std::future_status::ready) {
        ADD_FAILURE() << "no answer came";
        std::abort();
      }
      return future.get();
    }

   private:
    struct State {
      std::promise<Value> promise;
      std::atomic<bool> has_come{false};
    };
    std::shared_ptr<State> state_ = std::make_shared<State>();
  };
  using AwaitedInfo = Awaited<Result<ReplicationInfo>>;

  AwaitedInfo begin_ask_replication(Duration timeout = kPatience) {
    const AwaitedInfo answer;
    loop_.post(
        [this, answer, timeout] { client_->ask_replication(in(timeout), answer.callback()); });
    return answer;
  }
  Result<ReplicationInfo> ask_replication(Duration timeout = kPatience) {
    return begin_ask_replication(timeout).get();
  }

  void watch(std::vector<Endpoint> servers) {
    on_loop([this, servers = std::move(servers)] { client_->watch_servers(servers); });
  }
  AwaitedInfo begin_ask_server(const Endpoint& server, Duration timeout = kPatience) {
    const AwaitedInfo answer;
    loop_.post([this, answer, server, timeout] {
      client_->ask_server(server, in(timeout), answer.callback());
    });
    return answer;
  }
  Result<ReplicationInfo> ask_server(const Endpoint& server, Duration timeout = kPatience) {
    return begin_ask_server(server, timeout).get();
  }
  // Asks again and again until the answer is as wanted.
  template <typename Predicate>
  bool ask_until(const Endpoint& server, Predicate predicate) {
    return poll_until(
        [&] {
          const auto answer = ask_server(server);
          return answer && predicate(*answer);
        },
        kPatience);
  }
  bool wait_answered(const Endpoint& server) {
    return ask_until(server, [](const ReplicationInfo&) { return true; });
  }

  Awaited<SentinelSurvey> begin_survey(Duration timeout = kPatience) {
    const Awaited<SentinelSurvey> answer;
    loop_.post(
        [this, answer, timeout] { client_->survey_sentinels(in(timeout), answer.callback()); });
    return answer;
  }
  SentinelSurvey survey(Duration timeout = kPatience) { return begin_survey(timeout).get(); }
};

}  // namespace tiercel::l2
