#pragma once

// CacheModel: one life of one instance: the production Session, Witness, AheadKeys, FillTable,
// TagTable, InvalidationQueue, LeaseCell and LruCache, surrounded as cache/src surrounds them, in
// the same order of steps.
//
//   cache_model.cc    events and actions (link_driver.cc, link_questions.cc, changes.cc)
//   cache_reads.cc    reads, flights, loads (core.cc, reads.cc, loads.cc)
//   cache_writes.cc   writes, invalidations, and the replay of those that were not sent (writes.cc,
//                     replay.cc)
//
// Between two actions, and between marking and evicting, other threads may read: see interleave().

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "env.h"
#include "links.h"
#include "master_finder.h"
#include "redis_model.h"
#include "tiercel/coherence/fill_table.h"
#include "tiercel/coherence/invalidation_queue.h"
#include "tiercel/coherence/lease.h"
#include "tiercel/coherence/session.h"
#include "tiercel/coherence/tag_table.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::sim {

// Where loaded keys come from: always there, always right.
struct Database {
  std::array<std::uint32_t, kKeys> rows{};
  std::uint32_t writes = 0;
};

// The clock of one machine. Others differ from it, which must not matter.
class MachineClock final : public Clock {
 public:
  MachineClock(const Timeline& timeline, Duration ahead) : timeline_(timeline), ahead_(ahead) {}
  [[nodiscard]] TimePoint now() const noexcept override { return timeline_.now() + ahead_; }
  [[nodiscard]] TimePoint to_world(TimePoint time) const { return time - ahead_; }

 private:
  const Timeline& timeline_;
  const Duration ahead_;
};

class CacheModel final : private LinkUser {
 public:
  CacheModel(Env& env, Process& process, std::vector<RedisServer*> servers,
             std::vector<SentinelModel*> sentinels, Database& database, std::uint64_t origin);
  void start();

  // --- Callers' threads.
  void read(std::size_t key);
  void set(std::size_t key, std::size_t replicas);
  void change_and_invalidate(std::size_t key);
  void change_and_invalidate_tag(std::size_t tag);
  void change_and_clear();

  // --- For the simulation.
  [[nodiscard]] bool is_leased() const { return clock_.now() < cell_.until(); }
  [[nodiscard]] coherence::WitnessMode witness_mode() const { return session_.witness_mode(); }
  [[nodiscard]] TimePoint proven_at() const { return clock_.to_world(cell_.proven_at()); }
  [[nodiscard]] std::string why_no_lease() const { return session_.why_no_lease(); }
  [[nodiscard]] bool is_quiet() const {
    return flights_under_way_ == 0 && writes_under_way_ == 0 && queue_.empty();
  }
  [[nodiscard]] std::size_t tokens_under_way() const { return fills_.tokens_under_way(); }
  [[nodiscard]] std::optional<Value> in_l1(std::size_t key);  // If it would be served.
  void count_epochs();
  void hear(const SentinelEvent& event) { finder_.hear(event); }
  [[nodiscard]] Links& links() { return links_; }

 private:
  // What a reader loads before it looks into L1.
  struct Vouch {
    TimePoint until{};
    TimePoint proven_at{};
    std::uint64_t generation = 0;
    std::uint64_t tags_generation = 0;
    int branch = -1;
    coherence::WitnessMode mode{};
    bool is_leased = true;
  };
  struct Entry {
    Value value{};
    Version version = coherence::kVersionUnknown;
    std::uint64_t generation = 0;
    std::uint64_t seen_generation = 0;  // As the checker of M counts them.
  };
  using Seen = Checkers::Seen;
  struct Flight {
    std::size_t key = 0;
    coherence::FillTable::Token token;
    std::uint64_t fill_number = 0;
    bool ignore_stored = false;
    Version begun_at = coherence::kVersionUnknown;
    std::uint64_t begun_in = 0;  // Which epoch.
    std::uint64_t read_in = 0;   // generation() when the value came.
    unsigned polls = 0;
    std::vector<Seen> waiters;  // What each had seen when it came.
    bool has_landed = false;
  };
  using FlightPtr = std::shared_ptr<Flight>;

  // --- cache_model.cc
  void data_up(const coherence::Server& server) override;
  void data_down() override;
  void stream_up(const coherence::Server& server) override;
  void stream_down() override;
  void stream_push(const Push& push) override;
  template <typename Event>
  void event(Event&& give);
  void settle();
  void run(coherence::Action& action);
  void publish();
  void arm_timer();
  void interleave();
  void send_ping(std::uint64_t token);
  void ask_master(std::uint64_t token);
  void ask_candidate(const std::string& address, std::uint64_t token);
  void ask_sentinels(std::uint64_t token);
  void ask_history(const coherence::Action& action);
  void watch_candidates();
  [[nodiscard]] std::size_t server_at(std::string_view address) const;
  void bar_fills();
  void drop_l1();
  void mark(std::string_view key, Version version);
  void evict(std::string_view key, Version version);
  void forget_older(std::string_view key, Version version);
  void refresh(const coherence::Action& action);
  [[nodiscard]] bool is_dead(std::size_t key, std::uint64_t tags_generation, Version version) const;
  [[nodiscard]] std::uint64_t generation() const;  // Of M: of L1, and of the epoch.

  // --- cache_reads.cc
  [[nodiscard]] Vouch vouch() const;
  [[nodiscard]] std::optional<Entry> pin(std::size_t key, const Vouch& vouch);
  void peek(std::size_t key, const Vouch& vouch, const Seen& before);
  void check_clock(std::size_t key, const Vouch& vouch, const Entry& entry, const Seen& before);
  bool serve(std::size_t key, const Vouch& vouch, const Entry& entry, const Seen& before);
  void serve_stale(std::size_t key);
  void miss(std::size_t key, const Seen& before);
  void fetch(const FlightPtr& flight);
  void begin_fill(const FlightPtr& flight);
  void land_on_stored(const FlightPtr& flight, const Stored& found, std::function<void()> on_miss);
  void poll_fill(const FlightPtr& flight);
  void load(const FlightPtr& flight);
  void store_loaded(const FlightPtr& flight, std::uint32_t row);
  void abandon_fill(Flight& flight);
  void land(const FlightPtr& flight, const Stored& found, bool may_cache);
  void land_failed(const FlightPtr& flight);
  void put_into_l1(coherence::FillTable::Token token, const Stored& found);
  void saw(std::size_t key, const Seen& seen);

  // --- cache_writes.cc
  void send_write(std::size_t key, std::uint32_t write, bool is_delete, std::size_t replicas);
  void write_done(std::size_t key, bool is_delete, std::size_t replicas,
                  std::shared_ptr<coherence::FillTable::Token> token, Links::Ending ending,
                  const Reply& reply);
  void queue_invalidation(coherence::InvalidationKind kind, const std::string& name);
  void replay();

  Env& env_;
  Process& process_;
  const std::vector<RedisServer*> servers_;
  Database& database_;
  const std::uint64_t origin_;
  const MachineClock clock_;

  coherence::FillTable fills_{4};
  std::unique_ptr<l1::LruCache> l1_;
  coherence::LeaseCell cell_;
  MasterFinder finder_;
  Links links_;
  coherence::Session session_;
  coherence::Actions actions_;
  TimePoint timer_at_ = TimePoint::max();
  std::uint64_t timer_ = 0;
  bool is_interleaving_ = false;

  // Of the lease that was granted last.
  int stream_branch_ = -1;
  int lease_branch_ = -1;
  int l1_branch_ = -1;          // Whose values L1 holds.
  std::uint64_t l1_epoch_ = 0;  // That it was joined in last.
  coherence::WitnessMode lease_mode_{};
  bool had_lease_ = false;

  coherence::TagTable tags_;
  std::map<std::size_t, FlightPtr> flights_;  // The newest of each key.
  std::array<std::size_t, kKeys> flights_of_key_{};
  std::array<Seen, kKeys> seen_{};
  std::size_t flights_under_way_ = 0;
  std::size_t writes_under_way_ = 0;
  std::uint64_t nonces_ = 0;
  std::uint64_t fill_numbers_ = 0;
  coherence::InvalidationQueue queue_{coherence::InvalidationQueueOptions{}};
  bool is_replaying_ = false;
};

}  // namespace tiercel::sim
