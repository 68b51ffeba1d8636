#pragma once

#include <cstddef>
#include <cstdint>

namespace tiercel {

// Draws a number for this hit: a hit is drawn by who wants one in n where it is below
// draw_below(n). A thread's own sequence of Knuth's generator: another increment, another sequence.
// Drawn, and not counted, since who reads its keys in turns would have the same key drawn for ever.
[[nodiscard]] inline std::uint64_t draw_hit() noexcept {
  constinit static thread_local std::uint64_t drawn = 0x9E37'79B9'7F4A'7C15;
  drawn = drawn * 6364136223846793005U + (reinterpret_cast<std::uintptr_t>(&drawn) | 1);
  return drawn;
}

[[nodiscard]] constexpr std::uint64_t draw_below(std::size_t one_in) noexcept {
  return ~std::uint64_t{0} / one_in;
}

}  // namespace tiercel
