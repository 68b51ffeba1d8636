#include "coherence_cost.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string_view>
#include <utility>

#include "coherence_load.h"
#include "support/redis_server.h"
#include "tiercel/base/mutex.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/scripts.h"
#include "tiercel/l2/client.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t kValueBytes = 100;
constexpr std::uint32_t kKeys = 10'000;
constexpr Duration kPatience = 30s;
constexpr std::chrono::milliseconds kTtl = 1h;
constexpr const char* kYardstick = "SET PX";
constexpr const char* kScript = "write script";

TimePoint now() { return Clock::system().now(); }

using Done = UniqueFunction<void(Result<void>)>;
// Begins one write of the key; `done` is called on a loop thread.
using BeginWrite = std::function<void(std::uint32_t key, Done done)>;

// Keeps so many writes in flight until there were enough. One use.
class Pipelined {
 public:
  Pipelined(const BeginWrite& write, std::uint32_t writes) : write_(write), left_(writes) {}

  Result<void> run(std::size_t in_flight) {
    const std::size_t first = std::min<std::size_t>(in_flight, left_.load());
    under_way_.store(first);
    for (std::size_t i = 0; i < first; ++i) begin_next();
    MutexLock lock{mutex_};
    while (!is_over_) over_.wait(mutex_);
    if (failure_) return *failure_;
    return {};
  }

 private:
  void begin_next() {
    std::uint32_t left = left_.load();
    while (left > 0 && !left_.compare_exchange_weak(left, left - 1)) {
    }
    if (left == 0) return one_is_over();
    write_(left % kKeys, [this](Result<void> done) {
      if (!done) {
        note(done.error());
        return one_is_over();
      }
      begin_next();
    });
  }

  void one_is_over() TIERCEL_EXCLUDES(mutex_) {
    if (under_way_.fetch_sub(1) > 1) return;
    MutexLock lock{mutex_};
    is_over_ = true;
    over_.notify_all();
  }

  void note(const Error& error) TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    if (!failure_) failure_ = error;
  }

  const BeginWrite& write_;
  std::atomic<std::uint32_t> left_;
  std::atomic<std::size_t> under_way_{0};
  Mutex mutex_;
  CondVar over_;
  bool is_over_ TIERCEL_GUARDED_BY(mutex_) = false;
  std::optional<Error> failure_ TIERCEL_GUARDED_BY(mutex_);
};

Result<void> unless_refused(const Result<l2::ReplyView>& reply) {
  if (!reply) return reply.error();
  if (reply->is_error()) return internal(std::string{reply->text()});
  return {};
}

// The contestants, ready to write.
class Arena {
 public:
  Arena() : server_(testing::RedisServer::start()), keys_(key_names(kKeys)) {
    for (std::string& key : keys_) redis_keys_.push_back(redis_key(key));
  }

  Result<void> open() {
    auto redis = l2::parse_url(server_->url());
    auto client = l2::Client::open({.redis = *std::move(redis)}, loop_);
    if (!client) return client.error();
    client_ = std::move(client).value();
    for (Fleet* fleet : {&versioned_, &unversioned_}) {
      auto cache = open_cache(options_of(*fleet));
      if (!cache) return cache.error();
      fleet->writer = std::move(cache).value();
    }
    return prepare_script();
  }

  // Opens or closes instances until so many listen to each writer.
  Result<void> set_listeners(std::size_t count) {
    for (Fleet* fleet : {&versioned_, &unversioned_}) {
      Caches& listeners = fleet->listeners;
      while (listeners.size() > count) listeners.pop_back();
      auto more = open_caches(count - listeners.size(), options_of(*fleet));
      if (!more) return more.error();
      std::ranges::move(*more, std::back_inserter(listeners));
    }
    return {};
  }

  struct Cost {
    double microseconds = 0;  // Of server CPU for each write.
    double batch = 0;
  };
  Result<Cost> measure(const BeginWrite& write, std::uint32_t writes, std::size_t in_flight) {
    const std::uint64_t reads_before = reads_processed();
    const Duration before = cpu_time_of(server_->pid());
    if (auto done = Pipelined{write, writes}.run(in_flight); !done) return done.error();
    const Duration used = cpu_time_of(server_->pid()) - before;
    const auto reads = static_cast<double>(reads_processed() - reads_before);
    return Cost{.microseconds = 1e6 * in_seconds(used) / writes, .batch = writes / reads};
  }

  void plain_set(std::uint32_t key, Done done) {
    client_->submit_view(
        l2::Command{l2::Retry::kIfNotSent, "SET", redis_keys_[key], value_, "PX", ttl_},
        now() + kPatience, reply_to(std::move(done)));
  }

  void script_set(std::uint32_t key, Done done) {
    const std::string_view keys[] = {redis_keys_[key], fill_keys_[key], names_->history_key()};
    const std::string_view arguments[] = {envelope_, ttl_, messages_[key], names_->channel(),
                                          history_entries_};
    client_->submit_script_view(script_, keys, arguments, l2::Retry::kIfNotSent, now() + kPatience,
                                reply_to(std::move(done)));
  }

  void cache_set(std::uint32_t key, Done done) { set_by(versioned_, key, std::move(done)); }
  void unversioned_set(std::uint32_t key, Done done) { set_by(unversioned_, key, std::move(done)); }

 private:
  // How often the server has read from a socket.
  [[nodiscard]] std::uint64_t reads_processed() {
    constexpr std::string_view kName = "total_reads_processed:";
    const std::string text = server_->command({"INFO", "stats"});
    const std::size_t at = text.find(kName);
    return at == std::string::npos ? 0 : std::strtoull(&text[at + kName.size()], nullptr, 10);
  }

  // Namespaces of their own, so that nobody else listens.
  struct Fleet {
    std::string name_space;
    bool history = true;
    std::unique_ptr<Cache> writer{};
    Caches listeners{};
  };

  [[nodiscard]] CacheOptions options_of(const Fleet& fleet) const {
    return {.name_space = fleet.name_space,
            .redis_url = server_->url(),
            .history = fleet.history,
            .ttl = kTtl};
  }

  static l2::ViewCallback reply_to(Done done) {
    return [done = std::move(done)](Result<l2::ReplyView> reply) mutable {
      done(unless_refused(reply));
    };
  }

  void set_by(Fleet& fleet, std::uint32_t key, Done done) {
    fleet.writer->set_async(keys_[key], value_, {.ttl = kTtl},
                            [done = std::move(done)](WriteResult written) mutable {
                              if (!written) return done(written.error());
                              done({});
                            });
  }

  // What the cache sends, as it encodes it.
  Result<void> prepare_script() {
    const auto envelope = serialization::encode_envelope({.hard_ttl = kTtl, .payload = value_});
    if (!envelope) return envelope.error();
    envelope_ = *envelope;
    std::uint64_t nonce = 0;
    for (const std::string& key : keys_) {
      const auto message = serialization::encode_message(
          {.origin = 1, .nonce = ++nonce, .kind = serialization::MessageKind::kSet, .keys = {key}});
      if (!message) return message.error();
      messages_.push_back(*message);
      fill_keys_.push_back(names_->fill_key(key));
    }
    return {};
  }

  const std::unique_ptr<testing::RedisServer> server_;
  const Result<coherence::Names> names_ = coherence::Names::create(kNamespace);
  std::vector<std::string> keys_;
  std::vector<std::string> redis_keys_;
  std::vector<std::string> fill_keys_;
  std::vector<std::string> messages_;
  const std::string value_ = value_of(1, kValueBytes);
  const std::string ttl_ = std::to_string(kTtl.count());
  const std::string history_entries_ = std::to_string(CacheOptions{}.history_entries);
  const l2::Script script_{coherence::kWriteScript};
  std::string envelope_;
  l2::EventLoop loop_;
  std::unique_ptr<l2::Client> client_;
  Fleet versioned_{.name_space = "versioned"};
  Fleet unversioned_{.name_space = "unversioned", .history = false};
};

}  // namespace

Result<std::vector<CostRow>> run_cost(const CostSettings& settings) {
  Arena arena;
  if (auto opened = arena.open(); !opened) return opened.error();
  std::map<std::string, BeginWrite> contestants;
  contestants[kYardstick] = [&](auto key, Done done) { arena.plain_set(key, std::move(done)); };
  contestants["set"] = [&](auto key, Done done) { arena.cache_set(key, std::move(done)); };
  contestants["set, no history"] = [&](auto key, Done done) {
    arena.unversioned_set(key, std::move(done));
  };
  contestants[kScript] = [&](auto key, Done done) { arena.script_set(key, std::move(done)); };

  std::vector<CostRow> rows;
  for (const std::size_t listeners : settings.listeners) {
    for (const std::size_t in_flight : settings.in_flight) {
      for (const char* name : {kYardstick, "set", "set, no history"}) {
        rows.push_back({.name = name, .in_flight = in_flight, .listeners = listeners});
      }
      if (listeners > 0) continue;
      rows.push_back({.name = kScript, .in_flight = in_flight, .listeners = listeners});
    }
  }
  std::mt19937_64 random{1};
  std::vector<CostRow*> order;
  for (CostRow& row : rows) order.push_back(&row);
  for (std::uint32_t round = 0; round < settings.rounds; ++round) {
    std::ranges::shuffle(order, random);
    // Opening listeners takes time: those with as many of them follow each other.
    std::ranges::stable_sort(order, {}, &CostRow::listeners);
    for (CostRow* row : order) {
      if (auto ready = arena.set_listeners(row->listeners); !ready) return ready.error();
      const std::uint32_t writes = row->in_flight == 1 ? settings.writes / 10 : settings.writes;
      const auto cost = arena.measure(contestants[row->name], writes, row->in_flight);
      if (!cost) return cost.error();
      row->microseconds.push_back(cost->microseconds);
      row->batches.push_back(cost->batch);
    }
  }
  for (CostRow& row : rows) {
    const auto& yardstick = *std::ranges::find_if(rows, [&](const CostRow& other) {
      return other.name == kYardstick && other.in_flight == row.in_flight &&
             other.listeners == row.listeners;
    });
    for (std::uint32_t round = 0; round < settings.rounds; ++round) {
      row.ratios.push_back(row.microseconds[round] / yardstick.microseconds[round]);
    }
  }
  return rows;
}

}  // namespace tiercel::bench
