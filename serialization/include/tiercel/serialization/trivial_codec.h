#pragma once

// TrivialCodec<T>: a trivially copyable struct as its bytes in memory, behind an 8-byte tag of its
// layout. Reading compares the tag and gives a pointer into the bytes: nothing is parsed or copied.
//
// For programs that are built alike. The tag refuses another name, size, alignment or byte order;
// it does not see the fields. Whoever changes them changes the name, too: two layouts of one name
// and size are read as each other. What has to live through changes is a case for CapnpCodec.
//
// T must not hold what means something in one process only: pointers, references, string_view, file
// descriptors, hashes with a seed. No compiler of ours can tell; T itself must not be a pointer.
// The bytes between fields are written, too, and are zeroed first where the compiler knows how
// (g++); elsewhere zero T before filling it, or they carry what stood in memory before. Whoever can
// write to Redis chooses the fields' values: a bool that is neither false nor true is undefined
// behaviour when it is read, so take std::uint8_t where the writers are not trusted, and check
// enums before a switch.
//
// Any thread. Nothing blocks or throws.
//
//   struct Quote { double bid, ask; std::int64_t at_ns; };
//   const TrivialCodec<Quote> codec{"acme.quote.1"};
//   const Result<std::string> bytes = codec.encode({.bid = 1.5, .ask = 1.75, .at_ns = 7});
//   const Result<const Quote*> quote = codec.decode(*bytes);  // (*quote)->bid
//   (compiled in tests/serialization/codec_test.cc)

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>

#include "tiercel/base/result.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::serialization {

inline constexpr std::size_t kLayoutTagBytes = 8;

// The first 8 bytes of the payload, little-endian: FNV-1a of the name, a zero byte, size and
// alignment as 8 little-endian bytes each, and 1 where this machine is little-endian, 2 where big.
[[nodiscard]] constexpr std::uint64_t layout_tag(std::string_view name, std::uint64_t size,
                                                 std::uint64_t alignment) noexcept {
  char rest[18] = {};
  for (int i = 0; i < 8; ++i) {
    rest[1 + i] = static_cast<char>(size >> 8 * i);
    rest[9 + i] = static_cast<char>(alignment >> 8 * i);
  }
  rest[17] = std::endian::native == std::endian::little ? 1 : 2;
  return fnv1a({rest, sizeof(rest)}, fnv1a(name));
}

// What TrivialCodec<T> has in common for all T.
class LayoutTag {
 public:
  constexpr LayoutTag(std::string_view name, std::size_t size, std::size_t alignment) noexcept
      : tag_(layout_tag(name, size, alignment)), size_(size), alignment_(alignment) {}

  // Tag and `value_bytes`. Errors: kOverloaded (out of memory).
  [[nodiscard]] Result<std::string> encode(std::string_view value_bytes) const;

  // True where decode() would succeed.
  [[nodiscard]] bool accepts(std::string_view bytes) const noexcept {
    return bytes.size() == kLayoutTagBytes + size_ && read_tag(bytes) == tag_ &&
           reinterpret_cast<std::uintptr_t>(bytes.data()) % alignment_ == 0;
  }

  // Why accepts() is false.
  [[nodiscard]] Error refusal(std::string_view bytes) const;

 private:
  static std::uint64_t read_tag(std::string_view bytes) noexcept {
    std::uint64_t tag = 0;
    std::memcpy(&tag, bytes.data(), sizeof(tag));
    if constexpr (std::endian::native == std::endian::big) tag = __builtin_bswap64(tag);
    return tag;
  }

  std::uint64_t tag_;
  std::size_t size_;
  std::size_t alignment_;
};

template <typename T>
class TrivialCodec {
  static_assert(std::is_trivially_copyable_v<T>, "the bytes must be all that there is to T");
  static_assert(!std::is_pointer_v<T> && !std::is_member_pointer_v<T> && !std::is_null_pointer_v<T>,
                "an address means nothing in another process");
  static_assert(!std::is_const_v<T> && !std::is_volatile_v<T>);
  static_assert(alignof(T) <= kCodecAlignment && kLayoutTagBytes % kCodecAlignment == 0,
                "values are aligned to 8 bytes: write a codec of your own that copies");

 public:
  using Value = T;
  using View = const T*;  // Never null.

  // `layout_name` names the type and its version, the same in every program: "acme.quote.1". Not
  // kept.
  explicit constexpr TrivialCodec(std::string_view layout_name) noexcept
      : tag_(layout_name, sizeof(T), alignof(T)) {}

  [[nodiscard]] std::uint32_t codec_id() const noexcept { return kCodecTrivial; }

  // Errors: kOverloaded (out of memory).
  [[nodiscard]] Result<std::string> encode(const T& value) const {
    // A union member's lifetime is not ended, so T needs no default constructor.
    union Copy {
      Copy() {}
      T value;
    } copy;
    std::memcpy(static_cast<void*>(&copy.value), &value, sizeof(T));
#if defined(__has_builtin)
#if __has_builtin(__builtin_clear_padding)
    __builtin_clear_padding(&copy.value);
#endif
#endif
    return tag_.encode({reinterpret_cast<const char*>(&copy.value), sizeof(T)});
  }

  // Errors: kCorrupt (another layout, or cut off), kInvalidArgument (bytes that do not begin at a
  // multiple of alignof(T)).
  [[nodiscard]] Result<const T*> decode(std::string_view bytes) const {
    if (!tag_.accepts(bytes)) return tag_.refusal(bytes);
    return view(bytes);
  }

  [[nodiscard]] const T* view(std::string_view bytes) const noexcept {
    return std::launder(reinterpret_cast<const T*>(bytes.data() + kLayoutTagBytes));
  }

 private:
  LayoutTag tag_;
};

}  // namespace tiercel::serialization
