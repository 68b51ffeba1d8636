#pragma once

// What a Cache counts, and the state of its lease. Plain values: a snapshot, each number exact,
// together not atomic.

#include <chrono>
#include <cstdint>
#include <string>

#include "tiercel/coherence/witness.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/l2/client.h"

namespace tiercel {

enum class LeaseMode : std::uint8_t {
  kLocal,  // No Redis: L1 is all there is, and always answers.
  kRedis,  // It must be held.
};

std::string_view to_string(LeaseMode mode) noexcept;  // "local", "redis"

// Who vouches that nobody else has become the master: see coherence/witness.h.
using coherence::WitnessMode;  // kNone, kSentinels, kReplicas

struct LeaseInfo {
  bool held = false;
  std::chrono::milliseconds remaining{0};  // 0 when not held; milliseconds::max() when local.
  std::string epoch;                       // Empty while the subscription is down, or when local.
  std::string master;                      // "127.0.0.1:6379", likewise.
  LeaseMode mode = LeaseMode::kLocal;
  // What the lease rests on, or rested on last.
  WitnessMode witness = WitnessMode::kNone;
  std::string why;  // Why it is not held; empty when it is.
};

struct CacheStats {
  l1::Stats l1;
  l2::ClientStats l2;

  // Reads, by who answered. A read counts once.
  std::uint64_t reads_l1 = 0;
  std::uint64_t reads_l2 = 0;
  std::uint64_t reads_loader = 0;
  std::uint64_t reads_absent = 0;  // Answered: no such entry.
  std::uint64_t reads_failed = 0;
  std::uint64_t reads_joined = 0;    // Of all reads, those that shared another's fetch or load.
  std::uint64_t lease_refusals = 0;  // L1 had it, but nothing proved it fresh enough.
  std::uint64_t reads_stale = 0;     // Of those, answered by L1 all the same: serve_stale.

  std::uint64_t loads = 0;
  std::uint64_t loads_failed = 0;
  std::uint64_t loads_not_stored = 0;  // Their fill lease was gone, or Redis was.

  std::uint64_t fills = 0;      // Put into L1.
  std::uint64_t refreshed = 0;  // Given their new value by a message (value_push_bytes_max).
  // Not put into L1: the key changed meanwhile, no lease could vouch, or no stripe can hold it.
  std::uint64_t fills_dropped = 0;

  std::uint64_t writes_acknowledged = 0;
  std::uint64_t writes_failed = 0;   // Not done.
  std::uint64_t writes_unknown = 0;  // Outcome unknown.

  std::size_t invalidations_queued = 0;       // Wait to be sent, now.
  std::uint64_t invalidations_collapsed = 0;  // Times that too many waited and became a clear().

  std::uint64_t values_corrupt = 0;       // In Redis, claimed to be ours, did not parse.
  std::uint64_t values_foreign = 0;       // In Redis, not ours: handed on as raw bytes.
  std::uint64_t messages = 0;             // Received on the channel.
  std::uint64_t messages_unreadable = 0;  // Of these: damaged, foreign, or of a newer release.

  std::uint64_t epochs = 0;
  std::uint64_t epochs_warm = 0;  // Of these, those into which L1 was taken along.
  std::uint64_t l1_drops = 0;
  std::size_t reads_waiting = 0;
};

}  // namespace tiercel
