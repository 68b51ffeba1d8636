#pragma once

// How much memory this process has, as the kernel counts it: for comparing with what a cache says
// that it holds.

#include <unistd.h>

#include <cstddef>
#include <fstream>

namespace tiercel::testing {

// Bytes of this process that are resident, of all its threads and libraries. Any thread.
[[nodiscard]] inline std::size_t resident_bytes() {
  std::ifstream statm{"/proc/self/statm"};
  std::size_t size_pages = 0;
  std::size_t resident_pages = 0;
  statm >> size_pages >> resident_pages;
  return resident_pages * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

}  // namespace tiercel::testing
