// A read with a loader that L1 does not answer.
//
//   begin_fill ──► value ─────────────────────────────────────────────────────────► land
//     ▲   │└─────► someone else loads: poll_fill ─► begin_fill again
//     │   └──────► ours to load: queue_load ─► LoadGate ─► load ─► store_loaded ──► land
//     └─────────────────────────── the key changed meanwhile ◄─┘
//
// A flight is moved on by one thread at a time: by the one that began it, then by replies on the
// loop thread, then by its loader on the executor, then by the store's reply on the loop thread. It
// lands exactly once, and whoever moved it last leaves the gate.
//
// The fill lease in Redis (contract C5) is asked for under a number of the flight's own. Whatever
// way a flight ends without having stored, it gives the lease back, also where it does not know
// that it had it: commands of one connection are run in order, so giving back comes after a late
// grant.

#include <algorithm>
#include <array>
#include <exception>
#include <utility>

#include "core.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr milliseconds kPollFirst = 10ms;
constexpr milliseconds kPollMax = 200ms;

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
      begin_fill_script(),
      std::array<std::string_view, 4>{value_key, fill_key, names_.history_key(), names_.tags_key()},
      std::array<std::string_view, 3>{token, lease_ms, flight->ignore_stored ? "1" : "0"},
      l2::Retry::kSafe, sent_at + options_.read_timeout_before_load,
      [this, flight, sent_at](Result<l2::Reply> reply) {
        begin_fill_done(flight, sent_at, std::move(reply));
      });
}

void Cache::Core::begin_fill_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                  Result<l2::Reply> reply) {
  if (!reply) {
    const auto code = reply.error().code;
    if (code == ErrorCode::kClosed || code == ErrorCode::kOverloaded) {
      return land_failed(flight, reply.error());
    }
    // Redis is away: what the loader brings is handed on, and stored nowhere.
    abandon_fill(*flight);
    return queue_load(flight);
  }
  if (is_wrong_type(*reply) && !flight->ignore_stored) {
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    flight->ignore_stored = true;
    return begin_fill(flight);
  }
  const auto& elements = reply->elements;
  const std::int64_t outcome = reply->is_array() && !elements.empty() ? elements[0].integer : 0;
  if (outcome == 1 && elements.size() == 3) {
    return land_on_stored(flight, sent_at, elements[2].integer, elements[1].text, [this, flight] {
      flight->ignore_stored = true;  // Corrupt, dead, or a tombstone: load over it.
      begin_fill(flight);
    });
  }
  if (outcome == 2 && elements.size() == 2) {
    flight->granted_at = elements[1].text;
    flight->granted_in = link_driver_->epochs();
    return queue_load(flight);
  }
  if (outcome == 3) return poll_fill(flight, elements.size() > 1 ? elements[1].integer : -1);
  abandon_fill(*flight);  // An error of the server's, e.g. a fill key of another type.
  queue_load(flight);
}

// Someone else, in another process, loads the key, for `lease_ms` at most (negative: not said).
void Cache::Core::poll_fill(const std::shared_ptr<Flight>& flight, std::int64_t lease_ms) {
  if (load_flights_.land_if_empty(flight)) return leave_gate(*flight);
  flight->ignore_stored = false;  // What is stored by then may be good.
  auto pause = std::min(kPollMax, kPollFirst * (1 << std::min(flight->polls++, 8U)));
  if (lease_ms >= 0) pause = std::min(pause, milliseconds{std::max<std::int64_t>(1, lease_ms)});
  loop_->run_after(pause, [this, flight] { begin_fill(flight); });
}

void Cache::Core::queue_load(const std::shared_ptr<Flight>& flight) {
  if (flight->is_inside_gate) return start_load(flight);
  if (!load_flights_.arrive_at_gate(flight)) return abandon_fill(*flight);
  load_gate_.enter(flight->key, [self = shared_from_this(), flight] { self->pass_gate(flight); });
}

void Cache::Core::pass_gate(const std::shared_ptr<Flight>& flight) {
  flight->is_inside_gate = true;
  const auto [is_renewed, may_use_l1] = load_flights_.pass_gate(flight);
  if (load_flights_.land_if_empty(flight)) {
    abandon_fill(*flight);
    return leave_gate(*flight);
  }
  // The load before this one may have brought what is wanted.
  if (Peek found = may_use_l1 ? peek(flight->key, {}) : Peek{}; found.is_answer()) {
    abandon_fill(*flight);
    Found again{.tier = Tier::kL1, .as_of = now()};
    if (found.value) {
      again.bytes = std::make_shared<const std::string>(found.value->bytes());
      again.version = found.value->version();
      again.as_of = now() - found.value->age_bound();
    }
    return land(flight, std::move(again), TimePoint::max(), /*may_cache=*/false);
  }
  // The change that renewed it has taken the fill lease away, or stored a value.
  if (is_renewed && !is_local()) return begin_fill(flight);
  start_load(flight);
}

void Cache::Core::start_load(const std::shared_ptr<Flight>& flight) {
  const auto finished = [](Core& core) {
    MutexLock lock{core.loads_mutex_};
    --core.loads_running_;
    core.loads_changed_.notify_all();
  };
  {
    MutexLock lock{loads_mutex_};
    ++loads_running_;
  }
  auto posted = executor_->post([self = shared_from_this(), flight, finished] {
    self->load(flight);
    finished(*self);
  });
  if (posted) return;
  abandon_fill(*flight);
  land_failed(flight, posted.error());
  finished(*this);
}

// On the executor.
void Cache::Core::load(const std::shared_ptr<Flight>& flight) {
  if (closed_.load(std::memory_order_acquire)) {
    abandon_fill(*flight);
    return land_failed(flight, closed("the cache was closed"));
  }
  counters_.loads.fetch_add(1, std::memory_order_relaxed);
  const TimePoint began_at = now();
  auto loaded = run_loader(flight->loader, flight->key);
  if (loaded && *loaded) {
    if (auto fits = check_value("the loader's value", (*loaded)->bytes); !fits)
      loaded = fits.error();
  }
  if (loaded && *loaded && (*loaded)->ttl) {
    if (auto valid = check_ttl(*(*loaded)->ttl); !valid) loaded = valid.error();
  }
  if (loaded && *loaded) {
    if (auto tags = tag_slots_of((*loaded)->tags); !tags) loaded = tags.error();
  }
  if (loaded) return store_loaded(flight, std::move(*loaded), began_at);
  counters_.loads_failed.fetch_add(1, std::memory_order_relaxed);
  abandon_fill(*flight);
  land_failed(flight, loaded.error());
}

void Cache::Core::store_loaded(const std::shared_ptr<Flight>& flight, std::optional<Loaded> loaded,
                               TimePoint began_at) {
  const bool negative = !loaded;
  Found found{.tier = Tier::kLoader, .as_of = began_at};
  if (loaded) {
    found.bytes = std::make_shared<const std::string>(std::move(loaded->bytes));
    found.tags = *tag_slots_of(loaded->tags);  // They were checked.
  }
  const Life life = life_of(loaded ? loaded->ttl : std::nullopt, negative);
  const TimePoint expires_at = end_of(life, now());
  const bool keep = !negative || options_.negative_ttl.has_value();
  if (is_local()) {
    found.version = 1 + local_versions_.fetch_add(1);
    return land(flight, std::move(found), expires_at, keep);
  }
  const auto envelope = serialization::encode_envelope(
      {.negative = negative,
       .hard_ttl = life.value_or(milliseconds{0}),
       .tag_slots = found.tags,
       .payload = negative ? std::string_view{} : std::string_view{*found.bytes}});
  const auto message = encode_change(serialization::MessageKind::kFillDone, {flight->key});
  const bool is_same_epoch = flight->granted_in == link_driver_->epochs();
  if (!keep || flight->fill_number == 0 || !is_same_epoch || !envelope || !message) {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
    abandon_fill(*flight);
    return land(flight, std::move(found), expires_at, /*may_cache=*/false);
  }
  const std::string value_key = names_.value_key(flight->key);
  const std::string fill_key = names_.fill_key(flight->key);
  const std::string token = fill_token(*flight);
  const std::string ttl_ms = ttl_argument(life);
  const std::string entries = std::to_string(options_.history_entries);
  std::vector<std::string> slots;
  for (const auto slot : found.tags.span()) slots.push_back(std::to_string(slot));
  std::vector<std::string_view> arguments{token,
                                          *envelope,
                                          ttl_ms,
                                          *message,
                                          entries,
                                          flight->granted_at,
                                          flight->ignore_stored ? "1" : "0"};
  arguments.insert(arguments.end(), slots.begin(), slots.end());
  client_->submit_script(
      finish_fill_script(),
      std::array<std::string_view, 4>{value_key, fill_key, names_.history_key(), names_.tags_key()},
      arguments, l2::Retry::kIfNotSent, now() + options_.write_timeout,
      [self = shared_from_this(), flight, found = std::move(found),
       expires_at](Result<l2::Reply> reply) mutable {
        self->store_done(flight, std::move(found), expires_at, std::move(reply));
      });
}

void Cache::Core::store_done(const std::shared_ptr<Flight>& flight, Found found,
                             TimePoint expires_at, Result<l2::Reply> reply) {
  const auto version = stored_version(reply);
  if (!version) {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
    abandon_fill(*flight);
  }
  found.version = version.value_or(coherence::kVersionUnknown);
  land(flight, std::move(found), expires_at, /*may_cache=*/version.has_value());
}

void Cache::Core::abandon_fill(Flight& flight) {
  if (flight.fill_number == 0) return;
  const std::string fill_key = names_.fill_key(flight.key);
  const std::string token = fill_token(flight);
  flight.fill_number = 0;
  client_->submit_script(abandon_fill_script(), std::array<std::string_view, 1>{fill_key},
                         std::array<std::string_view, 1>{token}, l2::Retry::kSafe,
                         now() + options_.write_timeout, [](Result<l2::Reply>) {});
}

}  // namespace tiercel
