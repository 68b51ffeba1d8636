// The contract, the commands: see contract_fixture.h.

#include <limits>
#include <numeric>

#include "contract_fixture.h"

namespace tiercel::l2 {
namespace {

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

}  // namespace
}  // namespace tiercel::l2
