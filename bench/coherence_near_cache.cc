#include "coherence_near_cache.h"

#include <unistd.h>

#include <atomic>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "coherence_load.h"
#include "support/redis_server.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"
#include "tiercel/l2/client.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

constexpr Duration kArrearsMax = 100ms;  // A writer that is further behind does not catch up.
constexpr Duration kQuiet = 1s;          // For the last invalidations, before L1 is audited.
constexpr Duration kFetchMax = 5s;

TimePoint now() { return Clock::system().now(); }

Duration period(double per_second) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>{1 / per_second});
}

class Keys {
 public:
  explicit Keys(const NearCacheSettings& settings)
      : settings_(settings), names_(key_names(settings.keys)) {}

  [[nodiscard]] const std::string& name(std::uint32_t key) const { return names_[key]; }
  [[nodiscard]] std::uint32_t draw(Random& random) const {
    if (random.unit() < settings_.hot_fraction) {
      return static_cast<std::uint32_t>(random.below(settings_.hot_keys));
    }
    return settings_.hot_keys +
           static_cast<std::uint32_t>(random.below(settings_.keys - settings_.hot_keys));
  }

 private:
  const NearCacheSettings& settings_;
  std::vector<std::string> names_;
};

// A run's threads and what they noted down. Everything before the threads is constant while these
// run, but for `writes`, where each key is one writer's.
class Run {
 public:
  explicit Run(const NearCacheSettings& settings)
      : settings_(settings),
        keys_(settings),
        server_(testing::RedisServer::start()),
        writes_(settings.keys) {}

  Result<NearCacheResult> run() {
    if (auto stored = store_first_values(); !stored) return stored.error();
    if (auto opened = open(); !opened) return opened.error();
    std::vector<std::thread> writers;
    for (std::size_t i = 0; i < settings_.writers; ++i) {
      writers.emplace_back([this, i] { write(i); });
    }
    notes_.resize(settings_.instances * settings_.readers_each);
    std::vector<std::thread> readers;
    for (std::size_t i = 0; i < notes_.size(); ++i) {
      readers.emplace_back([this, i] { read(i); });
    }
    sleep_until(now() + settings_.warm_up);
    const TimePoint begin = now();
    const Duration cpu_begin = cpu();
    const std::uint64_t writes_begin = write_count_.load();
    is_noted_.store(true);
    sleep_until(begin + settings_.duration);
    is_noted_.store(false);
    const Duration elapsed = now() - begin;
    const Duration cpu_used = cpu() - cpu_begin;
    const std::uint64_t written = write_count_.load() - writes_begin;
    stop_.store(true);
    for (auto& thread : readers) thread.join();
    for (auto& thread : writers) thread.join();

    NearCacheResult result = judged();
    result.reads_per_second = static_cast<double>(result.staleness.reads) / in_seconds(elapsed);
    result.writes_per_second = static_cast<double>(written) / in_seconds(elapsed);
    result.cores_busy = in_seconds(cpu_used) / in_seconds(elapsed);
    if (settings_.reading == Reading::kCoherent) {
      if (auto audited = audit(result); !audited) return audited.error();
    }
    MutexLock lock{mutex_};
    if (failure_) return *failure_;
    return result;
  }

 private:
  struct Notes {
    std::vector<Read> reads{};
    std::uint64_t from_l1 = 0;
    std::uint64_t failed = 0;
  };

  Result<void> store_first_values() {
    auto client = ForeignClient::connect(*server_);
    if (!client) return client.error();
    for (std::uint32_t key = 0; key < settings_.keys; ++key) {
      auto stored = client->set(redis_key(keys_.name(key)), value_of(0, settings_.value_bytes));
      if (!stored) return stored;
    }
    return {};
  }

  Result<void> open() {
    CacheOptions options{.name_space = kNamespace,
                         .redis_url = server_->url(),
                         .lease = settings_.lease,
                         .foreign_writers = settings_.writing == Writing::kForeign};
    if (settings_.reading == Reading::kTtlOnly) {
      options = {.ttl = settings_.ttl, .ttl_jitter = 0};
      for (std::size_t i = 0; i < settings_.instances; ++i) {
        auto redis = l2::parse_url(server_->url());
        auto client = l2::Client::open({.redis = *std::move(redis)}, loop_);
        if (!client) return client.error();
        clients_.push_back(std::move(client).value());
      }
    }
    auto caches = open_caches(settings_.instances, options);
    if (!caches) return caches.error();
    caches_ = std::move(caches).value();
    if (settings_.writing == Writing::kForeign) return {};
    auto writer = open_cache(options);
    if (!writer) return writer.error();
    writer_ = std::move(writer).value();
    return {};
  }

  void write(std::size_t number) {
    std::optional<ForeignClient> foreign;
    if (settings_.writing == Writing::kForeign) {
      auto client = ForeignClient::connect(*server_);
      if (!client) return fail(client.error());
      foreign = std::move(client).value();
    }
    Random random{1000 + number};
    const auto writers = static_cast<std::uint32_t>(settings_.writers);
    const Duration step = period(settings_.writes_per_second / writers);
    TimePoint next = now() + step * static_cast<int>(number) / static_cast<int>(writers);
    while (!stop_.load(std::memory_order_relaxed)) {
      sleep_until(next);
      next = std::max(next + step, now() - kArrearsMax);
      // Its own keys are those with its number as remainder.
      const std::uint32_t drawn = keys_.draw(random);
      const auto key = drawn - drawn % writers + static_cast<std::uint32_t>(number);
      if (key >= settings_.keys) continue;
      const std::string value = value_of(writes_.next(key), settings_.value_bytes);
      const Result<void> done = foreign ? foreign->set(redis_key(keys_.name(key)), value)
                                        : set_through_us(keys_.name(key), value);
      const TimePoint acknowledged_at = now();
      if (!done) return fail(done.error());
      writes_.acknowledged(key, acknowledged_at);
      write_count_.fetch_add(1, std::memory_order_relaxed);
    }
  }

  Result<void> set_through_us(const std::string& key, const std::string& value) {
    const auto written = writer_->set(key, value);
    if (!written) return written.error();
    return {};
  }

  void read(std::size_t number) {
    const std::size_t instance = number / settings_.readers_each;
    Cache& cache = *caches_[instance];
    Notes& notes = notes_[number];
    notes.reads.reserve(static_cast<std::size_t>(1.2 * settings_.reads_per_second *
                                                 in_seconds(settings_.duration)));
    ReadOptions options;
    if (settings_.reading == Reading::kTtlOnly) {
      options.loader = [this, instance](std::string_view key) { return fetch(instance, key); };
    }
    Random random{number};
    const Duration step = period(settings_.reads_per_second / settings_.burst);
    const auto phase =
        static_cast<Duration::rep>(random.unit() * static_cast<double>(step.count()));
    for (TimePoint next = now() + Duration{phase}; !stop_.load(std::memory_order_relaxed);
         next = std::max(next + step, now())) {
      sleep_until(next);
      for (std::uint32_t i = 0; i < settings_.burst; ++i) {
        const std::uint32_t key = keys_.draw(random);
        const TimePoint began_at = now();
        const ReadResult result = cache.get(keys_.name(key), options);
        const TimePoint ended_at = now();
        if (is_noted_.load(std::memory_order_relaxed)) {
          note(notes, key, result, began_at, ended_at);
        }
      }
    }
  }

  static void note(Notes& notes, std::uint32_t key, const ReadResult& result, TimePoint began_at,
                   TimePoint ended_at) {
    const auto sequence =
        result && *result ? sequence_of((*result)->bytes()) : std::optional<std::uint32_t>{};
    if (!sequence) {
      ++notes.failed;
      return;
    }
    if ((*result)->tier() == Tier::kL1) ++notes.from_l1;
    notes.reads.push_back(
        {.key = key, .sequence = *sequence, .began_at = began_at, .ended_at = ended_at});
  }

  // On a loader's thread.
  Result<std::optional<Loaded>> fetch(std::size_t instance, std::string_view key) {
    auto reply = clients_[instance]->call(
        l2::Command{l2::Retry::kSafe, "GET", redis_key(std::string{key})}, now() + kFetchMax);
    if (!reply) return reply.error();
    return Loaded{reply->text};
  }

  [[nodiscard]] NearCacheResult judged() const {
    NearCacheResult result;
    std::uint64_t from_l1 = 0;
    for (const Notes& notes : notes_) {
      judge(writes_, notes.reads, settings_.lease, result.staleness);
      from_l1 += notes.from_l1;
      result.reads_failed += notes.failed;
    }
    if (result.staleness.reads > 0) {
      result.l1_percent =
          100 * static_cast<double>(from_l1) / static_cast<double>(result.staleness.reads);
    }
    return result;
  }

  Result<void> audit(NearCacheResult& result) {
    sleep_until(now() + kQuiet);
    auto client = ForeignClient::connect(*server_);
    if (!client) return client.error();
    for (std::uint32_t key = 0; key < settings_.keys; ++key) {
      // The newest write was acknowledged: it is what Redis has.
      const std::uint32_t newest = writes_.next(key) - 1;
      for (const auto& cache : caches_) {
        const auto value = cache->try_get(keys_.name(key));
        if (!value) continue;
        ++result.audited;
        if (sequence_of(value->bytes()) != newest) ++result.differing;
      }
    }
    return {};
  }

  [[nodiscard]] Duration cpu() const { return cpu_time_of(getpid()) + cpu_time_of(server_->pid()); }

  void fail(const Error& error) TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    if (!failure_) failure_ = error;
  }

  const NearCacheSettings& settings_;
  const Keys keys_;
  const std::unique_ptr<testing::RedisServer> server_;
  WriteTimes writes_;
  l2::EventLoop loop_;                                // Of kTtlOnly, as are
  std::vector<std::unique_ptr<l2::Client>> clients_;  // these, one for each instance.
  Caches caches_;
  std::unique_ptr<Cache> writer_;  // Of kThroughUs.
  std::vector<Notes> notes_;       // One for each reader.
  std::atomic<bool> is_noted_{false};
  std::atomic<bool> stop_{false};
  std::atomic<std::uint64_t> write_count_{0};
  Mutex mutex_;
  std::optional<Error> failure_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace

Result<NearCacheResult> run_near_cache(const NearCacheSettings& settings) {
  return Run{settings}.run();
}

}  // namespace tiercel::bench
