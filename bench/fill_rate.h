#pragma once

// How many reads a second, each with a loader configured, when L1 has nothing? With 512 in flight,
// beside redis-benchmark, in rounds in which all take turns.
//
// Hits: Redis has every key, and L1 holds a twentieth of them, in whose order they are asked for,
// so that it has none of those that come next; or Freshness::latest(), for which L1 is not asked.
// Misses: nobody has ever asked for the key; fill lease, a loader that returns at once, on the
// cache's own executor, guarded store-back.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>

#include "l2_table.h"
#include "l2_tasks.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct RateSettings {
  std::uint32_t rounds = 9;
  double seconds = 0.5;       // Of a turn.
  std::string filter = ".*";  // A regular expression: only rows in whose name it is found.
};

struct RateResult {
  Rounds rounds;
  nlohmann::json machine;
};

// With a server of its own. Errors: the first answer that is not the right one, or not from where
// it should be.
Result<RateResult> run_rates(const RateSettings& settings);

}  // namespace tiercel::bench
