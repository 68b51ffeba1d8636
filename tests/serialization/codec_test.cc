#include "tiercel/serialization/codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <string>
#include <thread>
#include <vector>

#include "hand_made.h"
#include "support/allocations.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/trivial_codec.h"

namespace tiercel::serialization {
namespace {

using ::testing::HasSubstr;
using tiercel::testing::allocations;

template <typename T>
void expect_error(const Result<T>& result, ErrorCode code, const char* text) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().to_string();
  EXPECT_THAT(result.error().message, HasSubstr(text));
}

// ----- The example of codec.h: a codec of the user's own.

struct Point {
  std::int32_t x = 0;
  std::int32_t y = 0;
};

struct PointCodec {
  using Value = Point;
  using View = Point;  // Small: a copy is the cheapest view.

  [[nodiscard]] std::uint32_t codec_id() const noexcept { return derived_codec_id("acme.point.1"); }
  [[nodiscard]] Result<std::string> encode(const Point& point) const {
    return std::to_string(point.x) + ' ' + std::to_string(point.y);
  }
  [[nodiscard]] Result<Point> decode(std::string_view bytes) const {
    const std::size_t space = bytes.find(' ');
    if (space == std::string_view::npos) return corrupt("point: no space");
    Point point;
    if (!parse(bytes.substr(0, space), point.x) || !parse(bytes.substr(space + 1), point.y)) {
      return corrupt("point: not two numbers");
    }
    return point;
  }

 private:
  static bool parse(std::string_view text, std::int32_t& number) {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, number);
    return error == std::errc{} && at == end;
  }
};

static_assert(Codec<PointCodec> && !CheckedOnceCodec<PointCodec>);
static_assert(CheckedOnceCodec<BytesCodec> && CheckedOnceCodec<TrivialCodec<Point>>);
static_assert(!Codec<Point> && !Codec<int>);

TEST(CodecTest, ACodecOfTheUsersOwn) {
  const PointCodec codec;
  const std::string bytes = codec.encode({.x = -3, .y = 4}).value();
  const auto point = decode_stored(codec, codec.codec_id(), bytes);
  ASSERT_TRUE(point);
  EXPECT_EQ(point->x, -3);
  EXPECT_EQ(point->y, 4);
  EXPECT_EQ(view_of_checked(codec, bytes).y, 4);
  expect_error(codec.decode("3"), ErrorCode::kCorrupt, "no space");
  expect_error(codec.decode("3 x"), ErrorCode::kCorrupt, "numbers");
}

// ----- Codec ids.

TEST(CodecTest, DerivedIdsNeverChange) {
  // The published test vectors of FNV-1a.
  static_assert(fnv1a("") == 0xcbf29ce484222325);
  static_assert(fnv1a("a") == 0xaf63dc4c8601ec8c);
  static_assert(fnv1a("foobar") == 0x85944171f73967e8);
  static_assert(fnv1a("bar", fnv1a("foo")) == fnv1a("foobar"));
  static_assert(derived_codec_id("foobar") == (0x80000000 | (0x85944171 ^ 0xf73967e8)));
  static_assert(derived_codec_id(std::uint64_t{0}) == kCodecDerivedMin);
  static_assert(kCodecDerivedMin > kCodecUserMin && kCodecTrivial <= kCodecReservedMax);
}

TEST(CodecTest, AnotherCodecsValueIsCorruptAndNamesBoth) {
  const std::string stored =
      with_version(1, encode_envelope({.codec_id = 16, .payload = "some other's"}).value());
  const Envelope envelope = decode_value(stored)->envelope;
  const auto refused = decode_stored(BytesCodec{}, envelope.codec_id, envelope.payload);
  expect_error(refused, ErrorCode::kCorrupt, "codec 16");
  expect_error(refused, ErrorCode::kCorrupt, "with 0");
  const PointCodec codec;
  expect_error(decode_stored(codec, kCodecRaw, "1 2"), ErrorCode::kCorrupt, "codec 0");
  expect_error(decode_stored(codec, kCodecTrivial, "1 2"), ErrorCode::kCorrupt, "codec 1");
  EXPECT_TRUE(decode_stored(codec, codec.codec_id(), "1 2"));
}

// ----- Bytes.

TEST(CodecTest, BytesAreBytes) {
  const BytesCodec codec;
  const std::string everything{"\0\xff any\n", 7};
  for (const std::string& value : {std::string{}, everything, std::string(100'000, 'x')}) {
    EXPECT_EQ(codec.encode(value).value(), value);
    EXPECT_EQ(codec.encode(std::string{value}).value(), value);
    for (std::size_t shift = 0; shift < 8; ++shift) {
      const ExactCopy copy{value, shift};
      const auto view = decode_stored(codec, kCodecRaw, copy.view());
      ASSERT_TRUE(view);
      EXPECT_EQ(*view, value);
      EXPECT_EQ(view->data(), copy.view().data());
      EXPECT_EQ(codec.view(copy.view()).data(), copy.view().data());
    }
  }
}

TEST(CodecTest, AValueThatIsGivenAwayIsNotCopied) {
  std::string value(1000, 'x');
  const char* data = value.data();
  EXPECT_EQ(BytesCodec{}.encode(std::move(value)).value().data(), data);
}

// ----- Aligned bytes.

TEST(CodecTest, OnlyUnalignedBytesAreCopied) {
  for (const std::size_t size : {0U, 1U, 8U, 1000U}) {
    const std::string bytes(size, 'b');
    for (std::size_t shift = 0; shift < 8; ++shift) {
      const ExactCopy copy{bytes, shift};
      auto aligned = AlignedBytes::of(copy.view()).value();
      EXPECT_EQ(aligned.is_copy(), shift != 0);
      EXPECT_EQ(aligned.bytes(), bytes);
      EXPECT_TRUE(is_codec_aligned(aligned.bytes()));
      const char* where = aligned.bytes().data();
      const AlignedBytes moved{std::move(aligned)};
      EXPECT_EQ(moved.bytes().data(), where);
      EXPECT_EQ(where == copy.view().data(), shift == 0);
    }
  }
}

// ----- Trivially copyable structs.

struct Quote {
  double bid;
  double ask;
  std::int64_t at_ns;
};

const TrivialCodec<Quote> kQuotes{"acme.quote.1"};
constexpr Quote kQuote{.bid = 1.5, .ask = 1.75, .at_ns = 7};

TEST(TrivialCodecTest, ExampleOfTheHeader) {
  const TrivialCodec<Quote> codec{"acme.quote.1"};
  const Result<std::string> bytes = codec.encode({.bid = 1.5, .ask = 1.75, .at_ns = 7});
  ASSERT_TRUE(bytes);
  const Result<const Quote*> quote = codec.decode(*bytes);
  ASSERT_TRUE(quote);
  EXPECT_EQ((*quote)->bid, 1.5);
  EXPECT_EQ((*quote)->ask, 1.75);
  EXPECT_EQ((*quote)->at_ns, 7);
  EXPECT_EQ(reinterpret_cast<const char*>(*quote), bytes->data() + 8);
}

// As docs/wire_format.md says. Stored values depend on it.
TEST(TrivialCodecTest, TheTagNeverChanges) {
  if constexpr (std::endian::native == std::endian::little) {
    constexpr std::string_view kHashed{"acme.quote.1\0\x18\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x01",
                                       30};
    static_assert(layout_tag("acme.quote.1", 24, 8) == fnv1a(kHashed));
    EXPECT_EQ(layout_tag("acme.quote.1", 24, 8), 0x6dff5c5bfc8a6a53);
    const std::string bytes = kQuotes.encode(kQuote).value();
    EXPECT_EQ(escape_bytes(bytes.substr(0, 8)), "hex:536a8afc5b5cff6d");
  }
}

TEST(TrivialCodecTest, EveryAlignment) {
  const std::string bytes = kQuotes.encode(kQuote).value();
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const ExactCopy copy{bytes, shift};
    if (shift == 0) {
      ASSERT_TRUE(kQuotes.decode(copy.view()));
    } else {
      expect_error(kQuotes.decode(copy.view()), ErrorCode::kInvalidArgument, "aligned to 8");
    }
    auto anywhere = decode_anywhere(kQuotes, copy.view());
    ASSERT_TRUE(anywhere) << anywhere.error().to_string();
    EXPECT_EQ(anywhere->is_copy(), shift != 0);
    const auto moved = std::move(*anywhere);
    EXPECT_EQ(moved.view()->ask, 1.75);
    EXPECT_EQ(moved.view()->at_ns, 7);
  }
}

TEST(TrivialCodecTest, AStructOfBytesMayStandAnywhere) {
  struct Flags {
    std::uint8_t one, two;
  };
  const TrivialCodec<Flags> codec{"flags"};
  const std::string bytes = codec.encode({1, 2}).value();
  EXPECT_EQ(bytes.size(), 10U);
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const ExactCopy copy{bytes, shift};
    const auto flags = codec.decode(copy.view());
    ASSERT_TRUE(flags);
    EXPECT_EQ((*flags)->two, 2);
  }
}

TEST(TrivialCodecTest, AnotherLayoutIsRefused) {
  struct Longer {
    Quote quote;
    double more;
  };
  struct Looser {
    std::array<std::uint8_t, sizeof(Quote)> bytes;
  };
  const std::string bytes = kQuotes.encode(kQuote).value();
  expect_error(TrivialCodec<Quote>{"acme.quote.2"}.decode(bytes), ErrorCode::kCorrupt, "layout");
  expect_error(TrivialCodec<Longer>{"acme.quote.1"}.decode(bytes), ErrorCode::kCorrupt, "layout");
  expect_error(TrivialCodec<Looser>{"acme.quote.1"}.decode(bytes), ErrorCode::kCorrupt, "layout");
  // The parts of what is hashed do not run into each other.
  EXPECT_NE(layout_tag("a", 1, 1), layout_tag({"a\0\1", 3}, 1, 1));
  EXPECT_NE(layout_tag("a", 256, 1), layout_tag("a", 1, 1));
  EXPECT_NE(layout_tag("a", 1, 2), layout_tag("a", 2, 1));
}

TEST(TrivialCodecTest, EveryLengthButTheRightOneIsRefused) {
  const std::string bytes = kQuotes.encode(kQuote).value() + std::string(16, '\0');
  for (std::size_t length = 0; length <= bytes.size(); ++length) {
    const ExactCopy copy{bytes.substr(0, length)};
    EXPECT_EQ(kQuotes.decode(copy.view()).has_value(), length == 8 + sizeof(Quote)) << length;
  }
  expect_error(kQuotes.decode(""), ErrorCode::kCorrupt, "cut off");
  expect_error(kQuotes.decode(bytes.substr(0, 31)), ErrorCode::kCorrupt, "23 bytes; it has 24");
}

TEST(TrivialCodecTest, EveryFlippedBitOfTheTagIsRefused) {
  const std::string bytes = kQuotes.encode(kQuote).value();
  for (std::size_t bit = 0; bit < bytes.size() * 8; ++bit) {
    std::string flipped = bytes;
    flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ (1 << bit % 8));
    EXPECT_EQ(kQuotes.decode(flipped).has_value(), bit >= 64) << bit;
  }
}

TEST(TrivialCodecTest, BytesBetweenFieldsAreNotTold) {
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
  struct Padded {
    std::uint8_t small;
    std::uint64_t large;
  };
  Padded padded;
  std::memset(static_cast<void*>(&padded), 0x55, sizeof(padded));
  padded.small = 1;
  padded.large = 2;
  const std::string bytes = TrivialCodec<Padded>{"padded"}.encode(padded).value();
  EXPECT_EQ(bytes.substr(9, 7), std::string(7, '\0'));
  return;
#endif
#endif
  GTEST_SKIP() << "this compiler cannot clear them";
}

TEST(TrivialCodecTest, TypesWithoutADefaultConstructorAndArrays) {
  struct Id {
    explicit Id(int given) : number(given) {}
    int number;
  };
  const TrivialCodec<Id> ids{"id"};
  const std::string bytes = ids.encode(Id{9}).value();
  EXPECT_EQ((*ids.decode(bytes))->number, 9);
  const TrivialCodec<std::array<float, 3>> arrays{"vector3"};
  const std::string three = arrays.encode({1, 2, 3}).value();
  EXPECT_EQ((**arrays.decode(three))[2], 3.0F);
}

TEST(TrivialCodecTest, ReadingAllocatesNothing) {
  const std::string bytes = kQuotes.encode(kQuote).value();
  const std::uint64_t before = allocations();
  double sum = 0;
  for (int i = 0; i < 100; ++i) {
    sum += (*decode_stored(kQuotes, kCodecTrivial, bytes))->bid + kQuotes.view(bytes)->ask;
    sum += decode_anywhere(kQuotes, bytes)->view()->bid;
  }
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(sum, 475.0);
  ::operator delete(::operator new(1));
  EXPECT_EQ(allocations(), before + 1);  // It does count.
}

TEST(TrivialCodecTest, ManyThreads) {
  const std::string bytes = kQuotes.encode(kQuote).value();
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&] {
      for (int round = 0; round < 1000; ++round) {
        EXPECT_EQ((*kQuotes.decode(bytes))->at_ns, 7);
        EXPECT_EQ(kQuotes.encode(kQuote).value(), bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tiercel::serialization
