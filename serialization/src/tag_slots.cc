#include "tiercel/serialization/tag_slots.h"

#include <algorithm>

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel::serialization {

TagSlot tag_slot(std::string_view tag) noexcept {
  return static_cast<TagSlot>(XXH3_64bits(tag.data(), tag.size()) % kTagSlots);
}

Result<TagSlots> TagSlots::of(std::span<const std::string_view> tags) {
  if (tags.size() > kTagsPerValueMax) {
    return invalid_argument(std::to_string(tags.size()) + " tags; a value takes at most " +
                            std::to_string(kTagsPerValueMax));
  }
  TagSlots slots;
  for (const std::string_view tag : tags) {
    if (tag.size() > kKeyBytesMax) {
      return invalid_argument("a tag of " + std::to_string(tag.size()) + " bytes; at most " +
                              std::to_string(kKeyBytesMax));
    }
    TIERCEL_CHECK(slots.add(tag_slot(tag)));
  }
  return slots;
}

bool TagSlots::add(TagSlot slot) noexcept {
  const auto end = slots_.begin() + size_;
  const auto at = std::lower_bound(slots_.begin(), end, slot);
  if (at != end && *at == slot) return true;
  if (size_ == slots_.size()) return false;
  std::copy_backward(at, end, end + 1);
  *at = slot;
  ++size_;
  return true;
}

}  // namespace tiercel::serialization
