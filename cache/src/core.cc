#include "core.h"

#include <algorithm>
#include <future>
#include <thread>
#include <utility>

#include "tagged_entry.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/chaos_hooks.h"
#include "write_queue.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;

// How often overdue waiters are answered: a call may end this much after its deadline.
constexpr Duration kExpireWaitersEvery = 5ms;
constexpr Duration kSweepL1Every = 50ms;
constexpr std::size_t kSweepEntries = 4096;
constexpr Duration kServerClockPatience = 500ms;

}  // namespace

Cache::Core::Core(CacheOptions options, coherence::Names names)
    : options_(std::move(options)), names_(std::move(names)) {}

Cache::Core::~Core() = default;

Result<std::shared_ptr<Cache::Core>> Cache::Core::create(CacheOptions options) {
  if (auto valid = validate(options); !valid) return valid.error();
  std::optional<l2::RedisOptions> redis = options.redis;
  if (!options.redis_url.empty()) {
    auto parsed = l2::parse_url(options.redis_url);
    if (!parsed) return parsed.error();
    redis = std::move(*parsed);
  }
  auto names = coherence::Names::create(options.name_space, redis ? redis->database : 0);
  if (!names) return names.error();

  std::shared_ptr<Core> core{new Core{std::move(options), std::move(*names)}};
  const CacheOptions& given = core->options_;
  core->origin_ = entropy_u64();
  core->seed_ = given.seed != 0 ? given.seed : entropy_u64();

  auto l1 =
      l1::LruCache::create({.capacity_bytes_max = given.l1_capacity_bytes_max,
                            .stripes = given.l1_stripes,
                            .eviction = given.l1_eviction,
                            .huge_pages = given.l1_huge_pages,
                            .hash_seed = given.seed != 0 ? std::optional{given.seed} : std::nullopt,
                            .clock = given.clock});
  if (!l1) return l1.error();
  core->l1_ = std::move(*l1);

  core->executor_ = given.executor;
  if (core->executor_ == nullptr) {
    auto pool = ThreadPool::create(given.loaders);
    if (!pool) return pool.error();
    core->own_executor_ = std::move(*pool);
    core->executor_ = core->own_executor_.get();
  }

  core->loop_ = std::make_unique<l2::EventLoop>();
  core->preloader_ = std::make_unique<Preloader>(
      *core->loop_, [core = core.get()] { return core->links_vouch(); });
  {
    MutexLock lock{core->l2_breaker_mutex_};
    if (given.l2_breaker) core->l2_breaker_.emplace(*given.l2_breaker);
  }
  if (auto started = core->loop_->start(); !started) return started.error();
  if (!redis) {
    core->open_locks(std::make_unique<LocalLockStore>(*given.clock));
    core->lease_cell_.grant(TimePoint::max());
    core->tags_.join({});
    return core;
  }
  const bool has_sentinels = !redis->sentinels.empty();
  const coherence::SessionOptions session{
      .lease = given.lease,
      .stream_timeout = given.stream_timeout,
      .has_sentinels = has_sentinels,
      .witness_min = given.witness_min.value_or(has_sentinels ? coherence::WitnessMode::kSentinels
                                                              : coherence::WitnessMode::kNone),
      .observes_foreign_writers = given.foreign_writers || !given.history};
  if (auto valid = coherence::validate(session); !valid) return valid.error();
  core->link_driver_ = std::make_unique<LinkDriver>(session, *given.clock, *core->loop_,
                                                    static_cast<LinkDriver::Host&>(*core),
                                                    core->names_, core->lease_cell_, given.log);
  if (given.invalidations_queued_max > 0) {
    core->invalidations_ = std::make_unique<coherence::InvalidationQueue>(
        coherence::InvalidationQueueOptions{.entries_max = given.invalidations_queued_max});
  }
  core->durable_writer_ =
      std::make_unique<DurableWriter>(*redis, *given.clock, given.log, *core->loop_);
  core->write_queue_ =
      std::make_unique<WriteQueue>(redis->queue_commands_max, redis->queue_bytes_max);
  core->call_bytes_max_ = std::min(Together::kBytesMax, redis->queue_bytes_max / 2);
  if (auto connected = core->connect(std::move(*redis)); !connected) return connected.error();
  if (given.audit_one_in) core->start_auditing();
  core->start_sampling();
  return core;
}

// On the loop thread, so that no link can report anything before the driver knows its client.
Result<void> Cache::Core::connect(l2::RedisOptions redis) {
  std::promise<Result<void>> opened;
  loop_->post([&] {
    auto client = l2::Client::open(
        {.redis = std::move(redis),
         .channel = names_.channel(),
         .track_prefix = options_.foreign_writers ? names_.value_key("") : std::string{},
         .observer = link_driver_.get(),
         .log = options_.log,
         .clock = options_.clock,
         .seed = options_.seed},
        *loop_);
    if (client) {
      client_ = std::move(*client);
      link_driver_->attach(*client_);
      open_locks(
          std::make_unique<RedisLockStore>(*client_, *durable_writer_, names_, *options_.clock));
      keep_lease_registered();
      keep_server_clock();
    }
    opened.set_value(client ? Result<void>{} : Result<void>{client.error()});
  });
  return opened.get_future().get();
}

void Cache::Core::open_locks(std::unique_ptr<LockStore> store) {
  locks_ =
      std::make_shared<LockService>(LockService::Config{.clock = *options_.clock,
                                                        .loop = *loop_,
                                                        .store = std::move(store),
                                                        .origin = origin_,
                                                        .seed = seed_,
                                                        .reply_timeout = options_.write_timeout,
                                                        .log = options_.log});
}

void Cache::Core::start_auditing() {
  auditor_ = std::make_unique<Auditor>(
      AuditorOptions{.one_in = *options_.audit_one_in,
                     .lease = options_.lease,
                     .has_history = options_.history,
                     .observes_foreign_writers = options_.foreign_writers},
      *options_.clock, *loop_, *client_, *link_driver_, names_, options_.log);
  auditor_->start();
}

void Cache::Core::close() {
  if (closed_.exchange(true)) return;
  // What has not been sent needs no word of the loop's, which may be held up by a callback.
  if (write_queue_) {
    for (const auto& write : write_queue_->close()) {
      write_done(write, closed("the cache was closed before the write was sent"), false);
    }
  }
  if (locks_) locks_->close();  // Before the loaders are waited for: one may wait for a lock,
  guards_.stop();               // or for a thread that a guard's enumeration holds.
  turn_all_away();
  close_looks();
  close_fill_calls();
  // Its last replies may let loads in that waited at the gate; they see that the cache is closed.
  if (durable_writer_) durable_writer_->close();
  if (client_) client_->close();
  turn_all_away();
  guards_.close();
  // Stopped, not destroyed: the client and the driver go before it, with this object.
  loop_->stop();
  close_unacknowledged();
  preloader_->close();
  own_executor_.reset();
}

// Lands every flight for those who move them: these find it landed, and only leave the gate.
void Cache::Core::turn_all_away() {
  for (Flights* flights : {&fetch_flights_, &load_flights_}) {
    for (const auto& flight : flights->all()) {
      auto landed = flights->land(flight);
      for (auto& waiter : landed.waiters) answer(waiter.callback, closed("the cache was closed"));
    }
  }
  MutexLock lock{loads_mutex_};
  while (loads_running_ > 0) loads_changed_.wait(loads_mutex_);
}

std::optional<Value> Cache::Core::try_get(std::string_view key, Freshness freshness,
                                          const std::shared_ptr<FillSource>& source) {
  Peek found = peek(key, freshness);
  const bool is_good_enough =
      found.kind == Peek::Kind::kHit ||
      (found.kind == Peek::Kind::kStale && source != nullptr && source->gives_stale_at_once());
  if (!is_good_enough) return std::nullopt;
  if (source != nullptr && (found.wants_refresh || found.kind == Peek::Kind::kStale)) {
    wish_refresh(key, source);
  }
  counters_.reads_l1.add();
  return std::move(found.value);
}

// The order of these steps is the contract: see coherence/lease.h. What vouches was loaded before.
template <typename IsGood>
Cache::Core::Peek Cache::Core::peek_by(std::string_view key, const Vouch& vouch, IsGood&& is_good) {
  const std::uint64_t generation = l1_->generation();
#ifdef TIERCEL_CHAOS_HOOKS
  const TimePoint began_at = now();
#endif
  const std::uint64_t tags_generation = tags_.generation();
  l1::Handle handle = l1_->pin(key);
  if (!handle) return {};
#ifdef TIERCEL_CHAOS_HOOKS
  std::this_thread::sleep_for(chaos_hooks().pause_before_clock);
  const TimePoint read_at = chaos_hooks().clock_before_value ? began_at : now();
#else
  const TimePoint read_at = now();
#endif
  if (handle.generation() != generation || read_at >= vouch.until || !is_good(handle)) {
    return {Peek::Kind::kRefused};
  }
  if (read_at >= handle.expires_at()) return {};
  Peek found;
  std::string_view bytes = handle.value();
  EntryTimes times;
  if ((handle.flags() & kFlagTimed) != 0) times = take_times(bytes);
  if ((handle.flags() & kFlagTagged) != 0) {
    const TaggedEntry entry{bytes};
    if (tags_.is_dead(tags_generation, handle.version(), entry.slots())) return {};
    bytes = entry.payload();
    if (read_at >= times.stale_at) [[unlikely]] {
      found.tags.emplace();
      for (const auto slot : entry.slots()) (void)found.tags->add(slot);
    }
  }
  if (sample_below_ != 0) {
    const std::uint64_t drawn = draw_hit();
    if (drawn < sample_below_) [[unlikely]] {
      take_sample(drawn, handle, bytes, vouch.proven_at, read_at);
    }
  }
  found.times = times;
  found.wants_refresh = read_at >= times.refresh_at;
  if ((handle.flags() & kFlagNegative) != 0) {
    found.kind = Peek::Kind::kAbsent;
    return found;
  }
  const Duration age_bound =
      is_local() ? Duration{0} : std::max(Duration{0}, read_at - vouch.proven_at);
  const bool was_stale = (handle.flags() & kFlagStale) != 0;
  found.kind = read_at >= times.stale_at ? Peek::Kind::kStale : Peek::Kind::kHit;
  found.expires_at = handle.expires_at();
  found.value.emplace(std::move(handle), bytes, age_bound);
  if (times.is_checked) found.value->set_checked();
  if (was_stale || found.kind == Peek::Kind::kStale) found.value->set_stale();
  return found;
}

Cache::Core::Vouch Cache::Core::vouch_for(Freshness freshness) const {
  if (is_local()) return {TimePoint::max(), TimePoint::max()};
  const TimePoint proven_at = lease_cell_.proven_at();
  if (freshness.kind() == Freshness::Kind::kAtMost) {
    return {proven_at + freshness.age(), proven_at};
  }
  return {lease_cell_.until(), proven_at};
}

Cache::Core::Peek Cache::Core::peek(std::string_view key, Freshness freshness) {
  if (freshness.kind() == Freshness::Kind::kLatest) return {};
  // 0 but for at_least, so that all other entries are new enough.
  Peek found = peek_by(key, vouch_for(freshness), [&freshness](const l1::Handle& handle) {
    return handle.version() >= freshness.version();
  });
  if (found.kind == Peek::Kind::kRefused) {
    counters_.lease_refusals.fetch_add(1, std::memory_order_relaxed);
  }
  return found;
}

Cache::Core::Peek Cache::Core::peek_stale(std::string_view key, Duration age_max) {
  const TimePoint proven_at = lease_cell_.proven_at();
  return peek_by(key, {proven_at + age_max, proven_at}, [](const l1::Handle&) { return true; });
}

// What the server does not do now it may do later: WRONGTYPE, OOM, MISCONF, NOPERM, …
Error Cache::Core::refused_by_server(const l2::Reply& reply) {
  constexpr std::size_t kTextMax = 300;
  return unavailable("Redis answered: " +
                     (reply.is_error() ? reply.text.substr(0, kTextMax)
                                       : std::string{"something that the script never returns"}));
}

// Replies come on the loop thread, where the state of the links is known; what comes elsewhere is
// an error or a load that was not stored. Without Redis there is nothing that could contradict.
bool Cache::Core::links_vouch() const {
  return is_local() || (loop_->on_loop_thread() && link_driver_->fills_allowed());
}

Result<void> Cache::Core::check_ttl(std::chrono::milliseconds ttl) {
  if (ttl >= 1ms && ttl <= kTtlMax) return {};
  return invalid_argument("ttl is " + std::to_string(ttl.count()) +
                          " ms; it must be 1 ms to 10 years");
}

Result<void> Cache::Core::check_value(std::string_view what, std::string_view bytes) const {
  if (bytes.size() <= options_.value_bytes_max) return {};
  return invalid_argument(std::string{what} + " has " + std::to_string(bytes.size()) +
                          " bytes; value_bytes_max is " + std::to_string(options_.value_bytes_max));
}

Cache::Core::Life Cache::Core::life_of(Life own, bool negative) {
  if (own) return own;
  return shortened(negative ? options_.negative_ttl : options_.ttl, options_.ttl_jitter);
}

Cache::Core::Life Cache::Core::shortened(Life life, double jitter) {
  if (!life) return std::nullopt;
  Random random{seed_ + draws_.fetch_add(1, std::memory_order_relaxed)};
  const double kept = 1.0 - jitter * random.unit();
  const auto left = static_cast<std::int64_t>(static_cast<double>(life->count()) * kept);
  return std::chrono::milliseconds{std::max<std::int64_t>(1, left)};
}

TimePoint Cache::Core::end_of(Life life, TimePoint from) {
  return life ? from + *life : TimePoint::max();
}

std::string Cache::Core::ttl_argument(Life life) {
  return std::to_string(life.value_or(std::chrono::milliseconds{0}).count());
}

std::optional<coherence::Version> Cache::Core::stored_version(const Result<l2::Reply>& reply) {
  if (!reply || !reply->is_string() || reply->text.size() != sizeof(coherence::Version)) {
    return std::nullopt;
  }
  return read_u64_be(reply->text.data());
}

void Cache::Core::start_sweeping() {
  if (sweeping_.exchange(true, std::memory_order_acq_rel)) return;
  loop_->post([this] { sweep_l1(); });
}

void Cache::Core::sweep_l1() {
  l1_->sweep(kSweepEntries);
  loop_->run_after(kSweepL1Every, [this] { sweep_l1(); });
}

void Cache::Core::tell_lease() {
  register_lease(now() + kReplayTimeout, [](const Result<std::chrono::milliseconds>&) {});
}

void Cache::Core::keep_lease_registered() {
  loop_->run_after(kRegisterLeaseEvery, [this] {
    tell_lease();
    keep_lease_registered();
  });
}

void Cache::Core::ask_server_clock() {
  const TimePoint sent_at = now();
  client_->submit(l2::Command{l2::Retry::kIfNotSent, {"TIME"}}, sent_at + kServerClockPatience,
                  [this, sent_at](const Result<l2::Reply>& reply) {
                    if (!reply || reply->elements.size() != 2) return;
                    const auto seconds = parse_u64(reply->elements[0].text);
                    const auto micros = parse_u64(reply->elements[1].text);
                    if (!seconds || !micros) return;
                    const auto ms = static_cast<std::int64_t>(*seconds * 1000 + *micros / 1000);
                    server_clock_.said(sent_at, std::chrono::milliseconds{ms});
                  });
}

void Cache::Core::keep_server_clock() {
  if (link_driver_->is_data_up()) ask_server_clock();
  loop_->run_after(ServerClock::kAskEvery, [this] { keep_server_clock(); });
}

void Cache::Core::start_expiring() {
  if (expiring_.exchange(true)) return;  // In one order with reads_waiting.
  loop_->post([this] { expire_waiters(); });
}

void Cache::Core::expire_waiters() {
  for (Flights* flights : {&fetch_flights_, &load_flights_}) {
    auto overdue = flights->take_overdue(now());
    if (overdue.empty()) continue;
    const auto trouble = client_ ? client_->data_trouble() : std::nullopt;
    const Error late = trouble ? unavailable("no answer within the deadline: " + trouble->message,
                                             trouble->endpoint)
                               : unavailable("no answer within the deadline");
    for (auto& [flight, waiter, stale] : overdue) {
      if (stale) {
        answer_stale(waiter, *flight, *stale);
      } else {
        answer(waiter.callback, late);
      }
    }
  }
  // Stops while nobody waits, so that an idle cache does not wake the processor. The flag is
  // lowered before the count is looked at again, and raised after it is counted (get()): whoever
  // comes in between is seen by one.
  if (counters_.reads_waiting.load() == 0) {
    expiring_.store(false);
    if (counters_.reads_waiting.load() == 0 || expiring_.exchange(true)) return;
  }
  loop_->run_after(kExpireWaitersEvery, [this] { expire_waiters(); });
}

Result<void> Cache::Core::wait_until_ready(std::chrono::milliseconds timeout) {
  if (is_local()) return {};
  const TimePoint deadline = now() + std::min(timeout, kTimeoutMax);
  for (;;) {
    if (link_driver_->is_data_up() && lease_cell_.until() > now()) return {};
    auto trouble = client_->data_trouble();
    if (!trouble) trouble = client_->stream_trouble();
    if (trouble && trouble->code == ErrorCode::kInvalidArgument) return *trouble;
    const Duration left = deadline - now();
    if (left <= Duration{0}) {
      if (trouble) return unavailable(trouble->message, trouble->endpoint);
      return unavailable("the subscription has not proven itself yet");
    }
    // The cap bounds how late a refused password is noticed, which changes no link.
    link_driver_->wait_for_change(std::min<Duration>(left, 20ms));
  }
}

LeaseInfo Cache::Core::lease() const {
  if (is_local()) {
    return {.held = true,
            .remaining = std::chrono::milliseconds::max(),
            .epoch = {},
            .master = {},
            .mode = LeaseMode::kLocal,
            .why = {}};
  }
  return link_driver_->lease();
}

CacheStats Cache::Core::stats() const {
  const auto value = [](const auto& counter) { return counter.load(std::memory_order_relaxed); };
  CacheStats stats;
  stats.l1 = l1_->stats();
  if (client_) {
    stats.l2 = client_->stats();
    const auto counts = link_driver_->counts();
    stats.messages = counts.messages;
    stats.messages_unreadable = counts.messages_unreadable;
    stats.epochs = counts.epochs;
    stats.epochs_warm = counts.epochs_warm;
  }
  stats.reads_l1 = counters_.reads_l1.value();
  stats.reads_l2 = value(counters_.reads_l2);
  stats.reads_loader = value(counters_.reads_loader);
  stats.reads_absent = counters_.reads_absent.value();
  stats.reads_failed = value(counters_.reads_failed);
  stats.reads_joined = value(counters_.reads_joined);
  stats.lease_refusals = value(counters_.lease_refusals);
  stats.reads_stale = value(counters_.reads_stale);
  stats.loads = value(counters_.loads);
  stats.loads_failed = value(counters_.loads_failed);
  stats.loads_not_stored = value(counters_.loads_not_stored);
  stats.loads_past_l2 = value(counters_.loads_past_l2);
  {
    MutexLock lock{l2_breaker_mutex_};
    if (l2_breaker_) stats.l2_breaker = l2_breaker_->state(now());
  }
  stats.fills = value(counters_.fills);
  stats.refreshed = value(counters_.refreshed);
  stats.fills_dropped = value(counters_.fills_dropped);
  stats.writes_acknowledged = value(counters_.writes_acknowledged);
  stats.writes_failed = value(counters_.writes_failed);
  stats.writes_unknown = value(counters_.writes_unknown);
  stats.values_corrupt = value(counters_.values_corrupt);
  stats.values_foreign = value(counters_.values_foreign);
  stats.l1_drops = value(counters_.l1_drops);
  const auto locks = locks_->counts();
  stats.locks_held = locks.held;
  stats.locks_waiting = locks.waiting;
  stats.locks_granted = locks.granted;
  stats.locks_lost = locks.lost;
  if (invalidations_) {
    const auto queue = invalidations_->counters();
    stats.invalidations_queued = queue.entries;
    stats.invalidations_collapsed = queue.collapsed;
  }
  stats.reads_waiting = value(counters_.reads_waiting);
  if (auditor_) stats.audit = auditor_->stats();
  return stats;
}

}  // namespace tiercel
