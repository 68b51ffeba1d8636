#pragma once

// Random: a small seeded generator (xoshiro256**, Blackman & Vigna, 2018) handed to whoever needs
// randomness, so that a run can be replayed from its seed. Not for secrets. Not thread-safe: one
// owner each.

#include <array>
#include <cstdint>

namespace tiercel {

class Random {
 public:
  explicit Random(std::uint64_t seed) noexcept;

  // Seeded from the operating system's entropy.
  static Random from_entropy();

  [[nodiscard]] std::uint64_t next() noexcept;

  // Uniform in [0, bound); 0 when bound is 0. Unbiased (Lemire, 2019).
  [[nodiscard]] std::uint64_t below(std::uint64_t bound) noexcept;

  // Uniform in [0, 1).
  [[nodiscard]] double unit() noexcept;

 private:
  std::array<std::uint64_t, 4> state_{};
};

// 64 bits of the operating system's entropy (getrandom).
[[nodiscard]] std::uint64_t entropy_u64();

}  // namespace tiercel
