#pragma once

// What does a typed hit cost beyond a hit on the same bytes? Cache::try_get and one field read at a
// known place, beside Keyspace::try_get and the same field read by the codec's view; over Redis, L1
// holding its lease. Nanoseconds of the thread's CPU time; rounds in which all take turns.

#include <string>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::bench {

struct TypedSettings {
  int rounds = 21;
  int passes = 100;  // Over all values, in a round.
};

struct TypedRow {
  std::string name;
  std::string about;
  std::vector<double> nanoseconds{};  // A hit, in each round,
  std::vector<double> ratios{};       // over that of "bytes".
};

// With a server of its own. Errors: kInternal for a hit that allocated or took a lock, or where
// something was not hit.
Result<std::vector<TypedRow>> run_typed(const TypedSettings& settings);

}  // namespace tiercel::bench
