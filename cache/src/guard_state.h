#pragma once

// What Redis holds under a guard's key, besides the chunks; and the text that tells a write's
// script which bits to set. docs/design/bloom.md shows the bytes.

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/cache/bloom_filter.h"

namespace tiercel {

struct StoredGuard {
  static constexpr std::size_t kIdBytes = 16;
  static constexpr std::size_t kGarbageMax = 8;  // Of a builder's; damage adds the other two.
  // Lua's numbers are exact up to here.
  static constexpr std::uint64_t kGenerationMax = (std::uint64_t{1} << 53) - 1;

  std::string id{};                      // New with each change. 16 bytes.
  std::string branch{};                  // The replication id under which it was announced.
  std::optional<BloomHeader> current{};  // Whole: with this one others may begin.
  std::optional<BloomHeader> next{};     // Being made.
  std::vector<BloomHeader> garbage{};    // Chunks of these may be left.

  [[nodiscard]] std::uint64_t newest_generation() const noexcept;

  friend bool operator==(const StoredGuard&, const StoredGuard&) = default;
};

[[nodiscard]] std::string new_guard_id();
[[nodiscard]] std::string encode_guard(const StoredGuard& guard);
// Errors: kCorrupt, kProtocol (another format).
Result<StoredGuard> decode_guard(std::string_view bytes);
// What stands where the id does, also of what cannot be decoded; as kGuardChangeScript compares it.
[[nodiscard]] std::string guard_id_of(std::string_view bytes);

[[nodiscard]] std::size_t chunks_of(const BloomHeader& header) noexcept;
[[nodiscard]] std::size_t chunk_bytes_of(const BloomHeader& header, std::size_t chunk) noexcept;
[[nodiscard]] std::string chunk_key(std::string_view guard_key, std::uint64_t generation,
                                    std::size_t chunk);

// For kGuardPrologue: of one guard.
[[nodiscard]] std::string told_to_guard(const std::vector<KeyHash>& hashes);

}  // namespace tiercel
