// Bytes of someone who wants to harm, given to CapnpCodec: what it accepts must be readable to the
// last field without checks. Most of it is worth most under AddressSanitizer and UBSan.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include "players.h"
#include "tiercel/base/random.h"

namespace tiercel::serialization {
namespace {

using game::Player;
using ::testing::HasSubstr;

// Of Player: id, then level, the union's tag and the party's size; the pointers, in order
// of their fields: name, position, items, avatar, titles, grid, marks, friend, guild or leader,
// anything.
constexpr std::uint64_t kDataWords = 2;
constexpr std::uint64_t kPointerCount = 10;
constexpr std::uint64_t kRoot = struct_pointer(0, kDataWords, kPointerCount);

// Where a pointer of the root stands in a player made by hand; its target, if it is the first word
// behind the root struct, is at an offset of kPointerCount - 1 - index.
enum PointerIndex : std::uint32_t {
  kName,
  kPosition,
  kItems,
  kAvatar,
  kTitles,
  kGrid,
  kMarks,
  kFriend,
  kGuild,
  kAnything
};
constexpr std::uint32_t behind(PointerIndex index, std::uint32_t words = 0) {
  return static_cast<std::uint32_t>(kPointerCount) - 1 - index + words;
}

// A player with one pointer, and what stands behind the root struct.
std::string with_pointer(PointerIndex index, std::uint64_t pointer,
                         const std::vector<std::uint64_t>& rest, std::uint64_t union_word = 0) {
  std::vector<std::uint64_t> words(1 + kDataWords + kPointerCount);
  words[0] = kRoot;
  words[2] = union_word;
  words[1 + kDataWords + index] = pointer;
  words.insert(words.end(), rest.begin(), rest.end());
  return flat_words(words);
}

void expect_refused(const std::string& bytes, const char* text) {
  EXPECT_FALSE(survive(bytes));
  const auto decoded = PlayerCodec{}.decode(bytes);
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().code, ErrorCode::kCorrupt);
  EXPECT_THAT(decoded.error().message, HasSubstr(text));
}

TEST(CapnpHostileTest, TheShapeThatTheseTestsAssume) {
  const std::string bytes = encode_player();
  std::uint64_t root = 0;
  for (std::size_t i = 8; i > 0; --i) root = root << 8 | static_cast<unsigned char>(bytes[7 + i]);
  EXPECT_EQ(root, kRoot);
  EXPECT_TRUE(survive(with_pointer(kName, list_pointer(behind(kName), kBytes, 4), {0x00636261})));
}

TEST(CapnpHostileTest, EveryTruncationIsRefused) {
  const std::string bytes = encode_player();
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    EXPECT_FALSE(survive(bytes.substr(0, length))) << length;
  }
  // Also where the table agrees with it.
  for (std::size_t length = 8; length < bytes.size(); length += 8) {
    std::string cut(4, '\0');
    append_u32_le(cut, static_cast<std::uint32_t>(length / 8 - 1));
    cut += bytes.substr(8, length - 8);
    EXPECT_FALSE(survive(cut)) << length;
  }
  EXPECT_FALSE(survive(bytes + std::string(8, '\0')));
  EXPECT_FALSE(survive(bytes + 'x'));
}

TEST(CapnpHostileTest, EveryFlippedBitIsSurvived) {
  const std::string bytes = encode_player();
  int accepted = 0;
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    accepted += survive(flipped) ? 1 : 0;
    survive<game::PlayerLater>(flipped);
    if (HasFailure()) FAIL() << "bit " << bit;
  }
  // Changed data is not noticed, changed pointers are.
  EXPECT_GT(accepted, 1'000);
  EXPECT_LT(accepted, static_cast<int>(bytes.size() * 8) - 1'000);
}

// Words that look like pointers more often than chance would have it.
std::uint64_t random_word(Random& random) {
  const auto small = [&] { return static_cast<std::uint32_t>(random.below(16)); };
  switch (random.below(7)) {
    case 0: return random.next();
    case 1: return struct_pointer(small(), random.below(4), random.below(11));
    case 2: return list_pointer(small(), random.below(8), random.below(12));
    case 3: return far_pointer(random.below(2), small(), random.below(2) == 0);
    case 4: return random.below(8);
    case 5: return list_pointer(small(), kBytes, random.below(40));
    default: return 0;
  }
}

TEST(CapnpHostileTest, RandomWordsAreSurvived) {
  constexpr std::uint64_t kSeed = 0x7163e2;
  Random random{kSeed};
  int accepted = 0;
  for (int i = 0; i < 100'000; ++i) {
    std::vector<std::uint64_t> words(random.below(40));
    for (std::uint64_t& word : words) word = random_word(random);
    if (!words.empty()) words[0] = random.below(4) != 0 ? kRoot : words[0];
    // Mostly empty pointers, so that a few of them are read at all.
    for (std::size_t at = 1; at < words.size(); ++at) {
      if (random.below(4) != 0) words[at] = 0;
    }
    accepted += survive(flat_words(words)) ? 1 : 0;
    if (HasFailure()) FAIL() << "seed " << kSeed << ", iteration " << i;
  }
  EXPECT_GT(accepted, 1'000);
}

TEST(CapnpHostileTest, RandomChangesOfGoodBytesAreSurvived) {
  constexpr std::uint64_t kSeed = 0x5eee;
  Random random{kSeed};
  const std::string good = encode_player();
  for (int i = 0; i < 50'000; ++i) {
    std::string bytes = good;
    for (std::uint64_t changes = random.below(4) + 1; changes > 0; --changes) {
      bytes[8 + random.below(bytes.size() - 8)] = static_cast<char>(random.next());
    }
    survive(bytes);
    if (HasFailure()) FAIL() << "seed " << kSeed << ", iteration " << i;
  }
}

TEST(CapnpHostileTest, RandomBytesAreSurvived) {
  Random random{32};
  for (int i = 0; i < 100'000; ++i) {
    std::string bytes(random.below(25) * 8, '\0');
    for (char& byte : bytes) byte = static_cast<char>(random.next());
    survive(bytes);
    std::string framed(4, '\0');
    append_u32_le(framed, static_cast<std::uint32_t>(bytes.size() / 8));
    survive(framed + bytes);
  }
}

TEST(CapnpHostileTest, NoRootIsRefused) {
  expect_refused(flat_words({}), "root");
  expect_refused(flat_words({0}), "root is not a struct");
  expect_refused(flat_words({list_pointer(0, kBytes, 8), 0}), "root is not a struct");
  expect_refused(flat_words({struct_pointer(0, 0xffff, 0xffff), 0}), "out-of-bounds");
  expect_refused("", "cut off");
  expect_refused(std::string(8, '\1'), "more than one segment");
}

TEST(CapnpHostileTest, PointersOutOfTheSegmentAreRefused) {
  for (const std::uint32_t count : {9U, 1000U, 0x1fffffffU}) {
    expect_refused(with_pointer(kName, list_pointer(behind(kName), kBytes, count), {0}),
                   "out-of-bounds");
    expect_refused(with_pointer(kAvatar, list_pointer(behind(kAvatar), kBytes, count), {0}),
                   "out-of-bounds");
    expect_refused(with_pointer(kTitles, list_pointer(behind(kTitles), kPointers, count), {0}),
                   "out-of-bounds");
  }
  expect_refused(with_pointer(kPosition, struct_pointer(behind(kPosition), 3, 0), {0, 0}),
                 "out-of-bounds");
  // Where the schema has no say, or knows of nothing: a copy would follow these.
  expect_refused(with_pointer(kAnything, list_pointer(behind(kAnything), kBytes, 9), {0}),
                 "out-of-bounds");
  std::vector<std::uint64_t> words(1 + kDataWords + kPointerCount + 1);
  words[0] = struct_pointer(0, kDataWords, kPointerCount + 1);
  words.back() = list_pointer(0, kBytes, 9);
  words.push_back(0);
  expect_refused(flat_words(words), "out-of-bounds");
  words[words.size() - 2] = list_pointer(0, kBytes, 8);
  EXPECT_TRUE(survive(flat_words(words)));
}

TEST(CapnpHostileTest, PointersOfAnotherTypeAreRefused) {
  const std::vector<std::uint64_t> rest(4, 0x6161616161616161);
  const auto text = [](PointerIndex index) { return list_pointer(behind(index), kBytes, 32); };
  expect_refused(with_pointer(kName, text(kName), rest), "NUL");
  expect_refused(with_pointer(kName, struct_pointer(behind(kName), 1, 0), rest), "text");
  expect_refused(with_pointer(kName, list_pointer(behind(kName), kTwoBytes, 4), rest), "text");
  expect_refused(with_pointer(kName, list_pointer(behind(kName), kBytes, 0), rest), "NUL");
  expect_refused(with_pointer(kPosition, text(kPosition), rest), "non-struct");
  expect_refused(with_pointer(kAvatar, struct_pointer(behind(kAvatar), 1, 0), rest), "data");
  expect_refused(with_pointer(kItems, struct_pointer(behind(kItems), 1, 0), rest), "non-list");
  expect_refused(with_pointer(kTitles, text(kTitles), rest), "incompatible");
  expect_refused(with_pointer(kGrid, text(kGrid), rest), "incompatible");
  expect_refused(with_pointer(kFriend, text(kFriend), rest), "non-struct");
  // In the union: as a guild, and as a party's leader.
  expect_refused(with_pointer(kGuild, text(kGuild), rest, std::uint64_t{1} << 32), "NUL");
  expect_refused(with_pointer(kGuild, text(kGuild), rest, std::uint64_t{2} << 32), "NUL");
  // Nobody reads it as one who is alone.
  EXPECT_TRUE(survive(with_pointer(kGuild, text(kGuild), rest)));
  EXPECT_TRUE(survive(with_pointer(kAnything, text(kAnything), rest)));
  // Inside of lists.
  expect_refused(with_pointer(kTitles, list_pointer(behind(kTitles), kPointers, 1),
                              {list_pointer(0, kBytes, 8), 0x6161616161616161}),
                 "NUL");
  expect_refused(
      with_pointer(kItems, list_pointer(behind(kItems), kComposite, 2),
                   {struct_pointer(1, 1, 1), 0, list_pointer(0, kBytes, 8), 0x6161616161616161}),
      "NUL");
  expect_refused(with_pointer(kGrid, list_pointer(behind(kGrid), kPointers, 1),
                              {list_pointer(0, kBytes, 8), 0}),
                 "incompatible");
}

TEST(CapnpHostileTest, FarPointersAndCapabilitiesAreRefused) {
  // Far, but within the segment: Cap'n Proto's own reader would follow it.
  const std::uint32_t landing = 1 + kDataWords + kPointerCount;
  expect_refused(
      with_pointer(kName, far_pointer(0, landing), {list_pointer(0, kBytes, 4), 0x00636261}),
      "FAR");
  expect_refused(
      with_pointer(kAnything, far_pointer(0, landing), {list_pointer(0, kBytes, 4), 0x00636261}),
      "FAR");
  expect_refused(with_pointer(kName, far_pointer(1, 0), {0, 0}), "");
  expect_refused(flat_words({far_pointer(0, 1), struct_pointer(0, 1, 0), 0}), "FAR");
  expect_refused(with_pointer(kAnything, 3, {}), "capabilities");
  expect_refused(with_pointer(kAnything, 7, {}), "");
}

TEST(CapnpHostileTest, SharedTargetsDoNotMultiply) {
  // 500 titles that all are the same 4,000 bytes: 2 MB in 8 KB.
  constexpr std::uint32_t kCount = 500;
  std::vector<std::uint64_t> rest;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    rest.push_back(list_pointer(kCount - 1 - i, kBytes, 4'000));
  }
  rest.resize(rest.size() + 500);
  const auto titles = list_pointer(behind(kTitles), kPointers, kCount);
  expect_refused(with_pointer(kTitles, titles, rest), "traversal limit");
  // A doubling chain of lists where the schema does not look.
  std::vector<std::uint64_t> doubling;
  for (int level = 0; level < 40; ++level) {
    doubling.push_back(list_pointer(1, kPointers, 2));
    doubling.push_back(list_pointer(0, kPointers, 2));
  }
  doubling.resize(doubling.size() + 2);
  expect_refused(with_pointer(kAnything, list_pointer(behind(kAnything), kPointers, 2), doubling),
                 "traversal limit");
}

TEST(CapnpHostileTest, EmptyElementsDoNotMultiply) {
  constexpr std::uint64_t kMany = 0x1fffffff;
  expect_refused(with_pointer(kMarks, list_pointer(behind(kMarks), 0, kMany), {}),
                 "traversal limit");
  expect_refused(with_pointer(kItems, list_pointer(behind(kItems), kComposite, 0),
                              {struct_pointer(kMany, 0, 0)}),
                 "traversal limit");
}

TEST(CapnpHostileTest, DepthIsLimited) {
  const auto friends = [](int count) {
    std::vector<std::uint64_t> words{kRoot};
    for (int i = 0; i < count; ++i) {
      words.resize(words.size() + kDataWords + kPointerCount);
      if (i + 1 < count) {
        words[words.size() - kPointerCount + kFriend] =
            struct_pointer(behind(kFriend), kDataWords, kPointerCount);
      }
    }
    return flat_words(words);
  };
  EXPECT_TRUE(survive(friends(kCapnpNestingMax)));
  expect_refused(friends(kCapnpNestingMax + 1), "nested");
  // A friend of his own.
  constexpr std::uint32_t kBackToTheRoot = 0x40000000 - kDataWords - kFriend - 1;
  expect_refused(
      with_pointer(kFriend, struct_pointer(kBackToTheRoot, kDataWords, kPointerCount), {}), "");
}

TEST(CapnpHostileTest, AnErrorTellsNothingOfTheBytes) {
  const auto decoded = PlayerCodec{}.decode(
      with_pointer(kName, list_pointer(behind(kName), kBytes, 8), {0x5a5a5a5a5a5a5a5a}));
  ASSERT_FALSE(decoded);
  EXPECT_EQ(decoded.error().message, "capnp: Message contains text that is not NUL-terminated.");
}

TEST(CapnpHostileTest, NothingIsPrinted) {
  ::testing::internal::CaptureStderr();
  ::testing::internal::CaptureStdout();
  EXPECT_FALSE(survive(flat_words({kRoot})));
  EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
  EXPECT_EQ(::testing::internal::GetCapturedStdout(), "");
}

// By default kj does not throw while another exception unwinds the thread; it logs, and reads
// corrupt pointers as empty defaults.
TEST(CapnpHostileTest, CorruptIsCorruptWhileAnExceptionUnwinds) {
  struct ReadsInItsDestructor {
    bool& accepted;
    ~ReadsInItsDestructor() {
      accepted = PlayerCodec{}
                     .decode(with_pointer(kName, list_pointer(behind(kName), kBytes, 64), {0}))
                     .has_value();
    }
  };
  bool accepted = true;
  try {
    const ReadsInItsDestructor reader{accepted};
    throw std::runtime_error{"the user's own"};
  } catch (const std::runtime_error&) {
  }
  EXPECT_FALSE(accepted);
}

}  // namespace
}  // namespace tiercel::serialization
