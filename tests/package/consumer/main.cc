// A user's program against the installed package. Exit status 0 when all went well.

#include <chrono>
#include <coroutine>
#include <cstdio>
#include <exception>
#include <future>
#include <optional>
#include <string>
#include <string_view>

#include "tiercel/cache/cache.h"

namespace {

int failures = 0;

void expect(bool truth, const char* what) {
  if (truth) return;
  std::fprintf(stderr, "not true: %s\n", what);
  ++failures;
}

// A coroutine that runs by itself and tells nobody of its end.
struct Detached {
  struct promise_type {
    Detached get_return_object() noexcept { return {}; }
    std::suspend_never initial_suspend() noexcept { return {}; }
    std::suspend_never final_suspend() noexcept { return {}; }
    void return_void() noexcept {}
    void unhandled_exception() noexcept { std::terminate(); }
  };
};

Detached read_both(tiercel::Cache& cache, std::promise<std::string>& done) {
  const tiercel::Loader loader =
      [](std::string_view key) -> tiercel::Result<std::optional<tiercel::Loaded>> {
    return tiercel::Loaded{"loaded for " + std::string{key}};
  };
  // Named, not written inside the co_await: temporaries of such an expression live in the coroutine
  // frame, which g++ 12 does not always get right.
  // Patient: on a busy machine the loader's thread may start late.
  const tiercel::ReadOptions options{.timeout = std::chrono::seconds{60}, .loader = loader};
  const auto cached = co_await cache.co_get("player:7");
  const auto loaded = co_await cache.co_get("player:8", options);
  std::string both = cached && *cached ? (*cached)->to_string() : "nothing";
  both += ", ";
  both += loaded && *loaded ? (*loaded)->to_string() : "nothing";
  done.set_value(both);
}

void use_blocking(tiercel::Cache& cache) {
  const auto miss = cache.get("player:7");
  expect(miss && !*miss, "a miss is an answer");
  const auto written = cache.set("player:7", "Ann");
  expect(written && written->version > 0, "set answers with a version");
  const auto hit = cache.get("player:7");
  expect(hit && *hit && (*hit)->bytes() == "Ann", "what was set is found");
  expect(hit && *hit && (*hit)->tier() == tiercel::Tier::kL1, "in L1");
}

}  // namespace

int main() {
  auto cache = tiercel::Cache::open({});
  if (!cache) {
    std::fprintf(stderr, "open: %s\n", cache.error().to_string().c_str());
    return 1;
  }
  use_blocking(**cache);

  std::promise<std::string> done;
  read_both(**cache, done);
  expect(done.get_future().get() == "Ann, loaded for player:8", "co_await, with a loader");
  const auto kept = (*cache)->try_get("player:8");
  expect(kept && kept->bytes() == "loaded for player:8", "what was loaded is kept");

  const auto refused = tiercel::Cache::open({.redis_url = "nonsense"});
  expect(!refused && refused.error().code == tiercel::ErrorCode::kInvalidArgument,
         "a wrong URL is refused");
  return failures == 0 ? 0 : 1;
}
