#include "tiercel/serialization/codec.h"

namespace tiercel::serialization {

static_assert(CheckedOnceCodec<BytesCodec>);
// AlignedBytes counts on it.
static_assert(__STDCPP_DEFAULT_NEW_ALIGNMENT__ % kCodecAlignment == 0);

Error codec_mismatch(std::uint32_t stored_id, std::uint32_t wanted_id) {
  return corrupt("value: stored with codec " + std::to_string(stored_id) + ", to be read with " +
                 std::to_string(wanted_id));
}

Result<AlignedBytes> AlignedBytes::of(std::string_view bytes) {
  AlignedBytes aligned;
  aligned.bytes_ = bytes;
  if (is_codec_aligned(bytes)) return aligned;
  aligned.copy_.reset(new (std::nothrow) char[bytes.size()]);
  if (aligned.copy_ == nullptr) return overloaded("out of memory");
  if (!bytes.empty()) std::memcpy(aligned.copy_.get(), bytes.data(), bytes.size());
  aligned.bytes_ = {aligned.copy_.get(), bytes.size()};
  return aligned;
}

Result<std::string> BytesCodec::encode(const std::string& value) const {
  try {
    return std::string{value};
  } catch (const std::bad_alloc&) {
    return overloaded("out of memory");
  }
}

}  // namespace tiercel::serialization
