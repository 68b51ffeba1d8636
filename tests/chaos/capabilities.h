#pragma once

// What the library can do that some faults are about. The one place where a scenario that waits for
// a feature is switched on: set the constant, and fill in the line of instance.cc that it guards.

namespace tiercel::chaos {

// The lease rests on the replicas' or the Sentinels' word, too (LeaseInfo::witness).
inline constexpr bool kHasWitness = true;
// L1 outlives a reconnect and a failover when history matches (CacheStats::epochs_warm).
inline constexpr bool kHasWarmEpochs = true;
// CacheOptions::foreign_writers.
inline constexpr bool kHasForeignWriters = true;
// WriteOptions::replicas.
inline constexpr bool kHasReplicas = true;

}  // namespace tiercel::chaos
