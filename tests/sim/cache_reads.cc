// Reads of a CacheModel, as in core.cc, reads.cc and loads.cc.

#include <algorithm>
#include <utility>

#include "cache_model.h"

namespace tiercel::sim {

using namespace std::chrono_literals;
using coherence::kVersionUnknown;

namespace {
constexpr std::size_t kFlightsMax = 3;  // Of one key.
constexpr Duration kReadTimeout = 1s;
constexpr Duration kWriteTimeout = 1s;
constexpr Duration kFillLease = 700ms;
}  // namespace

CacheModel::Vouch CacheModel::vouch() const {
  Vouch loaded;
  loaded.proven_at = cell_.proven_at();
  loaded.until = cell_.until();
  loaded.generation = l1_->generation();
  loaded.tags_generation = tags_.generation();
  loaded.branch = lease_branch_;
  loaded.mode = lease_mode_;
  return loaded;
}

std::optional<CacheModel::Entry> CacheModel::pin(std::size_t key, const Vouch& loaded) {
  const l1::Handle handle = l1_->pin(key_name(key));
  if (!handle) return std::nullopt;
  if (is_loaded(key) && is_dead(key, loaded.tags_generation, handle.version())) {
    ++env_.counts.dead_by_tag;
    return std::nullopt;
  }
  // What is served of an L1 that this epoch has not joined yet was seen in the one before.
  return Entry{from_bytes(handle.value()), handle.version(), handle.generation(),
               (l1_epoch_ << 32) + handle.generation()};
}

// The order of these steps is the contract: what vouches, the value, the clock. A reader may be
// held up between any two of them.
void CacheModel::read(std::size_t key) {
  ++env_.counts.reads;
  const Seen before = seen_[key];
  const Vouch loaded = vouch();
  if (!env_.one_in(150)) return peek(key, loaded, before);
  process_.give_thread_after(env_.some(1us, env_.setup.session.lease * 3),
                             [this, key, loaded, before] { peek(key, loaded, before); });
}

void CacheModel::peek(std::size_t key, const Vouch& loaded, const Seen& before) {
  const auto entry = pin(key, loaded);
  if (!entry) return miss(key, before);
  if (!env_.one_in(150)) return check_clock(key, loaded, *entry, before);
  process_.give_thread_after(
      env_.some(1us, env_.setup.session.lease * 3),
      [this, key, loaded, entry, before] { check_clock(key, loaded, *entry, before); });
}

void CacheModel::check_clock(std::size_t key, const Vouch& loaded, const Entry& entry,
                             const Seen& before) {
  if (serve(key, loaded, entry, before)) return;
  ++env_.counts.lease_refusals;
  if (env_.one_in(10)) serve_stale(key);
  miss(key, before);
}

bool CacheModel::serve(std::size_t key, const Vouch& loaded, const Entry& entry,
                       const Seen& before) {
  const TimePoint read_at = clock_.now();
  const bool has_lapsed = env_.options.sabotage == Sabotage::kClockNotRead
                              ? loaded.until == TimePoint{}
                              : read_at >= loaded.until;
  if (has_lapsed || entry.generation != loaded.generation) return false;
  if (loaded.is_leased) {
    ++env_.counts.hits;
    ++env_.counts.hits_by_mode[static_cast<std::size_t>(loaded.mode)];
  } else {
    ++env_.counts.stale_serves;
  }
  env_.trace.mix(entry.value.write);
  env_.trace.mix(entry.version);
  env_.checkers.hit({.who = process_.name(),
                     .key = key,
                     .value = entry.value,
                     .version = entry.version,
                     .read_at = env_.now(),
                     .proven_at = clock_.to_world(loaded.proven_at),
                     .is_leased = loaded.is_leased,
                     .branch = loaded.branch,
                     .mode = loaded.mode});
  if (loaded.is_leased) {
    const Seen now{entry.seen_generation, entry.value, entry.version};
    env_.checkers.seen_in_order(process_.name(), key, before, now);
    saw(key, now);
  }
  return true;
}

// An older answer is good enough for this one: Freshness::at_most, WithoutLease::serve_stale.
void CacheModel::serve_stale(std::size_t key) {
  Vouch loaded = vouch();
  loaded.branch = l1_branch_;
  if (loaded.branch < 0) return;
  loaded.until = loaded.proven_at + 10 * env_.setup.session.lease;
  loaded.is_leased = false;
  if (const auto entry = pin(key, loaded)) serve(key, loaded, *entry, {});
}

void CacheModel::saw(std::size_t key, const Seen& seen) {
  if (seen.version == kVersionUnknown) return;
  Seen& newest = seen_[key];
  if (newest.generation == seen.generation && newest.version > seen.version) return;
  newest = seen;
}

std::optional<Value> CacheModel::in_l1(std::size_t key) {
  const auto entry = pin(key, vouch());
  if (!entry || entry->generation != l1_->generation()) return std::nullopt;
  return entry->value;
}

// --- flights

void CacheModel::miss(std::size_t key, const Seen& before) {
  const auto found = flights_.find(key);
  if (found != flights_.end() && fills_.untouched(found->second->token)) {
    found->second->waiters.push_back(before);
    return;
  }
  if (flights_of_key_[key] >= kFlightsMax) return;
  ++flights_of_key_[key];
  ++flights_under_way_;
  auto flight = std::make_shared<Flight>();
  flight->key = key;
  flight->token = fills_.begin(key_name(key));
  flight->waiters.push_back(before);
  flights_[key] = flight;
  if (is_loaded(key)) {
    begin_fill(flight);
  } else {
    fetch(flight);
  }
}

void CacheModel::fetch(const FlightPtr& flight) {
  links_.submit([key = flight->key](RedisServer& server) { return server.get(key); },
                /*is_safe=*/true, kReadTimeout,
                [this, flight](Links::Ending ending, const Reply& reply) {
                  if (ending != Links::Ending::kAnswered || reply.status == Status::kLoading) {
                    return land_failed(flight);
                  }
                  const auto nothing = [this, flight] { land(flight, {}, /*may_cache=*/false); };
                  if (reply.status == Status::kNothing) return nothing();
                  land_on_stored(flight, reply.stored, nothing);
                });
}

// While no messages come, our table of tags may be behind, or of a lost branch: Redis has its own.
void CacheModel::land_on_stored(const FlightPtr& flight, const Stored& found,
                                std::function<void()> on_miss) {
  flight->read_in = generation();
  if (session_.fills_allowed()) {
    if (is_dead(flight->key, tags_.generation(), found.version)) return on_miss();
    return land(flight, found, /*may_cache=*/true);
  }
  links_.submit([](RedisServer& server) { return server.tags(); }, /*is_safe=*/true, kReadTimeout,
                [this, flight, found, on_miss = std::move(on_miss)](Links::Ending ending,
                                                                    const Reply& reply) {
                  if (ending != Links::Ending::kAnswered || reply.status != Status::kOk) {
                    return land_failed(flight);
                  }
                  const Version tag =
                      is_loaded(flight->key) ? reply.tags[tag_of(flight->key)] : kVersionUnknown;
                  const bool is_known = found.version != kVersionUnknown;
                  if (is_known && std::max(tag, reply.base) > found.version) return on_miss();
                  land(flight, found, /*may_cache=*/true);
                });
}

void CacheModel::begin_fill(const FlightPtr& flight) {
  if (flight->fill_number == 0) flight->fill_number = (origin_ << 32) + ++fill_numbers_;
  links_.submit(
      [key = flight->key, token = flight->fill_number, ignore = flight->ignore_stored](
          RedisServer& server) { return server.begin_fill(key, token, kFillLease, ignore); },
      /*is_safe=*/true, kReadTimeout,
      [this, flight](Links::Ending ending, const Reply& reply) {
        if (ending != Links::Ending::kAnswered || reply.status != Status::kOk) {
          abandon_fill(*flight);
          return load(flight);
        }
        if (reply.outcome == 1) {
          return land_on_stored(flight, reply.stored, [this, flight] {
            flight->ignore_stored = true;
            begin_fill(flight);
          });
        }
        if (reply.outcome == 3) return poll_fill(flight);
        flight->begun_at = reply.version;
        flight->begun_in = session_.epochs();
        load(flight);
      });
}

void CacheModel::poll_fill(const FlightPtr& flight) {
  if (flight->polls >= 8) return land_failed(flight);  // Its readers have given up.
  flight->ignore_stored = false;
  process_.give_after(std::min<Duration>(200ms, 10ms * (1 << std::min(flight->polls++, 5U))),
                      [this, flight] { begin_fill(flight); });
}

// On the executor.
void CacheModel::load(const FlightPtr& flight) {
  ++env_.counts.loads;
  const Duration most = env_.one_in(30) ? Duration{1500ms} : Duration{20ms};
  process_.give_thread_after(env_.some(10us, most), [this, flight, most] {
    const std::uint32_t row = database_.rows[flight->key];
    process_.give_thread_after(env_.some(10us, most),
                               [this, flight, row] { store_loaded(flight, row); });
  });
}

void CacheModel::store_loaded(const FlightPtr& flight, std::uint32_t row) {
  const Stored not_stored{.exists = true, .version = kVersionUnknown, .value = {.write = row}};
  // Versions of another branch of history say nothing about this one.
  if (flight->fill_number == 0 || flight->begun_in != session_.epochs()) {
    abandon_fill(*flight);
    return land(flight, not_stored, /*may_cache=*/false);
  }
  links_.submit(
      [this, key = flight->key, token = flight->fill_number, row, begun_at = flight->begun_at,
       ignored = flight->ignore_stored, nonce = ++nonces_](RedisServer& server) {
        return server.finish_fill(key, token, row, begun_at, ignored, origin_, nonce);
      },
      /*is_safe=*/false, kWriteTimeout,
      [this, flight, not_stored](Links::Ending ending, const Reply& reply) {
        if (ending != Links::Ending::kAnswered || reply.status != Status::kOk) {
          abandon_fill(*flight);
          return land(flight, not_stored, /*may_cache=*/false);
        }
        flight->read_in = generation();
        land(flight, reply.stored, /*may_cache=*/true);
      });
}

void CacheModel::abandon_fill(Flight& flight) {
  if (flight.fill_number == 0) return;
  links_.submit([key = flight.key, token = std::exchange(flight.fill_number, 0)](
                    RedisServer& server) { return server.abandon_fill(key, token); },
                /*is_safe=*/true, kWriteTimeout, [](Links::Ending, const Reply&) {});
}

// --- landing: nobody can join any more, then L1, then the waiters.

void CacheModel::land(const FlightPtr& flight, const Stored& found, bool may_cache) {
  if (std::exchange(flight->has_landed, true)) return;
  if (const auto newest = flights_.find(flight->key);
      newest != flights_.end() && newest->second == flight) {
    flights_.erase(newest);
  }
  --flights_of_key_[flight->key];
  --flights_under_way_;
  const bool is_vouched = session_.fills_allowed();
  env_.trace.tell(process_.name(), "has read ", key_name(flight->key), " = write ",
                  found.value.write, " version ", found.version, " for ", flight->waiters.size(),
                  may_cache ? "" : ", not to be kept", is_vouched ? "" : ", not vouched for");
  if (may_cache && is_vouched) {
    put_into_l1(std::move(flight->token), found);
  } else {
    forget_older(key_name(flight->key), is_vouched ? found.version : kVersionUnknown);
  }
  flight->token = {};
  if (!found.exists || found.version == kVersionUnknown || !is_vouched) return;
  if (flight->read_in != generation()) return;  // Of an epoch that has ended meanwhile,
  if (const auto server = links_.stream_server()) {
    if (servers_[*server]->branch() != stream_branch_) return;  // though nobody has told us yet.
  }
  const Seen now{generation(), found.value, found.version};
  for (const Seen& before : flight->waiters) {
    env_.checkers.seen_in_order(process_.name(), flight->key, before, now);
  }
  saw(flight->key, now);
}

void CacheModel::land_failed(const FlightPtr& flight) {
  if (std::exchange(flight->has_landed, true)) return;
  if (const auto newest = flights_.find(flight->key);
      newest != flights_.end() && newest->second == flight) {
    flights_.erase(newest);
  }
  --flights_of_key_[flight->key];
  --flights_under_way_;
  flight->token = {};
}

void CacheModel::put_into_l1(coherence::FillTable::Token token, const Stored& found) {
  const std::string key = token.key();
  if (env_.options.sabotage != Sabotage::kAheadForgotten) session_.note_fill(key, found.version);
  interleave();
  const auto insert = [&] {
    static_cast<void>(l1_->insert(key, to_bytes(found.value), {.version = found.version}));
  };
  if (env_.options.sabotage == Sabotage::kTokensUnheeded) {
    insert();
    ++env_.counts.fills;
    return;
  }
  const bool is_in = fills_.commit(std::move(token), found.version, insert);
  ++(is_in ? env_.counts.fills : env_.counts.fills_refused);
  // What is older must not come back after the callers have had this.
  if (!is_in) forget_older(key, found.version);
  env_.trace.tell(process_.name(), is_in ? "keeps " : "may not keep ", key, " = write ",
                  found.value.write, " version ", found.version);
}

}  // namespace tiercel::sim
