#pragma once

// Frames and Cap'n Proto words written by hand, so that tests can say what no encoder would.
// https://capnproto.org/encoding.html has the pointers' bits.

#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/bytes.h"

namespace tiercel::serialization {

inline constexpr std::uint8_t kValueKind = 1;
inline constexpr std::uint8_t kMessageKind = 2;
inline constexpr std::uint32_t kBytes = 2;     // List element sizes, as on the wire.
inline constexpr std::uint32_t kTwoBytes = 3;  //
inline constexpr std::uint32_t kPointers = 6;  //
inline constexpr std::uint32_t kComposite = 7;

inline constexpr std::uint64_t struct_pointer(std::uint32_t offset, std::uint64_t data_words,
                                              std::uint64_t pointers) {
  return std::uint64_t{offset} << 2 | data_words << 32 | pointers << 48;
}

inline constexpr std::uint64_t list_pointer(std::uint32_t offset, std::uint64_t element_size,
                                            std::uint64_t count) {
  return std::uint64_t{1} | std::uint64_t{offset} << 2 | element_size << 32 | count << 35;
}

inline constexpr std::uint64_t far_pointer(std::uint64_t segment, std::uint32_t offset,
                                           bool two_words = false) {
  return std::uint64_t{2} | (two_words ? std::uint64_t{4} : 0) | std::uint64_t{offset} << 3 |
         segment << 32;
}

inline void append_u32_le(std::string& out, std::uint32_t word) {
  for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(word >> shift);
}

// Version 7, then the header.
inline std::string make_header(std::uint8_t kind, std::uint8_t format_version = 1) {
  std::string bytes;
  append_u64_be(bytes, 7);
  bytes += "\xF1TCL";
  bytes += static_cast<char>(format_version);
  bytes += static_cast<char>(kind);
  bytes.append(2, '\0');
  return bytes;
}

inline std::string with_segment(std::uint8_t kind, std::string_view segment) {
  std::string bytes = make_header(kind);
  append_u32_le(bytes, 0);
  append_u32_le(bytes, static_cast<std::uint32_t>(segment.size() / 8));
  bytes += segment;
  return bytes;
}

inline std::string with_words(std::uint8_t kind, const std::vector<std::uint64_t>& words) {
  std::string segment;
  for (const std::uint64_t word : words) {
    append_u32_le(segment, static_cast<std::uint32_t>(word));
    append_u32_le(segment, static_cast<std::uint32_t>(word >> 32));
  }
  return with_segment(kind, segment);
}

// What the write script does.
inline std::string with_version(std::uint64_t version, std::string_view encoded) {
  std::string bytes;
  append_u64_be(bytes, version);
  return bytes += encoded;
}

// A copy of bytes that ends where its allocation ends, `shift` past an aligned address, so that
// AddressSanitizer sees every read beyond it.
class ExactCopy {
 public:
  explicit ExactCopy(std::string_view bytes, std::size_t shift = 0)
      : memory_(std::make_unique<char[]>(shift + bytes.size())),
        view_(memory_.get() + shift, bytes.size()) {
    if (!bytes.empty()) std::memcpy(memory_.get() + shift, bytes.data(), bytes.size());
  }

  [[nodiscard]] std::string_view view() const { return view_; }

 private:
  std::unique_ptr<char[]> memory_;
  std::string_view view_;
};

inline bool is_inside(std::string_view part, std::string_view whole) {
  return part.data() >= whole.data() && part.data() + part.size() <= whole.data() + whole.size();
}

}  // namespace tiercel::serialization
