#pragma once

// What the hit-ratio bench replays: recorded traces from files, and made-up ones.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "hitratio_lists.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct Trace {
  std::string name;
  std::vector<Id> ids;             // One a request, numbered from 0 in order of appearance.
  std::size_t distinct = 0;        // The footprint.
  std::vector<std::size_t> sizes;  // Of the caches to try, in entries.
};

// The traces in a folder: NAME.u64 (a little-endian unsigned 64-bit id for each request) and
// NAME.u64.xz (the same, compressed), in order of their names.
Result<std::vector<std::filesystem::path>> trace_files(const std::filesystem::path& folder);

// Sizes: 0.1 %, 1 % and 10 % of the footprint, rounded down, but at least 1. A compressed file is
// unpacked by the program `xz`.
Result<Trace> read_trace(const std::filesystem::path& file);

// Each a question: static popularity (zipf), popularity under scans, a loop and zipf in turns, a
// hot set that moves, recency alone, a loop of 1.1 to 20 times the cache. The same at each call.
std::vector<Trace> synthetic_traces();

}  // namespace tiercel::bench
