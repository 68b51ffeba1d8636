// The table by itself, against a multimap from tags to Refs.

#include "hash_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

class TableUnderTest {
 public:
  TableUnderTest(std::uint32_t groups, std::uint32_t groups_max)
      : lines_(std::size_t{groups_max} * (HashTable::kGroupBytes / sizeof(HashTable::Line))) {
    table_.init(reinterpret_cast<std::byte*>(lines_.data() + lines_.size()), groups);
  }

  HashTable& table() { return table_; }
  [[nodiscard]] const std::multimap<std::uint32_t, Ref>& model() const { return model_; }
  [[nodiscard]] std::uint32_t displaced() const { return displaced_; }

  // What a stripe does: if there is no room, one of the same bucket goes.
  void insert(std::uint32_t tag) {
    const Ref ref = next_ref_++;
    if (!table_.insert(tag, ref)) {
      Ref refs[HashTable::kLineWords];
      ASSERT_EQ(table_.bucket_refs(tag, refs), HashTable::kLineWords);
      for (const Ref other : refs) ASSERT_TRUE(tags_.contains(other));
      remove(refs[ref % HashTable::kLineWords]);
      ++displaced_;
      ASSERT_TRUE(table_.insert(tag, ref));
    }
    add(tag, ref);
  }

  void remove(Ref ref) {
    table_.remove(tags_.at(ref), ref);
    drop(ref);
  }

  void replace(Ref ref) {
    const std::uint32_t tag = tags_.at(ref);
    const Ref by = next_ref_++;
    table_.replace(tag, ref, by);
    drop(ref);
    add(tag, by);
  }

  void grow_step() {
    Ref homeless[HashTable::kHomelessMax];
    const std::size_t count = table_.grow_step(homeless);
    ASSERT_LE(count, HashTable::kHomelessMax);
    for (std::size_t i = 0; i < count; ++i) drop(homeless[i]);
    displaced_ += static_cast<std::uint32_t>(count);
  }

  // One of those in.
  Ref any(Random& random) const { return order_[random.below(order_.size())]; }
  std::uint32_t tag_of(Ref ref) const { return tags_.at(ref); }

  // A search finds just the model's Refs of the tag.
  void check(std::uint32_t tag) const {
    std::set<Ref> found;
    HashTable::Search search{table_, tag};
    for (std::uint64_t word = search.next(); word != 0; word = search.next()) {
      ASSERT_EQ(search.place().load(), word);
      found.insert(HashTable::ref_of(word));
    }
    std::set<Ref> expected;
    const auto [begin, end] = model_.equal_range(tag);
    for (auto it = begin; it != end; ++it) expected.insert(it->second);
    ASSERT_EQ(found, expected) << "tag " << tag;
    ASSERT_EQ(table_.entries(), model_.size());
  }
  void check_all() const {
    for (auto it = model_.begin(); it != model_.end(); it = model_.upper_bound(it->first)) {
      check(it->first);
      if (testing::Test::HasFatalFailure()) return;
    }
  }

 private:
  void add(std::uint32_t tag, Ref ref) {
    model_.emplace(tag, ref);
    tags_.emplace(ref, tag);
    index_.emplace(ref, order_.size());
    order_.push_back(ref);
  }
  void drop(Ref ref) {
    const auto [begin, end] = model_.equal_range(tags_.at(ref));
    model_.erase(std::find_if(begin, end, [&](const auto& item) { return item.second == ref; }));
    tags_.erase(ref);
    const std::size_t at = index_.at(ref);
    order_[at] = order_.back();
    index_[order_[at]] = at;
    order_.pop_back();
    index_.erase(ref);
  }

  std::vector<HashTable::Line> lines_;
  HashTable table_;
  Ref next_ref_ = 1;
  std::multimap<std::uint32_t, Ref> model_;
  std::unordered_map<Ref, std::uint32_t> tags_;
  std::unordered_map<Ref, std::size_t> index_;
  std::vector<Ref> order_;
  std::uint32_t displaced_ = 0;
};

std::uint32_t random_tag(Random& random) { return static_cast<std::uint32_t>(random.next()); }

TEST(HashTable, FindsEveryEntryAtEachStepOfGrowing) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    TableUnderTest test{4, 200};
    int growings = 0;
    for (int step = 0; step < 20000; ++step) {
      const std::uint64_t dice = random.below(10);
      if (test.model().empty() || dice < 6) {
        // Some tags again and again: true collisions.
        const bool again = !test.model().empty() && random.below(20) == 0;
        test.insert(again ? test.tag_of(test.any(random)) : random_tag(random));
      } else if (dice < 8) {
        test.replace(test.any(random));
      } else {
        test.remove(test.any(random));
      }
      HashTable& table = test.table();
      if (table.is_growing()) {
        // Not with each change: others come between two steps.
        if (random.below(2) == 0) test.grow_step();
      } else if (const std::uint32_t groups = table.groups_wanted();
                 groups > 0 && table.bytes() / HashTable::kGroupBytes + groups <= 200) {
        ASSERT_EQ(groups % 4, 0U);
        table.begin_growing(groups);
        ++growings;
        test.check_all();
      }
      test.check(random_tag(random));
      for (int i = 0; i < 8 && !test.model().empty(); ++i) {
        test.check(test.tag_of(test.any(random)));
      }
      if (step % 512 == 0) test.check_all();
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(growings, 5);
    EXPECT_GT(test.model().size(), 3000U);
    test.check_all();
    while (!test.model().empty()) test.remove(test.any(random));
    EXPECT_EQ(test.table().entries(), 0U);
  }
}

// In small tables with crowded buckets nearly each step uses the overflow lines.
TEST(HashTable, FindsEveryEntryAmidFullBucketsAndOverflow) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    TableUnderTest test{4, 16};
    // Tags in a few narrow ranges, so that they crowd, and still are parted by growing.
    const auto tag = [&] {
      const auto range = static_cast<std::uint32_t>(random.below(5));
      return range * 0x33000000U + static_cast<std::uint32_t>(random.below(1U << 27));
    };
    for (int step = 0; step < 3000; ++step) {
      const std::uint64_t dice = random.below(10);
      if (test.model().empty() || dice < 6) {
        test.insert(tag());
      } else if (dice < 7) {
        test.replace(test.any(random));
      } else {
        test.remove(test.any(random));
      }
      HashTable& table = test.table();
      if (table.is_growing()) {
        if (random.below(8) == 0) test.grow_step();
      } else if (table.bytes() < 16 * HashTable::kGroupBytes && random.below(100) == 0) {
        table.begin_growing(4);
      }
      test.check_all();
      if (HasFatalFailure()) return;
    }
    EXPECT_GT(test.displaced(), 0U);
  }
}

TEST(HashTable, ABucketAndItsFourOverflowLinesHold40AndThenNoMore) {
  TableUnderTest test{8, 8};
  HashTable& table = test.table();
  constexpr std::uint32_t kTag = 0x12345678;
  for (std::uint32_t i = 0; i < 40; ++i) test.insert(kTag);
  EXPECT_EQ(test.displaced(), 0U);
  EXPECT_FALSE(table.insert(kTag, 1000));
  EXPECT_EQ(table.entries(), 40U);
  test.check_all();
  // Other buckets still have their lines.
  const auto bucket_of = [&](std::uint32_t tag) { return std::uint64_t{tag} * 56 >> 32; };
  for (std::uint64_t bucket = 0; bucket < 56; ++bucket) {
    const auto other = static_cast<std::uint32_t>((bucket << 32) / 56 + (1U << 20));
    if (bucket_of(other) == bucket_of(kTag)) continue;
    for (int i = 0; i < 8; ++i) test.insert(other);
    test.check(other);
  }
  EXPECT_EQ(test.displaced(), 0U);
  test.check_all();
  // And a place that becomes free is taken again.
  Random random{3};
  for (int i = 0; i < 1000; ++i) {
    const std::uint32_t tag = test.tag_of(test.any(random));
    test.remove(test.model().find(tag)->second);
    test.insert(tag);
    test.check(tag);
    test.check(kTag);
  }
  EXPECT_EQ(test.displaced(), 0U);
  test.check_all();
}

TEST(HashTable, KeysThatDifferInOneByteAreTwoKeys) {
  for (std::size_t size = 0; size < 80; ++size) {
    // At the very end of its memory, so that AddressSanitizer sees a read beyond.
    const std::vector<char> key(size, 'k');
    std::vector<char> other(key);
    EXPECT_TRUE(Entry::same_bytes(key.data(), other.data(), size));
    for (char& byte : other) {
      byte = 'l';
      EXPECT_FALSE(Entry::same_bytes(key.data(), other.data(), size)) << size;
      byte = 'k';
    }
  }
}

TEST(HashTable, TagZeroIsATagLikeAnyOther) {
  TableUnderTest test{4, 4};
  test.check(0);
  for (int i = 0; i < 10; ++i) test.insert(0);
  test.check(0);
  while (!test.model().empty()) {
    test.remove(test.model().begin()->second);
    test.check(0);
  }
}

TEST(HashTable, RandomTagsSeldomFindTheirBucketFull) {
  Random random{17};
  TableUnderTest test{4, 8000};
  constexpr std::uint32_t kCount = 200'000;
  for (std::uint32_t i = 0; i < kCount; ++i) {
    test.insert(random_tag(random));
    if (test.table().is_growing()) {
      test.grow_step();
    } else if (const std::uint32_t groups = test.table().groups_wanted(); groups > 0) {
      test.table().begin_growing(groups);
    }
  }
  EXPECT_LT(test.displaced(), kCount / 1000);
  // "About 12 bytes" an entry.
  EXPECT_LT(static_cast<double>(test.table().bytes()) / test.table().entries(), 15.0);
  test.check_all();
}

}  // namespace
}  // namespace tiercel::l1
