// Guards under everything at once, against an oracle: a read that begins more than Δ after a
// creation was acknowledged is never refused. TIERCEL_GUARD_SEED and TIERCEL_GUARD_SECONDS in the
// environment choose the seed, which each run prints, and how long it lasts.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <thread>

#include "cache_fixture.h"
#include "guard_source.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "tiercel/base/random.h"

namespace tiercel::testing {
namespace {

constexpr std::chrono::milliseconds kLease = 200ms;

std::uint64_t from_environment(const char* name, std::uint64_t otherwise) {
  const char* const given = std::getenv(name);
  return given != nullptr ? std::strtoull(given, nullptr, 10) : otherwise;
}

// What was created, and since when the cache must know of it.
class Oracle {
 public:
  void acknowledged(int key) {
    MutexLock lock{mutex_};
    created_.emplace_back(key, Clock::system().now());
  }
  // A key that must be found by a read that begins now.
  [[nodiscard]] std::optional<int> draw(Random& random) {
    const TimePoint before = Clock::system().now() - kLease;
    MutexLock lock{mutex_};
    const auto known =
        std::partition_point(created_.begin(), created_.end(),
                             [before](const auto& entry) { return entry.second < before; });
    const auto count = static_cast<std::uint64_t>(known - created_.begin());
    if (count == 0) return std::nullopt;
    // Mostly of the newest.
    const std::uint64_t back = random.below(2) == 0
                                   ? random.below(std::min<std::uint64_t>(count, 20))
                                   : random.below(count);
    return created_[static_cast<std::size_t>(count - 1 - back)].first;
  }
  [[nodiscard]] std::vector<int> all() {
    MutexLock lock{mutex_};
    std::vector<int> keys;
    for (const auto& [key, at] : created_) keys.push_back(key);
    return keys;
  }

 private:
  Mutex mutex_;
  std::vector<std::pair<int, TimePoint>> created_ TIERCEL_GUARDED_BY(mutex_);
};

// Instances over one source; whoever is asked for a key that must be there says so if it is not.
class Fleet {
 public:
  static constexpr std::size_t kInstances = 3;

  // `url` of each. Values live for a millisecond, so that reads pass by the guard.
  explicit Fleet(const std::function<std::string(std::size_t)>& url) {
    for (std::size_t i = 0; i < kInstances; ++i) {
      caches_.push_back(open_ready({.redis_url = url(i),
                                    .lease = kLease,
                                    .write_timeout = 900ms,
                                    .read_timeout_before_load = 200ms,
                                    .fill_lease = 2s}));
      auto items = Items::open(
          *caches_.back(),
          {.name = "item",
           .policy = {.ttl = 1ms, .negative_ttl = std::nullopt, .breaker = std::nullopt},
           .loader = source_.loader(),
           .guard = source_.options({.keys_expected = 20'000})});
      EXPECT_TRUE(items) << items.error().to_string();
      items_.push_back(std::move(items).value());
    }
  }

  [[nodiscard]] const Items& items(std::uint64_t index) const { return items_[index]; }
  [[nodiscard]] Cache& cache(std::uint64_t index) { return *caches_[index]; }
  [[nodiscard]] Oracle& oracle() { return oracle_; }

  void create(Random& random) {
    const int key = next_key_.fetch_add(1);
    source_.create(std::to_string(key));
    const std::uint64_t at = random.below(kInstances);
    WriteResult written = unavailable("not tried");
    switch (random.below(3)) {
      case 0: written = items_[at].invalidate(key, {.timeout = 500ms}); break;
      case 1: written = items_[at].set(key, "set", {.timeout = 500ms}); break;
      default: {
        const std::string name = "item:" + std::to_string(key);
        written =
            caches_[at]->invalidate_many(std::vector<std::string_view>{name}, {.timeout = 500ms});
      }
    }
    if (written) oracle_.acknowledged(key);
  }

  void read(Random& random) {
    const std::uint64_t at = random.below(kInstances);
    if (random.below(3) == 0) {
      // One that may not be there: not yet, or never.
      static_cast<void>(items_[at].get(next_key_.load() + static_cast<int>(random.below(1000)) - 3,
                                       {.timeout = 500ms}));
      return;
    }
    const auto key = oracle_.draw(random);
    if (!key) return;
    const auto found = items_[at].get(*key, {.timeout = 500ms});
    reads_.fetch_add(1);
    if (found && !*found) {
      wrong_.fetch_add(1);
      ADD_FAILURE() << "instance " << at << " refused " << *key;
    }
  }

  // Runs creators and readers while `meanwhile` does.
  void run(std::uint64_t seed, const std::function<void()>& meanwhile) {
    std::atomic<bool> stops{false};
    std::vector<std::thread> threads;
    for (std::uint64_t i = 0; i < 2 * kInstances; ++i) {
      threads.emplace_back([&, i] {
        Random random{seed * 100 + i};
        while (!stops.load() && wrong_.load() < 5) {
          if (i < kInstances) {
            create(random);
            std::this_thread::sleep_for(std::chrono::microseconds{random.below(2000)});
          } else {
            read(random);
          }
        }
      });
    }
    meanwhile();
    stops.store(true);
    for (std::thread& thread : threads) thread.join();
  }

  // Once all is calm again, everything is there everywhere, and what is not is refused.
  void check_all() {
    for (std::size_t i = 0; i < kInstances; ++i) {
      ASSERT_TRUE(poll_until([&] { return caches_[i]->lease().held; }, kPatience));
      ASSERT_TRUE(answers(items_[i]));
      for (const int key : oracle_.all()) {
        const auto found = items_[i].get(key, {.timeout = kPatience});
        ASSERT_TRUE(found) << found.error().to_string();
        ASSERT_TRUE(*found) << "instance " << i << " refused " << key;
      }
      const std::uint64_t refused = items_[i].stats().guard.refused;
      EXPECT_TRUE(poll_until(
          [&] {
            static_cast<void>(items_[i].get(2'000'000'000, {.timeout = 500ms}));
            return items_[i].stats().guard.refused > refused;
          },
          kPatience));
    }
  }

  [[nodiscard]] std::string summary() {
    std::string text = std::to_string(oracle_.all().size()) + " created, " +
                       std::to_string(reads_.load()) + " reads of them";
    for (const Items& items : items_) {
      const GuardStats stats = items.stats().guard;
      text += "; refused " + std::to_string(stats.refused) + ", primed " +
              std::to_string(stats.primed) + ", built " + std::to_string(stats.built) +
              ", stored " + std::to_string(stats.stored) + ", lost " + std::to_string(stats.lost) +
              ", failures " + std::to_string(stats.failures);
    }
    return text;
  }

 private:
  Source source_;
  Oracle oracle_;
  std::atomic<int> next_key_{0};
  std::atomic<std::uint64_t> reads_{0};
  std::atomic<int> wrong_{0};
  std::vector<std::unique_ptr<Cache>> caches_;
  std::vector<Items> items_;
};

TEST(GuardStress, NothingThatExistsIsRefused) {
  const std::uint64_t seed = from_environment("TIERCEL_GUARD_SEED", entropy_u64() % 1'000'000);
  const std::uint64_t seconds = from_environment("TIERCEL_GUARD_SECONDS", 4);
  SCOPED_TRACE("TIERCEL_GUARD_SEED=" + std::to_string(seed));
  const auto server = RedisServer::start();
  std::vector<std::unique_ptr<TcpProxy>> proxies;
  for (std::size_t i = 0; i < Fleet::kInstances; ++i) {
    proxies.push_back(std::make_unique<TcpProxy>(server->port()));
  }
  Fleet fleet{[&](std::size_t i) { return proxies[i]->url(); }};
  Random random{seed};
  fleet.run(seed, [&] {
    const TimePoint until = Clock::system().now() + std::chrono::seconds{seconds};
    while (Clock::system().now() < until) {
      const std::uint64_t at = random.below(Fleet::kInstances);
      switch (random.below(10)) {
        case 0:
        case 1:
        case 2: static_cast<void>(fleet.items(at).rebuild_guard()); break;
        case 3:
        case 4: proxies[at]->reset_all(); break;
        case 5:
          server->command({"DEL", "tiercel/history"});
          proxies[at]->reset_all();
          break;
        case 6: server->command({"FLUSHALL"}); break;
        case 7: server->command({"DEL", "tiercel/bloom:item"}); break;
        case 8: {
          const auto keys = lines_of(server->command({"KEYS", "tiercel/bloom:item:*:0"}));
          if (!keys.empty()) server->command({"DEL", keys[random.below(keys.size())]});
          break;
        }
        default: server->command({"DEL", "tiercel/bloom:item:building"});
      }
      std::this_thread::sleep_for(std::chrono::milliseconds{random.below(150)});
    }
  });
  fleet.check_all();
  std::cout << "seed " << seed << ": " << fleet.summary() << "\n";
}

// Creations that the killed master had acknowledged, and had not yet passed on, are only in the
// source.
TEST(GuardStress, NothingThatExistsIsRefusedAfterAFailover) {
  const std::uint64_t seed = from_environment("TIERCEL_GUARD_SEED", entropy_u64() % 1'000'000);
  SCOPED_TRACE("TIERCEL_GUARD_SEED=" + std::to_string(seed));
  const auto redis = SentinelSetup::start();
  Fleet fleet{[&](std::size_t) { return redis->url(); }};
  fleet.run(seed, [&] {
    std::this_thread::sleep_for(500ms);
    const int master = redis->master_index();
    ASSERT_GE(master, 0);
    redis->server(static_cast<std::size_t>(master)).kill();
    ASSERT_GE(redis->wait_for_new_master(master), 0);
    EXPECT_TRUE(poll_until(
        [&] {
          return std::ranges::all_of(std::array{0, 1, 2}, [&](int i) {
            const auto stats = fleet.items(static_cast<std::uint64_t>(i)).stats().guard;
            return stats.state == GuardState::kAnswering && stats.lost > 0;
          });
        },
        kPatience));
    std::this_thread::sleep_for(500ms);
  });
  fleet.check_all();
  std::cout << "seed " << seed << ": " << fleet.summary() << "\n";
}

}  // namespace
}  // namespace tiercel::testing
