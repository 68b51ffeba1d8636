// A read that L1 does not answer.
//
//   get ── joins a flight ──────────────────────────────────────────────► answered when that lands
//     └─── begins one: fetch ──► value ─────────────────────────────────► land
//            (GET, or              └► miss, nobody has a loader ────────► land, absent
//             begin_fill if        └► ours to load: enter_load, load, store_loaded ─► land
//             there is a loader)   └► someone else loads: poll_fill, begin_fill again
//
// A flight is moved on by one thread at a time: by the thread that began it, then by replies on the
// loop thread, then by its loader on the executor, then by the store's reply on the loop thread. It
// lands exactly once.
//
// Order at the landing (contract C2, C3): nobody can join any more, then the value goes into L1 if
// the token is still good, then the waiters are told, then the next load of the key may enter.

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "core.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/check.h"
#include "tiercel/coherence/scripts.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds kTimeoutMax = 1h;
constexpr milliseconds kPollFirst = 10ms;
constexpr milliseconds kPollMax = 200ms;

const l2::Script& begin_fill_script() {
  static const l2::Script script{coherence::kBeginFillScript};
  return script;
}
const l2::Script& finish_fill_script() {
  static const l2::Script script{coherence::kFinishFillScript};
  return script;
}
const l2::Script& abandon_fill_script() {
  static const l2::Script script{coherence::kAbandonFillScript};
  return script;
}

// A key that holds something else than a string: no writer of ours made it.
bool is_wrong_type(const l2::Reply& reply) {
  return reply.is_error() && reply.text.find("WRONGTYPE") != std::string::npos;
}

Result<std::optional<Loaded>> run_loader(const Loader& loader, std::string_view key) {
  try {
    return loader(key);
  } catch (const std::exception& thrown) {
    return internal(std::string{"the loader threw: "} + thrown.what());
  } catch (...) {
    return internal("the loader threw something that is no std::exception");
  }
}

}  // namespace

Result<void> Cache::Core::check_read(std::string_view key, const ReadOptions& options) const {
  if (key.size() > kKeyBytesMax) {
    return invalid_argument("the key has " + std::to_string(key.size()) + " bytes; at most " +
                            std::to_string(kKeyBytesMax) + " are allowed");
  }
  if (options.timeout && (*options.timeout < 1ms || *options.timeout > kTimeoutMax)) {
    return invalid_argument("timeout is " + std::to_string(options.timeout->count()) +
                            " ms; it must be 1 ms to 1 h");
  }
  if (closed_.load(std::memory_order_acquire)) return closed("the cache was closed");
  return {};
}

void Cache::Core::get(std::string_view key, const ReadOptions& options, ReadCallback callback) {
  if (auto valid = check_read(key, options); !valid) return callback(valid.error());
  if (Peek found = peek(key); found.kind != Peek::Kind::kMiss) {
    const bool hit = found.kind == Peek::Kind::kHit;
    (hit ? counters_.reads_l1 : counters_.reads_absent).fetch_add(1, std::memory_order_relaxed);
    return callback(ReadResult{std::move(found.value)});
  }
  if (is_local() && !options.loader) {
    counters_.reads_absent.fetch_add(1, std::memory_order_relaxed);
    return callback(ReadResult{std::optional<Value>{}});
  }
  if (counters_.reads_waiting.fetch_add(1) >= options_.reads_waiting_max) {
    counters_.reads_waiting.fetch_sub(1);
    counters_.reads_failed.fetch_add(1, std::memory_order_relaxed);
    return callback(overloaded("reads_waiting_max (" + std::to_string(options_.reads_waiting_max) +
                               ") reads already wait"));
  }
  start_expiring();
  const TimePoint deadline = now() + options.timeout.value_or(options_.read_timeout);
  const auto [flight, begun] = flights_.board(
      key, Waiter{.callback = std::move(callback), .deadline = deadline, .has_loader = false},
      options.loader);
  if (!begun) {
    counters_.reads_joined.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  begin_fetch(flight, deadline);
}

void Cache::Core::get_many(std::span<const std::string_view> keys, const ReadOptions& options,
                           UniqueFunction<void(std::vector<ReadResult>)> callback) {
  struct Gathering {
    std::atomic<std::size_t> missing;
    std::vector<std::optional<ReadResult>> results;
    UniqueFunction<void(std::vector<ReadResult>)> callback;

    void arrived() {
      if (missing.fetch_sub(1, std::memory_order_acq_rel) != 1) return;
      std::vector<ReadResult> all;
      all.reserve(results.size());
      for (auto& result : results) all.push_back(std::move(*result));
      callback(std::move(all));
    }
  };
  auto gathering = std::make_shared<Gathering>();
  gathering->missing = keys.size() + 1;  // One more, so that nothing ends before all have begun.
  gathering->results.resize(keys.size());
  gathering->callback = std::move(callback);
  // What misses is submitted before the loop comes round, so it leaves in one pipeline.
  for (std::size_t i = 0; i < keys.size(); ++i) {
    get(keys[i], options, [gathering, i](ReadResult result) {
      gathering->results[i].emplace(std::move(result));
      gathering->arrived();
    });
  }
  gathering->arrived();
}

void Cache::Core::answer(ReadCallback& callback, ReadResult result) {
  counters_.reads_waiting.fetch_sub(1);
  auto& counter = !result                          ? counters_.reads_failed
                  : !*result                       ? counters_.reads_absent
                  : (*result)->tier() == Tier::kL2 ? counters_.reads_l2
                  : (*result)->tier() == Tier::kL1 ? counters_.reads_l1
                                                   : counters_.reads_loader;
  counter.fetch_add(1, std::memory_order_relaxed);
  callback(std::move(result));
}

// --- fetch

void Cache::Core::begin_fetch(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  if (closed_.load(std::memory_order_acquire)) {
    return land_failed(flight, closed("the cache was closed"));
  }
  if (is_local()) return enter_load(flight);
  if (flights_.loader_of(*flight)) return begin_fill(flight);
  fetch(flight, deadline);
}

void Cache::Core::fetch(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  // Who joins later may be more patient than who began.
  const TimePoint sent_at = now();
  deadline = std::max(deadline, sent_at + options_.read_timeout);
  const std::string key = names_.value_key(flight->key);
  // The life that is left is asked before the value: should the value change in between, the
  // invalidation marks the fill, and should it expire in between, it is not there.
  auto ttl_ms = std::make_shared<std::int64_t>(-2);
  client_->submit(l2::Command{l2::Retry::kSafe, {"PTTL", key}}, deadline,
                  [ttl_ms](Result<l2::Reply> reply) {
                    if (reply && reply->is_integer()) *ttl_ms = reply->integer;
                  });
  client_->submit(l2::Command{l2::Retry::kSafe, {"GET", key}}, deadline,
                  [this, flight, sent_at, ttl_ms](Result<l2::Reply> reply) {
                    fetch_done(flight, sent_at, *ttl_ms, std::move(reply));
                  });
}

void Cache::Core::fetch_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                             std::int64_t ttl_ms, Result<l2::Reply> reply) {
  if (!reply) {
    if (flights_.loader_of(*flight)) return enter_load(flight);
    return land_failed(flight, reply.error());
  }
  if (reply->is_string()) {
    if (land_on_stored(flight, sent_at, ttl_ms, std::move(reply->text))) return;
  } else if (is_wrong_type(*reply)) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    flight->ignore_stored = true;
  } else if (!reply->is_nil()) {
    return land_failed(flight, refused_by_server(*reply));
  }
  // A miss. Whoever came without a loader has the answer; for the others, if any, it must be
  // loaded.
  auto landed = flights_.land_unless_loading(flight);
  for (auto& waiter : landed.waiters) answer(waiter.callback, ReadResult{std::optional<Value>{}});
  if (!landed.first) begin_fill(flight);
}

// False where what is stored counts as a miss.
bool Cache::Core::land_on_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                 std::int64_t ttl_ms, std::string bytes) {
  const auto stored = serialization::decode_value(bytes);
  if (!stored) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    flight->ignore_stored = true;
    return false;
  }
  if (stored->envelope.tombstone) return false;
  Found found{.bytes = nullptr, .tier = Tier::kL2, .version = stored->version, .as_of = sent_at};
  if (stored->foreign) {
    counters_.values_foreign.fetch_add(1, std::memory_order_relaxed);
    found.bytes = std::make_shared<const std::string>(std::move(bytes));
  } else if (!stored->envelope.negative) {
    found.bytes = std::make_shared<const std::string>(stored->envelope.payload);
  }
  // -1: no TTL in Redis; -2: it had just expired, or was not yet there, when the TTL was asked.
  TimePoint expires_at = TimePoint::max();
  if (ttl_ms >= 0) {
    expires_at = sent_at + milliseconds{std::min<std::int64_t>(ttl_ms, 1000LL * 86400 * 36500)};
  } else if (options_.ttl) {
    expires_at = sent_at + *options_.ttl;
  }
  land(flight, std::move(found), expires_at, /*may_cache=*/ttl_ms != -2);
  return true;
}

// --- load

std::string Cache::Core::fill_token(const Flight& flight) const {
  std::string token;
  append_u64_be(token, origin_);
  append_u64_be(token, flight.fill_number);
  return token;
}

void Cache::Core::begin_fill(const std::shared_ptr<Flight>& flight) {
  if (flight->fill_number == 0) flight->fill_number = 1 + fill_numbers_.fetch_add(1);
  const TimePoint sent_at = now();
  const std::string value_key = names_.value_key(flight->key);
  const std::string fill_key = names_.fill_key(flight->key);
  const std::string token = fill_token(*flight);
  const std::string lease_ms = std::to_string(options_.fill_lease.count());
  client_->submit_script(
      begin_fill_script(), std::array<std::string_view, 2>{value_key, fill_key},
      std::array<std::string_view, 3>{token, lease_ms, flight->ignore_stored ? "1" : "0"},
      l2::Retry::kSafe, sent_at + options_.read_timeout_before_load,
      [this, flight, sent_at](Result<l2::Reply> reply) {
        begin_fill_done(flight, sent_at, std::move(reply));
      });
}

void Cache::Core::begin_fill_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                  Result<l2::Reply> reply) {
  const auto without_lease = [&] {
    flight->fill_number = 0;
    enter_load(flight);
  };
  if (!reply) {
    const auto code = reply.error().code;
    if (code == ErrorCode::kClosed || code == ErrorCode::kOverloaded) {
      return land_failed(flight, reply.error());
    }
    return without_lease();
  }
  if (is_wrong_type(*reply) && !flight->ignore_stored) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    flight->ignore_stored = true;
    return begin_fill(flight);
  }
  if (!reply->is_array() || reply->elements.empty()) return without_lease();
  auto& elements = reply->elements;
  switch (elements[0].integer) {
    case 1:
      if (elements.size() != 3) return without_lease();
      if (land_on_stored(flight, sent_at, elements[2].integer, std::move(elements[1].text))) return;
      flight->ignore_stored = true;  // Corrupt, or a tombstone: load over it.
      return begin_fill(flight);
    case 2: return enter_load(flight);
    case 3: return poll_fill(flight, elements.size() > 1 ? elements[1].integer : 0);
    default: return without_lease();
  }
}

// Someone else, in another process, loads the key.
void Cache::Core::poll_fill(const std::shared_ptr<Flight>& flight, std::int64_t lease_ms) {
  if (flights_.land_if_empty(flight)) return;
  const auto pause = std::min(kPollMax, kPollFirst * (1 << std::min(flight->polls++, 8U)));
  const auto until_free = milliseconds{std::max<std::int64_t>(1, lease_ms)};
  loop_->run_after(std::min(pause, until_free), [this, flight] { begin_fill(flight); });
}

void Cache::Core::enter_load(const std::shared_ptr<Flight>& flight) {
  load_gate_.enter(flight->key, [self = shared_from_this(), flight] {
    // The load before this one may have brought what is wanted.
    if (Peek found = self->peek(flight->key); found.kind != Peek::Kind::kMiss) {
      if (flight->fill_number != 0) self->abandon_fill(*flight);
      Found again{.bytes = nullptr, .tier = Tier::kL1, .as_of = self->now()};
      if (found.value) {
        again.bytes = std::make_shared<const std::string>(found.value->bytes());
        again.version = found.value->version();
        again.as_of = self->now() - found.value->age_bound();
      }
      self->land(flight, std::move(again), TimePoint::max(), /*may_cache=*/false);
      return self->end_load(flight);
    }
    {
      MutexLock lock{self->loads_mutex_};
      ++self->loads_running_;
    }
    auto posted = self->executor_->post([self, flight] {
      self->load(flight);
      MutexLock lock{self->loads_mutex_};
      --self->loads_running_;
      self->loads_changed_.notify_all();
    });
    if (posted) return;
    {
      MutexLock lock{self->loads_mutex_};
      --self->loads_running_;
      self->loads_changed_.notify_all();
    }
    if (flight->fill_number != 0) self->abandon_fill(*flight);
    self->land_failed(flight, posted.error());
    self->end_load(flight);
  });
}

// On the executor.
void Cache::Core::load(const std::shared_ptr<Flight>& flight) {
  if (closed_.load(std::memory_order_acquire)) {
    land_failed(flight, closed("the cache was closed"));
    return end_load(flight);
  }
  counters_.loads.fetch_add(1, std::memory_order_relaxed);
  const TimePoint began_at = now();
  const Loader loader = flights_.loader_of(*flight);
  auto loaded = run_loader(loader, flight->key);
  if (loaded && *loaded && (*loaded)->bytes.size() > options_.value_bytes_max) {
    loaded =
        invalid_argument("the loader's value has " + std::to_string((*loaded)->bytes.size()) +
                         " bytes; value_bytes_max is " + std::to_string(options_.value_bytes_max));
  }
  if (loaded && *loaded && (*loaded)->ttl) {
    if (auto valid = check_ttl(*(*loaded)->ttl); !valid) loaded = valid.error();
  }
  if (!loaded) {
    counters_.loads_failed.fetch_add(1, std::memory_order_relaxed);
    if (flight->fill_number != 0) abandon_fill(*flight);
    land_failed(flight, loaded.error());
    return end_load(flight);
  }
  store_loaded(flight, std::move(*loaded), began_at);
}

void Cache::Core::store_loaded(const std::shared_ptr<Flight>& flight, std::optional<Loaded> loaded,
                               TimePoint began_at) {
  const bool negative = !loaded;
  Found found{.bytes = nullptr, .tier = Tier::kLoader, .as_of = began_at};
  if (loaded) found.bytes = std::make_shared<const std::string>(std::move(loaded->bytes));
  bool for_ever = false;
  const auto life = life_of(loaded ? loaded->ttl : std::nullopt, negative, for_ever);
  const TimePoint expires_at = for_ever ? TimePoint::max() : now() + life;
  const bool keep = !(negative && !options_.negative_ttl);

  if (is_local()) {
    found.version = 1 + local_versions_.fetch_add(1);
    land(flight, std::move(found), expires_at, keep);
    return end_load(flight);
  }
  std::string envelope;
  std::string message;
  bool storable = keep && flight->fill_number != 0;
  if (storable) {
    auto encoded = serialization::encode_envelope(
        {.negative = negative,
         .hard_ttl = life,
         .payload = negative ? std::string_view{} : std::string_view{*found.bytes}});
    auto change = encode_change(serialization::MessageKind::kFillDone, flight->key);
    storable = encoded && change;
    if (storable) {
      envelope = std::move(*encoded);
      message = std::move(*change);
    }
  }
  if (!storable) {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
    if (flight->fill_number != 0) abandon_fill(*flight);
    land(flight, std::move(found), expires_at, /*may_cache=*/false);
    return end_load(flight);
  }
  const std::string value_key = names_.value_key(flight->key);
  const std::string fill_key = names_.fill_key(flight->key);
  const std::string token = fill_token(*flight);
  const std::string ttl_ms = for_ever ? "0" : std::to_string(life.count());
  const std::string entries = std::to_string(options_.history_entries);
  client_->submit_script(finish_fill_script(),
                         std::array<std::string_view, 3>{value_key, fill_key, names_.history_key()},
                         std::array<std::string_view, 5>{token, envelope, ttl_ms, message, entries},
                         l2::Retry::kIfNotSent, now() + options_.write_timeout,
                         [self = shared_from_this(), flight, found = std::move(found),
                          expires_at](Result<l2::Reply> reply) mutable {
                           self->store_done(flight, std::move(found), expires_at, std::move(reply));
                         });
}

void Cache::Core::store_done(const std::shared_ptr<Flight>& flight, Found found,
                             TimePoint expires_at, Result<l2::Reply> reply) {
  const bool stored = reply && reply->is_string() && reply->text.size() == 8;
  if (stored) {
    found.version = read_u64_be(reply->text.data());
  } else {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
  }
  land(flight, std::move(found), expires_at, /*may_cache=*/stored);
  end_load(flight);
}

void Cache::Core::end_load(const std::shared_ptr<Flight>& flight) { load_gate_.leave(flight->key); }

void Cache::Core::abandon_fill(const Flight& flight) {
  const std::string fill_key = names_.fill_key(flight.key);
  const std::string token = fill_token(flight);
  client_->submit_script(abandon_fill_script(), std::array<std::string_view, 1>{fill_key},
                         std::array<std::string_view, 1>{token}, l2::Retry::kSafe,
                         now() + options_.write_timeout, [](Result<l2::Reply>) {});
}

// --- landing

void Cache::Core::land(const std::shared_ptr<Flight>& flight, Found found, TimePoint expires_at,
                       bool may_cache) {
  auto landed = flights_.land(flight);
  if (!landed.first) return;
  if (may_cache) {
    if (links_vouch()) {
      put_into_l1(std::move(landed.token), found, expires_at);
    } else {
      counters_.fills_dropped.fetch_add(1, std::memory_order_relaxed);
    }
  }
  const Duration age_bound = std::max(Duration{0}, now() - found.as_of);
  for (auto& waiter : landed.waiters) {
    std::optional<Value> value;
    if (found.bytes) value.emplace(found.bytes, found.tier, found.version, age_bound);
    answer(waiter.callback, ReadResult{std::move(value)});
  }
}

void Cache::Core::land_failed(const std::shared_ptr<Flight>& flight, const Error& error) {
  auto landed = flights_.land(flight);
  for (auto& waiter : landed.waiters) answer(waiter.callback, error);
}

}  // namespace tiercel
