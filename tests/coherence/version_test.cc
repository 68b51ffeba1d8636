#include "tiercel/coherence/version.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "tiercel/base/random.h"

namespace tiercel::coherence {
namespace {

constexpr std::uint64_t kMillisecondsMax = (std::uint64_t{1} << 44) - 1;
constexpr std::uint64_t kSequenceMax = (std::uint64_t{1} << kVersionSequenceBits) - 1;

Version pack(std::uint64_t milliseconds, std::uint64_t sequence) {
  return milliseconds << kVersionSequenceBits | sequence;
}

TEST(Version, IsMillisecondsOverSequence) {
  EXPECT_EQ(parse_stream_id("1700000000000-5").value_or(0), (1700000000000ULL << 20) + 5);
  EXPECT_EQ(parse_stream_id("0-1").value_or(0), 1U);
  EXPECT_EQ(parse_stream_id("1-0").value_or(0), 1048576U);
  EXPECT_EQ(parse_stream_id("17592186044415-1048575").value_or(0), ~std::uint64_t{0});
  EXPECT_EQ(to_stream_id(~std::uint64_t{0}), "17592186044415-1048575");
  EXPECT_EQ(to_stream_id(pack(1700000000000ULL, 5)), "1700000000000-5");
  EXPECT_EQ(to_stream_id(kVersionUnknown), "0-0");
}

TEST(Version, TextAndNumberAreInverseAndSortAlike) {
  Random random{3};
  Version last = 0;
  std::uint64_t last_milliseconds = 0;
  std::uint64_t last_sequence = 0;
  for (int i = 0; i < 10000; ++i) {
    const std::uint64_t milliseconds = random.next() >> (20 + random.below(30));
    const std::uint64_t sequence = random.next() >> (44 + random.below(20));
    const auto version =
        parse_stream_id(std::to_string(milliseconds) + "-" + std::to_string(sequence));
    ASSERT_TRUE(version) << version.error().to_string();
    ASSERT_EQ(*version, pack(milliseconds, sequence));
    ASSERT_EQ(parse_stream_id(to_stream_id(*version)).value_or(0), *version);
    const bool later = milliseconds != last_milliseconds ? milliseconds > last_milliseconds
                                                         : sequence > last_sequence;
    ASSERT_EQ(*version > last, later);
    last = *version;
    last_milliseconds = milliseconds;
    last_sequence = sequence;
  }
}

TEST(Version, RefusesWhatDoesNotFit) {
  EXPECT_TRUE(parse_stream_id(std::to_string(kMillisecondsMax) + "-0"));
  EXPECT_FALSE(parse_stream_id(std::to_string(kMillisecondsMax + 1) + "-0"));
  EXPECT_TRUE(parse_stream_id("1-" + std::to_string(kSequenceMax)));
  EXPECT_FALSE(parse_stream_id("1-" + std::to_string(kSequenceMax + 1)));
  EXPECT_FALSE(parse_stream_id("18446744073709551615-18446744073709551615"));
  EXPECT_FALSE(parse_stream_id("99999999999999999999-0"));
}

TEST(Version, RefusesWhatIsNoId) {
  for (const char* id :
       {"",     "-",    "1",    "1-",    "-1",  "1--1",  "1-2-3", " 1-2", "1-2 ", "1 -2",
        "+1-2", "1-+2", "-1-2", "0x1-2", "a-b", "1.5-2", "*",     "+",    "$",    "1-*"}) {
    const auto version = parse_stream_id(id);
    ASSERT_FALSE(version) << id;
    EXPECT_EQ(version.error().code, ErrorCode::kInvalidArgument) << id;
  }
  EXPECT_FALSE(parse_stream_id(std::string{"1-2\0", 4}));
  EXPECT_NE(parse_stream_id("what?").error().message.find("what?"), std::string::npos);
}

}  // namespace
}  // namespace tiercel::coherence
