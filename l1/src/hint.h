#pragma once

// Hint: what a hit writes into its entry, without a lock: the stripe's logical clock (the stamp, 28
// bits) and, if the eviction policy asks for it, how often it was used (up to 15, 4 bits). A hint
// may get lost between threads, and any value is harmless.

#include <cstdint>

namespace tiercel::l1 {

struct Hint {
  static constexpr std::uint32_t kUsesMax = 15;
  static constexpr std::uint32_t kStampMask = (1U << 28U) - 1;

  static constexpr std::uint32_t make(std::uint32_t now, std::uint32_t uses) noexcept {
    return (now << 4U) | uses;
  }
  static constexpr std::uint32_t uses(std::uint32_t hint) noexcept { return hint & kUsesMax; }
  // Ticks since the stamp. The clock wraps: what was not used for 2^28 ticks seems younger.
  static constexpr std::uint32_t age(std::uint32_t hint, std::uint32_t now) noexcept {
    return (now - (hint >> 4U)) & kStampMask;
  }
  // The hint after a hit.
  static constexpr std::uint32_t used(std::uint32_t hint, std::uint32_t now) noexcept {
    return make(now, uses(hint) + (uses(hint) < kUsesMax ? 1U : 0U));
  }
};

}  // namespace tiercel::l1
