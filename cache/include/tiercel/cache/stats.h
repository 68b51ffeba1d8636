#pragma once

// What a Cache counts, and the state of its lease. Plain values: a snapshot, each number exact,
// together not atomic.

#include <array>
#include <chrono>
#include <cstdint>
#include <string>

#include "tiercel/cache/circuit_breaker.h"
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

// What the auditor found (CacheOptions::audit_one_in): docs/design/coherence.md. All zero without
// Redis. sampled == voided + fresh + stale_within_bound + violations + inconclusive + those that
// have not been judged yet.
struct AuditStats {
  std::uint64_t sampled = 0;
  std::uint64_t dropped = 0;  // Not sampled: too many waited already,
  std::uint64_t skipped = 0;  // or the key was longer than 256 bytes.

  std::uint64_t voided = 0;  // The epoch ended, or the master did not answer.
  std::uint64_t fresh = 0;   // Nothing had changed when L1 answered.
  // Something had, or may have, but nothing that the answer's age_bound() promised.
  std::uint64_t stale_within_bound = 0;
  // Something that the answer should have reflected, for certain: the contract was broken.
  std::uint64_t violations = 0;
  // The history does not reach that far, or is not kept and the value is another by now.
  std::uint64_t inconclusive = 0;

  // The worst of stale_within_bound and violations. When a change was made is known by the two
  // probes around it, Δ/5 (1 s at most) apart: so long it was stale for certain, and at most so
  // long, where that is known.
  std::chrono::nanoseconds worst_at_least{0};
  std::chrono::nanoseconds worst_at_most{0};

  // How stale they were at most (at least, where nothing bounds it): bucket i counts those of up to
  // kBucketsMs[i] ms, and of more than the bucket before; the last one all others.
  static constexpr std::array<std::uint32_t, 17> kBucketsMs{
      1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536};
  std::array<std::uint64_t, kBucketsMs.size() + 1> staleness{};
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
  // Loads for which Redis was not asked, as it kept failing (CacheOptions::l2_breaker).
  std::uint64_t loads_past_l2 = 0;
  BreakerState l2_breaker = BreakerState::kClosed;

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

  std::size_t locks_held = 0;     // Now.
  std::size_t locks_waiting = 0;  // Calls that wait for one, now.
  std::uint64_t locks_granted = 0;
  std::uint64_t locks_lost = 0;  // Could not be vouched for any more, before they were given back.

  std::uint64_t epochs = 0;
  std::uint64_t epochs_warm = 0;  // Of these, those into which L1 was taken along.
  std::uint64_t l1_drops = 0;
  std::size_t reads_waiting = 0;

  AuditStats audit;
};

}  // namespace tiercel
