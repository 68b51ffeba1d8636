#pragma once

// Tags as they are stored with a value: slots. A tag is hashed to one of 65,536 slots, and a value
// carries the slots of its tags. Two tags that share a slot share their invalidations: a collision
// drops values that could have stayed, and never keeps one that had to go.
//
// The hash is part of the wire format: every instance, of every release, must find the same slot.
//
// Values; any thread.
//
//   Result<TagSlots> slots = TagSlots::of({{"team:7", "season:3"}});
//   (compiled in tests/serialization/tag_slots_test.cc)

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/serialization/limits.h"

namespace tiercel::serialization {

using TagSlot = std::uint16_t;
inline constexpr std::size_t kTagSlots = 65536;

// The lowest 16 bits of XXH3 (64 bits, no seed) of the tag's bytes. O(bytes).
[[nodiscard]] TagSlot tag_slot(std::string_view tag) noexcept;

class TagSlots {
 public:
  TagSlots() = default;  // None.

  // Errors: kInvalidArgument (more than kTagsPerValueMax tags, or one of more than kKeyBytesMax
  // bytes, which no message could name).
  static Result<TagSlots> of(std::span<const std::string_view> tags);

  // False where there is no room. A slot that is there is not added again; they stay sorted.
  [[nodiscard]] bool add(TagSlot slot) noexcept;

  // As long as this object.
  [[nodiscard]] std::span<const TagSlot> span() const noexcept { return {slots_.data(), size_}; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] bool empty() const noexcept { return size_ == 0; }

  friend bool operator==(const TagSlots&, const TagSlots&) = default;

 private:
  std::array<TagSlot, kTagsPerValueMax> slots_{};  // From size_ on: 0.
  std::uint8_t size_ = 0;
};

}  // namespace tiercel::serialization
