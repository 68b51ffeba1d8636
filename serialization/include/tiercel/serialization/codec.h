#pragma once

// Codecs: how a value of the application becomes bytes, and how a reader looks at those bytes
// again. A codec names two types: Value, which a loader returns and a writer gives, and View, which
// a reader gets. A View refers to the bytes and copies nothing; whoever gives it out keeps the
// bytes (a pinned entry of L1). Ready-made: BytesCodec (here), TrivialCodec (trivial_codec.h),
// CapnpCodec (capnp_codec.h); anything that satisfies Codec<C> is one, too.
//
// The bytes come from Redis, and whoever can write there chooses them: decode() gives kCorrupt for
// what is not a value of its type, and is never undefined behaviour. The codec id in the envelope
// (codec_ids.h) tells types apart before that: decode_stored() compares it first.
//
// Bytes are at a multiple of 8, as L1's values and payloads of stored values are. A codec that
// needs this and is given others answers kInvalidArgument; decode_anywhere() copies such bytes.
//
// Codecs are values: cheap to copy, and const member functions are safe on any thread, as are
// views of the same bytes. Nothing here blocks or throws. A codec of the user's own:
//
//   struct PointCodec {
//     using Value = Point;  // struct Point { std::int32_t x, y; };
//     using View = Point;   // Small: a copy is the cheapest view.
//     std::uint32_t codec_id() const noexcept { return derived_codec_id("acme.point.1"); }
//     Result<std::string> encode(const Point& point) const {
//       return std::to_string(point.x) + ' ' + std::to_string(point.y);
//     }
//     Result<Point> decode(std::string_view bytes) const;  // corrupt("point: no space") …
//   };
//   (compiled in tests/serialization/codec_test.cc)

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "tiercel/base/result.h"
#include "tiercel/serialization/codec_ids.h"

namespace tiercel::serialization {

template <typename C>
concept Codec = std::copy_constructible<C> && std::movable<typename C::Value> &&
    std::copyable<typename C::View> &&
    requires(const C& codec, const typename C::Value& value, std::string_view bytes) {
  // The same for every value, in every process.
  { codec.codec_id() }
  noexcept->std::same_as<std::uint32_t>;
  // What decode accepts. Errors: kInvalidArgument (the value cannot be encoded), kOverloaded.
  { codec.encode(value) } -> std::same_as<Result<std::string>>;
  // The view is valid as long as `bytes`, unmoved and unchanged. Errors: kCorrupt (what differs
  // stands in the message, the bytes do not), kInvalidArgument (alignment), kOverloaded.
  { codec.decode(bytes) } -> std::same_as<Result<typename C::View>>;
};

// A codec whose decode() is worth doing once for the same bytes: view() gives what decode() gave
// for them, without looking at them again. Requires that decode() has accepted exactly these bytes
// (or encode() made them), here or where they were copied from, and that they begin at a multiple
// of 8. Otherwise the behaviour is undefined, so remember it beside the bytes, out of reach of
// whoever writes to Redis.
template <typename C>
concept CheckedOnceCodec = Codec<C> && requires(const C& codec, std::string_view bytes) {
  { codec.view(bytes) }
  noexcept->std::same_as<typename C::View>;
};

inline constexpr std::size_t kCodecAlignment = 8;

[[nodiscard]] inline bool is_codec_aligned(std::string_view bytes) noexcept {
  return reinterpret_cast<std::uintptr_t>(bytes.data()) % kCodecAlignment == 0;
}

// What a value that was stored by another codec is.
[[nodiscard]] Error codec_mismatch(std::uint32_t stored_id, std::uint32_t wanted_id);

// decode(), but kCorrupt where the envelope's codec id is another one. `bytes` is its payload.
template <Codec C>
Result<typename C::View> decode_stored(const C& codec, std::uint32_t stored_id,
                                       std::string_view bytes) {
  if (stored_id != codec.codec_id()) return codec_mismatch(stored_id, codec.codec_id());
  return codec.decode(bytes);
}

// The view of bytes that decode() has accepted before; see CheckedOnceCodec. A codec without view()
// decodes again, and a refusal then is a bug and aborts.
template <Codec C>
typename C::View view_of_checked(const C& codec, std::string_view bytes) {
  if constexpr (CheckedOnceCodec<C>) {
    return codec.view(bytes);
  } else {
    return std::move(codec.decode(bytes)).value();
  }
}

// Bytes at a multiple of 8: those that were given if they stand there, else a copy on the heap.
// Moving it leaves the bytes where they are.
class AlignedBytes {
 public:
  AlignedBytes() = default;

  // Errors: kOverloaded (out of memory).
  static Result<AlignedBytes> of(std::string_view bytes);

  // As long as this object and, where they were not copied, the bytes that were given.
  [[nodiscard]] std::string_view bytes() const noexcept { return bytes_; }
  [[nodiscard]] bool is_copy() const noexcept { return copy_ != nullptr; }

 private:
  std::string_view bytes_;
  std::unique_ptr<char[]> copy_;
};

// A view, and the copy of its bytes if there had to be one. Movable; the view stays valid.
template <Codec C>
class Decoded {
 public:
  Decoded(AlignedBytes bytes, typename C::View view)
      : bytes_(std::move(bytes)), view_(std::move(view)) {}

  // As long as AlignedBytes::bytes().
  [[nodiscard]] const typename C::View& view() const noexcept { return view_; }
  [[nodiscard]] bool is_copy() const noexcept { return bytes_.is_copy(); }

 private:
  AlignedBytes bytes_;
  typename C::View view_;
};

// decode() of bytes of any alignment: one allocation and copy if they are not at a multiple of 8.
// Errors: those of decode().
template <Codec C>
Result<Decoded<C>> decode_anywhere(const C& codec, std::string_view bytes) {
  auto aligned = AlignedBytes::of(bytes);
  if (!aligned) return std::move(aligned).error();
  auto view = codec.decode(aligned->bytes());
  if (!view) return std::move(view).error();
  return Decoded<C>{std::move(*aligned), std::move(*view)};
}

// Strings and bytes as they are, of any alignment. Every value is one, also that of a foreign
// writer.
struct BytesCodec {
  using Value = std::string;
  using View = std::string_view;

  [[nodiscard]] std::uint32_t codec_id() const noexcept { return kCodecRaw; }
  // Errors: kOverloaded (out of memory).
  [[nodiscard]] Result<std::string> encode(const std::string& value) const;
  [[nodiscard]] Result<std::string> encode(std::string&& value) const { return std::move(value); }
  // No errors.
  [[nodiscard]] Result<std::string_view> decode(std::string_view bytes) const { return bytes; }
  [[nodiscard]] std::string_view view(std::string_view bytes) const noexcept { return bytes; }
};

}  // namespace tiercel::serialization
