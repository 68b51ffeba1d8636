#pragma once

// Flights: single flight. Reads of one key that miss at the same time share one fetch, or one load.
//
// The cache has two of these: one for reads without a loader, one for reads with. Who has no loader
// need not wait for another's, and who has one need not wait for Redis as long as one who has not.
//
// A reader may join a flight only while its fill token is untouched: one that arrives after a
// change was seen must not be given what was read before it (contract C3). It then begins a flight
// of its own, which takes the old one's place; the old one goes on for those who wait in it.
//
// A flight that waits for its turn to load (LoadGate) has read nothing yet, so it stays joinable:
// its token is begun anew instead. And one that comes to the gate when a newer one has taken its
// place hands its waiters over. So at most one flight of a key waits at the gate, however often the
// key is invalidated.
//
// Lock order: a stripe here, then a stripe of the FillTable. Callbacks never run under a lock.

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/key_table.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/cache/cache.h"
#include "tiercel/coherence/fill_table.h"
#include "tiercel/serialization/tag_slots.h"

namespace tiercel {

using ReadCallback = UniqueFunction<void(ReadResult)>;

// Within the life of an entry (fill_policy.h).
struct EntryTimes {
  TimePoint stale_at = TimePoint::max();
  TimePoint refresh_at = TimePoint::max();
  // It came by a source, whose codec has accepted the bytes.
  bool is_checked = false;

  [[nodiscard]] bool are_set() const noexcept { return is_checked || stale_at != TimePoint::max(); }
};

struct Waiter {
  ReadCallback callback{};
  TimePoint deadline{};
  TimePoint soft_deadline = TimePoint::max();  // From then on something stale is good enough.
  std::uint64_t version_min = 0;  // An answer of a lower version, other than 0, is none.
};

// What a flight found, before it is made into a Value for each waiter.
struct Found {
  std::shared_ptr<const std::string> bytes{};  // Null: there is no such entry.
  Tier tier = Tier::kL2;
  std::uint64_t version = 0;
  TimePoint as_of{};  // Reflects everything acknowledged before.
  serialization::TagSlots tags{};
  EntryTimes times{};
  TimePoint expires_at = TimePoint::max();  // Of what is offered as stale.
  bool is_stale = false;
};

class FillBatch;

class Flight : public KeyTableLink<Flight> {
 public:
  Flight(std::string_view key_given, std::size_t hash_given, Loader loader_given,
         std::shared_ptr<FillSource> source_given, bool loads_given)
      : key(key_given),
        hash(hash_given),
        loader(std::move(loader_given)),
        source(std::move(source_given)),
        loads(loads_given) {}

  const std::string key;
  const std::size_t hash;  // Of the key.
  const Loader loader;
  const std::shared_ptr<FillSource> source;  // Of a keyspace's reads.
  const bool loads;                          // By the one or the other; false: it only fetches.
  // Begun beside a read that was answered: goes on without anybody who waits.
  bool is_refresh = false;
  // Begun for a reader to whom our own view of the tags is not new enough.
  bool must_ask_tags = false;

  // Touched by one thread at a time: the one that moves the flight forward.
  std::uint64_t fill_number = 0;  // Not 0: we asked for the fill lease in Redis, by this number.
  std::string granted_at{};       // The history's version then, as the script said it,
  std::uint64_t granted_in = 0;   // in this epoch: versions of another one are not comparable.
  std::uint32_t polls = 0;        // How often someone else held the fill lease.
  bool has_waited = false;        // For that, at all.
  bool ignore_stored = false;     // What Redis holds is corrupt or dead: load over it.
  std::optional<std::string> seen{};  // The first bytes of what is to be replaced.
  bool is_inside_gate = false;        // Of LoadGate: must leave it when it ends.
  std::shared_ptr<FillBatch>
      batch{};  // That it will be loaded with, as long as it has not left it.

 private:
  friend class Flights;
  // Guarded by the mutex of the key's stripe in Flights.
  coherence::FillTable::Token token_;
  std::vector<Waiter> waiters_;
  bool waits_at_gate_ = false;
  bool is_renewed_ = false;  // Its token was begun anew at the gate.
  bool has_landed_ = false;
  std::optional<Found> stale_;  // The way out.
  bool wants_more_ = false;     // Than what is under way, or in L1, when a reader boards.

  // Its places in the stripe.
  std::shared_ptr<Flight> itself_{};  // While it flies.
  Flight* flying_before_ = nullptr;
  Flight* flying_after_ = nullptr;
};

class Flights {
 public:
  explicit Flights(coherence::FillTable& fills, std::size_t stripes = 64);
  ~Flights();
  Flights(const Flights&) = delete;
  Flights& operator=(const Flights&) = delete;

  struct Boarding {
    std::shared_ptr<Flight> flight;
    bool begun = false;  // By this call: the caller must move it forward. Else it joined one.
  };
  // The waiter waits in a flight of the key that it may share, or in a new one with this loader.
  // Where it may not join one that has begun to read, it shares only one that has not.
  Boarding board(std::string_view key, Waiter waiter, const Loader& loader,
                 const std::shared_ptr<FillSource>& source, bool loads, bool may_join_begun);
  // A flight that nobody waits in; nothing where there is one that could be joined.
  std::shared_ptr<Flight> begin_refresh(std::string_view key,
                                        const std::shared_ptr<FillSource>& source);

  // Something that its waiters can be given when there is nothing better; the first offer counts.
  // It is forgotten when the key changes.
  void offer_stale(const std::shared_ptr<Flight>& flight, Found stale);
  // For a loader that wants to know it.
  [[nodiscard]] std::optional<Found> stale_of(const Flight& flight);

  // Ends the flight: nobody can join any more. Returns what it had: the fill token, to be committed
  // or abandoned, and the waiters, to be answered after that. A second call returns nothing.
  struct Landed {
    coherence::FillTable::Token token;
    std::vector<Waiter> waiters;
    bool first = false;
    std::optional<Found> stale{};
  };
  Landed land(const std::shared_ptr<Flight>& flight);
  // Ends it only if nobody waits in it, and says whether it has ended.
  bool land_if_empty(const std::shared_ptr<Flight>& flight);

  // The latest deadline of those who wait in it; nothing when nobody does.
  [[nodiscard]] std::optional<TimePoint> patience(const Flight& flight);

  // The flight is about to wait for its turn to load. False: a newer one has taken its place, its
  // waiters went there, and it has ended.
  [[nodiscard]] bool arrive_at_gate(const std::shared_ptr<Flight>& flight);
  // It is its turn.
  struct AtGate {
    bool is_renewed;  // The key changed while it waited, and someone joined since.
    bool may_use_l1;  // Nobody waits in it whom L1 was too old for.
  };
  [[nodiscard]] AtGate pass_gate(const std::shared_ptr<Flight>& flight);

  // Takes the waiters out whose deadline has passed, or whose soft one has where something stale
  // was offered: they have it with them. O(flights).
  struct Overdue {
    std::shared_ptr<Flight> flight;  // That goes on without it.
    Waiter waiter;
    std::optional<Found> stale{};
  };
  std::vector<Overdue> take_overdue(TimePoint now);
  // All flights, to be landed at the close.
  std::vector<std::shared_ptr<Flight>> all();

 private:
  // `joinable` leads to the newest flight of a key, `flying` to all that have not landed.
  struct Stripe {
    Mutex mutex;
    KeyTable<Flight> joinable TIERCEL_GUARDED_BY(mutex);
    Flight* flying TIERCEL_GUARDED_BY(mutex) = nullptr;
  };
  static std::size_t hash_of(std::string_view key) noexcept;
  Stripe& stripe_of(std::size_t hash);
  Stripe& stripe_of(const Flight& flight) { return stripe_of(flight.hash); }
  bool may_join(Flight& flight, bool may_join_begun);
  void take_off(Stripe& stripe, const std::shared_ptr<Flight>& flight)
      TIERCEL_REQUIRES(stripe.mutex);
  Landed land_locked(Stripe& stripe, Flight& flight) TIERCEL_REQUIRES(stripe.mutex);

  coherence::FillTable& fills_;
  std::vector<std::unique_ptr<Stripe>> stripes_;  // Immutable after construction.
};

// LoadGate: at most one loader at a time for a key in this process, also when an invalidation has
// made the flight that loads unjoinable and another one begins.
class LoadGate {
 public:
  // Runs `enter` at once when no load of the key is under way, else when the one before leaves.
  // `waits` runs before the latter.
  void enter(const std::string& key, UniqueFunction<void()> enter,
             const std::function<void()>& waits = {});
  // The load that entered is done; the next one in line, if any, enters on this thread.
  void leave(const std::string& key);

 private:
  Mutex mutex_;
  std::unordered_map<std::string, std::vector<UniqueFunction<void()>>> lines_
      TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
