// The client against a healthy server: commands, scripts, bounds, authentication, closing.

#include <algorithm>
#include <thread>

#include "client_fixture.h"
#include "support/redis_server.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::RedisServer;

TEST_F(ClientTest, RefusesBadOptionsAtOpen) {
  ClientConfig config;
  const auto client = Client::open(std::move(config), loop_);
  ASSERT_FALSE(client);
  EXPECT_EQ(client.error().code, ErrorCode::kInvalidArgument);
}

TEST_F(ClientTest, SetsAndGetsAnyBytes) {
  const auto server = RedisServer::start();
  open(server->url());
  const std::string_view bytes{"a\0b\r\n\xff", 6};
  const auto set = call(Retry::kIfNotSent, {"SET", bytes, bytes});
  ASSERT_TRUE(set) << set.error().to_string();
  EXPECT_EQ(set->kind, Reply::Kind::kStatus);
  const auto got = call(Retry::kSafe, {"GET", bytes});
  ASSERT_TRUE(got) << got.error().to_string();
  EXPECT_EQ(got->text, bytes);
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "missing"})->is_nil());

  const auto wrong = call(Retry::kSafe, {"LPUSH", bytes, "x"});
  ASSERT_TRUE(wrong);  // An error reply is a reply.
  EXPECT_TRUE(wrong->is_error("WRONGTYPE"));

  const std::string large(5'000'000, 'v');
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "large", large}));
  EXPECT_EQ(call(Retry::kSafe, {"GET", "large"})->text, large);
  EXPECT_FALSE(client_->data_trouble());
  EXPECT_EQ(observer_.seen().data_server.endpoint.to_string(), server->endpoint());
  EXPECT_EQ(observer_.seen().data_server.run_id.size(), 40u);
  EXPECT_EQ(observer_.seen().data_server.replication_id.size(), 40u);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_F(ClientTest, FindsTheServerByIpv6) {
  const auto server = RedisServer::start({.arguments = {"--bind", "127.0.0.1", "::1"}});
  open("redis://[::1]:" + std::to_string(server->port()), "news");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v6"}));
  EXPECT_TRUE(wait_stream_up());
  EXPECT_EQ(observer_.seen().data_server.endpoint.to_string(),
            "[::1]:" + std::to_string(server->port()));
}

int depth_of(const Reply& reply) {  // NOLINT(misc-no-recursion)
  int depth = 0;
  for (const Reply& element : reply.elements) depth = std::max(depth, depth_of(element));
  return reply.is_array() ? 1 + depth : 0;
}

TEST_F(ClientTest, ReadsTheDeepestRepliesOfRedis) {
  const auto server = RedisServer::start();
  open(server->url());
  const auto docs = call(Retry::kSafe, {"COMMAND", "DOCS"});
  ASSERT_TRUE(docs) << docs.error().to_string();
  EXPECT_GE(depth_of(*docs), 8);
  EXPECT_GT(docs->elements.size(), 400u);  // Names and descriptions in turn.
  for (std::size_t i = 0; i < docs->elements.size(); i += 2) {
    EXPECT_TRUE(docs->elements[i].is_string());
    EXPECT_TRUE(docs->elements[i + 1].is_array());
  }
  ASSERT_TRUE(call(Retry::kSafe, {"COMMAND"}));
  const auto scripted = call(
      Retry::kSafe,
      {"EVAL", "local reply = {} for i = 2, tonumber(ARGV[1]) do reply = {reply} end return reply",
       "0", "100"});
  ASSERT_TRUE(scripted) << scripted.error().to_string();
  EXPECT_EQ(depth_of(*scripted), 100);
  EXPECT_EQ(text_of({"ECHO", "in step"}), "in step");
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_F(ClientTest, FindsTheServerByNameAndBySocket) {
  const auto server = RedisServer::start();
  open("redis://localhost:" + std::to_string(server->port()));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "by name"}));
  open("unix://" + server->unix_path());
  EXPECT_EQ(text_of({"GET", "k"}), "by name");
  EXPECT_EQ(observer_.seen().data_server.endpoint.to_string(), "unix:" + server->unix_path());
}

TEST_F(ClientTest, MatchesTenThousandPipelinedRepliesFromFourThreads) {
  const auto server = RedisServer::start();
  open(server->url());
  constexpr int kThreads = 4;
  constexpr int kEach = 2500;
  std::atomic<int> right{0};
  std::atomic<int> wrong{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < kEach; ++i) {
        std::string word = std::to_string(t) + ":" + std::to_string(i);
        const Command echo{Retry::kIfNotSent, {"ECHO", word}};
        client_->submit(echo, in(kPatience), [&, word = std::move(word)](Result<Reply> reply) {
          const bool is_right = reply && reply->is_string() && reply->text == word;
          (is_right ? right : wrong).fetch_add(1);
        });
      }
    });
  }
  for (auto& thread : threads) thread.join();
  ASSERT_TRUE(poll_until([&] { return right + wrong == kThreads * kEach; }, kPatience));
  EXPECT_EQ(right, kThreads * kEach);
  EXPECT_EQ(client_->stats().commands_submitted, std::uint64_t{kThreads * kEach});
  EXPECT_EQ(client_->stats().commands_waiting, 0u);
}

TEST_F(ClientTest, KeepsTheOrderOfOneThread) {
  const auto server = RedisServer::start();
  open(server->url());  // The first of them are submitted before the link is up.
  std::vector<Pending> answers;
  for (int i = 0; i < 3000; ++i) {
    answers.push_back(send(Retry::kIfNotSent, {"RPUSH", "list", std::to_string(i)}));
  }
  for (int i = 0; i < 3000; ++i) {
    const auto reply = answers[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    ASSERT_EQ(reply->integer, i + 1);
  }
  EXPECT_EQ(text_of({"LINDEX", "list", "1234"}), "1234");
}

TEST_F(ClientTest, TakesInAndOutMoreThanTheKernelBuffers) {
  const auto server = RedisServer::start();
  open(server->url());
  const std::string value(300'000, 'x');
  std::vector<Pending> answers;
  for (int i = 0; i < 150; ++i) {  // 45 MB each way, under the default 64 MiB bound.
    answers.push_back(send(Retry::kSafe, {"ECHO", value}));
  }
  for (const Pending& answer : answers) {
    const auto reply = answer.get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    ASSERT_EQ(reply->text.size(), value.size());
  }
}

const Script& concat_script() {
  static const Script script{"return redis.call('INCR', KEYS[1]) .. ':' .. ARGV[1] .. ARGV[2]"};
  return script;
}

TEST_F(ClientTest, RunsScriptsAlsoAfterTheServerForgotThem) {
  const auto server = RedisServer::start();
  open(server->url());
  EXPECT_EQ(server->command({"SCRIPT", "LOAD", std::string{concat_script().source()}}),
            concat_script().sha1());
  const auto run = [&](std::string_view argument) {
    Pending pending;
    const std::string_view keys[] = {"counter"};
    const std::string_view arguments[] = {argument, "!"};
    client_->submit_script(concat_script(), keys, arguments, Retry::kIfNotSent, in(kPatience),
                           pending.callback());
    return pending;
  };
  EXPECT_EQ(run("a").get()->text, "1:a!");
  EXPECT_EQ(client_->stats().retries, 0u);
  EXPECT_EQ(server->command({"SCRIPT", "FLUSH"}), "OK");
  // All of them are told NOSCRIPT, and keep their order.
  std::vector<Pending> answers;
  for (int i = 0; i < 100; ++i) answers.push_back(run(std::to_string(i)));
  for (int i = 0; i < 100; ++i) {
    const auto reply = answers[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_EQ(reply->text, std::to_string(i + 2) + ":" + std::to_string(i) + "!");
  }
  EXPECT_GE(client_->stats().retries, 1u);
  EXPECT_EQ(run("z").get()->text, "102:z!");
}

TEST_F(ClientTest, SelectsTheDatabase) {
  const auto server = RedisServer::start();
  open(server->url() + "/3");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_NE(server->command({"INFO", "keyspace"}).find("db3:keys=1"), std::string::npos);

  open(server->url() + "/99");
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("database 99"), std::string::npos);
}

TEST_F(ClientTest, SaysWhatIsWrongWithThePassword) {
  const auto server = RedisServer::start({.arguments = {"--requirepass", "secret"}});
  const std::string at = "@127.0.0.1:" + std::to_string(server->port());
  struct Case {
    std::string url;
    const char* said;
  };
  for (const Case& wrong :
       {Case{"redis://:mistaken" + at, "password for the default user is wrong"},
        Case{"redis://ghost:mistaken" + at, "'ghost'"},
        Case{server->url(), "none is configured"}}) {
    open(wrong.url);
    const auto refused = call(Retry::kIfNotSent, {"SET", "k", "v"});
    ASSERT_FALSE(refused) << wrong.url;
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().to_string();
    EXPECT_EQ(refused.error().endpoint, server->endpoint());
    EXPECT_NE(refused.error().message.find(wrong.said), std::string::npos)
        << refused.error().to_string();
    const auto trouble = client_->data_trouble();
    ASSERT_TRUE(trouble);
    EXPECT_EQ(trouble->message, refused.error().message);
  }
  EXPECT_EQ(log().find("mistaken"), std::string::npos);
  EXPECT_NE(log().find("is wrong"), std::string::npos);

  open("redis://:secret" + at);
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
}

TEST_F(ClientTest, SaysThatTheServerHasNoPassword) {
  const auto server = RedisServer::start();
  open("redis://:secret@127.0.0.1:" + std::to_string(server->port()));
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("remove ours"), std::string::npos);
}

TEST_F(ClientTest, AChangedPasswordHealsByItself) {
  const auto server = RedisServer::start({.arguments = {"--requirepass", "old"}});
  open("redis://:new@127.0.0.1:" + std::to_string(server->port()), "channel");
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_EQ(server->command({"CONFIG", "SET", "requirepass", "new"}, "old"), "OK");
  ASSERT_TRUE(wait_data_up());
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "v"}));
  EXPECT_TRUE(wait_stream_up());
}

TEST_F(ClientTest, WorksAsAnAclUserAndNamesWhatItLacks) {
  const auto server = RedisServer::start();
  EXPECT_EQ(server->command(
                {"ACL", "SETUSER", "app", "on", ">pw", "~*", "resetchannels", "+@all", "-role"}),
            "OK");
  const std::string url = "redis://app:pw@127.0.0.1:" + std::to_string(server->port());
  open(url, "news");
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("+role is missing"), std::string::npos)
      << refused.error().message;

  EXPECT_EQ(server->command({"ACL", "SETUSER", "app", "+role"}), "OK");
  ASSERT_TRUE(wait_data_up());
  EXPECT_EQ(text_of({"ACL", "WHOAMI"}), "app");
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->stream_trouble();
    return trouble && trouble->message.find("&news is missing") != std::string::npos;
  }));
  EXPECT_EQ(server->command({"ACL", "SETUSER", "app", "&news"}), "OK");
  EXPECT_TRUE(wait_stream_up());
  EXPECT_FALSE(client_->stream_trouble());
}

TEST_F(ClientTest, RefusesAtItsBoundsAtOnce) {
  // Nobody listens there: a server was, and is gone.
  auto server = RedisServer::start();
  auto options = options_for(server->url());
  server->kill();
  options.queue_commands_max = 10;
  options.queue_bytes_max = 64 * 1024;
  open(options);
  std::vector<Pending> waiting;
  Pending eleventh;
  on_loop([&] {  // So that none can be given up before all are there.
    for (int i = 0; i < 10; ++i) waiting.push_back(send(Retry::kSafe, {"GET", "k"}, 1s));
    eleventh = send(Retry::kSafe, {"GET", "k"});
  });
  ASSERT_TRUE(eleventh.has_come());
  EXPECT_EQ(eleventh.get().error().code, ErrorCode::kOverloaded);
  EXPECT_NE(eleventh.get().error().message.find("queue_commands_max"), std::string::npos);
  for (const Pending& pending : waiting) {
    EXPECT_EQ(pending.get().error().code, ErrorCode::kUnavailable);
  }
  EXPECT_EQ(client_->stats().commands_overloaded, 1u);
  EXPECT_EQ(client_->stats().commands_waiting, 0u);

  const std::string half(40'000, 'x');
  Pending first;
  Pending second;
  on_loop([&] {
    first = send(Retry::kSafe, {"ECHO", half}, 500ms);
    second = send(Retry::kSafe, {"ECHO", half}, 500ms);
  });
  ASSERT_TRUE(second.has_come());
  EXPECT_EQ(second.get().error().code, ErrorCode::kOverloaded);
  EXPECT_NE(second.get().error().message.find("queue_bytes_max"), std::string::npos);
  const auto unavailable = first.get();
  EXPECT_EQ(unavailable.error().code, ErrorCode::kUnavailable);
  EXPECT_NE(unavailable.error().message.find("connection refused"), std::string::npos)
      << unavailable.error().message;
  EXPECT_EQ(unavailable.error().endpoint, server->endpoint());

  const std::string never(70'000, 'x');
  EXPECT_EQ(send(Retry::kSafe, {"ECHO", never}).get().error().code, ErrorCode::kInvalidArgument);
  // There is room again.
  EXPECT_EQ(send(Retry::kSafe, {"ECHO", half}, 100ms).get().error().code, ErrorCode::kUnavailable);
}

TEST_F(ClientTest, ACallOnTheLoopThreadIsRefused) {
  const auto server = RedisServer::start();
  open(server->url());
  std::promise<ErrorCode> code;
  loop_.post([&] {
    code.set_value(client_->call(Command{Retry::kSafe, {"PING"}}, in(1s)).error().code);
  });
  EXPECT_EQ(code.get_future().get(), ErrorCode::kInvalidArgument);
}

TEST_F(ClientTest, ACallbackMaySubmitTheNext) {
  const auto server = RedisServer::start();
  open(server->url());
  std::promise<std::int64_t> last;
  struct Chain {
    Client& client;
    std::promise<std::int64_t>& last;
    TimePoint deadline;
    void next(Result<Reply> reply) {
      if (reply->integer == 200) return last.set_value(reply->integer);
      client.submit(Command{Retry::kIfNotSent, {"INCR", "n"}}, deadline,
                    [this](Result<Reply> answer) { next(std::move(answer)); });
    }
  } chain{*client_, last, in(kPatience)};
  chain.next(Reply{Reply::Kind::kInteger, 0, {}, {}});
  EXPECT_EQ(last.get_future().get(), 200);
}

TEST_F(ClientTest, CloseAnswersEverythingOnce) {
  const auto server = RedisServer::start();
  open(server->url(), "channel");
  ASSERT_TRUE(wait_data_up());
  server->stop_process();
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});
  const Pending read = send(Retry::kSafe, {"GET", "k"});
  // Sent, and not answered: the loop has run past them.
  for (int i = 0; i < 3; ++i) {
    std::promise<void> turn;
    loop_.post([&] { turn.set_value(); });
    turn.get_future().get();
  }
  std::thread other{[&] { client_->close(); }};
  client_->close();
  other.join();
  client_->close();
  ASSERT_TRUE(write.has_come());
  ASSERT_TRUE(read.has_come());
  EXPECT_EQ(write.get().error().code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(read.get().error().code, ErrorCode::kClosed);
  EXPECT_EQ(send(Retry::kSafe, {"GET", "k"}).get().error().code, ErrorCode::kClosed);
  EXPECT_EQ(client_->stats().commands_waiting, 0u);
  server->continue_process();
}

TEST_F(ClientTest, ClosesAtEveryMoment) {
  const auto server = RedisServer::start();
  for (int round = 0; round < 40; ++round) {
    open(server->url(), "channel");
    std::vector<Pending> answers;
    for (int i = 0; i < 20; ++i) answers.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
    if (round % 4 != 0) std::this_thread::sleep_for(std::chrono::microseconds{round * 50});
    client_.reset();
    for (const Pending& answer : answers) {
      ASSERT_TRUE(answer.has_come());
      const auto result = answer.get();
      if (result) continue;
      EXPECT_TRUE(result.error().code == ErrorCode::kClosed ||
                  result.error().code == ErrorCode::kDeadlineExceeded);
    }
  }
}

TEST_F(ClientTest, TwoClientsShareOneLoop) {
  const auto server = RedisServer::start();
  open(server->url());
  ClientConfig config;
  config.redis = options_for(server->url() + "/1");
  auto other = Client::open(std::move(config), loop_);
  ASSERT_TRUE(other);
  ASSERT_TRUE((*other)->call(Command{Retry::kIfNotSent, {"SET", "k", "db1"}}, in(kPatience)));
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "k"})->is_nil());
  (*other)->close();
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "k"})->is_nil());
}

}  // namespace
}  // namespace tiercel::l2
