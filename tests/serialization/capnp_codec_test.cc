#include "tiercel/serialization/capnp_codec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "players.h"
#include "support/allocations.h"
#include "tiercel/serialization/limits.h"

namespace tiercel::serialization {
namespace {

using game::Player;
using game::PlayerLater;
using ::testing::HasSubstr;
using tiercel::testing::allocations;

static_assert(CheckedOnceCodec<PlayerCodec>);

template <typename T>
void expect_error(const Result<T>& result, ErrorCode code, const char* text) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code, code) << result.error().to_string();
  EXPECT_THAT(result.error().message, HasSubstr(text));
}

TEST(CapnpCodecTest, ExampleOfTheHeader) {
  PlayerCodec::Value value;
  value.init().setName("Ann");
  const Result<std::string> bytes = PlayerCodec{}.encode(value);
  ASSERT_TRUE(bytes);
  const Result<Player::Reader> player = PlayerCodec{}.decode(*bytes);
  ASSERT_TRUE(player);
  EXPECT_TRUE(player->getName() == "Ann");
}

TEST(CapnpCodecTest, RoundTripOfEveryField) {
  const std::string bytes = encode_player(3);
  const auto player = PlayerCodec{}.decode(bytes);
  ASSERT_TRUE(player) << player.error().to_string();
  expect_player(*player, 3);
  expect_player(PlayerCodec{}.view(bytes), 3);
  EXPECT_TRUE(survive(bytes));
}

TEST(CapnpCodecTest, TheReaderReadsTheBytesThemselves) {
  const std::string bytes = encode_player();
  const auto name = PlayerCodec{}.decode(bytes)->getName();
  EXPECT_TRUE(is_inside({name.begin(), name.size()}, bytes));
  const auto avatar = PlayerCodec{}.view(bytes).getAvatar();
  EXPECT_TRUE(is_inside({avatar.asChars().begin(), avatar.size()}, bytes));
}

TEST(CapnpCodecTest, AValueOfManySegmentsIsStoredAsOne) {
  for (const unsigned first_words : {1U, 2U, 7U, 30U, 4096U}) {
    CapnpValue<Player> value{first_words};
    fill_player(value.init(), 5);
    if (first_words == 1) {
      EXPECT_GT(value.builder().getSegmentsForOutput().size(), 2U);
    }
    const auto bytes = PlayerCodec{}.encode(value);
    ASSERT_TRUE(bytes) << bytes.error().to_string();
    EXPECT_EQ(bytes->size(), encode_player(5).size()) << first_words;
    expect_player(*PlayerCodec{}.decode(*bytes), 5);
  }
}

TEST(CapnpCodecTest, ValuesMoveAndAreChanged) {
  CapnpValue<Player> value;
  auto builder = value.init();
  CapnpValue<Player> moved{std::move(value)};
  builder.setName("moved");
  const std::string bytes = PlayerCodec{}.encode(moved).value();
  CapnpValue<Player> changed;
  changed.set(PlayerCodec{}.view(bytes));
  changed.get().setLevel(3);
  const std::string again = PlayerCodec{}.encode(changed).value();
  EXPECT_EQ(again, PlayerCodec{}.encode(changed).value());  // Encoding changes nothing.
  EXPECT_TRUE(PlayerCodec{}.decode(again)->getName() == "moved");
  EXPECT_EQ(PlayerCodec{}.decode(again)->getLevel(), 3U);
}

TEST(CapnpCodecTest, AValueThatWasNeverFilledIsRefused) {
  expect_error(PlayerCodec{}.encode(CapnpValue<Player>{}), ErrorCode::kInvalidArgument, "init()");
  CapnpValue<Player> empty;
  empty.init();
  EXPECT_TRUE(PlayerCodec{}.encode(empty));
}

TEST(CapnpCodecTest, TheStandardFraming) {
  const std::string bytes = encode_player();
  EXPECT_EQ(bytes.substr(0, 4), std::string(4, '\0'));
  const auto words =
      static_cast<unsigned char>(bytes[4]) + 256U * static_cast<unsigned char>(bytes[5]);
  EXPECT_EQ(bytes.size(), 8 + words * 8);
}

// Stored values depend on it, as docs/wire_format.md says it.
TEST(CapnpCodecTest, TheIdComesFromTheStructsId) {
  const std::uint64_t id = capnp::typeId<Player>();
  EXPECT_EQ(PlayerCodec{}.codec_id(),
            (static_cast<std::uint32_t>(id) ^ static_cast<std::uint32_t>(id >> 32)) | 0x80000000);
  EXPECT_EQ(PlayerCodec{}.codec_id(), 0xf967afacU);
  EXPECT_NE(PlayerCodec{}.codec_id(), LaterCodec{}.codec_id());
  const std::string bytes = encode_player();
  expect_error(decode_stored(LaterCodec{}, PlayerCodec{}.codec_id(), bytes), ErrorCode::kCorrupt,
               "codec");
  EXPECT_TRUE(decode_stored(PlayerCodec{}, PlayerCodec{}.codec_id(), bytes));
}

TEST(CapnpCodecTest, AnOldValueIsReadByALaterSchema) {
  const std::string bytes = encode_player();
  const auto later = LaterCodec{}.decode(bytes);
  ASSERT_TRUE(later) << later.error().to_string();
  expect_player(*later);
  EXPECT_EQ(later->getExperience(), 100U);
  EXPECT_TRUE(later->getMotto() == "none");
  EXPECT_EQ(later->getRank(), PlayerLater::Rank::NOVICE);
  EXPECT_EQ(later->getItems()[1].getWeight(), 1.5);
  EXPECT_FALSE(later->getItems()[1].hasMaker());
}

TEST(CapnpCodecTest, ALaterValueIsReadByAnOldSchema) {
  CapnpValue<PlayerLater> value;
  fill_player(value.init());
  value.get().setMotto("later");
  value.get().getItems()[1].setMaker("a smith");
  const std::string bytes = LaterCodec{}.encode(value).value();
  const auto old = PlayerCodec{}.decode(bytes);
  ASSERT_TRUE(old) << old.error().to_string();
  expect_player(*old);
  // What it does not know is copied with the rest.
  CapnpValue<Player> copy;
  copy.set(*old);
  const std::string again = PlayerCodec{}.encode(copy).value();
  EXPECT_TRUE(LaterCodec{}.decode(again)->getMotto() == "later");
  EXPECT_TRUE(LaterCodec{}.decode(again)->getItems()[1].getMaker() == "a smith");
}

TEST(CapnpCodecTest, EveryAlignment) {
  const std::string bytes = encode_player();
  for (std::size_t shift = 0; shift < 8; ++shift) {
    const ExactCopy copy{bytes, shift};
    if (shift == 0) {
      ASSERT_TRUE(PlayerCodec{}.decode(copy.view()));
    } else {
      expect_error(PlayerCodec{}.decode(copy.view()), ErrorCode::kInvalidArgument, "aligned");
    }
    auto anywhere = decode_anywhere(PlayerCodec{}, copy.view());
    ASSERT_TRUE(anywhere) << anywhere.error().to_string();
    EXPECT_EQ(anywhere->is_copy(), shift != 0);
    const auto moved = std::move(*anywhere);
    expect_player(moved.view());
  }
}

TEST(CapnpCodecTest, NestingUpToTheLimit) {
  // The root is at depth 1, and the deepest friend's lists of lists are two below it.
  EXPECT_TRUE(survive(encode_player(kCapnpNestingMax - 3)));
  CapnpValue<Player> value;
  fill_player(value.init(), kCapnpNestingMax);
  expect_error(PlayerCodec{}.encode(value), ErrorCode::kInvalidArgument, "nested");
}

TEST(CapnpCodecTest, EmptyElementsUpToTheLimit) {
  const auto with_marks = [](unsigned marks) {
    CapnpValue<Player> value;
    value.init().initMarks(marks);
    return PlayerCodec{}.encode(value);
  };
  ASSERT_TRUE(with_marks(kCapnpEmptyElementsMax));
  EXPECT_EQ(PlayerCodec{}.decode(*with_marks(kCapnpEmptyElementsMax))->getMarks().size(),
            kCapnpEmptyElementsMax);
  expect_error(with_marks(0x1fffffff), ErrorCode::kInvalidArgument, "traversal limit");
}

TEST(CapnpCodecTest, ReadingAllocatesNothing) {
  const std::string bytes = encode_player();
  const std::uint64_t before = allocations();
  std::uint64_t sum = 0;
  for (int i = 0; i < 100; ++i) {
    sum += decode_stored(PlayerCodec{}, PlayerCodec{}.codec_id(), bytes)->getId();
    const Player::Reader player = PlayerCodec{}.view(bytes);
    sum += player.getName().size() + player.getItems()[0].getId() + player.getFriend().getId();
  }
  EXPECT_EQ(allocations(), before);
  EXPECT_EQ(sum, 100 * (7 + 3 + 11 + 7U));
}

TEST(CapnpCodecTest, OneViewOnManyThreads) {
  const std::string bytes = encode_player();
  const Player::Reader view = *PlayerCodec{}.decode(bytes);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&bytes, view] {
      for (int round = 0; round < 200; ++round) {
        expect_player(view);
        expect_player(*PlayerCodec{}.decode(bytes));
        EXPECT_EQ(encode_player(), bytes);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace
}  // namespace tiercel::serialization
