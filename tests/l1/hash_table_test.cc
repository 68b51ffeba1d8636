// Of the engine's inside: the table's growth, and the hash under attack.

#include "hash_table.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "key_hash.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

Entry* make_entry(const std::string& key, std::uint64_t hash) {
  Entry* entry = Entry::create(hash, key, "", {}, 1);
  TIERCEL_CHECK(entry != nullptr);
  return entry;
}

TEST(HashTable, FindsWhatIsInWhileItGrows) {
  HashTable table;
  ASSERT_TRUE(table.init(4096));
  std::unordered_map<std::string, Entry*> model;
  std::uint64_t charge = table.charge();
  Random random{20240601};
  for (int step = 0; step < 30000; ++step) {
    const std::string key = std::to_string(random.below(6000));
    const std::uint64_t hash = key_hash(key, 1);
    Entry* found = table.find(hash, key);
    const auto known = model.find(key);
    ASSERT_EQ(found, known == model.end() ? nullptr : known->second);
    if (found != nullptr) {
      table.remove(found);
      found->release();
      model.erase(known);
    } else {
      Entry* entry = make_entry(key, hash);
      table.insert(entry);
      model.emplace(key, entry);
    }
    if (table.wants_segment()) {
      auto segment = allocate_zeroed<HashTable::Segment>();
      charge += allocation_charge(segment.get());
      table.add_segment(std::move(segment));
    }
    ASSERT_EQ(table.entries(), model.size());
    ASSERT_EQ(table.charge(), charge);
    ASSERT_LE(table.charge(), table.charge_max());
  }
  EXPECT_GT(table.buckets(), 2000U);
  // The buckets are not only there but used: at about one entry each no chain is long.
  std::map<std::size_t, std::size_t> chains;
  for (const auto& [key, entry] : model) EXPECT_LE(++chains[table.bucket_of(entry->hash)], 10U);
  for (const auto& [key, entry] : model) EXPECT_EQ(table.find(entry->hash, key), entry);
  for (const auto& [key, entry] : model) entry->release();
}

TEST(HashTable, WorksWithoutASegmentAndCatchesUpWithOne) {
  HashTable table;
  ASSERT_TRUE(table.init(1000));
  std::vector<Entry*> entries;
  const auto add = [&](int count) {
    for (int i = 0; i < count; ++i) {
      const std::string key = std::to_string(entries.size());
      entries.push_back(make_entry(key, key_hash(key, 1)));
      table.insert(entries.back());
    }
  };
  add(300);
  EXPECT_TRUE(table.wants_segment());
  EXPECT_EQ(table.buckets(), HashTable::kSegmentBuckets);
  while (entries.size() < 700) {
    if (table.wants_segment()) table.add_segment(allocate_zeroed<HashTable::Segment>());
    add(1);
  }
  EXPECT_GE(table.buckets(), entries.size());
  for (Entry* entry : entries) EXPECT_EQ(table.find(entry->hash, entry->key()), entry);
  for (Entry* entry : entries) entry->release();
}

TEST(HashTable, TellsKeysOfEqualHashApart) {
  HashTable table;
  ASSERT_TRUE(table.init(100));
  std::vector<Entry*> entries;
  for (const std::string key : {"a", "b", "ab", ""}) {
    entries.push_back(make_entry(key, 42));
    table.insert(entries.back());
  }
  for (Entry* entry : entries) EXPECT_EQ(table.find(42, entry->key()), entry);
  EXPECT_EQ(table.find(42, "c"), nullptr);
  table.remove(entries[1]);
  EXPECT_EQ(table.find(42, "b"), nullptr);
  EXPECT_EQ(table.find(42, "ab"), entries[2]);
  for (Entry* entry : entries) entry->release();
}

// Keys that an attacker who knows the hash function but not the seed would send: under seed 0 their
// hashes agree in the low 12 bits, which choose the bucket.
std::vector<std::string> colliding_keys(std::size_t count, std::uint64_t mask) {
  std::vector<std::string> keys;
  for (std::uint64_t i = 0; keys.size() < count; ++i) {
    std::string key = "key:" + std::to_string(i);
    if ((key_hash(key, 0) & mask) == 0) keys.push_back(std::move(key));
  }
  return keys;
}

std::size_t fullest_place(const std::vector<std::string>& keys, std::uint64_t seed,
                          std::uint64_t mask) {
  std::map<std::uint64_t, std::size_t> places;
  std::size_t fullest = 0;
  for (const auto& key : keys) {
    fullest = std::max(fullest, ++places[key_hash(key, seed) & mask]);
  }
  return fullest;
}

TEST(HashFlooding, KeysThatCollideUnderSeedZeroSpreadUnderAnother) {
  constexpr std::uint64_t kBucketMask = 0xfff;
  constexpr std::uint64_t kStripeMask = 0xfffULL << 52;
  for (const std::uint64_t mask : {kBucketMask, kStripeMask}) {
    const auto keys = colliding_keys(200, mask);
    EXPECT_EQ(fullest_place(keys, 0, mask), keys.size());
    // 200 keys over 4096 places: that 8 meet in one has a probability below 1e-8.
    EXPECT_LT(fullest_place(keys, entropy_u64(), mask), 8U);
    EXPECT_LT(fullest_place(keys, 1, mask), 8U);
  }
}

TEST(HashFlooding, CannotCrowdOneStripeOfASeededCache) {
  // As seen from outside: 16 stripes of 64 KiB, and keys that under seed 0 all fall into one.
  const auto keys = colliding_keys(2000, 0xfULL << 52);
  const auto evicted_with = [&](std::optional<std::uint64_t> seed) {
    const auto cache =
        make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 16, .hash_seed = seed});
    for (const auto& key : keys) {
      const bool put = cache->insert(key, std::string(100, 'v')).has_value();
      TIERCEL_CHECK(put);
    }
    return cache->stats().evicted_capacity;
  };
  EXPECT_GT(evicted_with(0), 1000U);
  EXPECT_EQ(evicted_with(std::nullopt), 0U);
}

}  // namespace
}  // namespace tiercel::l1
