// A read that L1 does not answer, and how every flight ends.
//
//   get ── joins a flight ───────────────────────────────────────► answered when that lands
//     ├─── begins one without a loader: fetch (GET) ─────────────► land
//     └─── begins one with a loader: see loads.cc ───────────────► land
//
// Order at the landing (contracts C2, C3): nobody can join any more, then the value goes into L1 if
// the token is still good, then the waiters are told, then the next load of the key may enter.

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "core.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"
#include "tiercel/coherence/tag_table.h"

namespace tiercel {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

namespace {

// A part of its life that must seem to be left of a value, for that to be believed.
constexpr int kLifeToTrust = 8;

Error older_than_asked(std::uint64_t version, std::uint64_t version_min) {
  return unavailable("Redis has version " + std::to_string(version) +
                     " of the key, older than the version " + std::to_string(version_min) +
                     " that was asked for: that write was lost by a failover");
}

}  // namespace

// A key that holds something else than a string: no writer of ours made it.
bool Cache::Core::is_wrong_type(const l2::ReplyView& reply) {
  return reply.is_error() && reply.text().find("WRONGTYPE") != std::string_view::npos;
}

Result<void> Cache::Core::check_call(std::string_view key,
                                     std::optional<milliseconds> timeout) const {
  if (key.size() > kKeyBytesMax) {
    return invalid_argument("the key has " + std::to_string(key.size()) + " bytes; at most " +
                            std::to_string(kKeyBytesMax) + " are allowed");
  }
  if (timeout && (*timeout < 1ms || *timeout > kTimeoutMax)) {
    return invalid_argument("timeout is " + std::to_string(timeout->count()) +
                            " ms; it must be 1 ms to 1 h");
  }
  if (closed_.load(std::memory_order_acquire)) return closed("the cache was closed");
  return {};
}

Result<void> Cache::Core::check_read(std::string_view key, const ReadOptions& options) const {
  if (auto valid = check_call(key, options.timeout); !valid) return valid;
  const auto age = options.freshness.age();
  if (options.freshness.kind() == Freshness::Kind::kAtMost && (age < 1ms || age > 1h)) {
    return invalid_argument("Freshness::at_most(" + std::to_string(age.count()) +
                            " ms): it must be 1 ms to 1 h");
  }
  const auto age_max = options.without_lease.age_max();
  if (options.without_lease.kind() == WithoutLease::Kind::kServeStale &&
      (age_max < 1ms || age_max > 24h)) {
    return invalid_argument("WithoutLease::serve_stale(" + std::to_string(age_max.count()) +
                            " ms): it must be 1 ms to 24 h");
  }
  return {};
}

void Cache::Core::answer_peeked(ReadCallback& callback, Peek found) {
  const bool hit = found.kind == Peek::Kind::kHit;
  (hit ? counters_.reads_l1 : counters_.reads_absent).add();
  callback(ReadResult{std::move(found.value)});
}

void Cache::Core::get(std::string_view key, const ReadOptions& options, ReadCallback callback) {
  get_with(key, options, std::move(callback), nullptr);
}

void Cache::Core::note_hit(std::string_view key, const ReadOptions& options, const Peek& found) {
  if (options.source == nullptr) return;
  auto& counters = options.source->counters;
  (found.value ? counters.hits_l1 : counters.absent).add();
  if (found.value && found.value->is_stale()) options.source->note_stale(key);
}

void Cache::Core::get_with(std::string_view key, const ReadOptions& options, ReadCallback callback,
                           const std::shared_ptr<FillBatch>& batch) {
  if (auto valid = check_read(key, options); !valid) return callback(valid.error());
  Peek found = peek(key, options.freshness);
  if (found.is_answer()) {
    if (found.wants_refresh && options.source) start_refresh(key, options.source);
    note_hit(key, options, found);
    return answer_peeked(callback, std::move(found));
  }
  const auto& policy = options.source ? &options.source->policy() : nullptr;
  if (found.kind == Peek::Kind::kStale && options.source && options.source->gives_stale_at_once()) {
    start_refresh(key, options.source);
    note_hit(key, options, found);
    found.kind = Peek::Kind::kHit;
    return answer_peeked(callback, std::move(found));
  }
  if (found.kind == Peek::Kind::kRefused) {
    if (options.without_lease.kind() == WithoutLease::Kind::kFail) {
      counters_.reads_failed.fetch_add(1, std::memory_order_relaxed);
      return callback(unavailable("L1 may not answer: " + link_driver_->why_no_lease()));
    }
    if (options.without_lease.kind() == WithoutLease::Kind::kServeStale) {
      Peek stale = peek_stale(key, options.without_lease.age_max());
      if (stale.is_answer()) {
        counters_.reads_stale.fetch_add(1, std::memory_order_relaxed);
        note_hit(key, options, stale);
        return answer_peeked(callback, std::move(stale));
      }
    }
  }
  if (found.kind == Peek::Kind::kMiss && is_refused(key, options)) {
    options.source->counters.misses.add();
    counters_.reads_absent.add();
    return callback(ReadResult{std::optional<Value>{}});
  }
  const bool loads =
      options.may_load && (options.loader || (options.source && options.source->has_loader()));
  if (is_local() && !loads) {
    if (options.source) options.source->counters.misses.add();
    counters_.reads_absent.add();
    return callback(ReadResult{std::optional<Value>{}});
  }
  if (counters_.reads_waiting.fetch_add(1) >= options_.reads_waiting_max) {
    counters_.reads_waiting.fetch_sub(1);
    counters_.reads_failed.fetch_add(1, std::memory_order_relaxed);
    return callback(overloaded("reads_waiting_max (" + std::to_string(options_.reads_waiting_max) +
                               ") reads already wait"));
  }
  start_expiring();
  const TimePoint began_at = now();
  const TimePoint deadline = began_at + options.timeout.value_or(options_.read_timeout);
  const bool is_patient = policy == nullptr || !policy->soft_deadline;
  Flights& flights = loads ? load_flights_ : fetch_flights_;
  const auto [flight, begun] = flights.board(
      key,
      Waiter{.callback = std::move(callback),
             .deadline = deadline,
             .soft_deadline = is_patient ? TimePoint::max() : began_at + *policy->soft_deadline,
             .version_min = options.freshness.version()},
      options.loader, options.source, loads, options.freshness.may_join());
  if (options.source) options.source->counters.misses.add();
  if (found.kind == Peek::Kind::kStale && policy != nullptr && policy->stale_max) {
    offer_stale_of_l1(flights, flight, options.freshness);
  }
  if (!begun) {
    counters_.reads_joined.fetch_add(1, std::memory_order_relaxed);
    if (options.source) options.source->counters.joined.fetch_add(1, std::memory_order_relaxed);
    return;
  }
  if (batch && loads) {
    batch->expect();
    flight->batch = batch;
  }
  begin(flight, deadline);
}

// Looked at again: what was there before the flight's token was begun may have been invalidated
// since, and who joins it may have seen that.
void Cache::Core::offer_stale_of_l1(Flights& flights, const std::shared_ptr<Flight>& flight,
                                    Freshness freshness) {
  const Peek found = peek(flight->key, freshness);
  if (found.kind != Peek::Kind::kStale) return;
  flights.offer_stale(flight,
                      Found{.bytes = std::make_shared<const std::string>(found.value->bytes()),
                            .tier = Tier::kL1,
                            .version = found.value->version(),
                            .as_of = now() - found.value->age_bound(),
                            .tags = found.tags.value_or(serialization::TagSlots{}),
                            .expires_at = found.expires_at});
}

void Cache::Core::begin(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  if (!flight->loads) {
    fetch(flight, deadline);
  } else if (is_local()) {
    queue_load(flight);
  } else if (!flight->is_refresh && learned_of(*flight).luck.is_good()) {
    look_before_load(flight);
  } else {
    begin_fill(flight);
  }
}

// Beside a read that was answered.
void Cache::Core::start_refresh(std::string_view key, const std::shared_ptr<FillSource>& source) {
  if (source->claim_refresh(key, now())) begin_refresh(key, source);
}

void Cache::Core::begin_refresh(std::string_view key, const std::shared_ptr<FillSource>& source) {
  if (!source->has_loader()) return;
  const auto flight = load_flights_.begin_refresh(key, source);
  if (flight == nullptr) return;
  source->counters.refreshes.fetch_add(1, std::memory_order_relaxed);
  begin(flight, now() + options_.read_timeout);
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
  std::shared_ptr<FillBatch> batch;
  if (options.source && options.source->has_batch_loader()) {
    batch = std::make_shared<FillBatch>();
    batch->expect();  // Until all have begun.
  }
  // What misses is submitted before the loop comes round, so it leaves in one pipeline.
  for (std::size_t i = 0; i < keys.size(); ++i) {
    get_with(
        keys[i], options,
        [gathering, i](ReadResult result) {
          gathering->results[i].emplace(std::move(result));
          gathering->arrived();
        },
        batch);
  }
  if (batch) {
    if (auto ready = batch->leave(); !ready.empty()) start_loads(std::move(ready));
  }
  gathering->arrived();
}

// --- fetch

void Cache::Core::fetch(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  if (!learned_of(*flight).luck.is_good()) return fetch_with_life(flight, deadline);
  look(flight, deadline);
}

Learned& Cache::Core::learned_of(const Flight& flight) {
  if (!flight.loads) return fetches_learned_;
  return flight.source ? flight.source->learned : loads_learned_;
}

// Where what is stored does not say how much of its life is left.
void Cache::Core::ask_life(const std::shared_ptr<Flight>& flight) {
  if (flight->loads) return begin_fill(flight);
  fetch_with_life(flight, fetch_flights_.patience(*flight).value_or(now() + options_.read_timeout));
}

void Cache::Core::fetch_with_life(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  const TimePoint sent_at = now();
  const std::string key = names_.value_key(flight->key);
  // The life that is left is asked before the value, so that it is never that of a newer write that
  // is not seen. It can be that of an older one: land_on_stored knows the newer one's own.
  auto ttl_ms = std::make_shared<std::int64_t>(kTtlMissing);
  client_->submit(l2::Command{l2::Retry::kSafe, {"PTTL", key}}, deadline,
                  [ttl_ms](Result<l2::Reply> reply) {
                    if (reply && reply->is_integer()) *ttl_ms = reply->integer;
                  });
  client_->submit_view(l2::Command{l2::Retry::kSafe, {"GET", key}}, deadline,
                       [this, flight, sent_at, ttl_ms](const Result<l2::ReplyView>& reply) {
                         fetch_done(flight, sent_at, *ttl_ms, reply);
                       });
}

void Cache::Core::fetch_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                             std::int64_t ttl_ms, const Result<l2::ReplyView>& reply) {
  if (!reply) {
    // Who joined may be more patient than who began.
    const auto patience = fetch_flights_.patience(*flight);
    if (reply.error().code == ErrorCode::kUnavailable && patience && *patience > now() &&
        !closed_.load(std::memory_order_acquire)) {
      return fetch(flight, *patience);
    }
    return land_failed(flight, reply.error());
  }
  if (reply->is_string()) {
    return land_on_stored(flight, sent_at, ttl_ms, reply->text());
  }
  if (is_wrong_type(*reply)) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
  } else if (!reply->is_nil()) {
    return land_failed(flight, refused_by_server(reply->to_reply()));
  }
  land_absent(flight, sent_at);
}

void Cache::Core::land_absent(const std::shared_ptr<Flight>& flight, TimePoint sent_at) {
  land(flight, Found{.tier = Tier::kL2, .as_of = sent_at}, TimePoint::max(), /*may_cache=*/false);
}

// What is stored is corrupt, dead, or a tombstone: as good as nothing.
void Cache::Core::pass_over_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at) {
  if (!flight->loads) return land_absent(flight, sent_at);
  flight->ignore_stored = true;
  begin_fill(flight);
}

void Cache::Core::land_on_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                 std::int64_t ttl_ms, std::string_view bytes) {
  const auto stored = serialization::decode_value(bytes);
  if (!stored) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    return pass_over_stored(flight, sent_at);
  }
  if (stored->envelope.tombstone) return pass_over_stored(flight, sent_at);
  const milliseconds life = stored->envelope.hard_ttl;
  const std::uint32_t codec_id =
      stored->foreign ? serialization::kCodecRaw : stored->envelope.codec_id;
  // Aligned, as codecs want it; `bytes` may stand anywhere in what was received.
  std::shared_ptr<const std::string> payload;
  if (!stored->envelope.negative) {
    payload = std::make_shared<const std::string>(stored->envelope.payload);
  }
  if (flight->source && payload && !flight->source->codec().accept(codec_id, *payload)) {
    flight->source->counters.codec_mismatches.fetch_add(1, std::memory_order_relaxed);
    return pass_over_stored(flight, sent_at);
  }
  const std::optional<TimePoint> end = end_of_stored(*stored, sent_at);
  learned_of(*flight).luck.tell(end.has_value());
  if (ttl_ms == kTtlNotAsked && !end) return ask_life(flight);
  Found found{.tier = Tier::kL2,
              .version = stored->version,
              .as_of = sent_at,
              .tags = stored->envelope.tag_slots};
  found.bytes = std::move(payload);
  if (stored->foreign) counters_.values_foreign.fetch_add(1, std::memory_order_relaxed);
  TimePoint expires_at = TimePoint::max();
  if (ttl_ms == kTtlNotAsked) {
    expires_at = *end;
  } else if (ttl_ms >= 0) {
    expires_at = sent_at + std::min(milliseconds{ttl_ms}, kTtlMax);
  } else if (options_.ttl) {
    expires_at = sent_at + *options_.ttl;
  }
  // The value may have been written after its predecessor's remaining life was asked.
  if (life > milliseconds{0}) expires_at = std::min(expires_at, sent_at + std::min(life, kTtlMax));
  const milliseconds soft = stored->envelope.soft_ttl;
  const bool has_stale_part =
      soft > milliseconds{0} && soft < life && expires_at != TimePoint::max();
  // A keyspace's, read by somebody else: its codec has not been asked, so it does not go into L1,
  // from where it would be taken for good.
  const bool is_of_others =
      !flight->source && (codec_id != serialization::kCodecRaw || has_stale_part);
  const bool may_cache = ttl_ms != kTtlMissing && !is_of_others;
  if (!stored->envelope.negative && (flight->source || has_stale_part)) {
    found.times = has_stale_part ? times_of(flight->source.get(), soft, expires_at - (life - soft))
                                 : times_of(flight->source.get(), life, expires_at);
  }
  if (found.times.stale_at <= sent_at) {
    // begin_fill has passed over what is stale already, and knows better than an estimate.
    if (!flight->loads) return pass_over_stored(flight, sent_at);
    if (ttl_ms == kTtlNotAsked) return begin_fill(flight);
  }
  if (links_vouch() && !flight->must_ask_tags) {
    if (tags_.is_dead(tags_.generation(), found.version, found.tags.span()))
      return pass_over_stored(flight, sent_at);
    return land(flight, std::move(found), expires_at, may_cache);
  }
  ask_whether_dead(found,
                   [this, flight, found, sent_at, expires_at, may_cache](Result<bool> is_dead) {
                     if (!is_dead) return land_failed(flight, is_dead.error());
                     if (*is_dead) return pass_over_stored(flight, sent_at);
                     land(flight, std::move(found), expires_at, may_cache);
                   });
}

// By the value itself; nothing where it does not say.
std::optional<TimePoint> Cache::Core::end_of_stored(const serialization::StoredValue& stored,
                                                    TimePoint sent_at) const {
  if (stored.foreign || options_.foreign_writers) return std::nullopt;
  const milliseconds life = stored.envelope.hard_ttl;
  if (life == milliseconds{0}) return end_of(options_.ttl, sent_at);
  const auto end = server_clock_.end_of(stored.version, life);
  // What was loaded long after the last write seems to be almost over.
  if (!end || *end - sent_at < life / kLifeToTrust) return std::nullopt;
  return std::min(*end, sent_at + std::min(life, kTtlMax));
}

// While no messages come, our table of tags may be behind: Redis has its own.
void Cache::Core::ask_whether_dead(const Found& found, UniqueFunction<void(Result<bool>)> then) {
  if (found.version == coherence::kVersionUnknown) return then(!found.tags.empty());
  std::vector<std::string> fields{"base"};
  for (const auto slot : found.tags.span()) fields.push_back(std::to_string(slot));
  const std::vector<std::string_view> arguments{fields.begin(), fields.end()};
  client_->submit_script(
      read_tags_script(), std::array<std::string_view, 2>{names_.history_key(), names_.tags_key()},
      arguments, l2::Retry::kSafe, now() + options_.read_timeout,
      [version = found.version, then = std::move(then)](Result<l2::Reply> reply) mutable {
        if (!reply) return then(reply.error());
        if (!reply->is_array()) return then(refused_by_server(*reply));
        std::vector<std::optional<std::string_view>> versions;
        for (const l2::Reply& field : reply->elements) {
          versions.push_back(field.is_string() ? std::optional<std::string_view>{field.text}
                                               : std::nullopt);
        }
        then(coherence::is_dead_in_redis(version, versions));
      });
}

// --- landing

Flights& Cache::Core::flights_of(const Flight& flight) {
  return flight.loads ? load_flights_ : fetch_flights_;
}

void Cache::Core::answer(ReadCallback& callback, ReadResult result) {
  counters_.reads_waiting.fetch_sub(1);
  const auto raise = [](std::atomic<std::uint64_t>& counter) {
    counter.fetch_add(1, std::memory_order_relaxed);
  };
  if (!result) {
    raise(counters_.reads_failed);
  } else if (!*result) {
    counters_.reads_absent.add();
  } else if ((*result)->tier() == Tier::kL1) {
    counters_.reads_l1.add();
  } else {
    raise((*result)->tier() == Tier::kL2 ? counters_.reads_l2 : counters_.reads_loader);
  }
  callback(std::move(result));
}

void Cache::Core::land(const std::shared_ptr<Flight>& flight, Found found, TimePoint expires_at,
                       bool may_cache) {
  leave_batch(*flight);
  auto landed = flights_of(*flight).land(flight);
  if (landed.first) {
    const bool vouched = links_vouch();
    if (may_cache && vouched) {
      put_into_l1(std::move(landed.token), found, expires_at);
    } else if (found.tier != Tier::kL1) {
      if (may_cache) counters_.fills_dropped.fetch_add(1, std::memory_order_relaxed);
      // An older entry that nothing vouches for at the moment must not come back after this answer.
      forget_older(flight->key, vouched ? found.version : coherence::kVersionUnknown);
    }
    const Duration age_bound = std::max(Duration{0}, now() - found.as_of);
    for (auto& waiter : landed.waiters) {
      if (found.bytes && found.version < waiter.version_min) {
        answer(waiter.callback, older_than_asked(found.version, waiter.version_min));
        continue;
      }
      std::optional<Value> value;
      if (found.bytes) {
        value.emplace(found.bytes, found.tier, found.version, age_bound);
        if (flight->source) value->set_checked();
        if (flight->source && found.tier == Tier::kL2) {
          flight->source->counters.hits_l2.fetch_add(1, std::memory_order_relaxed);
        }
      }
      answer(waiter.callback, ReadResult{std::move(value)});
    }
  }
  leave_gate(*flight);
}

// The way out, where there is one: what was there before. It is given a life anew, so that the next
// reads do not all try again what has just failed.
void Cache::Core::land_failed(const std::shared_ptr<Flight>& flight, const Error& error) {
  leave_batch(*flight);
  auto landed = flights_of(*flight).land(flight);
  const bool has_way_out = landed.stale && landed.stale->expires_at > now();
  if (has_way_out && flight->source && links_vouch()) {
    Found again = *landed.stale;
    again.times.stale_at =
        std::min(landed.stale->expires_at, now() + flight->source->policy().stale_throttle);
    again.is_stale = again.times.is_checked = true;
    put_into_l1(std::move(landed.token), again, landed.stale->expires_at);
  }
  for (auto& waiter : landed.waiters) {
    if (has_way_out && landed.stale->version >= waiter.version_min) {
      answer_stale(waiter, *flight, *landed.stale);
    } else {
      answer(waiter.callback, error);
    }
  }
  leave_gate(*flight);
}

void Cache::Core::answer_stale(Waiter& waiter, const Flight& flight, const Found& stale) {
  counters_.reads_stale.fetch_add(1, std::memory_order_relaxed);
  if (flight.source) flight.source->note_stale(flight.key);
  Value value{stale.bytes, stale.tier, stale.version, std::max(Duration{0}, now() - stale.as_of)};
  value.set_stale();
  value.set_checked();  // Only sources offer any.
  answer(waiter.callback, ReadResult{std::move(value)});
}

void Cache::Core::leave_gate(Flight& flight) {
  if (std::exchange(flight.is_inside_gate, false)) load_gate_.leave(flight.key);
}

}  // namespace tiercel
