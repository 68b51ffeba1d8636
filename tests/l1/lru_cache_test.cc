#include "tiercel/l1/lru_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "l1_test_support.h"

namespace tiercel::l1 {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

TEST(LruCacheOptions, NamesTheFieldAndTheRange) {
  const auto message = [](const Options& options) {
    auto valid = validate(options);
    return valid ? std::string{} : valid.error().to_string();
  };
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.capacity_bytes_max = 4096, .stripes = 1}), "");
  EXPECT_THAT(message({.capacity_bytes_max = 4095}), HasSubstr("capacity_bytes_max is 4095"));
  EXPECT_THAT(message({.capacity_bytes_max = 4095}), HasSubstr("4096"));
  EXPECT_THAT(message({.capacity_bytes_max = (std::size_t{1} << 40) + 1}), HasSubstr("1 TiB"));
  EXPECT_THAT(message({.stripes = 0}), HasSubstr("stripes is 0"));
  EXPECT_THAT(message({.stripes = 48}), HasSubstr("power of two, 1 to 4096"));
  EXPECT_THAT(message({.stripes = 8192}), HasSubstr("stripes is 8192"));
  EXPECT_THAT(message({.clock = nullptr}), HasSubstr("clock"));

  auto refused = LruCache::create({.stripes = 3});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST(LruCacheOptions, UsesFewerStripesForASmallCache) {
  EXPECT_EQ(make_cache({.capacity_bytes_max = 4096, .stripes = 64})->stripes(), 1U);
  EXPECT_EQ(make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 64})->stripes(),
            16U);
  EXPECT_EQ(make_cache({})->stripes(), 64U);
  // The sum of the shares is never above the whole, also where it does not divide.
  const auto odd = make_cache({.capacity_bytes_max = (std::size_t{1} << 20) + 17, .stripes = 8});
  EXPECT_LT(odd->entry_bytes_max(), odd->capacity_bytes_max() / 8);
}

// The example of the header.
Result<std::string> header_example() {
  auto cache = LruCache::create({.capacity_bytes_max = 1 << 20});
  if (!cache) return cache.error();
  if (auto put = (*cache)->insert("user:7", "Ada", {.version = 3}); !put) return put.error();
  if (Handle hit = (*cache)->find("user:7")) {
    return std::string{hit.value()} + " at " + std::to_string(hit.version());
  }
  return std::string{"a miss"};
}

TEST(LruCache, HeaderExample) {
  auto answer = header_example();
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(*answer, "Ada at 3");
}

TEST(LruCache, GivesBackWhatWasPutIn) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->find("k"));
  const TimePoint expires_at = Clock::system().now() + std::chrono::hours{1};
  ASSERT_TRUE(cache->insert("k", "v", {.version = 7, .expires_at = expires_at, .flags = 5}));
  const Handle hit = cache->find("k");
  ASSERT_TRUE(hit);
  EXPECT_EQ(hit.key(), "k");
  EXPECT_EQ(hit.value(), "v");
  EXPECT_EQ(hit.version(), 7U);
  EXPECT_EQ(hit.expires_at(), expires_at);
  EXPECT_EQ(hit.flags(), 5U);
  EXPECT_EQ(hit.generation(), cache->generation());
}

TEST(LruCache, ReplacesAnEntry) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("k", "old", {.version = 2}));
  const Handle old = cache->find("k");
  ASSERT_TRUE(cache->insert("k", "new", {.version = 1}));  // insert does not compare versions.
  EXPECT_EQ(cache->find("k").value(), "new");
  EXPECT_EQ(old.value(), "old");
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.replaced, 1U);
  EXPECT_EQ(stats.entries, 1U);
}

TEST(LruCache, TakesAnyBytes) {
  const auto cache = make_cache({.stripes = 1});
  using namespace std::string_literals;
  const std::vector<std::pair<std::string, std::string>> pairs{
      {""s, "the empty key"s},      {"\0"s, "nul"s},           {"\0\0"s, ""s},
      {"a\0b"s, "nul inside"s},     {"a"s, "before the nul"s}, {"\xff\xfe\n\""s, "\0\r\n\x80"s},
      {std::string(3000, 'k'), ""s}};
  for (const auto& [key, value] : pairs) ASSERT_TRUE(cache->insert(key, value));
  ASSERT_TRUE(cache->insert("null view", std::string_view{}));
  for (const auto& [key, value] : pairs) {
    const Handle hit = cache->find(key);
    ASSERT_TRUE(hit);
    EXPECT_EQ(hit.key(), key);
    EXPECT_EQ(hit.value(), value);
  }
  EXPECT_EQ(cache->find(std::string_view{}).value(), "the empty key");
  EXPECT_EQ(cache->find("null view").value(), "");
  EXPECT_TRUE(cache->erase(""));
  EXPECT_FALSE(cache->find(""));
  EXPECT_EQ(cache->stats().entries, pairs.size());
}

TEST(LruCache, ValuesAreAlignedForWords) {
  const auto cache = make_cache({});
  for (std::size_t key_size = 0; key_size < 20; ++key_size) {
    const std::string key(key_size, 'k');
    ASSERT_TRUE(cache->insert(key, std::string(key_size, 'v')));
    const auto address = reinterpret_cast<std::uintptr_t>(cache->find(key).value().data());
    EXPECT_EQ(address % 8, 0U);
  }
}

TEST(LruCache, EvictsTheLeastRecentlyUsed) {
  const auto cache = make_cache({.capacity_bytes_max = 16384, .stripes = 1});
  const std::string value(200, 'v');
  int count = 0;
  while (cache->stats().evicted_capacity == 0) {
    // Key 0 is used again and again, so the first to go is key 1.
    ASSERT_TRUE(cache->insert(std::to_string(count++), value));
    ASSERT_TRUE(cache->find("0"));
  }
  ASSERT_GT(count, 20);
  EXPECT_TRUE(cache->find("0"));
  EXPECT_FALSE(cache->find("1"));

  // A replaced entry counts as used; so does a found one; an inserted one is the newest.
  ASSERT_TRUE(cache->insert("2", value));
  ASSERT_TRUE(cache->find("3"));
  const std::uint64_t evicted = cache->stats().evicted_capacity;
  while (cache->stats().evicted_capacity == evicted) {
    ASSERT_TRUE(cache->insert(std::to_string(count++), value));
  }
  EXPECT_TRUE(cache->find("2"));
  EXPECT_TRUE(cache->find("3"));
  EXPECT_FALSE(cache->find("4"));
  EXPECT_TRUE(cache->find("5"));
}

TEST(LruCache, AnEmptyCacheChargesItsTablesOnly) {
  const auto cache = make_cache({.capacity_bytes_max = std::size_t{64} << 20, .stripes = 64});
  const std::uint64_t empty = cache->stats().bytes_charged;
  EXPECT_GT(empty, 64U * 64 * sizeof(void*));
  EXPECT_LT(empty, cache->capacity_bytes_max() / 100);
  ASSERT_TRUE(cache->insert("key", std::string(1000, 'v')));
  const std::uint64_t one = cache->stats().bytes_charged - empty;
  EXPECT_GE(one, 1003U);
  EXPECT_LE(one, 1003U + 150);
  EXPECT_TRUE(cache->erase("key"));
  EXPECT_EQ(cache->stats().bytes_charged, empty);
}

TEST(LruCache, ChargesTheTableAsItGrows) {
  const auto cache = make_cache({.stripes = 1});
  const std::uint64_t empty = cache->stats().bytes_charged;
  constexpr std::uint64_t kCount = 3000;
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), "v"));
  for (std::uint64_t i = 0; i < kCount; ++i) ASSERT_TRUE(cache->erase(std::to_string(i)));
  // What is left is about one bucket for each entry that was in.
  const std::uint64_t grown = cache->stats().bytes_charged - empty;
  EXPECT_GE(grown, (kCount - 128) * sizeof(void*));
  EXPECT_LE(grown, (kCount + 128) * (sizeof(void*) + 1));
}

TEST(LruCache, RefusesWhatCannotFitAndDropsTheOldEntry) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  ASSERT_TRUE(cache->insert("k", "old"));
  ASSERT_TRUE(cache->insert("other", "stays"));
  auto refused = cache->insert("k", std::string(65536, 'x'));
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(cache->entry_bytes_max())));
  EXPECT_FALSE(cache->find("k"));
  EXPECT_TRUE(cache->find("other"));
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.refused_too_large, 1U);
  EXPECT_EQ(stats.evicted_erased, 1U);
  EXPECT_EQ(stats.evicted_capacity, 0U);
}

TEST(LruCache, TheLargestEntryAlwaysFits) {
  const auto cache = make_cache({.capacity_bytes_max = 131072, .stripes = 1});
  // Many small entries first: the table grows, and room is then made in many steps.
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), ""));
  EXPECT_GT(cache->stats().evicted_capacity, 1000U);

  // The largest size that is accepted, by bisection; whatever the allocator adds is within it.
  std::size_t accepted = 0;
  std::size_t refused = cache->entry_bytes_max() + 1;
  while (refused - accepted > 1) {
    const std::size_t middle = (accepted + refused) / 2;
    (cache->insert("large", std::string(middle, 'x')) ? accepted : refused) = middle;
    ASSERT_LE(cache->stats().bytes_charged, cache->capacity_bytes_max());
  }
  EXPECT_GT(accepted, cache->entry_bytes_max() - 200 - kPageBytes);
  EXPECT_GT(accepted, cache->capacity_bytes_max() * 8 / 10);
  ASSERT_TRUE(cache->insert("large", std::string(accepted, 'x')));
  EXPECT_EQ(cache->find("large").value().size(), accepted);
}

TEST(LruCache, ExpiresOnTheClockHandedIn) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const TimePoint start = clock.now();
  ASSERT_TRUE(cache->insert("short", "s", {.expires_at = start + milliseconds{10}}));
  ASSERT_TRUE(cache->insert("long", "l", {.expires_at = start + milliseconds{20}}));
  ASSERT_TRUE(cache->insert("for ever", "f"));
  ASSERT_TRUE(cache->insert("born dead", "b", {.expires_at = start}));
  EXPECT_FALSE(cache->find("born dead"));

  clock.advance(milliseconds{10} - Duration{1});
  EXPECT_TRUE(cache->find("short"));
  clock.advance(Duration{1});
  EXPECT_FALSE(cache->find("short"));
  EXPECT_TRUE(cache->find("long"));
  EXPECT_EQ(cache->stats().entries, 2U);

  clock.advance(std::chrono::hours{24 * 365 * 100});
  EXPECT_FALSE(cache->find("long"));
  EXPECT_TRUE(cache->find("for ever"));
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_expired, 3U);
  EXPECT_EQ(stats.hits, 3U);
  EXPECT_EQ(stats.misses, 3U);

  // A fresh value brings the key back.
  ASSERT_TRUE(cache->insert("short", "t", {.expires_at = clock.now() + milliseconds{10}}));
  EXPECT_EQ(cache->find("short").value(), "t");
}

TEST(LruCache, HandlesOutliveEverything) {
  std::vector<Handle> handles;
  {
    const auto cache = make_cache({.capacity_bytes_max = 8192, .stripes = 1});
    const auto pin = [&](const std::string& key) {
      ASSERT_TRUE(cache->insert(key, key + " value", {.version = 9}));
      handles.push_back(cache->find(key));
    };
    pin("evicted");
    for (int i = 0; i < 200; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), "filler"));
    ASSERT_FALSE(cache->find("evicted"));
    pin("erased");
    ASSERT_TRUE(cache->erase("erased"));
    pin("replaced");
    ASSERT_TRUE(cache->insert("replaced", "another"));
    pin("cleared");
    cache->clear();
    ASSERT_FALSE(cache->find("cleared"));
    pin("in at the end");
    ASSERT_TRUE(handles.back());
  }
  const std::vector<std::string> keys{"evicted", "erased", "replaced", "cleared", "in at the end"};
  ASSERT_EQ(handles.size(), keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(handles[i].key(), keys[i]);
    EXPECT_EQ(handles[i].value(), keys[i] + " value");
    EXPECT_EQ(handles[i].version(), 9U);
  }
}

TEST(LruCache, PinnedAndEvictedIsNotCharged) {
  const auto cache = make_cache({.stripes = 1});
  const std::uint64_t empty = cache->stats().bytes_charged;
  ASSERT_TRUE(cache->insert("k", std::string(500, 'v')));
  const Handle pinned = cache->find("k");
  EXPECT_GT(cache->stats().bytes_charged, empty + 500);
  EXPECT_TRUE(cache->erase("k"));
  EXPECT_EQ(cache->stats().bytes_charged, empty);
  EXPECT_EQ(pinned.value().size(), 500U);
}

TEST(Handle, MovesAndResets) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("a", "1"));
  ASSERT_TRUE(cache->insert("b", "2"));
  Handle empty;
  EXPECT_FALSE(empty);
  Handle a = cache->find("a");
  Handle b = cache->find("b");
  Handle same_a = cache->find("a");
  a = std::move(b);
  EXPECT_FALSE(b);  // NOLINT(bugprone-use-after-move)
  EXPECT_EQ(a.value(), "2");
  Handle& self = a;
  a = std::move(self);
  EXPECT_EQ(a.value(), "2");
  Handle moved{std::move(a)};
  EXPECT_EQ(moved.value(), "2");
  moved.reset();
  EXPECT_FALSE(moved);
  moved.reset();
  EXPECT_EQ(same_a.value(), "1");
  EXPECT_DEATH((void)empty.value(), "entry_ != nullptr");
}

TEST(LruCache, Erases) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->erase("k"));
  ASSERT_TRUE(cache->insert("k", "v", {.version = 5}));
  EXPECT_TRUE(cache->erase("k"));
  EXPECT_FALSE(cache->erase("k"));
  EXPECT_FALSE(cache->find("k"));
  EXPECT_EQ(cache->stats().evicted_erased, 1U);
}

TEST(LruCache, ErasesOlderVersionsOnly) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->erase_older("k", 1));
  ASSERT_TRUE(cache->insert("k", "v", {.version = 5}));
  EXPECT_FALSE(cache->erase_older("k", 0));
  EXPECT_FALSE(cache->erase_older("k", 4));
  EXPECT_FALSE(cache->erase_older("k", 5));
  EXPECT_TRUE(cache->find("k"));
  EXPECT_TRUE(cache->erase_older("k", 6));
  EXPECT_FALSE(cache->find("k"));

  for (const std::uint64_t version : {std::uint64_t{0}, std::uint64_t{1}}) {
    ASSERT_TRUE(cache->insert("unknown", "v", {.version = 0}));
    EXPECT_TRUE(cache->erase_older("unknown", version));
    EXPECT_FALSE(cache->find("unknown"));
  }
}

}  // namespace
}  // namespace tiercel::l1
