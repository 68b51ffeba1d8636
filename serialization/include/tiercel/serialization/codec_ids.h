#pragma once

// Codec ids: the number in an envelope that says what the payload's bytes are, so that a reader
// with another type in mind gets an error and not another type's bytes. An id, once given, never
// changes its meaning. docs/wire_format.md lists them.

#include <cstdint>
#include <string_view>

namespace tiercel::serialization {

// The payload is the user's bytes as they are.
inline constexpr std::uint32_t kCodecRaw = 0;

// 1 to 15 are Tiercel's own. 1: a trivially copyable struct behind its layout tag
// (trivial_codec.h).
inline constexpr std::uint32_t kCodecTrivial = 1;
inline constexpr std::uint32_t kCodecReservedMax = 15;

// From here on ids are the user's. They are shared by all who use one namespace.
inline constexpr std::uint32_t kCodecUserMin = 16;

// Those from here on are computed from a name or a schema, so that nobody has to keep a list: give
// ids by hand below it. Two names share an id by a chance of 1 in 2^31.
inline constexpr std::uint32_t kCodecDerivedMin = 0x80000000;

// FNV-1a, 64 bits (http://www.isthe.com/chongo/tech/comp/fnv/). Part of the wire format. `seed`
// continues an earlier hash.
[[nodiscard]] constexpr std::uint64_t fnv1a(std::string_view bytes,
                                            std::uint64_t seed = 0xcbf29ce484222325) noexcept {
  for (const char byte : bytes) {
    seed = (seed ^ static_cast<unsigned char>(byte)) * 0x100000001b3;
  }
  return seed;
}

// Both halves of 64 well-mixed bits, such as the id of a Cap'n Proto struct, in 31.
[[nodiscard]] constexpr std::uint32_t derived_codec_id(std::uint64_t hash) noexcept {
  return kCodecDerivedMin | static_cast<std::uint32_t>(hash ^ hash >> 32);
}

// For a codec of the user's own. Change the name with the format: derived_codec_id("acme.quote.2").
[[nodiscard]] constexpr std::uint32_t derived_codec_id(std::string_view name) noexcept {
  return derived_codec_id(fnv1a(name));
}

}  // namespace tiercel::serialization
