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

Error older_than_asked(std::uint64_t version, std::uint64_t version_min) {
  return unavailable("Redis has version " + std::to_string(version) +
                     " of the key, older than the version " + std::to_string(version_min) +
                     " that was asked for: that write was lost by a failover");
}

}  // namespace

// A key that holds something else than a string: no writer of ours made it.
bool Cache::Core::is_wrong_type(const l2::Reply& reply) {
  return reply.is_error() && reply.text.find("WRONGTYPE") != std::string::npos;
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
  (hit ? counters_.reads_l1 : counters_.reads_absent).fetch_add(1, std::memory_order_relaxed);
  callback(ReadResult{std::move(found.value)});
}

void Cache::Core::get(std::string_view key, const ReadOptions& options, ReadCallback callback) {
  if (auto valid = check_read(key, options); !valid) return callback(valid.error());
  Peek found = peek(key, options.freshness);
  if (found.is_answer()) return answer_peeked(callback, std::move(found));
  if (found.kind == Peek::Kind::kRefused) {
    if (options.without_lease.kind() == WithoutLease::Kind::kFail) {
      counters_.reads_failed.fetch_add(1, std::memory_order_relaxed);
      return callback(unavailable("L1 may not answer: " + link_driver_->why_no_lease()));
    }
    if (options.without_lease.kind() == WithoutLease::Kind::kServeStale) {
      Peek stale = peek_stale(key, options.without_lease.age_max());
      if (stale.is_answer()) {
        counters_.reads_stale.fetch_add(1, std::memory_order_relaxed);
        return answer_peeked(callback, std::move(stale));
      }
    }
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
  Flights& flights = options.loader ? load_flights_ : fetch_flights_;
  const auto [flight, begun] = flights.board(key,
                                             Waiter{.callback = std::move(callback),
                                                    .deadline = deadline,
                                                    .version_min = options.freshness.version()},
                                             options.loader, options.freshness.may_join());
  if (!begun) {
    counters_.reads_joined.fetch_add(1, std::memory_order_relaxed);
  } else if (!options.loader) {
    fetch(flight, deadline);
  } else if (is_local()) {
    queue_load(flight);
  } else {
    begin_fill(flight);
  }
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

// --- fetch

void Cache::Core::fetch(const std::shared_ptr<Flight>& flight, TimePoint deadline) {
  const TimePoint sent_at = now();
  const std::string key = names_.value_key(flight->key);
  // The life that is left is asked before the value, so that it is never that of a newer write that
  // is not seen. It can be that of an older one: land_on_stored knows the newer one's own.
  auto ttl_ms = std::make_shared<std::int64_t>(kTtlMissing);
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
    // Who joined may be more patient than who began.
    const auto patience = fetch_flights_.patience(*flight);
    if (reply.error().code == ErrorCode::kUnavailable && patience && *patience > now() &&
        !closed_.load(std::memory_order_acquire)) {
      return fetch(flight, *patience);
    }
    return land_failed(flight, reply.error());
  }
  if (reply->is_string()) {
    return land_on_stored(flight, sent_at, ttl_ms, std::move(reply->text),
                          [this, flight, sent_at] { land_absent(flight, sent_at); });
  }
  if (is_wrong_type(*reply)) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
  } else if (!reply->is_nil()) {
    return land_failed(flight, refused_by_server(*reply));
  }
  land_absent(flight, sent_at);
}

void Cache::Core::land_absent(const std::shared_ptr<Flight>& flight, TimePoint sent_at) {
  land(flight, Found{.tier = Tier::kL2, .as_of = sent_at}, TimePoint::max(), /*may_cache=*/false);
}

// Runs on_miss where what is stored counts as a miss.
void Cache::Core::land_on_stored(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                 std::int64_t ttl_ms, std::string bytes,
                                 UniqueFunction<void()> on_miss) {
  const auto stored = serialization::decode_value(bytes);
  if (!stored) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    return on_miss();
  }
  if (stored->envelope.tombstone) return on_miss();
  const milliseconds life = stored->envelope.hard_ttl;
  Found found{.tier = Tier::kL2,
              .version = stored->version,
              .as_of = sent_at,
              .tags = stored->envelope.tag_slots};
  if (stored->foreign) {
    counters_.values_foreign.fetch_add(1, std::memory_order_relaxed);
    found.bytes = std::make_shared<const std::string>(std::move(bytes));
  } else if (!stored->envelope.negative) {
    found.bytes = std::make_shared<const std::string>(stored->envelope.payload);
  }
  TimePoint expires_at = TimePoint::max();
  if (ttl_ms >= 0) {
    expires_at = sent_at + std::min(milliseconds{ttl_ms}, kTtlMax);
  } else if (options_.ttl) {
    expires_at = sent_at + *options_.ttl;
  }
  // The value may have been written after its predecessor's remaining life was asked.
  if (life > milliseconds{0}) expires_at = std::min(expires_at, sent_at + std::min(life, kTtlMax));
  const bool may_cache = ttl_ms != kTtlMissing;
  if (links_vouch() && !flight->must_ask_tags) {
    if (tags_.is_dead(tags_.generation(), found.version, found.tags.span())) return on_miss();
    return land(flight, std::move(found), expires_at, may_cache);
  }
  ask_whether_dead(found, [this, flight, found, expires_at, may_cache,
                           on_miss = std::move(on_miss)](Result<bool> is_dead) mutable {
    if (!is_dead) return land_failed(flight, is_dead.error());
    if (*is_dead) return on_miss();
    land(flight, std::move(found), expires_at, may_cache);
  });
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
  return flight.loader ? load_flights_ : fetch_flights_;
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

void Cache::Core::land(const std::shared_ptr<Flight>& flight, Found found, TimePoint expires_at,
                       bool may_cache) {
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
      if (found.bytes) value.emplace(found.bytes, found.tier, found.version, age_bound);
      answer(waiter.callback, ReadResult{std::move(value)});
    }
  }
  leave_gate(*flight);
}

void Cache::Core::land_failed(const std::shared_ptr<Flight>& flight, const Error& error) {
  auto landed = flights_of(*flight).land(flight);
  for (auto& waiter : landed.waiters) answer(waiter.callback, error);
  leave_gate(*flight);
}

void Cache::Core::leave_gate(Flight& flight) {
  if (std::exchange(flight.is_inside_gate, false)) load_gate_.leave(flight.key);
}

}  // namespace tiercel
