#pragma once

// Words for the tests of the witness: servers' answers, rounds of the Sentinels, moments.

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/coherence/witness.h"

namespace tiercel::coherence {

// Moments of a test, in milliseconds.
inline TimePoint at(int ms) {
  return TimePoint{std::chrono::seconds{1000} + std::chrono::milliseconds{ms}};
}

inline ReplicationState replica_of(std::string replication_id) {
  return {.is_master = false, .replication_id = std::move(replication_id)};
}

inline ReplicationState master_of(std::string replication_id,
                                  std::vector<std::string> replicas = {}) {
  return {.is_master = true,
          .replication_id = std::move(replication_id),
          .replicas = std::move(replicas)};
}

inline ReplicationState promoted(std::string from, std::string to,
                                 std::vector<std::string> replicas = {}) {
  return {.is_master = true,
          .replication_id = std::move(to),
          .former_replication_id = std::move(from),
          .replicas = std::move(replicas)};
}

// Three Sentinels that see nothing amiss.
inline SentinelRound calm(std::vector<std::string> replicas, std::size_t answered = 3) {
  SentinelRound round{.known = 3, .answered = answered, .is_calm = true};
  for (auto& address : replicas) round.replicas.push_back({.address = std::move(address)});
  return round;
}

inline SentinelRound calm_but_down(std::string down, std::size_t down_count,
                                   std::size_t answered = 3) {
  SentinelRound round{.known = 3, .answered = answered, .is_calm = true};
  round.replicas.push_back({.address = std::move(down), .down_count = down_count});
  return round;
}

// They speak of a failover.
inline SentinelRound alarmed(std::vector<std::string> replicas) {
  SentinelRound round = calm(std::move(replicas));
  round.is_calm = false;
  return round;
}

inline constexpr WitnessMode kAnyMode = WitnessMode::kNone;

}  // namespace tiercel::coherence
