#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

#include "tiercel/base/check.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {

// To which an allocator may round a large block up.
inline constexpr std::size_t kPageBytes = 4096;

// Aborts on bad options, which are a bug of the test.
inline std::unique_ptr<LruCache> make_cache(const Options& options) {
  auto cache = LruCache::create(options);
  TIERCEL_CHECK(cache);
  return *std::move(cache);
}

// Each entry that went in is there or left for one counted cause.
inline bool counters_balance(const Stats& stats) {
  return stats.inserts == stats.entries + stats.replaced + stats.evicted_capacity +
                              stats.evicted_expired + stats.evicted_erased + stats.evicted_cleared;
}

}  // namespace tiercel::l1
