#pragma once

// What the tests of the cache share.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "support/gate.h"
#include "support/poll_until.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/executor.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/cache.h"

namespace tiercel::testing {

using namespace std::chrono_literals;

// Generous: only a failure waits so long.
inline constexpr std::chrono::milliseconds kPatience = 30s;

// What still has its default is made patient, so that no test gives up, or loads without Redis,
// because the machine is slow. A test that wants to give up early says by itself when.
inline CacheOptions patient(CacheOptions options) {
  const CacheOptions defaults;
  const auto wait = [](std::chrono::milliseconds& limit, std::chrono::milliseconds otherwise) {
    if (limit == otherwise) limit = kPatience;
  };
  wait(options.read_timeout, defaults.read_timeout);
  wait(options.write_timeout, defaults.write_timeout);
  wait(options.read_timeout_before_load, defaults.read_timeout_before_load);
  // Less: where its holder has lost it in a failover, the others wait until it ends.
  if (options.fill_lease == defaults.fill_lease) options.fill_lease = kPatience / 2;
  return options;
}

// For tests that assert that L1 answers: with the default it falls silent where the machine stands
// still for half a second. Not where a fence is waited for, or the lease is to run out.
inline CacheOptions with_long_lease(CacheOptions options) {
  const CacheOptions defaults;
  if (options.lease == defaults.lease) options.lease = 60s;
  if (options.stream_timeout == defaults.stream_timeout) options.stream_timeout = 60s;
  return options;
}

inline std::unique_ptr<Cache> open_cache(CacheOptions options) {
  options = patient(std::move(options));
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

// The time stands still for the thread that makes an Instant, and for nobody else: what it begins
// has one deadline, however often it is kept from running.
class TestClock final : public Clock {
 public:
  class Instant {
   public:
    explicit Instant(std::optional<TimePoint> at) { stopped = at; }
    ~Instant() { stopped.reset(); }
    Instant(const Instant&) = delete;
    Instant& operator=(const Instant&) = delete;
  };
  [[nodiscard]] TimePoint now() const noexcept override {
    return stopped ? *stopped : Clock::system().now();
  }

 private:
  static inline thread_local std::optional<TimePoint> stopped;
};

// Says how many of its tasks have ended.
class CountingPool final : public Executor {
 public:
  Result<void> post(UniqueFunction<void()> task) override {
    return pool_->post([this, task = std::move(task)]() mutable {
      task();
      task = nullptr;
      ended_.fetch_add(1);
    });
  }
  [[nodiscard]] bool wait_until_ended(int count) {
    return poll_until([&] { return ended_.load() >= count; }, kPatience);
  }

 private:
  std::atomic<int> ended_{0};
  const std::unique_ptr<ThreadPool> pool_ =
      std::move(ThreadPool::create({.threads_max = 64})).value();
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

  // For the threads that read and write meanwhile.
  static inline std::optional<TimePoint> held_at;

 private:
  const Gate gate_;
};

}  // namespace tiercel::testing
