#include "tiercel/serialization/message.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "hand_made.h"
#include "tiercel/base/random.h"

namespace tiercel::serialization {
namespace {

using ::testing::HasSubstr;

void expect_round_trip(const Message& message) {
  const auto encoded = encode_message(message);
  ASSERT_TRUE(encoded) << encoded.error().to_string();
  const std::string bytes = with_version(0xfedcba9876543210, *encoded);
  EXPECT_LE(bytes.size(), kMessageBytesMax);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const ExactCopy copy{bytes, shift};
    const auto decoded = decode_message(copy.view());
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(decoded->version, 0xfedcba9876543210);
    EXPECT_TRUE(decoded->message == message);
  }
}

void expect_refused(const Message& message, const char* reason) {
  const auto encoded = encode_message(message);
  ASSERT_FALSE(encoded) << reason;
  EXPECT_EQ(encoded.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(encoded.error().message, HasSubstr(reason));
}

Result<ReceivedMessage> decode_words(const std::vector<std::uint64_t>& words) {
  return decode_message(with_words(kMessageKind, words));
}

void expect_error(const Result<ReceivedMessage>& decoded, ErrorCode code, const char* reason) {
  ASSERT_FALSE(decoded) << reason;
  EXPECT_EQ(decoded.error().code, code) << decoded.error().to_string();
  EXPECT_THAT(decoded.error().message, HasSubstr(reason));
}

TEST(MessageTest, ExampleOfTheHeader) {
  const std::uint64_t id = 11;
  std::uint64_t counter = 0;
  const Result<std::string> bytes = encode_message(
      {.origin = id, .nonce = ++counter, .kind = MessageKind::kInvalidate, .keys = {"user:7"}});
  ASSERT_TRUE(bytes);
  const std::string from_channel = with_version(42, *bytes);
  const Result<ReceivedMessage> received = decode_message(from_channel);
  ASSERT_TRUE(received);
  EXPECT_EQ(received->version, 42U);
  EXPECT_EQ(received->message.nonce, 1U);
  EXPECT_EQ(received->message.keys, std::vector<std::string>{"user:7"});
}

TEST(MessageTest, RoundTripOfEveryKind) {
  using enum MessageKind;
  for (const MessageKind kind : {kSet, kInvalidate, kTag, kFillDone}) {
    expect_round_trip({.origin = 1, .nonce = 2, .kind = kind, .keys = {"key"}});
    expect_round_trip({.origin = ~0ULL, .nonce = ~0ULL, .kind = kind, .keys = {"a", "", "ccc"}});
  }
  expect_round_trip({.origin = 1, .nonce = 2, .kind = kClear});
  for (const MessageKind kind : {kSet, kFillDone}) {
    expect_round_trip({.kind = kind, .keys = {"k"}, .value = "value"});
  }
}

TEST(MessageTest, AnEmptyValueIsNotAnAbsentOne) {
  expect_round_trip({.kind = MessageKind::kSet, .keys = {"k"}, .value = ""});
  expect_round_trip({.kind = MessageKind::kSet, .keys = {"k"}, .value = std::nullopt});
}

TEST(MessageTest, RoundTripOfBinaryKeysAndValuesOfEverySmallLength) {
  Random random{7};
  std::string bytes;
  for (int length = 0; length < 100; ++length) {
    expect_round_trip({.kind = MessageKind::kSet, .keys = {bytes}, .value = bytes});
    expect_round_trip({.kind = MessageKind::kTag, .keys = {bytes, "x", bytes}});
    bytes += static_cast<char>(random.next());
  }
}

TEST(MessageTest, RoundTripAtTheLimits) {
  const std::string key(kKeyBytesMax, 'k');
  expect_round_trip(
      {.kind = MessageKind::kSet, .keys = {key}, .value = std::string(kMessageValueBytesMax, 'v')});
  const std::string share(kKeysBytesPerMessageMax / kKeysPerMessageMax, 's');
  expect_round_trip({.kind = MessageKind::kInvalidate,
                     .keys = std::vector<std::string>(kKeysPerMessageMax, share)});
  // The most padding.
  expect_round_trip({.kind = MessageKind::kInvalidate,
                     .keys = std::vector<std::string>(kKeysPerMessageMax, "123456789")});
}

TEST(MessageTest, EncoderRefusesWhatTheDecoderWould) {
  using enum MessageKind;
  expect_refused({.kind = kInvalidate}, "no keys");
  expect_refused({.kind = kClear, .keys = {"k"}}, "a clear with keys");
  expect_refused({.kind = kInvalidate, .keys = {"k"}, .value = "v"}, "with the kind invalidate");
  expect_refused({.kind = kTag, .keys = {"k"}, .value = "v"}, "with the kind tag");
  expect_refused({.kind = kClear, .value = "v"}, "with the kind clear");
  expect_refused({.kind = kSet, .keys = {"a", "b"}, .value = "v"}, "with 2 keys");
  expect_refused({.kind = static_cast<MessageKind>(5), .keys = {"k"}}, "unknown kind");
  expect_refused({.kind = kInvalidate, .keys = {std::string(kKeyBytesMax + 1, 'k')}},
                 "a key of 65537 bytes");
  expect_refused({.kind = kInvalidate, .keys = {std::string(kKeyBytesMax, 'k'), "k"}},
                 "bytes of keys");
  expect_refused(
      {.kind = kInvalidate, .keys = std::vector<std::string>(kKeysPerMessageMax + 1, "k")},
      "1025 keys");
  expect_refused(
      {.kind = kSet, .keys = {"k"}, .value = std::string(kMessageValueBytesMax + 1, 'v')},
      "a value of 1048577 bytes");
}

TEST(MessageTest, NoiseIsCorrupt) {
  expect_error(decode_message(""), ErrorCode::kCorrupt, "not a message of ours");
  expect_error(decode_message("hello"), ErrorCode::kCorrupt, "not a message of ours");
  expect_error(decode_message(std::string(1000, 'x')), ErrorCode::kCorrupt,
               "not a message of ours");
  expect_error(decode_message(make_header(kMessageKind)), ErrorCode::kCorrupt, "segment table");
  expect_error(decode_message(with_words(kValueKind, {struct_pointer(0, 3, 1), 0, 0, 0, 0})),
               ErrorCode::kCorrupt, "kind 1 is not a message");
  expect_error(decode_message(with_words(0, {})), ErrorCode::kCorrupt, "kind 0");
  expect_error(decode_message(make_header(kMessageKind, 0)), ErrorCode::kCorrupt,
               "format version 0");
  std::string reserved = make_header(kMessageKind);
  reserved[15] = 1;
  expect_error(decode_message(reserved), ErrorCode::kCorrupt, "reserved");
}

TEST(MessageTest, ANewerFormatIsToldApartWhateverFollows) {
  for (const std::uint8_t format_version : {std::uint8_t{2}, std::uint8_t{255}}) {
    const std::string header = make_header(kMessageKind, format_version);
    for (const std::size_t length : {std::size_t{0}, std::size_t{1}, std::size_t{64},
                                     kMessageBytesMax, kMessageBytesMax + 1}) {
      expect_error(decode_message(header + std::string(length, '\xff')), ErrorCode::kProtocol,
                   "format version");
    }
    // Its reserved bytes may mean something by then, and its kinds too.
    std::string later = header;
    later[13] = 9;
    later[14] = 9;
    expect_error(decode_message(later), ErrorCode::kProtocol, "format version");
  }
}

TEST(MessageTest, AnUnknownKindIsToldApart) {
  expect_error(decode_message(make_header(3)), ErrorCode::kProtocol, "unknown kind 3");
  expect_error(decode_message(make_header(255)), ErrorCode::kProtocol, "unknown kind 255");
  // Kind is the low 16 bits of the third data word; what the rest says does not matter then.
  expect_error(decode_words({struct_pointer(0, 3, 2), 1, 2, 5, 0, 0}), ErrorCode::kProtocol,
               "unknown invalidation kind 5");
  expect_error(decode_words({struct_pointer(0, 3, 2), 1, 2, 0xffff, 0, 0}), ErrorCode::kProtocol,
               "unknown invalidation kind 65535");
}

TEST(MessageTest, AShapeThatNoEncoderMakesIsCorrupt) {
  constexpr std::uint64_t kSetBits = 0;
  constexpr std::uint64_t kTagBits = 2;
  constexpr std::uint64_t kClearBits = 3;
  const std::uint64_t root = struct_pointer(0, 3, 2);
  EXPECT_TRUE(decode_words({root, 1, 2, kClearBits, 0, 0}));
  expect_error(decode_words({root, 1, 2, kSetBits, 0, 0}), ErrorCode::kCorrupt, "no keys");
  const std::uint64_t one_key = list_pointer(1, kPointers, 1);
  EXPECT_TRUE(decode_words({root, 1, 2, kSetBits, one_key, 0, 0}));
  expect_error(decode_words({root, 1, 2, kClearBits, one_key, 0, 0}), ErrorCode::kCorrupt,
               "a clear with keys");
  const std::uint64_t value = list_pointer(1, kBytes, 1);
  EXPECT_TRUE(decode_words({root, 1, 2, kSetBits, one_key, value, 0, 'v'}));
  expect_error(decode_words({root, 1, 2, kTagBits, one_key, value, 0, 'v'}), ErrorCode::kCorrupt,
               "a value with the kind tag");
  const std::uint64_t two_keys = list_pointer(1, kPointers, 2);
  expect_error(decode_words({root, 1, 2, kSetBits, two_keys, value, 0, 0}), ErrorCode::kCorrupt,
               "a value with 2 keys");
}

TEST(MessageTest, TooLongIsRefusedBeforeItIsParsed) {
  const std::string bytes = with_segment(kMessageKind, std::string(kMessageBytesMax, '\0'));
  expect_error(decode_message(bytes), ErrorCode::kCorrupt, "bytes are more than");
}

TEST(MessageTest, TheHistoryHoldsWhatWasPublished) {
  const Message message{
      .origin = 1, .nonce = 2, .kind = MessageKind::kTag, .keys = {"team:7", "season:3"}};
  const std::string bytes = encode_message(message).value();
  const auto read = decode_history_message(0x0102030405060708, bytes);
  ASSERT_TRUE(read) << read.error().to_string();
  EXPECT_EQ(read->version, 0x0102030405060708U);
  EXPECT_TRUE(read->message == message);
  expect_error(decode_history_message(1, ""), ErrorCode::kCorrupt, "not a message of ours");
  expect_error(decode_history_message(1, bytes.substr(0, bytes.size() - 8)), ErrorCode::kCorrupt,
               "segment claims");
  expect_error(decode_history_message(1, make_header(kMessageKind, 2).substr(8)),
               ErrorCode::kProtocol, "format version");
  expect_error(decode_history_message(1, bytes + std::string(2 * kMessageBytesMax, '\0')),
               ErrorCode::kCorrupt, "bytes are more than");
}

TEST(MessageTest, KindsHaveNames) {
  using enum MessageKind;
  EXPECT_EQ(to_string(kSet), "set");
  EXPECT_EQ(to_string(kInvalidate), "invalidate");
  EXPECT_EQ(to_string(kTag), "tag");
  EXPECT_EQ(to_string(kClear), "clear");
  EXPECT_EQ(to_string(kFillDone), "fill_done");
}

}  // namespace
}  // namespace tiercel::serialization
