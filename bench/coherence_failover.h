#pragma once

// After the master is killed, when does L1 answer again, and how much of it is still there? A
// master, two replicas and three Sentinels, set up anew for each round; instances whose L1s hold
// the same entries; each instance also writes, other keys; then SIGKILL.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct FailoverSettings {
  std::size_t instances = 4;
  std::uint32_t entries = 10'000;
  double writes_per_second = 50;  // Of each instance.
  std::chrono::milliseconds down_after{1000};
  // Whose periods the Sentinels keep, as in the chaos runs. kShort: those that tests use (SENTINEL
  // DEBUG: they publish and ping each 0.2 s and ask each 0.5 s), with a failover-timeout of 3 s.
  // kTheirOwn: 2 s, 1 s and 10 s, and 10 s.
  enum class Periods : std::uint8_t { kShort, kTheirOwn };
  Periods periods = Periods::kShort;
};

struct FailoverResult {
  struct Instance {
    Duration first_hit{0};    // From the kill to the first L1 hit under a lease of the new master.
    double warm_percent = 0;  // Of the entries in L1 before: those in L1 then.
  };
  std::vector<Instance> instances;
  // From the kill until a replica called itself a master: what is Sentinel's share of the time. (A
  // vote that was split costs twice the failover-timeout.)
  Duration promoted{0};
  std::uint64_t writes_acknowledged = 0;
  std::uint64_t writes_lost = 0;  // Of these, those that the new master's history does not have.
};

// One round. Errors: what could not be opened; kInternal when an L1 does not answer again.
Result<FailoverResult> run_failover(const FailoverSettings& settings);

}  // namespace tiercel::bench
