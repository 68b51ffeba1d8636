// The parser at every split of a corpus, against replies made at random, and at its bounds.

#include "resp_parser.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/random.h"

namespace tiercel::l2 {
namespace {

using namespace std::string_view_literals;

bool same(const Reply& a, const Reply& b) {  // NOLINT(misc-no-recursion)
  if (a.kind != b.kind || a.integer != b.integer || a.text != b.text) return false;
  if (a.elements.size() != b.elements.size()) return false;
  for (std::size_t i = 0; i < a.elements.size(); ++i) {
    if (!same(a.elements[i], b.elements[i])) return false;
  }
  return true;
}

// A reply and its bytes.
Reply random_reply(Random& random, int depth, std::string& wire) {  // NOLINT(misc-no-recursion)
  Reply reply;
  const auto text = [&](std::uint64_t length_max, bool any_byte) {
    std::string bytes;
    for (std::uint64_t i = random.below(length_max); i > 0; --i) {
      const char byte = static_cast<char>(random.below(256));
      bytes += any_byte || (byte != '\r' && byte != '\n') ? byte : ' ';
    }
    return bytes;
  };
  switch (random.below(depth < 7 ? 7 : 5)) {
    case 0: wire += random.below(2) == 0 ? "$-1\r\n" : "*-1\r\n"; break;
    case 1:
      reply.kind = Reply::Kind::kStatus;
      reply.text = text(20, false);
      wire += "+" + reply.text + "\r\n";
      break;
    case 2:
      reply.kind = Reply::Kind::kError;
      reply.text = text(20, false);
      wire += "-" + reply.text + "\r\n";
      break;
    case 3: {
      reply.kind = Reply::Kind::kInteger;
      const std::uint64_t bits = random.below(65);
      const std::uint64_t value = random.below(~std::uint64_t{0});
      reply.integer = bits == 0 ? 0 : static_cast<std::int64_t>(value >> (bits - 1));
      wire += ":" + std::to_string(reply.integer) + "\r\n";
      break;
    }
    case 4:
      reply.kind = Reply::Kind::kString;
      reply.text = text(random.below(20) == 0 ? 40'000 : 50, true);
      wire += "$" + std::to_string(reply.text.size()) + "\r\n" + reply.text + "\r\n";
      break;
    default:
      reply.kind = Reply::Kind::kArray;
      const std::uint64_t elements = random.below(6);
      wire += "*" + std::to_string(elements) + "\r\n";
      for (std::uint64_t i = 0; i < elements; ++i) {
        reply.elements.push_back(random_reply(random, depth + 1, wire));
      }
  }
  return reply;
}

// As a socket does it: at most so many bytes at a time into the parser's own room.
void fill(RespParser& parser, std::string_view& bytes, std::size_t bytes_max) {
  const std::span<char> room = parser.room();
  ASSERT_GE(room.size(), RespParser::kReadBytes);
  const std::size_t taken = std::min({room.size(), bytes.size(), bytes_max});
  std::memcpy(room.data(), bytes.data(), taken);
  parser.filled(taken);
  bytes.remove_prefix(taken);
}

void expect_all(const std::vector<Reply>& expected, std::string_view bytes, Random& random,
                std::size_t piece_max) {
  RespParser parser;
  std::size_t next = 0;
  while (!bytes.empty()) {
    ASSERT_NO_FATAL_FAILURE(fill(parser, bytes, 1 + random.below(piece_max)));
    RespParser::Outcome outcome = RespParser::Outcome::kMore;
    while ((outcome = parser.parse()) == RespParser::Outcome::kReply) {
      ASSERT_LT(next, expected.size());
      ASSERT_TRUE(same(parser.view().to_reply(), expected[next])) << "reply " << next;
      ++next;
    }
    ASSERT_EQ(outcome, RespParser::Outcome::kMore) << parser.error().to_string();
  }
  EXPECT_EQ(next, expected.size());
}

TEST(RespParserStream, ReadsRandomRepliesInRandomPieces) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE(seed);
    Random random{seed};
    std::string wire;
    std::vector<Reply> replies;
    for (int i = 0; i < 60; ++i) replies.push_back(random_reply(random, 0, wire));
    for (const std::size_t piece_max : {std::size_t{1}, std::size_t{3}, std::size_t{100},
                                        std::size_t{20'000}, std::size_t{70'000}}) {
      expect_all(replies, wire, random, piece_max);
      if (HasFatalFailure()) return;
    }
  }
}

constexpr std::string_view kCorpus =
    "+OK\r\n-ERR a\rb\r\n:-9223372036854775808\r\n:9223372036854775807\r\n:0\r\n$-1\r\n*-1\r\n"
    "$12\r\n\r\n$3\r\nab\r\n*2\r\n$0\r\n\r\n*0\r\n*3\r\n*2\r\n:1\r\n*1\r\n$1\r\nx\r\n$-1\r\n+\r\n"sv;

TEST(RespParserStream, ReadsACorpusAtEverySplit) {
  RespParser whole;
  ASSERT_TRUE(whole.feed(kCorpus));
  std::vector<Reply> expected;
  while (true) {
    auto reply = whole.next();
    ASSERT_TRUE(reply) << reply.error().to_string();
    if (!reply->has_value()) break;
    expected.push_back(std::move(**reply));
  }
  ASSERT_EQ(expected.size(), 11u);
  EXPECT_EQ(expected[1].text, "ERR a\rb");
  EXPECT_EQ(expected[2].integer, std::numeric_limits<std::int64_t>::min());
  EXPECT_EQ(expected[3].integer, std::numeric_limits<std::int64_t>::max());
  for (std::size_t first = 0; first <= kCorpus.size(); ++first) {
    for (std::size_t second = first; second <= kCorpus.size(); ++second) {
      RespParser parser;
      std::size_t next = 0;
      for (const std::string_view piece :
           {kCorpus.substr(0, first), kCorpus.substr(first, second - first),
            kCorpus.substr(second)}) {
        ASSERT_TRUE(parser.feed(piece));
        while (parser.parse() == RespParser::Outcome::kReply) {
          ASSERT_LT(next, expected.size());
          ASSERT_TRUE(same(parser.view().to_reply(), expected[next])) << first << " " << second;
          ++next;
        }
      }
      ASSERT_EQ(next, expected.size()) << first << " " << second;
    }
  }
}

TEST(RespParserStream, AViewShowsTheReplyInPlace) {
  RespParser parser;
  ASSERT_TRUE(parser.feed("*3\r\n$1\r\na\r\n*2\r\n:7\r\n$2\r\nbc\r\n+d\r\n"));
  ASSERT_EQ(parser.parse(), RespParser::Outcome::kReply);
  const ReplyView view = parser.view();
  ASSERT_EQ(view.size(), 3u);
  EXPECT_EQ(view[0].text(), "a");
  EXPECT_EQ(view[0].size(), 0u);
  EXPECT_EQ(view[0].begin(), view[0].end());
  EXPECT_EQ(view[1][0].integer(), 7);
  EXPECT_EQ(view[1][1].text(), "bc");
  EXPECT_EQ(view[2].text(), "d");  // Behind an element with elements of its own.
  EXPECT_EQ(view[2].integer(), 0);
  std::size_t count = 0;
  for (const ReplyView element : view) count += element.is_array() ? 10 : 1;
  EXPECT_EQ(count, 12u);
}

RespParser::Outcome outcome_of(std::string_view bytes, std::string* why = nullptr) {
  RespParser parser;
  EXPECT_TRUE(parser.feed(bytes));
  RespParser::Outcome outcome = RespParser::Outcome::kReply;
  while ((outcome = parser.parse()) == RespParser::Outcome::kReply) {
  }
  if (outcome == RespParser::Outcome::kError && why != nullptr) *why = parser.error().message;
  return outcome;
}

TEST(RespParserStream, RefusesWhatRedisNeverSends) {
  for (const std::string_view bytes :
       {":\r\n"sv, ":-\r\n"sv, ":-0\r\n"sv, ":01\r\n"sv, ":+1\r\n"sv, ":1 \r\n"sv, ":1\rx"sv,
        ":9223372036854775808\r\n"sv, ":-9223372036854775809\r\n"sv, ":99999999999999999999"sv,
        "$1\r\nab\r\n"sv, "$1\r\na\rx"sv, "$-2\r\n"sv, "$1073741825\r\n"sv, "*2147483648\r\n"sv,
        "*-2\r\n"sv, "\r\n"sv, "%1\r\n"sv, "*1\r\nx"sv}) {
    EXPECT_EQ(outcome_of(bytes), RespParser::Outcome::kError) << bytes;
  }
}

TEST(RespParserStream, NestsAsDeepAsItsBoundAndNoDeeper) {
  std::string deep;
  for (std::size_t i = 0; i < RespParser::kArraysOpenMax; ++i) deep += "*1\r\n";
  EXPECT_EQ(outcome_of(deep + ":1\r\n"), RespParser::Outcome::kMore);
  std::string why;
  EXPECT_EQ(outcome_of(deep + "*1\r\n:1\r\n", &why), RespParser::Outcome::kError);
  EXPECT_NE(why.find("nested"), std::string::npos);
}

TEST(RespParserStream, BoundsTheLineTheBytesAndTheParts) {
  std::string why;
  const std::string line(RespParser::kLineBytesMax, 'x');
  EXPECT_EQ(outcome_of("+" + line + "\r\n"), RespParser::Outcome::kMore);
  EXPECT_EQ(outcome_of("+" + line + "x\r\n", &why), RespParser::Outcome::kError);
  EXPECT_NE(why.find("line"), std::string::npos);
  // Announced is enough: two strings that together are too long.
  const std::string half = std::to_string(RespParser::kReplyBytesMax);
  EXPECT_EQ(outcome_of("*2\r\n:1\r\n$" + half + "\r\n", &why), RespParser::Outcome::kError);
  EXPECT_NE(why.find("longer"), std::string::npos);
  std::string parts = "*2147483647\r\n";
  for (std::size_t i = 0; i < RespParser::kReplyPartsMax; ++i) parts += ":1\r\n";
  EXPECT_EQ(outcome_of(parts, &why), RespParser::Outcome::kError);
  EXPECT_NE(why.find("parts"), std::string::npos);
}

TEST(RespParserStream, AnnouncedSizesMakeNoRoom) {
  RespParser parser;
  ASSERT_TRUE(parser.feed("$536870912\r\nabc"));
  EXPECT_EQ(parser.parse(), RespParser::Outcome::kMore);
  EXPECT_EQ(parser.room().size(), RespParser::kLargeReadBytes);
}

}  // namespace
}  // namespace tiercel::l2
