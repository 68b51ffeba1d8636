#pragma once

// Players for the tests of CapnpCodec: one with every field, and a look at every field.

#include <gtest/gtest.h>
#include <kj/exception.h>
#include <kj/string.h>

#include <string>
#include <string_view>

#include "hand_made.h"
#include "player.capnp.h"
#include "tiercel/serialization/capnp_codec.h"

namespace tiercel::serialization {

using PlayerCodec = CapnpCodec<game::Player>;
using LaterCodec = CapnpCodec<game::PlayerLater>;

template <typename Builder>
void fill_player(Builder player, int friends = 1) {
  player.setId(7);
  player.setLevel(42);
  player.setName("Ann");
  auto position = player.initPosition();
  position.setX(1.5);
  position.setZ(-3);
  auto items = player.initItems(2);
  items[0].setId(11);
  items[0].setLabel("sword");
  items[1].setCount(3);
  const kj::byte avatar[] = {1, 2, 3, 0, 255};
  player.setAvatar(kj::arrayPtr(avatar, sizeof(avatar)));
  auto titles = player.initTitles(3);
  titles.set(0, "first");
  titles.set(2, "third, with a title of some length");
  auto grid = player.initGrid(2);
  grid.init(0, 3).set(2, 9);
  grid.init(1, 1).set(0, 8);
  player.initMarks(5);
  auto party = player.initParty();
  party.setLeader("Bob");
  party.setSize(4);
  player.getAnything().template setAs<capnp::Text>("anything");
  if (friends > 0) fill_player(player.initFriend(), friends - 1);
}

template <typename Schema = game::Player>
std::string encode_player(int friends = 1, unsigned first_segment_words = 128) {
  CapnpValue<Schema> value{first_segment_words};
  fill_player(value.init(), friends);
  auto bytes = CapnpCodec<Schema>{}.encode(value);
  EXPECT_TRUE(bytes) << bytes.error().to_string();
  return bytes.value();
}

// Every field that fill_player sets, friends and all.
template <typename Reader>
void expect_player(Reader player, int friends = 1) {
  EXPECT_EQ(player.getId(), 7U);
  EXPECT_EQ(player.getLevel(), 42U);
  EXPECT_TRUE(player.getName() == "Ann");
  EXPECT_EQ(player.getPosition().getX(), 1.5);
  EXPECT_EQ(player.getPosition().getY(), 0);
  EXPECT_EQ(player.getPosition().getZ(), -3);
  ASSERT_EQ(player.getItems().size(), 2U);
  EXPECT_TRUE(player.getItems()[0].getLabel() == "sword");
  EXPECT_EQ(player.getItems()[0].getId(), 11U);
  EXPECT_EQ(player.getItems()[1].getCount(), 3U);
  EXPECT_TRUE(player.getItems()[1].getLabel() == "");
  ASSERT_EQ(player.getAvatar().size(), 5U);
  EXPECT_EQ(player.getAvatar()[4], 255);
  ASSERT_EQ(player.getTitles().size(), 3U);
  EXPECT_TRUE(player.getTitles()[1] == "");
  EXPECT_TRUE(player.getTitles()[2] == "third, with a title of some length");
  ASSERT_EQ(player.getGrid().size(), 2U);
  EXPECT_EQ(player.getGrid()[0][2], 9U);
  EXPECT_EQ(player.getGrid()[1][0], 8U);
  EXPECT_EQ(player.getMarks().size(), 5U);
  ASSERT_TRUE(player.isParty());
  EXPECT_TRUE(player.getParty().getLeader() == "Bob");
  EXPECT_EQ(player.getParty().getSize(), 4);
  EXPECT_TRUE(player.getAnything().template getAs<capnp::Text>() == "anything");
  ASSERT_EQ(player.hasFriend(), friends > 0);
  if (friends > 0) expect_player(player.getFriend(), friends - 1);
}

// A flat message made by hand, with a table that fits.
inline std::string flat_words(const std::vector<std::uint64_t>& words) {
  std::string bytes(4, '\0');
  append_u32_le(bytes, static_cast<std::uint32_t>(words.size()));
  for (const std::uint64_t word : words) {
    append_u32_le(bytes, static_cast<std::uint32_t>(word));
    append_u32_le(bytes, static_cast<std::uint32_t>(word >> 32));
  }
  return bytes;
}

// Decodes; where that succeeds, reads everything, copies everything, and compares with what
// Cap'n Proto's own, checking reader sees. True where it was accepted.
template <typename Schema = game::Player>
bool survive(std::string_view bytes) {
  const ExactCopy copy{bytes};
  const auto view = CapnpCodec<Schema>{}.decode(copy.view());
  if (!view) {
    EXPECT_EQ(view.error().code, ErrorCode::kCorrupt) << view.error().to_string();
    EXPECT_FALSE(view.error().message.empty());
    return false;
  }
  const auto* first = reinterpret_cast<const capnp::word*>(copy.view().data() + 8);
  const kj::ArrayPtr<const capnp::word> segment{first, (bytes.size() - 8) / 8};
  capnp::SegmentArrayMessageReader checking{kj::arrayPtr(&segment, 1)};
  try {
    const kj::String seen = kj::str(*view);
    EXPECT_TRUE(seen == kj::str(checking.getRoot<Schema>()));
    capnp::MallocMessageBuilder again;
    again.setRoot(*view);
    EXPECT_TRUE(seen == kj::str(again.getRoot<Schema>().asReader()));
  } catch (const kj::Exception& exception) {
    ADD_FAILURE() << "accepted, and then: " << exception.getDescription().cStr();
  }
  return true;
}

}  // namespace tiercel::serialization
