#include "coherence_failover.h"

#include <algorithm>
#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>

#include "coherence_load.h"
#include "fleet/history.h"
#include "support/poll_until.h"
#include "support/redis_server.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kValueBytes = 100;
constexpr std::size_t kBatch = 500;  // Keys of one get_many.
constexpr Duration kSteady = 1s;     // Of writing before the kill, and after L1 has come back.
constexpr Duration kLook = 1ms;
constexpr Duration kAsk = 5ms;
constexpr auto kShortTimeout = 3s;
constexpr auto kStockTimeout = 10s;
constexpr Duration kBackMax = 60s;

TimePoint now() { return Clock::system().now(); }

bool is_short(const FailoverSettings& settings) {
  return settings.periods == FailoverSettings::Periods::kShort;
}

struct Acknowledged {
  std::uint64_t version;
  std::string key;
};

class Round {
 public:
  explicit Round(const FailoverSettings& settings)
      : settings_(settings),
        servers_(testing::SentinelSetup::start(
            {.down_after = settings.down_after,
             .failover_timeout = is_short(settings) ? kShortTimeout : kStockTimeout,
             .fast_periods = is_short(settings)})),
        keys_(key_names(settings.entries)) {}

  Result<FailoverResult> run() {
    auto caches =
        open_caches(settings_.instances, {.name_space = kNamespace, .redis_url = servers_->url()});
    if (!caches) return caches.error();
    caches_ = std::move(caches).value();
    if (auto filled = fill(); !filled) return filled.error();
    acknowledged_.resize(settings_.instances);
    FailoverResult result;
    result.instances.resize(settings_.instances);
    std::vector<std::thread> writers;
    for (std::size_t i = 0; i < settings_.instances; ++i) {
      writers.emplace_back([this, i] { write(i); });
    }
    sleep_until(now() + kSteady);
    const bool all_back = fail_over(result);
    sleep_until(now() + kSteady);
    stop_.store(true);
    for (auto& thread : writers) thread.join();
    if (!all_back) return internal("an L1 does not answer again after a failover");
    if (auto counted = count_lost(result); !counted) return counted.error();
    return result;
  }

 private:
  // Every entry into every L1.
  Result<void> fill() {
    for (const std::string& key : keys_) {
      auto written = caches_.front()->set(key, value_of(1, kValueBytes));
      if (!written) return written.error();
    }
    for (const auto& cache : caches_) {
      const bool all_in = testing::poll_until([&] {
        for (std::size_t begin = 0; begin < keys_.size(); begin += kBatch) {
          const std::size_t end = std::min(begin + kBatch, keys_.size());
          const std::vector<std::string_view> batch(
              keys_.begin() + static_cast<std::ptrdiff_t>(begin),
              keys_.begin() + static_cast<std::ptrdiff_t>(end));
          (void)cache->get_many(batch);
        }
        return count_in_l1(*cache) == keys_.size();
      });
      if (!all_in) return internal("the entries do not all come into L1");
    }
    return {};
  }

  [[nodiscard]] std::size_t count_in_l1(Cache& cache) const {
    return static_cast<std::size_t>(std::ranges::count_if(
        keys_, [&](const std::string& key) { return cache.try_get(key).has_value(); }));
  }

  // Keys that are not among the entries. A write that fails has its turn again.
  void write(std::size_t number) {
    const auto step = std::chrono::duration_cast<Duration>(
        std::chrono::duration<double>{1 / settings_.writes_per_second});
    std::uint32_t count = 0;
    for (TimePoint next = now(); !stop_.load(); next = std::max(next + step, now())) {
      sleep_until(next);
      const std::string key = "w" + std::to_string(number) + "-" + std::to_string(count++ % 100);
      const auto written = caches_[number]->set(key, value_of(count, kValueBytes));
      if (written) acknowledged_[number].push_back({written->version, key});
    }
  }

  // False when an L1 does not come back.
  bool fail_over(FailoverResult& result) {
    std::vector<std::size_t> before;
    for (const auto& cache : caches_) before.push_back(count_in_l1(*cache));
    testing::RedisServer& master = servers_->server(0);
    const std::string old_master = master.endpoint();
    const TimePoint killed_at = now();
    master.kill();
    std::atomic<std::size_t> back{0};
    std::vector<std::thread> watchers;
    for (std::size_t i = 0; i < caches_.size(); ++i) {
      watchers.emplace_back([&, i] {
        const auto hit_at = wait_for_hit(*caches_[i], old_master);
        if (!hit_at) return;
        const auto there = static_cast<double>(count_in_l1(*caches_[i]));
        result.instances[i] = {.first_hit = *hit_at - killed_at,
                               .warm_percent = 100 * there / static_cast<double>(before[i])};
        ++back;
      });
    }
    const auto promoted_at = wait_for_master();
    for (auto& thread : watchers) thread.join();
    if (promoted_at) result.promoted = *promoted_at - killed_at;
    return promoted_at && back == caches_.size();
  }

  // When a replica calls itself a master, whatever the Sentinels say. A connection for each
  // question: a server that is promoted closes those that it has.
  [[nodiscard]] std::optional<TimePoint> wait_for_master() {
    const auto is_master = [&](std::size_t number) {
      return servers_->server(number).command({"ROLE"}).starts_with("master");
    };
    const bool found = testing::poll_until(
        [&] {
          for (std::size_t i = 1; i < servers_->server_count(); ++i) {
            if (is_master(i)) return true;
          }
          return false;
        },
        kBackMax, kAsk);
    return found ? std::optional{now()} : std::nullopt;
  }

  // Nothing is fetched meanwhile: whatever is found was there before.
  [[nodiscard]] std::optional<TimePoint> wait_for_hit(Cache& cache,
                                                      const std::string& old_master) const {
    std::optional<TimePoint> hit_at;
    const auto is_hit = [&] {
      const LeaseInfo lease = cache.lease();
      if (!lease.held || lease.master == old_master) return false;
      const bool any = std::ranges::any_of(
          keys_, [&](const std::string& key) { return cache.try_get(key).has_value(); });
      if (any) hit_at = now();
      return any;
    };
    (void)testing::poll_until(is_hit, kBackMax, kLook);
    return hit_at;
  }

  Result<void> count_lost(FailoverResult& result) {
    const int master = servers_->wait_for_new_master(0);
    if (master < 0) return internal("there is no new master");
    const auto history = fleet::read_history(
        servers_->server(static_cast<std::size_t>(master)).unix_path(), kNamespace);
    if (!history) return history.error();
    for (const auto& writes : acknowledged_) {
      for (const Acknowledged& write : writes) {
        ++result.writes_acknowledged;
        if (!history->contains(write.version, write.key)) ++result.writes_lost;
      }
    }
    return {};
  }

  const FailoverSettings& settings_;
  const std::unique_ptr<testing::SentinelSetup> servers_;
  const std::vector<std::string> keys_;
  Caches caches_;
  std::vector<std::vector<Acknowledged>> acknowledged_;  // Each by its own writer.
  std::atomic<bool> stop_{false};
};

}  // namespace

Result<FailoverResult> run_failover(const FailoverSettings& settings) {
  return Round{settings}.run();
}

}  // namespace tiercel::bench
