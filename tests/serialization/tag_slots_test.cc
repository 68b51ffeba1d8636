#include "tiercel/serialization/tag_slots.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::serialization {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(TagSlotsTest, ExampleOfTheHeader) {
  const std::vector<std::string_view> tags{"team:7", "season:3"};
  const Result<TagSlots> slots = TagSlots::of(tags);
  ASSERT_TRUE(slots);
  EXPECT_EQ(slots->size(), 2U);
}

// The hash is on the wire: another release must find the same slots. The first is the low end of
// XXH3's published test value for no bytes at all, 2D06800538D394C2.
TEST(TagSlotsTest, TheHashNeverChanges) {
  EXPECT_EQ(tag_slot(""), 0x94c2);
  EXPECT_EQ(tag_slot("team:7"), 0xe34e);
  EXPECT_EQ(tag_slot(std::string(1000, 't')), 0x3f63);
}

TEST(TagSlotsTest, TagsSpreadOverTheSlots) {
  std::set<TagSlot> slots;
  for (int i = 0; i < 1000; ++i) slots.insert(tag_slot("tag:" + std::to_string(i)));
  EXPECT_GT(slots.size(), 950U);
}

TEST(TagSlotsTest, AreSortedAndEachOnce) {
  TagSlots slots;
  for (const TagSlot slot : std::vector<TagSlot>{7, 65535, 0, 7, 300, 0})
    EXPECT_TRUE(slots.add(slot));
  EXPECT_THAT(slots.span(), ElementsAre(0, 7, 300, 65535));
  TagSlots same;
  for (const TagSlot slot : std::vector<TagSlot>{0, 300, 7, 65535}) EXPECT_TRUE(same.add(slot));
  EXPECT_TRUE(slots == same);
}

TEST(TagSlotsTest, ThereIsRoomForSixteen) {
  TagSlots slots;
  for (TagSlot slot = 0; slot < 16; ++slot) EXPECT_TRUE(slots.add(slot));
  EXPECT_FALSE(slots.add(16));
  EXPECT_TRUE(slots.add(3)) << "is there already";
  EXPECT_EQ(slots.size(), 16U);
  EXPECT_EQ(slots.span().back(), 15);
}

TEST(TagSlotsTest, RefusesTooManyTagsAndTagsThatNoMessageCanName) {
  const std::string longest(kKeyBytesMax, 't');
  const std::vector<std::string_view> fits(kTagsPerValueMax, longest);
  ASSERT_TRUE(TagSlots::of(fits));
  EXPECT_EQ(TagSlots::of(fits)->size(), 1U);
  const std::vector<std::string_view> many(kTagsPerValueMax + 1, "t");
  ASSERT_FALSE(TagSlots::of(many));
  EXPECT_EQ(TagSlots::of(many).error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(TagSlots::of(many).error().message, HasSubstr("17 tags"));
  const std::string too_long = longest + "t";
  const std::vector<std::string_view> one{too_long};
  ASSERT_FALSE(TagSlots::of(one));
  EXPECT_THAT(TagSlots::of(one).error().message, HasSubstr("65537 bytes"));
  EXPECT_TRUE(TagSlots::of({})->empty());
}

}  // namespace
}  // namespace tiercel::serialization
