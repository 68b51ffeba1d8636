#pragma once

// What the tests of the cache share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/gate.h"
#include "support/poll_until.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/cache.h"

namespace tiercel::testing {

using namespace std::chrono_literals;

// Generous: only a failure waits so long.
inline constexpr std::chrono::milliseconds kPatience = 30s;

inline std::unique_ptr<Cache> open_cache(CacheOptions options) {
  auto cache = Cache::open(std::move(options));
  EXPECT_TRUE(cache) << cache.error().to_string();
  return cache ? std::move(*cache) : nullptr;
}

inline std::unique_ptr<Cache> open_ready(CacheOptions options) {
  auto cache = open_cache(std::move(options));
  if (cache) {
    auto ready = cache->wait_until_ready(kPatience);
    EXPECT_TRUE(ready) << ready.error().to_string();
  }
  return cache;
}

// "value@tier", "(absent)" or the error's text: one word to compare with.
inline std::string described(const ReadResult& result) {
  if (!result) return result.error().to_string();
  if (!*result) return "(absent)";
  return (*result)->to_string() + "@" + std::string{to_string((*result)->tier())};
}

inline std::string described(const std::optional<Value>& value) {
  return value ? value->to_string() + "@" + std::string{to_string(value->tier())} : "(none)";
}

// The value alone, wherever it came from; "(absent)" or the error's text else.
inline std::string read_value(Cache& cache, std::string_view key) {
  const auto result = cache.get(key, {.timeout = kPatience});
  if (!result) return result.error().to_string();
  return *result ? (*result)->to_string() : "(absent)";
}

inline ErrorCode code_of(const ReadResult& result) {
  return result ? ErrorCode::kInternal : result.error().code;
}

// A loader that waits at the gate, then brings `value`.
inline Loader loader_behind(const Gate& gate, std::string value) {
  return [gate, value = std::move(value)](std::string_view) {
    gate.pass();
    return Loaded{value};
  };
}

// Where an asynchronous call's answer goes.
template <typename T>
class Answer {
 public:
  UniqueFunction<void(T)> callback() {
    return [state = state_](T result) {
      MutexLock lock{state->mutex};
      EXPECT_FALSE(state->result) << "answered twice";
      state->result.emplace(std::move(result));
    };
  }
  [[nodiscard]] bool arrived() const {
    MutexLock lock{state_->mutex};
    return state_->result.has_value();
  }
  T take() {
    EXPECT_TRUE(poll_until([&] { return arrived(); }, kPatience));
    MutexLock lock{state_->mutex};
    return std::move(*state_->result);
  }

 private:
  struct State {
    Mutex mutex;
    std::optional<T> result;
  };
  std::shared_ptr<State> state_ = std::make_shared<State>();
};

// Keeps the cache's loop thread busy, so that what is to be sent meanwhile waits.
class LoopHold {
 public:
  explicit LoopHold(Cache& cache) {
    cache.get_async("(the key that holds the loop)",
                    {.timeout = kPatience, .freshness = Freshness::latest()},
                    [gate = gate_](const ReadResult&) { gate.pass(); });
    EXPECT_TRUE(gate_.wait_until_arrived(1));
    held_at = Clock::system().now();
  }
  ~LoopHold() { release(); }
  LoopHold(const LoopHold&) = delete;
  LoopHold& operator=(const LoopHold&) = delete;

  void release() {
    held_at.reset();
    gate_.open();
  }

  // For the threads that write meanwhile.
  static inline std::optional<TimePoint> held_at;

 private:
  const Gate gate_;
};

}  // namespace tiercel::testing
