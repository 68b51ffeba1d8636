#pragma once

// KeyspaceObserver: is told what a keyspace's stats only count: which key, how long, which error.
// For logs, traces and metrics of one's own; override what is of interest. Hits are not told: they
// take nanoseconds.
//
// Threads: the one on which it happened, several at a time: the executor's, the loop's, or that of
// a caller of get (never of try_get). It must not block, since on the loop thread it would hold up
// the cache, its lease included, must not call the cache, and cannot throw: the methods are
// noexcept. What it is told of by different threads may come in another order than it happened in.
//
// Owned by who opens the keyspace, by the keyspace and by its loads that run: it lives until the
// last of them is gone, which is when the cache is closed at the latest. Views and references are
// valid during the call only.
//
//   struct SlowLoads : KeyspaceObserver {
//     void load_ended(const LoadEnded& load) noexcept override {
//       if (load.took > 100ms) note_slow(load.key);
//     }
//   };
//   Keyspace<C>::open(cache, {.name = "player", …, .observer = std::make_shared<SlowLoads>()});
//   (compiled in tests/cache/observer_test.cc)

#include <cstdint>
#include <string_view>

#include "tiercel/base/clock.h"
#include "tiercel/base/error.h"
#include "tiercel/cache/circuit_breaker.h"

namespace tiercel {

enum class LoadOutcome : std::uint8_t { kValue, kUnchanged, kNothing, kFailed };
std::string_view to_string(LoadOutcome outcome) noexcept;  // "value", "unchanged", …

// What has not called the loader: so many loads run and wait (FillPolicy::loads_running_max,
// loads_waiting_max), or the circuit breaker is open.
enum class LoadRefusal : std::uint8_t { kBulkhead, kBreaker };
std::string_view to_string(LoadRefusal by) noexcept;  // "bulkhead", "breaker"

struct LoadEnded {
  std::string_view key;  // Without the keyspace's name.
  Duration took{0};      // The call of the loader; of a batch all of it, for each key.
  LoadOutcome outcome = LoadOutcome::kValue;
  const Error* error = nullptr;  // Set for kFailed.
};

class KeyspaceObserver {
 public:
  virtual ~KeyspaceObserver() = default;

  // The loader was called for this key and has answered; what it brought is not stored yet.
  virtual void load_ended(const LoadEnded& /*load*/) noexcept {}
  virtual void load_refused(std::string_view /*key*/, LoadRefusal /*by*/) noexcept {}
  // A reader was given what had been there, past its life (FillPolicy::stale_max).
  virtual void stale_served(std::string_view /*key*/) noexcept {}
  // An open breaker becomes half-open for the first load after its time, not before.
  virtual void breaker_changed(BreakerState /*from*/, BreakerState /*to*/) noexcept {}
};

}  // namespace tiercel
