#pragma once

#include <cstdint>
#include <string_view>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel::l1 {

// XXH3, 64 bits (Yann Collet, xxHash). All bits are good: the lower half is the tag, by which an
// entry is found in its stripe, the upper half chooses the stripe.
[[nodiscard]] inline std::uint64_t key_hash(std::string_view key, std::uint64_t seed) noexcept {
  return XXH3_64bits_withSeed(key.data(), key.size(), seed);
}

}  // namespace tiercel::l1
