// The byte budget, the LRU order and the counters against reference models, over random operations.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <initializer_list>
#include <list>
#include <string>
#include <unordered_map>

#include "entry.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using std::chrono::milliseconds;

// What one stripe with a table that never grows must do, step by step. The allocator's rounding is
// not the model's to know: it takes an entry's charge from the first time it sees it, checks that
// it is sane, and from then on every byte has to add up.
class Model {
 public:
  struct Item {
    std::string key;
    std::string value;
    std::uint64_t version;
    TimePoint expires_at;
    bool cleared;
    std::uint64_t charge;
  };

  Model(LruCache& cache, ManualClock& clock)
      : cache_(cache), clock_(clock), fixed_bytes_(cache.stats().bytes_charged) {}

  void insert(const std::string& key, const std::string& value, const EntryMeta& meta) {
    const Stats before = cache_.stats();
    ASSERT_TRUE(cache_.insert(key, value, meta));
    const Stats after = cache_.stats();
    if (const auto old = find(key); old != items_.end()) {
      ++(old->cleared ? expected_.evicted_cleared : expected_.replaced);
      items_.erase(old);
    }
    ++expected_.inserts;

    // The oldest leave, as many as the cache says, and the last of them had to.
    const std::uint64_t evicted = (after.evicted_capacity - before.evicted_capacity) +
                                  (after.evicted_cleared - expected_.evicted_cleared);
    std::uint64_t last_charge = 0;
    for (std::uint64_t i = 0; i < evicted; ++i) {
      ASSERT_FALSE(items_.empty());
      ++(items_.front().cleared ? expected_.evicted_cleared : expected_.evicted_capacity);
      last_charge = items_.front().charge;
      items_.pop_front();
    }
    if (evicted > 0) {
      ASSERT_GT(after.bytes_charged + last_charge, cache_.capacity_bytes_max());
    }

    const std::uint64_t charge = after.bytes_charged - fixed_bytes_ - charged();
    const std::uint64_t asked = sizeof(Entry) + key.size() + value.size();
    ASSERT_GE(charge, asked);
    ASSERT_LE(charge, asked + 64);
    items_.push_back({key, value, meta.version, meta.expires_at, false, charge});
  }

  void look_up(const std::string& key) {
    const Handle hit = cache_.find(key);
    const auto item = find(key);
    const bool live = item != items_.end() && !item->cleared && item->expires_at > clock_.now();
    ASSERT_EQ(static_cast<bool>(hit), live);
    ++(live ? expected_.hits : expected_.misses);
    if (live) {
      ASSERT_EQ(hit.value(), item->value);
      ASSERT_EQ(hit.version(), item->version);
      items_.splice(items_.end(), items_, item);
    } else if (item != items_.end()) {
      ++(item->cleared ? expected_.evicted_cleared : expected_.evicted_expired);
      items_.erase(item);
    }
  }

  void erase_older(const std::string& key, std::uint64_t version) {
    const auto item = find(key);
    const bool there = item != items_.end();
    const bool keeps = there && !item->cleared && item->version != 0 && item->version >= version;
    ASSERT_EQ(cache_.erase_older(key, version), there && !item->cleared && !keeps);
    if (!there || keeps) return;
    ++(item->cleared ? expected_.evicted_cleared : expected_.evicted_erased);
    items_.erase(item);
  }

  void clear() {
    cache_.clear();
    for (Item& item : items_) item.cleared = true;
  }

  void sweep() {
    const std::size_t removed = cache_.sweep(2 * items_.size());
    const std::size_t expected = std::erase_if(items_, [&](const Item& item) {
      const bool dead = item.cleared || item.expires_at <= clock_.now();
      if (dead) ++(item.cleared ? expected_.evicted_cleared : expected_.evicted_expired);
      return dead;
    });
    ASSERT_EQ(removed, expected);
  }

  void check() const {
    const Stats stats = cache_.stats();
    ASSERT_LE(stats.bytes_charged, cache_.capacity_bytes_max());
    ASSERT_EQ(stats.bytes_charged, fixed_bytes_ + charged());
    ASSERT_EQ(stats.entries, items_.size());
    ASSERT_EQ(stats.hits, expected_.hits);
    ASSERT_EQ(stats.misses, expected_.misses);
    ASSERT_EQ(stats.inserts, expected_.inserts);
    ASSERT_EQ(stats.replaced, expected_.replaced);
    ASSERT_EQ(stats.evicted_capacity, expected_.evicted_capacity);
    ASSERT_EQ(stats.evicted_expired, expected_.evicted_expired);
    ASSERT_EQ(stats.evicted_erased, expected_.evicted_erased);
    ASSERT_EQ(stats.evicted_cleared, expected_.evicted_cleared);
  }

  [[nodiscard]] const Stats& expected() const { return expected_; }

 private:
  using Items = std::list<Item>;  // The oldest first.

  Items::iterator find(const std::string& key) {
    return std::ranges::find(items_, key, &Item::key);
  }
  [[nodiscard]] std::uint64_t charged() const {
    std::uint64_t sum = 0;
    for (const Item& item : items_) sum += item.charge;
    return sum;
  }

  LruCache& cache_;
  ManualClock& clock_;
  const std::uint64_t fixed_bytes_;
  Items items_;
  Stats expected_;
};

TEST(Budget, OneStripeFollowsTheModelByteForByte) {
  ManualClock clock;
  // Fewer than 64 entries fit, so the table keeps its first segment.
  const auto cache = make_cache({.capacity_bytes_max = 5600, .stripes = 1, .clock = &clock});
  Model model{*cache, clock};
  Random random{7};
  for (int step = 0; step < 20000; ++step) {
    SCOPED_TRACE("step " + std::to_string(step));
    const std::string key = std::to_string(random.below(40));
    const std::uint64_t dice = random.below(1000);
    if (dice < 400) {
      const std::uint64_t size = random.below(20) == 0 ? random.below(3000) : random.below(200);
      model.insert(
          key, std::string(size, static_cast<char>('a' + step % 26)),
          {.version = random.below(10),
           .expires_at =
               random.below(2) == 0
                   ? TimePoint::max()
                   : clock.now() + milliseconds{static_cast<std::int64_t>(random.below(200))}});
    } else if (dice < 850) {
      model.look_up(key);
    } else if (dice < 950) {
      model.erase_older(key, random.below(10));
    } else if (dice < 990) {
      clock.advance(milliseconds{10});
    } else if (dice < 995) {
      model.clear();
    } else {
      model.sweep();
    }
    model.check();
    if (HasFatalFailure()) return;
  }
  // The run has seen everything.
  EXPECT_GT(model.expected().hits, 500U);
  EXPECT_GT(model.expected().evicted_capacity, 500U);
  EXPECT_GT(model.expected().evicted_expired, 100U);
  EXPECT_GT(model.expected().evicted_erased, 100U);
  EXPECT_GT(model.expected().evicted_cleared, 100U);
  EXPECT_GT(model.expected().replaced, 500U);
}

TEST(Budget, IsKeptWhileTablesGrowAndSizesChange) {
  constexpr std::size_t kCapacity = std::size_t{512} << 10;
  const auto cache = make_cache({.capacity_bytes_max = kCapacity, .stripes = 4});
  ASSERT_EQ(cache->stripes(), 4U);
  std::unordered_map<std::string, std::string> last;
  Random random{11};
  std::uint64_t too_large = 0;
  // Large entries, then small ones (the table must grow in a full stripe), then huge ones.
  for (const std::uint64_t size_max :
       std::initializer_list<std::uint64_t>{2000, 16, 140000, 1, 500}) {
    for (int step = 0; step < 12000; ++step) {
      const std::string key = std::to_string(random.below(8000));
      if (random.below(10) < 7) {
        const std::string value(random.below(size_max), static_cast<char>(random.below(256)));
        auto put = cache->insert(key, value);
        if (put) {
          last[key] = value;
        } else {
          ++too_large;
          ASSERT_GT(value.size(), cache->entry_bytes_max() - 200 - kPageBytes);
          ASSERT_FALSE(cache->find(key));
        }
      } else if (const Handle hit = cache->find(key)) {
        ASSERT_EQ(hit.value(), last[key]);
      }
      ASSERT_LE(cache->stats().bytes_charged, kCapacity);
    }
    ASSERT_TRUE(counters_balance(cache->stats()));
    // And it is used: no room is wasted, but what the next (largest) entry did not fit into.
    if (size_max < 10000 && size_max > 1) {
      EXPECT_GT(cache->stats().bytes_charged, kCapacity * 9 / 10) << size_max;
    }
  }
  EXPECT_EQ(cache->stats().refused_too_large, too_large);
  EXPECT_GT(too_large, 0U);
}

}  // namespace
}  // namespace tiercel::l1
