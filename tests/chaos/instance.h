#pragma once

// The instance's side of a chaos run: a process that embeds a Cache, reads, fills and writes as the
// board says, and has every answer judged.

#include <cstdint>

namespace tiercel::chaos {

// With the board as standard input. Returns the process's exit status.
int run_instance(std::uint32_t number);

}  // namespace tiercel::chaos
