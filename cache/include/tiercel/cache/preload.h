#pragma once

// Bringing entries into L1 before anybody asks for them.

#include <cstddef>

#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

namespace tiercel {

struct PreloadOptions {
  // A bound on what it costs Redis and the loaders, of which at most 4,096 are under way at a time.
  // 1 to 1 M.
  std::size_t keys_per_second = 10'000;
};

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const PreloadOptions& options);

// What came of it. Those that are none of the three were not asked for when the cache was closed.
struct Preloaded {
  std::size_t keys = 0;    // To be brought.
  std::size_t found = 0;   // Values: in L1 now, but for what does not fit or changed meanwhile.
  std::size_t absent = 0;  // There is nothing.
  std::size_t failed = 0;
};

using PreloadCallback = UniqueFunction<void(const Preloaded&)>;

}  // namespace tiercel
