// What needs no socket: SHA-1, requests, the parser and the handshake.

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "handshake.h"
#include "host.h"
#include "resp_format.h"
#include "resp_parser.h"
#include "sha1.h"
#include "tiercel/base/random.h"
#include "tiercel/l2/command.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using namespace std::string_view_literals;

TEST(Sha1, MatchesTheVectorsOfRfc3174) {
  EXPECT_EQ(sha1_hex("abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
  EXPECT_EQ(sha1_hex("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "84983e441c3bd26ebaae4aa1f95129e5e54670f1");
  EXPECT_EQ(sha1_hex(std::string(1'000'000, 'a')), "34aa973cd4c4daa4f61eeb2bdbad27316534016f");
  std::string repeated;
  for (int i = 0; i < 80; ++i) repeated += "01234567";
  EXPECT_EQ(sha1_hex(repeated), "dea356a2cddd90c7a7ecedc5ebb563934f460452");
  EXPECT_EQ(sha1_hex(""), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

TEST(Sha1, PadsEveryLengthAroundABlock) {
  // `printf 'a%.0s' {1..N} | sha1sum`
  EXPECT_EQ(sha1_hex(std::string(55, 'a')), "c1c8bbdc22796e28c0e15163d20899b65621d65a");
  EXPECT_EQ(sha1_hex(std::string(56, 'a')), "c2db330f6083854c99d4b5bfb6e8f29f201be699");
  EXPECT_EQ(sha1_hex(std::string(63, 'a')), "03f09f5b158a7a8cdad920bddc29b81c18a551f5");
  EXPECT_EQ(sha1_hex(std::string(64, 'a')), "0098ba824b5c16427bd7a1122a5a442a25ec644d");
  EXPECT_EQ(sha1_hex(std::string(65, 'a')), "11655326c708d70319be2610e8a57d9a5b959d3b");
}

TEST(Command, IsAnArrayOfBulkStrings) {
  const Command command{Retry::kSafe, {"SET", "k\r\n\0x"sv, ""}};
  EXPECT_EQ(command.wire(), "*3\r\n$3\r\nSET\r\n$5\r\nk\r\n\0x\r\n$0\r\n\r\n"sv);
  EXPECT_EQ(command.retry(), Retry::kSafe);

  const std::vector<std::string_view> words{"GET", "k"};
  EXPECT_EQ((Command{Retry::kIfNotSent, words}.wire()), "*2\r\n$3\r\nGET\r\n$1\r\nk\r\n");
}

TEST(Command, ReservesExactly) {
  for (const std::size_t length : {0u, 1u, 9u, 10u, 99u, 100u, 12345u}) {
    const std::string word(length, 'x');
    std::vector<std::string_view> words(length % 120 + 1, word);
    std::string out;
    append_request(out, words);
    EXPECT_EQ(out.size(), request_bytes(words)) << length;
  }
}

std::vector<Reply> parse_all(RespParser& parser) {
  std::vector<Reply> replies;
  while (true) {
    auto reply = parser.next();
    EXPECT_TRUE(reply) << reply.error().to_string();
    if (!reply || !reply->has_value()) return replies;
    replies.push_back(std::move(**reply));
  }
}

constexpr std::string_view kMixed =
    "+OK\r\n-ERR no\r\n:-42\r\n$-1\r\n*-1\r\n$5\r\na\r\n\0b\r\n$0\r\n\r\n*0\r\n"
    "*3\r\n$1\r\nx\r\n*2\r\n:1\r\n*1\r\n+deep\r\n$2\r\nyz\r\n"sv;

void expect_mixed(const std::vector<Reply>& replies) {
  ASSERT_EQ(replies.size(), 9u);
  EXPECT_EQ(replies[0].kind, Reply::Kind::kStatus);
  EXPECT_EQ(replies[0].text, "OK");
  EXPECT_TRUE(replies[1].is_error("ERR"));
  EXPECT_FALSE(replies[1].is_error("ER"));
  EXPECT_EQ(replies[2].integer, -42);
  EXPECT_TRUE(replies[3].is_nil());
  EXPECT_TRUE(replies[4].is_nil());
  EXPECT_EQ(replies[5].text, "a\r\n\0b"sv);
  EXPECT_TRUE(replies[6].is_string());
  EXPECT_TRUE(replies[6].text.empty());
  EXPECT_TRUE(replies[7].is_array());
  EXPECT_TRUE(replies[7].elements.empty());
  ASSERT_EQ(replies[8].elements.size(), 3u);
  EXPECT_EQ(replies[8].elements[0].text, "x");
  EXPECT_EQ(replies[8].elements[1].elements[0].integer, 1);
  EXPECT_EQ(replies[8].elements[1].elements[1].elements[0].text, "deep");
  EXPECT_EQ(replies[8].elements[2].text, "yz");
}

TEST(RespParser, ReadsEveryKindAtOnce) {
  RespParser parser;
  ASSERT_TRUE(parser.feed(kMixed));
  expect_mixed(parse_all(parser));
}

TEST(RespParser, ReadsByteByByte) {
  RespParser parser;
  std::vector<Reply> replies;
  for (const char byte : kMixed) {
    ASSERT_TRUE(parser.feed({&byte, 1}));
    for (Reply& reply : parse_all(parser)) replies.push_back(std::move(reply));
  }
  expect_mixed(replies);
}

TEST(RespParser, ReadsManyElementsAndLargeStrings) {
  RespParser parser;
  std::string bytes = "*5000\r\n";
  for (int i = 0; i < 5000; ++i) bytes += "*2\r\n:" + std::to_string(i) + "\r\n$1\r\nv\r\n";
  const std::string large(3'000'000, 'L');
  bytes += "$3000000\r\n" + large + "\r\n";
  for (std::size_t at = 0; at < bytes.size(); at += 16384) {
    ASSERT_TRUE(parser.feed(std::string_view{bytes}.substr(at, 16384)));
  }
  const auto replies = parse_all(parser);
  ASSERT_EQ(replies.size(), 2u);
  ASSERT_EQ(replies[0].elements.size(), 5000u);
  EXPECT_EQ(replies[0].elements[4999].elements[0].integer, 4999);
  EXPECT_EQ(replies[1].text, large);
}

TEST(RespParser, RefusesGarbageAndStaysRefusing) {
  for (const std::string_view garbage :
       {"HTTP/1.1 200 OK\r\n"sv, "\0\0\0\0"sv, ":12a\r\n"sv, "$-2\r\n"sv, "*-2\r\n"sv, "$x\r\n"sv,
        "*99999999999\r\n"sv, "$0000000000000000000000000000000000000000"sv,
        "*2\r\n$1\r\na\r\n!"sv}) {
    RespParser parser;
    ASSERT_TRUE(parser.feed(garbage));
    auto reply = parser.next();
    ASSERT_FALSE(reply) << garbage;
    EXPECT_EQ(reply.error().code, ErrorCode::kProtocol);
    EXPECT_FALSE(parser.feed("+OK\r\n"));
    EXPECT_FALSE(parser.next());
  }
}

TEST(RespParser, BoundsALineWithoutEnd) {
  RespParser parser;
  const std::string piece(64 * 1024, 'x');
  ASSERT_TRUE(parser.feed("+"));
  bool refused = false;
  for (std::size_t fed = 0; fed < 2 * RespParser::kLineBytesMax && !refused; fed += piece.size()) {
    ASSERT_TRUE(parser.feed(piece));
    refused = !parser.next();
  }
  EXPECT_TRUE(refused);
}

TEST(RespParser, AnnouncedSizesCostNothing) {
  // Neither may be reserved before it comes.
  RespParser parser;
  ASSERT_TRUE(parser.feed("*2147483647\r\n$536870912\r\nabc"));
  auto reply = parser.next();
  ASSERT_TRUE(reply);
  EXPECT_FALSE(reply->has_value());
}

TEST(RespParser, SurvivesRandomBytes) {
  Random random{7};
  constexpr std::string_view kAlphabet = "*$+-:0123456789\r\n\r\n\r\nab";
  for (int round = 0; round < 20'000; ++round) {
    RespParser parser;
    std::string bytes;
    for (std::uint64_t i = random.below(40); i > 0; --i) {
      bytes += kAlphabet[random.below(kAlphabet.size())];
    }
    if (!parser.feed(bytes)) continue;
    for (int i = 0; i < 50; ++i) {
      auto reply = parser.next();
      if (!reply || !reply->has_value()) break;
    }
  }
}

Reply status(std::string text) { return {Reply::Kind::kStatus, 0, std::move(text), {}}; }
Reply error(std::string text) { return {Reply::Kind::kError, 0, std::move(text), {}}; }
Reply string(std::string text) { return {Reply::Kind::kString, 0, std::move(text), {}}; }
Reply array(std::vector<Reply> elements) {
  return {Reply::Kind::kArray, 0, {}, std::move(elements)};
}

RedisOptions secret_options() {
  RedisOptions options;
  options.server = Endpoint{"h", 1, {}};
  options.credentials = {"app", "hunter2"};
  options.database = 3;
  return options;
}

TEST(Handshake, AsksAllAtOnceAndReadsTheIdentity) {
  const RedisOptions options = secret_options();
  Handshake handshake{options, options.server, "tiercel-data"};
  std::string expected;
  append_request(expected, {"AUTH", "app", "hunter2"});
  append_request(expected, {"SELECT", "3"});
  append_request(expected, {"CLIENT", "SETNAME", "tiercel-data"});
  append_request(expected, {"ROLE"});
  append_request(expected, {"INFO", "server"});
  append_request(expected, {"INFO", "replication"});
  EXPECT_EQ(handshake.wire(), expected);

  using Outcome = Handshake::Outcome;
  EXPECT_EQ(handshake.feed(status("OK")), Outcome::kMore);
  EXPECT_EQ(handshake.feed(status("OK")), Outcome::kMore);
  EXPECT_EQ(handshake.feed(error("ERR unknown subcommand")), Outcome::kMore);  // Only a name.
  EXPECT_EQ(handshake.feed(array({string("master")})), Outcome::kMore);
  EXPECT_EQ(handshake.feed(string("# Server\r\nold_run_id:x\r\nrun_id:abc\r\nx:y\r\n")),
            Outcome::kMore);
  EXPECT_EQ(handshake.feed(string("role:master\r\nmaster_replid:def\r\nmaster_replid2:000\r\n")),
            Outcome::kMaster);
  EXPECT_EQ(handshake.identity(), (ServerIdentity{options.server, "abc", "def"}));
}

struct Refusal {
  int replies_before;  // Ordinary ones.
  const char* text;
  Handshake::Outcome outcome;
  const char* said;
};

TEST(Handshake, ExplainsRefusalsWithoutThePassword) {
  using Outcome = Handshake::Outcome;
  const RedisOptions options = secret_options();
  for (const Refusal& refusal : {
           Refusal{0, "WRONGPASS invalid username-password pair or user is disabled.",
                   Outcome::kRefused, "user 'app'"},
           Refusal{0,
                   "ERR AUTH <password> called without any password configured for the default "
                   "user.",
                   Outcome::kRefused, "remove ours"},
           Refusal{0, "ERR unknown command 'AUTH', with args beginning with: 'app' 'hunter2'",
                   Outcome::kRefused, "withheld"},
           Refusal{0, "ERR max number of clients reached", Outcome::kFailed, "max number"},
           Refusal{0, "LOADING Redis is loading", Outcome::kFailed, "LOADING"},
           Refusal{0, "DENIED Redis is running in protected mode", Outcome::kRefused, "protected"},
           Refusal{1, "ERR DB index is out of range", Outcome::kRefused, "database 3"},
           Refusal{2, "NOAUTH Authentication required.", Outcome::kRefused, "wants a password"},
           Refusal{3, "NOPERM this user has no permissions to run the 'role' command",
                   Outcome::kRefused, "+role"},
           Refusal{3, "BUSY Redis is busy running a script.", Outcome::kFailed, "BUSY"},
       }) {
    Handshake handshake{options, options.server, "tiercel-data"};
    for (int i = 0; i < refusal.replies_before; ++i) {
      ASSERT_EQ(handshake.feed(status("OK")), Outcome::kMore);
    }
    EXPECT_EQ(handshake.feed(error(refusal.text)), refusal.outcome) << refusal.text;
    const std::string text = handshake.error().to_string();
    EXPECT_NE(text.find(refusal.said), std::string::npos) << text;
    EXPECT_NE(text.find("h:1"), std::string::npos) << text;
    EXPECT_EQ(text.find("hunter2"), std::string::npos) << text;
    EXPECT_EQ(handshake.error().code, refusal.outcome == Outcome::kRefused
                                          ? ErrorCode::kInvalidArgument
                                          : ErrorCode::kUnavailable);
  }
}

TEST(Handshake, WithholdsAPasswordThatTheServerCutsOff) {
  RedisOptions options = secret_options();
  options.credentials.password = "hunter2-" + std::string(200, 'x');
  Handshake handshake{options, options.server, "n"};
  EXPECT_EQ(handshake.feed(error("ERR unknown command 'AUTH', with args beginning with: 'app' '" +
                                 options.credentials.password.substr(0, 128) + "'")),
            Handshake::Outcome::kRefused);
  EXPECT_EQ(handshake.error().message.find("hunter2"), std::string::npos);
}

TEST(Handshake, TellsReplicasAndSentinelsFromMasters) {
  using Outcome = Handshake::Outcome;
  RedisOptions options;
  options.server = Endpoint{"h", 1, {}};
  Handshake replica{options, options.server, "n"};
  EXPECT_EQ(replica.feed(status("OK")), Outcome::kMore);
  Reply port;
  port.kind = Reply::Kind::kInteger;
  port.integer = 7001;
  EXPECT_EQ(replica.feed(array({string("slave"), string("10.0.0.9"), port})), Outcome::kNotMaster);
  EXPECT_NE(replica.error().message.find("10.0.0.9:7001"), std::string::npos);

  Handshake sentinel{options, options.server, "n"};
  EXPECT_EQ(sentinel.feed(status("OK")), Outcome::kMore);
  EXPECT_EQ(sentinel.feed(array({string("sentinel"), array({})})), Outcome::kRefused);
  EXPECT_NE(sentinel.error().message.find("redis+sentinel"), std::string::npos);

  Handshake other{options, options.server, "n"};
  EXPECT_EQ(other.feed(status("OK")), Outcome::kMore);
  EXPECT_EQ(other.feed(string("master")), Outcome::kFailed);
}

TEST(Backoff, GrowsToItsBoundAndStaysRandom) {
  Random random{1};
  Backoff backoff{20ms, 1000ms};
  Duration ceiling = 20ms;
  for (int i = 0; i < 50; ++i) {
    const Duration wait = backoff.next(random);
    EXPECT_GE(wait.count(), 0);
    EXPECT_LT(wait, ceiling);
    ceiling = std::min<Duration>(ceiling * 2, 1000ms);
  }
  Duration longest{};
  for (int i = 0; i < 200; ++i) longest = std::max(longest, backoff.next(random));
  EXPECT_GT(longest, 500ms);
  backoff.reset();
  EXPECT_LT(backoff.next(random), 20ms);
}

}  // namespace
}  // namespace tiercel::l2
