// Deadlines: what a read sees of them, and what gives the memory back.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <limits>
#include <map>
#include <string>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr std::size_t kAll = std::numeric_limits<std::size_t>::max();

TEST(Expiry, IsToTheNanosecondOnTheClockHandedIn) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const TimePoint start = clock.now();
  ASSERT_TRUE(cache->insert("short", "s", {.expires_at = start + milliseconds{10}}));
  ASSERT_TRUE(cache->insert("long", "l", {.expires_at = start + milliseconds{20}}));
  ASSERT_TRUE(cache->insert("for ever", "f"));
  ASSERT_TRUE(cache->insert("born dead", "b", {.expires_at = start}));
  ASSERT_TRUE(cache->insert("long dead", "d", {.expires_at = TimePoint::min()}));
  EXPECT_FALSE(has(*cache, "born dead"));
  EXPECT_FALSE(has(*cache, "long dead"));

  clock.advance(milliseconds{10} - Duration{1});
  EXPECT_TRUE(has(*cache, "short"));
  clock.advance(Duration{1});
  EXPECT_FALSE(has(*cache, "short"));
  EXPECT_FALSE(cache->pin("short"));
  EXPECT_FALSE(cache->visit("short", [](const EntryView&) { FAIL(); }));
  EXPECT_TRUE(has(*cache, "long"));
  EXPECT_EQ(cache->stats().entries, 5U);  // Reads remove nothing.
  EXPECT_EQ(cache->stats().evicted_expired, 0U);

  clock.advance(hours{24 * 365 * 100});
  EXPECT_FALSE(has(*cache, "long"));
  EXPECT_TRUE(has(*cache, "for ever"));
  EXPECT_EQ(cache->sweep(kAll), 4U);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_expired, 4U);
  EXPECT_EQ(stats.entries, 1U);
  EXPECT_EQ(stats.hits, 3U);
  EXPECT_EQ(stats.misses, 6U);

  // A fresh value brings the key back.
  ASSERT_TRUE(cache->insert("short", "t", {.expires_at = clock.now() + milliseconds{10}}));
  EXPECT_EQ(read(*cache, "short"), "t");
}

TEST(Expiry, AViewOutlivesItsDeadline) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const TimePoint deadline = clock.now() + seconds{1};
  ASSERT_TRUE(cache->insert("k", "v", {.expires_at = deadline}));
  EXPECT_TRUE(cache->visit("k", [&](const EntryView& hit) {
    clock.advance(seconds{2});
    EXPECT_FALSE(has(*cache, "k"));
    EXPECT_EQ(cache->sweep(kAll), 1U);
    EXPECT_EQ(hit.value(), "v");
    EXPECT_EQ(hit.expires_at(), deadline);
  }));
}

TEST(Expiry, AReplacedDeadlineCountsNoMore) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const auto in = [&](Duration duration) { return clock.now() + duration; };
  ASSERT_TRUE(cache->insert("longer", "1", {.expires_at = in(seconds{1})}));
  ASSERT_TRUE(cache->insert("longer", "2", {.expires_at = in(hours{1})}));
  ASSERT_TRUE(cache->insert("for ever", "1", {.expires_at = in(seconds{1})}));
  ASSERT_TRUE(cache->insert("for ever", "2"));
  ASSERT_TRUE(cache->insert("shorter", "1", {.expires_at = in(hours{1})}));
  ASSERT_TRUE(cache->insert("shorter", "2", {.expires_at = in(seconds{1})}));
  ASSERT_TRUE(cache->insert("erased", "1", {.expires_at = in(seconds{1})}));
  EXPECT_TRUE(cache->erase("erased"));
  clock.advance(seconds{2});
  EXPECT_EQ(read(*cache, "longer"), "2");
  EXPECT_EQ(read(*cache, "for ever"), "2");
  EXPECT_FALSE(has(*cache, "shorter"));
  EXPECT_EQ(cache->sweep(kAll), 1U);
  clock.advance(hours{2});
  EXPECT_EQ(cache->sweep(kAll), 1U);
  EXPECT_EQ(read(*cache, "for ever"), "2");
  EXPECT_EQ(cache->sweep(kAll), 0U);
  EXPECT_TRUE(cache->check());
}

TEST(Expiry, AnExpiredEntryCanBeErasedAndReplaced) {
  ManualClock clock;
  const auto cache = make_cache({.clock = &clock});
  const EntryMeta meta{.version = 5, .expires_at = clock.now() + seconds{1}};
  for (const std::string key : {"erased", "older", "newer", "replaced"}) {
    ASSERT_TRUE(cache->insert(key, "v", meta));
  }
  clock.advance(seconds{2});
  EXPECT_TRUE(cache->erase("erased"));  // "Which might have expired unnoticed".
  EXPECT_TRUE(cache->erase_older("older", 6));
  EXPECT_FALSE(cache->erase_older("newer", 5));
  ASSERT_TRUE(cache->insert("replaced", "w"));
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.evicted_erased, 2U);
  EXPECT_EQ(stats.replaced, 1U);
  EXPECT_EQ(stats.evicted_expired, 0U);
  EXPECT_EQ(cache->sweep(kAll), 1U);
}

TEST(Sweep, RemovesNoMoreThanItIsToldAndReachesEveryStripe) {
  ManualClock clock;
  const auto cache = make_cache({.stripes = 8, .clock = &clock});
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(cache->insert(std::to_string(i), "v", {.expires_at = clock.now() + seconds{1}}));
    ASSERT_TRUE(cache->insert("stays" + std::to_string(i), "v"));
  }
  EXPECT_EQ(cache->sweep(kAll), 0U);
  clock.advance(seconds{2});
  EXPECT_EQ(cache->sweep(0), 0U);
  for (int call = 1; call <= 100; ++call) EXPECT_EQ(cache->sweep(10), 10U) << "in call " << call;
  EXPECT_EQ(cache->sweep(10), 0U);
  const Stats stats = cache->stats();
  EXPECT_EQ(stats.entries, 1000U);
  EXPECT_EQ(stats.evicted_expired, 1000U);
  EXPECT_TRUE(cache->check());
}

TEST(Sweep, GivesTheMemoryBack) {
  ManualClock clock;
  const auto cache =
      make_cache({.capacity_bytes_max = std::size_t{1} << 20, .stripes = 1, .clock = &clock});
  const auto fill = [&](const std::string& prefix) {
    for (int i = 0; i < 800; ++i) {
      ASSERT_TRUE(cache->insert(prefix + std::to_string(i), std::string(1000, 'v'),
                                {.expires_at = clock.now() + seconds{10}}));
    }
  };
  fill("a");
  const std::uint64_t charged = cache->stats().bytes_charged;
  clock.advance(seconds{20});
  EXPECT_EQ(cache->sweep(kAll), 800U);
  // What readers might still look at takes a few calls.
  for (int i = 0; i < 20; ++i) (void)cache->sweep(kAll);
  EXPECT_LT(cache->stats().bytes_charged, charged / 10);
  fill("b");
  EXPECT_EQ(cache->stats().evicted_capacity, 0U);
  EXPECT_TRUE(cache->check());
}

TEST(Sweep, FindsWhatTheHeaderPromisesWhenTheHeaderPromisesIt) {
  Random random{31};
  ManualClock clock;
  const auto cache = make_cache({.capacity_bytes_max = std::size_t{1} << 20, .clock = &clock});
  struct Times {
    TimePoint since;
    TimePoint deadline;
  };
  // By a value that is the key's number, so that what a sweep left can be told by a read of none.
  std::multimap<TimePoint, Times> due;  // By when it must have been found.
  std::uint64_t in = 0;
  std::uint64_t number = 0;
  for (int step = 0; step < 5000; ++step) {
    for (int i = 0; i < 2; ++i) {
      const Duration life = milliseconds{1 + random.below(std::uint64_t{1} << random.below(20))};
      const TimePoint now = clock.now();
      ASSERT_TRUE(cache->insert(std::to_string(number++), "v", {.expires_at = now + life}));
      due.emplace(now + life + std::max<Duration>(life / 100 * 13, milliseconds{9}),
                  Times{now, now + life});
      ++in;
    }
    clock.advance(milliseconds{random.below(200)});
    const std::uint64_t removed = cache->sweep(kAll);
    ASSERT_LE(removed, in);
    in -= removed;
    while (!due.empty() && due.begin()->first <= clock.now()) due.erase(due.begin());
    // As many may be left as are not due yet.
    ASSERT_LE(in, due.size());
    ASSERT_EQ(cache->stats().entries, in);
  }
  EXPECT_EQ(cache->stats().evicted_capacity, 0U);
  EXPECT_GT(cache->stats().evicted_expired, 5000U);
}

TEST(Expiry, MemoryIsFoundAlsoWhenNobodySweeps) {
  ManualClock clock;
  const auto cache =
      make_cache({.capacity_bytes_max = std::size_t{256} << 10, .stripes = 1, .clock = &clock});
  for (int i = 0; i < 20000; ++i) {
    ASSERT_TRUE(cache->insert(std::to_string(i), std::string(100, 'v'),
                              {.expires_at = clock.now() + milliseconds{50}}));
    clock.advance(milliseconds{1});
    ASSERT_TRUE(has(*cache, std::to_string(i)));
  }
  EXPECT_TRUE(cache->check());
  EXPECT_TRUE(counters_balance(cache->stats()));
}

}  // namespace
}  // namespace tiercel::l1
