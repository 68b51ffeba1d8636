// Many threads at once: what the sanitizers should see, and the promises that must hold meanwhile.
// Each thread does a fixed amount of work; nothing depends on how fast.

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hazard.h"
#include "l1_test_support.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

constexpr std::uint64_t kKiB = 1024;

std::uint64_t mix(std::uint64_t a, std::uint64_t b) {
  std::uint64_t x = (a * 0x9E3779B97F4A7C15u) ^ (b + 0xD1B54A32D192ED03u);
  x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9u;
  return x ^ x >> 31;
}

std::string key_of(std::uint64_t number) { return "key:" + std::to_string(number); }

// Values show by themselves whose they are and whether they are whole: the version, if there is
// room for it, and then bytes each of which follows from key, version and size.
std::string value_of(std::uint64_t number, std::uint64_t version, std::size_t size) {
  std::string value(size, '\0');
  if (size < sizeof version) version = 0;
  std::size_t at = 0;
  if (size >= sizeof version) {
    std::memcpy(value.data(), &version, sizeof version);
    at = sizeof version;
  }
  const std::uint64_t seed = mix(mix(number, version), size);
  for (; at < size; at += 8) {
    const std::uint64_t word = mix(seed, at);
    std::memcpy(value.data() + at, &word, std::min<std::size_t>(8, size - at));
  }
  return value;
}

// The version of a whole value of that key (0 if it is too short to have one); nullopt: torn, or
// another's.
std::optional<std::uint64_t> version_in(std::uint64_t number, std::string_view value) {
  std::uint64_t version = 0;
  if (value.size() >= sizeof version) std::memcpy(&version, value.data(), sizeof version);
  if (value != value_of(number, version, value.size())) return std::nullopt;
  return version;
}

// Mostly small; some so large that they are copied outside of the lock.
std::size_t size_for(Random& random) {
  const std::uint64_t dice = random.below(20);
  if (dice == 0) return random.below(20 * kKiB + 1);
  return random.below(dice == 1 ? 5 * kKiB : 300);
}

using Threads = std::vector<std::jthread>;

struct Mix {
  std::uint64_t keys;
  std::size_t stripes;
  std::uint64_t steps;
  Eviction eviction = Eviction::kLru;
};

// What the threads of a hammer saw, together.
struct Seen {
  std::atomic<std::uint64_t> torn{0};
  std::atomic<std::uint64_t> hits{0};
  std::atomic<std::uint64_t> misses{0};
  std::atomic<std::uint64_t> inserted{0};
  std::atomic<std::uint64_t> overloaded{0};
  std::atomic<std::uint64_t> unexpected{0};
};

class Worker {
 public:
  Worker(LruCache& cache, Seen& seen, const Mix& mix, std::uint64_t id)
      : cache_(cache), seen_(seen), mix_(mix), id_(id), random_(id + 1) {}

  void run() {
    const std::uint64_t steps = mix_.steps * (kSanitized ? 1 : 5);
    for (std::uint64_t step = 1; step <= steps; ++step) {
      const std::uint64_t number = random_.below(mix_.keys);
      const std::string key = key_of(number);
      const std::uint64_t dice = random_.below(1000);
      if (dice < 300) {
        insert(number, step << 8 | id_);
      } else if (dice < 450) {
        const auto size = cache_.try_get(key, buffer_);
        if (count(size.has_value())) verify(number, {buffer_.data(), *size});
      } else if (dice < 650) {
        count(cache_.visit(key, [&](const EntryView& hit) { verify(number, hit); }));
      } else if (dice < 800) {
        Handle& place = pinned_[random_.below(pinned_.size())];
        place = cache_.pin(key);
        if (count(static_cast<bool>(place))) verify(number, place.view());
      } else if (dice < 870) {
        get_many();
      } else if (dice < 930) {
        cache_.erase(key);
      } else if (dice < 980) {
        cache_.erase_older(key, step << 8);
      } else if (dice < 995) {
        cache_.sweep(50);
      } else if (dice < 999) {
        if (cache_.stats().bytes_charged > cache_.capacity_bytes_max()) ++seen_.unexpected;
      } else if (random_.below(20) == 0) {
        cache_.clear();
      }
    }
    for (const Handle& handle : pinned_) {
      if (!handle) continue;
      verify(std::stoull(std::string{handle.key().substr(4)}), handle.view());
    }
  }

 private:
  bool count(bool hit) {
    ++(hit ? seen_.hits : seen_.misses);
    return hit;
  }

  void verify(std::uint64_t number, std::string_view value) {
    if (!version_in(number, value)) ++seen_.torn;
  }
  void verify(std::uint64_t number, const EntryView& hit) {
    const auto version = version_in(number, hit.value());
    const bool right = version && (hit.value().size() < 8 || *version == hit.version()) &&
                       hit.key() == key_of(number);
    if (!right) ++seen_.torn;
  }

  void insert(std::uint64_t number, std::uint64_t version) {
    EntryMeta meta{.version = version};
    if (random_.below(8) == 0) {
      meta.expires_at = Clock::system().now() + std::chrono::microseconds{random_.below(2000)};
    }
    const auto put =
        cache_.insert(key_of(number), value_of(number, version, size_for(random_)), meta);
    if (put) {
      ++seen_.inserted;
    } else {
      ++(put.error().code == ErrorCode::kOverloaded ? seen_.overloaded : seen_.unexpected);
    }
  }

  void get_many() {
    std::array<std::uint64_t, 40> numbers{};
    std::vector<std::string> keys;
    for (auto& number : numbers) {
      number = random_.below(mix_.keys);
      keys.push_back(key_of(number));
    }
    const std::vector<std::string_view> views(keys.begin(), keys.end());
    const std::size_t hits = cache_.get_many(
        views, [&](std::size_t i, const EntryView& hit) { verify(numbers[i], hit); });
    seen_.hits += hits;
    seen_.misses += keys.size() - hits;
  }

  LruCache& cache_;
  Seen& seen_;
  const Mix& mix_;
  const std::uint64_t id_;
  Random random_;
  std::vector<char> buffer_ = std::vector<char>(20 * kKiB);
  std::array<Handle, 3> pinned_;
};

void hammer(const Mix& mix) {
  constexpr std::uint64_t kWorkers = 4;
  constexpr std::size_t kCapacity = 512 * kKiB;
  const auto cache = make_cache(
      {.capacity_bytes_max = kCapacity, .stripes = mix.stripes, .eviction = mix.eviction});
  Seen seen;
  std::atomic<std::uint64_t> over_budget{0};
  std::atomic<bool> working{true};
  std::jthread watcher{[&] {
    while (working) {
      if (cache->stats().bytes_charged > kCapacity) ++over_budget;
      std::this_thread::yield();
    }
  }};
  {
    Threads workers;
    for (std::uint64_t id = 0; id < kWorkers; ++id) {
      workers.emplace_back([&, id] { Worker{*cache, seen, mix, id}.run(); });
    }
  }
  working = false;
  watcher.join();

  EXPECT_EQ(over_budget.load(), 0U);
  EXPECT_EQ(seen.torn.load(), 0U);
  EXPECT_EQ(seen.unexpected.load(), 0U);
  EXPECT_LT(seen.overloaded.load(), seen.inserted.load() / 4);
  const Stats stats = cache->stats();
  EXPECT_TRUE(counters_balance(stats));
  EXPECT_EQ(stats.hits, seen.hits.load());
  EXPECT_EQ(stats.misses, seen.misses.load());
  EXPECT_EQ(stats.inserts, seen.inserted.load());
  EXPECT_EQ(stats.refused_overloaded, seen.overloaded.load());
  EXPECT_LE(stats.bytes_charged, kCapacity);
  EXPECT_TRUE(cache->check());
}

TEST(LruCacheThreads, HammerOnFewKeys) { hammer({.keys = 12, .stripes = 1, .steps = 8000}); }

TEST(LruCacheThreads, HammerOnManyKeys) { hammer({.keys = 3000, .stripes = 4, .steps = 12000}); }

TEST(LruCacheThreads, HammerOnOneStripe) { hammer({.keys = 1000, .stripes = 1, .steps = 8000}); }

TEST(LruCacheThreads, HammerWithTheAdaptivePolicy) {
  hammer({.keys = 1500, .stripes = 2, .steps = 8000, .eviction = Eviction::kAdaptive});
}

// As on a kernel without membarrier.
TEST(LruCacheThreads, HammerWithReadersThatPayForTheFence) {
  (void)hazard::this_thread();  // So that nothing sets the flag again.
  const bool before = hazard::g_fences_needed.exchange(true);
  hammer({.keys = 1000, .stripes = 2, .steps = 8000});
  hazard::g_fences_needed = before;
}

TEST(LruCacheThreads, LargeAndSmallEntriesFightForOneStripeAndItsPins) {
  for (std::uint64_t round = 0; round < 4; ++round) {
    const auto cache = make_cache({.capacity_bytes_max = 256 * kKiB, .stripes = 1});
    std::atomic<std::uint64_t> wrong{0};
    std::atomic<std::uint64_t> overloaded{0};
    {
      Threads workers;
      for (std::uint64_t id = 0; id < 3; ++id) {
        workers.emplace_back([&, id] {
          Random random{round * 8 + id};
          std::array<Handle, 40> pinned;
          for (std::uint64_t step = 1; step <= 1500; ++step) {
            const std::uint64_t number = random.below(600);
            const std::size_t size =
                random.below(20) == 0 ? 8000 + random.below(30000) : random.below(300);
            const auto put = cache->insert(key_of(number), value_of(number, step, size));
            if (!put && put.error().code != ErrorCode::kOverloaded) ++wrong;
            if (!put) ++overloaded;
            const std::uint64_t other = random.below(600);
            Handle hit = cache->pin(key_of(other));
            if (hit && !version_in(other, hit.value())) ++wrong;
            if (random.below(3) == 0) pinned[random.below(pinned.size())] = std::move(hit);
          }
        });
      }
    }
    EXPECT_EQ(wrong.load(), 0U);
    EXPECT_TRUE(cache->check());
    EXPECT_EQ(cache->stats().refused_overloaded, overloaded.load());
    EXPECT_TRUE(counters_balance(cache->stats()));
  }
}

// ---------------------------------------------------------------- order of what is seen

// Each key has one writer, which writes rising versions and knows what it wrote last.
TEST(LruCacheThreads, VersionsNeverGoBackAndWritersSeeTheirOwn) {
  constexpr std::uint64_t kKeysEach = 6;
  constexpr std::uint64_t kWriters = 2;
  const auto cache = make_cache({.capacity_bytes_max = 128 * kKiB, .stripes = 1});
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> writers_left{kWriters};
  const auto version_now = [&](std::uint64_t number) -> std::uint64_t {
    std::uint64_t version = 0;
    cache->visit(key_of(number), [&](const EntryView& hit) {
      version = hit.version();
      if (!version_in(number, hit.value())) ++wrong;
    });
    return version;
  };
  Threads threads;
  for (std::uint64_t id = 0; id < kWriters; ++id) {
    threads.emplace_back([&, id] {
      Random random{id};
      for (std::uint64_t version = 1; version <= 8000; ++version) {
        const std::uint64_t number = id * kKeysEach + random.below(kKeysEach);
        const std::string value = value_of(number, version, size_for(random));
        const bool put = cache->insert(key_of(number), value, {.version = version}).has_value();
        // Nobody else writes the key, so it is what was written now or has been evicted.
        const std::uint64_t seen = version_now(number);
        if (seen != 0 && (seen != version || !put)) ++wrong;
        if (random.below(4) != 0) continue;
        cache->erase(key_of(number));
        if (version_now(number) != 0) ++wrong;
      }
      --writers_left;
    });
  }
  for (std::uint64_t id = 0; id < 2; ++id) {
    threads.emplace_back([&, id] {
      Random random{100 + id};
      std::array<std::uint64_t, kKeysEach * kWriters> newest{};
      while (writers_left != 0) {
        const std::uint64_t number = random.below(newest.size());
        const std::uint64_t version = version_now(number);
        if (version == 0) continue;
        if (version < newest[number]) ++wrong;
        newest[number] = version;
      }
    });
  }
  threads.clear();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_TRUE(cache->check());
}

TEST(LruCacheThreads, NothingClearedIsEverFound) {
  const auto cache = make_cache({.capacity_bytes_max = 1024 * kKiB, .stripes = 2});
  std::atomic<bool> clearing{true};
  std::atomic<std::uint64_t> failed{0};
  std::atomic<std::uint64_t> filled{0};
  std::uint64_t resurrected = 0;
  Threads fillers;
  for (std::uint64_t filler = 0; filler < 2; ++filler) {
    fillers.emplace_back([&, filler] {
      Random random{filler};
      while (clearing) {
        // As a fill does: note the generation, fetch (here: yield), insert.
        const std::uint64_t noted = cache->generation();
        if (random.below(4) == 0) std::this_thread::yield();
        const std::string value(random.below(8) == 0 ? 6000 : 10, 'x');
        const EntryMeta meta{.version = noted, .generation = noted};
        if (!cache->insert(key_of(random.below(20)), value, meta)) ++failed;
        ++filled;
      }
    });
  }
  for (std::uint64_t round = 0; round < 3000; ++round) {
    cache->clear();
    const std::uint64_t current = cache->generation();
    for (std::uint64_t i = 0; i < 20; ++i) {
      cache->visit(key_of(i), [&](const EntryView& hit) {
        if (hit.version() < current || hit.generation() < current) ++resurrected;
      });
    }
    // Some rounds go on only when there is something to find.
    if (round % 16 != 0) continue;
    for (const std::uint64_t before = filled; filled < before + 4;) std::this_thread::yield();
  }
  clearing = false;
  fillers.clear();
  EXPECT_EQ(resurrected, 0U);
  EXPECT_EQ(failed.load(), 0U);
  EXPECT_TRUE(cache->check());
}

}  // namespace
}  // namespace tiercel::l1
