#pragma once

// What an entry of ours takes beside its key and value, and whether what is charged is what the
// process has.

#include <cstddef>

#include "tiercel/l1/lru_cache.h"

namespace tiercel::bench {

// The capacity with which a cache that keeps evicting holds about so many entries.
[[nodiscard]] std::size_t tiercel_capacity_bytes(std::size_t entries, const l1::EntryMeta& meta);

// Charged bytes an entry beside key and value in a full cache of about `entries`.
struct Overhead {
  std::size_t entries;
  double bytes;
};
[[nodiscard]] Overhead measure_overhead(std::size_t entries, const l1::EntryMeta& meta);

// Values from 1 byte to 4 KiB, put in and erased for several times the capacity.
struct Residence {
  std::size_t capacity_bytes;
  std::size_t charged_bytes;
  std::size_t resident_bytes;  // By how much the process grew.
};
[[nodiscard]] Residence measure_residence(std::size_t capacity_bytes);

}  // namespace tiercel::bench
