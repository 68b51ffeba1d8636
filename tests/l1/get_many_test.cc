// get_many: as single visits, in order, whatever the number of keys.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using Answers = std::vector<std::pair<std::size_t, std::string>>;

Answers ask_many(LruCache& cache, const std::vector<std::string_view>& keys) {
  Answers answers;
  const std::size_t hits = cache.get_many(keys, [&](std::size_t index, const EntryView& hit) {
    EXPECT_LT(index, keys.size());
    EXPECT_EQ(hit.key(), keys[index]);
    answers.emplace_back(index, hit.value());
  });
  EXPECT_EQ(hits, answers.size());
  return answers;
}

Answers ask_each(LruCache& cache, const std::vector<std::string_view>& keys) {
  Answers answers;
  for (std::size_t i = 0; i < keys.size(); ++i) {
    if (auto value = read(cache, keys[i])) answers.emplace_back(i, *std::move(value));
  }
  return answers;
}

TEST(GetMany, AnswersAsSingleReadsDoInTheOrderOfTheKeys) {
  ManualClock clock;
  const auto cache =
      make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 4, .clock = &clock});
  std::vector<std::string> names{"", std::string(1000, 'n')};
  for (int i = 0; i < 60; ++i) names.push_back("name " + std::to_string(i));
  for (std::size_t i = 0; i < names.size(); ++i) {
    if (i % 3 == 2) continue;  // Absent.
    const TimePoint expires_at =
        i % 7 == 3 ? clock.now() + std::chrono::seconds{1} : TimePoint::max();
    ASSERT_TRUE(cache->insert(names[i], "value " + std::to_string(i), {.expires_at = expires_at}));
  }
  clock.advance(std::chrono::seconds{2});
  Random random{12};
  for (const std::size_t count : {0U, 1U, 2U, 31U, 32U, 33U, 64U, 65U, 100U}) {
    for (int round = 0; round < 20; ++round) {
      // With duplicates, the more the longer.
      std::vector<std::string_view> keys;
      for (std::size_t i = 0; i < count; ++i) keys.push_back(names[random.below(names.size())]);
      ASSERT_EQ(ask_many(*cache, keys), ask_each(*cache, keys)) << count;
    }
  }
}

TEST(GetMany, AllMissesCallNobody) {
  const auto cache = make_cache({});
  const std::vector<std::string_view> keys(100, "absent");
  EXPECT_TRUE(ask_many(*cache, keys).empty());
  EXPECT_EQ(cache->stats().misses, 100U);
  EXPECT_EQ(cache->stats().hits, 0U);
}

TEST(GetMany, CountsEachKeyAndUsesIt) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const std::string value(400, 'v');
  int count = 0;
  for (; count < 100; ++count) ASSERT_TRUE(cache->insert(std::to_string(count), value));
  const std::vector<std::string_view> keys{"0", "absent", "5", "5"};
  EXPECT_EQ(ask_many(*cache, keys).size(), 3U);
  EXPECT_EQ(cache->stats().hits, 3U);
  EXPECT_EQ(cache->stats().misses, 1U);
  // Half of the stripe changes; those used stay.
  for (int i = 0; i < 90; ++i) {
    ASSERT_TRUE(cache->insert(std::to_string(count++), value));
    (void)ask_many(*cache, keys);
  }
  EXPECT_TRUE(has(*cache, "0"));
  EXPECT_TRUE(has(*cache, "5"));
  EXPECT_FALSE(has(*cache, "1"));
}

TEST(GetMany, TheVisitorMayChangeWhatComesLater) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), "old"));
  std::vector<std::string> names;
  for (int i = 0; i < 40; ++i) names.push_back(std::to_string(i));
  const std::vector<std::string_view> keys{names.begin(), names.end()};
  std::vector<std::size_t> seen;
  const std::size_t hits = cache->get_many(keys, [&](std::size_t index, const EntryView& hit) {
    seen.push_back(index);
    EXPECT_EQ(hit.value(), index == 3 ? "new" : "old") << index;
    if (index == 0) {
      EXPECT_TRUE(cache->erase("1"));
      EXPECT_TRUE(cache->erase("35"));
      ASSERT_TRUE(cache->insert("3", "new"));
      // Churn: whatever was looked at ahead may be anywhere by now.
      for (int i = 0; i < 50; ++i) ASSERT_TRUE(cache->insert("x", std::string(3000, 'x')));
    }
    // Another within the call.
    EXPECT_EQ(cache->get_many(keys.empty() ? std::span<const std::string_view>{}
                                           : std::span<const std::string_view>{keys}.first(1),
                              [](std::size_t inner, const EntryView&) { EXPECT_EQ(inner, 0U); }),
              1U);
  });
  EXPECT_EQ(hits, 38U);
  ASSERT_EQ(seen.size(), 38U);
  EXPECT_EQ(seen[1], 2U);
  EXPECT_EQ(seen.back(), 39U);
}

}  // namespace
}  // namespace tiercel::l1
