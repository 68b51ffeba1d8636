// The promise of FillTable under many threads: once "mark the tokens, then evict from L1" is done
// for a version, L1 never holds an older one again. L1 is a row of atomic words here, so that
// nothing but the table itself orders the insertions against the evictions.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <thread>
#include <vector>

#include "tiercel/base/random.h"
#include "tiercel/coherence/fill_table.h"

namespace tiercel::coherence {
namespace {

constexpr std::size_t kKeys = 4;
constexpr std::uint64_t kVersionMask = (std::uint64_t{1} << 32) - 1;

struct Key {
  std::string name;
  std::atomic<Version> in_l2{1};    // What a reader of L2 gets.
  std::atomic<Version> dropped{0};  // Nothing older than this may be in L1 any more.
  // Generation << 32 | version; 0 while there is no entry.
  std::atomic<std::uint64_t> in_l1{0};
};

class World {
 public:
  explicit World(bool versions_are_known) : versions_are_known_(versions_are_known) {
    for (std::size_t i = 0; i < kKeys; ++i) keys_[i].name = "key" + std::to_string(i);
  }

  // One writer a key, so that the versions of a key are evicted in order, as the stream brings
  // them.
  void write(Key& key, Random& random) {
    const Version version = key.in_l2.load() + 1;
    key.in_l2.store(version);
    pause(random);  // The message is under way.
    table_.mark(key.name, versions_are_known_ ? version : kVersionUnknown);
    pause(random);
    std::uint64_t entry = key.in_l1.load();
    while ((entry & kVersionMask) < version && entry != 0 &&
           !key.in_l1.compare_exchange_weak(entry, 0)) {
    }
    key.dropped.store(version);
  }

  void fill(Key& key, Random& random) {
    auto token = table_.begin(key.name);
    const std::uint64_t generation = generation_.load();
    pause(random);
    const Version version = key.in_l2.load();
    pause(random);
    if (random.below(20) == 0) return;  // Given up.
    if (random.below(4) == 0) {
      FillTable::Token moved = std::move(token);
      token = std::move(moved);
    }
    table_.commit(std::move(token), versions_are_known_ ? version : kVersionUnknown,
                  [&] { key.in_l1.store(generation << 32 | version); });
  }

  void new_epoch() {
    const std::uint64_t generation = generation_.fetch_add(1) + 1;
    table_.mark_all();
    for (auto& key : keys_) key.in_l1.store(0);
    generation_dropped_.store(generation);
  }

  // The number of entries seen that should not be there.
  int check(Key& key) {
    const Version dropped = key.dropped.load();
    const std::uint64_t generation_dropped = generation_dropped_.load();
    const std::uint64_t entry = key.in_l1.load();
    if (entry == 0) return 0;
    return ((entry & kVersionMask) < dropped ? 1 : 0) +
           ((entry >> 32) < generation_dropped ? 1 : 0);
  }

  std::array<Key, kKeys>& keys() { return keys_; }
  [[nodiscard]] std::size_t tokens_under_way() const { return table_.tokens_under_way(); }

 private:
  static void pause(Random& random) {
    if (random.below(16) == 0) std::this_thread::yield();
  }

  const bool versions_are_known_;
  FillTable table_{2};
  std::array<Key, kKeys> keys_;
  std::atomic<std::uint64_t> generation_{1};
  std::atomic<std::uint64_t> generation_dropped_{1};
};

// `epochs`: how many times everything is dropped meanwhile.
void hammer(bool versions_are_known, int epochs) {
  constexpr int kFillers = 3;
  constexpr int kFillsEach = 10000;
  World world{versions_are_known};
  std::atomic<int> fillers_left{kFillers};
  std::atomic<int> violations{0};
  std::vector<std::thread> threads;
  for (int f = 0; f < kFillers; ++f) {
    threads.emplace_back([&, f] {
      Random random{static_cast<std::uint64_t>(f)};
      for (int i = 0; i < kFillsEach; ++i) {
        Key& key = world.keys()[random.below(kKeys)];
        world.fill(key, random);
        violations.fetch_add(world.check(key));
      }
      fillers_left.fetch_sub(1);
    });
  }
  for (std::uint64_t w = 0; w < 2; ++w) {
    threads.emplace_back([&, w] {
      Random random{100 + w};
      while (fillers_left.load() > 0) {
        for (std::size_t k = w; k < kKeys; k += 2) {
          Key& key = world.keys()[k];
          world.write(key, random);
          violations.fetch_add(world.check(key));
        }
      }
    });
  }
  for (int i = 0; i < epochs; ++i) {
    world.new_epoch();
    for (auto& key : world.keys()) violations.fetch_add(world.check(key));
    std::this_thread::yield();
  }
  for (auto& thread : threads) thread.join();
  for (auto& key : world.keys()) violations.fetch_add(world.check(key));
  EXPECT_EQ(violations.load(), 0) << "an older value stayed in L1";
  EXPECT_EQ(world.tokens_under_way(), 0U);
}

TEST(FillTableThreads, NoOlderValueStaysAfterMarkAndEvict) { hammer(true, 0); }
TEST(FillTableThreads, NorAfterHardMarks) { hammer(false, 0); }
TEST(FillTableThreads, NoValueOfAnEndedEpochStaysAfterMarkAllAndClear) { hammer(true, 300); }
TEST(FillTableThreads, NorWithHardMarks) { hammer(false, 300); }

}  // namespace
}  // namespace tiercel::coherence
