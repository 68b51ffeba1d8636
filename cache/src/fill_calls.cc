// begin_fill and finish_fill on their way to Redis.
//
// A script's call costs the server several times what each key in it costs, so flights that come to
// the same step at the same moment take it in one call (docs/decisions/0024). Each is answered for
// itself; what fails as a whole fails for each.

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "core.h"
#include "scripts.h"
#include "tiercel/base/bytes.h"
#include "together.h"
#include "words.h"

namespace tiercel {
namespace {

using std::chrono::milliseconds;

std::string packed(const serialization::TagSlots& slots) {
  std::string bytes;
  for (const auto slot : slots.span()) {
    bytes += {static_cast<char>(slot >> 8), static_cast<char>(slot & 0xff)};
  }
  return bytes;
}

}  // namespace

std::string Cache::Core::fill_token(const Flight& flight) const {
  std::string token;
  append_u64_be(token, origin_);
  append_u64_be(token, flight.fill_number);
  return token;
}

// A refresh is no use if what is stored is about to be due, too.
milliseconds Cache::Core::left_min_of(const Flight& flight) {
  if (!flight.is_refresh) return milliseconds{0};
  const FillPolicy& policy = flight.source->policy();
  const double ahead =
      policy.refresh_ahead * static_cast<double>(policy.ttl.value_or(milliseconds{0}).count());
  return std::max(milliseconds{1}, milliseconds{static_cast<std::int64_t>(ahead)});
}

// History, tags, the values, the leases.
template <typename T>
Words Cache::Core::fill_keys(std::span<const T> items) const {
  Words keys;
  keys.add(names_.history_key());
  keys.add(names_.tags_key());
  for (const T& item : items) keys.add({names_.value_prefix(), flight_of(item).key});
  for (const T& item : items) keys.add({names_.fill_prefix(), flight_of(item).key});
  return keys;
}

void Cache::Core::begin_fill(const FlightPtr& flight) {
  if (passes_l2(flight)) return;
  if (flight->fill_number == 0) flight->fill_number = 1 + fill_numbers_.fetch_add(1);
  if (loop_->is_forked()) return submit_begins(std::span{&flight, 1});
  FlightPtr item = flight;
  switch (begins_.push(item)) {
    case Outbox<FlightPtr>::Verdict::kFirst: return loop_->post([this] { send_begins(); });
    case Outbox<FlightPtr>::Verdict::kWaits: return;
    case Outbox<FlightPtr>::Verdict::kClosed: break;
  }
  begin_fill_done(flight, now(), closed("the cache was closed"));
}

void Cache::Core::send_begins() {
  const FlightPtrs begins = begins_.take();
  if (begins.empty()) return;  // The cache is being closed.
  client_->submit_together([&] {
    for (std::span<const FlightPtr> rest{begins}; !rest.empty();) {
      const Flight& first = *rest.front();
      Together together{call_bytes_max_};
      for (const FlightPtr& flight : rest) {
        const bool asks_alike = flight->ignore_stored == first.ignore_stored &&
                                left_min_of(*flight) == left_min_of(first);
        const std::size_t key_bytes = flight->key.size();
        const std::size_t bytes = 2 * key_bytes + learned_of(*flight).found_bytes.expected();
        if (!asks_alike || !together.takes(bytes, key_bytes)) break;
      }
      submit_begins(rest.first(together.count()));
      rest = rest.subspan(together.count());
    }
  });
}

// Such as ask alike.
void Cache::Core::submit_begins(std::span<const FlightPtr> flights) {
  const TimePoint sent_at = now();
  Words arguments;
  arguments.add(std::to_string(options_.fill_lease.count()));
  arguments.add(flights.front()->ignore_stored ? "1" : "0");
  arguments.add(std::to_string(left_min_of(*flights.front()).count()));
  for (const auto& flight : flights) arguments.add(fill_token(*flight));
  const Words keys = fill_keys(flights);
  client_->submit_script(
      begin_fills_script(), keys.views(), arguments.views(), l2::Retry::kSafe,
      sent_at + options_.read_timeout_before_load,
      [this, together = FlightPtrs{flights.begin(), flights.end()},
       sent_at](Result<l2::Reply> reply) mutable {
        const std::size_t count = together.size();
        const bool is_answer = reply && reply->is_array() && reply->elements.size() == count + 1;
        for (std::size_t i = 0; i < count; ++i) {
          if (is_answer) {
            together[i]->granted_at = reply->elements[0].text;
            const auto& answer = reply->elements[i + 1].elements;
            const std::size_t found = answer.size() > 1 ? answer[1].text.size() : 0;
            learned_of(*together[i]).found_bytes.note(found);
          }
          begin_fill_done(together[i], sent_at,
                          is_answer ? std::move(reply->elements[i + 1]) : reply);
        }
      });
}

void Cache::Core::finish_fill(FinishedLoad load) {
  // A larger value gains little, and is better copied by its own thread than by the loop.
  if (loop_->is_forked() || load.envelope.size() > Together::kJoinBytesMax) {
    return submit_finishes(std::span{&load, 1});
  }
  switch (finishes_.push(load)) {
    case Outbox<FinishedLoad>::Verdict::kFirst: return loop_->post([this] { send_finishes(); });
    case Outbox<FinishedLoad>::Verdict::kWaits: return;
    case Outbox<FinishedLoad>::Verdict::kClosed: break;
  }
  store_done(load, closed("the cache was closed before the load was stored"));
}

void Cache::Core::send_finishes() {
  std::vector<FinishedLoad> finishes = finishes_.take();
  if (finishes.empty()) return;  // The cache is being closed.
  client_->submit_together([&] { submit_finishes_in_calls(finishes); });
}

void Cache::Core::submit_finishes_in_calls(std::span<FinishedLoad> finishes) {
  while (!finishes.empty()) {
    Together together{call_bytes_max_};
    for (const FinishedLoad& load : finishes) {
      const std::size_t key_bytes = load.flight->key.size();
      if (!together.takes(2 * key_bytes + load.envelope.size(), key_bytes)) break;
    }
    submit_finishes(finishes.first(together.count()));
    finishes = finishes.subspan(together.count());
  }
}

void Cache::Core::submit_finishes(std::span<FinishedLoad> given) {
  std::vector<FinishedLoad> loads;
  loads.reserve(given.size());
  std::vector<std::string> envelopes;  // They need not wait for the reply.
  envelopes.reserve(given.size());
  std::vector<std::string> changed;
  for (FinishedLoad& load : given) {
    // Versions of two epochs are not comparable.
    if (load.flight->granted_in != link_driver_->epochs()) {
      store_done(load, unavailable("the load's epoch has ended"));
      continue;
    }
    changed.push_back(load.flight->key);
    envelopes.push_back(std::move(load.envelope));
    loads.push_back(std::move(load));
  }
  if (loads.empty()) return;
  const auto message = encode_change(serialization::MessageKind::kFillDone, std::move(changed));
  if (!message) {
    for (FinishedLoad& load : loads) store_done(load, message.error());
    return;
  }
  Words arguments;
  arguments.add(*message);
  arguments.add(names_.channel());
  arguments.add(std::to_string(options_.history_entries));
  for (std::size_t i = 0; i < loads.size(); ++i) {
    const FinishedLoad& load = loads[i];
    const Flight& flight = *load.flight;
    arguments.add(fill_token(flight));
    arguments.lend(envelopes[i]);
    arguments.add(ttl_argument(load.life));
    arguments.add(flight.granted_at);
    if (flight.seen) {
      arguments.add({"=", *flight.seen});
    } else {
      arguments.add(flight.ignore_stored ? "1" : "0");
    }
    arguments.add(packed(load.found.tags));
  }
  const Words keys = fill_keys(std::span<const FinishedLoad>{loads});
  client_->submit_script(
      finish_fills_script(), keys.views(), arguments.views(), l2::Retry::kIfNotSent,
      now() + options_.write_timeout,
      [self = shared_from_this(), loads = std::move(loads)](Result<l2::Reply> reply) mutable {
        const bool is_answer = reply && reply->is_array() && reply->elements.size() == loads.size();
        for (std::size_t i = 0; i < loads.size(); ++i) {
          self->store_done(loads[i], is_answer ? std::move(reply->elements[i]) : reply);
        }
      });
}

void Cache::Core::store_done(FinishedLoad& load, const Result<l2::Reply>& reply) {
  const auto version = stored_version(reply);
  if (!version) {
    counters_.loads_not_stored.fetch_add(1, std::memory_order_relaxed);
    abandon_fill(*load.flight);
  }
  load.found.version = version.value_or(coherence::kVersionUnknown);
  land(load.flight, std::move(load.found), load.expires_at, /*may_cache=*/version.has_value());
}

void Cache::Core::abandon_fill(Flight& flight) {
  if (flight.fill_number == 0) return;
  const std::string fill_key = names_.fill_key(flight.key);
  const std::string token = fill_token(flight);
  flight.fill_number = 0;
  const auto message = encode_change(serialization::MessageKind::kFillDone, {flight.key});
  client_->submit_script(
      abandon_fill_script(), std::array<std::string_view, 1>{fill_key},
      std::array<std::string_view, 3>{token, names_.channel(), message ? *message : ""},
      l2::Retry::kSafe, now() + options_.write_timeout, [](Result<l2::Reply>) {});
}

// Any thread. What has not been sent needs no word of the loop's. What was loaded is sent still.
void Cache::Core::close_fill_calls() {
  for (const auto& flight : begins_.close()) {
    begin_fill_done(flight, now(), closed("the cache was closed"));
  }
  std::vector<FinishedLoad> finishes = finishes_.close();
  submit_finishes_in_calls(finishes);
}

}  // namespace tiercel
