#include "coherence_invalidate.h"

#include <algorithm>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "coherence_load.h"
#include "support/poll_until.h"
#include "support/redis_server.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kValueBytes = 100;
constexpr Duration kLetGoMax = 10s;

TimePoint now() { return Clock::system().now(); }

using Write = std::function<Result<void>(const std::string& key, const std::string& value)>;

// Into the L1s of all.
Result<void> bring_in(const Caches& caches, const std::vector<std::string>& keys) {
  const std::vector<std::string_view> views{keys.begin(), keys.end()};
  for (const auto& cache : caches) {
    const bool all_in = testing::poll_until([&] {
      (void)cache->get_many(views);
      return std::ranges::all_of(
          views, [&](std::string_view key) { return cache->try_get(key).has_value(); });
    });
    if (!all_in) return internal("a value does not come into L1");
  }
  return {};
}

// From now on.
Result<Duration> wait_until_gone(const Caches& caches, const std::string& key,
                                 std::uint32_t newest) {
  const TimePoint begin = now();
  for (std::size_t i = 0; i < caches.size();) {
    const auto value = caches[i]->try_get(key);
    if (!value || sequence_of(value->bytes()) == newest) {
      ++i;
      continue;
    }
    if (now() - begin > kLetGoMax) return internal("an L1 does not let go of a value");
    std::this_thread::yield();
  }
  return now() - begin;
}

std::uint64_t refusals_of(const Caches& caches) {
  std::uint64_t refusals = 0;
  for (const auto& cache : caches) refusals += cache->stats().lease_refusals;
  return refusals;
}

}  // namespace

Result<InvalidateResult> run_invalidate(const InvalidateSettings& settings) {
  const auto server = testing::RedisServer::start();
  const CacheOptions options{.name_space = kNamespace,
                             .redis_url = server->url(),
                             .foreign_writers = settings.writing == Writing::kForeign};
  const auto caches = open_caches(settings.instances, options);
  if (!caches) return caches.error();
  auto writer = open_cache(options);
  if (!writer) return writer.error();
  auto foreign = ForeignClient::connect(*server);
  if (!foreign) return foreign.error();
  const Write write = [&](const std::string& key, const std::string& value) -> Result<void> {
    if (settings.writing == Writing::kForeign) return foreign->set(redis_key(key), value);
    if (auto written = (*writer)->set(key, value); !written) return written.error();
    return {};
  };

  const std::vector<std::string> keys = key_names(settings.keys);
  for (const std::string& key : keys) {
    if (auto written = write(key, value_of(0, kValueBytes)); !written) return written.error();
  }
  InvalidateResult result;
  for (std::uint32_t sequence = 1; result.times.size() < settings.writes; ++sequence) {
    if (auto in = bring_in(*caches, keys); !in) return in.error();
    const std::uint64_t refused_before = refusals_of(*caches);
    for (const std::string& key : keys) {
      if (result.times.size() == settings.writes) break;
      sleep_until(now() + settings.pause);
      auto written = write(key, value_of(sequence, kValueBytes));
      if (!written) return written.error();
      const auto time = wait_until_gone(*caches, key, sequence);
      if (!time) return time.error();
      result.times.push_back(*time);
    }
    result.lease_refusals += refusals_of(*caches) - refused_before;
  }
  return result;
}

}  // namespace tiercel::bench
