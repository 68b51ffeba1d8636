#include "coherence_load.h"

#include <fmt/format.h>
#include <time.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <thread>

#include "tiercel/coherence/names.h"

namespace tiercel::bench {
namespace {

constexpr std::chrono::milliseconds kReadyMax{30'000};

}  // namespace

Result<std::unique_ptr<Cache>> open_cache(const CacheOptions& options) {
  auto cache = Cache::open(options);
  if (!cache) return cache.error();
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) return ready.error();
  return cache;
}

Result<Caches> open_caches(std::size_t count, const CacheOptions& options) {
  Caches caches;
  for (std::size_t i = 0; i < count; ++i) {
    auto cache = Cache::open(options);
    if (!cache) return cache.error();
    caches.push_back(std::move(cache).value());
  }
  for (const auto& cache : caches) {
    if (auto ready = cache->wait_until_ready(kReadyMax); !ready) return ready.error();
  }
  return caches;
}

std::string key_name(std::uint32_t key) { return fmt::format("k{:05}", key); }

std::vector<std::string> key_names(std::size_t count) {
  std::vector<std::string> names;
  for (std::uint32_t key = 0; key < count; ++key) names.push_back(key_name(key));
  return names;
}

std::string redis_key(const std::string& key) {
  return coherence::Names::create(kNamespace)->value_key(key);
}

std::string value_of(std::uint32_t sequence, std::size_t bytes) {
  std::string value = fmt::format("v{}:", sequence);
  value.resize(std::max(bytes, value.size()), 'x');
  return value;
}

std::optional<std::uint32_t> sequence_of(std::string_view value) {
  std::uint32_t sequence = 0;
  if (!value.starts_with('v')) return std::nullopt;
  const char* last = value.data() + value.size();
  const auto [end, error] = std::from_chars(value.data() + 1, last, sequence);
  if (error != std::errc{} || end == last || *end != ':') return std::nullopt;
  return sequence;
}

Result<ForeignClient> ForeignClient::connect(const testing::RedisServer& server) {
  auto redis = testing::BlockingRedis::connect("127.0.0.1", server.port());
  if (!redis) return redis.error();
  return ForeignClient{std::move(redis).value()};
}

Result<void> ForeignClient::set(const std::string& key, const std::string& value) {
  const auto reply = redis_.command({"SET", key, value});
  if (!reply) return reply.error();
  if (reply->text != "OK") return internal("SET: " + reply->to_text());
  return {};
}

Result<std::string> ForeignClient::get(const std::string& key) {
  auto reply = redis_.command({"GET", key});
  if (!reply) return reply.error();
  if (reply->kind != testing::RedisReply::Kind::kBulk) return internal("GET: " + reply->to_text());
  return std::move(reply->text);
}

double quantile_ms(std::vector<Duration> samples, double fraction) {
  const auto rank = std::ceil(fraction * static_cast<double>(samples.size()));
  const auto index = static_cast<std::ptrdiff_t>(std::max(rank, 1.0)) - 1;
  std::ranges::nth_element(samples, samples.begin() + index);
  return in_ms(samples[static_cast<std::size_t>(index)]);
}

double in_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>{duration}.count();
}

double in_seconds(Duration duration) { return std::chrono::duration<double>{duration}.count(); }

Duration cpu_time_of(int pid) {
  clockid_t clock{};
  timespec time{};
  if (clock_getcpuclockid(pid, &clock) != 0 || clock_gettime(clock, &time) != 0) return {};
  return std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec};
}

void sleep_until(TimePoint when) {
  const Duration left = when - Clock::system().now();
  if (left > Duration{0}) std::this_thread::sleep_for(left);
}

}  // namespace tiercel::bench
