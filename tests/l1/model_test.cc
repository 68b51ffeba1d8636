// Random calls of all kinds on one thread, against a model that knows what each key may answer. The
// cache may forget, but only what it counts; what it answers must be the latest.

#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using std::chrono::milliseconds;

struct Item {
  std::string value;
  std::uint64_t version = 0;
  TimePoint expires_at;
  std::uint32_t flags = 0;
  std::uint64_t generation = 0;
};

struct Pin {
  std::string key;
  Item item;
  Handle handle;
};

class RandomRun {
 public:
  RandomRun(std::uint64_t seed, std::size_t capacity, std::size_t stripes)
      : random_(seed),
        cache_(make_cache({.capacity_bytes_max = capacity,
                           .stripes = stripes,
                           .huge_pages = false,
                           .hash_seed = seed,
                           .clock = &clock_})),
        keys_(capacity / 100) {}

  void step() {
    const std::uint64_t dice = random_.below(1000);
    if (dice < 400) {
      insert();
    } else if (dice < 700) {
      look_up();
    } else if (dice < 760) {
      look_up_many();
    } else if (dice < 800) {
      erase();
    } else if (dice < 850) {
      erase_older();
    } else if (dice < 900) {
      clock_.advance(milliseconds{random_.below(40)});
    } else if (dice < 940) {
      pin();
    } else if (dice < 980) {
      unpin();
    } else if (dice < 999) {
      sweep();
    } else {
      cache_->clear();
    }
  }

  void check() {
    const Stats stats = cache_->stats();
    ASSERT_LE(stats.bytes_charged, cache_->capacity_bytes_max());
    ASSERT_TRUE(counters_balance(stats));
    ASSERT_EQ(stats.inserts, inserts_);
    ASSERT_EQ(stats.hits, hits_);
    ASSERT_EQ(stats.misses, misses_);
    ASSERT_EQ(stats.refused_too_large, too_large_);
    ASSERT_EQ(stats.refused_overloaded, overloaded_);
    ASSERT_LE(stats.entries, model_.size());
  }
  void check_inside() {
    ASSERT_TRUE(cache_->check());
    for (const Pin& pin : pins_) expect_is(pin.handle.view(), pin.key, pin.item);
  }

  [[nodiscard]] Stats stats() const { return cache_->stats(); }
  [[nodiscard]] std::uint64_t overloaded() const { return overloaded_; }

 private:
  // A few keys are asked for much more often than others.
  std::string any_key() {
    const std::uint64_t bound = random_.below(2) == 0 ? keys_ / 20 + 1 : keys_;
    const std::uint64_t number = random_.below(bound);
    return std::string(number % 40, 'k') + std::to_string(number);
  }

  const Item* live(const std::string& key) {
    const auto known = model_.find(key);
    if (known == model_.end() || known->second.generation != cache_->generation() ||
        known->second.expires_at <= clock_.now()) {
      return nullptr;
    }
    return &known->second;
  }

  static void expect_is(const EntryView& hit, const std::string& key, const Item& item) {
    EXPECT_EQ(hit.key(), key);
    EXPECT_EQ(hit.value(), item.value);
    EXPECT_EQ(hit.version(), item.version);
    EXPECT_EQ(hit.expires_at(), item.expires_at);
    EXPECT_EQ(hit.flags(), item.flags);
    EXPECT_EQ(hit.generation(), item.generation);
  }

  // A hit must be the model's; a miss is allowed to whatever may have been evicted.
  void expect_hit(const EntryView& hit, const std::string& key) {
    ++hits_;
    const Item* item = live(key);
    ASSERT_NE(item, nullptr) << "a hit of " << key << ", which must be gone";
    expect_is(hit, key, *item);
  }

  std::size_t any_size() {
    const std::uint64_t dice = random_.below(200);
    if (dice == 0) return random_.below(cache_->entry_bytes_max() + 100);
    return dice < 10 ? random_.below(5000) : random_.below(300);
  }

  void insert() {
    const std::string key = any_key();
    Item item{.value = std::string(any_size(), static_cast<char>('a' + random_.below(26))),
              .version = random_.below(4),
              .expires_at = TimePoint::max(),
              .flags = static_cast<std::uint32_t>(random_.below(kFlagsMax + 1)),
              .generation = cache_->generation()};
    if (random_.below(2) == 0) {
      item.expires_at = clock_.now() + milliseconds{random_.below(1000)};
    }
    EntryMeta meta{.version = item.version, .expires_at = item.expires_at, .flags = item.flags};
    const bool noted = random_.below(4) == 0;
    if (noted) meta.generation = item.generation -= random_.below(2);
    const auto put = cache_->insert(key, item.value, meta);
    if (!put) {
      (put.error().code == ErrorCode::kOverloaded ? overloaded_ : too_large_) += 1;
      model_.erase(key);
      EXPECT_FALSE(has(*cache_, key));
      ++misses_;
      return;
    }
    ++inserts_;
    if (item.generation != cache_->generation()) return;  // Changes nothing.
    model_[key] = item;
    if (!cache_->visit(key, [&](const EntryView& view) { expect_hit(view, key); })) ++misses_;
  }

  void look_up() {
    const std::string key = any_key();
    if (random_.below(2) == 0) {
      std::string out(random_.below(400), '-');
      const std::string before = out;
      const auto size = cache_->try_get(key, out);
      ++(size ? hits_ : misses_);
      if (!size) return;
      const Item* item = live(key);
      ASSERT_NE(item, nullptr);
      ASSERT_EQ(*size, item->value.size());
      if (*size > out.size()) {
        ASSERT_EQ(out, before);
      } else {
        ASSERT_EQ(out, item->value + before.substr(*size));
      }
    } else if (!cache_->visit(key, [&](const EntryView& hit) { expect_hit(hit, key); })) {
      ++misses_;
    }
  }

  void look_up_many() {
    std::vector<std::string> names(random_.below(70));
    for (auto& name : names) name = any_key();
    const std::vector<std::string_view> keys{names.begin(), names.end()};
    misses_ += keys.size() - cache_->get_many(keys, [&](std::size_t index, const EntryView& hit) {
      expect_hit(hit, names[index]);
    });
  }

  void erase() {
    const std::string key = any_key();
    const bool erased = cache_->erase(key);
    // What was evicted is not there to be erased; what the model does not know is not, either.
    if (erased) {
      ASSERT_TRUE(model_.contains(key));
      ASSERT_EQ(model_[key].generation, cache_->generation());
    }
    model_.erase(key);
  }

  void erase_older() {
    const std::string key = any_key();
    const std::uint64_t version = random_.below(5);
    const auto known = model_.find(key);
    const bool keeps = known != model_.end() && known->second.generation == cache_->generation() &&
                       known->second.version != 0 && known->second.version >= version;
    const bool erased = cache_->erase_older(key, version);
    ASSERT_FALSE(erased && (known == model_.end() || keeps));
    if (!keeps) model_.erase(key);
  }

  void pin() {
    if (pins_.size() >= 20) return;
    const std::string key = any_key();
    Handle handle = cache_->pin(key);
    if (!handle) {
      ++misses_;
      return;
    }
    expect_hit(handle.view(), key);
    if (!testing::Test::HasFailure()) pins_.push_back({key, *live(key), std::move(handle)});
  }

  void unpin() {
    if (pins_.empty()) return;
    std::swap(pins_[random_.below(pins_.size())], pins_.back());
    expect_is(pins_.back().handle.view(), pins_.back().key, pins_.back().item);
    pins_.pop_back();
  }

  void sweep() {
    const Stats before = cache_->stats();
    const std::uint64_t entries_max = random_.below(100);
    const std::uint64_t removed = cache_->sweep(entries_max);
    const Stats after = cache_->stats();
    ASSERT_LE(removed, entries_max);
    ASSERT_EQ(before.entries - after.entries, removed);
    ASSERT_EQ(after.evicted_expired + after.evicted_cleared,
              before.evicted_expired + before.evicted_cleared + removed);
  }

  ManualClock clock_;
  Random random_;
  const std::unique_ptr<LruCache> cache_;
  const std::uint64_t keys_;
  std::map<std::string, Item> model_;  // What was put in last, and not erased since.
  std::vector<Pin> pins_;
  std::uint64_t inserts_ = 0;
  std::uint64_t hits_ = 0;
  std::uint64_t misses_ = 0;
  std::uint64_t too_large_ = 0;
  std::uint64_t overloaded_ = 0;
};

class Model : public testing::TestWithParam<std::tuple<std::size_t, std::size_t>> {};

TEST_P(Model, EachHitIsTheLatestAndTheCountersAddUp) {
  const auto [capacity, stripes] = GetParam();
  std::uint64_t evicted = 0;
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    RandomRun run{seed, capacity, stripes};
    const int steps = kSanitized ? 15'000 : 30'000;
    for (int step = 0; step < steps; ++step) {
      run.step();
      if (step % 16 == 0) run.check();
      if (step % 1000 == 0) run.check_inside();
      if (HasFailure()) FAIL() << "at step " << step;
    }
    run.check();
    run.check_inside();
    // The run has seen everything.
    const Stats stats = run.stats();
    EXPECT_GT(stats.hits, 500U);
    EXPECT_GT(stats.misses, 500U);
    EXPECT_GT(stats.replaced, 100U);
    EXPECT_GT(stats.evicted_expired, 20U);
    EXPECT_GT(stats.evicted_erased, 0U);
    EXPECT_GT(stats.evicted_cleared, 20U);
    evicted += stats.evicted_capacity;
    // At most 20 pins never hold what one insert needs, but for the largest.
    EXPECT_LT(run.overloaded(), 50U);
  }
  EXPECT_TRUE(capacity >= std::size_t{1} << 20 || evicted > 0);
}

INSTANTIATE_TEST_SUITE_P(Sizes, Model,
                         testing::Values(std::tuple{std::size_t{64} << 10, std::size_t{1}},
                                         std::tuple{std::size_t{256} << 10, std::size_t{1}},
                                         std::tuple{std::size_t{256} << 10, std::size_t{4}},
                                         std::tuple{std::size_t{1} << 20, std::size_t{2}},
                                         std::tuple{std::size_t{1} << 20, std::size_t{16}},
                                         std::tuple{std::size_t{4} << 20, std::size_t{16}}),
                         [](const auto& test) {
                           return std::to_string(std::get<0>(test.param) >> 10) + "KiB" +
                                  std::to_string(std::get<1>(test.param)) + "Stripes";
                         });

}  // namespace
}  // namespace tiercel::l1
