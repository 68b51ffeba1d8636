#pragma once

// Flights: single flight. Reads of one key that miss at the same time share one fetch or load.
//
// A reader may join a flight only while its fill token is untouched: one that arrives after a
// change was seen must not be given what was read before it (contract C3). It then begins a flight
// of its own, which takes the old one's place; the old one goes on for those who wait in it.
//
// Lock order: a stripe here, then a stripe of the FillTable. Callbacks never run under a lock.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/cache/cache.h"
#include "tiercel/coherence/fill_table.h"

namespace tiercel {

using ReadCallback = UniqueFunction<void(ReadResult)>;

struct Waiter {
  ReadCallback callback{};
  TimePoint deadline{};
  bool has_loader = false;
};

// What a flight found, before it is made into a Value for each waiter.
struct Found {
  std::shared_ptr<const std::string> bytes{};  // Null: there is no such entry.
  Tier tier = Tier::kL2;
  std::uint64_t version = 0;
  TimePoint as_of{};  // Reflects everything acknowledged before.
};

class Flights;

class Flight {
 public:
  explicit Flight(std::string key_given) : key(std::move(key_given)) {}

  const std::string key;

  // Touched by one thread at a time: the one that moves the flight forward.
  std::uint64_t fill_number = 0;  // Not 0: the fill lease in Redis is ours, under this token.
  std::uint32_t polls = 0;        // How often someone else held the fill lease.
  bool ignore_stored = false;     // What Redis holds is corrupt: load over it.

 private:
  friend class Flights;
  // Guarded by the mutex of the key's stripe in Flights.
  coherence::FillTable::Token token_;
  std::vector<Waiter> waiters_;
  Loader loader_;  // Of the first waiter that had one; empty while nobody has.
  bool landed_ = false;
};

class Flights {
 public:
  explicit Flights(coherence::FillTable& fills, std::size_t stripes = 64);

  struct Boarding {
    std::shared_ptr<Flight> flight;
    bool begun = false;  // By this call: the caller must move it forward. Else it joined one.
  };
  // The waiter waits in a flight of the key that it may share, or in a new one.
  Boarding board(std::string_view key, Waiter waiter, const Loader& loader);

  // A copy of the flight's loader; empty if nobody has given one.
  [[nodiscard]] Loader loader_of(const Flight& flight);
  // Ends the flight: nobody can join any more. Returns what it had: the fill token, to be committed
  // or abandoned, and the waiters, to be answered after that. A second call returns nothing.
  struct Landed {
    coherence::FillTable::Token token;
    std::vector<Waiter> waiters;
    bool first = false;
  };
  Landed land(const std::shared_ptr<Flight>& flight);

  // The flight found nothing. Where nobody has a loader that is the answer, and it lands. Else it
  // goes on to load, and only the waiters without one are returned. One step, so that nobody with a
  // loader boards in between and is told "nothing" without it having run.
  Landed land_unless_loading(const std::shared_ptr<Flight>& flight);
  // Ends the flight if nobody waits in it, and says whether it did.
  bool land_if_empty(const std::shared_ptr<Flight>& flight);

  // Takes the waiters out whose deadline has passed. O(flights).
  std::vector<Waiter> take_overdue(TimePoint now);
  // All flights, to be landed at the close.
  std::vector<std::shared_ptr<Flight>> all();

 private:
  struct Stripe {
    Mutex mutex;
    std::unordered_map<std::string_view, std::shared_ptr<Flight>> joinable
        TIERCEL_GUARDED_BY(mutex);
    std::unordered_set<std::shared_ptr<Flight>> flying TIERCEL_GUARDED_BY(mutex);
  };
  Stripe& stripe_of(std::string_view key);
  static Landed land_locked(Stripe& stripe, const std::shared_ptr<Flight>& flight)
      TIERCEL_REQUIRES(stripe.mutex);

  coherence::FillTable& fills_;
  std::vector<std::unique_ptr<Stripe>> stripes_;  // Immutable after construction.
};

// LoadGate: at most one loader at a time for a key in this process, also when an invalidation has
// made the flight that loads unjoinable and another one begins.
class LoadGate {
 public:
  // Runs `enter` at once when no load of the key is under way, else when the one before leaves.
  void enter(const std::string& key, UniqueFunction<void()> enter);
  // The load that entered is done; the next one in line enters, on this thread.
  void leave(const std::string& key);

 private:
  Mutex mutex_;
  std::unordered_map<std::string, std::vector<UniqueFunction<void()>>> lines_
      TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
