#include "failover/key_source.h"

#include <gtest/gtest.h>

#include <cmath>
#include <set>
#include <vector>

#include "failover/trace.h"
#include "failover/zipf.h"
#include "temporary_file.h"

namespace tiercel::failover {
namespace {

// Draws often enough that each of the first ranks is within six standard deviations of what it must
// be; the seed is fixed, so this either always passes or never.
void expect_zipf(std::uint64_t count, double skew) {
  constexpr int kDraws = 400'000;
  const Zipf zipf{count, skew};
  Random random{42};
  std::vector<int> drawn(count);
  for (int i = 0; i < kDraws; ++i) {
    const std::uint64_t rank = zipf.draw(random);
    ASSERT_LT(rank, count);
    ++drawn[rank];
  }
  double total = 0;
  for (std::uint64_t rank = 0; rank < count; ++rank) {
    total += std::pow(static_cast<double>(rank + 1), -skew);
  }
  for (std::uint64_t rank = 0; rank < std::min<std::uint64_t>(count, 20); ++rank) {
    const double share = std::pow(static_cast<double>(rank + 1), -skew) / total;
    const double deviation = std::sqrt(kDraws * share * (1 - share));
    EXPECT_NEAR(drawn[rank], kDraws * share, 6 * deviation + 1e-9)
        << "rank " << rank << " of " << count << ", skew " << skew;
  }
}

TEST(ZipfTest, DrawsEachRankAsOftenAsItsShare) {
  expect_zipf(1, 0.99);
  expect_zipf(2, 0);
  expect_zipf(2, 2);
  expect_zipf(1000, 0);
  expect_zipf(1000, 0.5);
  expect_zipf(1000, 0.99);
  expect_zipf(1000, 1);
  expect_zipf(1000, 2);
}

TEST(ZipfTest, TenMillionKeysCostNothing) {
  const Zipf zipf{kKeysMax, 0.99};
  Random random{1};
  std::uint64_t largest = 0;
  for (int i = 0; i < 10'000; ++i) largest = std::max(largest, zipf.draw(random));
  EXPECT_LT(largest, kKeysMax);
  EXPECT_GT(largest, kKeysMax / 10);
}

TEST(TraceTest, ScanFindsTheDifferentIds) {
  const TemporaryFile file{"5\n3\r\n5\n18446744073709551615"};
  const auto summary = scan_trace(file.path(), 100);
  ASSERT_TRUE(summary) << summary.error().to_string();
  EXPECT_EQ(summary->lines, 4U);
  EXPECT_EQ(summary->bytes, file.read().size());
  EXPECT_EQ(summary->ids, (std::vector<std::uint64_t>{3, 5, ~std::uint64_t{0}}));
}

TEST(TraceTest, BadLinesAreNamedByTheirNumber) {
  const auto error_of = [](const std::string& content, std::size_t ids_max = 100) {
    const TemporaryFile file{content};
    const auto summary = scan_trace(file.path(), ids_max);
    return summary ? "no error" : summary.error().message;
  };
  EXPECT_NE(error_of("1\n2\nx7\n").find("line 3: 'x7'"), std::string::npos)
      << error_of("1\n2\nx7\n");
  EXPECT_NE(error_of("1\n\n2\n").find("line 2: "), std::string::npos);
  EXPECT_NE(error_of("-1\n").find("line 1: '-1'"), std::string::npos);
  EXPECT_NE(error_of(" 1\n").find("line 1: "), std::string::npos);
  EXPECT_NE(error_of("18446744073709551616\n").find("line 1: "), std::string::npos);
  EXPECT_NE(error_of("1\n" + std::string(1'000'000, '7')).find("line 2: a line is longer"),
            std::string::npos);
  EXPECT_NE(error_of("1\n2\n3\n", 2).find("line 3: more than 2"), std::string::npos);
  EXPECT_NE(error_of("").find("is empty"), std::string::npos);
  EXPECT_NE(scan_trace("/nonexistent/trace", 1).error().message.find("/nonexistent/trace"),
            std::string::npos);
}

// More than one buffer, so that lines fall across its edge.
TEST(TraceTest, StreamGoesRoundFromItsPlace) {
  std::string content;
  constexpr std::uint64_t kLines = 30'000;
  for (std::uint64_t i = 0; i < kLines; ++i) content += std::to_string(1'000'000 + i) + '\n';
  const TemporaryFile file{content};
  for (std::uint64_t slot = 0; slot < 7; ++slot) {
    auto stream = TraceStream::open(file.path(), content.size(), slot, 7);
    ASSERT_TRUE(stream);
    std::uint64_t expected = stream->next().value();
    EXPECT_NEAR(static_cast<double>(expected - 1'000'000), static_cast<double>(kLines * slot / 7),
                2);
    for (std::uint64_t i = 0; i < kLines; ++i) {
      expected = expected + 1 == 1'000'000 + kLines ? 1'000'000 : expected + 1;
      ASSERT_EQ(stream->next().value(), expected);
    }
  }
}

TEST(TraceTest, StreamTellsWhenTheFileHasChanged) {
  const TemporaryFile file{"1\n2\n"};
  auto stream = TraceStream::open(file.path(), 4, 0, 1);
  ASSERT_TRUE(stream);
  EXPECT_EQ(stream->next().value(), 1U);
  EXPECT_EQ(stream->next().value(), 2U);
  file.write("");
  EXPECT_FALSE(stream->next());
}

BoardConfig config_of(std::uint64_t keys, std::uint32_t instances) {
  BoardConfig config;
  config.key_count = keys;
  config.instances = instances;
  config.zipf = 0.99;
  return config;
}

TEST(KeySourceTest, AnInstanceDrawsItsOwnKeysAndAllAreOwned) {
  const auto board = Board::create(config_of(30, 3), {});
  ASSERT_TRUE(board);
  std::set<std::uint32_t> drawn;
  for (std::uint32_t instance = 0; instance < 3; ++instance) {
    auto source = KeySource::open(*board, instance, 3);
    ASSERT_TRUE(source);
    for (int i = 0; i < 2000; ++i) {
      const auto key = (*source)->next_owned(instance, 3);
      ASSERT_TRUE(key && *key);
      ASSERT_EQ(owner_of(**key, 3), instance);
      drawn.insert(**key);
    }
  }
  EXPECT_EQ(drawn.size(), 30U);
}

TEST(KeySourceTest, AnInstanceThatOwnsNothingDrawsNothing) {
  const auto board = Board::create(config_of(1, 3), {});
  ASSERT_TRUE(board);
  auto source = KeySource::open(*board, 0, 1);
  ASSERT_TRUE(source);
  EXPECT_TRUE((*source)->next_owned(0, 3).value().has_value());
  EXPECT_FALSE((*source)->next_owned(2, 3).value().has_value());
}

TEST(KeySourceTest, ATraceComesAsKeysInItsOrder) {
  const TemporaryFile file{"900\n70\n900\n8\n"};
  const auto summary = scan_trace(file.path(), 10);
  ASSERT_TRUE(summary);
  BoardConfig config = config_of(3, 1);
  config.trace_bytes = summary->bytes;
  std::ranges::copy(file.path(), config.trace_path.begin());
  const auto board = Board::create(config, summary->ids);
  ASSERT_TRUE(board);
  auto source = KeySource::open(*board, 0, 1);
  ASSERT_TRUE(source);
  for (int round = 0; round < 2; ++round) {
    for (const std::uint64_t id : std::vector<std::uint64_t>{900, 70, 900, 8}) {
      EXPECT_EQ(board->id_of_key((*source)->next().value()), id);
    }
  }
  file.write("900\n71\n");
  auto changed = KeySource::open(*board, 0, 1);
  ASSERT_TRUE(changed);
  EXPECT_TRUE((*changed)->next());
  EXPECT_FALSE((*changed)->next());
}

}  // namespace
}  // namespace tiercel::failover
