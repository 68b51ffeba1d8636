#include "tiercel/coherence/tag_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "tiercel/base/bytes.h"
#include "tiercel/base/random.h"

namespace tiercel::coherence {
namespace {

using Slots = std::vector<TagSlot>;

constexpr Version kNewest = std::numeric_limits<Version>::max();

std::string bytes_of(Version version) {
  std::string bytes;
  append_u64_be(bytes, version);
  return bytes;
}

bool is_dead(const TagTable& table, Version version, const Slots& slots) {
  return table.is_dead(table.generation(), version, slots);
}

// As at the beginning of an epoch, when nothing is heard in between.
void begin_epoch(TagTable& table, const TagBaseline& baseline) {
  table.reset();
  table.join(baseline);
}

TEST(TagTable, EverythingIsDeadUntilItHasJoined) {
  TagTable table;
  EXPECT_FALSE(table.has_joined());
  EXPECT_TRUE(is_dead(table, 1, {}));
  EXPECT_TRUE(is_dead(table, kNewest, {0}));
  EXPECT_TRUE(is_dead(table, kVersionUnknown, {})) << "ask Redis";
  const std::uint64_t before = table.generation();
  table.join({});
  EXPECT_TRUE(table.has_joined());
  EXPECT_FALSE(is_dead(table, 1, {}));
  EXPECT_TRUE(table.is_dead(before, 1, {})) << "who asked before knows nothing";
  table.reset();
  EXPECT_FALSE(table.has_joined());
  EXPECT_TRUE(is_dead(table, 1, {}));
  table.reset();
  EXPECT_TRUE(is_dead(table, 1, {})) << "also twice";
}

TEST(TagTable, WhatWasHeardBeforeTheAnswerCountsToo) {
  TagTable table;
  table.reset();
  table.invalidate(7, 100);
  table.invalidate(8, 50);
  table.clear(40);
  table.join({.base = 30, .slots = {{7, 90}, {8, 60}, {9, 70}}});
  EXPECT_TRUE(is_dead(table, 99, {7})) << "the answer was under way when it was heard";
  EXPECT_FALSE(is_dead(table, 100, {7}));
  EXPECT_TRUE(is_dead(table, 59, {8}));
  EXPECT_TRUE(is_dead(table, 69, {9}));
  EXPECT_TRUE(is_dead(table, 39, {}));
  EXPECT_FALSE(is_dead(table, 40, {}));
}

TEST(TagTable, AnAnswerThatComesTwiceChangesNothing) {
  TagTable table;
  begin_epoch(table, {.base = 30});
  const std::uint64_t generation = table.generation();
  table.join({.base = 30});
  EXPECT_TRUE(table.has_joined());
  EXPECT_FALSE(table.is_dead(generation, 30, {}));
}

TEST(TagTable, AValueIsDeadBeforeItsTagsInvalidationAndAliveFromThatOn) {
  TagTable table;
  begin_epoch(table, {});
  table.invalidate(7, 100);
  EXPECT_TRUE(is_dead(table, 99, {7}));
  EXPECT_FALSE(is_dead(table, 100, {7})) << "a fill that began after it";
  EXPECT_FALSE(is_dead(table, 101, {7}));
  EXPECT_FALSE(is_dead(table, 99, {}));
  EXPECT_FALSE(is_dead(table, 99, {6, 8}));
  EXPECT_TRUE(is_dead(table, 99, {6, 7}));
  EXPECT_TRUE(is_dead(table, 99, {7, 8}));
}

TEST(TagTable, EverySlotIsItsOwn) {
  TagTable table;
  begin_epoch(table, {});
  for (const TagSlot slot : Slots{0, 1, 255, 256, 32768, 65535}) {
    EXPECT_FALSE(is_dead(table, 5, {slot})) << slot;
    table.invalidate(slot, 6);
    EXPECT_TRUE(is_dead(table, 5, {slot})) << slot;
  }
}

TEST(TagTable, AnOlderInvalidationChangesNothing) {
  TagTable table;
  begin_epoch(table, {});
  table.invalidate(7, 100);
  table.invalidate(7, 50);
  EXPECT_TRUE(is_dead(table, 99, {7}));
  table.clear(40);
  table.clear(30);
  EXPECT_TRUE(is_dead(table, 39, {}));
  EXPECT_FALSE(is_dead(table, 40, {}));
}

TEST(TagTable, AClearReachesValuesWithAndWithoutTags) {
  TagTable table;
  begin_epoch(table, {});
  table.clear(100);
  EXPECT_TRUE(is_dead(table, 99, {}));
  EXPECT_TRUE(is_dead(table, 99, {3}));
  EXPECT_FALSE(is_dead(table, 100, {}));
  EXPECT_FALSE(is_dead(table, 100, {3}));
  EXPECT_FALSE(is_dead(table, kVersionUnknown, {}));
}

TEST(TagTable, AnUnknownVersionIsNewerThanAllUntilTheNextReset) {
  TagTable table;
  begin_epoch(table, {});
  table.invalidate(7, kVersionUnknown);
  EXPECT_TRUE(is_dead(table, kNewest - 1, {7}));
  EXPECT_FALSE(is_dead(table, 1, {8}));
  table.clear(kVersionUnknown);
  EXPECT_TRUE(is_dead(table, kNewest - 1, {}));
  begin_epoch(table, {.base = 5});
  EXPECT_FALSE(is_dead(table, 5, {7}));
}

TEST(TagTable, AValueOfUnknownVersionWithTagsIsDead) {
  TagTable table;
  begin_epoch(table, {});
  EXPECT_TRUE(is_dead(table, kVersionUnknown, {7}));
}

TEST(TagTable, AResetForgetsAllThatRedisDoesNotSay) {
  TagTable table;
  begin_epoch(table, {.base = 50, .slots = {{7, 80}, {8, 90}}});
  EXPECT_TRUE(is_dead(table, 49, {}));
  EXPECT_FALSE(is_dead(table, 50, {}));
  EXPECT_TRUE(is_dead(table, 79, {7}));
  EXPECT_TRUE(is_dead(table, 89, {8}));
  begin_epoch(table, {.base = 10, .slots = {{8, 20}}});
  EXPECT_FALSE(is_dead(table, 49, {}));
  EXPECT_FALSE(is_dead(table, 49, {7}));
  EXPECT_TRUE(is_dead(table, 19, {8}));
  EXPECT_FALSE(is_dead(table, 20, {8}));
}

TEST(TagTable, WhoAskedForTheGenerationBeforeAResetIsToldDead) {
  TagTable table;
  begin_epoch(table, {});
  const std::uint64_t before = table.generation();
  EXPECT_FALSE(table.is_dead(before, 5, {}));
  begin_epoch(table, {});
  EXPECT_TRUE(table.is_dead(before, 5, {}));
  EXPECT_TRUE(table.is_dead(before, kVersionUnknown, {}));
  EXPECT_FALSE(is_dead(table, 5, {}));
}

TEST(TagTable, AgreesWithAModel) {
  constexpr std::uint64_t kSeed = 11;
  Random random{kSeed};
  TagTable table;
  begin_epoch(table, {});
  std::vector<Version> slots(16, 0);
  Version base = 0;
  for (int i = 0; i < 100'000; ++i) {
    const auto slot = static_cast<TagSlot>(random.below(16));
    const Version version = random.below(1000) + 1;
    switch (random.below(200)) {
      case 0:
        table.clear(version);
        base = std::max(base, version);
        break;
      case 1: {
        base = version;
        slots.assign(16, 0);
        slots[slot] = version + 5;
        begin_epoch(table, {.base = base, .slots = {{slot, version + 5}}});
        break;
      }
      case 2:
        table.invalidate(slot, version);
        slots[slot] = std::max(slots[slot], version);
        break;
      default: {
        const auto other = static_cast<TagSlot>(random.below(16));
        const bool expected = std::max({base, slots[slot], slots[other]}) > version;
        ASSERT_EQ(is_dead(table, version, {slot, other}), expected) << "seed " << kSeed << " " << i;
      }
    }
  }
}

// A value of version 10 is dead in every state that the table goes through: by its slot in one
// epoch, by the base in the next. Only a mixture of two would say that it is alive.
TEST(TagTable, NoReaderSeesTwoEpochsAtOnce) {
  TagTable table;
  const TagBaseline by_slot{.base = 1, .slots = {{7, 20}}};
  const TagBaseline by_base{.base = 20, .slots = {}};
  begin_epoch(table, by_slot);
  std::atomic<bool> stop{false};
  std::atomic<std::uint64_t> alive{0};
  std::atomic<std::uint64_t> asked{0};
  std::vector<std::thread> readers;
  for (int i = 0; i < 2; ++i) {
    readers.emplace_back([&] {
      const Slots slots{7};
      while (!stop.load(std::memory_order_relaxed)) {
        if (!is_dead(table, 10, slots)) alive.fetch_add(1);
        asked.fetch_add(1, std::memory_order_relaxed);
      }
    });
  }
  for (int i = 0; i < 200 || asked.load() < 1000; ++i)
    begin_epoch(table, i % 2 == 0 ? by_base : by_slot);
  stop = true;
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(alive.load(), 0U);
}

TEST(TagTable, InvalidationsOfManyThreadsKeepTheNewest) {
  TagTable table;
  begin_epoch(table, {});
  std::vector<std::thread> writers;
  for (Version first = 0; first < 4; ++first) {
    writers.emplace_back([&table, first] {
      for (Version version = 1 + first; version <= 40'000; version += 4) {
        table.invalidate(9, version);
        table.clear((version + 1) / 2);
      }
    });
  }
  for (auto& writer : writers) writer.join();
  EXPECT_TRUE(is_dead(table, 39'999, {9}));
  EXPECT_FALSE(is_dead(table, 40'000, {9}));
  EXPECT_TRUE(is_dead(table, 19'999, {}));
  EXPECT_FALSE(is_dead(table, 20'000, {}));
}

// ---- what Redis says

Result<TagBaseline> decode(const std::vector<std::string>& reply) {
  return decode_tags(std::vector<std::string_view>(reply.begin(), reply.end()));
}

TEST(DecodeTags, ReadsTheHash) {
  const auto baseline =
      decode({"7", bytes_of(70), "base", bytes_of(0x0102030405060708), "65535", bytes_of(kNewest)});
  ASSERT_TRUE(baseline) << baseline.error().to_string();
  EXPECT_EQ(baseline->base, 0x0102030405060708U);
  const std::vector<std::pair<TagSlot, Version>> slots{{7, 70}, {65535, kNewest}};
  EXPECT_EQ(baseline->slots, slots);
  EXPECT_TRUE(decode({"base", bytes_of(1)})->slots.empty());
}

TEST(DecodeTags, WhatIsNotThatHashIsCorrupt) {
  const std::string version = bytes_of(1);
  const std::vector<std::vector<std::string>> replies{
      {},
      {"7", version},
      {"base"},
      {"base", ""},
      {"base", version.substr(1)},
      {"base", version + "x"},
      {"base", bytes_of(0)},
      {"base", version, "7", bytes_of(0)},
      {"base", version, "7", "1"},
      {"base", version, "65536", version},
      {"base", version, "-1", version},
      {"base", version, "", version},
      {"base", version, "7 ", version},
      {"base", version, "clear", version},
      {"base", version, "99999999999999999999", version},
      {"BASE", version},
  };
  for (const auto& reply : replies) {
    const auto baseline = decode(reply);
    ASSERT_FALSE(baseline) << ::testing::PrintToString(reply);
    EXPECT_EQ(baseline.error().code, ErrorCode::kCorrupt);
    EXPECT_TRUE(baseline.error().message.starts_with("tags: "));
  }
}

Result<bool> dead_in_redis(Version version, const std::vector<std::optional<Version>>& versions) {
  std::vector<std::string> bytes;
  for (const auto& each : versions) bytes.push_back(each ? bytes_of(*each) : "");
  std::vector<std::optional<std::string_view>> reply;
  for (std::size_t i = 0; i < versions.size(); ++i) {
    reply.push_back(versions[i] ? std::optional<std::string_view>{bytes[i]} : std::nullopt);
  }
  return is_dead_in_redis(version, reply);
}

TEST(IsDeadInRedis, SaysWhatTheTableWouldSay) {
  EXPECT_FALSE(dead_in_redis(10, {9}).value());
  EXPECT_FALSE(dead_in_redis(10, {10}).value());
  EXPECT_TRUE(dead_in_redis(10, {11}).value()) << "cleared";
  EXPECT_FALSE(dead_in_redis(10, {9, std::nullopt, std::nullopt}).value());
  EXPECT_FALSE(dead_in_redis(10, {9, 10, 3}).value());
  EXPECT_TRUE(dead_in_redis(10, {9, 11, 3}).value());
  EXPECT_TRUE(dead_in_redis(10, {9, std::nullopt, 11}).value());
  EXPECT_TRUE(dead_in_redis(10, {std::nullopt}).value()) << "nothing is known";
  EXPECT_TRUE(dead_in_redis(10, {std::nullopt, 3}).value());
  EXPECT_FALSE(dead_in_redis(kVersionUnknown, {9}).value());
  EXPECT_TRUE(dead_in_redis(kVersionUnknown, {9, 3}).value());
}

TEST(IsDeadInRedis, RefusesWhatIsNoVersion) {
  EXPECT_EQ(is_dead_in_redis(10, {}).error().code, ErrorCode::kCorrupt);
  const std::string one = bytes_of(1);
  const std::array<std::optional<std::string_view>, 2> short_one{one, "7 bytes"};
  ASSERT_FALSE(is_dead_in_redis(10, short_one));
  EXPECT_EQ(is_dead_in_redis(10, short_one).error().code, ErrorCode::kCorrupt);
}

}  // namespace
}  // namespace tiercel::coherence
