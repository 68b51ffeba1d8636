#pragma once

// FillPolicy: how long what a loader brought is kept, when it is brought again, and what readers
// are given while it cannot be. Of a Keyspace. Plain values; the defaults are safe: an hour, with
// jitter, nothing stale.
//
//   0        life - refresh_ahead·life      life (ttl, with jitter)        life + stale_max
//   ├─────────────────┬───────────────────────┬──────────────────────────────┤
//   │ fresh           │ fresh; a read starts  │ stale: a read loads; what    │ gone
//   │                 │ a load beside itself  │ was there is the way out     │
//
// The way out, in this order: a load that succeeds in time; the stale value, when the load fails,
// takes longer than soft_deadline, or may not be tried (breaker, bulkhead); the error.

#include <chrono>
#include <cstddef>
#include <optional>

#include "tiercel/base/result.h"
#include "tiercel/cache/circuit_breaker.h"

namespace tiercel {

struct FillPolicy {
  // Life of an entry whose loader or writer says nothing else. 1 ms to 10 years; nullopt: until it
  // is evicted or invalidated.
  std::optional<std::chrono::milliseconds> ttl = std::chrono::hours{1};
  // That life is shortened by a random part of up to this fraction, so that what was loaded
  // together does not expire together. 0 to 0.9.
  double ttl_jitter = 0.1;
  // For how long "the loader found nothing" is kept. 1 ms to 10 years; nullopt: not at all.
  std::optional<std::chrono::milliseconds> negative_ttl = std::chrono::seconds{5};

  // A read that finds less than this fraction of the life left starts a load beside itself, so that
  // nobody waits when it ends: one instance does, the others take what it stored. 0 (never) to 0.9.
  double refresh_ahead = 0.0;

  // For how long after its life an entry is kept as a way out. 1 ms to 10 years; nullopt: nothing
  // stale is ever served. Never beyond an invalidation: what was invalidated is gone.
  std::optional<std::chrono::milliseconds> stale_max{};
  // After a load that failed, the stale value is given without another try for so long. 1 ms to 1
  // h.
  std::chrono::milliseconds stale_throttle{1000};
  // A reader waits so long for a load before it is given the stale value; the load goes on. Needs
  // stale_max, and should be shorter than the reads' timeout, which is the hard deadline. 0 (at
  // once) to 1 h; nullopt: it waits for the load.
  std::optional<std::chrono::milliseconds> soft_deadline{};

  // Bulkhead: so many loads of this keyspace run at a time in this process, and so many wait for
  // that; one more fails with kOverloaded, or is answered with the stale value. A batch is one.
  // 1 to 1,000,000, and 0 to 1,000,000.
  std::size_t loads_running_max = 64;
  std::size_t loads_waiting_max = 1024;

  // Stops calling a loader that keeps failing. nullopt: it is always called.
  std::optional<BreakerOptions> breaker = BreakerOptions{};
};

// Errors: kInvalidArgument naming the field and its range, or the fields that contradict each other
// (soft_deadline without stale_max; refresh_ahead without a ttl).
Result<void> validate(const FillPolicy& policy);

}  // namespace tiercel
