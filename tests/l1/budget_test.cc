// The byte budget: what is charged, what is resident, and that all of it can be used.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <initializer_list>
#include <map>
#include <string>
#include <vector>

#include "entry.h"
#include "l1_test_support.h"
#include "support/resident_memory.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using ::testing::HasSubstr;
using tiercel::testing::resident_bytes;

// The size of the value with which an entry of this key has just this charge.
std::size_t value_bytes_for(std::size_t charge, const std::string& key) {
  return charge - Entry::kHeaderBytes - (key.size() + 7) / 8 * 8;
}

std::string any_value(Random& random, std::size_t size) {
  return std::string(size, static_cast<char>('a' + random.below(26)));
}

struct SizeMix {
  std::string name;
  std::function<std::size_t(Random&, std::size_t size_max)> size;
};

const std::vector<SizeMix>& mixes() {
  static const std::vector<SizeMix> all{
      {"any size", [](Random& random, std::size_t max) { return random.below(max + 1); }},
      {"tiny beside huge",
       [](Random& random, std::size_t max) {
         return random.below(10) == 0 ? max - random.below(max / 8) : random.below(20);
       }},
      {"each magnitude",
       [](Random& random, std::size_t max) {
         return std::min<std::size_t>(max, random.below(std::uint64_t{2} << random.below(20)));
       }},
      {"a sixteenth beside tiny", [](Random& random, std::size_t max) {
         return random.below(3) == 0 ? max / 8 - random.below(50) : random.below(40);
       }}};
  return all;
}

TEST(Budget, IsKeptAfterEachCallWhateverTheSizes) {
  for (const SizeMix& mix : mixes()) {
    for (const std::size_t stripes : {1U, 4U}) {
      SCOPED_TRACE(mix.name + ", " + std::to_string(stripes) + " stripes");
      const auto cache = make_cache(
          {.capacity_bytes_max = std::size_t{300'000}, .stripes = stripes, .hash_seed = 7});
      ASSERT_EQ(cache->stripes(), stripes);
      const std::size_t size_max = value_bytes_for(cache->entry_bytes_max(), "12345678");
      std::map<std::string, std::string> last;
      Random random{mix.name.size() + stripes};
      for (int step = 0; step < 4000; ++step) {
        const std::string key = std::to_string(random.below(3000));
        const std::uint64_t dice = random.below(10);
        if (dice < 7) {
          const std::string value = any_value(random, mix.size(random, size_max));
          auto put = cache->insert(key, value);
          ASSERT_TRUE(put) << put.error().to_string() << " of size " << value.size();
          last[key] = value;
        } else if (dice < 9) {
          const auto value = read(*cache, key);
          ASSERT_TRUE(!value || *value == last[key]);
        } else {
          (void)cache->erase(key);
          ASSERT_FALSE(has(*cache, key));
        }
        const Stats stats = cache->stats();
        ASSERT_LE(stats.bytes_charged, cache->capacity_bytes_max());
        ASSERT_TRUE(counters_balance(stats));
        ASSERT_TRUE(step % 8 != 0 || cache->check()) << "step " << step;
      }
      ASSERT_TRUE(cache->check());
      EXPECT_EQ(cache->stats().refused_overloaded, 0U);
    }
  }
}

TEST(Budget, TheLargestEntryFitsIntoAFullStripeAndALargerOneIsRefused) {
  for (const std::size_t capacity : {std::size_t{65536}, std::size_t{1} << 20}) {
    for (const std::size_t filler : {0U, 30U, 1000U, 9000U}) {
      SCOPED_TRACE(std::to_string(capacity) + ", fillers of " + std::to_string(filler));
      const auto cache = make_cache({.capacity_bytes_max = capacity, .stripes = 1});
      const std::size_t limit = cache->entry_bytes_max();
      EXPECT_GT(limit, capacity * 4 / 10);
      for (int round = 0; round < 3; ++round) {
        for (std::size_t i = 0; i < 2 * capacity / (filler + 40); ++i) {
          ASSERT_TRUE(cache->insert(std::to_string(i), std::string(filler, 'f')));
        }
        EXPECT_GT(cache->stats().evicted_capacity, 0U);
        const std::string large(value_bytes_for(limit, "large"), 'x');
        for (int again = 0; again < 3; ++again) {  // Replacing it takes both at once.
          ASSERT_TRUE(cache->insert("large", large));
          EXPECT_EQ(read(*cache, "large"), large);
          ASSERT_TRUE(cache->check());
        }
        auto refused = cache->insert("large", large + "x");
        ASSERT_FALSE(refused);
        EXPECT_THAT(refused.error().message, HasSubstr("limit of " + std::to_string(limit)));
        EXPECT_THAT(refused.error().message, HasSubstr(std::to_string(limit + 8)));
        EXPECT_FALSE(has(*cache, "large"));
      }
      EXPECT_LE(cache->stats().bytes_charged, capacity);
    }
  }
}

TEST(Budget, AnEmptyCacheChargesItsFixedPartsOnly) {
  const auto cache = make_cache({});
  const std::uint64_t empty = cache->stats().bytes_charged;
  EXPECT_GT(empty, 0U);
  EXPECT_LT(empty, cache->capacity_bytes_max() / 50);
  ASSERT_TRUE(cache->insert("key", std::string(1000, 'v')));
  EXPECT_EQ(cache->stats().bytes_charged, empty + 28 + 8 + 1000 + 4);
}

TEST(Budget, AnEntryCostsWhatTheHeaderSays) {
  const std::uint64_t count = kSanitized ? 50'000 : 1'000'000;
  const auto cache =
      make_cache({.capacity_bytes_max = count * 200, .stripes = 16, .huge_pages = false});
  const std::uint64_t empty = cache->stats().bytes_charged;
  std::string key(24, 'k');
  for (std::uint64_t i = 0; i < count; ++i) {
    key.replace(0, 8, std::to_string(10'000'000 + i));
    ASSERT_TRUE(cache->insert(key, std::string(100, 'v')));
  }
  const Stats stats = cache->stats();
  EXPECT_GE(stats.entries, count - count / 1000);  // A few buckets were full.
  const double overhead =
      static_cast<double>(stats.bytes_charged - empty) / static_cast<double>(stats.entries) - 124.0;
  EXPECT_LE(overhead, 48.0);
  EXPECT_GE(overhead, 28.0);
}

TEST(Budget, ResidentMemoryStaysWithinItAndIsWhatIsCharged) {
  if (kSanitized) GTEST_SKIP() << "a sanitizer's own memory is in the way";
  for (const bool huge_pages : {false, true}) {
    SCOPED_TRACE(huge_pages ? "huge pages" : "small pages");
    constexpr std::size_t kCapacity = std::size_t{64} << 20;
    const std::size_t before = resident_bytes();
    const auto cache = make_cache({.capacity_bytes_max = kCapacity, .huge_pages = huge_pages});
    const auto resident = [&] {
      return static_cast<double>(resident_bytes()) - static_cast<double>(before);
    };
    EXPECT_TRUE(huge_pages || resident() < 4e6);  // Not before it is used.
    Random random{1};
    for (int i = 0; i < 400'000; ++i) {
      const std::uint64_t size = random.below(50) == 0 ? random.below(20'000) : random.below(400);
      ASSERT_TRUE(cache->insert(std::to_string(random.below(1'000'000)), any_value(random, size)));
    }
    const auto charged = static_cast<double>(cache->stats().bytes_charged);
    EXPECT_GT(charged, 0.9 * kCapacity);
    EXPECT_LE(resident(), kCapacity + 3e6);
    EXPECT_GE(resident(), 0.85 * charged);
    EXPECT_LE(resident(), 1.15 * charged);
  }
}

// The table has to grow into a full stripe, and the arena's memory changes its form.
TEST(Budget, SwitchingBetweenLargeAndTinyEntriesUsesTheCapacityBothWays) {
  for (const std::size_t capacity : {std::size_t{512} << 10, std::size_t{4} << 20}) {
    const auto cache = make_cache({.capacity_bytes_max = capacity, .stripes = 1});
    int next = 0;
    const auto run = [&](std::size_t size, double used_at_least) {
      SCOPED_TRACE(std::to_string(capacity) + ", entries of " + std::to_string(size));
      const std::size_t charge = Entry::units_for(8, size, false, false) * 8;
      const std::string value(size, 'v');
      const std::size_t count = 6 * capacity / charge;
      for (std::size_t i = 0; i < count; ++i) {
        ASSERT_TRUE(cache->insert(std::to_string(10'000'000 + next++), value));
        if (i % 64 == 0) {
          ASSERT_LE(cache->stats().bytes_charged, capacity);
        }
      }
      ASSERT_TRUE(cache->check());
      const Stats stats = cache->stats();
      EXPECT_TRUE(counters_balance(stats));
      EXPECT_GE(static_cast<double>(stats.entries * charge),
                used_at_least * static_cast<double>(capacity));
    };
    for (int round = 0; round < 2; ++round) {
      run(4096, 0.65);  // Beside a table that was made for tiny ones, the second time.
      run(40, 0.65);
      run(0, 0.55);
      if (HasFatalFailure()) return;
    }
  }
}

// An insert ends with upkeep: the table grows, and evicts what is in its way. Not what was put in
// by this very call: that is the most recently used entry.
TEST(Budget, AnInsertDoesNotEvictWhatItPutIn) {
  for (std::uint64_t seed = 1; seed <= 20; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    const auto cache =
        make_cache({.capacity_bytes_max = std::size_t{256} << 10, .stripes = 1, .hash_seed = seed});
    Random random{seed};
    for (int i = 0; i < 12'000; ++i) {
      // Large ones first, so that the table has to grow into a full stripe.
      const std::uint64_t size = i < 200 || random.below(50) == 0 ? 3000 : random.below(30);
      const std::string key = std::to_string(i);
      ASSERT_TRUE(cache->insert(key, std::string(size, 'v')));
      ASSERT_TRUE(has(*cache, key)) << "after its insert";
    }
  }
}

// About a tenth of the memory is pinned, in pieces all over.
void insert_around_pins(std::size_t large_max, std::uint64_t& large_refused) {
  const auto cache = make_cache({.capacity_bytes_max = std::size_t{256} << 10, .stripes = 1});
  Random random{77};
  struct Pin {
    std::string key;
    std::string value;
    Handle handle;
  };
  std::vector<Pin> pins;
  for (int step = 0; step < 20'000; ++step) {
    const std::string key = std::to_string(random.below(2000));
    const bool large = random.below(20) == 0;
    const std::string value = any_value(random, random.below(large ? large_max : 300));
    if (!cache->insert(key, value)) {
      ASSERT_TRUE(large) << "refused: " << value.size() << " bytes in step " << step;
      ++large_refused;
      continue;
    }
    if (random.below(20) == 0) pins.push_back({key, value, cache->pin(key)});
    while (pins.size() > 80) {
      std::swap(pins[random.below(pins.size())], pins.back());
      ASSERT_TRUE(pins.back().handle);
      ASSERT_EQ(pins.back().handle.key(), pins.back().key);
      ASSERT_EQ(pins.back().handle.value(), pins.back().value);
      pins.pop_back();
    }
    ASSERT_TRUE(step % 100 != 0 || cache->check());
    ASSERT_LE(cache->stats().bytes_charged, cache->capacity_bytes_max());
  }
  EXPECT_EQ(cache->stats().refused_overloaded, large_refused);
  for (const Pin& pin : pins) ASSERT_EQ(pin.handle.value(), pin.value);
}

TEST(Budget, PinnedEntriesAreNeitherLostNorReusedAndSmallOnesFitBetweenThem) {
  std::uint64_t large_refused = 0;
  insert_around_pins(300, large_refused);
  EXPECT_EQ(large_refused, 0U);
}

// 80 pins part 256 KiB into pieces of 3 KiB on average: for a few entries no place is found.
TEST(Budget, LargeEntriesFitBetweenPinnedOnesNearlyAlways) {
  std::uint64_t large_refused = 0;
  insert_around_pins(6000, large_refused);
  EXPECT_LT(large_refused, 20U);
}

TEST(Budget, InsertsAreRefusedOnlyOncePinsHoldEverything) {
  const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1});
  const std::string value(200, 'v');
  std::vector<Handle> pins;
  const auto key = [](std::size_t i) { return "key " + std::to_string(i); };
  for (std::size_t i = 0;; ++i) {
    auto put = cache->insert(key(i), value);
    if (!put) {
      EXPECT_EQ(put.error().code, ErrorCode::kOverloaded);
      EXPECT_FALSE(has(*cache, key(i)));
      break;
    }
    pins.push_back(cache->pin(key(i)));
    ASSERT_TRUE(pins.back());
    ASSERT_LE(cache->stats().bytes_charged, 65536U);
    ASSERT_TRUE(cache->check());
  }
  EXPECT_EQ(cache->stats().refused_overloaded, 1U);
  EXPECT_GT(pins.size() * 240, 65536U * 3 / 4);
  for (std::size_t i = 0; i < pins.size(); ++i) {
    ASSERT_EQ(pins[i].key(), key(i));
    ASSERT_EQ(pins[i].value(), value);
  }
  EXPECT_FALSE(cache->insert("one more", value));
  // As soon as one lets go there is room again, for as much as that.
  pins.pop_back();
  ASSERT_TRUE(cache->insert("one more", value));
  pins.clear();
  const std::string large(value_bytes_for(cache->entry_bytes_max(), "large"), 'x');
  ASSERT_TRUE(cache->insert("large", large));
  EXPECT_EQ(read(*cache, "large"), large);
  EXPECT_TRUE(cache->check());
  EXPECT_TRUE(counters_balance(cache->stats()));
}

// Wherever in the stripe the held entry lies, a quarter of the stripe is free of it elsewhere.
TEST(Budget, AHeldEntryIsWorkedAround) {
  for (const bool by_visit : {false, true}) {
    SCOPED_TRACE(by_visit ? "visit" : "pin");
    for (int held = 0; held < 250; held += 10) {
      const auto cache = make_cache({.capacity_bytes_max = 65536, .stripes = 1, .hash_seed = 1});
      for (int i = 0; i < 250; ++i) {
        ASSERT_TRUE(cache->insert(std::to_string(i), std::string(200, 'v')));
      }
      const std::string quarter(cache->entry_bytes_max() / 2 - 50, 'q');
      const auto insert_some = [&] {
        for (int i = 0; i < 5; ++i) {
          auto put = cache->insert("quarter", quarter);
          EXPECT_TRUE(put) << put.error().to_string() << ", " << held;
        }
      };
      const std::string key = std::to_string(held);
      if (by_visit) {
        cache->visit(key, [&](const EntryView& hit) {
          insert_some();
          EXPECT_EQ(hit.value(), std::string(200, 'v'));
        });
      } else if (const Handle pin = cache->pin(key)) {
        insert_some();
        EXPECT_EQ(pin.value(), std::string(200, 'v'));
      }
      EXPECT_TRUE(cache->check());
      if (::testing::Test::HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace tiercel::l1
