// A read with a loader that L1 does not answer.
//
//   begin_fill ──► value ─────────────────────────────────────────────────────────► land
//     ▲   │└─────► someone else loads: await_fill ─► begin_fill again
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
#include <exception>
#include <utility>

#include "core.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

// While the channel cannot tell when the load has ended, Redis is asked again and again.
constexpr milliseconds kPollFirst = 10ms;
constexpr milliseconds kPollMax = 200ms;
// While it can, only in case that a message is lost with the subscription.
constexpr milliseconds kWaitForWordMax = 1s;
// By which a stored value is known again: its version.
constexpr std::size_t kSeenBytes = 8;

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

// --- Redis may fail, and a loader does not need it

bool Cache::Core::l2_may_be_asked() {
  if (!l2_is_suspect_.load(std::memory_order_relaxed)) return true;
  MutexLock lock{l2_breaker_mutex_};
  return !l2_breaker_ || l2_breaker_->may_call(now());
}

void Cache::Core::l2_has_answered(bool did) {
  if (did && !l2_is_suspect_.load(std::memory_order_relaxed)) return;
  MutexLock lock{l2_breaker_mutex_};
  if (!l2_breaker_) return;
  l2_is_suspect_.store(true, std::memory_order_relaxed);
  l2_breaker_->report(did, now());
}

// It does: Redis is not to be asked.
bool Cache::Core::passes_l2(const std::shared_ptr<Flight>& flight) {
  if (l2_may_be_asked()) return false;
  if (flight->is_refresh && load_flights_.land_if_empty(flight)) {
    leave_batch(*flight);
    leave_gate(*flight);
    return true;
  }
  counters_.loads_past_l2.fetch_add(1, std::memory_order_relaxed);
  abandon_fill(*flight);
  queue_load(flight);
  return true;
}

// --- what Redis says

// A GET costs the server a third of begin_fill. It is the first where it mostly is the last.
void Cache::Core::look_before_load(const std::shared_ptr<Flight>& flight) {
  if (passes_l2(flight)) return;
  look(flight, now() + options_.read_timeout_before_load);
}

void Cache::Core::look_before_load_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                        const Result<l2::ReplyView>& reply) {
  if (!reply) return begin_fill_done(flight, sent_at, reply.error());
  l2_has_answered(true);
  if (!reply->is_string()) {
    learned_of(*flight).luck.tell(false);
    return begin_fill(flight);
  }
  flight->seen = reply->text().substr(0, kSeenBytes);
  land_on_stored(flight, sent_at, kTtlNotAsked, reply->text());
}

void Cache::Core::begin_fill_done(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                                  Result<l2::Reply> reply) {
  l2_has_answered(reply.has_value());
  if (!reply) {
    const auto code = reply.error().code;
    if (code == ErrorCode::kClosed || code == ErrorCode::kOverloaded) {
      return land_failed(flight, reply.error());
    }
    // Redis is away: what the loader brings is handed on, and stored nowhere.
    abandon_fill(*flight);
    return queue_load(flight);
  }
  // An integer, or an array that begins with one: scripts.h.
  const auto& elements = reply->elements;
  const bool is_list = reply->is_array() && elements.size() >= 3;
  const std::int64_t outcome = is_list               ? elements[0].integer
                               : reply->is_integer() ? reply->integer
                                                     : -1;
  if (outcome == 0 && !flight->ignore_stored) {  // No string: no writer of ours made it.
    counters_.values_corrupt.fetch_add(1, std::memory_order_relaxed);
    flight->ignore_stored = true;
    return begin_fill(flight);
  }
  if (outcome == 1 && is_list) {
    flight->seen = elements[1].text.substr(0, kSeenBytes);
    return land_on_stored(flight, sent_at, elements[2].integer, elements[1].text);
  }
  if (outcome == 2 || outcome == 3) {
    learned_of(*flight).luck.tell(false);
    if (is_list && elements[1].is_string()) {
      flight->seen = elements[1].text.substr(0, kSeenBytes);
      offer_old(flight, sent_at, elements[1], elements[2].integer);
    } else if (!flight->ignore_stored) {
      flight->seen.reset();
    }
  }
  if (outcome == 2) {
    flight->granted_in = link_driver_->epochs();
    return queue_load(flight);
  }
  if (outcome == 3) {
    // It renews it for us, too.
    if (flight->is_refresh && load_flights_.land_if_empty(flight)) return leave_gate(*flight);
    leave_batch(*flight);
    return await_fill(flight, sent_at, elements.size() == 4 ? elements[3].integer : -1);
  }
  abandon_fill(*flight);  // An error of the server's, e.g. a fill key of another type.
  queue_load(flight);
}

// What is there, though it is no answer: the way out, and what a loader may want to know.
void Cache::Core::offer_old(const std::shared_ptr<Flight>& flight, TimePoint sent_at,
                            const l2::Reply& old, std::int64_t ttl_ms) {
  if (!flight->source) return;
  const auto stored = serialization::decode_value(old.text);
  if (!stored || stored->foreign || stored->envelope.negative || stored->envelope.tombstone) return;
  if (!flight->source->codec().accept(stored->envelope.codec_id, stored->envelope.payload)) return;
  const auto& slots = stored->envelope.tag_slots;
  if (!links_vouch() || tags_.is_dead(tags_.generation(), stored->version, slots.span())) return;
  load_flights_.offer_stale(
      flight, Found{.bytes = std::make_shared<const std::string>(stored->envelope.payload),
                    .tier = Tier::kL2,
                    .version = stored->version,
                    .as_of = sent_at,
                    .tags = slots,
                    .expires_at = sent_at + milliseconds{std::max<std::int64_t>(0, ttl_ms)}});
}

// Someone else, in another process, loads the key, for `lease_ms` at most (negative: not said). The
// channel says when that has ended; its message may have overtaken the answer to our question.
void Cache::Core::await_fill(const std::shared_ptr<Flight>& flight, TimePoint asked_at,
                             std::int64_t lease_ms) {
  if (load_flights_.land_if_empty(flight)) return leave_gate(*flight);
  if (!std::exchange(flight->has_waited, true) && flight->source) {
    flight->source->counters.waits.fetch_add(1, std::memory_order_relaxed);
  }
  flight->ignore_stored = false;  // What is stored by then may be good.
  flight->seen.reset();
  milliseconds pause = kWaitForWordMax;
  if (!link_driver_->stream_is_up()) {
    pause = std::min(kPollMax, kPollFirst * (1 << std::min(flight->polls++, 8U)));
  } else if (fill_waits_.may_have_ended_since(flight->key, asked_at)) {
    pause = flight->polls++ == 0 ? milliseconds{0} : kPollFirst;
  }
  // A loader that died lets its lease run out.
  if (lease_ms >= 0) pause = std::min(pause, milliseconds{std::max<std::int64_t>(1, lease_ms)});
  // Who has the lease may be behind us.
  leave_gate(*flight);
  const auto timer = loop_->run_after(pause, [this, flight] {
    fill_waits_.remove(*flight);
    begin_fill(flight);
  });
  fill_waits_.add(flight, timer);
}

// Loop thread.
void Cache::Core::fill_done(std::string_view key) {
  for (auto& [flight, timer] : fill_waits_.take(key, now())) {
    loop_->cancel(timer);
    begin_fill(flight);
  }
}

void Cache::Core::queue_load(const std::shared_ptr<Flight>& flight) {
  if (flight->is_inside_gate) return start_load(flight);
  if (!load_flights_.arrive_at_gate(flight)) {
    leave_batch(*flight);
    return abandon_fill(*flight);
  }
  // Who waits for another load of the key does not hold up the others of its batch. Until it is let
  // in nobody else moves it.
  std::shared_ptr<FillBatch> left;
  load_gate_.enter(
      flight->key, [self = shared_from_this(), flight] { self->pass_gate(flight); },
      [&] { left = std::exchange(flight->batch, {}); });
  if (left == nullptr) return;
  if (auto ready = left->leave(); !ready.empty()) start_loads(std::move(ready));
}

void Cache::Core::leave_batch(Flight& flight) {
  if (flight.batch == nullptr) return;
  const auto batch = std::exchange(flight.batch, {});
  if (auto ready = batch->leave(); !ready.empty()) start_loads(std::move(ready));
}

void Cache::Core::pass_gate(const std::shared_ptr<Flight>& flight) {
  flight->is_inside_gate = true;
  const auto [is_renewed, may_use_l1] = load_flights_.pass_gate(flight);
  if (!may_use_l1) flight->must_ask_tags = true;
  if (!flight->is_refresh && load_flights_.land_if_empty(flight)) {
    leave_batch(*flight);
    abandon_fill(*flight);
    return leave_gate(*flight);
  }
  // The load before this one may have brought what is wanted.
  Peek found = may_use_l1 ? peek(flight->key, {}) : Peek{};
  const bool is_readable = !flight->source || !found.value || found.value->is_checked();
  if (found.is_answer() && is_readable && !(flight->is_refresh && found.wants_refresh)) {
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
  if (flight->batch == nullptr) return start_loads({flight});
  const auto batch = std::exchange(flight->batch, {});
  if (auto ready = batch->arrive(flight); !ready.empty()) start_loads(std::move(ready));
}

// All of one source: alone, or of one batch.
void Cache::Core::start_loads(FlightPtrs loads) {
  const auto flights = std::make_shared<FlightPtrs>(std::move(loads));
  const auto& source = flights->front()->source;
  if (source == nullptr) return post_loads(flights);
  switch (source->enter([self = shared_from_this(), flights] { self->post_loads(flights); })) {
    case FillSource::Entry::kRuns: return post_loads(flights);
    case FillSource::Entry::kWaits: return;
    case FillSource::Entry::kRefused: break;
  }
  std::vector<std::string_view> keys;
  for (const auto& flight : *flights) keys.push_back(flight->key);
  source->note_refused(keys, LoadRefusal::kBulkhead);
  fail_loads(*flights, overloaded("keyspace '" + source->name() + "': loads_running_max (" +
                                  std::to_string(source->policy().loads_running_max) +
                                  ") loads run and loads_waiting_max (" +
                                  std::to_string(source->policy().loads_waiting_max) + ") wait"));
}

void Cache::Core::post_loads(const std::shared_ptr<FlightPtrs>& flights) {
  const auto finished = [](Core& core) {
    MutexLock lock{core.loads_mutex_};
    --core.loads_running_;
    core.loads_changed_.notify_all();
  };
  {
    MutexLock lock{loads_mutex_};
    ++loads_running_;
  }
  auto posted = executor_->post([self = shared_from_this(), flights, finished] {
    self->load(*flights);
    finished(*self);
  });
  if (posted) return;
  const auto source = flights->front()->source;
  fail_loads(*flights, posted.error());
  finished(*this);
  // Later, since the next in line may fail likewise, and the one after that.
  if (source) loop_->post([source] { source->leave(); });
}

void Cache::Core::fail_loads(const FlightPtrs& flights, const Error& error) {
  for (const auto& flight : flights) {
    abandon_fill(*flight);
    // On the loop thread what is left of the old value can be put into L1 for a while.
    if (flight->source && !is_local() && !loop_->on_loop_thread()) {
      loop_->post([self = shared_from_this(), flight, error] { self->land_failed(flight, error); });
    } else {
      land_failed(flight, error);
    }
  }
}

Result<void> Cache::Core::check_loaded(const Loaded& loaded) const {
  if (auto fits = check_value("the loader's value", loaded.bytes); !fits) return fits;
  if (loaded.ttl) {
    if (auto valid = check_ttl(*loaded.ttl); !valid) return valid;
  }
  const auto tags = tag_slots_of(loaded.tags);
  return tags ? Result<void>{} : Result<void>{tags.error()};
}

// On the executor.
void Cache::Core::load(const FlightPtrs& flights) {
  const auto source = flights.front()->source;
  if (closed_.load(std::memory_order_acquire)) {
    fail_loads(flights, closed("the cache was closed"));
    if (source) source->leave();
    return;
  }
  counters_.loads.fetch_add(flights.size(), std::memory_order_relaxed);
  const TimePoint began_at = now();
  std::vector<std::optional<Found>> old;
  std::vector<LoadResult> results;
  if (source) {
    std::vector<LoadRequest> requests;
    for (const auto& flight : flights) {
      old.push_back(load_flights_.stale_of(*flight));
      requests.push_back({.key = flight->key});
      if (!old.back()) continue;
      requests.back().old_value = *old.back()->bytes;
      requests.back().old_version = old.back()->version;
    }
    results = source->load(requests, *options_.clock);
    source->leave();
  } else {
    old.resize(1);
    results.push_back(run_loader(flights.front()->loader, flights.front()->key));
  }
  for (std::size_t i = 0; i < flights.size(); ++i) {
    LoadResult& result = results[i];
    serialization::TagSlots tags;
    if (result && *result && (*result)->is_unchanged) {
      if (old[i]) {
        (*result)->bytes = *old[i]->bytes;
        tags = old[i]->tags;
      } else {
        result = internal("the loader says that the value is unchanged, and was not told of any");
      }
    } else if (result && *result) {
      if (auto valid = check_loaded(**result); !valid) {
        result = valid.error();
      } else {
        tags = *tag_slots_of((*result)->tags);
      }
    }
    if (result) {
      store_loaded(flights[i], std::move(*result), tags, began_at);
    } else {
      counters_.loads_failed.fetch_add(1, std::memory_order_relaxed);
      fail_loads({flights[i]}, result.error());
    }
  }
}

Cache::Core::Life Cache::Core::life_of(const FillSource& source, Life own, bool negative) {
  if (own) return own;
  const FillPolicy& policy = source.policy();
  return shortened(negative ? policy.negative_ttl : policy.ttl, policy.ttl_jitter);
}

Cache::Core::Life Cache::Core::kept_for(const FillSource& source, Life soft) {
  if (!soft || !source.policy().stale_max) return soft;
  return std::min(*soft + *source.policy().stale_max, kTtlMax);
}

// Of an entry that came by this source; nullptr: by none.
EntryTimes Cache::Core::times_of(const FillSource* source, Life soft, TimePoint stale_at) {
  EntryTimes times{.stale_at = stale_at, .is_checked = source != nullptr};
  if (source == nullptr || !soft || source->policy().refresh_ahead == 0.0) return times;
  const double ahead =
      source->policy().refresh_ahead * static_cast<double>(Duration{*soft}.count());
  times.refresh_at = stale_at - Duration{static_cast<Duration::rep>(ahead)};
  return times;
}

void Cache::Core::store_loaded(const std::shared_ptr<Flight>& flight, std::optional<Loaded> loaded,
                               const serialization::TagSlots& tags, TimePoint began_at) {
  const bool negative = !loaded;
  Found found{.tier = Tier::kLoader, .as_of = began_at};
  if (loaded) {
    found.bytes = std::make_shared<const std::string>(std::move(loaded->bytes));
    found.tags = tags;
  }
  const Life own = loaded ? loaded->ttl : std::nullopt;
  const FillSource* const source = flight->source.get();
  // Its life, and how long it is kept.
  const Life soft = source != nullptr ? life_of(*source, own, negative) : life_of(own, negative);
  const auto negative_ttl =
      source != nullptr ? source->policy().negative_ttl : options_.negative_ttl;
  const bool keep = !negative || negative_ttl.has_value();
  // What was there is not there any more: its place is taken, for a moment, by nothing.
  const bool removes = !keep && flight->seen.has_value();
  const Life life = removes                          ? Life{milliseconds{1}}
                    : source != nullptr && !negative ? kept_for(*source, soft)
                                                     : soft;
  const TimePoint stored_at = now();
  const TimePoint expires_at = end_of(life, stored_at);
  if (source != nullptr && !negative) found.times = times_of(source, soft, end_of(soft, stored_at));
  if (is_local()) {
    found.version = 1 + local_versions_.fetch_add(1);
    return land(flight, std::move(found), expires_at, keep);
  }
  auto envelope = serialization::encode_envelope(
      {.negative = negative,
       .soft_ttl = life == soft ? milliseconds{0} : soft.value_or(milliseconds{0}),
       .hard_ttl = life.value_or(milliseconds{0}),
       .codec_id = source != nullptr ? source->codec().codec_id : serialization::kCodecRaw,
       .tag_slots = found.tags,
       .payload = negative ? std::string_view{} : std::string_view{*found.bytes}});
  if ((!keep && !removes) || flight->fill_number == 0 || !envelope) {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
    abandon_fill(*flight);
    return land(flight, std::move(found), expires_at, /*may_cache=*/false);
  }
  finish_fill({.flight = flight,
               .found = std::move(found),
               .expires_at = expires_at,
               .life = life,
               .envelope = *std::move(envelope)});
}

}  // namespace tiercel
