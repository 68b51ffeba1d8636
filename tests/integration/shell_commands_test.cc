// The parts of `tiercel shell` that need no process: the language, the reader of lines, the
// answers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <variant>
#include <vector>

#include "shell/answers.h"
#include "shell/commands.h"
#include "shell/line_reader.h"
#include "shell/shell.h"
#include "support/unique_fd.h"

namespace tiercel::shell {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using testing::UniqueFd;

template <typename Expected>
Expected parsed_as(std::string_view line) {
  const auto command = parse_command(line);
  if (!command || !*command) {
    ADD_FAILURE() << line << ": " << (command ? "blank" : command.error().message);
    return {};
  }
  const auto* expected = std::get_if<Expected>(&**command);
  if (expected == nullptr) {
    ADD_FAILURE() << line << " is alternative " << (*command)->index();
    return {};
  }
  return *expected;
}

std::string refusal(std::string_view line) {
  const auto command = parse_command(line);
  if (command) {
    ADD_FAILURE() << line << " was taken";
    return {};
  }
  EXPECT_EQ(command.error().code, ErrorCode::kInvalidArgument) << line;
  return command.error().message;
}

TEST(ShellCommands, EachIsUnderstood) {
  EXPECT_EQ(parsed_as<GetCommand>("get k").key, "k");
  EXPECT_EQ(parsed_as<TryCommand>("try k").key, "k");
  EXPECT_EQ(parsed_as<DelCommand>("del k").key, "k");
  EXPECT_THAT(parsed_as<MgetCommand>("mget a b a").keys, ElementsAre("a", "b", "a"));
  EXPECT_EQ(parsed_as<SleepCommand>("sleep 0").pause, milliseconds{0});
  EXPECT_EQ(parsed_as<SleepCommand>("sleep 86400000").pause, kSleepMax);
  (void)parsed_as<LeaseCommand>("lease");
  (void)parsed_as<StatsCommand>("stats");
  (void)parsed_as<QuitCommand>("quit");

  const auto set = parsed_as<SetCommand>("set k v");
  EXPECT_EQ(set.key, "k");
  EXPECT_EQ(set.value, "v");
  EXPECT_FALSE(set.ttl.has_value());
  EXPECT_EQ(parsed_as<SetCommand>("set k v 1500").ttl, milliseconds{1500});
}

TEST(ShellCommands, SpaceAndTheEndOfALineDoNotMatter) {
  EXPECT_EQ(parsed_as<SetCommand>(" \tset\t k   v \t").value, "v");
  EXPECT_EQ(parsed_as<SetCommand>("set k v\r").value, "v");
  (void)parsed_as<QuitCommand>("quit\r");
  for (const std::string_view blank : {"", "\r", "  ", " \t\r"}) {
    const auto command = parse_command(blank);
    ASSERT_TRUE(command) << command.error().message;
    EXPECT_FALSE(command->has_value());
  }
}

TEST(ShellCommands, BytesAreWrittenInHex) {
  const auto set = parsed_as<SetCommand>("set hex:00ff20 hex:");
  EXPECT_EQ(set.key, std::string("\x00\xff\x20", 3));
  EXPECT_EQ(set.value, "");
  EXPECT_EQ(parsed_as<GetCommand>("get hex:6B").key, "k");
  EXPECT_EQ(parsed_as<GetCommand>("get a\\b{}%s").key, "a\\b{}%s");
}

TEST(ShellCommands, RefusalsSayHowToWriteIt) {
  for (const std::string_view line :
       {"set", "set k", "set k v 1 2", "set k v 0", "set k v -1", "set k v 1.5", "set k v x",
        "set k v 315360000001", "set k v 18446744073709551616",
        "set k v 00000000000000000000000000000001", "set k hex:0", "set k hex:0g", "set hex:zz v",
        "set k \"v\"", "set k it's", "set k \x80", "set k a\rb", "set k \x7f"}) {
    EXPECT_THAT(refusal(line), EndsWith("; write: set K V [TTL_MS]")) << line;
  }
  EXPECT_THAT(refusal("get"), EndsWith("; write: get K"));
  EXPECT_THAT(refusal("get a b"), EndsWith("; write: get K"));
  EXPECT_THAT(refusal("try"), EndsWith("; write: try K"));
  EXPECT_THAT(refusal("del"), EndsWith("; write: del K"));
  EXPECT_THAT(refusal("mget"), EndsWith("; write: mget K K …"));
  EXPECT_THAT(refusal("mget a hex:1"), EndsWith("; write: mget K K …"));
  EXPECT_THAT(refusal("lease now"), EndsWith("; write: lease"));
  EXPECT_THAT(refusal("stats all"), EndsWith("; write: stats"));
  EXPECT_THAT(refusal("quit now"), EndsWith("; write: quit"));
  EXPECT_THAT(refusal("sleep"), EndsWith("; write: sleep MS"));
  EXPECT_THAT(refusal("sleep 86400001"), EndsWith("; write: sleep MS"));
}

TEST(ShellCommands, AnUnknownOneIsToldAllThatThereAre) {
  for (const std::string_view line : {"GET k", "put k v", "\xff\xfe", "getk", "\"get\" k"}) {
    EXPECT_THAT(refusal(line), HasSubstr("there is no command ")) << line;
    EXPECT_THAT(refusal(line), EndsWith("write: get K | try K | set K V [TTL_MS] | del K | "
                                        "mget K K … | lease | stats | sleep MS | quit"));
    EXPECT_EQ(op_of(line), "") << line;
  }
  EXPECT_LT(refusal(std::string(1 << 20, 'x')).size(), 400U);
}

TEST(ShellCommands, HexIsOfferedForABareWordThatCannotStand) {
  EXPECT_THAT(refusal("set k \"v\""), HasSubstr("hex:227622"));
}

TEST(ShellCommands, MgetIsBounded) {
  std::string line = "mget";
  for (std::size_t i = 0; i < kMgetKeysMax; ++i) line += " k";
  EXPECT_EQ(parsed_as<MgetCommand>(line).keys.size(), kMgetKeysMax);
  line += " k";
  EXPECT_THAT(refusal(line), HasSubstr("too many words"));
}

TEST(ShellCommands, TheOpIsToldOfWhatDoesNotParse) {
  EXPECT_EQ(op_of("set"), "set");
  EXPECT_EQ(op_of("  set k"), "set");
  EXPECT_EQ(op_of("quit\r"), "quit");
  EXPECT_EQ(op_of("setk"), "");
  EXPECT_EQ(op_of(""), "");
  EXPECT_THAT(line_too_long("set k aaaa").message, EndsWith("; write: set K V [TTL_MS]"));
  EXPECT_THAT(line_too_long("aaaa").message, EndsWith("| quit"));
}

// --- lines

struct Pipe {
  Pipe() {
    std::array<int, 2> ends{};
    EXPECT_EQ(::pipe(ends.data()), 0);
    reader.reset(ends[0]);
    writer.reset(ends[1]);
  }
  void write(std::string_view bytes) const {
    ASSERT_EQ(::write(writer.get(), bytes.data(), bytes.size()),
              static_cast<ssize_t>(bytes.size()));
  }
  UniqueFd reader;
  UniqueFd writer;
};

Line expect_line(LineReader& reader) {
  auto line = reader.next();
  if (!line || !*line) {
    ADD_FAILURE() << (line ? "end of input" : line.error().message);
    return {};
  }
  return **line;
}

void expect_end(LineReader& reader) {
  const auto line = reader.next();
  ASSERT_TRUE(line) << line.error().message;
  EXPECT_FALSE(line->has_value());
}

TEST(ShellLineReader, GivesEachLineOnceItIsComplete) {
  Pipe pipe;
  LineReader reader{pipe.reader.get(), 100};
  pipe.write("one\n\ntw");
  EXPECT_EQ(expect_line(reader).text, "one");  // Although the writer has not closed.
  EXPECT_EQ(expect_line(reader).text, "");
  pipe.write(std::string_view{"o\0\xff\nthree", 9});
  pipe.writer.reset();
  EXPECT_EQ(expect_line(reader).text, std::string("two\0\xff", 5));
  EXPECT_EQ(expect_line(reader).text, "three");
  expect_end(reader);
  expect_end(reader);
}

TEST(ShellLineReader, KeepsTheBeginningOfALineThatIsTooLong) {
  Pipe pipe;
  LineReader reader{pipe.reader.get(), 5};
  pipe.write("12345\n123456\nnext\n1234567");
  pipe.writer.reset();
  const Line fits = expect_line(reader);
  EXPECT_EQ(fits.text, "12345");
  EXPECT_FALSE(fits.too_long);
  const Line too_long = expect_line(reader);
  EXPECT_EQ(too_long.text, "12345");
  EXPECT_TRUE(too_long.too_long);
  const Line next = expect_line(reader);
  EXPECT_EQ(next.text, "next");
  EXPECT_FALSE(next.too_long);
  EXPECT_TRUE(expect_line(reader).too_long);
  expect_end(reader);
}

TEST(ShellLineReader, ALineMayBeLongerThanItsBuffer) {
  Pipe pipe;
  LineReader reader{pipe.reader.get(), 1 << 20};
  const std::string text(300'000, 'x');
  std::jthread writer{[&] {
    pipe.write(text + "\nend\n");
    pipe.writer.reset();
  }};
  EXPECT_EQ(expect_line(reader).text, text);
  EXPECT_EQ(expect_line(reader).text, "end");
  expect_end(reader);
}

TEST(ShellLineReader, SaysWhatIsWrongWithTheDescriptor) {
  LineReader reader{-1, 100};
  const auto line = reader.next();
  ASSERT_FALSE(line);
  EXPECT_EQ(line.error().code, ErrorCode::kUnavailable);
}

// --- answers

TEST(ShellAnswers, AgeBoundsAreRoundedUp) {
  const auto age_of = [](Duration age) {
    const ReadResult result = Value{std::make_shared<const std::string>("v"), Tier::kL2, 7, age};
    return read_answer("get", "k", result)["age_bound_ms"].get<std::int64_t>();
  };
  EXPECT_EQ(age_of(Duration{0}), 0);
  EXPECT_EQ(age_of(Duration{1}), 1);
  EXPECT_EQ(age_of(milliseconds{12}), 12);
  EXPECT_EQ(age_of(milliseconds{12} + Duration{1}), 13);
}

TEST(ShellAnswers, AreAsDocumented) {
  const ReadResult found =
      Value{std::make_shared<const std::string>("v"), Tier::kL1, 123, milliseconds{12}};
  EXPECT_EQ(to_line(read_answer("get", "k", found)),
            R"({"op":"get","key":"k","found":true,"value":"v","tier":"l1","version":"123",)"
            R"("age_bound_ms":12})"
            "\n");
  EXPECT_EQ(to_line(read_answer("get", "k", unavailable("…"))),
            R"({"op":"get","key":"k","error":"unavailable","message":"…"})"
            "\n");
  EXPECT_EQ(to_line(write_answer("set", "k", Written{.version = 124})),
            R"({"op":"set","key":"k","ok":true,"version":"124"})"
            "\n");
  EXPECT_EQ(to_line(lease_answer({.held = true,
                                  .remaining = milliseconds{430},
                                  .epoch = "e",
                                  .master = "127.0.0.1:7001",
                                  .mode = LeaseMode::kRedis,
                                  .witness = WitnessMode::kReplicas,
                                  .why = {}})),
            R"({"op":"lease","held":true,"remaining_ms":430,"epoch":"e",)"
            R"("master":"127.0.0.1:7001","mode":"redis","witness":"replicas"})"
            "\n");
}

TEST(ShellAnswers, NameTheEndpointAndAreValidUtf8) {
  const std::string line = to_line(error_answer("get", unavailable("odd \xff byte", "h:1")));
  EXPECT_TRUE(Json::accept(line)) << line;
  EXPECT_THAT(line, HasSubstr("odd \xef\xbf\xbd byte (h:1)"));
  EXPECT_THAT(line, Not(HasSubstr("\xff")));
}

TEST(ShellRun, EndsWhenItsOutputDoes) {
  auto cache = Cache::open({});
  ASSERT_TRUE(cache) << cache.error().message;
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> full{std::fopen("/dev/full", "w"),
                                                             std::fclose};
  ASSERT_NE(full, nullptr);
  Pipe pipe;
  pipe.write("lease\nlease\n");
  LineReader reader{pipe.reader.get(), kLineBytesMax};
  const auto done = run(**cache, reader, full.get());
  ASSERT_FALSE(done);
  EXPECT_THAT(done.error().message, HasSubstr("the answer cannot be written"));
}

}  // namespace
}  // namespace tiercel::shell
