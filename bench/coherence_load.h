#pragma once

// What the parts of the coherence bench share: caches that are ready, keys, values that say which
// write they are of, quantiles, and a process's CPU time.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/blocking_redis.h"
#include "support/redis_server.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/cache.h"

namespace tiercel::bench {

inline constexpr const char* kNamespace = "bench";

using Caches = std::vector<std::unique_ptr<Cache>>;

// So many, opened and ready: L1 may answer. Errors: those of Cache::open and wait_until_ready.
Result<Caches> open_caches(std::size_t count, const CacheOptions& options);
Result<std::unique_ptr<Cache>> open_cache(const CacheOptions& options);

// "k00042", and where Redis has its value.
[[nodiscard]] std::string key_name(std::uint32_t key);
[[nodiscard]] std::vector<std::string> key_names(std::size_t count);
[[nodiscard]] std::string redis_key(const std::string& key);

// "v42:" and padding.
[[nodiscard]] std::string value_of(std::uint32_t sequence, std::size_t bytes);
[[nodiscard]] std::optional<std::uint32_t> sequence_of(std::string_view value);

// One that knows nothing of Tiercel: a connection of its own, plain SET, one at a time.
class ForeignClient {
 public:
  static Result<ForeignClient> connect(const testing::RedisServer& server);
  Result<void> set(const std::string& key, const std::string& value);
  Result<std::string> get(const std::string& key);

 private:
  explicit ForeignClient(testing::BlockingRedis redis) : redis_(std::move(redis)) {}
  testing::BlockingRedis redis_;
};

// What `fraction` of the samples did not exceed, in ms. Of at least one.
[[nodiscard]] double quantile_ms(std::vector<Duration> samples, double fraction);
[[nodiscard]] double in_ms(Duration duration);
[[nodiscard]] double in_seconds(Duration duration);

// User and system time of all threads that a process ever had. Zero if there is no such process.
[[nodiscard]] Duration cpu_time_of(int pid);

void sleep_until(TimePoint when);

}  // namespace tiercel::bench
