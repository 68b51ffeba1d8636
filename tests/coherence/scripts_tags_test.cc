// The Lua of coherence/scripts.h that concerns tags, clears and what a fill must not bring back,
// run by a real Redis.

#include <gtest/gtest.h>

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "scripts_fixture.h"
#include "tiercel/coherence/tag_table.h"

namespace tiercel::coherence {
namespace {

using namespace std::string_literals;

using ScriptsTagsTest = ScriptsTest;

bool is_dead_by(const RedisReply& reply, Version version) {
  std::vector<std::optional<std::string_view>> versions;
  for (const RedisReply& each : reply.elements) {
    versions.push_back(each.is_nil() ? std::nullopt : std::optional<std::string_view>{each.text});
  }
  const auto dead = is_dead_in_redis(version, versions);
  EXPECT_TRUE(dead) << dead.error().to_string();
  return dead.value_or(true);
}

TagBaseline baseline_of(const RedisReply& reply) {
  std::vector<std::string_view> fields;
  for (const RedisReply& each : reply.elements) fields.push_back(each.text);
  const auto baseline = decode_tags(fields);
  EXPECT_TRUE(baseline) << baseline.error().to_string();
  return baseline ? *baseline : TagBaseline{};
}

// ---- invalidate tags

TEST_F(ScriptsTagsTest, AnInvalidationSetsItsSlotsAndTellsEverybody) {
  BlockingRedis subscriber = subscribe();
  const std::string message = "mess\0age"s;
  const Version version = invalidate_tags({"7", "65535"}, message);
  EXPECT_EQ(tag_field("7"), version);
  EXPECT_EQ(tag_field("65535"), version);
  EXPECT_EQ(tag_field("base"), version) << "the hash knows of nothing before";
  EXPECT_EQ(tag_field("8"), std::nullopt);
  EXPECT_EQ(newest_entry(), (std::pair{version, message}));
  EXPECT_EQ(next_message(subscriber), bytes_of(version) + message);
  const Version next = invalidate_tags({"7"});
  EXPECT_GT(next, version);
  EXPECT_EQ(tag_field("7"), next);
  EXPECT_EQ(tag_field("65535"), version);
  EXPECT_EQ(tag_field("base"), version);
}

TEST_F(ScriptsTagsTest, ManyTagsGoInOneStep) {
  std::vector<std::string> slots;
  for (int slot = 0; slot < 1024; ++slot) slots.push_back(std::to_string(slot * 64));
  const Version version = invalidate_tags(slots);
  const TagBaseline baseline = baseline_of(read_tags());
  EXPECT_EQ(baseline.base, version);
  ASSERT_EQ(baseline.slots.size(), 1024U);
  for (const auto& [slot, at] : baseline.slots) EXPECT_EQ(at, version) << slot;
  EXPECT_EQ(history_length(), 1);
}

TEST_F(ScriptsTagsTest, WhatMayNotBePublishedInvalidatesNothing) {
  const Version before = invalidate_tags({"7"});
  command({"ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels"});
  ASSERT_FALSE(command({"AUTH", "deaf", "pw"}).is_error());
  const std::vector<std::string> keys = {names_.history_key(), names_.tags_key()};
  EXPECT_TRUE(run(kInvalidateTagsScript, keys, {"m", names_.channel(), "1000", "7"}).is_error());
  EXPECT_TRUE(run(kClearScript, keys, {"m", names_.channel(), "1000"}).is_error());
  EXPECT_EQ(tag_field("7"), before);
  EXPECT_EQ(tag_field("base"), before);
}

// ---- clear

TEST_F(ScriptsTagsTest, AClearBeginsTheHashAnew) {
  invalidate_tags({"7"});
  BlockingRedis subscriber = subscribe();
  const Version version = clear("all of it");
  EXPECT_EQ(tag_field("7"), std::nullopt);
  EXPECT_EQ(tag_field("base"), version);
  EXPECT_EQ(newest_entry(), (std::pair{version, "all of it"s}));
  EXPECT_EQ(next_message(subscriber), bytes_of(version) + "all of it");
}

TEST_F(ScriptsTagsTest, AValueIsDeadFromAClearOnAndTheNextOneIsNot) {
  const Version before = write("k", "v");
  clear();
  const Version after = write("other", "v");
  const RedisReply tags = read_tags({"base"});
  EXPECT_TRUE(is_dead_by(tags, before));
  EXPECT_FALSE(is_dead_by(tags, after));
  EXPECT_EQ(stored("k").text, bytes_of(before) + "v") << "it stays where it is";
}

// ---- reading the tags

TEST_F(ScriptsTagsTest, ReadingMakesABaseOfTheNewestVersion) {
  const Version old = write("k", "v");
  const Version newest = write("other", "v");
  const TagBaseline baseline = baseline_of(read_tags());
  EXPECT_EQ(baseline.base, newest);
  EXPECT_TRUE(baseline.slots.empty());
  EXPECT_EQ(tag_field("base"), newest);
  EXPECT_TRUE(is_dead_by(read_tags({"base"}), old)) << "nobody knows what happened to it";
  EXPECT_FALSE(is_dead_by(read_tags({"base"}), newest));
  write("k", "v");
  EXPECT_EQ(baseline_of(read_tags()).base, newest) << "once";
}

TEST_F(ScriptsTagsTest, ABaseWithoutAHistoryIsOlderThanAnythingToCome) {
  const Version base = baseline_of(read_tags()).base;
  EXPECT_GT(base, kVersionUnknown);
  const Version written = write("k", "v");
  EXPECT_LT(base, written);
  EXPECT_LT(written >> kVersionSequenceBits, (base >> kVersionSequenceBits) + 60'000);
}

TEST_F(ScriptsTagsTest, ReadingSomeFieldsGivesThemInOrder) {
  const Version first = invalidate_tags({"7"});
  const Version second = invalidate_tags({"9"});
  const RedisReply reply = read_tags({"base", "9", "8", "7"});
  ASSERT_EQ(reply.elements.size(), 4U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].text, bytes_of(first));
  EXPECT_EQ(reply.elements[1].text, bytes_of(second));
  EXPECT_TRUE(reply.elements[2].is_nil());
  EXPECT_EQ(reply.elements[3].text, bytes_of(first));
}

// ---- what a fill must not bring back

TEST_F(ScriptsTagsTest, AFillIsGrantedAtTheNewestVersion) {
  write("other", "v");
  const Version newest = write("other", "w");
  EXPECT_EQ(grant("k", "token"), newest);
  EXPECT_EQ(tag_field("base"), newest);
}

TEST_F(ScriptsTagsTest, ATaggedFillIsStored) {
  const Version granted = grant("k", "token");
  const Version filled = version_of(finish_tagged_fill("k", "token", "v", granted, {"7", "9"}));
  EXPECT_EQ(stored("k").text, bytes_of(filled) + "v");
  EXPECT_TRUE(lease("k").is_nil());
  EXPECT_FALSE(is_dead_by(read_tags({"base", "7", "9"}), filled)) << "also the very first";
}

TEST_F(ScriptsTagsTest, AFillLosesToAnInvalidationOfItsTagInBetween) {
  const Version granted = grant("k", "token");
  invalidate_tags({"9"});
  EXPECT_TRUE(finish_tagged_fill("k", "token", "old", granted, {"7", "9"}).is_nil());
  EXPECT_TRUE(stored("k").is_nil());
  EXPECT_TRUE(lease("k").is_nil()) << "the next one may load at once";
  const Version again = grant("k", "token-b");
  const Version filled = version_of(finish_tagged_fill("k", "token-b", "new", again, {"7", "9"}));
  EXPECT_FALSE(is_dead_by(read_tags({"base", "7", "9"}), filled))
      << "though nothing was written since the invalidation";
}

TEST_F(ScriptsTagsTest, AFillDoesNotMindOtherTagsAndEarlierInvalidations) {
  invalidate_tags({"7"});
  const Version granted = grant("k", "token");
  invalidate_tags({"8"});
  write("other", "v");
  EXPECT_FALSE(finish_tagged_fill("k", "token", "v", granted, {"7", "9"}).is_nil());
}

TEST_F(ScriptsTagsTest, AFillLosesToAClearInBetween) {
  for (const std::vector<std::string>& slots : std::vector<std::vector<std::string>>{{}, {"7"}}) {
    const Version granted = grant("k", "token");
    clear();
    EXPECT_TRUE(finish_tagged_fill("k", "token", "old", granted, slots).is_nil());
    EXPECT_TRUE(stored("k").is_nil());
    EXPECT_TRUE(lease("k").is_nil());
  }
}

TEST_F(ScriptsTagsTest, AFillLosesWhereNobodyKnowsWhatHappenedInBetween) {
  const Version granted = grant("k", "token");
  invalidate_tags({"7"});
  command({"DEL", names_.tags_key()});  // Evicted.
  EXPECT_TRUE(finish_tagged_fill("k", "token", "old", granted, {"7"}).is_nil());

  const Version again = grant("k", "token");
  invalidate_tags({"7"});
  command({"DEL", names_.tags_key()});
  read_tags();  // Someone begins it anew.
  EXPECT_TRUE(finish_tagged_fill("k", "token", "old", again, {"7"}).is_nil());
  EXPECT_TRUE(stored("k").is_nil());
  EXPECT_FALSE(finish_tagged_fill("k", "token", "v", grant("k", "token"), {"7"}).is_nil());
}

TEST_F(ScriptsTagsTest, AFillWithoutAHistoryLosesAlike) {
  const Version granted = grant("k", "token");
  EXPECT_EQ(history_length(), 0);
  invalidate_tags({"7"});
  EXPECT_TRUE(finish_tagged_fill("k", "token", "old", granted, {"7"}).is_nil());
}

// Lua's own comparison goes by the locale and stops at no byte in particular; ours must not.
TEST_F(ScriptsTagsTest, VersionsCompareByTheirBytes) {
  const std::vector<Version> rising = {
      1,          0xff,       0x100,        0x7fffffff,         0x80000000,         0xffffffff,
      1ULL << 32, 3ULL << 33, 0x5a00000000, 0x6100000000000041, 0x6100000000000061, 1ULL << 63,
      ~0ULL};
  for (std::size_t i = 0; i < rising.size(); ++i) {
    for (std::size_t j = 0; j < rising.size(); ++j) {
      command({"DEL", names_.tags_key()});
      command({"HSET", names_.tags_key(), "base", bytes_of(0), "7", bytes_of(rising[i])});
      command({"DEL", names_.value_key("k")});
      grant("k", "token");
      EXPECT_EQ(finish_tagged_fill("k", "token", "v", rising[j], {"7"}).is_nil(), i > j)
          << rising[i] << " " << rising[j];
    }
  }
}

TEST_F(ScriptsTagsTest, AFillLosesToAForeignWritersValue) {
  const Version granted = grant("k", "token");
  command({"SET", names_.value_key("k"), "foreign"});
  EXPECT_TRUE(finish_tagged_fill("k", "token", "old", granted, {}).is_nil());
  EXPECT_EQ(stored("k").text, "foreign");
  EXPECT_TRUE(lease("k").is_nil());
}

TEST_F(ScriptsTagsTest, AFillOverADeadValueIsStored) {
  write("k", "dead");
  invalidate_tags({"7"});
  const Version granted = grant("k", "token", "1");
  const Version filled = version_of(
      finish_tagged_fill("k", "token", "v", granted, {"7"}, "0", "filled", /*force=*/"1"));
  EXPECT_EQ(stored("k").text, bytes_of(filled) + "v");
}

TEST_F(ScriptsTagsTest, AFillWithoutAGrantIsRefusedAsAnError) {
  grant("k", "token");
  const std::vector<std::string> keys = {names_.history_key(), names_.tags_key(),
                                         names_.value_key("k"), names_.fill_key("k")};
  EXPECT_TRUE(
      run(kFinishFillsScript, keys, {"m", names_.channel(), "1000", "token", "v", "0", "", "0", ""})
          .is_error());
  EXPECT_TRUE(stored("k").is_nil());
}

}  // namespace
}  // namespace tiercel::coherence
