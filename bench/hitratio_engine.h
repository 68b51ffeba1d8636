#pragma once

// The real cache, in the place of a reference policy: try_get and, after a miss, insert.
//
// Its capacity is in bytes, and some of it goes elsewhere: to the hash table, to what is kept free,
// to the policy's own memory. So the capacity at which it holds a wanted number of entries is found
// by trying.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "hitratio_lists.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::bench {

class Engine {
 public:
  // Empty, of one stripe; will hold `entries` entries when full, or as near as it gets. `seed` is
  // that of the hash, on which depends which accesses the adaptive policy learns from.
  Engine(std::size_t entries, l1::Eviction policy, std::uint64_t seed);

  bool access(Id id);

  // How many it held since it was full, on average. It varies, because room is made ahead.
  [[nodiscard]] std::size_t entries() const;

 private:
  std::unique_ptr<l1::LruCache> cache_;
  std::string value_;
  std::size_t inserts_ = 0;
  std::size_t counted_ = 0;  // After so many inserts,
  std::size_t sum_ = 0;      // so many entries in all.
};

}  // namespace tiercel::bench
