#pragma once

// CapnpCodec<Schema>: structs of the user's own Cap'n Proto schemas. What a reader gets is an
// ordinary Schema::Reader onto the stored bytes: no decoding, no copy, no allocation.
//
// The only public header that includes Cap'n Proto; link tiercel::capnp_codec for it.
//
// The bytes are checked once, whole, by decode(): every pointer, depth and size, that no byte is
// counted twice (many pointers to one target make a small value huge when it is walked), and the
// type of each field that the schema knows. So reading fields later checks no bounds, throws
// nothing, and has no traversal limit to run into; view() gives such a reader again in nanoseconds.
// Three things are the reader's: which member of a union is set; what stands in an AnyPointer
// (within bounds and depth, of any type; getAs<T>() throws a kj::Exception for another, and a list
// of empty elements there may be long); and enumerants that it does not know.
//
// The schema may change as Cap'n Proto means it: new fields at the end. Old readers skip them, new
// readers see their defaults. The codec id comes from the struct's 64-bit id, so another struct is
// refused. `$Cxx` generics of one struct share its id; the types of their fields are checked.
//
// Any thread; a view and its copies may be read by many at once. decode() costs time in proportion
// to the bytes. Nothing blocks or throws, nothing is printed. Capabilities are refused.
//
//   using PlayerCodec = CapnpCodec<Player>;
//   PlayerCodec::Value value;                        // A loader's result.
//   value.init().setName("Ann");
//   const Result<std::string> bytes = PlayerCodec{}.encode(value);
//   const Result<Player::Reader> player = PlayerCodec{}.decode(*bytes);
//   use(player->getName());                          // While `bytes` live.
//   (compiled in tests/serialization/capnp_codec_test.cc)

#include <capnp/message.h>
#include <capnp/schema.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::serialization {

// A chain of pointers is followed by recursion. Cap'n Proto's own default.
inline constexpr int kCapnpNestingMax = 64;

// Elements that take no room in the message (Void, structs without fields), all together. Without
// a bound a few bytes could claim to be a list of half a billion.
inline constexpr std::size_t kCapnpEmptyElementsMax = 1024;

// The standard framing for one segment: a table of 8 bytes, then the segment.
inline constexpr std::size_t kCapnpTableBytes = 8;

// What CapnpCodec<Schema> has in common for all schemas.
[[nodiscard]] Result<std::string> encode_capnp(capnp::MessageBuilder& builder,
                                               capnp::StructSchema schema);
[[nodiscard]] Result<void> check_capnp(std::string_view bytes, capnp::StructSchema schema);

// A message that is being built. Movable; a Builder from it stays valid. Not for two threads at
// once. May throw std::bad_alloc.
template <typename Schema>
class CapnpValue {
 public:
  // In 8-byte words: what most values fit into. More is asked for as it is needed, at the cost of
  // one more copy when it is encoded.
  explicit CapnpValue(unsigned first_segment_words = 128)
      : builder_(std::make_unique<capnp::MallocMessageBuilder>(first_segment_words)) {}

  // The empty struct, to be filled. Valid as long as the value; a second call starts anew.
  typename Schema::Builder init() { return builder_->initRoot<Schema>(); }

  // What init() gave. Before it, a struct of defaults, and encode() accepts it.
  typename Schema::Builder get() { return builder_->getRoot<Schema>(); }

  // Instead of init(): a copy of another, e.g. of a view that is to be changed.
  void set(typename Schema::Reader other) { builder_->setRoot(other); }

  // Of Cap'n Proto's other calls. Also what encode() reads: it changes nothing, but is not const.
  [[nodiscard]] capnp::MessageBuilder& builder() const noexcept { return *builder_; }

 private:
  std::unique_ptr<capnp::MallocMessageBuilder> builder_;  // Never null, but after a move.
};

template <typename Schema>
class CapnpCodec {
 public:
  using Value = CapnpValue<Schema>;
  using View = typename Schema::Reader;

  [[nodiscard]] std::uint32_t codec_id() const noexcept {
    return derived_codec_id(capnp::typeId<Schema>());
  }

  // Errors: kInvalidArgument (init() was never called, or what decode would refuse: too deep, too
  // many empty elements, capabilities, over kPayloadBytesMax), kOverloaded (out of memory).
  [[nodiscard]] Result<std::string> encode(const Value& value) const {
    return encode_capnp(value.builder(), capnp::Schema::from<Schema>());
  }

  // Errors: kCorrupt, kInvalidArgument (bytes that do not begin at a multiple of 8), kOverloaded.
  [[nodiscard]] Result<View> decode(std::string_view bytes) const {
    if (auto checked = check_capnp(bytes, capnp::Schema::from<Schema>()); !checked) {
      return checked.error();
    }
    return view(bytes);
  }

  [[nodiscard]] View view(std::string_view bytes) const noexcept {
    const auto* root = reinterpret_cast<const capnp::word*>(bytes.data() + kCapnpTableBytes);
    // https://capnproto.org/encoding.html#structs. Without pointers nothing has to be followed, and
    // what is left is inlined: 2 ns instead of 10.
    const std::uint64_t pointer = read_word(root);
    const bool has_pointers = pointer >> 48 != 0;
    if (const auto words = static_cast<std::size_t>(pointer >> 32); !has_pointers && words != 0) {
      const auto offset = static_cast<std::int32_t>(pointer) >> 2;
      return capnp::readDataStruct<Schema>(kj::arrayPtr(root + 1 + offset, words));
    }
    return capnp::readMessageUnchecked<Schema>(root);
  }

 private:
  static std::uint64_t read_word(const capnp::word* at) noexcept {
    std::uint64_t word = 0;
    std::memcpy(&word, at, sizeof(word));
    if constexpr (std::endian::native == std::endian::big) word = __builtin_bswap64(word);
    return word;
  }
};

}  // namespace tiercel::serialization
