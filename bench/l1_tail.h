#pragma once

// How long the slowest reads take while another thread writes, invalidates and evicts at full
// speed.

#include <cstddef>

namespace tiercel::bench {

// Measures ours and its peers, and prints a table.
void print_tail_latency(std::size_t reads);

}  // namespace tiercel::bench
