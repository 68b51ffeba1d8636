#pragma once

// How often this thread called operator new, which every program with allocations.cc counts, and
// can make fail.

#include <cstdint>

namespace tiercel::testing {

[[nodiscard]] std::uint64_t allocations() noexcept;

// While it lives, operator new fails on this thread.
class NoMemory {
 public:
  NoMemory() noexcept;
  ~NoMemory();
  NoMemory(const NoMemory&) = delete;
  NoMemory& operator=(const NoMemory&) = delete;
};

}  // namespace tiercel::testing
