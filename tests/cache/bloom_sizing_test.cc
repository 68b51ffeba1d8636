#include "bloom_sizing.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "bloom_test_support.h"
#include "tiercel/base/sanitizers.h"

namespace tiercel::testing {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

struct Refusal {
  std::string field;  // What the message must name.
  BloomOptions options;
};

TEST(BloomOptions, EachFieldOutOfRangeIsRefusedByName) {
  const std::vector<Refusal> refusals{
      {"keys_expected", {.keys_expected = 0}},
      {"keys_expected", {.keys_expected = (std::uint64_t{1} << 36) + 1}},
      {"keys_expected", {.keys_expected = ~std::uint64_t{0}}},
      {"false_positive_rate", {.keys_expected = 1, .false_positive_rate = 0}},
      {"false_positive_rate", {.keys_expected = 1, .false_positive_rate = 0.000'000'9}},
      {"false_positive_rate", {.keys_expected = 1, .false_positive_rate = 0.2501}},
      {"false_positive_rate", {.keys_expected = 1, .false_positive_rate = -1}},
      {"false_positive_rate", {.keys_expected = 1, .false_positive_rate = kNaN}},
      {"bits_per_key", {.keys_expected = 1, .bits_per_key = 3.9}},
      {"bits_per_key", {.keys_expected = 1, .bits_per_key = 64.1}},
      {"bits_per_key", {.keys_expected = 1, .bits_per_key = kNaN}},
      {"bits_per_key and false_positive_rate",
       {.keys_expected = 1, .false_positive_rate = 0.01, .bits_per_key = 10}},
      {"bytes_max", {.keys_expected = 1, .bytes_max = 63}},
      {"bytes_max", {.keys_expected = 1, .bytes_max = (std::size_t{1} << 38) + 1}},
  };
  for (const auto& [field, options] : refusals) {
    const auto filter = BloomFilter::create(options);
    ASSERT_FALSE(filter) << field;
    EXPECT_EQ(filter.error().code, ErrorCode::kInvalidArgument) << field;
    EXPECT_EQ(filter.error().message.find(field), 0U) << filter.error().message;
  }
}

TEST(BloomOptions, TheLimitsThemselvesAreAccepted) {
  EXPECT_TRUE(BloomFilter::create({.keys_expected = 1, .bytes_max = 64}));
  EXPECT_TRUE(BloomFilter::create({.keys_expected = 1, .false_positive_rate = 0.000'001}));
  EXPECT_TRUE(BloomFilter::create({.keys_expected = 1, .false_positive_rate = 0.25}));
  EXPECT_TRUE(BloomFilter::create({.keys_expected = 1, .bits_per_key = 4}));
  EXPECT_TRUE(BloomFilter::create({.keys_expected = 1, .bits_per_key = 64}));
}

TEST(BloomOptions, MoreMemoryThanBytesMaxIsRefused) {
  const BloomOptions options{.keys_expected = 100'000'000, .bits_per_key = 10};
  const auto shape = detail::bloom_shape(options);
  ASSERT_TRUE(shape);
  EXPECT_EQ(shape->blocks * BloomFilter::kBlockBytes, 125'000'000U);

  for (const std::uint64_t keys : {102'400U, 102'401U}) {  // 2000 blocks, and one more.
    const auto filter =
        BloomFilter::create({.keys_expected = keys, .bits_per_key = 10, .bytes_max = 128'000});
    ASSERT_EQ(filter.has_value(), keys == 102'400) << keys;
    if (filter) continue;
    EXPECT_EQ(filter.error().code, ErrorCode::kOverloaded);
    EXPECT_NE(filter.error().message.find("128064 bytes is more than bytes_max"), std::string::npos)
        << filter.error().message;
  }
  // Far beyond any memory: nothing is allocated to find out, and nothing overflows.
  const auto largest = BloomFilter::create(
      {.keys_expected = detail::kBloomKeysMax, .bits_per_key = 64, .bytes_max = 1 << 30});
  ASSERT_FALSE(largest);
  EXPECT_EQ(largest.error().code, ErrorCode::kOverloaded);
}

TEST(BloomOptions, MoreMemoryThanTheSystemGivesIsRefused) {
#if TIERCEL_ASAN || TIERCEL_TSAN
  GTEST_SKIP() << "a sanitizer needs its address space";
#else
  const auto create_without_memory = [] {
    const rlimit limit{.rlim_cur = rlim_t{1} << 30, .rlim_max = rlim_t{1} << 30};
    if (setrlimit(RLIMIT_AS, &limit) != 0) _exit(3);
    const auto filter = BloomFilter::create(
        {.keys_expected = 2'000'000'000, .bits_per_key = 8, .bytes_max = std::size_t{4} << 30});
    if (filter || filter.error().code != ErrorCode::kOverloaded) _exit(1);
    _exit(filter.error().message.find("2000000000 bytes") == std::string::npos ? 2 : 0);
  };
  EXPECT_EXIT(create_without_memory(), ::testing::ExitedWithCode(0), "");
#endif
}

TEST(BloomSizing, ARateGetsTheMemoryThatItNeedsAndNoMore) {
  for (const double rate : {0.25, 0.1, 0.05, 0.01, 0.001, 0.0001, 0.000'001}) {
    const auto shape =
        detail::bloom_shape({.keys_expected = 1'000'000, .false_positive_rate = rate});
    ASSERT_TRUE(shape) << rate;
    const double blocks = static_cast<double>(shape->blocks);
    EXPECT_LE(detail::bloom_false_positive_rate(1'000'000 / blocks), rate * 1.000001);
    EXPECT_GT(detail::bloom_false_positive_rate(1'000'000 / (blocks - 2)), rate);
  }
  EXPECT_EQ(detail::bloom_shape({.keys_expected = 1'000'000})->blocks,
            detail::bloom_shape({.keys_expected = 1'000'000, .false_positive_rate = 0.01})->blocks);
}

TEST(BloomSizing, TheRateIsTheSumOverPoissonDistributedBlocks) {
  for (const double load : {8.0, 21.3, 51.2, 128.0, 300.0}) {
    double sum = 0;
    double weight = std::exp(-load);
    for (int n = 0; n < 1000; ++n) {
      sum += weight * std::pow(1 - std::pow(63.0 / 64, n), 8);
      weight *= load / (n + 1);
    }
    EXPECT_NEAR(detail::bloom_false_positive_rate(load), sum, 1e-10 + 1e-7 * sum) << load;
  }
}

TEST(BloomSizing, LoadAndBitsAreInverse) {
  for (const double load : {0.5, 10.0, 51.2, 200.0}) {
    const std::uint64_t bits = detail::bloom_bits_set(load, 1'000'000);
    EXPECT_NEAR(detail::bloom_load_of(bits, 1'000'000), load, 1e-4 * load);
  }
  EXPECT_TRUE(std::isfinite(detail::bloom_load_of(512, 1)));
  EXPECT_EQ(detail::bloom_load_of(0, 1), 0);
}

// Very small filters are made for rates that they never reach; they are not overfull by one key.
TEST(BloomSizing, ASmallFilterIsNotOverfullAsExpected) {
  for (std::uint64_t keys = 1; keys < 200; ++keys) {
    for (const double rate : {0.000'001, 0.01, 0.25}) {
      const auto filter = make_filter({.keys_expected = keys, .false_positive_rate = rate});
      add_keys(*filter, 0, keys);
      EXPECT_FALSE(filter->is_overfull()) << keys << " keys, " << rate;
    }
  }
}

}  // namespace
}  // namespace tiercel::testing
