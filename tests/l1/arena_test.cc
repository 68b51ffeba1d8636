// The arena by itself, against a model that knows each block in use.

#include "arena.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

constexpr Ref kBegin = 1;

class ArenaUnderTest {
 public:
  explicit ArenaUnderTest(std::uint32_t units)
      : memory_(kBegin + units), blocks_(memory_.blocks()) {
    arena_.init(blocks_, kBegin, kBegin + units);
    free_ = units;
  }

  Arena& arena() { return arena_; }
  [[nodiscard]] std::size_t in_use() const { return used_.size(); }
  [[nodiscard]] const std::map<Ref, std::uint32_t>& used() const { return used_; }

  // Null if the arena has nothing.
  Ref allocate(std::uint32_t units) { return adopt(arena_.allocate(units), units); }

  // Checks what the arena gave and makes it an entry filled with a pattern.
  Ref adopt(Arena::Allocated got, std::uint32_t units) {
    if (got.ref == kNoRef) return kNoRef;
    EXPECT_LE(got.slack, 2U);
    const std::uint32_t size = units + got.slack;
    EXPECT_GE(got.ref, arena_.begin());
    EXPECT_LE(got.ref + size, arena_.end());
    const auto after = used_.lower_bound(got.ref);
    EXPECT_TRUE(after == used_.end() || got.ref + size <= after->first);
    if (after != used_.begin()) {
      const auto before = std::prev(after);
      EXPECT_LE(before->first + before->second, got.ref);
    }
    Entry& entry = make_entry(blocks_, got.ref, units, got.slack);
    std::memset(const_cast<char*>(entry.value().data()), pattern(got.ref), entry.value_bytes);
    used_.emplace(got.ref, size);
    free_ -= size;
    return got.ref;
  }

  void free(Ref ref) {
    const std::string_view value = blocks_[ref].value();
    EXPECT_EQ(value.find_first_not_of(static_cast<char>(pattern(ref))), std::string_view::npos);
    free_ += used_.at(ref);
    used_.erase(ref);
    arena_.free(ref);
  }

  Ref any(Random& random) const {
    return std::next(used_.begin(), static_cast<std::ptrdiff_t>(random.below(used_.size())))->first;
  }

  bool take_from_end(std::uint32_t units) {
    const Ref end = arena_.end();
    const bool taken = arena_.take_from_end(units);
    EXPECT_EQ(arena_.end(), taken ? end - units : end);
    if (taken) free_ -= units;
    return taken;
  }

  [[nodiscard]] std::uint32_t free_at_end() const {
    const Ref from = used_.empty() ? kBegin : used_.rbegin()->first + used_.rbegin()->second;
    return arena_.end() - from;
  }

  [[nodiscard]] std::uint32_t largest_gap() const {
    std::uint32_t largest = 0;
    Ref from = kBegin;
    for (const auto& [ref, units] : used_) {
      largest = std::max(largest, ref - from);
      from = ref + units;
    }
    return std::max(largest, arena_.end() - from);
  }

  void check() const {
    ASSERT_TRUE(arena_.check());
    ASSERT_EQ(arena_.free_units(), free_);
  }

 private:
  static int pattern(Ref ref) { return static_cast<int>('a' + ref % 26); }

  BlockMemory memory_;
  const Blocks blocks_;
  Arena arena_;
  std::map<Ref, std::uint32_t> used_;
  std::uint32_t free_ = 0;
};

// What a random block asks for: mostly small, sometimes a good part of all.
std::uint32_t random_units(Random& random, std::uint32_t units_max) {
  const std::uint64_t bound = random.below(10) == 0 ? units_max : std::min(units_max, 40U);
  return static_cast<std::uint32_t>(4 + random.below(bound - 3));
}

TEST(Arena, BlocksNeverOverlapAndNoMemoryIsLost) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    const auto units = static_cast<std::uint32_t>(100 + random.below(4000));
    ArenaUnderTest test{units};
    for (int step = 0; step < 3000; ++step) {
      // Phases in which it tends to fill up, and to empty.
      const bool filling = step / 300 % 2 == 0;
      if (test.in_use() == 0 || random.below(10) < (filling ? 7U : 3U)) {
        const std::uint32_t wanted = random_units(random, units / 4);
        if (test.allocate(wanted) == kNoRef) {
          // Only for want of a block in a class of larger ones; classes are an eighth wide.
          ASSERT_LT(test.largest_gap(), wanted + std::max(1U, wanted / 8)) << wanted;
        }
      } else {
        test.free(test.any(random));
      }
      test.check();
      if (testing::Test::HasFailure()) return;
    }
    while (test.in_use() > 0) test.free(test.any(random));
    test.check();
    EXPECT_NE(test.allocate(units), kNoRef);  // All is one block again.
    EXPECT_EQ(test.arena().free_units(), 0U);
    test.check();
  }
}

TEST(Arena, ACacheOfEqualSizesIsFilledToTheLastBlock) {
  ArenaUnderTest test{1000};
  for (int i = 0; i < 100; ++i) ASSERT_NE(test.allocate(10), kNoRef);
  EXPECT_EQ(test.allocate(4), kNoRef);
  Random random{5};
  for (int i = 0; i < 2000; ++i) {
    test.free(test.any(random));
    ASSERT_NE(test.allocate(10), kNoRef);
    test.check();
  }
}

TEST(Arena, WhatIsTooSmallForABlockIsGivenAlongAsSlack) {
  for (std::uint32_t rest = 0; rest < 5; ++rest) {
    ArenaUnderTest test{20 + rest};
    const Arena::Allocated got = test.arena().allocate(20);
    ASSERT_NE(got.ref, kNoRef);
    EXPECT_EQ(got.slack, rest < 3 ? rest : 0);
    test.adopt(got, 20);
    test.check();
    test.free(got.ref);
    test.check();
  }
}

TEST(Arena, GivesItsEndAwayOnlyWhileThatIsFree) {
  for (std::uint64_t seed = 1; seed <= 6; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    ArenaUnderTest test{3000};
    int taken = 0;
    for (int step = 0; step < 4000; ++step) {
      const std::uint64_t dice = random.below(20);
      if (dice == 0) {
        const auto wanted = static_cast<std::uint32_t>(1 + random.below(60));
        const std::uint32_t there = test.free_at_end();
        const bool got = test.take_from_end(wanted);
        taken += got ? 1 : 0;
        ASSERT_TRUE(!got || there >= wanted);
        // A few units more are enough: what is left behind must be a block.
        ASSERT_TRUE(got || there < wanted + 3);
      } else if (test.in_use() == 0 || dice < 10) {
        (void)test.allocate(random_units(random, 200));
      } else {
        test.free(test.any(random));
      }
      test.check();
      if (testing::Test::HasFailure()) return;
    }
    EXPECT_GT(taken, 5);
  }
}

// Drains a zone as a stripe does it, amid other calls, and then takes it or gives it up.
void drain_a_zone(ArenaUnderTest& test, Random& random, std::uint32_t wanted, bool take) {
  Arena& arena = test.arena();
  Ref from = test.in_use() > 0 ? test.any(random) : arena.begin();
  if (from + wanted > arena.end()) from = arena.begin();
  arena.set_zone(from, from + wanted);
  arena.set_cursor(from);
  ASSERT_TRUE(arena.has_zone());
  std::vector<Ref> retired;  // Out of use, not free yet: what readers may still look at.
  while (arena.cursor() < arena.zone_until()) {
    const Ref ref = arena.cursor();
    if (arena.is_free(ref)) {
      arena.withhold(ref);
    } else if (std::ranges::find(retired, ref) == retired.end()) {
      retired.push_back(ref);
    }
    arena.set_cursor(ref + arena.units_of(ref));
    // Others go on meanwhile.
    if (random.below(3) == 0) (void)test.allocate(random_units(random, 50));
    if (random.below(3) == 0 && test.in_use() > 0) {
      const Ref out = test.any(random);
      std::erase(retired, out);
      test.free(out);
    }
    if (random.below(2) == 0 && !retired.empty()) {
      test.free(retired.back());
      retired.pop_back();
    }
    test.check();
    if (testing::Test::HasFailure()) return;
  }
  if (!take) {
    arena.abandon_zone();
    test.check();
  }
  while (!retired.empty()) {
    EXPECT_TRUE(!take || arena.allocate_zone(wanted).ref == kNoRef);
    test.free(retired.back());
    retired.pop_back();
    test.check();
    // What is withheld is not given away in pieces.
    const Ref other = test.allocate(random_units(random, 50));
    if (take && other != kNoRef) {
      EXPECT_TRUE(other >= from + wanted || other + test.used().at(other) <= from);
    }
    test.check();
    if (testing::Test::HasFailure()) return;
  }
  if (!take) return;
  // Blocks that others took out of the zone while it was being walked.
  for (;;) {
    const auto inside = std::ranges::find_if(test.used(), [&](const auto& block) {
      return block.first < from + wanted && block.first + block.second > from;
    });
    if (inside == test.used().end()) break;
    EXPECT_EQ(arena.allocate_zone(wanted).ref, kNoRef);
    test.free(inside->first);
    test.check();
  }
  const Arena::Allocated got = arena.allocate_zone(wanted);
  ASSERT_NE(got.ref, kNoRef);
  EXPECT_FALSE(arena.has_zone());
  test.adopt(got, wanted);
  test.check();
}

TEST(Arena, AZoneIsDrainedAmidOtherCallsAndThenTakenWholeOrGivenUp) {
  for (std::uint64_t seed = 1; seed <= 8; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    ArenaUnderTest test{2000};
    for (int round = 0; round < 60; ++round) {
      for (int i = 0; i < 200; ++i) {
        if (test.in_use() == 0 || random.below(10) < 7) {
          (void)test.allocate(random_units(random, 100));
        } else {
          test.free(test.any(random));
        }
      }
      const auto wanted = static_cast<std::uint32_t>(100 + random.below(1500));
      drain_a_zone(test, random, wanted, random.below(3) != 0);
      if (testing::Test::HasFailure()) return;
      if (random.below(2) == 0) {
        while (test.in_use() > 3) test.free(test.any(random));
      }
    }
    while (test.in_use() > 0) test.free(test.any(random));
    test.check();
    EXPECT_NE(test.allocate(2000), kNoRef);
  }
}

TEST(Arena, TheEndIsTakenOutOfAZoneThatReachesIt) {
  ArenaUnderTest test{500};
  while (test.allocate(10) != kNoRef) {
  }
  const Ref from = std::prev(test.used().end(), 12)->first;
  test.arena().set_zone(from, test.arena().end());
  test.arena().set_cursor(from);
  const std::uint32_t wanted = 100;
  EXPECT_FALSE(test.take_from_end(wanted));
  while (test.used().rbegin()->first >= from) {
    test.free(test.used().rbegin()->first);
    EXPECT_EQ(test.allocate(10), kNoRef);  // Kept together.
    test.check();
  }
  EXPECT_TRUE(test.take_from_end(wanted));
  EXPECT_FALSE(test.arena().has_zone());
  test.check();
  EXPECT_NE(test.allocate(10), kNoRef);  // What is left of it can be used again.
  test.check();
}

}  // namespace
}  // namespace tiercel::l1
