#include <exception>

#include "cache_fixture.h"
#include "support/detached.h"

namespace tiercel::testing {
namespace {

TEST(Awaitable, AnL1HitDoesNotSuspend) {
  const auto cache = open_cache({});
  std::string seen;
  std::thread::id resumed_on;
  const auto coroutine = [&]() -> Detached {
    auto written = co_await cache->co_set("k", "v");
    EXPECT_TRUE(written);
    const auto found = co_await cache->co_get("k");
    seen = described(found);
    resumed_on = std::this_thread::get_id();
  };
  coroutine();
  EXPECT_EQ(seen, "v@l1");
  EXPECT_EQ(resumed_on, std::this_thread::get_id());
}

TEST(Awaitable, AMissResumesOnAnotherThread) {
  const auto cache = open_cache({});
  Answer<std::string> answer;
  auto tell = answer.callback();
  const auto coroutine = [&]() -> Detached {
    const auto found = co_await cache->co_get(
        "k", {.timeout = kPatience, .loader = [](std::string_view) { return Loaded{"v"}; }});
    tell(described(found));
  };
  coroutine();
  EXPECT_EQ(answer.take(), "v@loader");
}

TEST(Awaitable, EveryCallHasOne) {
  const auto cache = open_cache({});
  std::vector<std::string> seen;
  const auto coroutine = [&]() -> Detached {
    (void)co_await cache->co_set("a", "1");
    (void)co_await cache->co_set("b", "2");
    (void)co_await cache->co_invalidate("a");
    const std::vector<std::string_view> keys{"a", "b"};
    for (const auto& result : co_await cache->co_get_many(keys)) seen.push_back(described(result));
  };
  coroutine();
  EXPECT_THAT(seen, ::testing::ElementsAre("(absent)", "2@l1"));
}

// The answer can come before, while and after the coroutine suspends.
TEST(Awaitable, RacesWithItsAnswer) {
  const auto cache = open_cache({.negative_ttl = std::nullopt});
  constexpr int kRounds = 2000;
  std::atomic<int> resumed{0};
  const auto coroutine = [&](std::string key) -> Detached {
    const auto found = co_await cache->co_get(
        key, {.timeout = kPatience, .loader = [](std::string_view) { return Loaded{"v"}; }});
    EXPECT_TRUE(found);
    ++resumed;
  };
  for (int i = 0; i < kRounds; ++i) {
    coroutine(std::to_string(i));
    ASSERT_TRUE(poll_until([&] { return resumed > i - 500; }, kPatience, 1ms));
  }
  EXPECT_TRUE(poll_until([&] { return resumed == kRounds; }));
}

}  // namespace
}  // namespace tiercel::testing
