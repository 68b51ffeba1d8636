// `tiercel shell` as others see it: a process that answers lines.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/child_process.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "support/test_certificates.h"

namespace tiercel::testing {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::ordered_json;
using ::testing::AnyOf;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

class Shell {
 public:
  // Patient, unless told otherwise: only what the machine's load cannot decide is tested.
  explicit Shell(std::vector<std::string> options = {}, std::string_view timeout_ms = "60000") {
    options.insert(options.begin(), "shell");
    options.insert(options.end(), {"--timeout-ms", std::string{timeout_ms}});
    process_ = ChildProcess::start({.executable = TIERCEL_TOOL, .arguments = std::move(options)});
  }

  std::string ask_text(std::string_view line) {
    tell(line);
    return answer_text();
  }
  Json ask(std::string_view line) { return Json::parse(ask_text(line)); }

  void tell(std::string_view line) {
    const auto written = process_->write_line(line);
    if (!written) ADD_FAILURE() << line << ": " << written.error().to_string();
  }
  std::string answer_text() {
    auto answer = process_->read_line();
    if (!answer || !*answer) {
      ADD_FAILURE() << (answer ? "the shell has ended" : answer.error().to_string());
      return "null";
    }
    return **answer;
  }

  ChildProcess& process() { return *process_; }

 private:
  std::unique_ptr<ChildProcess> process_;
};

struct Ended {
  std::string output;  // Standard error included.
  std::optional<ExitStatus> status;
};

// Runs the tool to its end, with nothing on its input.
Ended run_tool(std::vector<std::string> arguments) {
  std::vector<std::string> command{"-c", "exec \"$0\" \"$@\" 2>&1", TIERCEL_TOOL};
  command.insert(command.end(), arguments.begin(), arguments.end());
  auto process = ChildProcess::start({.executable = "/bin/sh", .arguments = std::move(command)});
  process->close_stdin();
  Ended ended;
  for (;;) {
    const auto line = process->read_line();
    if (!line) ADD_FAILURE() << line.error().to_string();
    if (!line || !*line) break;
    ended.output += **line + "\n";
  }
  ended.status = process->wait();
  return ended;
}

// --- without Redis

TEST(ShellWithoutRedis, AnswersAsDocumented) {
  Shell shell;
  EXPECT_EQ(shell.ask_text("get k"), R"({"op":"get","key":"k","found":false})");
  EXPECT_EQ(shell.ask_text("set k v"), R"({"op":"set","key":"k","ok":true,"version":"1"})");
  EXPECT_EQ(shell.ask_text("get k"),
            R"({"op":"get","key":"k","found":true,"value":"v","tier":"l1","version":"1",)"
            R"("age_bound_ms":0})");
  EXPECT_EQ(shell.ask_text("try k"),
            R"({"op":"try","key":"k","found":true,"value":"v","tier":"l1","version":"1",)"
            R"("age_bound_ms":0})");
  EXPECT_EQ(shell.ask_text("mget k none k"),
            R"({"op":"mget","results":[)"
            R"({"key":"k","found":true,"value":"v","tier":"l1","version":"1","age_bound_ms":0},)"
            R"({"key":"none","found":false},)"
            R"({"key":"k","found":true,"value":"v","tier":"l1","version":"1","age_bound_ms":0}]})");
  EXPECT_EQ(shell.ask_text("del k"), R"({"op":"del","key":"k","ok":true,"version":"2"})");
  EXPECT_EQ(shell.ask_text("try k"), R"({"op":"try","key":"k","found":false})");
  EXPECT_EQ(shell.ask_text("lease"),
            R"({"op":"lease","held":true,"remaining_ms":null,"epoch":"","master":"",)"
            R"("mode":"local","witness":"none"})");
  EXPECT_EQ(shell.ask_text("sleep 1"), R"({"op":"sleep","ms":1,"ok":true})");
  EXPECT_EQ(shell.ask_text("quit"), R"({"op":"quit","ok":true})");
  EXPECT_EQ(shell.process().wait(), (ExitStatus{.code = 0, .signal = 0}));
}

TEST(ShellWithoutRedis, BytesGoBothWaysInHex) {
  Shell shell;
  for (const std::string_view word : {"hex:", "hex:00", "hex:20", "hex:22", "hex:27", "hex:0d0a",
                                      "hex:c3a4", "hex:ff00fe", "hex:6865783a"}) {
    const std::string set = "set " + std::string{word} + " " + std::string{word};
    const Json done = shell.ask(set);
    if (word == "hex:") {  // The empty value; whether a key may be empty is not ours to say.
      ASSERT_TRUE(shell.ask("set empty hex:").value("ok", false));
      EXPECT_EQ(shell.ask("get empty")["value"], "hex:");
      continue;
    }
    ASSERT_TRUE(done.value("ok", false)) << done;
    EXPECT_EQ(done["key"], word);
    const Json got = shell.ask("get " + std::string{word});
    EXPECT_EQ(got["key"], word);
    EXPECT_EQ(got["value"], word);
  }
  // Hex that need not be hex is the same key and value.
  ASSERT_TRUE(shell.ask("set hex:6b hex:76").value("ok", false));
  EXPECT_EQ(shell.ask("get k")["value"], "v");
}

TEST(ShellWithoutRedis, AWrongCommandIsToldHowToWriteItAndTheShellGoesOn) {
  Shell shell;
  for (const std::string_view line : {"set k", "set k v x", "set k hex:0", "set k \"v\""}) {
    const Json answer = shell.ask(line);
    EXPECT_EQ(answer["op"], "set") << line;
    EXPECT_EQ(answer["error"], "invalid_argument") << line;
    EXPECT_THAT(answer["message"].get<std::string>(), EndsWith("write: set K V [TTL_MS]"));
  }
  for (const std::string_view line : {"bogus", "\xff\xfe\x01", "GET k"}) {
    const Json answer = shell.ask(line);
    EXPECT_FALSE(answer.contains("op")) << line;
    EXPECT_EQ(answer["error"], "invalid_argument") << line;
    EXPECT_THAT(answer["message"].get<std::string>(), HasSubstr("write: get K | ")) << line;
  }
  // What the cache itself refuses.
  const Json answer = shell.ask("get " + std::string(100'000, 'k'));
  EXPECT_EQ(answer["op"], "get");
  EXPECT_EQ(answer["error"], "invalid_argument");
  EXPECT_TRUE(shell.ask("set k v").value("ok", false));
}

TEST(ShellWithoutRedis, BlankLinesAreIgnoredAndCarriageReturnsTolerated) {
  Shell shell;
  shell.tell("");
  shell.tell("\r");
  shell.tell("  \t ");
  EXPECT_EQ(shell.ask("set k v\r")["op"], "set");
  EXPECT_EQ(shell.ask("get k\r")["value"], "v");
}

TEST(ShellWithoutRedis, AnOverlongLineIsRefusedWhole) {
  Shell shell;
  const Json answer = shell.ask("set k " + std::string(std::size_t{17} << 20, 'v'));
  EXPECT_EQ(answer["op"], "set");
  EXPECT_EQ(answer["error"], "invalid_argument");
  EXPECT_THAT(answer["message"].get<std::string>(), EndsWith("write: set K V [TTL_MS]"));
  EXPECT_EQ(shell.ask_text("get k"), R"({"op":"get","key":"k","found":false})");
}

TEST(ShellWithoutRedis, ALargeValueComesBackWhole) {
  Shell shell{{"--l1-bytes", "1073741824"}};
  const std::string value(std::size_t{5} << 20, 'v');
  ASSERT_TRUE(shell.ask("set k " + value).value("ok", false));
  EXPECT_TRUE(shell.ask("get k")["value"].get_ref<const std::string&>() == value);
}

TEST(ShellWithoutRedis, TtlsEnd) {
  Shell shell{{"--ttl-ms", "300"}};
  shell.tell("set default v");
  shell.tell("set own v 200");
  shell.tell("set long v 3600000");
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(Json::parse(shell.answer_text()).value("ok", false));
  EXPECT_TRUE(poll_until([&] { return !shell.ask("get default").value("found", true); }));
  EXPECT_TRUE(poll_until([&] { return !shell.ask("try own").value("found", true); }));
  EXPECT_TRUE(shell.ask("get long").value("found", false));
}

TEST(ShellWithoutRedis, SleepTakesItsTime) {
  Shell shell;
  const auto began = Clock::system().now();
  EXPECT_EQ(shell.ask("sleep 200")["ms"], 200);
  EXPECT_GE(Clock::system().now() - began, 200ms);
}

TEST(ShellWithoutRedis, StatsCount) {
  Shell shell;
  shell.tell("set k v");
  shell.tell("get k");
  shell.tell("get none");
  for (int i = 0; i < 3; ++i) (void)shell.answer_text();
  const Json stats = shell.ask("stats");
  EXPECT_EQ(stats.begin().key(), "op");
  EXPECT_EQ(stats["reads_l1"], 1);
  EXPECT_EQ(stats["reads_absent"], 1);
  EXPECT_EQ(stats["writes_acknowledged"], 1);
  EXPECT_EQ(stats["l1"]["entries"], 1);
  EXPECT_EQ(stats["l1"]["inserts"], 1);
  EXPECT_EQ(stats["l2"]["commands_submitted"], 0);
}

TEST(ShellWithoutRedis, EndOfInputIsAnOrderlyEnd) {
  Shell shell;
  EXPECT_TRUE(shell.ask("set k v").value("ok", false));
  shell.process().close_stdin();
  const auto end = shell.process().read_line();
  ASSERT_TRUE(end) << end.error().to_string();
  EXPECT_FALSE(end->has_value());
  EXPECT_EQ(shell.process().wait(), (ExitStatus{.code = 0, .signal = 0}));
}

// --- options

TEST(ShellOptions, WrongOnesAreOneClearLineAndANonZeroExit) {
  struct Case {
    std::vector<std::string> arguments;
    std::string says;
  };
  const std::vector<Case> cases{
      {{"shell", "--lease-ms", "5"}, "--lease-ms"},
      {{"shell", "--lease-ms", "soon"}, "--lease-ms"},
      {{"shell", "--lease-ms", "9223372036854775808"}, "--lease-ms"},
      {{"shell", "--l1-bytes", "1"}, "--l1-bytes"},
      {{"shell", "--ttl-ms", "0"}, "--ttl-ms"},
      {{"shell", "--ttl-ms"}, "--ttl-ms"},
      {{"shell", "--namespace", "no spaces"}, "namespace"},
      {{"shell", "--log-level", "loud"}, "--log-level"},
      {{"shell", "--url", ""}, "--url"},
      {{"shell", "--url", "http://127.0.0.1"}, "URL"},
      {{"shell", "--url", "redis://:sesame@127.0.0.1:notaport/0"}, "URL"},
      {{"shell", "--url", "redis+sentinel://127.0.0.1:1"}, "URL"},
      {{"shell", "--url", "rediss://:sesame@127.0.0.1?ca=/nowhere.pem"}, "/nowhere.pem"},
      {{"shell", "--nonsense"}, "--nonsense"},
      {{"shell", "extra"}, "extra"},
      {{}, "subcommand"},
      {{"shel"}, "subcommand"},
  };
  for (const Case& one : cases) {
    const Ended ended = run_tool(one.arguments);
    const std::string shown = ::testing::PrintToString(one.arguments) + " said: " + ended.output;
    EXPECT_EQ(ended.status, (ExitStatus{.code = 2, .signal = 0})) << shown;
    EXPECT_EQ(std::count(ended.output.begin(), ended.output.end(), '\n'), 1) << shown;
    EXPECT_THAT(ended.output, HasSubstr(one.says)) << shown;
    EXPECT_THAT(ended.output, Not(HasSubstr("sesame"))) << shown;
  }
}

TEST(ShellOptions, HelpExplainsTheLanguage) {
  const Ended ended = run_tool({"shell", "--help"});
  EXPECT_EQ(ended.status, (ExitStatus{.code = 0, .signal = 0}));
  for (const std::string_view part : {"--url", "--namespace", "--lease-ms", "--l1-bytes",
                                      "--ttl-ms", "--log-level", "set K V [TTL_MS]", "hex:"}) {
    EXPECT_THAT(ended.output, HasSubstr(part));
  }
}

// --- with Redis

// True once the shell's L1 may answer.
bool wait_until_held(Shell& shell) {
  return poll_until([&] { return shell.ask("lease").value("held", false); });
}

TEST(ShellWithRedis, TwoShellsSeeEachOthersWrites) {
  const auto server = RedisServer::start();
  const std::vector<std::string> options{"--url", server->url(), "--namespace", "test"};
  Shell one{options};
  Shell two{options};
  ASSERT_TRUE(wait_until_held(one));
  ASSERT_TRUE(wait_until_held(two));

  const Json set = one.ask("set k hex:76");
  ASSERT_TRUE(set.value("ok", false)) << set;
  EXPECT_THAT(set["version"].get<std::string>(), Not(AnyOf("0", "")));
  const Json got = two.ask("get k");
  EXPECT_EQ(got["value"], "v") << got;
  EXPECT_EQ(got["version"], set["version"]);
  EXPECT_TRUE(poll_until([&] { return two.ask("get k").value("tier", "") == "l1"; }));

  ASSERT_TRUE(one.ask("set k w").value("ok", false));
  EXPECT_TRUE(poll_until([&] { return two.ask("get k").value("value", "") == "w"; }));
  ASSERT_TRUE(two.ask("del k").value("ok", false));
  EXPECT_TRUE(poll_until([&] { return !one.ask("get k").value("found", true); }));

  Shell elsewhere{{"--url", server->url(), "--namespace", "other"}};
  ASSERT_TRUE(wait_until_held(elsewhere));
  ASSERT_TRUE(one.ask("set k x").value("ok", false));
  EXPECT_EQ(elsewhere.ask_text("get k"), R"({"op":"get","key":"k","found":false})");
}

TEST(ShellWithRedis, SpeaksTls) {
  const TestAuthority authority;
  const CertificateFiles files = authority.issue();
  const auto server =
      RedisServer::start({.tls = RedisTls{authority.file(), files.certificate, files.key}});
  Shell shell{{"--url", server->url() + "?ca=" + authority.file()}};
  ASSERT_TRUE(wait_until_held(shell));
  ASSERT_TRUE(shell.ask("set k v").value("ok", false));
  EXPECT_EQ(shell.ask("get k")["value"], "v");

  Shell distrustful{{"--url", server->url(), "--log-level", "error"}};  // By the system's CAs.
  const Json refused = distrustful.ask("get k");
  EXPECT_EQ(refused["error"], "invalid_argument") << refused;
  EXPECT_THAT(refused["message"].get<std::string>(), HasSubstr("CN=Test CA"));
}

TEST(ShellWithRedis, TheLeaseSaysWhoVouches) {
  const auto server = RedisServer::start();
  Shell shell{{"--url", server->url(), "--lease-ms", "60000"}};
  ASSERT_TRUE(wait_until_held(shell));
  const Json lease = shell.ask("lease");
  EXPECT_EQ(lease["mode"], "redis");
  EXPECT_EQ(lease["witness"], "none") << "a lone master";
  EXPECT_EQ(lease["master"], server->endpoint());
  EXPECT_FALSE(lease["epoch"].get<std::string>().empty());
  EXPECT_GT(lease["remaining_ms"].get<std::int64_t>(), 0);
  EXPECT_LE(lease["remaining_ms"].get<std::int64_t>(), 60'000);
}

TEST(ShellWithRedis, AServerThatIsDownIsAnErrorUntilItIsUp) {
  const auto server = RedisServer::start();
  server->kill();
  Shell shell{{"--url", server->url(), "--log-level", "error"}, "500"};
  const Json get = shell.ask("get k");
  EXPECT_EQ(get["op"], "get");
  EXPECT_EQ(get["key"], "k");
  EXPECT_EQ(get["error"], "unavailable") << get;
  EXPECT_THAT(get["message"].get<std::string>(), HasSubstr(server->endpoint()));
  EXPECT_EQ(shell.ask("set k v")["error"], "unavailable");
  EXPECT_FALSE(shell.ask("lease")["held"].get<bool>());

  server->restart();
  EXPECT_TRUE(poll_until([&] { return shell.ask("set k v").value("ok", false); }));
  EXPECT_TRUE(wait_until_held(shell));
  EXPECT_TRUE(poll_until([&] { return shell.ask("get k").value("value", "") == "v"; }));
}

TEST(ShellWithRedis, AWrongPasswordIsAClearError) {
  const auto server = RedisServer::start({.arguments = {"--requirepass", "sesame"}});
  const std::string at = "@127.0.0.1:" + std::to_string(server->port());
  Shell wrong{{"--url", "redis://:opennow" + at, "--log-level", "off"}};
  const Json get = wrong.ask("get k");
  EXPECT_EQ(get["error"], "invalid_argument") << get;
  EXPECT_THAT(get["message"].get<std::string>(), HasSubstr("password"));
  EXPECT_THAT(get["message"].get<std::string>(), Not(HasSubstr("opennow")));

  Shell right{{"--url", "redis://:sesame" + at}};
  EXPECT_TRUE(poll_until([&] { return right.ask("set k v").value("ok", false); }));
}

}  // namespace
}  // namespace tiercel::testing
