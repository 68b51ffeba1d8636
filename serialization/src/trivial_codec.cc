#include "tiercel/serialization/trivial_codec.h"

namespace tiercel::serialization {

Result<std::string> LayoutTag::encode(std::string_view value_bytes) const {
  try {
    std::string bytes;
    bytes.reserve(kLayoutTagBytes + value_bytes.size());
    for (int shift = 0; shift < 64; shift += 8) bytes += static_cast<char>(tag_ >> shift);
    bytes += value_bytes;
    return bytes;
  } catch (const std::bad_alloc&) {
    return overloaded("out of memory");
  }
}

Error LayoutTag::refusal(std::string_view bytes) const {
  if (bytes.size() < kLayoutTagBytes) return corrupt("struct: the layout tag is cut off");
  if (read_tag(bytes) != tag_) return corrupt("struct: another layout, by its tag");
  if (bytes.size() != kLayoutTagBytes + size_) {
    return corrupt("struct: " + std::to_string(bytes.size() - kLayoutTagBytes) + " bytes; it has " +
                   std::to_string(size_));
  }
  return invalid_argument("struct: the bytes are not aligned to " + std::to_string(alignment_));
}

}  // namespace tiercel::serialization
