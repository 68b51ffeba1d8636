#include "tiercel/cache/bloom_filter.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "bloom_probe.h"
#include "bloom_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::testing {
namespace {

// The example of bloom_filter.h.
Result<bool> example() {
  auto filter = BloomFilter::create({.keys_expected = 1'000'000, .false_positive_rate = 0.01});
  if (!filter) return filter.error();
  (*filter)->add("user:7");
  return (*filter)->may_contain("user:7") && !(*filter)->may_contain("user:8");
}

TEST(BloomFilter, TheExampleOfTheHeader) { EXPECT_TRUE(example().value()); }

TEST(BloomFilter, NeverRefusesWhatWasAddedWhateverItsSize) {
  for (const std::uint64_t keys : {1U, 2U, 51U, 52U, 1000U, 13107U, 13108U, 200'000U}) {
    for (const double bits : {4.0, 10.0, 64.0}) {
      const auto filter = make_filter({.keys_expected = keys, .bits_per_key = bits});
      add_keys(*filter, 0, keys);
      EXPECT_EQ(refused(*filter, 0, keys), 0U) << keys << " keys, " << bits << " bits";
    }
  }
}

TEST(BloomFilter, NeverRefusesWhatWasAddedHoweverFullItIs) {
  const auto filter = make_filter({.keys_expected = 100});
  add_keys(*filter, 0, 100'000);
  EXPECT_EQ(refused(*filter, 0, 100'000), 0U);
  EXPECT_TRUE(filter->is_overfull());
}

TEST(BloomFilter, AnEmptyOneRefusesAllAndAFullOneNone) {
  const auto filter = make_filter({.keys_expected = 2000});
  EXPECT_EQ(refused(*filter, 0, 10'000), 10'000U);
  for (std::size_t chunk = 0; chunk < filter->chunks(); ++chunk) {
    ASSERT_TRUE(filter->merge_chunk(chunk, std::string(filter->chunk_bytes(chunk), '\xFF')));
  }
  EXPECT_EQ(refused(*filter, 0, 10'000), 0U);
  EXPECT_EQ(filter->bits_set(), filter->bytes() * 8);
  EXPECT_DOUBLE_EQ(filter->survey().false_positive_rate, 1);
  EXPECT_GT(filter->false_positive_rate(), 0.9);
}

TEST(BloomFilter, KeysAreBytesOfAnyLength) {
  const auto filter = make_filter({.keys_expected = 2000, .bits_per_key = 64});
  std::string key;
  for (int i = 0; i < 600; ++i) {
    EXPECT_TRUE(filter->add(key)) << i;
    EXPECT_TRUE(filter->may_contain(key)) << i;
    key += static_cast<char>(i);
  }
  EXPECT_FALSE(filter->may_contain(std::string_view{"\0", 2}));
}

TEST(BloomFilter, PassesAsManyAbsentKeysAsTheorySays) {
  constexpr std::uint64_t kKeys = 200'000;
  constexpr std::uint64_t kAbsent = 1'000'000;
  struct Case {
    double bits;
    double rate;
  };
  for (const auto& [bits, rate] :
       {Case{6, 0.092927}, Case{8, 0.029311}, Case{10, 0.010490}, Case{12, 0.0042225},
        Case{16, 0.00090888}, Case{24, 0.000090861}}) {
    const auto filter = make_filter({.keys_expected = kKeys, .bits_per_key = bits});
    add_keys(*filter, 0, kKeys);
    const auto passed = static_cast<double>(kAbsent - refused(*filter, kKeys, kKeys + kAbsent));
    // Five deviations of the count; the keys and the hash are fixed. 2 % for the blocks' share.
    const double mean = rate * kAbsent;
    EXPECT_NEAR(passed, mean, 5 * std::sqrt(mean) + 0.02 * mean) << bits << " bits";
    EXPECT_NEAR(filter->false_positive_rate(), rate, 0.02 * rate) << bits << " bits";
    EXPECT_NEAR(filter->survey().false_positive_rate, rate, 0.03 * rate) << bits << " bits";
  }
}

// Numbers, counted up, are what applications have as keys; XXH3 must make blocks of them that are
// filled as evenly as chance does it.
TEST(BloomFilter, FillsItsBlocksEvenly) {
  const auto filter = make_filter({.keys_expected = 100'000, .bits_per_key = 10});
  add_keys(*filter, 0, 100'000);
  const std::string bytes = all_bytes(*filter);
  const double mean =
      static_cast<double>(filter->bits_set()) / static_cast<double>(filter->blocks());
  double squares = 0;
  for (std::size_t block = 0; block < filter->blocks(); ++block) {
    int set = 0;
    for (std::size_t i = 0; i < 64; ++i) {
      set += std::popcount(static_cast<unsigned char>(bytes[64 * block + i]));
    }
    squares += (set - mean) * (set - mean);
  }
  // Poisson(51.2) keys a block, 8 words of 64 bits: 26.4 bits, and 0.4 the error of 1954 blocks.
  const double deviation = std::sqrt(squares / static_cast<double>(filter->blocks()));
  EXPECT_NEAR(deviation, 26.4, 2);
}

TEST(BloomFilter, AddTellsWhetherItChangedAnything) {
  const auto filter = make_filter({.keys_expected = 1000});
  EXPECT_TRUE(filter->add("user:7"));
  EXPECT_EQ(filter->bits_set(), BloomFilter::kProbes);
  EXPECT_FALSE(filter->add("user:7"));
  EXPECT_EQ(filter->bits_set(), BloomFilter::kProbes);
}

TEST(BloomFilter, ManyAtOnceAreAsMany) {
  for (const std::size_t count : {0U, 1U, 31U, 32U, 33U, 64U, 100U, 1000U}) {
    const auto singly = make_filter({.keys_expected = 1000, .bits_per_key = 6});
    const auto at_once = make_filter({.keys_expected = 1000, .bits_per_key = 6});
    const auto by_hash = make_filter({.keys_expected = 1000, .bits_per_key = 6});
    std::vector<std::string> texts;
    for (std::uint64_t i = 0; i < 2 * count; ++i) texts.push_back(key_of(i));
    const std::vector<std::string_view> keys(texts.begin(), texts.end());
    const std::span<const std::string_view> added{keys.data(), count};
    std::vector<KeyHash> hashes;
    for (const std::string_view key : added) {
      singly->add(key);
      hashes.push_back(BloomFilter::hash_of(key));
    }
    at_once->add_many(added);
    by_hash->add_many(hashes);
    EXPECT_EQ(all_bytes(*singly), all_bytes(*at_once)) << count;
    EXPECT_EQ(all_bytes(*singly), all_bytes(*by_hash)) << count;

    const std::unique_ptr<bool[]> may{new bool[2 * count]};
    singly->may_contain_many(keys, {may.get(), 2 * count});
    for (std::size_t i = 0; i < keys.size(); ++i) {
      ASSERT_EQ(may[i], singly->may_contain(keys[i])) << i << " of " << keys.size();
    }
  }
}

TEST(BloomFilter, TheOrderOfAddsDoesNotShow) {
  constexpr std::uint64_t kKeys = 20'000;
  std::vector<std::uint64_t> numbers(kKeys);
  std::iota(numbers.begin(), numbers.end(), 0U);
  const auto rising = make_filter({.keys_expected = kKeys});
  for (const std::uint64_t number : numbers) rising->add(key_of(number));

  Random random{5};
  for (std::size_t i = kKeys; i > 1; --i) std::swap(numbers[i - 1], numbers[random.below(i)]);
  const auto shuffled = make_filter({.keys_expected = kKeys});
  for (const std::uint64_t number : numbers) {
    shuffled->add(key_of(number));
    shuffled->add(key_of(number / 2));
  }
  EXPECT_TRUE(all_bytes(*rising) == all_bytes(*shuffled));
  EXPECT_EQ(rising->header(), shuffled->header());
}

TEST(BloomFilter, CountsItsBits) {
  const auto filter = make_filter({.keys_expected = 50'000});
  add_keys(*filter, 0, 30'000);
  EXPECT_EQ(filter->bits_set(), filter->survey().bits_set);
  const auto other = make_filter({.keys_expected = 50'000});
  add_keys(*other, 20'000, 50'000);
  ASSERT_TRUE(filter->merge(*other));
  EXPECT_EQ(filter->bits_set(), filter->survey().bits_set);
  ASSERT_TRUE(other->merge_chunk(0, filter->copy_chunk(0)));
  EXPECT_EQ(other->bits_set(), other->survey().bits_set);
}

TEST(BloomFilter, EstimatesItsKeys) {
  const auto filter = make_filter({.keys_expected = 100'000, .bits_per_key = 10});
  EXPECT_EQ(filter->keys_estimated(), 0);
  std::uint64_t added = 0;
  for (const std::uint64_t keys : {10'000U, 50'000U, 100'000U, 200'000U, 400'000U, 800'000U}) {
    add_keys(*filter, added, keys);
    add_keys(*filter, 0, keys / 10);  // Again.
    added = keys;
    const auto expected = static_cast<double>(keys);
    EXPECT_NEAR(filter->keys_estimated(), expected, 0.01 * expected);
  }
}

TEST(BloomFilter, IsOverfullOnceItHasTwiceTheFalsePositives) {
  const auto filter = make_filter({.keys_expected = 100'000, .false_positive_rate = 0.01});
  EXPECT_FALSE(filter->is_overfull());
  add_keys(*filter, 0, 100'000);
  EXPECT_FALSE(filter->is_overfull());
  EXPECT_NEAR(filter->false_positive_rate(), 0.01, 0.0002);
  std::uint64_t added = 100'000;
  while (!filter->is_overfull()) {
    add_keys(*filter, added, added + 100);
    added += 100;
  }
  EXPECT_NEAR(filter->false_positive_rate(), 0.02, 0.0002);
  EXPECT_NEAR(static_cast<double>(added), 115'000, 3'000);
}

TEST(BloomFilter, AUnionHasTheKeysOfBoth) {
  const auto one = make_filter({.keys_expected = 10'000});
  const auto other = make_filter({.keys_expected = 10'000});
  const auto both = make_filter({.keys_expected = 10'000});
  add_keys(*one, 0, 6'000);
  add_keys(*other, 4'000, 10'000);
  add_keys(*both, 0, 10'000);
  ASSERT_TRUE(one->merge(*other));
  EXPECT_TRUE(all_bytes(*one) == all_bytes(*both));
  EXPECT_EQ(one->bits_set(), both->bits_set());
}

TEST(BloomFilter, OtherShapesAreNotMerged) {
  const auto small = make_filter({.keys_expected = 1000});
  const auto large = make_filter({.keys_expected = 1100});
  large->add("user:7");
  const auto merged = small->merge(*large);
  ASSERT_FALSE(merged);
  EXPECT_EQ(merged.error().code, ErrorCode::kInvalidArgument);
  EXPECT_NE(merged.error().message.find("22 blocks"), std::string::npos) << merged.error().message;
  EXPECT_EQ(small->bits_set(), 0U);
}

#if TIERCEL_BLOOM_AVX2
TEST(BloomProbe, BothWaysAgree) {
  if (!detail::bloom_has_avx2()) GTEST_SKIP() << "no AVX2 here";
  Random random{3};
  alignas(64) std::array<std::uint64_t, 8> block{};
  int passed = 0;
  for (int i = 0; i < 200'000; ++i) {
    // Of eight random words seven out of eight bits are set, so that both answers are frequent.
    for (std::uint64_t& word : block) word = random.next() | random.next() | random.next();
    const std::uint64_t mixed = random.next();
    const bool portable = detail::bloom_probe_portable(block.data(), mixed);
    ASSERT_EQ(portable, detail::bloom_probe_avx2(block.data(), mixed)) << i;
    if (portable) ++passed;
  }
  EXPECT_NEAR(passed, 200'000 * 0.3436, 2'000);
}
#endif

TEST(BloomProbe, EachOfTheEightBitsCounts) {
  Random random{4};
  for (int i = 0; i < 100; ++i) {
    const std::uint64_t mixed = random.next();
    alignas(64) std::array<std::uint64_t, 8> block;
    block.fill(~std::uint64_t{0});
    ASSERT_TRUE(detail::bloom_probe_portable(block.data(), mixed));
    for (std::size_t word = 0; word < 8; ++word) {
      const std::uint64_t mask = std::uint64_t{1} << detail::bloom_bit(mixed, word);
      block[word] &= ~mask;
      ASSERT_FALSE(detail::bloom_probe_portable(block.data(), mixed)) << word;
#if TIERCEL_BLOOM_AVX2
      if (detail::bloom_has_avx2()) {
        ASSERT_FALSE(detail::bloom_probe_avx2(block.data(), mixed)) << word;
      }
#endif
      block[word] = mask;
      ASSERT_FALSE(detail::bloom_probe_portable(block.data(), ~mixed)) << word;
      block[word] = ~std::uint64_t{0};
    }
  }
}

}  // namespace
}  // namespace tiercel::testing
