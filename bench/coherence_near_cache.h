#pragma once

// How stale are the reads of a fleet that is written to all the time? The load of the bench that
// redis-near-cache publishes (github.com/magna-nz/redis-near-cache): 20 instances, 8 readers each,
// 4 writers with 2,000 writes a second together, 10,000 keys of which 500 get 80 % of the reads and
// of the writes, 512-byte values. One thing differs: its readers spin on 14 cores, these read at a
// given rate, so that two cores are not saturated: else what is measured is the scheduler.

#include <cstddef>
#include <cstdint>
#include <string>

#include "coherence_staleness.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

enum class Writing : std::uint8_t {
  kForeign,   // Plain SET by clients that know nothing of Tiercel; foreign_writers is on.
  kThroughUs  // set() of another instance.
};

enum class Reading : std::uint8_t {
  kCoherent,
  kTtlOnly,  // L1 alone with a TTL, and a loader that asks Redis: nobody tells it of a write.
};

struct NearCacheSettings {
  Writing writing = Writing::kForeign;
  Reading reading = Reading::kCoherent;
  std::size_t instances = 20;
  std::size_t readers_each = 8;
  std::size_t writers = 4;
  double writes_per_second = 2000;  // Of all together.
  double reads_per_second = 200;    // Of each reader,
  std::uint32_t burst = 10;         // which reads so many, one after the other, and then sleeps.
  std::uint32_t keys = 10'000;
  std::uint32_t hot_keys = 500;
  double hot_fraction = 0.8;
  std::size_t value_bytes = 512;
  std::chrono::milliseconds lease{500};
  std::chrono::milliseconds ttl{5000};  // Of kTtlOnly.
  Duration warm_up = std::chrono::seconds{1};
  Duration duration = std::chrono::seconds{10};
};

struct NearCacheResult {
  Staleness staleness;
  double reads_per_second = 0;
  double writes_per_second = 0;
  double l1_percent = 0;
  double cores_busy = 0;  // This process's and the server's.
  std::uint64_t reads_failed = 0;
  // Of what the L1s held when all was quiet: how many differed from Redis. Not for kTtlOnly.
  std::uint64_t audited = 0;
  std::uint64_t differing = 0;
};

// With a server of its own. Errors: what could not be opened or written.
Result<NearCacheResult> run_near_cache(const NearCacheSettings& settings);

}  // namespace tiercel::bench
