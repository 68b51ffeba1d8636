#include "tiercel/base/bytes.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>
#include <string_view>

#include "tiercel/base/random.h"

namespace tiercel {
namespace {

using namespace std::string_literals;

std::string random_bytes(Random& random, std::size_t length_max) {
  std::string bytes(random.below(length_max + 1), '\0');
  // Half of them printable, so that both forms of a word come up at every length.
  const bool printable = random.below(2) == 0;
  for (auto& byte : bytes) {
    byte = static_cast<char>(printable ? '!' + random.below(0x7f - '!') : random.below(256));
  }
  if (random.below(8) == 0) bytes.insert(0, "hex:");
  return bytes;
}

TEST(EscapeBytes, LeavesPrintableWordsAlone) {
  EXPECT_EQ(escape_bytes("player:42"), "player:42");
  EXPECT_EQ(escape_bytes("~!@#$%^&*()_+{}|<>?[];,./=-`"), "~!@#$%^&*()_+{}|<>?[];,./=-`");
  EXPECT_EQ(escape_bytes("hex"), "hex");
  EXPECT_EQ(escape_bytes("xhex:61"), "xhex:61");
}

TEST(EscapeBytes, WritesTheRestInHex) {
  EXPECT_EQ(escape_bytes(""), "hex:");
  EXPECT_EQ(escape_bytes(" "), "hex:20");
  EXPECT_EQ(escape_bytes("a b"), "hex:612062");
  EXPECT_EQ(escape_bytes("\""), "hex:22");
  EXPECT_EQ(escape_bytes("'"), "hex:27");
  EXPECT_EQ(escape_bytes("a\\b"), "a\\b") << "printable, and no quote";
  EXPECT_EQ(escape_bytes("\x7f"), "hex:7f");
  EXPECT_EQ(escape_bytes("\0"s), "hex:00");
  EXPECT_EQ(escape_bytes("\xff\x80\n"), "hex:ff800a");
  EXPECT_EQ(escape_bytes("hex:61"), "hex:6865783a3631") << "or it would come back as 'a'";
  EXPECT_EQ(escape_bytes("hex:"), "hex:6865783a");
}

TEST(EscapeBytes, IsAWordOfPrintableCharactersForEachByte) {
  for (int byte = 0; byte < 256; ++byte) {
    const std::string one(1, static_cast<char>(byte));
    const std::string word = escape_bytes(one);
    EXPECT_TRUE(std::ranges::all_of(word, [](char c) { return c > ' ' && c < 0x7f; })) << byte;
    EXPECT_EQ(unescape_bytes(word).value_or("refused"), one) << byte;
  }
}

TEST(EscapeBytes, UnescapeIsItsInverse) {
  Random random{1};
  for (int i = 0; i < 20000; ++i) {
    const std::string bytes = random_bytes(random, 40);
    const auto back = unescape_bytes(escape_bytes(bytes));
    ASSERT_TRUE(back) << back.error().to_string();
    ASSERT_EQ(*back, bytes) << escape_bytes(bytes);
  }
}

TEST(UnescapeBytes, ReadsUpperCaseDigitsToo) {
  EXPECT_EQ(unescape_bytes("hex:FfAa").value_or(""), "\xff\xaa");
  EXPECT_EQ(unescape_bytes("hex:").value_or("refused"), "");
}

TEST(UnescapeBytes, RefusesWhatIsNoHex) {
  for (const char* word : {"hex:1", "hex:abc", "hex:0g", "hex:g0", "hex:0x", "hex: 1", "hex:+1",
                           "hex:-1", "hex:\xc3\xa9", "hex:61 62"}) {
    const auto bytes = unescape_bytes(word);
    ASSERT_FALSE(bytes) << word;
    EXPECT_EQ(bytes.error().code, ErrorCode::kInvalidArgument) << word;
  }
  EXPECT_FALSE(unescape_bytes("hex:\0\0"s));
  EXPECT_NE(unescape_bytes("hex:1").error().message.find("odd number"), std::string::npos);
  EXPECT_NE(unescape_bytes("hex:zz").error().message.find("not a hex digit"), std::string::npos);
}

TEST(UnescapeBytes, AnErrorStaysShortHoweverLongTheWord) {
  const auto bytes = unescape_bytes("hex:" + std::string(1 << 20, 'z'));
  ASSERT_FALSE(bytes);
  EXPECT_LT(bytes.error().message.size(), 300U);
}

TEST(BytesForMessage, CutsWhatIsTooLong) {
  EXPECT_EQ(bytes_for_message("short"), "short");
  EXPECT_EQ(bytes_for_message("abcdef", 6), "abcdef");
  EXPECT_EQ(bytes_for_message("abcdefg", 6), "abcdef…");
  EXPECT_EQ(bytes_for_message("abcdefghijk", 6), "abcdef…");
  EXPECT_EQ(bytes_for_message("\n\n", 8), "hex:0a0a");
  EXPECT_EQ(bytes_for_message("\n\n\n", 8), "hex:0a0a…");
  EXPECT_EQ(bytes_for_message("abc", 0), "…");
  EXPECT_EQ(bytes_for_message("", 4), "hex:");
  EXPECT_EQ(bytes_for_message(std::string(1 << 20, '\0')).size(), 80 + std::string{"…"}.size());
}

TEST(BytesForMessage, TakesAnyLength) {
  EXPECT_EQ(bytes_for_message("abc", std::numeric_limits<std::size_t>::max()), "abc");
}

TEST(U64, IsBigEndian) {
  std::string out = "x";
  append_u64_be(out, 0x0102030405060708U);
  EXPECT_EQ(out, "x\x01\x02\x03\x04\x05\x06\x07\x08");
  EXPECT_EQ(read_u64_be(out.data() + 1), 0x0102030405060708U);
}

TEST(U64, ComesBackAsItWasAndSortsAsBytes) {
  Random random{2};
  for (int i = 0; i < 10000; ++i) {
    const std::uint64_t a = random.next() >> random.below(64);
    const std::uint64_t b = random.next() >> random.below(64);
    std::string bytes_a;
    std::string bytes_b;
    append_u64_be(bytes_a, a);
    append_u64_be(bytes_b, b);
    ASSERT_EQ(bytes_a.size(), 8U);
    ASSERT_EQ(read_u64_be(bytes_a.data()), a);
    ASSERT_EQ(bytes_a < bytes_b, a < b);
  }
}

TEST(ParseU64, ReadsDecimalDigits) {
  EXPECT_EQ(parse_u64("0").value_or(1), 0U);
  EXPECT_EQ(parse_u64("007").value_or(1), 7U);
  EXPECT_EQ(parse_u64("18446744073709551615").value_or(1), ~std::uint64_t{0});
}

TEST(ParseU64, RefusesTheRest) {
  for (const std::string& text :
       {""s, " "s, "-1"s, "-0"s, "+1"s, " 1"s, "1 "s, "1.0"s, "1e3"s, "0x10"s, "a"s, "1a"s,
        "18446744073709551616"s, "99999999999999999999999"s, "1\0"s, "\0"s}) {
    const auto number = parse_u64(text);
    ASSERT_FALSE(number) << escape_bytes(text);
    EXPECT_EQ(number.error().code, ErrorCode::kInvalidArgument);
  }
  EXPECT_FALSE(parse_u64(std::string_view{}));
}

}  // namespace
}  // namespace tiercel
