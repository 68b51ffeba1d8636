#pragma once

// How often this thread called operator new, which every program with allocations.cc counts.

#include <cstdint>

namespace tiercel::testing {

[[nodiscard]] std::uint64_t allocations() noexcept;

}  // namespace tiercel::testing
