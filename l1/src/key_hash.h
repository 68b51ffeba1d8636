#pragma once

#include <cstdint>
#include <string_view>

namespace tiercel::l1 {

// XXH3, 64 bits (Yann Collet, xxHash). All bits are good: the stripe is chosen by the upper ones,
// the bucket by the lower ones.
[[nodiscard]] std::uint64_t key_hash(std::string_view key, std::uint64_t seed) noexcept;

}  // namespace tiercel::l1
