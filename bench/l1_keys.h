#pragma once

// What the L1 benchmark asks for: 24-byte keys and 100-byte values by number, and sequences of keys
// as each thread draws them.

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

namespace tiercel::bench {

inline constexpr std::size_t kKeyBytes = 24;
inline constexpr std::size_t kValueBytes = 100;

// Compared as bytes; for the peers that take any type as a key, the cheapest there is.
struct Key {
  std::array<char, kKeyBytes> bytes;

  Key() = default;
  explicit Key(std::string_view text) noexcept {
    std::memcpy(bytes.data(), text.data(), kKeyBytes);
  }

  [[nodiscard]] std::string_view text() const noexcept { return {bytes.data(), bytes.size()}; }
  bool operator==(const Key& other) const noexcept { return text() == other.text(); }
  bool operator<(const Key& other) const noexcept { return text() < other.text(); }
};

using Value = std::array<char, kValueBytes>;

[[nodiscard]] Key make_key(std::uint64_t number);

// Starts with the key, so that a wrong answer can be told from a right one.
[[nodiscard]] Value make_value(const Key& key);

// 0 to count - 1 in random order, always the same.
[[nodiscard]] std::vector<std::uint32_t> shuffled_numbers(std::size_t count);

enum class Distribution : std::uint8_t { kZipf, kUniform };  // Zipf with exponent 0.99.

// Keys one behind the other in memory in the order in which they are asked for: walking along them
// costs next to nothing, so what is measured is the cache, not misses in an array of keys.
class KeySequence {
 public:
  static constexpr std::size_t kSize = std::size_t{1} << 20;

  // Drawn from the numbers below `universe`; the seed makes threads differ.
  KeySequence(Distribution distribution, std::size_t universe, std::uint64_t seed);

  // The numbers from `first` on.
  static KeySequence ascending(std::uint64_t first);

  // Goes round and round.
  [[nodiscard]] const Key& operator[](std::size_t index) const noexcept {
    return keys_[index & (kSize - 1)];
  }

 private:
  KeySequence() : keys_(kSize) {}

  std::vector<Key> keys_;
};

}  // namespace tiercel::bench
