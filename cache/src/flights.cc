#include "flights.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tiercel/base/check.h"

// Invariants, under a stripe's lock:
//   every flight that has not landed is in `flying`;
//   `joinable` maps a key to the newest flight of it; its string_view points into that flight,
//   which `flying` keeps alive;
//   a flight that waits at the gate is the joinable one of its key;
//   a flight's token is under way exactly until it lands.

namespace tiercel {

Flights::Flights(coherence::FillTable& fills, std::size_t stripes) : fills_(fills) {
  stripes_.reserve(stripes);
  for (std::size_t i = 0; i < stripes; ++i) stripes_.push_back(std::make_unique<Stripe>());
}

Flights::Stripe& Flights::stripe_of(std::string_view key) {
  return *stripes_[std::hash<std::string_view>{}(key) % stripes_.size()];
}

// Under the stripe's lock.
bool Flights::may_join(Flight& flight, bool may_join_begun) {
  if (may_join_begun && fills_.untouched(flight.token_)) return true;
  if (!flight.waits_at_gate_) return false;
  flight.token_ = fills_.begin(flight.key);
  flight.is_renewed_ = true;
  return true;
}

Flights::Boarding Flights::board(std::string_view key, Waiter waiter, const Loader& loader,
                                 bool may_join_begun) {
  Stripe& stripe = stripe_of(key);
  MutexLock lock{stripe.mutex};
  const auto found = stripe.joinable.find(key);
  if (found != stripe.joinable.end() && may_join(*found->second, may_join_begun)) {
    found->second->waiters_.push_back(std::move(waiter));
    found->second->wants_more_ |= !may_join_begun;
    return {found->second, false};
  }
  auto flight = std::make_shared<Flight>(std::string{key}, loader);
  flight->token_ = fills_.begin(key);
  flight->waiters_.push_back(std::move(waiter));
  flight->wants_more_ = flight->must_ask_tags = !may_join_begun;
  // Erased first: the map's key must point into the flight that it leads to.
  if (found != stripe.joinable.end()) stripe.joinable.erase(found);
  stripe.joinable.emplace(flight->key, flight);
  stripe.flying.insert(flight);
  return {std::move(flight), true};
}

Flights::Landed Flights::land(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  return land_locked(stripe, flight);
}

Flights::Landed Flights::land_locked(Stripe& stripe, const std::shared_ptr<Flight>& flight) {
  if (flight->has_landed_) return {};
  flight->has_landed_ = true;
  const auto found = stripe.joinable.find(flight->key);
  if (found != stripe.joinable.end() && found->second == flight) stripe.joinable.erase(found);
  stripe.flying.erase(flight);
  return {std::move(flight->token_), std::exchange(flight->waiters_, {}), true};
}

bool Flights::land_if_empty(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  if (!flight->waiters_.empty()) return false;
  land_locked(stripe, flight);
  return true;
}

std::optional<TimePoint> Flights::patience(const Flight& flight) {
  MutexLock lock{stripe_of(flight.key).mutex};
  std::optional<TimePoint> latest;
  for (const auto& waiter : flight.waiters_) {
    latest = std::max(latest.value_or(waiter.deadline), waiter.deadline);
  }
  return latest;
}

bool Flights::arrive_at_gate(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  if (flight->has_landed_) return false;
  const auto [newest, is_alone] = stripe.joinable.try_emplace(flight->key, flight);
  if (is_alone || newest->second == flight) {
    flight->waits_at_gate_ = true;
    return true;
  }
  // What the newer flight will find is at least as new as what these came for.
  std::ranges::move(flight->waiters_, std::back_inserter(newest->second->waiters_));
  flight->waiters_.clear();
  newest->second->wants_more_ |= flight->wants_more_;
  land_locked(stripe, flight);
  return false;
}

Flights::AtGate Flights::pass_gate(const std::shared_ptr<Flight>& flight) {
  MutexLock lock{stripe_of(flight->key).mutex};
  flight->waits_at_gate_ = false;
  return {std::exchange(flight->is_renewed_, false), !flight->wants_more_};
}

std::vector<Waiter> Flights::take_overdue(TimePoint now) {
  std::vector<Waiter> taken;
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    for (const auto& flight : stripe->flying) {
      auto& waiters = flight->waiters_;
      const auto overdue =
          std::stable_partition(waiters.begin(), waiters.end(),
                                [now](const Waiter& waiter) { return waiter.deadline > now; });
      std::move(overdue, waiters.end(), std::back_inserter(taken));
      waiters.erase(overdue, waiters.end());
    }
  }
  return taken;
}

std::vector<std::shared_ptr<Flight>> Flights::all() {
  std::vector<std::shared_ptr<Flight>> flights;
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    flights.insert(flights.end(), stripe->flying.begin(), stripe->flying.end());
  }
  return flights;
}

void LoadGate::enter(const std::string& key, UniqueFunction<void()> enter) {
  {
    MutexLock lock{mutex_};
    const auto [line, first] = lines_.try_emplace(key);
    if (!first) {
      line->second.push_back(std::move(enter));
      return;
    }
  }
  enter();
}

void LoadGate::leave(const std::string& key) {
  UniqueFunction<void()> next;
  {
    MutexLock lock{mutex_};
    const auto line = lines_.find(key);
    TIERCEL_CHECK(line != lines_.end());
    if (line->second.empty()) {
      lines_.erase(line);
      return;
    }
    next = std::move(line->second.front());
    line->second.erase(line->second.begin());
  }
  next();
}

}  // namespace tiercel
