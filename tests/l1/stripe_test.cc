// Stripe by itself: what cannot be seen from outside of the cache.

#include "stripe.h"

#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <new>
#include <string>

#include "key_hash.h"
#include "tiercel/base/clock.h"

namespace tiercel::l1 {
namespace {

constexpr std::uint64_t kSeed = 7;

// A stripe in a region of its own.
class OneStripe {
 public:
  explicit OneStripe(std::size_t bytes)
      : region_(*Region::create(bytes, false)),
        head_(region_, Blocks{region_.data()}),
        stripe_(std::make_unique<Stripe>(region_.data(), bytes, head_, generation_, kSeed,
                                         Eviction::kLru, Clock::system().now())) {}
  ~OneStripe() {
    stripe_.reset();
    region_.release();
  }
  OneStripe(const OneStripe&) = delete;
  OneStripe& operator=(const OneStripe&) = delete;

  Stripe& operator*() { return *stripe_; }

  void insert(const std::string& key) {
    constexpr std::string_view kValue = "value";
    ASSERT_TRUE(stripe_->insert({.tag = tag_of(key),
                                 .key = key,
                                 .value = kValue,
                                 .version = 0,
                                 .expires_at = TimePoint::max(),
                                 .flags = 0,
                                 .generation = 1,
                                 .units = static_cast<std::uint32_t>(
                                     Entry::units_for(key.size(), kValue.size(), false, false))}));
  }
  [[nodiscard]] bool has(const std::string& key) {
    std::atomic<const void*> slot{nullptr};
    return stripe_->find(nullptr, 0, tag_of(key), key, slot) != nullptr;
  }

 private:
  static std::uint32_t tag_of(const std::string& key) {
    return static_cast<std::uint32_t>(key_hash(key, kSeed));
  }

  Stripe::Generation generation_{1};
  Region& region_;
  RegionHead head_;
  std::unique_ptr<Stripe> stripe_;
};

// Reads of a table that stands still half-grown are slower, and nothing else would end that.
TEST(Stripe, SweepingEndsAGrowthThatNoInsertGoesOnWith) {
  OneStripe one{std::size_t{1} << 20};
  std::size_t count = 0;
  while (!(*one).table().is_growing()) {
    ASSERT_LT(count, 100'000U);
    one.insert("key:" + std::to_string(count++));
  }
  EXPECT_EQ((*one).sweep(1000, Clock::system().now()), 0U);
  EXPECT_FALSE((*one).table().is_growing());
  EXPECT_TRUE((*one).check());
  for (std::size_t i = 0; i < count; ++i) EXPECT_TRUE(one.has("key:" + std::to_string(i)));
}

}  // namespace
}  // namespace tiercel::l1
