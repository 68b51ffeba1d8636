// The adaptive policy by itself, driven as a stripe drives it: hits write hints and push to a ring
// that loses the oldest, everything else happens at the insert that follows a miss.

#include "adaptive_order.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

struct Node {
  std::uint32_t newer = 0;
  std::uint32_t older = 0;
  std::uint32_t hash = 0;
  std::uint8_t number = 0;
  std::atomic<std::uint32_t> hint{0};
  std::uint64_t id = 0;

  [[nodiscard]] std::uint8_t list() const { return number; }
  void set_list(std::uint8_t list) { number = list; }
};

struct Nodes {
  explicit Nodes(std::size_t count) : nodes(count) {}
  Node& operator[](std::uint32_t ref) { return nodes[ref]; }
  [[nodiscard]] std::uint32_t hash32(std::uint32_t ref) const { return nodes[ref].hash; }
  std::vector<Node> nodes;
};

// A cache of so many entries, whose keys are the ids from 0 to ids-1.
class Engine {
 public:
  // Another seed gives the ids other hashes, so another sample.
  Engine(std::size_t capacity, std::size_t ids, std::uint64_t seed = 1)
      : capacity_(capacity), ref_of_(ids), nodes_(capacity + 2), order_(nodes_) {
    for (std::size_t ref = capacity + 1; ref > 0; --ref) {
      free_.push_back(static_cast<std::uint32_t>(ref));
    }
    Random random{seed};
    hash_xor_ = static_cast<std::uint32_t>(random.next());
  }

  // True for a hit.
  bool access(std::uint64_t id) {
    const std::uint32_t hash = hash_of(id);
    if ((hash & order_.sample_mask()) == 0) ring_[pushed_++ % ring_.size()] = hash;
    const std::uint32_t ref = ref_of_[id];
    if (ref == 0) {
      insert(id, hash);
      return false;
    }
    auto& hint = nodes_[ref].hint;
    hint = Hint::used(hint, ++now_);
    return true;
  }

  // As by the user: no ghost is left.
  void erase(std::uint64_t id) {
    const std::uint32_t ref = ref_of_[id];
    if (ref == 0) return;
    order_.remove(ref);
    release(ref);
  }

  // A new value for a key that has one.
  void replace(std::uint64_t id) {
    const std::uint32_t old = ref_of_[id];
    if (old == 0 || free_.empty()) return;
    const std::uint32_t ref = allocate(id, nodes_[old].hash);
    order_.replace(old, ref, ++now_);
    free_.push_back(old);
  }

  // As if a reader held the victim.
  void requeue_victim() {
    if (const std::uint32_t victim = order_.victim(now_); victim != 0) order_.requeue(victim, now_);
  }

  // The capacity is in bytes in truth, so the number of entries that fit may change.
  void set_capacity(std::size_t capacity) {
    capacity_ = std::min(capacity, nodes_.nodes.size() - 2);
    while (order_.entries() > capacity_) evict();
  }
  void set_has_memory(bool has_memory) { has_memory_ = has_memory; }

  [[nodiscard]] bool has(std::uint64_t id) const { return ref_of_[id] != 0; }
  [[nodiscard]] AdaptiveOrder<Nodes>& order() { return order_; }
  [[nodiscard]] Mode mode() const { return kModes[order_.mode()]; }

  // Whether just the entries that there are stand on the lists, once each, and well linked.
  [[nodiscard]] bool links_are_right() {
    std::vector<bool> seen(nodes_.nodes.size());
    std::size_t listed = 0;
    bool right = true;
    order_.lists().for_each([&](std::uint32_t ref) {
      const Node& node = nodes_[ref];
      const bool newer_right = node.newer == 0 || nodes_[node.newer].older == ref;
      const bool older_right = node.older == 0 || nodes_[node.older].newer == ref;
      right = right && newer_right && older_right && !seen[ref] && node.list() != 0 &&
              ref_of_[node.id] == ref;
      seen[ref] = true;
      ++listed;
    });
    const auto there = ref_of_.size() - static_cast<std::size_t>(std::ranges::count(ref_of_, 0U));
    return right && listed == there && listed == order_.entries();
  }

 private:
  [[nodiscard]] std::uint32_t hash_of(std::uint64_t id) const {
    std::uint64_t x = (id + 1) * 0x9E3779B97F4A7C15ULL;
    x = (x ^ (x >> 29)) * 0xBF58476D1CE4E5B9ULL;
    return static_cast<std::uint32_t>(x >> 32) ^ hash_xor_;
  }

  void insert(std::uint64_t id, std::uint32_t hash) {
    const std::uint64_t lost = pushed_ > ring_.size() ? pushed_ - ring_.size() : 0;
    for (std::uint64_t i = lost; i < pushed_; ++i) order_.observe(ring_[i % ring_.size()]);
    pushed_ = 0;
    while (order_.entries() >= capacity_) evict();
    order_.insert(allocate(id, hash), ++now_);
    Growth growth = order_.growth_wanted();
    if (growth.empty()) return;
    if (has_memory_) growth.allocate();
    order_.accept(growth);
  }

  void evict() {
    const std::uint32_t victim = order_.victim(now_);
    TIERCEL_CHECK(victim != 0 && ref_of_[nodes_[victim].id] == victim);
    order_.evicted(victim);
    release(victim);
  }

  std::uint32_t allocate(std::uint64_t id, std::uint32_t hash) {
    const std::uint32_t ref = free_.back();
    free_.pop_back();
    nodes_[ref].id = id;
    nodes_[ref].hash = hash;
    ref_of_[id] = ref;
    return ref;
  }

  void release(std::uint32_t ref) {
    ref_of_[nodes_[ref].id] = 0;
    free_.push_back(ref);
  }

  std::size_t capacity_;
  std::uint32_t hash_xor_ = 0;
  bool has_memory_ = true;
  std::vector<std::uint32_t> ref_of_;
  std::vector<std::uint32_t> free_;
  Nodes nodes_;
  AdaptiveOrder<Nodes> order_;
  std::array<std::uint32_t, 64> ring_{};
  std::uint64_t pushed_ = 0;
  std::uint32_t now_ = 0;
};

// ---------------------------------------------------------------- whatever is done

void do_something(Engine& engine, Random& random, std::uint64_t ids) {
  // A third of the ids gets most of the accesses.
  const std::uint64_t id = random.below(random.below(4) != 0 ? ids / 3 + 1 : ids);
  switch (random.below(64)) {
    case 0: return engine.erase(id);
    case 1: return engine.replace(id);
    case 2: return engine.requeue_victim();
    case 3: return engine.set_has_memory(random.below(4) != 0);
    default: (void)engine.access(id);
  }
}

TEST(AdaptiveOrder, IsRightAfterRandomCalls) {
  const std::uint64_t seeds = kSanitized ? 8 : 24;
  for (std::uint64_t seed = 1; seed <= seeds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Random random{seed};
    const std::size_t capacity_max = 1 + random.below(seed % 3 == 0 ? 20 : 6'000);
    const std::uint64_t ids = capacity_max * (1 + random.below(4)) + 10;
    Engine engine{capacity_max, ids, seed};
    std::size_t capacity = capacity_max;
    for (int step = 0; step < 60'000; ++step) {
      if (random.below(20'000) == 0) {
        capacity = 1 + random.below(capacity_max);
        engine.set_capacity(capacity);
      }
      do_something(engine, random, ids);
      ASSERT_LE(engine.order().entries(), capacity);
      if (step % 3000 == 0) {
        ASSERT_TRUE(engine.links_are_right()) << "step " << step;
      }
    }
    ASSERT_TRUE(engine.links_are_right());
    engine.set_capacity(0);
    EXPECT_EQ(engine.order().entries(), 0U);
    EXPECT_EQ(engine.order().victim(0), 0U);
  }
}

// Also where few entries, or none, are in the sample.
TEST(AdaptiveOrder, WorksWhileItGrowsAndShrinks) {
  constexpr std::size_t kMost = 20'000;
  Engine engine{kMost, 2 * kMost};
  Random random{5};
  for (const std::size_t capacity : {1UL, 100UL, kMost, 300UL, 1UL, 5000UL, 2UL, kMost}) {
    engine.set_capacity(capacity);
    for (std::size_t i = 0; i < 3 * kMost; ++i) (void)engine.access(random.below(2 * kMost));
    EXPECT_EQ(engine.order().entries(), capacity);
    ASSERT_TRUE(engine.links_are_right());
  }
}

// ---------------------------------------------------------------- memory

TEST(AdaptiveOrder, WorksInItsFirstModeWithoutMemory) {
  constexpr std::size_t kCapacity = 1000;
  Engine engine{kCapacity, 1500};
  engine.set_has_memory(false);
  for (std::uint64_t i = 0; i < 100'000; ++i) (void)engine.access(i % 1500);
  EXPECT_EQ(engine.order().entries(), kCapacity);
  EXPECT_EQ(engine.order().mode(), kFirstMode);
  EXPECT_EQ(engine.order().bytes(), sizeof engine.order());
  EXPECT_TRUE(engine.links_are_right());
  // It goes on asking, and learns once it has been given.
  engine.set_has_memory(true);
  for (std::uint64_t i = 0; i < 100'000; ++i) (void)engine.access(i % 1500);
  EXPECT_NE(engine.order().mode(), kFirstMode);
  EXPECT_TRUE(engine.order().growth_wanted().empty());
}

TEST(AdaptiveOrder, TakesNoMoreMemoryThanItsHeaderSays) {
  for (const std::size_t capacity : {1U, 15U, 100U, 2000U, 4090U, 50'000U}) {
    SCOPED_TRACE(capacity);
    Engine engine{capacity, 2 * capacity};
    for (std::uint64_t i = 0; i < 6 * capacity; ++i) (void)engine.access(i % (2 * capacity));
    const double fixed = capacity < 16 ? 6.5 : capacity < 2048 ? 13 : 29.5;
    EXPECT_LE(static_cast<double>(engine.order().bytes()),
              fixed * 1024 + 5.1 * static_cast<double>(capacity));
  }
}

// Above all just below and just above the sizes at which it asks for more.
TEST(AdaptiveOrder, AsksForNoMoreMemoryOnceItHasSettled) {
  for (const std::size_t edge : {16U, 32U, 64U, 128U, 256U, 1024U, 4096U, 8192U}) {
    for (std::size_t capacity = edge - 3; capacity < edge + edge / 64 + 8; ++capacity) {
      Engine engine{capacity, 2 * capacity};
      for (std::uint64_t i = 0; i < 3 * capacity; ++i) (void)engine.access(i % (2 * capacity));
      EXPECT_TRUE(engine.order().growth_wanted().empty()) << capacity;
    }
  }
}

// ---------------------------------------------------------------- what it is for

constexpr std::size_t kCapacity = 2000;
constexpr std::uint64_t kIds = 100'000;

std::size_t loop_misses(Engine& engine, std::size_t requests) {
  std::size_t misses = 0;
  for (std::size_t i = 0; i < requests; ++i) misses += engine.access(i % 3000) ? 0 : 1;
  return misses;
}

// Requests go to what was new lately: 0 is the newest, and each fourth request makes a newer one.
std::size_t recency_misses(Engine& engine, std::size_t requests, Random& random) {
  std::size_t misses = 0;
  std::uint64_t newest = 20'000;
  for (std::size_t i = 0; i < requests; ++i) {
    if (i % 4 == 0) ++newest;
    const auto age = static_cast<std::uint64_t>(-600 * std::log1p(-random.unit()));
    misses += engine.access((newest - std::min(newest, age)) % kIds) ? 0 : 1;
  }
  return misses;
}

TEST(AdaptiveOrder, ChangesItsModeWithTheTraffic) {
  for (std::uint64_t seed = 1; seed <= 4; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Engine engine{kCapacity, kIds, seed};
    Random random{seed};
    (void)loop_misses(engine, 150'000);
    EXPECT_EQ(engine.mode().window_percent, 1U);
    // A third of the loop does not fit. LRU would miss all of it.
    EXPECT_LT(loop_misses(engine, 30'000), 12'000U);
    (void)recency_misses(engine, 300'000, random);
    EXPECT_EQ(engine.mode().window_percent, 0U);
    EXPECT_LT(recency_misses(engine, 50'000, random), 17'500U);  // LRU's 29 %, and some.
    EXPECT_TRUE(engine.links_are_right());
  }
}

// A key that comes back soon after its eviction is not taken for a new one any more: it outlives
// keys that come once.
TEST(AdaptiveOrder, RecallsGhosts) {
  Engine engine{kCapacity, kIds};
  std::uint64_t once = 1000;
  const auto scan = [&](std::size_t requests) {
    for (std::size_t i = 0; i < requests; ++i) (void)engine.access(once++);
  };
  scan(2 * kCapacity);  // Full, and all memory given.
  ASSERT_EQ(engine.order().mode(), kFirstMode);
  std::uint64_t recalled = once - 1;  // The one that was evicted last.
  while (engine.has(recalled)) --recalled;
  EXPECT_FALSE(engine.access(recalled));
  scan(3 * kCapacity);
  EXPECT_TRUE(engine.has(recalled));
  EXPECT_FALSE(engine.has(once - 3 * kCapacity));  // Came just after it, for the first time.
  EXPECT_FALSE(engine.has(once - kCapacity / 2));
}

TEST(AdaptiveOrder, AnErasedKeyIsNoGhost) {
  Engine engine{kCapacity, kIds};
  std::uint64_t once = 1000;
  for (std::size_t i = 0; i < 2 * kCapacity; ++i) (void)engine.access(once++);
  const std::uint64_t erased = once - 1;
  ASSERT_TRUE(engine.has(erased));
  engine.erase(erased);
  (void)engine.access(erased);
  for (std::size_t i = 0; i < kCapacity / 2; ++i) (void)engine.access(once++);
  EXPECT_FALSE(engine.has(erased));
}

}  // namespace
}  // namespace tiercel::l1
