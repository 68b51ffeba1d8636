// Loaders, single flight, negative entries, deadlines and bounds, without Redis.

#include <atomic>

#include "cache_fixture.h"

namespace tiercel::testing {
namespace {

TEST(Loading, AMissIsLoadedOnceAndThenHit) {
  const auto cache = open_cache({});
  std::atomic<int> calls{0};
  const Loader loader = [&](std::string_view key) -> Result<std::optional<Loaded>> {
    ++calls;
    return Loaded{"value of " + std::string{key}};
  };
  EXPECT_EQ(described(cache->get("k", {.loader = loader})), "value of k@loader");
  EXPECT_EQ(described(cache->get("k", {.loader = loader})), "value of k@l1");
  EXPECT_EQ(calls, 1);
}

TEST(Loading, ManyThreadsShareOneLoad) {
  const auto cache = open_cache({});
  std::atomic<int> calls{0};
  Gate gate;
  const Loader loader = [&](std::string_view) -> Result<std::optional<Loaded>> {
    ++calls;
    gate.pass();
    return Loaded{"v"};
  };
  std::vector<std::thread> readers;
  std::atomic<int> right{0};
  for (int i = 0; i < 16; ++i) {
    readers.emplace_back([&] {
      const auto result = cache->get("k", {.timeout = kPatience, .loader = loader});
      if (result && *result && (*result)->bytes() == "v") ++right;
    });
  }
  EXPECT_TRUE(gate.wait_until_arrived(1));
  gate.open();
  for (auto& reader : readers) reader.join();
  EXPECT_EQ(right, 16);
  EXPECT_EQ(calls,
            1);  // Also for those that missed L1 before and boarded after the load had landed.
}

TEST(Loading, NothingFoundIsRememberedForItsOwnTtl) {
  ManualClock clock;
  const auto cache = open_cache({.ttl_jitter = 0.0, .negative_ttl = 100ms, .clock = &clock});
  int calls = 0;
  const ReadOptions options{.loader = [&](std::string_view) {
    ++calls;
    return std::optional<Loaded>{};
  }};
  EXPECT_EQ(described(cache->get("k", options)), "(absent)");
  EXPECT_EQ(described(cache->get("k", options)), "(absent)");
  EXPECT_EQ(calls, 1);
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  clock.advance(100ms);
  EXPECT_EQ(described(cache->get("k", options)), "(absent)");
  EXPECT_EQ(calls, 2);
  ASSERT_TRUE(cache->set("k", "now there"));
  EXPECT_EQ(described(cache->get("k", options)), "now there@l1");
}

TEST(Loading, WithoutNegativeTtlNothingFoundIsAskedAgain) {
  const auto cache = open_cache({.negative_ttl = std::nullopt});
  int calls = 0;
  const ReadOptions options{.loader = [&](std::string_view) {
    ++calls;
    return std::optional<Loaded>{};
  }};
  (void)cache->get("k", options);
  (void)cache->get("k", options);
  EXPECT_EQ(calls, 2);
}

TEST(Loading, TheLoadersErrorIsTheAnswerAndIsNotKept) {
  const auto cache = open_cache({});
  bool fails = true;
  const ReadOptions options{.loader = [&](std::string_view) -> Result<std::optional<Loaded>> {
    if (fails) return unavailable("the database is away", "db:5432");
    return Loaded{"v"};
  }};
  EXPECT_EQ(described(cache->get("k", options)), "unavailable: the database is away (db:5432)");
  fails = false;
  EXPECT_EQ(described(cache->get("k", options)), "v@loader");
  EXPECT_EQ(cache->stats().loads_failed, 1U);
}

TEST(Loading, WhatALoaderThrowsIsAnError) {
  const auto cache = open_cache({});
  const auto thrown =
      cache->get("k", {.loader = [](std::string_view) -> Result<std::optional<Loaded>> {
                   throw std::runtime_error("boom");
                 }});
  EXPECT_EQ(described(thrown), "internal: the loader threw: boom");
  const auto odd = cache->get(
      "k", {.loader = [](std::string_view) -> Result<std::optional<Loaded>> { throw 7; }});
  EXPECT_EQ(code_of(odd), ErrorCode::kInternal);
  EXPECT_EQ(described(cache->get("k")), "(absent)");
}

TEST(Loading, ALoadersOwnTtlIsTaken) {
  ManualClock clock;
  const auto cache = open_cache({.clock = &clock});
  const ReadOptions options{.loader = [](std::string_view) { return Loaded{"v", 10ms}; }};
  (void)cache->get("k", options);
  clock.advance(9ms);
  EXPECT_EQ(described(cache->try_get("k")), "v@l1");
  clock.advance(1ms);
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
}

TEST(Loading, AnInvalidationDuringALoadWins) {
  const auto cache = open_cache({});
  Gate gate;
  Answer<ReadResult> old_reader;
  cache->get_async("k", {.timeout = kPatience, .loader = loader_behind(gate, "old")},
                   old_reader.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache->invalidate("k"));
  // A reader that comes now must not be given what was loaded before the invalidation.
  Answer<ReadResult> new_reader;
  cache->get_async("k",
                   {.timeout = kPatience, .loader = [](std::string_view) { return Loaded{"new"}; }},
                   new_reader.callback());
  gate.open();
  EXPECT_EQ(described(old_reader.take()), "old@loader");
  EXPECT_EQ(described(new_reader.take()), "new@loader");
  EXPECT_EQ(described(cache->try_get("k")), "new@l1");
}

TEST(Loading, AWriteDuringALoadWins) {
  const auto cache = open_cache({});
  Gate gate;
  Answer<ReadResult> reader;
  cache->get_async("k", {.timeout = kPatience, .loader = loader_behind(gate, "old")},
                   reader.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache->set("k", "new"));
  gate.open();
  EXPECT_EQ(described(reader.take()), "old@loader");
  EXPECT_EQ(described(cache->get("k")), "new@l1");
  EXPECT_EQ(cache->stats().fills_dropped, 1U);
}

// Contract C5 within a process: never two loaders of one key at once, however often it is
// invalidated.
TEST(Loading, OneLoaderAtATimeUnderInvalidations) {
  const auto cache = open_cache({.loaders = {.threads_max = 8, .queue_max = 1024}});
  std::atomic<int> inside{0};
  std::atomic<int> inside_max{0};
  std::atomic<int> loads{0};
  const Loader loader = [&](std::string_view) -> Result<std::optional<Loaded>> {
    const int now = ++inside;
    int seen = inside_max.load();
    while (now > seen && !inside_max.compare_exchange_weak(seen, now)) {
    }
    ++loads;
    std::this_thread::sleep_for(1ms);
    --inside;
    return Loaded{"v"};
  };
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) {
        EXPECT_TRUE(cache->get("k", {.timeout = kPatience, .loader = loader}));
        EXPECT_TRUE(cache->invalidate("k"));
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(inside_max, 1);
  EXPECT_GT(loads, 4);
}

TEST(Loading, ACallerThatGivesUpDoesNotCancelTheLoad) {
  const auto cache = open_cache({});
  Gate gate;
  const auto loader = loader_behind(gate, "v");
  const auto given_up = cache->get("k", {.timeout = 5ms, .loader = loader});
  EXPECT_EQ(code_of(given_up), ErrorCode::kUnavailable);
  // The load goes on, and a patient reader joins it.
  Answer<ReadResult> patient;
  cache->get_async("k", {.timeout = kPatience, .loader = loader}, patient.callback());
  gate.open();
  EXPECT_EQ(described(patient.take()), "v@loader");
  EXPECT_EQ(described(cache->try_get("k")), "v@l1");
  EXPECT_EQ(cache->stats().loads, 1U);
}

TEST(Loading, WaitingReadsAreBounded) {
  const auto cache = open_cache({.reads_waiting_max = 2});
  Gate gate;
  const ReadOptions options{.timeout = kPatience, .loader = loader_behind(gate, "v")};
  Answer<ReadResult> first;
  Answer<ReadResult> second;
  Answer<ReadResult> third;
  cache->get_async("k", options, first.callback());
  cache->get_async("k", options, second.callback());
  cache->get_async("k", options, third.callback());
  ASSERT_TRUE(third.arrived());
  EXPECT_EQ(code_of(third.take()), ErrorCode::kOverloaded);
  gate.open();
  EXPECT_TRUE(first.take());
  EXPECT_TRUE(second.take());
  EXPECT_EQ(cache->stats().reads_waiting, 0U);
}

TEST(Loading, TheExecutorsQueueIsABulkhead) {
  const auto cache = open_cache({.loaders = {.threads_max = 1, .queue_max = 1}});
  Gate gate;
  const ReadOptions options{.timeout = kPatience, .loader = loader_behind(gate, "v")};
  Answer<ReadResult> running;
  Answer<ReadResult> queued;
  Answer<ReadResult> refused;
  cache->get_async("a", options, running.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  cache->get_async("b", options, queued.callback());
  cache->get_async("c", options, refused.callback());
  EXPECT_EQ(code_of(refused.take()), ErrorCode::kOverloaded);
  gate.open();
  EXPECT_TRUE(running.take());
  EXPECT_TRUE(queued.take());
  EXPECT_EQ(described(cache->get("c", options)), "v@loader");  // It heals.
}

// Each invalidation begins a new flight; those that wait for their turn to load must not pile up.
TEST(Loading, ReadersUnderInvalidationsShareTheNextLoad) {
  const auto cache = open_cache({});
  Gate gate;
  std::atomic<int> loads{0};
  const ReadOptions options{.timeout = kPatience, .loader = [&](std::string_view) {
                              if (++loads == 1) gate.pass();
                              return Loaded{std::to_string(loads)};
                            }};
  Answer<ReadResult> first;
  cache->get_async("k", options, first.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  std::vector<Answer<ReadResult>> later(50);
  for (auto& answer : later) {
    ASSERT_TRUE(cache->invalidate("k"));
    cache->get_async("k", options, answer.callback());
  }
  gate.open();
  EXPECT_EQ(described(first.take()), "1@loader");
  for (auto& answer : later) EXPECT_EQ(described(answer.take()), "2@loader");
  EXPECT_EQ(loads, 2);
  EXPECT_EQ(described(cache->try_get("k")), "2@l1");
}

TEST(Loading, ALoadThatNobodyWaitsForAnyMoreDoesNotBegin) {
  const auto cache = open_cache({});
  Gate gate;
  std::atomic<int> loads{0};
  const Loader loader = [&](std::string_view) {
    ++loads;
    gate.pass();
    return Loaded{"v"};
  };
  Answer<ReadResult> first;
  cache->get_async("k", {.timeout = kPatience, .loader = loader}, first.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  ASSERT_TRUE(cache->invalidate("k"));
  EXPECT_EQ(code_of(cache->get("k", {.timeout = 5ms, .loader = loader})), ErrorCode::kUnavailable);
  gate.open();
  EXPECT_TRUE(first.take());
  EXPECT_TRUE(poll_until([&] { return cache->stats().reads_waiting == 0; }));
  EXPECT_EQ(loads, 1);
}

// A load that began before a write and ends during it: the write stays.
TEST(Loading, WritesAndLoadsOfOneKeyNeverGoBack) {
  const auto cache = open_cache({});
  std::atomic<bool> writing{true};
  std::vector<std::thread> loaders;
  for (int t = 0; t < 2; ++t) {
    loaders.emplace_back([&] {
      while (writing) {
        (void)cache->get("k", {.timeout = kPatience,
                               .loader = [](std::string_view) { return Loaded{"loaded"}; }});
      }
    });
  }
  for (int i = 0; i < 3000; ++i) {
    const std::string value = std::to_string(i);
    ASSERT_TRUE(cache->set("k", value));
    EXPECT_EQ(described(cache->try_get("k")), value + "@l1");
    ASSERT_TRUE(cache->invalidate("k"));
  }
  writing = false;
  for (auto& loader : loaders) loader.join();
}

TEST(Loading, TheClosingCacheAnswersWhoWaits) {
  Answer<ReadResult> waiting;
  std::atomic<bool> ended{false};
  Gate gate;
  auto cache = open_cache({});
  cache->get_async("k",
                   {.timeout = kPatience,
                    .loader =
                        [&](std::string_view) {
                          gate.pass();
                          ended = true;
                          return Loaded{"v"};
                        }},
                   waiting.callback());
  ASSERT_TRUE(gate.wait_until_arrived(1));
  std::thread closer{[&] { cache.reset(); }};
  EXPECT_EQ(code_of(waiting.take()), ErrorCode::kClosed);
  gate.open();
  closer.join();
  EXPECT_TRUE(ended);  // The destructor waited for the loader.
}

TEST(Loading, ABlockingCallInACallbackOfTheLoopIsRefused) {
  const auto cache = open_cache({});
  Gate gate;
  Answer<ReadResult> inner;
  auto inner_callback = std::make_shared<UniqueFunction<void(ReadResult)>>(inner.callback());
  // The deadline passes, so the callback comes on the loop thread.
  cache->get_async("k", {.timeout = 1ms, .loader = loader_behind(gate, "v")},
                   [&, inner_callback](ReadResult) { (*inner_callback)(cache->get("k")); });
  EXPECT_EQ(code_of(inner.take()), ErrorCode::kInvalidArgument);
  gate.open();
}

}  // namespace
}  // namespace tiercel::testing
