// The contract: what the client may rely on of the commands that it and its users send. Every test
// runs against the real Redis and against FakeServer, over TCP and over a Unix socket: what holds
// of one and not of the other is a bug of the fake, or a promise that nobody gave.

#include <atomic>
#include <limits>
#include <memory>
#include <numeric>
#include <thread>

#include "client_fixture.h"
#include "support/blocking_redis.h"
#include "support/fake_server.h"
#include "support/redis_server.h"
#include "support/resp_text.h"

namespace tiercel::l2 {
namespace {

using tiercel::testing::BlockingRedis;
using tiercel::testing::FakeRedis;
using tiercel::testing::RedisServer;
namespace resp = tiercel::testing::resp;
using Kind = Reply::Kind;

enum class Server { kFakeTcp, kFakeUnix, kRealTcp, kRealUnix };

// Returns KEYS[1]'s counter after adding one, and the argument.
const Script& count_script() {
  static const Script script{"return redis.call('INCR', KEYS[1]) .. ':' .. ARGV[1]"};
  return script;
}
const Script& nested_script() {
  static const Script script{"return {1, {'a', {'', false, {}}, -2}, {}, 'z'}"};
  return script;
}
// An error among other elements, and one that is the whole answer.
const Script& partly_failing_script() {
  static const Script script{"return {redis.pcall('INCR', KEYS[1]), 'after'}"};
  return script;
}
const Script& failing_script() {
  static const Script script{"return redis.error_reply('MYERR of the script')"};
  return script;
}

class ContractTest : public ClientTest, public ::testing::WithParamInterface<Server> {
 protected:
  void SetUp() override {
    if (is_real()) {
      real_ = RedisServer::start();
    } else {
      fake_ = std::make_unique<FakeServer>();
      add_scripts();
    }
    auto admin = BlockingRedis::connect("127.0.0.1", port());
    ASSERT_TRUE(admin) << admin.error().to_string();
    admin_ = std::make_unique<BlockingRedis>(std::move(*admin));
  }
  void TearDown() override { client_.reset(); }  // Before its server.

  [[nodiscard]] bool is_real() const {
    return GetParam() == Server::kRealTcp || GetParam() == Server::kRealUnix;
  }
  [[nodiscard]] bool is_unix() const {
    return GetParam() == Server::kFakeUnix || GetParam() == Server::kRealUnix;
  }
  [[nodiscard]] std::uint16_t port() const { return is_real() ? real_->port() : fake_->port(); }

  [[nodiscard]] RedisOptions options(const std::string& user_info = {},
                                     std::uint32_t database = 0) const {
    const std::string where = is_unix() ? (is_real() ? real_->unix_path() : fake_->unix_path())
                                        : "127.0.0.1:" + std::to_string(port());
    auto parsed = options_for((is_unix() ? "unix://" : "redis://") + user_info + where);
    parsed.database = database;
    return parsed;
  }
  void open_up(std::string channel = {}) {
    const bool wants_stream = !channel.empty();
    open(options(), std::move(channel));
    ASSERT_TRUE(wait_data_up());
    ASSERT_TRUE(!wants_stream || wait_stream_up());
  }

  // Over a connection of its own, which shares nothing with the client.
  std::string admin(const std::vector<std::string>& words) {
    const auto reply = admin_->command(words);
    return reply ? reply->to_text() : reply.error().to_string();
  }
  // CLIENT LIST's id of the connection with this name.
  std::string id_of(const std::string& name) {
    const std::string list = admin({"CLIENT", "LIST"});
    const auto named = list.find("name=" + name);
    if (named == std::string::npos) return {};
    const auto line = list.rfind('\n', named) + 1;  // npos + 1 is 0.
    const auto id = list.find("id=", line) + 3;
    return list.substr(id, list.find(' ', id) - id);
  }

  Pending run(const Script& script, std::vector<std::string_view> keys,
              std::vector<std::string_view> arguments = {}, Retry retry = Retry::kIfNotSent) {
    Pending pending;
    client_->submit_script(script, keys, arguments, retry, in(kPatience), pending.callback());
    return pending;
  }
  void expect_error(std::initializer_list<std::string_view> words, std::string_view code,
                    std::string_view part) {
    const auto reply = call(Retry::kIfNotSent, words);
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_TRUE(reply->is_error(code)) << reply->text;
    EXPECT_NE(reply->text.find(part), std::string::npos) << reply->text;
  }

  std::unique_ptr<RedisServer> real_;
  std::unique_ptr<FakeServer> fake_;
  std::unique_ptr<BlockingRedis> admin_;

 private:
  // The same in C++: the fake runs no Lua.
  void add_scripts() {
    using Words = FakeRedis::Words;
    const auto add = [this](const Script& script, auto run) {
      fake_->with_redis([&](FakeRedis& redis) {
        redis.add_script(std::string{script.source()}, {std::string{script.sha1()}, run});
      });
    };
    add(count_script(), [](FakeRedis& redis, FakeRedis::Session& session, const Words& keys,
                           const Words& arguments) {
      std::string number = redis.execute(session, {"INCR", keys[0]});
      return resp::bulk(number.substr(1, number.size() - 3) + ":" + arguments[0]);
    });
    add(nested_script(), [](FakeRedis&, FakeRedis::Session&, const Words&, const Words&) {
      const std::string inner = resp::array({resp::bulk(""), resp::nil(), resp::array({})});
      return resp::array({resp::integer(1),
                          resp::array({resp::bulk("a"), inner, resp::integer(-2)}), resp::array({}),
                          resp::bulk("z")});
    });
    add(partly_failing_script(),
        [](FakeRedis& redis, FakeRedis::Session& session, const Words& keys, const Words&) {
          return resp::array({redis.execute(session, {"INCR", keys[0]}), resp::bulk("after")});
        });
    add(failing_script(), [](FakeRedis&, FakeRedis::Session&, const Words&, const Words&) {
      return resp::error("MYERR of the script");
    });
  }
};

INSTANTIATE_TEST_SUITE_P(Servers, ContractTest,
                         ::testing::Values(Server::kFakeTcp, Server::kFakeUnix, Server::kRealTcp,
                                           Server::kRealUnix),
                         [](const auto& server) -> std::string {
                           switch (server.param) {
                             case Server::kFakeTcp: return "FakeTcp";
                             case Server::kFakeUnix: return "FakeUnix";
                             case Server::kRealTcp: return "RealTcp";
                             case Server::kRealUnix: return "RealUnix";
                           }
                           return {};
                         });

TEST_P(ContractTest, RepliesComeInTheOrderOfTheirCommands) {
  open_up();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "text", "not a number"}));
  constexpr int kRounds = 500;
  std::vector<Pending> answers;
  for (int i = 0; i < kRounds; ++i) {
    const std::string number = std::to_string(i);
    answers.push_back(send(Retry::kSafe, {"ECHO", number}));
    answers.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
    answers.push_back(send(Retry::kIfNotSent, {"SET", "k", number}));
    answers.push_back(send(Retry::kSafe, {"GET", "k"}));
    answers.push_back(send(Retry::kSafe, {"GET", "nothing"}));
    answers.push_back(send(Retry::kIfNotSent, {"INCR", "text"}));  // An error among them.
    answers.push_back(send(Retry::kSafe, {"MGET", "k", "nothing", "n"}));
  }
  auto next = answers.begin();
  for (int i = 0; i < kRounds; ++i) {
    const std::string number = std::to_string(i);
    ASSERT_EQ((next++)->get()->text, number);
    ASSERT_EQ((next++)->get()->integer, i + 1);
    ASSERT_EQ((next++)->get()->kind, Kind::kStatus);
    ASSERT_EQ((next++)->get()->text, number);
    ASSERT_TRUE((next++)->get()->is_nil());
    ASSERT_TRUE((next++)->get()->is_error("ERR"));
    const auto several = (next++)->get();
    ASSERT_EQ(several->elements.size(), 3U);
    ASSERT_EQ(several->elements[0].text, number);
    ASSERT_TRUE(several->elements[1].is_nil());
    ASSERT_EQ(several->elements[2].text, std::to_string(i + 1));
  }
}

TEST_P(ContractTest, KeysAndValuesAreAnyBytes) {
  open_up();
  std::string every_byte(256, '\0');
  std::iota(every_byte.begin(), every_byte.end(), '\0');
  // What would be a reply or a request, were it not counted.
  for (const std::string& bytes :
       {every_byte, std::string{"\r\n"}, std::string{"$5\r\nhello\r\n"}, std::string{"+OK\r\n"},
        std::string{"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"}, std::string(1, '\0'), std::string{}}) {
    const auto set = call(Retry::kIfNotSent, {"SET", bytes, bytes});
    ASSERT_TRUE(set && set->kind == Kind::kStatus);
    EXPECT_EQ(set->text, "OK");
    const auto got = call(Retry::kSafe, {"GET", bytes});
    ASSERT_TRUE(got && got->is_string());
    EXPECT_EQ(got->text, bytes);
    EXPECT_EQ(text_of({"DEL", bytes}), "1");
    EXPECT_TRUE(call(Retry::kSafe, {"GET", bytes})->is_nil());
  }
}

TEST_P(ContractTest, EmptyIsNotNil) {
  open_up();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "empty", ""}));
  const auto empty = call(Retry::kSafe, {"GET", "empty"});
  EXPECT_TRUE(empty->is_string());
  EXPECT_TRUE(empty->text.empty());
  EXPECT_TRUE(call(Retry::kSafe, {"GET", "none"})->is_nil());
  EXPECT_TRUE(call(Retry::kIfNotSent, {"SET", "empty", "x", "NX"})->is_nil());
  const auto list = call(Retry::kSafe, {"LRANGE", "none", "0", "-1"});
  EXPECT_TRUE(list->is_array());
  EXPECT_TRUE(list->elements.empty());
  const auto several = call(Retry::kSafe, {"MGET", "none", "empty", "none"});
  ASSERT_EQ(several->elements.size(), 3U);
  EXPECT_TRUE(several->elements[0].is_nil());
  EXPECT_TRUE(several->elements[1].is_string());
  EXPECT_TRUE(several->elements[2].is_nil());
}

TEST_P(ContractTest, ArraysNest) {
  open_up();
  const auto reply = run(nested_script(), {}).get();
  ASSERT_TRUE(reply) << reply.error().to_string();
  ASSERT_EQ(reply->elements.size(), 4U);
  EXPECT_EQ(reply->elements[0].integer, 1);
  const Reply& second = reply->elements[1];
  ASSERT_EQ(second.elements.size(), 3U);
  EXPECT_EQ(second.elements[0].text, "a");
  ASSERT_EQ(second.elements[1].elements.size(), 3U);
  EXPECT_TRUE(second.elements[1].elements[0].is_string());
  EXPECT_TRUE(second.elements[1].elements[1].is_nil());
  EXPECT_TRUE(second.elements[1].elements[2].is_array());
  EXPECT_EQ(second.elements[2].integer, -2);
  EXPECT_TRUE(reply->elements[2].is_array());
  EXPECT_TRUE(reply->elements[2].elements.empty());
  EXPECT_EQ(reply->elements[3].text, "z");
}

TEST_P(ContractTest, ErrorsAreRepliesAndDisturbNobody) {
  open_up();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"RPUSH", "list", "a", "b"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "text", "abc"}));
  expect_error({"GET", "list"}, "WRONGTYPE", "wrong kind of value");
  expect_error({"RPUSH", "text", "a"}, "WRONGTYPE", "wrong kind of value");
  expect_error({"INCR", "text"}, "ERR", "not an integer or out of range");
  expect_error({"GET"}, "ERR", "wrong number of arguments for 'get' command");
  expect_error({"GET", "a", "b"}, "ERR", "wrong number of arguments for 'get' command");
  expect_error({"MSET", "a"}, "ERR", "wrong number of arguments for 'mset' command");
  expect_error({"NOSUCH", "x"}, "ERR", "unknown command 'NOSUCH', with args beginning with: 'x'");
  expect_error({"SET", "k", "v", "NX", "XX"}, "ERR", "syntax error");
  expect_error({"SET", "k", "v", "PX", "0"}, "ERR", "invalid expire time");
  expect_error({"SET", "k", "v", "PX", "soon"}, "ERR", "not an integer or out of range");
  expect_error({"EVALSHA", count_script().sha1(), "1", "k", "x"}, "NOSCRIPT", "Please use EVAL");
  EXPECT_EQ(text_of({"LLEN", "list"}), "2");
  EXPECT_EQ(text_of({"GET", "text"}), "abc");
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_P(ContractTest, BigValuesGoBothWaysAmongSmallOnes) {
  open_up();
  constexpr std::size_t kMegabyte = 1 << 20;
  for (const std::size_t size : {kMegabyte, 16 * kMegabyte}) {
    std::string value(size, '\0');
    for (std::size_t i = 0; i < size; ++i) value[i] = static_cast<char>(i * 31 + i / 251);
    const Pending before = send(Retry::kSafe, {"ECHO", "before"});
    const Pending set = send(Retry::kIfNotSent, {"SET", "big", value});
    const Pending between = send(Retry::kIfNotSent, {"INCR", "n"});
    const Pending big = send(Retry::kSafe, {"GET", "big"});
    const Pending after = send(Retry::kSafe, {"ECHO", "after"});
    EXPECT_EQ(before.get()->text, "before");
    EXPECT_EQ(set.get()->text, "OK");
    EXPECT_TRUE(between.get()->is_integer());
    const auto got = big.get();
    ASSERT_TRUE(got) << got.error().to_string();
    EXPECT_TRUE(got->text == value) << got->text.size();  // Not printed.
    EXPECT_EQ(after.get()->text, "after");
  }
}

TEST_P(ContractTest, ManyKeysInOneCommand) {
  open_up();
  constexpr std::size_t kKeys = 10'000;
  std::vector<std::string> texts;
  for (std::size_t i = 0; i < kKeys; ++i) texts.push_back("key-" + std::to_string(i));
  std::vector<std::string_view> write{"MSET"};
  std::vector<std::string_view> read{"MGET"};
  std::vector<std::string_view> remove{"DEL"};
  for (const std::string& text : texts) {
    write.insert(write.end(), {text, text});
    read.push_back(text);
    remove.push_back(text);
  }
  read.insert(read.begin() + 5000, "none");
  ASSERT_TRUE(client_->call(Command{Retry::kIfNotSent, write}, in(kPatience)));
  const auto got = client_->call(Command{Retry::kSafe, read}, in(kPatience));
  ASSERT_TRUE(got) << got.error().to_string();
  ASSERT_EQ(got->elements.size(), kKeys + 1);
  for (std::size_t i = 0; i < got->elements.size(); ++i) {
    const Reply& element = got->elements[i];
    if (read[i + 1] == "none") {
      ASSERT_TRUE(element.is_nil());
    } else {
      ASSERT_EQ(element.text, read[i + 1]);
    }
  }
  EXPECT_EQ(client_->call(Command{Retry::kIfNotSent, remove}, in(kPatience))->integer,
            std::int64_t{kKeys});
}

TEST_P(ContractTest, IntegersReachTheirExtremes) {
  open_up();
  constexpr auto kMax = std::numeric_limits<std::int64_t>::max();
  constexpr auto kMin = std::numeric_limits<std::int64_t>::min();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "n", std::to_string(kMax - 1)}));
  EXPECT_EQ(call(Retry::kIfNotSent, {"INCR", "n"})->integer, kMax);
  expect_error({"INCR", "n"}, "ERR", "would overflow");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "n", std::to_string(kMin + 1)}));
  EXPECT_EQ(call(Retry::kIfNotSent, {"DECR", "n"})->integer, kMin);
  expect_error({"DECR", "n"}, "ERR", "would overflow");
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "n", "0"}));
  EXPECT_EQ(call(Retry::kIfNotSent, {"INCRBY", "n", std::to_string(kMin)})->integer, kMin);
  EXPECT_EQ(call(Retry::kIfNotSent, {"INCRBY", "n", std::to_string(kMax)})->integer, -1);
  EXPECT_EQ(call(Retry::kIfNotSent, {"INCRBY", "n", "1"})->integer, 0);
}

TEST_P(ContractTest, KeysExpire) {
  open_up();
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "short", "v", "PX", "30"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "long", "v", "EX", "1000"}));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "ever", "v"}));
  EXPECT_EQ(text_of({"PTTL", "none"}), "-2");
  EXPECT_EQ(text_of({"PTTL", "ever"}), "-1");
  const auto left = call(Retry::kSafe, {"PTTL", "long"})->integer;
  EXPECT_GT(left, 900'000);
  EXPECT_LE(left, 1'000'000);
  EXPECT_EQ(text_of({"SET", "long", "w", "NX", "PX", "50"}), "");  // Nil.
  EXPECT_EQ(text_of({"GET", "long"}), "v");
  ASSERT_TRUE(poll_until([&] { return call(Retry::kSafe, {"GET", "short"})->is_nil(); }));
  EXPECT_EQ(text_of({"PEXPIRE", "ever", "1"}), "1");
  EXPECT_EQ(text_of({"PEXPIRE", "none", "1"}), "0");
  ASSERT_TRUE(poll_until([&] { return text_of({"EXISTS", "ever", "short", "long"}) == "1"; }));
  EXPECT_EQ(text_of({"SET", "short", "w", "NX", "PX", "100000"}), "OK");
}

TEST_P(ContractTest, ScriptsAreLoadedAgainAndKeepTheirOrder) {
  open_up();
  EXPECT_EQ(run(count_script(), {"n"}, {"first"}).get()->text, "1:first");
  EXPECT_EQ(admin({"SCRIPT", "EXISTS", std::string{count_script().sha1()}}), "1");
  std::int64_t counted = 1;
  for (int round = 0; round < 5; ++round) {
    ASSERT_EQ(admin({"SCRIPT", "FLUSH"}), "OK");
    const auto retries = client_->stats().retries;
    std::vector<Pending> answers;
    for (int i = 0; i < 50; ++i) {
      answers.push_back(run(count_script(), {"n"}, {"x"}));
      answers.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
    }
    // A script that is sent again overtakes no script; a plain command behind it may overtake it.
    std::int64_t last = counted;
    for (std::size_t i = 0; i < answers.size(); i += 2) {
      const auto reply = answers[i].get();
      ASSERT_TRUE(reply) << reply.error().to_string();
      const std::int64_t now = std::stoll(reply->text);
      EXPECT_GT(now, last);
      last = now;
      ASSERT_TRUE(answers[i + 1].get());
    }
    counted += 100;
    EXPECT_EQ(text_of({"GET", "n"}), std::to_string(counted));  // Each ran once.
    EXPECT_GT(client_->stats().retries, retries);
  }
  const auto retries = client_->stats().retries;
  EXPECT_EQ(run(count_script(), {"n"}, {"last"}).get()->text,
            std::to_string(counted + 1) + ":last");
  EXPECT_EQ(client_->stats().retries, retries);  // It was known.
}

TEST_P(ContractTest, ScriptsAnswerWithErrors) {
  open_up();
  const auto whole = run(failing_script(), {}).get();
  ASSERT_TRUE(whole) << whole.error().to_string();
  EXPECT_TRUE(whole->is_error("MYERR")) << whole->text;
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "text", "abc"}));
  const auto part = run(partly_failing_script(), {"text"}).get();
  ASSERT_TRUE(part) << part.error().to_string();
  ASSERT_EQ(part->elements.size(), 2U);
  EXPECT_TRUE(part->elements[0].is_error("ERR")) << part->elements[0].text;
  EXPECT_EQ(part->elements[1].text, "after");
}

TEST_P(ContractTest, MessagesArriveInOrderBeforeThePongThatFollows) {
  open_up("news");
  std::vector<std::string> sent{"", std::string{"\0\r\n$-1\r\n", 8}, std::string(1 << 20, 'm')};
  for (int i = 0; i < 300; ++i) sent.push_back(std::to_string(i));
  for (std::size_t i = 0; i < sent.size(); ++i) {
    if (i % 2 == 0) {
      ASSERT_EQ(admin({"PUBLISH", "news", sent[i]}), "1");
    } else {
      ASSERT_EQ(call(Retry::kIfNotSent, {"PUBLISH", "news", sent[i]})->integer, 1);
    }
    ASSERT_EQ(admin({"PUBLISH", "other", sent[i]}), "0");
  }
  ping("after");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.pongs[0], "after");
  EXPECT_TRUE(seen.messages == sent) << seen.messages.size();
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.out_of_order, 0);
}

TEST_P(ContractTest, PongsBringTheirTokensInOrder) {
  open_up("news");
  std::vector<std::string> tokens{"x", "0", std::string(64, 't'), "pong", "$5", "\xff\x01"};
  for (int i = 0; i < 30; ++i) tokens.push_back("token-" + std::to_string(i));
  for (const std::string& token : tokens) ping(token);
  ASSERT_TRUE(observe([&](const Observed& seen) { return seen.pongs.size() == tokens.size(); }));
  EXPECT_EQ(observer_.seen().pongs, tokens);
  EXPECT_TRUE(observer_.seen().refusals.empty());
}

TEST_P(ContractTest, RefusedCredentialsAreNamedAndHealed) {
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "on", ">right", "~*", "&*", "+@all"}), "OK");
  struct Case {
    const char* user_info;
    const char* said;
  };
  for (const Case& wrong : {Case{"app:mistaken@", "'app'"}, Case{"ghost:mistaken@", "'ghost'"},
                            Case{":mistaken@", "remove ours"}}) {
    open(options(wrong.user_info), "news");
    const auto refused = call(Retry::kIfNotSent, {"SET", "k", "v"});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument) << refused.error().to_string();
    EXPECT_NE(refused.error().message.find(wrong.said), std::string::npos)
        << refused.error().to_string();
  }
  ASSERT_EQ(admin({"CONFIG", "SET", "requirepass", "later"}), "OK");
  open(options(), "news");
  const auto missing = call(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(missing.error().message.find("wants a password"), std::string::npos);
  EXPECT_NE(text_of({"EXISTS", "k"}), "1");
  ASSERT_EQ(admin({"CONFIG", "SET", "requirepass", ""}), "OK");
  ASSERT_TRUE(wait_data_up());
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(log().find("mistaken"), std::string::npos);

  open(options("app:right@"), "news");
  EXPECT_EQ(text_of({"ACL", "WHOAMI"}), "app");
  EXPECT_TRUE(wait_stream_up());
}

TEST_P(ContractTest, APermissionThatIsMissingIsAnErrorReply) {
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "on", ">pw", "~*", "&*", "+@all", "-incr"}), "OK");
  open(options("app:pw@"));
  const Pending before = send(Retry::kSafe, {"ECHO", "before"});
  const auto refused = call(Retry::kIfNotSent, {"INCR", "n"});
  ASSERT_TRUE(refused) << refused.error().to_string();
  EXPECT_TRUE(refused->is_error("NOPERM")) << refused->text;
  EXPECT_EQ(before.get()->text, "before");
  ASSERT_EQ(admin({"ACL", "SETUSER", "app", "+incr"}), "OK");
  EXPECT_EQ(text_of({"INCR", "n"}), "1");  // It had not run.
  EXPECT_EQ(observer_.seen().data_downs, 0);
}

TEST_P(ContractTest, DatabasesAreApart) {
  open(options({}, 3));
  ASSERT_TRUE(call(Retry::kIfNotSent, {"SET", "k", "three"}));
  EXPECT_EQ(admin({"GET", "k"}), "(nil)");
  EXPECT_EQ(admin({"SELECT", "3"}), "OK");
  EXPECT_EQ(admin({"GET", "k"}), "three");
  // Chosen again on each new connection.
  ASSERT_EQ(admin({"CLIENT", "KILL", "ID", id_of("tiercel-data")}), "1");
  EXPECT_EQ(text_of({"GET", "k"}), "three");

  open(options({}, 99));
  const auto refused = call(Retry::kSafe, {"GET", "k"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(refused.error().message.find("database 99"), std::string::npos);
}

// CHAOS.md, 8: D is killed and S lives, while commands are under way.
TEST_P(ContractTest, AKilledDataConnectionIsReplacedAndTheStreamGoesOn) {
  open_up("news");
  const auto first = observer_.seen().data_server;
  for (int round = 1; round <= 5; ++round) {
    std::vector<Pending> reads;
    std::vector<Pending> writes;
    const auto send_some = [&] {
      for (int i = 0; i < 50; ++i) {
        reads.push_back(send(Retry::kSafe, {"ECHO", std::to_string(reads.size())}));
        writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
      }
    };
    std::string id;
    ASSERT_TRUE(poll_until([&] { return !(id = id_of("tiercel-data")).empty(); }));
    send_some();
    ASSERT_EQ(admin({"CLIENT", "KILL", "ID", id}), "1");
    send_some();
    for (std::size_t i = 0; i < reads.size(); ++i) {
      EXPECT_EQ(reads[i].get()->text, std::to_string(i));
    }
    for (const Pending& write : writes) {
      const auto reply = write.get();
      if (reply) continue;
      EXPECT_EQ(reply.error().code, ErrorCode::kDeadlineExceeded) << reply.error().to_string();
    }
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.data_downs == round && seen.data_ups == round + 1;
    }));
  }
  ASSERT_EQ(admin({"PUBLISH", "news", "still here"}), "1");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.messages.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_EQ(seen.stream_ups, 1);
  EXPECT_EQ(seen.data_server, first);
  EXPECT_EQ(seen.out_of_order, 0);
}

// CHAOS.md, 7.
TEST_P(ContractTest, AKilledStreamIsReplacedAndTheDataConnectionGoesOn) {
  open_up("news");
  for (int round = 1; round <= 5; ++round) {
    ASSERT_EQ(admin({"PUBLISH", "news", "before " + std::to_string(round)}), "1");
    // In order on one connection: what was published before the kill has been sent before it.
    const Pending read = send(Retry::kSafe, {"ECHO", "x"});
    ASSERT_EQ(admin({"CLIENT", "KILL", "TYPE", "pubsub"}), "1");
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.stream_downs == round && seen.stream_ups == round + 1;
    }));
    EXPECT_EQ(read.get()->text, "x");
    ping("alive");
    ASSERT_TRUE(observe([&](const Observed& seen) {
      return seen.pongs.size() == static_cast<std::size_t>(round);
    }));
  }
  EXPECT_EQ(observer_.seen().data_downs, 0);
  EXPECT_EQ(observer_.seen().out_of_order, 0);
}

TEST_P(ContractTest, AServerThatIsAReplicaIsLeftAndReported) {
  open_up("news");
  // Nobody listens there.
  ASSERT_EQ(admin({"REPLICAOF", "127.0.0.1", "1"}), "OK");
  const Pending write = send(Retry::kIfNotSent, {"SET", "k", "v"});
  ASSERT_TRUE(poll_until([&] {
    const auto trouble = client_->data_trouble();
    return trouble && trouble->message.find("it is a replica of 127.0.0.1:1") != std::string::npos;
  }));
  ASSERT_TRUE(observe([](const Observed& seen) { return !seen.is_stream_up; }));
  EXPECT_FALSE(write.has_come());
  ASSERT_EQ(admin({"REPLICAOF", "NO", "ONE"}), "OK");
  EXPECT_EQ(write.get()->text, "OK");
  ASSERT_TRUE(wait_stream_up());
  EXPECT_EQ(admin({"GET", "k"}), "v");
}

TEST_P(ContractTest, APauseOfTheServerIsOnlyAPause) {
  open_up("news");
  ASSERT_EQ(admin({"CLIENT", "PAUSE", "200"}), "OK");
  std::vector<Pending> writes;
  for (int i = 0; i < 100; ++i) writes.push_back(send(Retry::kIfNotSent, {"INCR", "n"}));
  // Either it is answered late, or in time, on a slow machine; never out of step.
  const Pending hasty = send(Retry::kIfNotSent, {"SET", "k", "v"}, 20ms);
  ping("paused");
  for (int i = 0; i < 100; ++i) {
    const auto reply = writes[static_cast<std::size_t>(i)].get();
    ASSERT_TRUE(reply) << reply.error().to_string();
    EXPECT_EQ(reply->integer, i + 1);
  }
  const auto answer = hasty.get();
  EXPECT_TRUE(answer || answer.error().code == ErrorCode::kDeadlineExceeded ||
              answer.error().code == ErrorCode::kUnavailable);
  EXPECT_EQ(text_of({"ECHO", "in step"}), "in step");
  ASSERT_TRUE(observe([](const Observed& seen) { return seen.pongs.size() == 1; }));
  const auto seen = observer_.seen();
  EXPECT_EQ(seen.data_downs, 0);
  EXPECT_EQ(seen.stream_downs, 0);
  EXPECT_TRUE(seen.refusals.empty());
}

TEST_P(ContractTest, ARestartedServerIsAnother) {
  open_up("news");
  const auto first = observer_.seen().data_server;
  ASSERT_FALSE(first.run_id.empty());
  EXPECT_EQ(run(count_script(), {"n"}, {"x"}).get()->text, "1:x");
  if (is_real()) {
    real_->kill();
    real_->restart();
  } else {
    fake_->kill();
    fake_->restart();
  }
  ASSERT_TRUE(
      observe([](const Observed& seen) { return seen.data_ups == 2 && seen.stream_ups == 2; }));
  const auto second = observer_.seen().data_server;
  EXPECT_NE(second.run_id, first.run_id);
  EXPECT_NE(second.replication_id, first.replication_id);
  EXPECT_EQ(second.endpoint, first.endpoint);
  EXPECT_EQ(observer_.seen().stream_server, second);
  EXPECT_EQ(run(count_script(), {"n"}, {"y"}).get()->text, "1:y");  // Script and data are gone.
}

}  // namespace
}  // namespace tiercel::l2
