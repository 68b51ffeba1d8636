#pragma once

// Cache::Core: the one asynchronous core behind the blocking, callback and awaitable skins.
//
//   core.cc        life cycle, L1 look-up, statistics, background duties
//   reads.cc       a miss: flight, fetch from Redis; loads.cc: load, store-back
//   fill_calls.cc  begin_fill and finish_fill of several keys in one call
//   replay.cc      invalidations that could not be sent
//   changes.cc     what messages, own and others', do to L1
//   writes.cc      set and the invalidations; durable_writer.* those that wait for copies
//   lock*          locks, in a class of their own (lock_service.h)
//   write_queue.*  sets that wait at the same moment leave together
//   link_driver.*  runs the coherence protocol on the loop thread
//   guards.cc      Bloom guards of keyspaces: what they are told, and what they refuse
//   auditor.*      compares some of L1's answers with the master, afterwards
//   background.cc  preloads, hot keys, refreshes that try_get has asked for
//
// Threads. Reads and writes start on any thread and are moved on by replies on the loop thread and
// by loads on the executor. What belongs to one thread is marked so. The loop's tasks hold a plain
// `this`: close() stops the loop before the core can go. The executor's hold a shared_ptr, and
// close() waits for them.
//
// Lock order: Flights' stripe, FillTable's stripe, L1's stripe. No callback and no I/O under any of
// them.

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "auditor.h"
#include "durable_writer.h"
#include "fill_batch.h"
#include "fill_source.h"
#include "fill_waits.h"
#include "flights.h"
#include "guard_table.h"
#include "hot_keys.h"
#include "learned.h"
#include "link_driver.h"
#include "lock_service.h"
#include "outbox.h"
#include "preloader.h"
#include "ring.h"
#include "server_clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"
#include "tiercel/base/striped_counter.h"
#include "tiercel/cache/cache.h"
#include "tiercel/coherence/fill_table.h"
#include "tiercel/coherence/invalidation_queue.h"
#include "tiercel/coherence/lease.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/tag_table.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/l2/client.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"
#include "together.h"
#include "words.h"

namespace tiercel {

using WriteCallback = UniqueFunction<void(WriteResult)>;

class Cache::Core : public std::enable_shared_from_this<Cache::Core>, private LinkDriver::Host {
 public:
  static Result<std::shared_ptr<Core>> create(CacheOptions options);
  ~Core() override;
  void close();

  // `source`: of a keyspace's reads, or nullptr.
  std::optional<Value> try_get(std::string_view key, Freshness freshness,
                               const std::shared_ptr<FillSource>& source);
  void get(std::string_view key, const ReadOptions& options, ReadCallback callback);
  void get_many(std::span<const std::string_view> keys, const ReadOptions& options,
                UniqueFunction<void(std::vector<ReadResult>)> callback);
  void set(std::string_view key, std::string_view value, const WriteOptions& options,
           WriteCallback callback);
  void invalidate(std::string_view key, const WriteOptions& options, WriteCallback callback);
  void invalidate_many(std::span<const std::string_view> keys, const WriteOptions& options,
                       WriteCallback callback);
  void invalidate_tag(std::string_view tag, const WriteOptions& options, WriteCallback callback);
  void clear(const WriteOptions& options, WriteCallback callback);

  Result<void> preload(std::vector<std::string> keys, const PreloadOptions& options,
                       ReadOptions reads, PreloadCallback done);
  Result<void> warm_up(const PreloadOptions& options, PreloadCallback done);
  // Errors: kConflict, where a keyspace of that name has had another codec.
  Result<void> add_source(const std::shared_ptr<FillSource>& source)
      TIERCEL_EXCLUDES(sources_mutex_);

  Result<void> wait_until_ready(std::chrono::milliseconds timeout);
  LeaseInfo lease() const;
  CacheStats stats() const;

  [[nodiscard]] const Clock& clock() const noexcept { return *options_.clock; }
  [[nodiscard]] LockService& locks() noexcept { return *locks_; }

  // Errors: kConflict, where the keyspace has one; kInvalidArgument; kClosed.
  Result<std::shared_ptr<KeyGuard>> open_guard(const std::string& keyspace,
                                               BloomGuardOptions options);

  [[nodiscard]] bool on_loop_thread() const noexcept { return loop_->on_loop_thread(); }

 private:
  // kRefused: L1 has an entry, which is not proven to be as fresh as it was asked for. kStale: it
  // has one whose life has ended (FillPolicy::stale_max).
  struct Peek {
    enum class Kind : std::uint8_t { kMiss, kRefused, kHit, kAbsent, kStale } kind = Kind::kMiss;
    std::optional<Value> value{};
    EntryTimes times{};
    TimePoint expires_at{};
    std::optional<serialization::TagSlots> tags{};  // Of what is stale.
    bool wants_refresh = false;                     // A hit whose life is about to end.

    [[nodiscard]] bool is_answer() const noexcept {
      return kind == Kind::kHit || kind == Kind::kAbsent;
    }
  };
  struct Write;
  class WriteQueue;
  using Life = std::optional<std::chrono::milliseconds>;  // nullopt: for ever.

  // What PTTL says of a key that is not there; then nothing says how long the value may live.
  static constexpr std::int64_t kTtlMissing = -2;
  static constexpr std::int64_t kTtlNotAsked = -3;  // Ours, and not PTTL's.
  static constexpr std::uint32_t kReplicasMax = 64;
  static constexpr std::chrono::milliseconds kReplayTimeout{5000};
  static constexpr std::chrono::milliseconds kReplayAgainAfter{100};
  // Redis forgets an instance's Δ after this; each epoch tells it anew, and so do each fence, each
  // drop of L1 and a timer.
  static constexpr std::chrono::milliseconds kLeaseRegistryLife = std::chrono::hours{24};
  static constexpr std::chrono::milliseconds kRegisterLeaseEvery = std::chrono::hours{1};

  Core(CacheOptions options, coherence::Names names);

  // --- core.cc
  Peek peek(std::string_view key, Freshness freshness);
  Peek peek_stale(std::string_view key, Duration age_max);
  // Of what was pinned after these two were loaded.
  struct Vouch {
    TimePoint until;      // The entry may be given while the clock is before it.
    TimePoint proven_at;  // It reflects all that was acknowledged before.
  };
  [[nodiscard]] Vouch vouch_for(Freshness freshness) const;
  template <typename IsGood>
  Peek peek_by(std::string_view key, const Vouch& vouch, IsGood&& is_good);
  [[nodiscard]] bool is_local() const noexcept { return client_ == nullptr; }
  [[nodiscard]] TimePoint now() const noexcept { return options_.clock->now(); }
  static Result<void> check_ttl(std::chrono::milliseconds ttl);
  Result<void> check_value(std::string_view what, std::string_view bytes) const;
  [[nodiscard]] Life life_of(Life own, bool negative);
  [[nodiscard]] Life shortened(Life life, double jitter);
  static TimePoint end_of(Life life, TimePoint from);
  static std::string ttl_argument(Life life);  // As the scripts take it.
  // What the scripts that store answer; nothing where they did not.
  static std::optional<coherence::Version> stored_version(const Result<l2::Reply>& reply);
  Result<void> connect(l2::RedisOptions redis);
  void open_locks(std::unique_ptr<LockStore> store);
  void start_auditing();
  void turn_all_away();
  void start_sweeping();  // L1, of what has expired. Any thread.
  void sweep_l1();        // Loop thread.
  void tell_lease();
  void keep_lease_registered();
  void ask_server_clock();
  void keep_server_clock();
  void start_expiring();  // Waiters that are overdue. Any thread, after reads_waiting was raised.
  void expire_waiters();  // Loop thread.
  static Error refused_by_server(const l2::Reply& reply);
  [[nodiscard]] bool links_vouch() const;  // For what has just come: may it go into L1?

  // --- background.cc
  void take_sample(std::uint64_t drawn, const l1::Handle& entry, std::string_view payload,
                   TimePoint proven_at, TimePoint read_at) noexcept;
  void start_sampling();
  void count_hot_keys();
  void tell_hot_keys();
  std::shared_ptr<FillSource> source_of(std::string_view key) TIERCEL_EXCLUDES(sources_mutex_);
  void wish_refresh(std::string_view key, const std::shared_ptr<FillSource>& source);
  void take_refresh_wishes();

  // --- changes.cc
  void bar_fills() override;
  void empty_l1();
  void drop_l1() override;
  void evict(std::string_view key, coherence::Version version) override;
  void refresh(std::string_view key, coherence::Version version, std::string_view stored) override;
  void forget_tag(std::string_view tag, coherence::Version version) override;
  void clear_before(coherence::Version version) override;
  void forget_tags() override;
  void join_tags(const coherence::TagBaseline& tags) override;
  void fill_done(std::string_view key) override;
  void data_is_up() override;
  void forget_older(std::string_view key, coherence::Version version);
  void put_into_l1(coherence::FillTable::Token token, const Found& found, TimePoint expires_at);
  // nullptr: a negative entry.
  Result<void> insert_into_l1(std::string_view key, const std::string* value,
                              const serialization::TagSlots& tags, l1::EntryMeta meta,
                              const EntryTimes& times = {});

  // --- guards.cc
  void follow(const std::string& branch) override;
  [[nodiscard]] bool is_refused(std::string_view key, const ReadOptions& options) const;

  // --- reads.cc
  static bool is_wrong_type(const l2::ReplyView& reply);
  Result<void> check_call(std::string_view key,
                          std::optional<std::chrono::milliseconds> timeout) const;
  Result<void> check_read(std::string_view key, const ReadOptions& options) const;
  void answer_peeked(ReadCallback& callback, Peek found);
  void fetch(const std::shared_ptr<Flight>& flight, TimePoint deadline);
  void fetch_with_life(const std::shared_ptr<Flight>& flight, TimePoint deadline);
  void ask_life(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] Learned& learned_of(const Flight& flight);
  [[nodiscard]] std::optional<TimePoint> end_of_stored(const serialization::StoredValue& stored,
                                                       TimePoint sent_at) const;
  void fetch_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at, std::int64_t ttl_ms,
                  const Result<l2::ReplyView>& reply);
  void land_absent(const std::shared_ptr<Flight>& flight, TimePoint sent_at);
  void land_on_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at, std::int64_t ttl_ms,
                      std::string_view bytes);
  void pass_over_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at);
  void ask_whether_dead(const Found& found, UniqueFunction<void(Result<bool>)> then);
  [[nodiscard]] Flights& flights_of(const Flight& flight);
  void answer(ReadCallback& callback, ReadResult result);
  void land(const std::shared_ptr<Flight>& flight, Found found, TimePoint expires_at,
            bool may_cache);
  void land_failed(const std::shared_ptr<Flight>& flight, const Error& error);
  void answer_stale(Waiter& waiter, const Flight& flight, const Found& stale);
  void leave_gate(Flight& flight);
  void get_with(std::string_view key, const ReadOptions& options, ReadCallback callback,
                const std::shared_ptr<FillBatch>& batch);
  void offer_stale_of_l1(Flights& flights, const std::shared_ptr<Flight>& flight,
                         Freshness freshness);
  void begin(const std::shared_ptr<Flight>& flight, TimePoint deadline);
  void start_refresh(std::string_view key, const std::shared_ptr<FillSource>& source);
  void begin_refresh(std::string_view key, const std::shared_ptr<FillSource>& source);
  static void note_hit(std::string_view key, const ReadOptions& options, const Peek& found);

  // --- fill_calls.cc
  using FlightPtr = std::shared_ptr<Flight>;
  using FlightPtrs = std::vector<FlightPtr>;
  // A loaded value on its way into Redis.
  struct FinishedLoad {
    FlightPtr flight;
    Found found;
    TimePoint expires_at{};
    Life life{};
    std::string envelope{};
  };
  [[nodiscard]] std::string fill_token(const Flight& flight) const;
  [[nodiscard]] static std::chrono::milliseconds left_min_of(const Flight& flight);
  static const Flight& flight_of(const FlightPtr& flight) { return *flight; }
  static const Flight& flight_of(const FinishedLoad& load) { return *load.flight; }
  template <typename T>
  [[nodiscard]] Words fill_keys(std::span<const T> items) const;
  void begin_fill(const FlightPtr& flight);
  void send_begins();  // Loop thread.
  void submit_begins(std::span<const FlightPtr> flights);
  void finish_fill(FinishedLoad load);
  void send_finishes();  // Loop thread.
  void submit_finishes_in_calls(std::span<FinishedLoad> finishes);
  void submit_finishes(std::span<FinishedLoad> given);  // Such as count_together() says.
  void store_done(FinishedLoad& load, const Result<l2::Reply>& reply);
  void abandon_fill(Flight& flight);
  void close_fill_calls();

  // --- looks.cc
  // At what Redis has, by a flight that counts on finding it.
  struct Look {
    FlightPtr flight;
    TimePoint deadline;
  };
  void look(const FlightPtr& flight, TimePoint deadline);
  void look_done(const FlightPtr& flight, TimePoint sent_at, const Result<l2::ReplyView>& reply);
  void send_looks();       // Loop thread,
  void send_many_looks();  // likewise,
  [[nodiscard]] std::size_t count_looks_together(std::span<const Look> looks);
  void submit_looks(std::span<Look> looks);  // and this.
  void close_looks();

  // --- loads.cc
  void look_before_load(const std::shared_ptr<Flight>& flight);
  void look_before_load_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                             const Result<l2::ReplyView>& reply);
  bool passes_l2(const std::shared_ptr<Flight>& flight);
  [[nodiscard]] bool l2_may_be_asked() TIERCEL_EXCLUDES(l2_breaker_mutex_);
  void l2_has_answered(bool did) TIERCEL_EXCLUDES(l2_breaker_mutex_);
  void begin_fill_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                       Result<l2::Reply> reply);
  void await_fill(const std::shared_ptr<Flight>& flight, TimePoint asked_at, std::int64_t lease_ms);
  void queue_load(const std::shared_ptr<Flight>& flight);
  void pass_gate(const std::shared_ptr<Flight>& flight);
  void offer_old(const std::shared_ptr<Flight>& flight, TimePoint sent_at, const l2::Reply& old,
                 std::int64_t ttl_ms);
  void start_load(const std::shared_ptr<Flight>& flight);
  void leave_batch(Flight& flight);
  void start_loads(FlightPtrs flights);
  void post_loads(const std::shared_ptr<FlightPtrs>& flights);
  void fail_loads(const FlightPtrs& flights, const Error& error);
  void load(const FlightPtrs& flights);
  Result<void> check_loaded(const Loaded& loaded) const;
  void store_loaded(const std::shared_ptr<Flight>& flight, std::optional<Loaded> loaded,
                    const serialization::TagSlots& tags, TimePoint began_at);
  [[nodiscard]] Life life_of(const FillSource& source, Life own, bool negative);
  [[nodiscard]] static Life kept_for(const FillSource& source, Life soft);
  [[nodiscard]] static EntryTimes times_of(const FillSource* source, Life soft, TimePoint stale_at);

  // --- replay.cc
  void queue_invalidation(coherence::InvalidationKind kind, const std::vector<std::string>& names);
  void replay();
  void send_batch(coherence::InvalidationQueue::Batch batch);

  // --- writes.cc
  Result<void> check_options(const WriteOptions& options, bool is_set) const;
  static Result<serialization::TagSlots> tag_slots_of(const std::vector<std::string>& tags);
  void set_locally(Write& write, const WriteOptions& options, WriteCallback callback);
  std::uint64_t local_version(std::string_view key);
  void invalidate_locally(const std::vector<std::string>& keys, WriteCallback callback);
  void send(std::shared_ptr<Write> write, const WriteOptions& options, TimePoint sent_at);
  void durable_write_done(const std::shared_ptr<Write>& write, DurableWriter::Outcome outcome);
  void write_done(const std::shared_ptr<Write>& write, Result<l2::Reply> reply, bool comparable);
  static Error refusal_of(const l2::Reply& reply);
  void acknowledge(const std::shared_ptr<Write>& write, Written written);
  void acknowledge_after(Duration delay, const std::shared_ptr<Write>& write,
                         UniqueFunction<void()> then);
  void close_unacknowledged();
  void register_lease(TimePoint deadline,
                      UniqueFunction<void(Result<std::chrono::milliseconds>)> done) override;
  Result<std::string> encode_change(serialization::MessageKind kind, std::vector<std::string> keys,
                                    std::optional<std::string> value = std::nullopt);

  // --- write_queue.cc
  void send_alone(const std::shared_ptr<Write>& write);
  void send_waiting();  // Loop thread, as is the next.
  void send_together(std::span<const std::shared_ptr<Write>> writes);

  // Immutable after create().
  const CacheOptions options_;
  const coherence::Names names_;
  std::uint64_t origin_ = 0;  // Names this instance in messages and fill tokens.
  std::uint64_t seed_ = 0;
  // Of what several reads or fills take in one call, at most half of what may wait in the client,
  // so that what the protocol adds finds room.
  std::size_t call_bytes_max_ = Together::kBytesMax;
  std::unique_ptr<l1::LruCache> l1_;
  std::unique_ptr<Executor> own_executor_;
  Executor* executor_ = nullptr;
  std::unique_ptr<l2::EventLoop> loop_;
  std::unique_ptr<l2::Client> client_;             // Null when there is no Redis.
  std::unique_ptr<LinkDriver> link_driver_;        // Likewise,
  std::unique_ptr<DurableWriter> durable_writer_;  // this,
  std::unique_ptr<WriteQueue> write_queue_;        // and this.
  std::shared_ptr<LockService> locks_;             // Shared with the handles.
  std::unique_ptr<Auditor> auditor_;               // Null, too, where none is wanted.

  // Thread-safe by themselves.
  coherence::LeaseCell lease_cell_;
  coherence::FillTable fills_;
  coherence::TagTable tags_;
  Flights fetch_flights_{fills_};  // Of reads without a loader,
  Flights load_flights_{fills_};   // and with one.
  LoadGate load_gate_;
  Outbox<Look> looks_;  // What waits for the loop thread to send it;
  Outbox<FlightPtr> begins_;
  Outbox<FinishedLoad> finishes_;
  std::atomic<bool> closed_{false};
  std::atomic<bool> sweeping_{false};
  std::atomic<bool> expiring_{false};
  std::atomic<std::uint64_t> draws_{0};   // Of random numbers.
  std::atomic<std::uint64_t> nonces_{0};  // Of messages.
  std::atomic<std::uint64_t> fill_numbers_{0};
  std::atomic<std::uint64_t> local_versions_{0};

  GuardTable guards_;
  std::string branch_;  // That the guards' filters belong to. Loop thread only.

  // Writes that are done and must not be acknowledged yet. Loop thread only, until it has stopped.
  std::map<l2::EventLoop::TimerId, std::shared_ptr<Write>> unacknowledged_;
  FillWaits fill_waits_;      // Loop thread only,
  ServerClock server_clock_;  // and this.
  Learned fetches_learned_;   // Of reads without a loader,
  Learned loads_learned_;     // and of those with one that is no keyspace's.

  // Immutable after create(): a hit that draws less is for the auditor, or for hot_keys_.
  std::uint64_t sample_below_ = 0;
  std::unique_ptr<HotKeys> hot_keys_;  // Null where they are not kept.
  std::unique_ptr<Preloader> preloader_;

  Mutex sources_mutex_;  // A leaf.
  struct NamedSource {
    std::weak_ptr<FillSource> source;
    std::uint32_t codec_id;  // What was checked by one codec must not be viewed by another.
  };
  std::map<std::string, NamedSource, std::less<>> sources_ TIERCEL_GUARDED_BY(sources_mutex_);
  struct RefreshWish {
    NotedKey key;
    std::shared_ptr<FillSource> source;
  };
  Ring<RefreshWish, 256> wishes_;
  std::atomic<bool> taking_wishes_{false};

  // Whether reads that have a loader still ask Redis. Nothing has failed lately: nothing is
  // counted.
  std::atomic<bool> l2_is_suspect_{false};
  mutable Mutex l2_breaker_mutex_;  // A leaf.
  std::optional<CircuitBreaker> l2_breaker_ TIERCEL_GUARDED_BY(l2_breaker_mutex_);

  std::unique_ptr<coherence::InvalidationQueue> invalidations_;  // Null: none are kept.
  bool is_replaying_ = false;                                    // Loop thread only.

  // Loads accepted by the executor and not yet finished; close() waits until there are none.
  Mutex loads_mutex_;
  CondVar loads_changed_;
  std::size_t loads_running_ TIERCEL_GUARDED_BY(loads_mutex_) = 0;

  struct Counters {
    StripedCounter reads_l1, reads_absent;  // Raised by hits.
    std::atomic<std::uint64_t> reads_l2{0}, reads_loader{0}, reads_failed{0}, reads_joined{0},
        reads_stale{0}, lease_refusals{0}, loads{0}, loads_failed{0}, refreshed{0},
        loads_not_stored{0}, loads_past_l2{0}, fills{0}, fills_dropped{0}, writes_acknowledged{0},
        writes_failed{0}, writes_unknown{0}, values_corrupt{0}, values_foreign{0}, l1_drops{0};
    std::atomic<std::size_t> reads_waiting{0};
  };
  Counters counters_;
};

}  // namespace tiercel
