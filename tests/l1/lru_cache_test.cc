// What one thread sees of the cache: options, reads, changes, limits and errors.

#include "tiercel/l1/lru_cache.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "hazard.h"
#include "l1_test_support.h"

namespace tiercel::l1 {
namespace {

using namespace std::string_literals;
using testing::HasSubstr;

TEST(LruCacheOptions, NamesTheFieldAndTheRange) {
  const auto message = [](const Options& options) {
    auto valid = validate(options);
    return valid ? std::string{} : valid.error().to_string();
  };
  constexpr std::size_t kGiB = std::size_t{1} << 30;
  EXPECT_EQ(message({}), "");
  EXPECT_EQ(message({.capacity_bytes_max = 65536, .stripes = 1}), "");
  EXPECT_EQ(message({.capacity_bytes_max = 8 * kGiB, .stripes = 1}), "");
  EXPECT_EQ(message({.capacity_bytes_max = 1024 * kGiB, .stripes = 128}), "");
  EXPECT_THAT(message({.capacity_bytes_max = 65535}), HasSubstr("capacity_bytes_max is 65535"));
  EXPECT_THAT(message({.capacity_bytes_max = 65535}), HasSubstr("65536"));
  EXPECT_THAT(message({.capacity_bytes_max = 1024 * kGiB + 1}), HasSubstr("1 TiB"));
  EXPECT_THAT(message({.capacity_bytes_max = 8 * kGiB + 1, .stripes = 1}), HasSubstr("8 GiB"));
  EXPECT_THAT(message({.stripes = 0}), HasSubstr("stripes is 0"));
  EXPECT_THAT(message({.stripes = 48}), HasSubstr("power of two"));
  EXPECT_THAT(message({.stripes = 48}), HasSubstr("1 to 4096"));
  EXPECT_THAT(message({.stripes = 8192}), HasSubstr("stripes is 8192"));
  EXPECT_THAT(message({.clock = nullptr}), HasSubstr("clock"));

  auto refused = LruCache::create({.stripes = 3});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
}

TEST(LruCacheOptions, UsesFewerStripesForASmallCache) {
  const auto small = make_cache({.capacity_bytes_max = 65536, .stripes = 64});
  EXPECT_EQ(small->stripes(), 1U);
  EXPECT_LT(small->entry_bytes_max(), 65536U / 2);
  EXPECT_EQ(make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 64})->stripes(),
            16U);
  EXPECT_EQ(make_cache({})->stripes(), 64U);
  // The sum of the shares is never above the whole, also where it does not divide.
  const auto odd = make_cache({.capacity_bytes_max = (std::size_t{1} << 20) + 17, .stripes = 8});
  EXPECT_LE(odd->entry_bytes_max(), odd->capacity_bytes_max() / 16);
  EXPECT_EQ(odd->capacity_bytes_max(), (std::size_t{1} << 20) + 17);
  EXPECT_LE(odd->stats().bytes_charged, odd->capacity_bytes_max());
}

// The example of the header.
Result<std::string> header_example() {
  std::string answer = "a miss";
  auto cache = LruCache::create({.capacity_bytes_max = 1 << 20});
  if (!cache) return cache.error();
  if (auto put = (*cache)->insert("user:7", "Ada", {.version = 3}); !put) return put.error();
  (*cache)->visit("user:7", [&](const EntryView& hit) {
    answer = std::string{hit.value()} + " at " + std::to_string(hit.version());
  });
  return answer;
}

TEST(LruCache, HeaderExample) {
  auto answer = header_example();
  ASSERT_TRUE(answer) << answer.error().to_string();
  EXPECT_EQ(*answer, "Ada at 3");
}

TEST(LruCache, GivesBackAllThatWasPutIn) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->pin("k"));
  const TimePoint later = Clock::system().now() + std::chrono::hours{1};
  // Each of the optional fields moves what stands behind it.
  for (const std::uint64_t version : {std::uint64_t{0}, ~std::uint64_t{0}}) {
    for (const TimePoint expires_at : {TimePoint::max(), later}) {
      for (const std::uint32_t flags : {0U, 5U, kFlagsMax}) {
        ASSERT_TRUE(cache->insert("k", "v",
                                  {.version = version, .expires_at = expires_at, .flags = flags}));
        const Handle hit = cache->pin("k");
        ASSERT_TRUE(hit);
        EXPECT_EQ(hit.key(), "k");
        EXPECT_EQ(hit.value(), "v");
        EXPECT_EQ(hit.version(), version);
        EXPECT_EQ(hit.expires_at(), expires_at);
        EXPECT_EQ(hit.flags(), flags);
        EXPECT_EQ(hit.generation(), cache->generation());
        EXPECT_EQ(hit.view().value(), "v");
      }
    }
  }
  EXPECT_TRUE(cache->check());
}

TEST(LruCache, ReplacesAnEntry) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("k", "old", {.version = 2}));
  const Handle old = cache->pin("k");
  ASSERT_TRUE(cache->insert("k", "new", {.version = 1}));  // insert does not compare versions.
  EXPECT_EQ(read(*cache, "k"), "new");
  EXPECT_EQ(old.value(), "old");
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.replaced, 1U);
  EXPECT_EQ(stats.entries, 1U);
}

TEST(LruCache, TakesAnyBytes) {
  const auto cache = make_cache({.stripes = 1});
  const std::vector<std::pair<std::string, std::string>> pairs{
      {""s, "the empty key"s},      {"\0"s, "nul"s},           {"\0\0"s, ""s},
      {"a\0b"s, "nul inside"s},     {"a"s, "before the nul"s}, {"\xff\xfe\n\""s, "\0\r\n\x80"s},
      {std::string(3000, 'k'), ""s}};
  for (const auto& [key, value] : pairs) ASSERT_TRUE(cache->insert(key, value));
  ASSERT_TRUE(cache->insert("null view", std::string_view{}));
  for (const auto& [key, value] : pairs) {
    EXPECT_EQ(cache->pin(key).key(), key);
    EXPECT_EQ(read(*cache, key), value);
  }
  EXPECT_EQ(read(*cache, std::string_view{}), "the empty key");
  EXPECT_EQ(read(*cache, "null view"), "");
  EXPECT_TRUE(cache->erase(""));
  EXPECT_FALSE(has(*cache, ""));
  EXPECT_EQ(cache->stats().entries, pairs.size());
}

TEST(TryGet, CopiesTheWholeValueOrNothing) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("k", "12345678"));
  std::string out(10, '-');
  EXPECT_EQ(cache->try_get("k", std::span{out}.first(7)), 8U);
  EXPECT_EQ(out, "----------");
  EXPECT_EQ(cache->try_get("k", std::span{out}.first(0)), 8U);
  EXPECT_EQ(cache->try_get("k", {}), 8U);
  EXPECT_EQ(cache->try_get("k", std::span{out}.first(8)), 8U);
  EXPECT_EQ(out, "12345678--");
  EXPECT_EQ(cache->try_get("other", out), std::nullopt);
  EXPECT_EQ(out, "12345678--");

  ASSERT_TRUE(cache->insert("", "\0\xff"s));
  EXPECT_EQ(cache->try_get("", out), 2U);
  EXPECT_EQ(out, "\0\xff"s + "345678--");
  ASSERT_TRUE(cache->insert("empty", ""));
  EXPECT_EQ(cache->try_get("empty", out), 0U);
  EXPECT_EQ(cache->try_get("empty", {}), 0U);
  EXPECT_EQ(out, "\0\xff"s + "345678--");
}

TEST(Visit, ValuesAreAlignedForWords) {
  const auto cache = make_cache({});
  for (std::size_t size = 0; size < 40; ++size) {
    for (const std::uint64_t version : {0U, 1U}) {
      for (const TimePoint expires_at : {TimePoint::max(), TimePoint::max() - Duration{1}}) {
        const std::string key(size, 'k');
        const std::string value(size % 11, 'v');
        ASSERT_TRUE(cache->insert(key, value, {.version = version, .expires_at = expires_at}));
        EXPECT_TRUE(cache->visit(key, [&](const EntryView& hit) {
          EXPECT_EQ(reinterpret_cast<std::uintptr_t>(hit.value().data()) % 8, 0U);
          EXPECT_EQ(hit.value(), value);
        }));
      }
    }
  }
}

TEST(Visit, NestedVisitsKeepAllTheirEntriesWhateverReplacesThem) {
  constexpr int kDepth = 9;
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const auto key = [](int i) { return "key " + std::to_string(i); };
  const auto value = [](int i) { return "value " + std::to_string(i) + std::string(100, 'v'); };
  for (int i = 0; i < kDepth; ++i) ASSERT_TRUE(cache->insert(key(i), value(i)));
  std::vector<std::string_view> seen;
  const std::function<void(int)> descend = [&](int i) {
    if (i < kDepth) {
      ASSERT_TRUE(cache->visit(key(i), [&](const EntryView& hit) {
        seen.push_back(hit.value());
        descend(i + 1);
        EXPECT_EQ(hit.value(), value(i));
        EXPECT_EQ(hit.key(), key(i));
      }));
      return;
    }
    // All are held. Erased, replaced, evicted and their memory asked for many times over.
    EXPECT_TRUE(cache->erase(key(0)));
    EXPECT_TRUE(cache->erase(key(7)));
    ASSERT_TRUE(cache->insert(key(1), "replaced"));
    ASSERT_TRUE(cache->insert(key(8), "replaced"));
    for (int j = 0; j < 5000; ++j) {
      ASSERT_TRUE(cache->insert("filler " + std::to_string(j), std::string(100, 'f')));
    }
    ASSERT_EQ(seen.size(), static_cast<std::size_t>(kDepth));
    for (int j = 0; j < kDepth; ++j) EXPECT_EQ(seen[static_cast<std::size_t>(j)], value(j));
    EXPECT_FALSE(has(*cache, key(2)));
    EXPECT_TRUE(cache->check());
  };
  descend(0);
  EXPECT_TRUE(cache->check());
  EXPECT_TRUE(counters_balance(cache->stats()));
}

TEST(Visit, TheVisitorMayChangeWhatItVisits) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  for (int i = 0; i < 2000; ++i) {
    ASSERT_TRUE(cache->insert("k", "first"));
    EXPECT_TRUE(cache->visit("k", [&](const EntryView& hit) {
      ASSERT_TRUE(cache->insert("k", std::string(300, 'x')));
      EXPECT_EQ(hit.value(), "first");
      EXPECT_EQ(read(*cache, "k"), std::string(300, 'x'));
      EXPECT_TRUE(cache->erase("k"));
      EXPECT_FALSE(has(*cache, "k"));
      EXPECT_EQ(hit.value(), "first");
      cache->clear();
      (void)cache->sweep(10);
      EXPECT_EQ(hit.value(), "first");
    }));
  }
  EXPECT_TRUE(cache->check());
}

TEST(Visit, WhatTheVisitorThrowsComesOutAndNothingStaysHeld) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  ASSERT_TRUE(cache->insert("k", "v"));
  const auto throwing = [](const EntryView&) { throw std::runtime_error{"the visitor's"}; };
  for (int i = 0; i < 20; ++i) {
    EXPECT_THROW(cache->visit("k", throwing), std::runtime_error);
    EXPECT_THROW(cache->visit("k", [&](const EntryView&) { cache->visit("k", throwing); }),
                 std::runtime_error);
    const std::vector<std::string_view> keys{"absent", "k", "k"};
    const auto throwing_many = [&](std::size_t, const EntryView& hit) { throwing(hit); };
    EXPECT_THROW(cache->get_many(keys, throwing_many), std::runtime_error);
  }
  EXPECT_EQ(hazard::this_thread().depth, 0U);
  for (const auto& slot : hazard::this_thread().slots) EXPECT_EQ(slot.load(), nullptr);
  ASSERT_TRUE(cache->insert("k", "w"));
  EXPECT_EQ(read(*cache, "k"), "w");
  for (int i = 0; i < 5000; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), "filler"));
  EXPECT_TRUE(cache->check());
}

TEST(Visit, AMissCallsNobody) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->visit("k", [](const EntryView&) { FAIL(); }));
}

TEST(Handle, OutlivesEverything) {
  std::vector<Handle> handles;
  {
    const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
    const auto pin = [&](const std::string& key) {
      ASSERT_TRUE(cache->insert(key, key + " value", {.version = 9}));
      handles.push_back(cache->pin(key));
    };
    const auto churn = [&] {
      for (int i = 0; i < 5000; ++i) ASSERT_TRUE(cache->insert(std::to_string(i), "filler"));
    };
    pin("erased");
    ASSERT_TRUE(cache->erase("erased"));
    pin("replaced");
    ASSERT_TRUE(cache->insert("replaced", "another"));
    churn();
    pin("cleared");
    cache->clear();
    ASSERT_FALSE(has(*cache, "cleared"));
    churn();
    pin("in at the end");
    ASSERT_TRUE(handles.back());
    EXPECT_TRUE(cache->check());
  }
  const std::vector<std::string> keys{"erased", "replaced", "cleared", "in at the end"};
  ASSERT_EQ(handles.size(), keys.size());
  for (std::size_t i = 0; i < keys.size(); ++i) {
    EXPECT_EQ(handles[i].key(), keys[i]);
    EXPECT_EQ(handles[i].value(), keys[i] + " value");
    EXPECT_EQ(handles[i].version(), 9U);
  }
}

TEST(Handle, MovesAndResets) {
  const auto cache = make_cache({});
  ASSERT_TRUE(cache->insert("a", "1"));
  ASSERT_TRUE(cache->insert("b", "2"));
  Handle empty;
  EXPECT_FALSE(empty);
  Handle a = cache->pin("a");
  Handle b = cache->pin("b");
  Handle same_a = cache->pin("a");
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
}

TEST(LruCache, Erases) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->erase("k"));
  ASSERT_TRUE(cache->insert("k", "v", {.version = 5}));
  EXPECT_TRUE(cache->erase("k"));
  EXPECT_FALSE(cache->erase("k"));
  EXPECT_FALSE(has(*cache, "k"));
  EXPECT_EQ(cache->stats().evicted_erased, 1U);
}

TEST(LruCache, ErasesOlderVersionsOnly) {
  const auto cache = make_cache({});
  EXPECT_FALSE(cache->erase_older("k", 1));
  ASSERT_TRUE(cache->insert("k", "v", {.version = 5}));
  EXPECT_FALSE(cache->erase_older("k", 0));
  EXPECT_FALSE(cache->erase_older("k", 4));
  EXPECT_FALSE(cache->erase_older("k", 5));
  EXPECT_TRUE(has(*cache, "k"));
  EXPECT_TRUE(cache->erase_older("k", 6));
  EXPECT_FALSE(has(*cache, "k"));

  for (const std::uint64_t version : {std::uint64_t{0}, std::uint64_t{1}}) {
    ASSERT_TRUE(cache->insert("unknown", "v", {.version = 0}));
    EXPECT_TRUE(cache->erase_older("unknown", version));
    EXPECT_FALSE(has(*cache, "unknown"));
  }
}

TEST(LruCacheLimits, TheLongestKeyFitsAndALongerOneIsRefused) {
  const auto cache = make_cache({.stripes = 1});
  const std::string longest(kKeyBytesMax, 'k');
  ASSERT_TRUE(cache->insert(longest, "v"));
  EXPECT_EQ(read(*cache, longest), "v");
  EXPECT_FALSE(has(*cache, longest + "k"));
  EXPECT_FALSE(cache->erase(longest + "k"));
  auto refused = cache->insert(longest + "k", "v");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
  EXPECT_THAT(refused.error().message, HasSubstr("65536"));
  EXPECT_THAT(refused.error().message, HasSubstr("65535"));
  EXPECT_EQ(read(*cache, longest), "v");
}

TEST(LruCacheLimits, EachRefusalNamesTheLimitAndDropsTheOldEntry) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const std::size_t limit = cache->entry_bytes_max();
  struct Case {
    std::string value;
    EntryMeta meta;
    std::string says;
  };
  const std::vector<Case> cases{
      {std::string(limit, 'x'), {}, std::to_string(limit)},
      {"v", {.flags = kFlagsMax + 1}, "flags is 16; at most 15"},
      {"v", {.generation = 2}, "generation 2 has not been yet; the current one is 1"}};
  ASSERT_TRUE(cache->insert("other", "stays"));
  for (const auto& [value, meta, says] : cases) {
    ASSERT_TRUE(cache->insert("k", "old"));
    auto refused = cache->insert("k", value, meta);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(refused.error().message, HasSubstr(says));
    EXPECT_FALSE(has(*cache, "k"));
  }
  EXPECT_TRUE(has(*cache, "other"));
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.refused_too_large, 1U);
  EXPECT_EQ(stats.inserts, 1 + cases.size());
  EXPECT_EQ(stats.evicted_erased, cases.size());
  EXPECT_EQ(stats.evicted_capacity, 0U);
  EXPECT_TRUE(counters_balance(stats));
}

}  // namespace
}  // namespace tiercel::l1
