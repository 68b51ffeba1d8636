#include "flights.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "tiercel/base/check.h"

// Invariants, under a stripe's lock:
//   every flight that has not landed is in `flying`;
//   `joinable` maps a key to the newest flight of it; its string_view points into that flight,
//   which `flying` keeps alive; a flight's token is under way exactly until it lands.

namespace tiercel {

Flights::Flights(coherence::FillTable& fills, std::size_t stripes) : fills_(fills) {
  stripes_.reserve(stripes);
  for (std::size_t i = 0; i < stripes; ++i) stripes_.push_back(std::make_unique<Stripe>());
}

Flights::Stripe& Flights::stripe_of(std::string_view key) {
  return *stripes_[std::hash<std::string_view>{}(key) % stripes_.size()];
}

Flights::Boarding Flights::board(std::string_view key, Waiter waiter, const Loader& loader) {
  waiter.has_loader = static_cast<bool>(loader);
  Stripe& stripe = stripe_of(key);
  MutexLock lock{stripe.mutex};
  const auto found = stripe.joinable.find(key);
  if (found != stripe.joinable.end() && fills_.untouched(found->second->token_)) {
    const auto& flight = found->second;
    flight->waiters_.push_back(std::move(waiter));
    if (!flight->loader_) flight->loader_ = loader;
    return {flight, false};
  }
  auto flight = std::make_shared<Flight>(std::string{key});
  flight->token_ = fills_.begin(key);
  flight->waiters_.push_back(std::move(waiter));
  flight->loader_ = loader;
  // Erased first: the map's key must point into the flight that it leads to.
  if (found != stripe.joinable.end()) stripe.joinable.erase(found);
  stripe.joinable.emplace(flight->key, flight);
  stripe.flying.insert(flight);
  return {std::move(flight), true};
}

Loader Flights::loader_of(const Flight& flight) {
  MutexLock lock{stripe_of(flight.key).mutex};
  return flight.loader_;
}

Flights::Landed Flights::land(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  return land_locked(stripe, flight);
}

Flights::Landed Flights::land_locked(Stripe& stripe, const std::shared_ptr<Flight>& flight) {
  if (flight->landed_) return {};
  flight->landed_ = true;
  const auto found = stripe.joinable.find(flight->key);
  if (found != stripe.joinable.end() && found->second == flight) stripe.joinable.erase(found);
  stripe.flying.erase(flight);
  return {std::move(flight->token_), std::exchange(flight->waiters_, {}), true};
}

bool Flights::land_if_empty(const std::shared_ptr<Flight>& flight) {
  Landed landed;  // Outlives the lock: what it holds may lock other things as it goes.
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  if (!flight->waiters_.empty()) return false;
  landed = land_locked(stripe, flight);
  return true;
}

namespace {

// Moves the waiters that `leaves` holds for to `taken`; the others keep their order.
template <typename Predicate>
void move_out(std::vector<Waiter>& waiters, std::vector<Waiter>& taken, Predicate leaves) {
  const auto gone = std::stable_partition(waiters.begin(), waiters.end(),
                                          [&](const Waiter& waiter) { return !leaves(waiter); });
  std::move(gone, waiters.end(), std::back_inserter(taken));
  waiters.erase(gone, waiters.end());
}

}  // namespace

Flights::Landed Flights::land_unless_loading(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(flight->key);
  MutexLock lock{stripe.mutex};
  if (!flight->loader_) return land_locked(stripe, flight);
  Landed landed;
  move_out(flight->waiters_, landed.waiters,
           [](const Waiter& waiter) { return !waiter.has_loader; });
  return landed;
}

std::vector<Waiter> Flights::take_overdue(TimePoint now) {
  std::vector<Waiter> taken;
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    for (const auto& flight : stripe->flying) {
      move_out(flight->waiters_, taken,
               [now](const Waiter& waiter) { return waiter.deadline <= now; });
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
