// Each call takes effect at one moment between its begin and its end, as if the cache were a map
// (linearizability: Herlihy, Wing 1990). Three threads make small random histories, in which the
// capacity is ample, so that nothing vanishes by itself; each is checked by a search for an order
// that explains all results (Wing, Gong 1993, with the memory of states seen of Lowe 2017).

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hash_table.h"
#include "hazard.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

constexpr std::size_t kKeys = 2;
constexpr std::uint64_t kThreads = 3;
constexpr std::uint64_t kCallsEach = 8;
constexpr std::array<std::string_view, kKeys> kNames = {"first key", "other"};

enum class Kind : std::uint8_t { kInsert, kGet, kErase, kClear };

struct Call {
  Kind kind = Kind::kGet;
  std::size_t key = 0;
  std::uint64_t value = 0;  // Inserted or got (0: a miss); of an erase, 1 if there was an entry.
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
};

using State = std::array<std::uint64_t, kKeys>;  // The value under each key; 0 is none.

// Whether the call can have had its result in this state, which becomes the one after it.
bool apply(const Call& call, State& state) {
  std::uint64_t& value = state[call.key];
  switch (call.kind) {
    case Kind::kInsert: value = call.value; return true;
    case Kind::kGet: return value == call.value;
    case Kind::kErase: {
      const bool right = call.value == (value != 0 ? 1U : 0U);
      value = 0;
      return right;
    }
    case Kind::kClear: state = {}; return true;
  }
  return false;
}

class Checker {
 public:
  explicit Checker(std::span<const Call> calls) : calls_(calls) {}
  [[nodiscard]] bool linearizable() { return search(0, {}); }

 private:
  // Bit i of `done`: calls_[i] has had its place in the order.
  bool search(std::uint32_t done, const State& state) {
    if (done == (std::uint32_t{1} << calls_.size()) - 1) return true;
    if (!seen_.insert({done, state}).second) return false;
    // The next can be any that began before the first end among those that are left.
    std::uint64_t first_end = ~std::uint64_t{0};
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      if ((done >> i & 1U) == 0) first_end = std::min(first_end, calls_[i].end);
    }
    for (std::size_t i = 0; i < calls_.size(); ++i) {
      if ((done >> i & 1U) != 0 || calls_[i].begin > first_end) continue;
      State after = state;
      if (apply(calls_[i], after) && search(done | std::uint32_t{1} << i, after)) return true;
    }
    return false;
  }

  std::span<const Call> calls_;
  std::set<std::pair<std::uint32_t, State>> seen_;
};

bool linearizable(std::span<const Call> calls) { return Checker{calls}.linearizable(); }

std::string describe(std::span<const Call> calls) {
  static constexpr std::array<std::string_view, 4> kKindNames = {"insert", "get", "erase", "clear"};
  std::string text;
  for (const Call& call : calls) {
    text += std::to_string(call.begin) + "-" + std::to_string(call.end) + " " +
            std::string{kKindNames[static_cast<std::size_t>(call.kind)]} + " key " +
            std::to_string(call.key) + " value " + std::to_string(call.value) + "\n";
  }
  return text;
}

TEST(LinearizabilityChecker, AcceptsWhatOverlapsAndRejectsWhatDoesNot) {
  using enum Kind;
  // A get during an insert may see the old or the new; one after it, the new only.
  EXPECT_TRUE(linearizable(std::vector<Call>{{kInsert, 0, 1, 1, 4}, {kGet, 0, 0, 2, 3}}));
  EXPECT_TRUE(linearizable(std::vector<Call>{{kInsert, 0, 1, 1, 4}, {kGet, 0, 1, 2, 3}}));
  EXPECT_FALSE(linearizable(std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kGet, 0, 0, 3, 4}}));
  // A false miss, a value from nowhere, an entry that outlives erase or clear.
  EXPECT_FALSE(linearizable(
      std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kGet, 0, 0, 3, 6}, {kGet, 0, 1, 4, 5}}));
  EXPECT_FALSE(linearizable(std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kGet, 1, 1, 3, 4}}));
  EXPECT_FALSE(linearizable(
      std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kErase, 0, 1, 3, 4}, {kGet, 0, 1, 5, 6}}));
  EXPECT_FALSE(linearizable(
      std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kClear, 0, 0, 3, 4}, {kGet, 0, 1, 5, 6}}));
  // New, then old again, during one insert.
  EXPECT_FALSE(linearizable(std::vector<Call>{
      {kInsert, 0, 1, 1, 2}, {kInsert, 0, 2, 3, 8}, {kGet, 0, 2, 4, 5}, {kGet, 0, 1, 6, 7}}));
  // Two erases of one entry.
  EXPECT_FALSE(linearizable(
      std::vector<Call>{{kInsert, 0, 1, 1, 2}, {kErase, 0, 1, 3, 6}, {kErase, 0, 1, 4, 5}}));
}

// ---------------------------------------------------------------- histories

// All threads wait for one another, in a spin so that they start together.
class Rendezvous {
 public:
  void arrive(std::uint64_t round) {
    ++arrived_;
    while (arrived_ < round * kThreads) std::this_thread::yield();
  }

 private:
  std::atomic<std::uint64_t> arrived_{0};
};

class Recorder {
 public:
  Recorder(LruCache& cache, std::size_t keys, std::uint64_t seed)
      : cache_(cache), keys_(keys), seed_(seed) {}

  // One thread's part of a history.
  void record(std::uint64_t thread, std::uint64_t round) {
    Random random{seed_ + round * kThreads + thread};
    for (std::uint64_t i = 0; i < kCallsEach; ++i) {
      Call& call = calls_[thread * kCallsEach + i];
      const std::uint64_t dice = random.below(20);
      call = {.kind = dice < 7    ? Kind::kInsert
                      : dice < 15 ? Kind::kGet
                      : dice < 19 ? Kind::kErase
                                  : Kind::kClear,
              .key = random.below(keys_)};
      // Values differ within the round; large ones are copied outside of the lock, which takes long
      // enough for others to come in between.
      const std::uint64_t id = thread * kCallsEach + i + 1;
      std::string value(random.below(2) == 0 ? 8 : 12000, static_cast<char>(id));
      std::memcpy(value.data(), &id, sizeof id);
      const std::uint64_t way = random.below(3);
      if (random.below(3) == 0) std::this_thread::yield();
      call.begin = ++time_;
      run(call, value, way);
      call.end = ++time_;
    }
  }

  [[nodiscard]] std::span<const Call> calls() const { return calls_; }
  [[nodiscard]] std::uint64_t failed() const { return failed_; }

 private:
  void run(Call& call, const std::string& value, std::uint64_t way) {
    const std::string_view key = kNames[call.key];
    switch (call.kind) {
      case Kind::kInsert:
        std::memcpy(&call.value, value.data(), sizeof call.value);
        if (!cache_.insert(key, value)) ++failed_;
        return;
      case Kind::kGet: call.value = get(key, way); return;
      case Kind::kErase: call.value = cache_.erase(key) ? 1 : 0; return;
      case Kind::kClear: cache_.clear(); return;
    }
  }

  std::uint64_t get(std::string_view key, std::uint64_t way) {
    std::uint64_t value = 0;
    const auto take = [&](std::string_view bytes) {
      std::memcpy(&value, bytes.data(), sizeof value);
      // What is behind must be of the same insert.
      if (bytes.find_first_not_of(static_cast<char>(value), sizeof value) != bytes.npos) ++failed_;
    };
    if (way == 0) {
      std::array<char, 12000> buffer;
      const auto size = cache_.try_get(key, buffer);
      if (size) take({buffer.data(), *size});
    } else if (way == 1) {
      cache_.visit(key, [&](const EntryView& hit) { take(hit.value()); });
    } else if (const Handle hit = cache_.pin(key); hit) {
      take(hit.value());
    }
    return value;
  }

  LruCache& cache_;
  const std::size_t keys_;
  const std::uint64_t seed_;
  std::array<Call, kThreads * kCallsEach> calls_;
  std::atomic<std::uint64_t> time_{0};
  std::atomic<std::uint64_t> failed_{0};
};

void check_histories(std::size_t keys, std::size_t stripes, std::uint64_t rounds) {
  const auto cache = make_cache({.capacity_bytes_max = std::size_t{4} << 20, .stripes = stripes});
  Recorder recorder{*cache, keys, entropy_u64()};
  Rendezvous begin;
  Rendezvous end;
  Rendezvous checked;
  std::uint64_t overlaps = 0;
  std::string wrong;
  const auto thread = [&](std::uint64_t id) {
    for (std::uint64_t round = 1; round <= rounds; ++round) {
      begin.arrive(round);
      recorder.record(id, round);
      end.arrive(round);
      if (id == 0) {
        const auto calls = recorder.calls();
        if (wrong.empty() && !linearizable(calls)) wrong = describe(calls);
        for (const Call& call : calls) overlaps += call.end - call.begin > 1 ? 1 : 0;
        cache->clear();  // As each history begins.
      }
      checked.arrive(round);
    }
  };
  {
    std::vector<std::jthread> threads;
    for (std::uint64_t id = 0; id < kThreads; ++id) threads.emplace_back(thread, id);
  }
  EXPECT_EQ(wrong, "");
  EXPECT_EQ(recorder.failed(), 0U);
  EXPECT_EQ(cache->stats().evicted_capacity, 0U) << "The map must not lose anything by itself.";
  EXPECT_TRUE(counters_balance(cache->stats()));
  EXPECT_TRUE(cache->check());
  ::testing::Test::RecordProperty("overlaps", std::to_string(overlaps));
}

TEST(Linearizability, OfCallsOnOneKey) { check_histories(1, 1, 4000); }

TEST(Linearizability, OfCallsOnTwoKeysOfOneStripe) { check_histories(2, 1, 4000); }

TEST(Linearizability, OfCallsOnTwoKeysOfSeveralStripes) { check_histories(2, 64, 2000); }

TEST(Linearizability, WithReadersThatPayForTheFence) {
  (void)hazard::this_thread();  // So that nothing sets the flag again.
  const bool before = hazard::g_fences_needed.exchange(true);
  check_histories(2, 1, 2000);
  hazard::g_fences_needed = before;
}

// ---------------------------------------------------------------- no false miss

// What is never taken out is found at every moment, while the table grows under the readers and
// entries come and go beside.
TEST(NoFalseMiss, WhileTheTableGrows) {
  constexpr std::uint64_t kKept = 150;
  for (std::uint64_t round = 0; round < 10; ++round) {
    const auto cache =
        make_cache({.capacity_bytes_max = std::size_t{4} << 20, .stripes = 1, .hash_seed = round});
    const auto name = [](std::uint64_t number) { return "kept " + std::to_string(number); };
    for (std::uint64_t i = 0; i < kKept; ++i) ASSERT_TRUE(cache->insert(name(i), name(i)));
    std::atomic<std::uint64_t> missed{0};
    std::atomic<bool> growing{true};
    std::vector<std::jthread> readers;
    for (std::uint64_t id = 0; id < 2; ++id) {
      readers.emplace_back([&, id] {
        Random random{id};
        do {
          const std::string key = name(random.below(kKept));
          if (!cache->visit(key, [&](const EntryView& hit) { missed += hit.value() != key; })) {
            ++missed;
          }
        } while (growing);
      });
    }
    for (std::uint64_t i = 0; i < 6000; ++i) {
      EXPECT_TRUE(cache->insert("new " + std::to_string(i), "x"));
      if (i % 4 == 0) {
        EXPECT_TRUE(cache->erase("new " + std::to_string(i / 2)));
      }
    }
    growing = false;
    readers.clear();
    EXPECT_EQ(missed.load(), 0U);
    EXPECT_EQ(cache->stats().evicted_capacity, 0U) << "Ample capacity is what the test needs.";
    EXPECT_TRUE(cache->check());
  }
}

// The same of the bare table, where a search meets far more moves: many small tables grow, one
// after the other, from 4 groups on; in half of them others come and go, so that entries are pulled
// back.
TEST(NoFalseMiss, OfTheBareTable) {
  constexpr Ref kEntries = 400;
  constexpr Ref kOthers = 24;
  constexpr std::uint64_t kTables = kSanitized ? 1500 : 16000;
  constexpr std::size_t kBytes = std::size_t{64} << 10;
  struct alignas(64) Memory {
    std::array<std::byte, kBytes> bytes;
  };
  const auto memory = std::make_unique<Memory>();
  std::vector<std::uint32_t> tags(kEntries);
  const HashTable* table = nullptr;
  std::atomic<Ref> in{0};  // Entries 1 to this are in; 0 is between two tables.
  std::atomic<bool> reading{false};
  std::atomic<bool> ended{false};
  std::uint64_t missed = 0;
  std::jthread reader{[&] {
    Random random{1};
    while (!ended) {
      reading = true;
      for (Ref count = in; count != 0; count = in) {
        const auto wanted = static_cast<Ref>(random.below(count)) + 1;
        HashTable::Search search{*table, tags[wanted - 1]};
        std::uint64_t word = search.next();
        while (word != 0 && HashTable::ref_of(word) != wanted) word = search.next();
        if (word == 0) ++missed;
      }
      reading = false;
      while (in == 0 && !ended) std::this_thread::yield();
    }
  }};
  std::uint64_t homeless = 0;
  for (std::uint64_t round = 0; round < kTables; ++round) {
    memory->bytes.fill(std::byte{0});
    HashTable small;
    small.init(memory->bytes.data() + kBytes, 4);
    table = &small;
    Random random{round};
    std::array<std::uint32_t, kOthers> others{};  // Tags; 0 is none.
    for (Ref ref = 1; ref <= kEntries && homeless == 0; ++ref) {
      if (round % 2 == 0) {
        const Ref place = ref % kOthers;
        if (others[place] != 0) small.remove(others[place], kEntries + 1 + place);
        others[place] = static_cast<std::uint32_t>(random.next() | 1);
        if (!small.insert(others[place], kEntries + 1 + place)) others[place] = 0;
      }
      tags[ref - 1] = static_cast<std::uint32_t>(random.next());
      if (!small.insert(tags[ref - 1], ref)) break;  // Its bucket is full.
      in = ref;
      std::array<Ref, HashTable::kHomelessMax> lost;
      if (small.is_growing()) {
        const std::size_t count = small.grow_step(lost.data());
        for (const Ref out : std::span{lost}.first(count)) {
          if (out <= kEntries) ++homeless;
          if (out > kEntries) others[out - kEntries - 1] = 0;
        }
      } else if (const std::uint32_t groups = small.groups_wanted(); groups != 0) {
        small.begin_growing(groups);
      }
    }
    in = 0;
    while (reading) std::this_thread::yield();
  }
  ended = true;
  reader.join();
  EXPECT_EQ(missed, 0U);
  EXPECT_EQ(homeless, 0U) << "With these seeds every entry finds room.";
}

}  // namespace
}  // namespace tiercel::l1
