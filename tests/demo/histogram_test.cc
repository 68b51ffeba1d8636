#include "fleet/histogram.h"

#include <gtest/gtest.h>

#include <memory>

namespace tiercel::fleet {
namespace {

TEST(HistogramTest, EachBucketHoldsWhatItsEndSays) {
  for (std::size_t bucket = 0; bucket + 1 < 40 * Histogram::kSteps; ++bucket) {
    const auto end = static_cast<std::uint64_t>(Histogram::upper_end(bucket).count());
    ASSERT_EQ(Histogram::bucket_of(end), bucket);
    ASSERT_EQ(Histogram::bucket_of(end + 1), bucket + 1);
  }
  EXPECT_LT(Histogram::bucket_of(~std::uint64_t{0}), Histogram::kBuckets);
}

TEST(HistogramTest, QuantilesAreWithinAnEighth) {
  auto histogram = std::make_unique<Histogram>();
  for (int i = 1; i <= 1000; ++i) histogram->add(std::chrono::microseconds{i});
  Histogram::Counts counts{};
  histogram->add_to(counts);
  const auto in_us = [&counts](double fraction) {
    return static_cast<double>(Histogram::quantile(counts, fraction)->count()) / 1e3;
  };
  EXPECT_GE(in_us(0.5), 500);
  EXPECT_LE(in_us(0.5), 500 * 1.125 + 1);
  EXPECT_GE(in_us(0.99), 990);
  EXPECT_LE(in_us(0.99), 990 * 1.125 + 1);
}

TEST(HistogramTest, HasNoQuantileOfNothingAndTakesANegativeDurationForZero) {
  Histogram::Counts counts{};
  EXPECT_EQ(Histogram::quantile(counts, 0.5), std::nullopt);
  auto histogram = std::make_unique<Histogram>();
  histogram->add(Duration{-5});
  histogram->add_to(counts);
  EXPECT_EQ(Histogram::quantile(counts, 0.5), Duration{0});
}

}  // namespace
}  // namespace tiercel::fleet
