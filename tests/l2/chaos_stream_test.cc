// CHAOS.md at the level of the connection, S: 4, 5, 6, 9 and 25. What holds of the subscription
// under every fault: what the observer hears between an up and its down is an unbroken beginning of
// what the server sent on that connection, and nothing is taken for a pong that is none.

#include <thread>

#include "client_fixture.h"
#include "support/gate.h"
#include "support/redis_server.h"
#include "support/resp_text.h"
#include "support/tcp_proxy.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::Gate;
using tiercel::testing::RedisServer;
using tiercel::testing::TcpProxy;
using Fault = FakeServer::Fault;
namespace resp = tiercel::testing::resp;

class ChaosStreamTest : public ClientTest {
 protected:
  void TearDown() override { client_.reset(); }

  void open_fake() {
    auto options = options_for(fake_.url());
    options.backoff_min = 1ms;
    options.backoff_max = 4ms;
    open(options, "news");
    ASSERT_TRUE(wait_data_up());
    ASSERT_TRUE(wait_stream_up());
  }
  // On the loop thread, so that what it brings about has been observed when it returns.
  void redial(const std::string& reason) {
    std::promise<void> done;
    loop_.post([&] {
      client_->stream_redial(reason);
      done.set_value();
    });
    done.get_future().get();
  }

  FakeServer fake_;
};

std::string message(const std::string& payload) {
  return resp::array({resp::bulk("message"), resp::bulk("news"), resp::bulk(payload)});
}
std::string pong(const std::string& token) {
  return resp::array({resp::bulk("pong"), resp::bulk(token)});
}

// 5. Four pings go out; among their answers are an error, and messages of every sort.
TEST_F(ChaosStreamTest, CutAtEveryByteWhatWasHeardIsAnUnbrokenBeginning) {
  open_fake();
  const std::vector<std::string> payloads{"one", "", std::string{"\0\r\n*3\r\n", 7}, "four"};
  const std::vector<std::string> pieces{
      message(payloads[0]), pong("a"), message(payloads[1]), resp::error("LOADING not yet"),
      message(payloads[2]), pong("c"), message(payloads[3]), pong("d")};
  std::string script;
  for (const std::string& piece : pieces) script += piece;
  for (const bool resets : {false, true}) {
    for (std::size_t k = 0; k <= script.size(); ++k) {
      ASSERT_TRUE(wait_stream_up());
      const auto before = observer_.seen();
      // The script answers the first ping, the others get nothing more.
      fake_.inject({.instead = script, .end_after_bytes = k, .resets = resets},
                   FakeServer::named("PING"));
      fake_.inject({.copies = 0}, FakeServer::named("PING"), 3);
      std::promise<void> sent;
      loop_.post([&] {
        for (const char* token : {"a", "b", "c", "d"}) client_->stream_ping(token);
        sent.set_value();
      });
      sent.get_future().get();
      ASSERT_TRUE(observe([&](const Observed& seen) {
        return seen.stream_downs == before.stream_downs + 1;
      })) << k;
      fake_.clear_faults();
      const auto seen = observer_.seen();
      const std::vector<std::string> messages(
          seen.messages.begin() + static_cast<std::ptrdiff_t>(before.messages.size()),
          seen.messages.end());
      const std::vector<std::string> pongs(
          seen.pongs.begin() + static_cast<std::ptrdiff_t>(before.pongs.size()), seen.pongs.end());
      const std::size_t refused = seen.refusals.size() - before.refusals.size();
      // How many whole pieces there must be, or, after a reset, may be.
      std::size_t whole = 0;
      for (std::size_t bytes = 0; whole < pieces.size(); ++whole) {
        bytes += pieces[whole].size();
        if (bytes > k) break;
      }
      if (resets) {
        EXPECT_LE(messages.size() + pongs.size() + refused, whole) << k;
        whole = messages.size() + pongs.size() + refused;
      }
      const std::vector<std::string> all_pongs{"a", "c", "d"};
      const std::size_t message_count = (whole + 1) / 2;
      const std::size_t pong_count =
          (whole >= 2 ? 1U : 0U) + (whole >= 6 ? 1U : 0U) + (whole >= 8 ? 1U : 0U);
      EXPECT_EQ(messages, std::vector<std::string>(
                              payloads.begin(),
                              payloads.begin() + static_cast<std::ptrdiff_t>(message_count)))
          << k;
      EXPECT_EQ(pongs,
                std::vector<std::string>(
                    all_pongs.begin(), all_pongs.begin() + static_cast<std::ptrdiff_t>(pong_count)))
          << k;
      EXPECT_EQ(refused, whole >= 4 ? 1U : 0U) << k;
      ASSERT_FALSE(HasFailure()) << "cut at byte " << k << (resets ? ", reset" : "");
    }
  }
  ASSERT_TRUE(wait_stream_up());
  ping("after all");
  ASSERT_TRUE(observe([](const Observed& seen) {
    return !seen.pongs.empty() && seen.pongs.back() == "after all";
  }));
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

// 5, for the part before it is up: the handshake and the confirmation.
TEST_F(ChaosStreamTest, CutAtEveryByteOfItsHandshakeItIsNotUp) {
  // Any request of a connection named tiercel-stream is S's.
  std::size_t k = 0;
  std::size_t cuts = 0;
  std::atomic<int> stream_connection{0};
  fake_.choose_faults(
      [&, armed = 0](const FakeServer::Request& request) mutable -> std::optional<Fault> {
        if (request.is("CLIENT") && request.words.back() == "tiercel-stream" &&
            request.connection != armed) {
          armed = request.connection;
          stream_connection = request.connection;
          return Fault{.end_after_bytes = k++, .resets = ++cuts % 2 == 0};
        }
        return std::nullopt;
      });
  auto options = options_for(fake_.url());
  options.backoff_min = 1ms;
  options.backoff_max = 2ms;
  open(options, "news");
  ASSERT_TRUE(wait_stream_up());  // When k has grown beyond the handshake.
  fake_.choose_faults({});
  ASSERT_TRUE(wait_data_up());
  const int attempts = stream_connection.load();
  EXPECT_GT(attempts, 100);  // About as many as it has bytes.
  // The last cut may still lie ahead of it.
  ASSERT_TRUE(poll_until([&] {
    fake_.publish("news", "heard");
    return !observer_.seen().messages.empty();
  }));
  EXPECT_EQ(observer_.seen().messages[0], "heard");
  EXPECT_EQ(observer_.seen().out_of_order, 0);
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

// 6.
TEST_F(ChaosStreamTest, OneByteAtATimeIsAsTheBaseline) {
  fake_.choose_faults([](const FakeServer::Request& request) -> std::optional<Fault> {
    if (request.command != 1) return std::nullopt;
    return Fault{.chunk_bytes_max = 1};
  });
  open_fake();
  std::vector<std::string> sent;
  for (int i = 0; i < 100; ++i) {
    sent.push_back("\r\n" + std::to_string(i));
    ASSERT_EQ(fake_.publish("news", sent.back()), 1U);
    if (i % 10 == 0) ping(std::to_string(i));
  }
  ping("last");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 11; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.messages, sent);
  EXPECT_EQ(seen.pongs.back(), "last");
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.data_downs, 0);
}

// 4. What the client does itself when S falls silent is nothing: deadlines are its user's business,
// who redials. Nothing of the old connection is heard after that.
TEST_F(ChaosStreamTest, ABlackholedStreamIsRedialledAndTheOldOneIsNeverHeardAgain) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  auto options = options_for(proxy.url());
  options.connect_timeout = 200ms;
  options.backoff_max = 20ms;
  open(options, "news");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  for (int round = 1; round <= 3; ++round) {
    const std::string number = std::to_string(round);
    proxy.set_server_to_client({.blackhole = true});
    ping("silenced-" + number);
    ASSERT_EQ(call(Retry::kIfNotSent, {"PUBLISH", "news", "lost " + number})->integer, 1);
    const auto before = observer_.seen();
    EXPECT_EQ(before.stream_downs, round - 1);  // Nobody knows yet.
    redial("the pong is late");
    EXPECT_EQ(observer_.seen().stream_downs, round);
    // New attempts get no confirmation, and are given up in turn.
    const auto failed = client_->stats().connects_failed;
    ASSERT_TRUE(poll_until([&] { return client_->stats().connects_failed >= failed + 2; }));
    EXPECT_FALSE(observer_.seen().is_stream_up);
    const auto trouble = client_->stream_trouble();
    EXPECT_TRUE(trouble);
    EXPECT_EQ(text_of({"ECHO", "D lives"}), "D lives");
    proxy.heal();
    // A connection that lost bytes and lived on would be out of step, as no TCP connection is: one
    // that was in its handshake just now may confirm late, or time out.
    ASSERT_TRUE(wait_stream_up());
    ASSERT_TRUE(call(Retry::kIfNotSent, {"PUBLISH", "news", "heard " + number}));
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return !seen.messages.empty() && seen.messages.back() == "heard " + number;
    }));
  }
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.messages, (std::vector<std::string>{"heard 1", "heard 2", "heard 3"}));
  EXPECT_TRUE(seen.pongs.empty());
  EXPECT_EQ(seen.data_downs, 0);
  EXPECT_EQ(seen.out_of_order, 0);
}

// 4, without bytes that are lost: the server hangs on S alone, and goes on when it is too late.
TEST_F(ChaosStreamTest, AnAnswerThatComesAfterTheRedialIsNotHeard) {
  open_fake();
  fake_.inject({.hang_after_bytes = 3}, FakeServer::named("PING"));
  ping("old");
  ASSERT_TRUE(poll_until([&] { return fake_.requests("PING") == 1; }));
  ASSERT_EQ(fake_.publish("news", "old"), 1U);
  redial("the pong is late");
  fake_.release();
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.stream_ups == 2; }));
  ping("new");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  EXPECT_EQ(observer_.seen().pongs[0], "new");
  EXPECT_TRUE(observer_.seen().messages.empty());
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

std::string numbered_payload(int number) {
  return std::to_string(number) + ":" + std::string(64 << 10, 'p');
}

// Stops the loop, so that nobody reads S, and publishes until the server gives the subscriber up.
// Every message that is heard afterwards is the next one.
template <typename Publish>
void overrun_and_check(EventLoop& loop, const RecordingObserver& observer, Publish publish) {
  Gate gate;
  loop.post([gate] { gate.pass(); });
  ASSERT_TRUE(gate.wait_until_arrived(1));
  int published = 0;
  while (publish(numbered_payload(published)) && published < 5000) ++published;
  gate.open();
  EXPECT_LT(published, 5000);
  EXPECT_GT(published, 1);
  ASSERT_TRUE(poll_until([&] { return observer.seen().stream_ups == 2; }, 60s));
  const auto seen = observer.seen();
  EXPECT_EQ(seen.stream_downs, 1);
  EXPECT_EQ(seen.data_downs, 0);
  EXPECT_EQ(seen.out_of_order, 0);
  EXPECT_LE(seen.messages.size(), static_cast<std::size_t>(published) + 1);
  for (std::size_t i = 0; i < seen.messages.size(); ++i) {
    ASSERT_TRUE(seen.messages[i] == numbered_payload(static_cast<int>(i))) << i;
  }
  ASSERT_TRUE(publish("after"));
  ASSERT_TRUE(poll_until([&] { return observer.seen().messages.back() == "after"; }, 60s));
}

// 9.
TEST_F(ChaosStreamTest, ASubscriberThatIsTooSlowIsCutOffAndStartsAnew) {
  const auto server = RedisServer::start(
      {.arguments = {"--client-output-buffer-limit", "pubsub", "1mb", "1mb", "0"}});
  open(server->url(), "news");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  overrun_and_check(loop_, observer_, [&](const std::string& payload) {
    return server->command({"PUBLISH", "news", payload}) == "1";
  });
}

TEST_F(ChaosStreamTest, ASubscriberThatIsTooSlowForTheFakeToo) {
  fake_.limit_subscribers(1 << 20);
  open_fake();
  overrun_and_check(loop_, observer_, [&](const std::string& payload) {
    return fake_.publish("news", payload) == 1;
  });
}

// 25.
TEST_F(ChaosStreamTest, NoErrorIsTakenForAPong) {
  open_fake();
  std::size_t refused = 0;
  for (const char* refusal :
       {"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
        "LOADING Redis is loading the dataset in memory",
        "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        "ERR something new"}) {
    fake_.with_redis([&](auto& redis) { redis.set_refusal(refusal); });
    for (int i = 0; i < 5; ++i) ping("refused");
    refused += 5;
    ASSERT_TRUE(observe([&](const Observed& seen) { return seen.refusals.size() == refused; }));
    EXPECT_EQ(observer_.seen().refusals.back(), refusal);
    // Messages among them are messages.
    ASSERT_EQ(fake_.publish("news", refusal), 1U);
    fake_.with_redis([](auto& redis) { redis.set_refusal({}); });
    ping(std::string{"ready-"} + refusal[0]);
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return !seen.pongs.empty() && seen.pongs.back() == std::string{"ready-"} + refusal[0];
    }));
  }
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.pongs, (std::vector<std::string>{"ready-B", "ready-L", "ready-M", "ready-E"}));
  EXPECT_EQ(seen.messages.size(), 4U);
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.data_downs, 0);
}

// A caller that pings on although nothing comes back: bounded, and in step when it does.
TEST_F(ChaosStreamTest, PingsWithoutAnswersAreBounded) {
  open_fake();
  fake_.freeze();
  for (int i = 0; i < 10'000; ++i) ping(std::to_string(i));
  std::promise<void> turn;
  loop_.post([&] { turn.set_value(); });
  turn.get_future().get();
  fake_.thaw();
  // The first of them, in order, and no gap among those that were sent.
  ASSERT_TRUE(observe([&](const Observed& seen) {
    return !seen.pongs.empty() && seen.pongs.size() == fake_.requests("PING");
  }));
  const auto seen = observer_.seen();
  EXPECT_LT(seen.pongs.size(), 1000U);
  for (std::size_t i = 0; i < seen.pongs.size(); ++i) EXPECT_EQ(seen.pongs[i], std::to_string(i));
  ping("again");
  ASSERT_TRUE(observe([](const Observed& seen2) { return seen2.pongs.back() == "again"; }));
  EXPECT_EQ(seen.stream_downs, 0);
}

}  // namespace
}  // namespace tiercel::l2
