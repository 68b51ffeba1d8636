#pragma once

// Entry: header, optional fields, key, value in one block of the stripe's arena.
//
//   offset 0   value_bytes u32 │ key_bytes u16 │ shape u8 │ block u8
//          8   hint u32 │ pins u32
//         16   newer u32 │ older u32
//         24   generation u32
//         28   [version u64] [expires_at i64, earlier u32, later u32]
//          …   key, padded to 8 │ value │ slack
//
// A block begins 4 bytes after a multiple of 8, so that what follows the 28 bytes is aligned to 8.
// Blocks are named by a Ref: the number of 8-byte units from the region's start; 0 is none.
//
// Who touches what:
//   - value_bytes, key_bytes, shape, generation, version, expires_at, key and value are written
//     before the entry is put into the table and constant until its block is reused.
//   - hint: relaxed stores by readers and by the lock's holder; any value is harmless.
//   - pins: the number of Handles, and kOrphan once the entry left the cache while pinned. Rises
//     only while the entry is announced or pinned, so never in a block that was given back.
//   - block, newer, older, earlier, later: under the stripe's lock only.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

#include "hint.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {

using Ref = std::uint32_t;
inline constexpr Ref kNoRef = 0;
inline constexpr std::size_t kUnitBytes = 8;

// Links of an entry with a deadline in its slot of the timer wheel.
struct Timed {
  std::int64_t expires_at_ns;
  Ref earlier;
  Ref later;
};

struct Entry {
  static constexpr std::uint32_t kHeaderBytes = 28;
  static constexpr std::uint32_t kOrphan = std::uint32_t{1} << 31;

  // Bits of shape.
  static constexpr std::uint8_t kVersioned = 1;
  static constexpr std::uint8_t kTimed = 2;
  static constexpr unsigned kSlackShift = 2;  // Two bits: units beyond what was needed.
  static constexpr unsigned kFlagsShift = 4;

  // Bits of block. The upper four are the list that a listed entry is on.
  static constexpr std::uint8_t kInUse = 1;
  static constexpr std::uint8_t kPreviousFree = 2;
  static constexpr unsigned kStateShift = 2;
  static constexpr unsigned kListShift = 4;

  // kBuilding: taken from the arena, not in the table yet. kListed: in the table and on a list.
  // kRetired: out of both, readers may still look. kPinned: the same, and Handles hold it.
  enum class State : std::uint8_t { kBuilding, kListed, kRetired, kPinned };

  std::uint32_t value_bytes;
  std::uint16_t key_bytes;
  std::uint8_t shape;
  std::uint8_t block;
  std::atomic<std::uint32_t> hint;
  std::atomic<std::uint32_t> pins;
  Ref newer;
  Ref older;
  std::uint32_t generation;

  // memcmp, inline: keys are short and nearly always equal when they are compared.
  [[nodiscard]] static bool same_bytes(const char* a, const char* b, std::size_t bytes) noexcept {
    const auto differ = [&](std::size_t at) {
      std::uint64_t x;
      std::uint64_t y;
      std::memcpy(&x, a + at, sizeof x);
      std::memcpy(&y, b + at, sizeof y);
      return x ^ y;
    };
    if (bytes < 8 || bytes > 32) return bytes == 0 || std::memcmp(a, b, bytes) == 0;
    std::uint64_t difference = differ(0) | differ(bytes - 8);
    if (bytes > 16) difference |= differ(8) | differ(bytes - 16);
    return difference == 0;
  }

  [[nodiscard]] static constexpr std::uint64_t units_for(std::size_t key_size,
                                                         std::size_t value_size, bool versioned,
                                                         bool timed) noexcept {
    const std::uint64_t before_value = kHeaderBytes + (versioned ? 8U : 0U) +
                                       (timed ? sizeof(Timed) : 0U) + ((key_size + 7) & ~7ULL);
    return (before_value + value_size + 7) / kUnitBytes;
  }

  [[nodiscard]] bool is_timed() const noexcept { return (shape & kTimed) != 0; }
  [[nodiscard]] std::uint32_t flags() const noexcept { return shape >> kFlagsShift; }
  [[nodiscard]] std::uint32_t units() const noexcept {
    return static_cast<std::uint32_t>(
        units_for(key_bytes, value_bytes, (shape & kVersioned) != 0, is_timed()) +
        (shape >> kSlackShift & 3U));
  }

  [[nodiscard]] const char* after_header() const noexcept {
    return reinterpret_cast<const char*>(this) + kHeaderBytes;
  }
  [[nodiscard]] const char* key_data() const noexcept {
    // 8 bytes for kVersioned, 16 for kTimed.
    return after_header() + ((shape & (kVersioned | kTimed)) << 3);
  }
  [[nodiscard]] std::string_view key() const noexcept { return {key_data(), key_bytes}; }
  [[nodiscard]] bool has_key(std::string_view other) const noexcept {
    return key_bytes == other.size() && same_bytes(key_data(), other.data(), other.size());
  }
  [[nodiscard]] std::string_view value() const noexcept {
    return {key_data() + ((key_bytes + std::size_t{7}) & ~std::size_t{7}), value_bytes};
  }
  [[nodiscard]] std::uint64_t version() const noexcept {
    if ((shape & kVersioned) == 0) return 0;
    std::uint64_t version;
    std::memcpy(&version, after_header(), sizeof version);
    return version;
  }
  // Only if is_timed().
  [[nodiscard]] Timed& timed() noexcept {
    return *reinterpret_cast<Timed*>(const_cast<char*>(after_header()) +
                                     ((shape & kVersioned) != 0 ? 8 : 0));
  }
  [[nodiscard]] std::int64_t expires_at_ns() const noexcept {
    return const_cast<Entry*>(this)->timed().expires_at_ns;
  }

  [[nodiscard]] State state() const noexcept {
    return static_cast<State>(block >> kStateShift & 3U);
  }
  void set_state(State state) noexcept {
    block = static_cast<std::uint8_t>((block & ~(3U << kStateShift)) | static_cast<unsigned>(state)
                                                                           << kStateShift);
  }
  [[nodiscard]] std::uint32_t list() const noexcept { return block >> kListShift; }
  void set_list(std::uint32_t list) noexcept {
    block = static_cast<std::uint8_t>((block & 15U) | list << kListShift);
  }
};

static_assert(sizeof(Entry) == Entry::kHeaderBytes && alignof(Entry) == 4);
static_assert(Entry::kVersioned << 3 == 8 && Entry::kTimed << 3 == sizeof(Timed));

// Where the Refs of a stripe point.
class Blocks {
 public:
  Blocks() = default;
  explicit Blocks(std::byte* region) noexcept : base_(region + 4) {}
  [[nodiscard]] Entry& operator[](Ref ref) const noexcept {
    return *reinterpret_cast<Entry*>(base_ + std::size_t{ref} * kUnitBytes);
  }
  [[nodiscard]] Ref ref_of(const Entry& entry) const noexcept {
    return static_cast<Ref>(
        static_cast<std::size_t>(reinterpret_cast<const std::byte*>(&entry) - base_) / kUnitBytes);
  }

 private:
  std::byte* base_ = nullptr;
};

}  // namespace tiercel::l1
