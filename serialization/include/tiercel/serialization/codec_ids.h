#pragma once

// Codec ids: the number in an envelope that says what the payload's bytes are, so that a reader
// with another type in mind gets an error and not another type's bytes. An id, once given, never
// changes its meaning.

#include <cstdint>

namespace tiercel::serialization {

// The payload is the user's bytes as they are.
inline constexpr std::uint32_t kCodecRaw = 0;

// 1 to 15 are Tiercel's own; none is given yet.
inline constexpr std::uint32_t kCodecReservedMax = 15;

// From here on ids are the user's. They are shared by all who use one namespace.
inline constexpr std::uint32_t kCodecUserMin = 16;

}  // namespace tiercel::serialization
