#include "flights.h"

#include <algorithm>
#include <functional>
#include <iterator>
#include <utility>

#include "tiercel/base/check.h"

// Invariants, under a stripe's lock:
//   every flight that has not landed is in `flying`, and owns itself;
//   `joinable` maps a key to the newest flight of it that has not landed, if that can still be
//   joined: a newer one takes the place of an older one;
//   a flight that waits at the gate is the joinable one of its key;
//   a flight's token is under way exactly until it lands.

namespace tiercel {

Flights::Flights(coherence::FillTable& fills, std::size_t stripes) : fills_(fills) {
  stripes_.reserve(stripes);
  for (std::size_t i = 0; i < stripes; ++i) stripes_.push_back(std::make_unique<Stripe>());
}

// What flies owns itself.
Flights::~Flights() {
  for (const auto& flight : all()) land(flight);
}

std::size_t Flights::hash_of(std::string_view key) noexcept {
  return std::hash<std::string_view>{}(key);
}

// The low bits choose the bucket inside the stripe.
Flights::Stripe& Flights::stripe_of(std::size_t hash) {
  return *stripes_[(hash >> 32) % stripes_.size()];
}

// Under the stripe's lock.
bool Flights::may_join(Flight& flight, bool may_join_begun) {
  if (may_join_begun && fills_.untouched(flight.token_)) return true;
  if (!flight.waits_at_gate_) return false;
  flight.token_ = fills_.begin(flight.key);
  flight.is_renewed_ = true;
  flight.stale_.reset();  // It was of before the change that has touched the old one.
  return true;
}

Flights::Boarding Flights::board(std::string_view key, Waiter waiter, const Loader& loader,
                                 const std::shared_ptr<FillSource>& source, bool loads,
                                 bool may_join_begun) {
  const std::size_t hash = hash_of(key);
  Stripe& stripe = stripe_of(hash);
  MutexLock lock{stripe.mutex};
  Flight* const newest = stripe.joinable.find(key, hash);
  if (newest != nullptr && may_join(*newest, may_join_begun)) {
    newest->waiters_.push_back(std::move(waiter));
    newest->wants_more_ |= !may_join_begun;
    return {newest->itself_, false};
  }
  auto flight = std::make_shared<Flight>(key, hash, loader, source, loads);
  flight->waiters_.push_back(std::move(waiter));
  flight->wants_more_ = flight->must_ask_tags = !may_join_begun;
  take_off(stripe, flight);
  return {std::move(flight), true};
}

void Flights::take_off(Stripe& stripe, const std::shared_ptr<Flight>& flight) {
  flight->token_ = fills_.begin(flight->key);
  stripe.joinable.put(*flight);
  flight->itself_ = flight;
  flight->flying_after_ = stripe.flying;
  if (stripe.flying != nullptr) stripe.flying->flying_before_ = flight.get();
  stripe.flying = flight.get();
}

std::shared_ptr<Flight> Flights::begin_refresh(std::string_view key,
                                               const std::shared_ptr<FillSource>& source) {
  const std::size_t hash = hash_of(key);
  Stripe& stripe = stripe_of(hash);
  MutexLock lock{stripe.mutex};
  Flight* const newest = stripe.joinable.find(key, hash);
  if (newest != nullptr && may_join(*newest, true)) return nullptr;
  auto flight = std::make_shared<Flight>(key, hash, Loader{}, source, /*loads_given=*/true);
  flight->is_refresh = true;
  take_off(stripe, flight);
  return flight;
}

void Flights::offer_stale(const std::shared_ptr<Flight>& flight, Found stale) {
  MutexLock lock{stripe_of(*flight).mutex};
  if (!flight->has_landed_ && !flight->stale_ && fills_.untouched(flight->token_)) {
    flight->stale_ = std::move(stale);
  }
}

std::optional<Found> Flights::stale_of(const Flight& flight) {
  MutexLock lock{stripe_of(flight).mutex};
  if (flight.has_landed_ || !fills_.untouched(flight.token_)) return std::nullopt;
  return flight.stale_;
}

Flights::Landed Flights::land(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(*flight);
  MutexLock lock{stripe.mutex};
  return land_locked(stripe, *flight);
}

// The caller holds it.
Flights::Landed Flights::land_locked(Stripe& stripe, Flight& flight) {
  if (flight.has_landed_) return {};
  flight.has_landed_ = true;
  stripe.joinable.remove(flight);
  (flight.flying_before_ != nullptr ? flight.flying_before_->flying_after_ : stripe.flying) =
      flight.flying_after_;
  if (flight.flying_after_ != nullptr) {
    flight.flying_after_->flying_before_ = flight.flying_before_;
  }
  flight.itself_.reset();
  if (flight.stale_ && !fills_.untouched(flight.token_)) flight.stale_.reset();
  return {std::move(flight.token_), std::exchange(flight.waiters_, {}), true,
          std::move(flight.stale_)};
}

bool Flights::land_if_empty(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(*flight);
  MutexLock lock{stripe.mutex};
  if (!flight->waiters_.empty()) return false;
  land_locked(stripe, *flight);
  return true;
}

std::optional<TimePoint> Flights::patience(const Flight& flight) {
  MutexLock lock{stripe_of(flight).mutex};
  std::optional<TimePoint> latest;
  for (const auto& waiter : flight.waiters_) {
    latest = std::max(latest.value_or(waiter.deadline), waiter.deadline);
  }
  return latest;
}

bool Flights::arrive_at_gate(const std::shared_ptr<Flight>& flight) {
  Stripe& stripe = stripe_of(*flight);
  MutexLock lock{stripe.mutex};
  if (flight->has_landed_) return false;
  Flight* const newest = stripe.joinable.find(flight->key, flight->hash);
  if (newest == nullptr) stripe.joinable.put(*flight);
  if (newest == nullptr || newest == flight.get()) {
    flight->waits_at_gate_ = true;
    return true;
  }
  // What the newer flight will find is at least as new as what these came for.
  std::ranges::move(flight->waiters_, std::back_inserter(newest->waiters_));
  flight->waiters_.clear();
  newest->wants_more_ |= flight->wants_more_;
  land_locked(stripe, *flight);
  return false;
}

Flights::AtGate Flights::pass_gate(const std::shared_ptr<Flight>& flight) {
  MutexLock lock{stripe_of(*flight).mutex};
  flight->waits_at_gate_ = false;
  return {std::exchange(flight->is_renewed_, false), !flight->wants_more_};
}

std::vector<Flights::Overdue> Flights::take_overdue(TimePoint now) {
  std::vector<Overdue> taken;
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    for (Flight* flight = stripe->flying; flight != nullptr; flight = flight->flying_after_) {
      const bool has_stale = flight->stale_ && fills_.untouched(flight->token_);
      auto& waiters = flight->waiters_;
      const auto overdue = std::stable_partition(
          waiters.begin(), waiters.end(), [now, has_stale](const Waiter& waiter) {
            return waiter.deadline > now && !(has_stale && waiter.soft_deadline <= now);
          });
      for (auto waiter = overdue; waiter != waiters.end(); ++waiter) {
        taken.push_back(
            {flight->itself_, std::move(*waiter), has_stale ? flight->stale_ : std::nullopt});
      }
      waiters.erase(overdue, waiters.end());
    }
  }
  return taken;
}

std::vector<std::shared_ptr<Flight>> Flights::all() {
  std::vector<std::shared_ptr<Flight>> flights;
  for (auto& stripe : stripes_) {
    MutexLock lock{stripe->mutex};
    for (Flight* flight = stripe->flying; flight != nullptr; flight = flight->flying_after_) {
      flights.push_back(flight->itself_);
    }
  }
  return flights;
}

void LoadGate::enter(const std::string& key, UniqueFunction<void()> enter,
                     const std::function<void()>& waits) {
  {
    MutexLock lock{mutex_};
    const auto [line, first] = lines_.try_emplace(key);
    if (!first) {
      if (waits) waits();
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
