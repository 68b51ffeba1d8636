// Bytes of someone who wants to harm: nothing crashes, nothing is printed, nothing is thrown, no
// view leaves the input, and the work stays in proportion to the input. Most of it is worth most
// under AddressSanitizer and UBSan.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "hand_made.h"
#include "tiercel/base/random.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::serialization {
namespace {

using ::testing::HasSubstr;

constexpr std::uint64_t kEnvelopeRoot = struct_pointer(0, 3, 2);
constexpr std::uint64_t kMessageRoot = struct_pointer(0, 3, 2);
constexpr std::uint64_t kInvalidateBits = 1;

TagSlots sample_slots() {
  TagSlots slots;
  for (const TagSlot slot : std::vector<TagSlot>{7, 300, 65535}) EXPECT_TRUE(slots.add(slot));
  return slots;
}

std::string sample_value() {
  return with_version(9, encode_envelope({.soft_ttl = std::chrono::milliseconds{1500},
                                          .hard_ttl = std::chrono::milliseconds{60'000},
                                          .codec_id = 17,
                                          .tag_slots = sample_slots(),
                                          .payload = "a payload of 23 bytes.."})
                             .value());
}

std::string sample_message() {
  return with_version(9, encode_message({.origin = 3,
                                         .nonce = 4,
                                         .kind = MessageKind::kSet,
                                         .keys = {"user:1234"},
                                         .value = "a value of some length"})
                             .value());
}

std::string sample_message_with_keys() {
  return with_version(9, encode_message({.origin = 3,
                                         .nonce = 4,
                                         .kind = MessageKind::kInvalidate,
                                         .keys = {"one", "", "three and a half"}})
                             .value());
}

// True when it was accepted.
bool survive_value(std::string_view bytes, std::size_t shift = 0) {
  const ExactCopy copy{bytes, shift};
  const auto decoded = decode_value(copy.view());
  if (!decoded) {
    EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
    EXPECT_FALSE(decoded.error().message.empty());
    return false;
  }
  EXPECT_TRUE(is_inside(decoded->envelope.payload, copy.view()));
  if (decoded->foreign) {
    EXPECT_EQ(decoded->envelope.payload, copy.view());
  } else {
    // What was accepted is within the bounds that the encoder keeps.
    EXPECT_TRUE(encode_envelope(decoded->envelope));
  }
  return true;
}

bool survive_message(std::string_view bytes, std::size_t shift = 0) {
  const ExactCopy copy{bytes, shift};
  const auto decoded = decode_message(copy.view());
  if (!decoded) {
    EXPECT_TRUE(decoded.error().code == ErrorCode::kCorrupt ||
                decoded.error().code == ErrorCode::kProtocol)
        << decoded.error().to_string();
    EXPECT_FALSE(decoded.error().message.empty());
    return false;
  }
  EXPECT_TRUE(encode_message(decoded->message));
  return true;
}

void expect_corrupt_value(const std::string& bytes) {
  EXPECT_FALSE(survive_value(bytes));
  EXPECT_FALSE(survive_value(bytes, 3));
}

void expect_corrupt_message(const std::string& bytes) {
  EXPECT_FALSE(survive_message(bytes));
  EXPECT_FALSE(survive_message(bytes, 3));
  const auto decoded = decode_message(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt) << decoded.error().to_string();
}

TEST(HostileTest, EveryTruncationIsRefused) {
  const std::string value = sample_value();
  for (std::size_t length = 0; length < value.size(); ++length) {
    for (const std::size_t shift : {0U, 1U}) {
      // Below 16 bytes nothing says that it was ours.
      EXPECT_EQ(survive_value(value.substr(0, length), shift), length < 16) << length;
    }
  }
  for (const std::string& message : {sample_message(), sample_message_with_keys()}) {
    for (std::size_t length = 0; length < message.size(); ++length) {
      for (const std::size_t shift : {0U, 1U}) {
        EXPECT_FALSE(survive_message(message.substr(0, length), shift)) << length;
      }
    }
  }
}

TEST(HostileTest, TrailingBytesAreRefused) {
  for (std::size_t extra = 1; extra <= 24; ++extra) {
    expect_corrupt_value(sample_value() + std::string(extra, '\0'));
    expect_corrupt_message(sample_message() + std::string(extra, '\0'));
  }
}

TEST(HostileTest, EveryFlippedBitIsSurvived) {
  const std::vector<std::string> values{sample_value(), sample_message(),
                                        sample_message_with_keys()};
  for (const std::string& sample : values) {
    for (std::size_t bit = 0; bit < sample.size() * 8; ++bit) {
      std::string flipped = sample;
      flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
      for (const std::size_t shift : {0U, 5U}) {
        survive_value(flipped, shift);
        survive_message(flipped, shift);
      }
    }
  }
}

// Words that look like pointers more often than chance would have it.
std::uint64_t random_word(Random& random) {
  const auto small = [&] { return static_cast<std::uint32_t>(random.below(8)); };
  switch (random.below(6)) {
    case 0: return random.next();
    case 1: return struct_pointer(small(), random.below(5), random.below(5));
    case 2: return list_pointer(small(), random.below(8), random.below(40));
    case 3: return far_pointer(random.below(2), small(), random.below(2) == 0);
    case 4: return random.below(8);
    default: return 0;
  }
}

TEST(HostileTest, RandomWordsBehindTheMagicAreSurvived) {
  constexpr std::uint64_t kSeed = 0x7163e1;
  Random random{kSeed};
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::uint64_t> words(random.below(16));
    for (std::uint64_t& word : words) word = random_word(random);
    const bool as_value = random.below(2) == 0;
    // Half of them with the right root, so that the fields are reached.
    if (!words.empty() && random.below(2) == 0) words[0] = as_value ? kEnvelopeRoot : kMessageRoot;
    const std::string bytes = with_words(as_value ? kValueKind : kMessageKind, words);
    if (as_value) {
      survive_value(bytes, random.below(8));
    } else {
      survive_message(bytes, random.below(8));
    }
    if (HasFailure()) FAIL() << "seed " << kSeed << ", iteration " << i;
  }
}

TEST(HostileTest, RandomChangesOfGoodBytesAreSurvived) {
  constexpr std::uint64_t kSeed = 0x5eed;
  Random random{kSeed};
  const std::string value = sample_value();
  const std::string messages[] = {sample_message(), sample_message_with_keys()};
  int accepted = 0;
  for (int i = 0; i < 100'000; ++i) {
    const bool as_value = random.below(2) == 0;
    std::string bytes = as_value ? value : messages[random.below(2)];
    for (std::uint64_t changes = random.below(4) + 1; changes > 0; --changes) {
      bytes[16 + random.below(bytes.size() - 16)] = static_cast<char>(random.next());
    }
    accepted += as_value ? survive_value(bytes, random.below(8)) : survive_message(bytes, 0);
    if (HasFailure()) FAIL() << "seed " << kSeed << ", iteration " << i;
  }
  // Both outcomes were exercised: changed payload bytes are not noticed, changed pointers are.
  EXPECT_GT(accepted, 1'000);
  EXPECT_LT(accepted, 99'000);
}

TEST(HostileTest, RandomBytesBehindTheMagicAreSurvived) {
  Random random{31};
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes(random.below(200), '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    survive_value(make_header(kValueKind) + bytes);
    survive_message(make_header(kMessageKind) + bytes);
  }
}

TEST(HostileTest, NoRootIsRefused) {
  expect_corrupt_value(with_words(kValueKind, {}));
  expect_corrupt_value(with_words(kValueKind, {0}));
  expect_corrupt_value(with_words(kValueKind, {0, 0, 0, 0, 0}));
  expect_corrupt_message(with_words(kMessageKind, {}));
  expect_corrupt_message(with_words(kMessageKind, {0}));
  // Too small for version 1.
  expect_corrupt_value(with_words(kValueKind, {struct_pointer(0, 2, 2), 0, 0, 0, 0}));
  expect_corrupt_value(with_words(kValueKind, {struct_pointer(0, 3, 1), 0, 0, 0, 0}));
  expect_corrupt_message(with_words(kMessageKind, {struct_pointer(0, 3, 1), 1, 2, 3, 0, 0}));
  // A list, and a capability, where the root struct belongs.
  expect_corrupt_value(with_words(kValueKind, {list_pointer(0, kBytes, 8), 0}));
  expect_corrupt_value(with_words(kValueKind, {3, 0}));
}

TEST(HostileTest, RootsAndListsBeyondTheEndAreRefused) {
  expect_corrupt_value(with_words(kValueKind, {struct_pointer(0, 0xffff, 0xffff), 0, 0}));
  expect_corrupt_value(with_words(kValueKind, {struct_pointer(0x1fffffff, 3, 2), 0, 0, 0, 0}));
  // Before the beginning: offset -1 leads to the pointer itself, -2 before it.
  expect_corrupt_value(with_words(kValueKind, {struct_pointer(0x3ffffffe, 3, 2), 0, 0, 0, 0}));
  for (const std::uint32_t count : {9U, 64U, 0x1fffffffU}) {
    expect_corrupt_value(
        with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, list_pointer(1, kBytes, count), 0, 0}));
    expect_corrupt_value(
        with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, 0, list_pointer(0, kTwoBytes, count), 0}));
    for (const std::uint32_t element_size : {kBytes, kPointers, kComposite}) {
      expect_corrupt_message(with_words(
          kMessageKind,
          {kMessageRoot, 1, 2, kInvalidateBits, list_pointer(1, element_size, count), 0, 0}));
    }
  }
}

TEST(HostileTest, AListOfEmptyStructsDoesNotMultiply) {
  // Half a billion elements of no size, in one word. Cap'n Proto lets a list of structs stand in
  // for a list of pointers if each struct has one.
  const std::uint64_t tag = struct_pointer(0x1fffffff, 0, 0);
  const std::uint64_t tag_with_pointer = struct_pointer(2000, 0, 1);
  expect_corrupt_message(with_words(kMessageKind, {kMessageRoot, 1, 2, kInvalidateBits,
                                                   list_pointer(1, kComposite, 0), 0, tag, 0, 0}));
  std::vector<std::uint64_t> words{
      kMessageRoot, 1, 2, kInvalidateBits, list_pointer(1, kComposite, 2000), 0, tag_with_pointer};
  words.resize(words.size() + 2000);
  expect_corrupt_message(with_words(kMessageKind, words));
}

TEST(HostileTest, TooManyKeysAreRefused) {
  const auto with_empty_keys = [](std::size_t count) {
    std::vector<std::uint64_t> words{
        kMessageRoot, 1, 2, kInvalidateBits, list_pointer(1, kPointers, count), 0};
    words.resize(words.size() + count);
    return with_words(kMessageKind, words);
  };
  EXPECT_TRUE(survive_message(with_empty_keys(kKeysPerMessageMax)));
  expect_corrupt_message(with_empty_keys(kKeysPerMessageMax + 1));
}

// `count` keys that all point at the same `words_each` words.
std::string with_shared_keys(std::uint32_t count, std::uint32_t words_each) {
  std::vector<std::uint64_t> words{
      kMessageRoot, 1, 2, kInvalidateBits, list_pointer(1, kPointers, count), 0};
  for (std::uint32_t i = 0; i < count; ++i) {
    words.push_back(list_pointer(count - 1 - i, kBytes, std::uint64_t{words_each} * 8));
  }
  words.resize(words.size() + words_each, 0x6161616161616161);
  return with_words(kMessageKind, words);
}

TEST(HostileTest, KeysThatShareBytesDoNotMultiply) {
  EXPECT_TRUE(survive_message(with_shared_keys(1, 8)));
  // 64 KiB that would become 64 MiB.
  expect_corrupt_message(with_shared_keys(kKeysPerMessageMax, kKeyBytesMax / 8));
  // Below every other limit: only the one on traversal notices.
  const std::string bytes = with_shared_keys(100, 64);
  expect_corrupt_message(bytes);
  EXPECT_THAT(decode_message(bytes).error().message, HasSubstr("traversal limit"));
}

TEST(HostileTest, ALongKeyIsRefused) {
  EXPECT_TRUE(survive_message(with_shared_keys(1, kKeyBytesMax / 8)));
  expect_corrupt_message(with_shared_keys(1, kKeyBytesMax / 8 + 1));
}

TEST(HostileTest, PointersOfTheWrongSortAreRefused) {
  for (const std::uint64_t element_size : {0U, 1U, 3U, 4U, 5U, 6U, 7U}) {
    expect_corrupt_value(with_words(
        kValueKind, {kEnvelopeRoot, 0, 0, 0, list_pointer(1, element_size, 1), 0, 0, 0}));
  }
  expect_corrupt_value(
      with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, struct_pointer(1, 1, 0), 0, 0, 0}));
  expect_corrupt_value(with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, 3, 0}));
}

TEST(HostileTest, ListsOfSlotsOfTheWrongSortAreRefused) {
  const auto with_list = [](std::uint64_t pointer) {
    return with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, 0, pointer, 0, 0, 0, 0, 0, 0});
  };
  EXPECT_TRUE(survive_value(with_list(list_pointer(0, kTwoBytes, 16))));
  expect_corrupt_value(with_list(list_pointer(0, kTwoBytes, 17)));
  for (const std::uint64_t element_size : {0U, 1U, kBytes, kPointers}) {
    expect_corrupt_value(with_list(list_pointer(0, element_size, 3)));
  }
  // Half a billion slots in no space.
  expect_corrupt_value(with_list(list_pointer(0, 0, 0x1fffffff)));
  expect_corrupt_value(with_list(struct_pointer(0, 1, 0)));
  expect_corrupt_value(with_list(3));
}

TEST(HostileTest, FarPointersLeadNowhere) {
  for (const std::uint64_t segment : {1ULL, 2ULL, 0xffffffffULL}) {
    for (const bool two_words : {false, true}) {
      expect_corrupt_value(with_words(kValueKind, {far_pointer(segment, 0, two_words), 0, 0}));
      expect_corrupt_value(with_words(
          kValueKind, {kEnvelopeRoot, 0, 0, 0, far_pointer(segment, 0, two_words), 0, 0, 0}));
      expect_corrupt_message(with_words(
          kMessageKind,
          {kMessageRoot, 1, 2, kInvalidateBits, far_pointer(segment, 0, two_words), 0, 0, 0}));
    }
  }
  // To itself, in a circle, beyond the end.
  expect_corrupt_value(with_words(kValueKind, {far_pointer(0, 0), 0}));
  expect_corrupt_value(with_words(kValueKind, {far_pointer(0, 1), far_pointer(0, 0)}));
  expect_corrupt_value(with_words(kValueKind, {far_pointer(0, 0, true), 0}));
  expect_corrupt_value(with_words(kValueKind, {far_pointer(0, 0x1fffffff), 0}));
}

TEST(HostileTest, AFarPointerWithinTheSegmentStaysWithinTheInput) {
  // Legal, if odd: the landing pad of the payload stands at the end.
  const std::string bytes = with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, far_pointer(0, 7), 0,
                                                    0x6f6c6c6568, list_pointer(0x3ffffffe, 2, 5)});
  for (const std::size_t shift : {0U, 3U}) {
    const ExactCopy copy{bytes, shift};
    const auto decoded = decode_value(copy.view());
    ASSERT_TRUE(decoded) << decoded.error().to_string();
    EXPECT_EQ(decoded->envelope.payload, "hello");
    EXPECT_TRUE(is_inside(decoded->envelope.payload, copy.view()));
  }
}

TEST(HostileTest, OtherThanOneSegmentIsRefused) {
  for (const std::uint8_t kind : {kValueKind, kMessageKind}) {
    for (const std::uint32_t count_less_one : {1U, 2U, 511U, 0x7fffffffU, 0xffffffffU}) {
      std::string bytes = make_header(kind);
      append_u32_le(bytes, count_less_one);
      append_u32_le(bytes, 1);
      append_u32_le(bytes, 1);
      append_u32_le(bytes, 0);
      bytes.append(64, '\0');
      if (kind == kValueKind) {
        expect_corrupt_value(bytes);
      } else {
        expect_corrupt_message(bytes);
      }
    }
  }
}

TEST(HostileTest, ASegmentLengthThatLiesIsRefused) {
  for (const std::uint32_t words : {0U, 5U, 7U, 0x20000000U, 0xffffffffU}) {
    std::string bytes = make_header(kValueKind);
    append_u32_le(bytes, 0);
    append_u32_le(bytes, words);
    bytes += with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, 0, 0}).substr(24);
    expect_corrupt_value(bytes);
  }
}

TEST(HostileTest, DepthIsNotFollowed) {
  // A chain of structs and a chain of lists, each link one deeper, where the keys belong.
  for (const std::uint64_t link : {struct_pointer(0, 0, 1), list_pointer(0, kPointers, 1)}) {
    std::vector<std::uint64_t> words{
        kMessageRoot, 1, 2, kInvalidateBits, list_pointer(1, kPointers, 1), 0};
    words.resize(words.size() + 50'000, link);
    words.push_back(0);
    expect_corrupt_message(with_words(kMessageKind, words));
    words[4] = struct_pointer(1, 0, 1);
    expect_corrupt_message(with_words(kMessageKind, words));
  }
  // A pointer to itself: a struct of no size may stand anywhere.
  const std::uint64_t to_itself = struct_pointer(0x3fffffff, 0, 0);
  expect_corrupt_message(with_words(kMessageKind, {to_itself}));
  expect_corrupt_value(with_words(kValueKind, {to_itself}));
}

TEST(HostileTest, NothingIsPrinted) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  for (int i = 0; i < 3; ++i) {
    EXPECT_FALSE(decode_value(with_words(kValueKind, {kEnvelopeRoot})));
    EXPECT_FALSE(decode_message(with_shared_keys(100, 64)));
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

// By default kj does not throw while another exception unwinds the thread; it logs, and reads
// corrupt pointers as empty defaults.
TEST(HostileTest, CorruptIsCorruptWhileAnExceptionUnwinds) {
  struct ReadsInItsDestructor {
    bool& accepted;
    ~ReadsInItsDestructor() {
      accepted = survive_value(
          with_words(kValueKind, {kEnvelopeRoot, 0, 0, 0, list_pointer(1, kBytes, 64), 0}));
    }
  };
  ::testing::internal::CaptureStderr();
  bool accepted = true;
  try {
    const ReadsInItsDestructor reader{accepted};
    throw std::runtime_error{"the user's own"};
  } catch (const std::runtime_error&) {
  }
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_FALSE(accepted);
}

}  // namespace
}  // namespace tiercel::serialization
