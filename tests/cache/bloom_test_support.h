#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "tiercel/base/check.h"
#include "tiercel/cache/bloom_filter.h"

namespace tiercel::testing {

inline std::string key_of(std::uint64_t number) { return "player:" + std::to_string(number); }

inline std::unique_ptr<BloomFilter> make_filter(const BloomOptions& options) {
  auto filter = BloomFilter::create(options);
  TIERCEL_CHECK(filter);
  return *std::move(filter);
}

inline void add_keys(BloomFilter& filter, std::uint64_t first, std::uint64_t end) {
  for (std::uint64_t number = first; number < end; ++number) filter.add(key_of(number));
}

// How many of the keys it refuses.
inline std::uint64_t refused(const BloomFilter& filter, std::uint64_t first, std::uint64_t end) {
  std::uint64_t count = 0;
  for (std::uint64_t number = first; number < end; ++number) {
    if (!filter.may_contain(key_of(number))) ++count;
  }
  return count;
}

inline std::string all_bytes(const BloomFilter& filter) {
  std::string bytes;
  for (std::size_t chunk = 0; chunk < filter.chunks(); ++chunk) bytes += filter.copy_chunk(chunk);
  return bytes;
}

}  // namespace tiercel::testing
