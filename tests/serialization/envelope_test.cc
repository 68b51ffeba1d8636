#include "tiercel/serialization/envelope.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>

#include "hand_made.h"
#include "tiercel/base/random.h"

namespace tiercel::serialization {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;

std::string stored(const Envelope& envelope, std::uint64_t version = 1) {
  auto encoded = encode_envelope(envelope);
  EXPECT_TRUE(encoded) << encoded.error().to_string();
  return with_version(version, encoded.value());
}

void expect_round_trip(const Envelope& envelope) {
  const std::string bytes = stored(envelope, 0xfedcba9876543210);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const ExactCopy copy{bytes, shift};
    const auto decoded = decode_value(copy.view());
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_FALSE(decoded->foreign);
    EXPECT_EQ(decoded->version, 0xfedcba9876543210);
    EXPECT_EQ(decoded->envelope.negative, envelope.negative);
    EXPECT_EQ(decoded->envelope.compressed, envelope.compressed);
    EXPECT_EQ(decoded->envelope.tombstone, envelope.tombstone);
    EXPECT_EQ(decoded->envelope.soft_ttl, envelope.soft_ttl);
    EXPECT_EQ(decoded->envelope.hard_ttl, envelope.hard_ttl);
    EXPECT_EQ(decoded->envelope.codec_id, envelope.codec_id);
    EXPECT_TRUE(decoded->envelope.tag_slots == envelope.tag_slots);
    EXPECT_TRUE(decoded->envelope.payload == envelope.payload);
    EXPECT_TRUE(is_inside(decoded->envelope.payload, copy.view()));
  }
}

TagSlots slots_from_to(unsigned first, unsigned last) {
  TagSlots slots;
  for (unsigned slot = first; slot <= last; ++slot) {
    EXPECT_TRUE(slots.add(static_cast<TagSlot>(slot)));
  }
  return slots;
}

TEST(EnvelopeTest, ExampleOfTheHeader) {
  using namespace std::chrono_literals;
  const Result<std::string> bytes = encode_envelope({.hard_ttl = 60s, .payload = "ready"});
  ASSERT_TRUE(bytes);
  const std::string from_redis = with_version(42, *bytes);
  const Result<StoredValue> read = decode_value(from_redis);
  ASSERT_TRUE(read && !read->envelope.negative);
  EXPECT_EQ(read->version, 42U);
  EXPECT_EQ(read->envelope.payload, "ready");
}

TEST(EnvelopeTest, RoundTripOfEveryField) {
  expect_round_trip({});
  expect_round_trip({.negative = true});
  expect_round_trip({.tombstone = true});
  expect_round_trip({.soft_ttl = milliseconds{1}});
  expect_round_trip({.hard_ttl = milliseconds{1}});
  expect_round_trip({.soft_ttl = kTtlMax, .hard_ttl = kTtlMax});
  expect_round_trip({.codec_id = 0xffffffff});
  expect_round_trip({.negative = true,
                     .tombstone = true,
                     .soft_ttl = milliseconds{3},
                     .hard_ttl = milliseconds{4},
                     .codec_id = kCodecUserMin,
                     .tag_slots = slots_from_to(0, 2),
                     .payload = "payload"});
}

TEST(EnvelopeTest, RoundTripOfEverySmallLength) {
  // Crosses the word size and the size up to which an unaligned copy stays on the stack.
  std::string payload;
  for (int length = 0; length < 600; ++length) {
    expect_round_trip({.payload = payload});
    payload += static_cast<char>(length);
  }
}

TEST(EnvelopeTest, RoundTripOfEveryNumberOfTags) {
  for (unsigned tags = 1; tags <= kTagsPerValueMax; ++tags) {
    for (const std::string payload : {"", "p", "12345678", "123456789"}) {
      const TagSlots slots = slots_from_to(65536 - tags, 65535);
      expect_round_trip({.tag_slots = slots, .payload = payload});
      EXPECT_LE(stored({.tag_slots = slots, .payload = payload}).size(),
                kValueOverheadBytes + (payload.size() + 7) / 8 * 8);
    }
  }
  expect_round_trip({.negative = true, .tag_slots = slots_from_to(5, 5)});
}

TEST(EnvelopeTest, SlotsInAnyOrderAndTwiceAreOneSet) {
  const std::uint64_t slots = 9 | 4ULL << 16 | 9ULL << 32 | 65535ULL << 48;
  const auto decoded = decode_value(with_words(
      kValueKind, {struct_pointer(0, 3, 2), 0, 0, 0, 0, list_pointer(0, kTwoBytes, 4), slots}));
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_THAT(decoded->envelope.tag_slots.span(), ::testing::ElementsAre(4, 9, 65535));
}

TEST(EnvelopeTest, RoundTripOfALargeBinaryPayload) {
  Random random{20240607};
  std::string payload(std::size_t{5} * 1024 * 1024 + 3, '\0');
  for (char& byte : payload) byte = static_cast<char>(random.next());
  expect_round_trip({.payload = payload});
}

TEST(EnvelopeTest, RoundTripOfAPayloadThatLooksLikeAValue) {
  expect_round_trip({.payload = stored({.payload = "inner"})});
}

TEST(EnvelopeTest, PayloadBeginsAtByte72AndTheSlotsFollow) {
  EXPECT_EQ(stored({.payload = "12345678"}).substr(72), "12345678");
  const std::string tagged = stored({.tag_slots = slots_from_to(1, 16), .payload = "12345678"});
  EXPECT_EQ(tagged.substr(72, 8), "12345678");
  EXPECT_EQ(tagged.size(), kValueOverheadBytes + 8);
}

TEST(EnvelopeTest, VersionZeroIsUnknownAndStillOurs) {
  const std::string bytes = stored({.payload = "x"}, 0);
  const auto decoded = decode_value(bytes);
  ASSERT_TRUE(decoded);
  EXPECT_FALSE(decoded->foreign);
  EXPECT_EQ(decoded->version, 0U);
}

TEST(EnvelopeTest, EncoderRefusesWhatTheDecoderWould) {
  const auto expect_refused = [](const Envelope& envelope, const char* field) {
    const auto encoded = encode_envelope(envelope);
    ASSERT_FALSE(encoded);
    EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(encoded.error().message, HasSubstr(field));
  };
  expect_refused({.soft_ttl = milliseconds{-1}}, "soft_ttl");
  expect_refused({.soft_ttl = kTtlMax + milliseconds{1}}, "soft_ttl");
  expect_refused({.hard_ttl = milliseconds{-1}}, "hard_ttl");
  expect_refused({.hard_ttl = milliseconds::max()}, "hard_ttl");
  expect_refused({.compressed = true}, "compressed");
}

// Memory that is only reserved: pages that nobody touches cost nothing.
struct FreeMemory {
  void operator()(char* memory) const { std::free(memory); }
};
using Reserved = std::unique_ptr<char, FreeMemory>;
Reserved reserve(std::size_t bytes) { return Reserved{static_cast<char*>(std::calloc(bytes, 1))}; }

TEST(EnvelopeTest, EncoderRefusesAPayloadThatRedisWould) {
  const Reserved memory = reserve(kPayloadBytesMax + 1);
  ASSERT_NE(memory, nullptr);
  const auto encoded = encode_envelope({.payload = {memory.get(), kPayloadBytesMax + 1}});
  ASSERT_FALSE(encoded);
  EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);
}

TEST(EnvelopeTest, DecoderRefusesOursBeyondTheLimitWithoutReadingIt) {
  const Reserved memory = reserve(kValueBytesMax + 8);
  ASSERT_NE(memory, nullptr);
  const std::string header = make_header(kValueKind);
  std::memcpy(memory.get(), header.data(), header.size());
  const auto decoded = decode_value({memory.get(), kValueBytesMax + 8});
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
}

void expect_foreign(std::string_view bytes) {
  const auto decoded = decode_value(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_TRUE(decoded->foreign);
  EXPECT_EQ(decoded->version, 0U);
  EXPECT_EQ(decoded->envelope.payload, bytes);
  EXPECT_EQ(decoded->envelope.payload.data(), bytes.data());
  EXPECT_FALSE(decoded->envelope.negative);
  EXPECT_FALSE(decoded->envelope.tombstone);
  EXPECT_EQ(decoded->envelope.hard_ttl, milliseconds{0});
  EXPECT_EQ(decoded->envelope.codec_id, kCodecRaw);
}

TEST(EnvelopeTest, ForeignValuesAreReturnedWhole) {
  expect_foreign("");
  expect_foreign("1");
  expect_foreign("a plain value of some other program");
  expect_foreign(std::string(15, '\0'));
  expect_foreign(std::string(16, '\0'));
  expect_foreign(std::string(1000, '\xF1'));
}

TEST(EnvelopeTest, NearlyOursIsForeign) {
  // The magic where the version belongs, one word late, one byte early, one byte late.
  const std::string ours = stored({.payload = "ours"});
  expect_foreign(ours.substr(8));
  expect_foreign(std::string(8, ' ') + ours);
  expect_foreign(ours.substr(1));
  expect_foreign(" " + ours);
  // Too short for a version and a header, whatever stands in it.
  for (std::size_t length = 0; length < 16; ++length) expect_foreign(ours.substr(0, length));
  // Each byte of the magic counts.
  for (std::size_t i = 8; i < 12; ++i) {
    std::string changed = ours;
    changed[i] = static_cast<char>(changed[i] ^ 0x20);
    expect_foreign(changed);
  }
}

TEST(EnvelopeTest, ALegibleHeaderThatWeDoNotKnowIsCorrupt) {
  const std::string ours = stored({.payload = "ours"});
  struct Case {
    std::size_t at;
    char byte;
    const char* reason;
  };
  const std::array<Case, 7> cases{{{12, 0, "format version 0"},
                                   {12, 2, "format version 2"},
                                   {12, '\xff', "format version 255"},
                                   {13, 0, "kind 0"},
                                   {13, 2, "kind 2"},
                                   {14, 1, "reserved"},
                                   {15, 1, "reserved"}}};
  for (const Case& changed : cases) {
    std::string bytes = ours;
    bytes[changed.at] = changed.byte;
    const auto decoded = decode_value(bytes);
    ASSERT_FALSE(decoded) << changed.reason;
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
    EXPECT_THAT(decoded.error().message, HasSubstr(changed.reason));
  }
}

TEST(EnvelopeTest, UnsupportedOrAbsurdFieldsAreCorrupt) {
  // Root: three data words, one pointer. The first data word: flags, then the codec id.
  const auto decode_words = [](std::uint64_t flags, std::uint64_t soft, std::uint64_t hard) {
    return decode_value(with_words(kValueKind, {struct_pointer(0, 3, 2), flags, soft, hard, 0, 0}));
  };
  const auto ttl_max = static_cast<std::uint64_t>(kTtlMax.count());
  EXPECT_TRUE(decode_words(0, ttl_max, ttl_max));
  const std::array<Result<StoredValue>, 5> refused{
      decode_words(2, 0, 0), decode_words(0, ttl_max + 1, 0), decode_words(0, 0, ttl_max + 1),
      decode_words(0, ~std::uint64_t{0}, 0), decode_words(0, 0, std::uint64_t{1} << 63)};
  for (const auto& decoded : refused) {
    ASSERT_FALSE(decoded);
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  }
}

TEST(EnvelopeTest, AnAbsentPayloadIsEmpty) {
  const std::string bytes = with_words(kValueKind, {struct_pointer(0, 3, 2), 0, 0, 0, 0, 0});
  const auto decoded = decode_value(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_EQ(decoded->version, 7U);
  EXPECT_TRUE(decoded->envelope.payload.empty());
  EXPECT_TRUE(is_inside(decoded->envelope.payload, bytes));
}

TEST(EnvelopeTest, FieldsOfALaterSchemaAreIgnored) {
  // Five data words and three pointers where we know three and two; the third pointer is a text.
  const std::string bytes = with_words(
      kValueKind, {struct_pointer(0, 5, 3), 4, 10, 20, 99, 99, list_pointer(2, kBytes, 2), 0,
                   list_pointer(1, kBytes, 3), 0x6968, 0x636261});
  const auto decoded = decode_value(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_TRUE(decoded->envelope.tombstone);
  EXPECT_EQ(decoded->envelope.hard_ttl, milliseconds{20});
  EXPECT_EQ(decoded->envelope.payload, "hi");
}

TEST(CodecIdsTest, OursAndTheUsersDoNotMeet) {
  static_assert(kCodecRaw == 0 && kCodecReservedMax + 1 == kCodecUserMin && kCodecUserMin == 16);
}

}  // namespace
}  // namespace tiercel::serialization
