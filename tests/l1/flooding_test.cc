// Keys that collide on purpose. Who knows the hash function and its seed can crowd one bucket or
// one stripe; who does not know the seed cannot. Counted, not timed.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "key_hash.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

// Keys whose hashes under seed 0 have only zeros where `mask` has ones.
std::vector<std::string> colliding_keys(std::size_t count, std::uint64_t mask) {
  std::vector<std::string> keys;
  for (std::uint64_t i = 0; keys.size() < count; ++i) {
    std::string key = "key:" + std::to_string(i);
    if ((key_hash(key, 0) & mask) == 0) keys.push_back(std::move(key));
  }
  return keys;
}

// The stripe is chosen by the bits from 32 on, the bucket by the highest of the lower 32.
constexpr std::uint64_t kBucketMask = 0xFFF0'0000;
constexpr std::uint64_t kStripeMask = 0xF'0000'0000;

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
  const auto keys = colliding_keys(200, kBucketMask);
  EXPECT_EQ(fullest_place(keys, 0, kBucketMask), keys.size());
  // 200 keys over 4096 places: that 8 meet in one has a probability below 1e-8.
  EXPECT_LT(fullest_place(keys, entropy_u64(), kBucketMask), 8U);
  EXPECT_LT(fullest_place(keys, 1, kBucketMask), 8U);
}

Stats after_inserting(const std::vector<std::string>& keys, const Options& options,
                      std::size_t value_bytes) {
  const auto cache = make_cache(options);
  const std::string value(value_bytes, 'v');
  for (const auto& key : keys) {
    TIERCEL_CHECK(cache->insert(key, value));
    TIERCEL_CHECK(read(*cache, key) == value);  // The newest is always in.
  }
  std::uint64_t in = 0;
  for (const auto& key : keys) in += has(*cache, key) ? 1 : 0;
  TIERCEL_CHECK(cache->check());
  const Stats stats = cache->stats();
  TIERCEL_CHECK(in == stats.entries && counters_balance(stats));
  return stats;
}

TEST(HashFlooding, CannotCrowdOneBucketOfASeededCache) {
  const auto keys = colliding_keys(400, kBucketMask);
  Options options{.capacity_bytes_max = std::size_t{4} << 20, .stripes = 1, .hash_seed = 0};
  // Under the seed that the attacker knows, all want the same bucket: few stay in a cache that is
  // nearly empty. (It costs him nothing but his own entries, and the neighbours' overflow.)
  const Stats known = after_inserting(keys, options, 10);
  EXPECT_GE(known.evicted_capacity, keys.size() - 40);
  EXPECT_LE(known.entries, 40U);
  options.hash_seed = std::nullopt;
  const Stats unknown = after_inserting(keys, options, 10);
  EXPECT_EQ(unknown.evicted_capacity, 0U);
  EXPECT_EQ(unknown.entries, keys.size());
}

TEST(HashFlooding, CannotCrowdOneStripeOfASeededCache) {
  const auto keys = colliding_keys(1000, kStripeMask);
  Options options{.capacity_bytes_max = std::size_t{2} << 20, .stripes = 16, .hash_seed = 0};
  // 1000 entries of 500 bytes are a quarter of the whole, and four times a stripe.
  EXPECT_GT(after_inserting(keys, options, 500).evicted_capacity, 700U);
  options.hash_seed = std::nullopt;
  EXPECT_EQ(after_inserting(keys, options, 500).evicted_capacity, 0U);
}

TEST(HashFlooding, KeysOfAllWhoseBitsCollideAreStillToldApart) {
  // The same tag and the same stripe, by brute force over 24 bits of it and a crowded bucket.
  const auto keys = colliding_keys(30, 0xFFFF'0000);
  const auto cache =
      make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 1, .hash_seed = 0});
  for (const auto& key : keys) {
    ASSERT_TRUE(cache->insert(key, "value of " + key));
    ASSERT_TRUE(cache->insert(key, "new value of " + key));
  }
  EXPECT_EQ(cache->stats().entries, keys.size());
  for (const auto& key : keys) EXPECT_EQ(read(*cache, key), "new value of " + key);
  for (std::size_t i = 0; i < keys.size(); i += 2) EXPECT_TRUE(cache->erase(keys[i]));
  for (std::size_t i = 0; i < keys.size(); ++i) EXPECT_EQ(has(*cache, keys[i]), i % 2 == 1);
  EXPECT_TRUE(cache->check());
}

}  // namespace
}  // namespace tiercel::l1
