#pragma once

// What the desk shares: a kill switch and the limits of its instruments, as trivially copyable
// structs in two keyspaces. They live in Redis; the officer writes them, the gateways read them.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/trivial_codec.h"

namespace tiercel::trading {

inline constexpr std::chrono::milliseconds kLease{200};
inline constexpr std::uint32_t kInstruments = 4;

// Of one rule: rises with each change. The demo tells by it on what an order was accepted.
using Revision = std::uint64_t;
inline constexpr Revision kRevisionsMax = 64;

struct KillSwitch {
  Revision revision;
  std::uint64_t may_trade;  // 0: no orders.
};
struct Limit {
  Revision revision;
  std::int64_t quantity_max;  // Of one order.
};

// Rule 0 is the kill switch, rule 1 + i the limit of instrument i.
using Rule = std::size_t;
inline constexpr Rule kSwitchRule = 0;
inline constexpr Rule kRules = 1 + kInstruments;
[[nodiscard]] constexpr Rule limit_rule(std::uint32_t instrument) { return 1 + instrument; }

using Switches = Keyspace<serialization::TrivialCodec<KillSwitch>>;
using Limits = Keyspace<serialization::TrivialCodec<Limit>>;
inline constexpr std::string_view kDesk = "equities";  // The switch's id.

struct Rules {
  Switches switches;
  Limits limits;
};

[[nodiscard]] CacheOptions cache_options(const std::string& redis_url);
// Errors: as Keyspace::open.
Result<Rules> open_rules(Cache& cache);

}  // namespace tiercel::trading
