#include "tiercel/cache/key_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>
#include <set>
#include <string>
#include <vector>

#include "support/allocations.h"

struct PlayerId {
  std::string_view realm;
  std::uint64_t number;
};

// The example of the header: a user's type.
template <>
struct tiercel::KeyFormat<PlayerId> {
  static void write(KeyWriter& out, const PlayerId& id) {
    out.text(id.realm);
    out.separator();
    out.number(id.number);
  }
};

namespace tiercel {
namespace {

using ::testing::HasSubstr;

template <typename Id>
std::string key_of(const Id& id, std::string_view prefix = "") {
  std::array<char, 1024> buffer;
  const auto key = format_key(buffer, prefix, id);
  EXPECT_TRUE(key) << key.error().to_string();
  KeyBuffer room;
  EXPECT_EQ(room.format(prefix, id).value(), *key);
  return std::string{*key};
}

TEST(KeyFormatTest, ExampleOfTheHeader) {
  std::array<char, 128> buffer;
  const Result<std::string_view> key =
      format_key(buffer, "inventory:", std::pair{PlayerId{"eu", 7}, 3});
  ASSERT_TRUE(key);
  EXPECT_EQ(*key, "inventory:eu:7:3");
  EXPECT_EQ(key->data(), buffer.data());
}

TEST(KeyFormatTest, TextsAreAsTheyAre) {
  EXPECT_EQ(key_of(std::string{"Ann:%"}), "Ann:%");
  EXPECT_EQ(key_of(std::string_view{"Ann"}, "player:"), "player:Ann");
  const char* literal = "Ann";
  EXPECT_EQ(key_of(literal), "Ann");
  EXPECT_EQ(key_of(std::string{}), "");
  const std::string bytes{"\0\xff", 2};
  EXPECT_EQ(key_of(bytes, "a"), "a" + bytes);
}

TEST(KeyFormatTest, IntegersAreDecimal) {
  EXPECT_EQ(key_of(0), "0");
  EXPECT_EQ(key_of(-42), "-42");
  EXPECT_EQ(key_of(std::uint8_t{65}), "65");
  EXPECT_EQ(key_of(std::int8_t{-128}), "-128");
  EXPECT_EQ(key_of(std::numeric_limits<std::int64_t>::min()), "-9223372036854775808");
  EXPECT_EQ(key_of(std::numeric_limits<std::uint64_t>::max(), "id:"), "id:18446744073709551615");
}

TEST(KeyFormatTest, EnumsAreTheirNumbers) {
  enum class Side : std::uint8_t { kBuy = 65 };
  enum class Flag : bool { kYes = true };
  enum class Letter : char { kA = 'A' };
  enum Old { kOld = -3 };
  EXPECT_EQ(key_of(Side::kBuy), "65");
  EXPECT_EQ(key_of(Flag::kYes), "1");
  EXPECT_EQ(key_of(Letter::kA), "65");
  EXPECT_EQ(key_of(kOld), "-3");
}

TEST(KeyFormatTest, BytesAreHex) {
  const std::array<std::uint8_t, 16> uuid{0,    1,    0x10, 0xff, 0xab, 0xcd, 0xef, 0x12,
                                          0x34, 0x56, 0x78, 0x9a, 0xbc, 0xde, 0xf0, 0x0f};
  EXPECT_EQ(key_of(uuid, "session:"), "session:000110ffabcdef123456789abcdef00f");
  EXPECT_EQ(key_of(std::array<std::byte, 2>{std::byte{0x0a}, std::byte{0xa0}}), "0aa0");
}

TEST(KeyFormatTest, PartsOfPairsAndTuples) {
  EXPECT_EQ(key_of(std::pair{7, std::string{"sword"}}), "7:sword");
  EXPECT_EQ(key_of(std::tuple{1, -2, std::string_view{"x"}}, "t:"), "t:1:-2:x");
  EXPECT_EQ(key_of(std::tuple{1}), "1");
  EXPECT_EQ(key_of(std::pair{std::pair{1, 2}, std::tuple{3, PlayerId{"eu", 4}}}), "1:2:3:eu:4");
}

TEST(KeyFormatTest, DifferentIdsHaveDifferentKeys) {
  const std::vector<std::string> texts{
      "",   "a",  ":",  "%",  "a:", ":a",    "%3A",   "%25", "a:b",  "%3",
      "::", "%%", ":%", "%:", "3A", "%253A", "a%3Ab", "a%b", "%25:", "25"};
  std::set<std::string> keys;
  std::set<std::string> nested;
  std::set<std::string> players;
  for (const std::string& one : texts) {
    for (const std::string& other : texts) {
      EXPECT_TRUE(keys.insert(key_of(std::pair{one, other})).second) << one << " " << other;
      for (const std::string& third : texts) {
        const std::tuple id{std::pair{one, other}, third};
        EXPECT_TRUE(nested.insert(key_of(id)).second) << one << " " << other << " " << third;
      }
      const std::pair player{PlayerId{one, 1}, other};
      EXPECT_TRUE(players.insert(key_of(player)).second) << one << " " << other;
    }
  }
  EXPECT_EQ(key_of(std::pair{std::string{"a:b"}, std::string{"50%"}}), "a%3Ab:50%25");
  EXPECT_EQ(key_of(PlayerId{"a:b", 1}), "a%3Ab:1");
}

TEST(KeyFormatTest, OnlyWhatHasAFormat) {
  struct Unknown {};
  static_assert(KeyFormattable<std::string> && KeyFormattable<long> && KeyFormattable<PlayerId>);
  static_assert(!KeyFormattable<bool> && !KeyFormattable<char> && !KeyFormattable<wchar_t> &&
                !KeyFormattable<char8_t> && !KeyFormattable<double>);
  static_assert(!KeyFormattable<Unknown> && !KeyFormattable<std::pair<int, Unknown>>);
  static_assert(!KeyFormattable<std::tuple<>> && !KeyFormattable<std::array<std::byte, 0>> &&
                !KeyFormattable<std::array<int, 4>> && !KeyFormattable<int*>);
}

TEST(KeyFormatTest, NothingIsAllocated) {
  std::array<char, 1024> buffer;
  KeyBuffer room;
  const std::tuple id{std::string(60, ':'), PlayerId{"eu", 7}, std::array<std::uint8_t, 16>{}};
  const std::uint64_t before = testing::allocations();
  EXPECT_TRUE(format_key(buffer, "prefix:", id));
  EXPECT_TRUE(room.format("prefix:", id));
  EXPECT_EQ(testing::allocations(), before);
  const std::string longer(KeyBuffer::kInlineBytes + 1, 'k');
  const std::uint64_t between = testing::allocations();
  EXPECT_TRUE(room.format("", longer));
  EXPECT_EQ(testing::allocations(), between + 1);
}

// Every buffer from nothing to more than enough; guards stand around it.
TEST(KeyFormatTest, NothingIsWrittenBeyondTheBuffer) {
  const std::tuple id{std::string{"a:b"}, -42, std::array<std::uint8_t, 2>{1, 2}};
  const std::string whole = key_of(id, "prefix:");
  EXPECT_EQ(whole, "prefix:a%3Ab:-42:0102");
  for (std::size_t room = 0; room < whole.size() + 3; ++room) {
    std::string memory(room + 20, '#');
    const auto key = format_key(std::span{memory}.subspan(10, room), "prefix:", id);
    EXPECT_EQ(memory.substr(0, 10), std::string(10, '#'));
    EXPECT_EQ(memory.substr(10 + room), std::string(10, '#'));
    ASSERT_EQ(key.has_value(), room >= whole.size()) << room;
    if (key) {
      EXPECT_EQ(*key, whole);
    } else {
      EXPECT_EQ(key.error().code, ErrorCode::kOverloaded);
      EXPECT_THAT(key.error().message,
                  HasSubstr("21 bytes; the buffer has " + std::to_string(room)));
    }
  }
}

TEST(KeyFormatTest, KeysUpToTheLimit) {
  std::vector<char> large(kKeyBytesMax + 100);
  KeyBuffer room;
  for (const std::size_t size : {KeyBuffer::kInlineBytes, KeyBuffer::kInlineBytes + 1,
                                 std::size_t{5000}, kKeyBytesMax - 1, kKeyBytesMax}) {
    const std::string id(size - 2, 'k');
    EXPECT_EQ(room.format("p:", id).value(), "p:" + id);
    EXPECT_EQ(format_key(large, "p:", id).value(), "p:" + id);
  }
  const std::string id(kKeyBytesMax - 1, 'k');
  for (const auto& refused : {room.format("p:", id), format_key(large, "p:", id)}) {
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, HasSubstr("65537 bytes; at most 65536"));
  }
  // A short key after a long one.
  EXPECT_EQ(room.format("p:", 7).value(), "p:7");
}

}  // namespace
}  // namespace tiercel
