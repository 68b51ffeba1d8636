#pragma once

// What does a write cost the server, beside a plain SET with a TTL? CPU time of the redis-server
// process (all of its threads, user and system) for a number of writes of 100 bytes that are kept
// so many in flight, by one client on one connection, each reply bringing the next write. Rounds in
// which all take turns, in an order drawn anew; ratios are taken within a round.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct CostSettings {
  std::uint32_t rounds = 4;
  std::uint32_t writes = 50'000;  // Of a turn; a tenth of it where one is in flight.
  std::vector<std::size_t> in_flight{1, 16, 64};
  std::vector<std::size_t> listeners{0, 8};  // Other instances of the namespace.
};

struct CostRow {
  std::string name;
  std::size_t in_flight = 0;
  std::size_t listeners = 0;
  std::vector<double> microseconds{};  // Server CPU a write, in each round,
  std::vector<double> ratios{};        // over that of "SET PX" with as many in flight.
  // Writes for each time that the server read from a socket: what "so many in flight" came to.
  std::vector<double> batches{};
};

// "SET PX", "set" (Cache::set_async; its own subscription is there, too), "set, no history", and
// "write script": the script of "set" with the same arguments in a namespace that nobody listens
// to. With a server of its own. Errors: whatever a write was answered.
Result<std::vector<CostRow>> run_cost(const CostSettings& settings);

}  // namespace tiercel::bench
