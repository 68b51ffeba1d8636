// Who outlives whom: Handles and the cache, visits and evictions, threads and their records,
// processes and their children.

#include <gtest/gtest.h>
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include "hazard.h"
#include "l1_test_support.h"
#include "support/gate.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

using testing::Gate;
using Threads = std::vector<std::jthread>;

constexpr std::size_t kMiB = std::size_t{1} << 20;

std::string key_of(std::uint64_t number) { return "key:" + std::to_string(number); }

std::string value_of(std::string_view key, std::size_t padding) {
  return std::string{key} + "=" + std::string(padding, key.back());
}
bool is_value_of(std::string_view key, std::string_view value) {
  return value.size() > key.size() && value == value_of(key, value.size() - key.size() - 1);
}

// Inserts under other keys, to turn the stripe over. The number that failed; stops after a few.
std::uint64_t churn(LruCache& cache, std::uint64_t inserts, std::size_t padding_max = 200) {
  std::uint64_t failed = 0;
  Random random{inserts};
  for (std::uint64_t i = 0; i < inserts && failed < 10; ++i) {
    const std::string key = "churn:" + std::to_string(i);
    failed += cache.insert(key, value_of(key, random.below(padding_max))) ? 0 : 1;
  }
  return failed;
}

// ---------------------------------------------------------------- Handles

TEST(HandleLifetime, EndsOnOtherThreadsAfterEviction) {
  const auto cache = make_cache({.capacity_bytes_max = kMiB, .stripes = 2});
  std::atomic<std::uint64_t> wrong{0};
  for (std::uint64_t round = 0; round < 20; ++round) {
    std::vector<Handle> handles;
    for (std::uint64_t i = 0; i < 200; ++i) {
      ASSERT_TRUE(cache->insert(key_of(i), value_of(key_of(i), i * 5)));
      for (int twice = 0; twice < 2; ++twice) handles.push_back(cache->pin(key_of(i)));
    }
    Threads threads;
    for (std::size_t id = 0; id < 2; ++id) {
      // The two Handles of an entry end on two threads, while it is being evicted by a third.
      threads.emplace_back([&, id] {
        for (std::size_t i = id; i < handles.size(); i += 2) {
          if (!handles[i] || !is_value_of(handles[i].key(), handles[i].value())) ++wrong;
          handles[i].reset();
        }
      });
    }
    EXPECT_EQ(churn(*cache, 3000), 0U);
  }
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_TRUE(cache->check());
  // All of it came back.
  EXPECT_EQ(churn(*cache, 10000), 0U);
  EXPECT_GT(cache->stats().entries, 2000U);
}

TEST(HandleLifetime, EndsWhileTheCacheIsDestroyed) {
  std::atomic<std::uint64_t> wrong{0};
  for (std::uint64_t round = 0; round < 100; ++round) {
    auto cache = make_cache({.capacity_bytes_max = kMiB / 2, .stripes = 2});
    std::vector<Handle> handles;
    for (std::uint64_t i = 0; i < 100; ++i) {
      ASSERT_TRUE(cache->insert(key_of(i), value_of(key_of(i), i * 3)));
      for (int twice = 0; twice < 2; ++twice) handles.push_back(cache->pin(key_of(i)));
      if (i % 3 == 0) cache->erase(key_of(i));
    }
    if (round % 2 == 0) {
      EXPECT_EQ(churn(*cache, 2000), 0U);
    }
    std::atomic<int> ready{0};
    Threads threads;
    for (std::size_t id = 0; id < 2; ++id) {
      threads.emplace_back([&, id] {
        for (++ready; ready < 3;) std::this_thread::yield();
        for (std::size_t i = id; i < handles.size(); i += 2) {
          const Handle moved = std::move(handles[i]);
          if (!is_value_of(moved.key(), moved.value())) ++wrong;
        }
      });
    }
    for (++ready; ready < 3;) std::this_thread::yield();
    cache.reset();
  }
  EXPECT_EQ(wrong.load(), 0U);
}

// ---------------------------------------------------------------- visits

TEST(VisitLifetime, TheDestructorWaitsForIt) {
  for (int round = 0; round < 30; ++round) {
    auto cache = make_cache({.capacity_bytes_max = kMiB, .stripes = 1});
    ASSERT_TRUE(cache->insert("k", value_of("k", 1000)));
    Gate inside;
    std::atomic<bool> destroying{false};
    std::atomic<bool> visited{false};
    std::atomic<bool> right{true};
    LruCache& in_use = *cache;
    std::jthread visitor{[&] {
      in_use.visit("k", [&](const EntryView& hit) {
        inside.pass();
        while (!destroying) std::this_thread::yield();
        for (int i = 0; i < 100; ++i) {
          if (!is_value_of("k", hit.value())) right = false;
          std::this_thread::yield();
        }
        visited = true;
      });
    }};
    ASSERT_TRUE(inside.wait_until_arrived(1));
    inside.open();
    destroying = true;
    cache.reset();
    EXPECT_TRUE(visited);
    visitor.join();
    EXPECT_TRUE(right);
  }
}

TEST(VisitLifetime, NestedInTwoCachesDeeperThanCanBeAnnounced) {
  const auto one = make_cache({.capacity_bytes_max = kMiB / 4, .stripes = 1});
  const auto two = make_cache({.capacity_bytes_max = kMiB / 4, .stripes = 1});
  std::uint64_t wrong = 0;
  std::uint64_t deepest = 0;
  const std::function<void(std::uint64_t)> descend = [&](std::uint64_t depth) {
    deepest = std::max(deepest, depth);
    if (depth == 8) return;
    LruCache& cache = depth % 2 == 0 ? *one : *two;
    const std::string key = key_of(depth);
    if (!cache.insert(key, value_of(key, 500))) ++wrong;
    const bool hit = cache.visit(key, [&](const EntryView& view) {
      descend(depth + 1);
      wrong += churn(*one, 300) + churn(*two, 300);
      if (!is_value_of(key, view.value()) || view.key() != key) ++wrong;
    });
    if (!hit) ++wrong;
  };
  for (int round = 0; round < 10; ++round) descend(0);
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(deepest, 8U);
  EXPECT_TRUE(one->check());
  EXPECT_TRUE(two->check());
  EXPECT_EQ(hazard::this_thread().depth, 0U);
}

// Several threads at once, each in a visit, evict what the others and they themselves look at.
TEST(VisitLifetime, VisitorsInsertIntoTheirOwnStripeUntilItEvicts) {
  const auto cache = make_cache({.capacity_bytes_max = kMiB / 2, .stripes = 1});
  std::atomic<std::uint64_t> wrong{0};
  {
    Threads threads;
    for (std::uint64_t id = 0; id < 3; ++id) {
      threads.emplace_back([&, id] {
        const std::string key = key_of(id);
        for (int round = 0; round < 5; ++round) {
          if (!cache->insert(key, value_of(key, 6000))) ++wrong;
          cache->visit(key, [&](const EntryView& view) {
            wrong += churn(*cache, 3000);
            // Its own bytes as the next value: it cannot be reused before they are copied.
            if (!cache->insert(key, view.value())) ++wrong;
            if (!is_value_of(key, view.value())) ++wrong;
          });
        }
      });
    }
  }
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_TRUE(cache->check());
}

// Visits that hang, on entries evicted meanwhile: each holds its entry and nothing else.
void insert_beside_stalled_visits(int threads_stalled, std::uint64_t inserts) {
  const auto cache = make_cache({.capacity_bytes_max = kMiB, .stripes = 1});
  Gate gate;
  std::atomic<std::uint64_t> wrong{0};
  Threads visitors;
  for (int id = 0; id < threads_stalled; ++id) {
    const std::string key = key_of(static_cast<std::uint64_t>(id));
    ASSERT_TRUE(cache->insert(key, value_of(key, 100)));
    visitors.emplace_back([&, key] {
      const bool hit = cache->visit(key, [&](const EntryView& view) {
        gate.pass();
        if (!is_value_of(key, view.value())) ++wrong;
      });
      if (!hit) ++wrong;
    });
    EXPECT_TRUE(gate.wait_until_arrived(id + 1));
  }
  EXPECT_EQ(churn(*cache, inserts), 0U);
  const Stats stalled = cache->stats();
  EXPECT_LE(stalled.bytes_charged, kMiB);
  EXPECT_FALSE(has(*cache, key_of(0))) << "It should have been evicted by now.";
  // Not even the entries that a coarse look might take for those: 182 bytes each at the most.
  EXPECT_GT(stalled.entries, kMiB / 182 / 2);
  EXPECT_TRUE(cache->check());
  gate.open();
  visitors.clear();
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(churn(*cache, 3000), 0U);
  EXPECT_TRUE(cache->check());
}

// The announcement of an entry is a plain store, which can stay in the processor's store buffer
// long after the entry was looked at: here behind many stores that miss the cache. Meanwhile a
// writer replaces the entry, and reuses its memory at once if nothing keeps it from doing so.
void visit_with_a_full_store_buffer() {
  constexpr std::uint64_t kVisits = kSanitized ? 20000 : 100000;
  const auto cache = make_cache({.capacity_bytes_max = kMiB / 16, .stripes = 1});
  std::atomic<bool> visiting{true};
  std::atomic<std::uint64_t> failed{0};
  ASSERT_TRUE(cache->insert("k", std::string(2000, 'x')));
  std::jthread writer{[&] {
    for (std::uint64_t version = 0; visiting; ++version) {
      const std::string value(2000, static_cast<char>('a' + version % 26));
      if (!cache->insert("k", value)) ++failed;
    }
  }};
  std::vector<std::uint64_t> far(kMiB * 4);
  Random random{1};
  std::uint64_t torn = 0;
  for (std::uint64_t i = 0; i < kVisits; ++i) {
    for (int store = 0; store < 30; ++store) far[random.next() % far.size()] = i;
    cache->visit("k", [&](const EntryView& hit) {
      const char first = hit.value().front();
      for (int again = 0; again < 4; ++again) {
        if (hit.value().find_first_not_of(first) != hit.value().npos) ++torn;
      }
    });
  }
  visiting = false;
  writer.join();
  EXPECT_EQ(torn, 0U);
  EXPECT_EQ(failed.load(), 0U);
}

TEST(VisitLifetime, IsSafeWhileItsAnnouncementIsInAStoreBuffer) {
  visit_with_a_full_store_buffer();
}

TEST(VisitLifetime, IsSafeWithReadersThatPayForTheFence) {
  (void)hazard::this_thread();  // So that nothing sets the flag again.
  const bool before = hazard::g_fences_needed.exchange(true);
  visit_with_a_full_store_buffer();
  hazard::g_fences_needed = before;
}

TEST(VisitLifetime, AStalledOneHoldsUpNothing) { insert_beside_stalled_visits(1, 250000); }

TEST(VisitLifetime, AHundredStalledOnesHoldUpNothing) { insert_beside_stalled_visits(100, 60000); }

// ---------------------------------------------------------------- threads

TEST(ThreadLifetime, RecordsAreUsedAgain) {
  const auto cache = make_cache({.capacity_bytes_max = kMiB, .stripes = 1});
  ASSERT_TRUE(cache->insert("k", "v"));
  std::atomic<std::uint32_t> highest{0};
  std::atomic<std::uint64_t> hits{0};
  const std::uint64_t hits_before = cache->stats().hits;
  const auto generation = [&](int count) {
    Threads threads;
    for (int i = 0; i < count; ++i) {
      threads.emplace_back([&] {
        hits += has(*cache, "k") ? 1 : 0;
        const std::uint32_t id = hazard::this_thread().id;
        std::uint32_t seen = highest;
        while (seen < id && !highest.compare_exchange_weak(seen, id)) {
        }
      });
    }
  };
  generation(8);
  const std::uint32_t after_first = highest;
  for (int i = 0; i < 300; ++i) generation(8);
  EXPECT_LE(highest.load(), after_first + 8);
  EXPECT_EQ(hits.load(), 301U * 8);
  EXPECT_EQ(cache->stats().hits - hits_before, hits.load());
}

struct LastCall {
  LruCache* cache;
  std::atomic<std::uint64_t>* wrong;
  std::atomic<std::uint64_t>* late;
};

// Uses the cache; `late` counts those whose thread had given its record back.
void use_at_the_end(void* argument) {
  const std::unique_ptr<LastCall> call{static_cast<LastCall*>(argument)};
  if (hazard::t_record == nullptr) ++*call->late;
  const Handle hit = call->cache->pin("k");
  if (!hit || hit.value() != "v") ++*call->wrong;
  if (!call->cache->insert("from the end", "x")) ++*call->wrong;
}

TEST(ThreadLifetime, DestructorsOfAThreadMayUseTheCache) {
  const auto cache = make_cache({.capacity_bytes_max = kMiB, .stripes = 1});
  ASSERT_TRUE(cache->insert("k", "v"));
  const std::uint32_t first_id = hazard::this_thread().id;
  // A later key than the engine's: glibc calls its destructor later.
  pthread_key_t key{};
  ASSERT_EQ(pthread_key_create(&key, use_at_the_end), 0);
  std::atomic<std::uint64_t> wrong{0};
  std::atomic<std::uint64_t> late{0};
  std::atomic<std::uint32_t> highest{first_id};
  for (int i = 0; i < 500; ++i) {
    std::jthread{[&] {
      thread_local const struct AtEnd {
        explicit AtEnd(LruCache& used) : cache(used) {}
        ~AtEnd() { (void)cache.try_get("k", {}); }
        LruCache& cache;
      } at_end{*cache};
      if (!has(at_end.cache, "k")) ++wrong;
      highest = std::max(highest.load(), hazard::this_thread().id);
      pthread_setspecific(key, new LastCall{cache.get(), &wrong, &late});
    }};
  }
  pthread_key_delete(key);
  EXPECT_EQ(wrong.load(), 0U);
  EXPECT_EQ(late.load(), 500U);
  EXPECT_LT(highest.load(), first_id + 120U) << "Records must be given back again.";
}

// ---------------------------------------------------------------- processes

TEST(ProcessLifetime, AChildGoesOnWithTheCache) {
  auto cache = make_cache({.capacity_bytes_max = kMiB / 2, .stripes = 2});
  ASSERT_TRUE(cache->insert("k", "v"));
  EXPECT_EQ(churn(*cache, 5000), 0U);
  const Handle pinned = cache->pin("churn:4999");
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    // Enough that it takes barriers, in threads of its own too.
    std::uint64_t wrong = churn(*cache, 20000);
    std::jthread{[&] { wrong += churn(*cache, 5000); }}.join();
    wrong += is_value_of("churn:4999", pinned.value()) ? 0 : 1;
    wrong += cache->stats().evicted_capacity > 5000 ? 0 : 1;
    wrong += cache->check() ? 0 : 1;
    cache.reset();
    wrong += is_value_of("churn:4999", pinned.value()) ? 0 : 1;
    _exit(wrong == 0 ? 0 : 1);
  }
  EXPECT_EQ(churn(*cache, 5000), 0U);
  int status = -1;
  EXPECT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0) << status;
  EXPECT_TRUE(is_value_of("churn:4999", pinned.value()));
  EXPECT_TRUE(cache->check());
}

}  // namespace
}  // namespace tiercel::l1
