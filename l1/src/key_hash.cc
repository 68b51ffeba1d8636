#include "key_hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel::l1 {

std::uint64_t key_hash(std::string_view key, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

}  // namespace tiercel::l1
