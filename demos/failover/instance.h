#pragma once

// Instance: one process of the fleet. It finds the board at its standard input, opens a cache, and
// reads and writes until the board says stop.

#include <cstdint>

namespace tiercel::failover {

inline constexpr std::uint32_t kReadersPerInstance = 2;
// Keys that are written once before the run begins, the most frequent ones.
inline constexpr std::uint32_t kKeysFilledMax = 20'000;

// Returns the exit status: 0, or 1 with the reason on standard error.
int run_instance(std::uint32_t number);

}  // namespace tiercel::failover
