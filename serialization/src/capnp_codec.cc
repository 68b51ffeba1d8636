// Invariants:
// - What encode_capnp returns, check_capnp accepts.
// - What check_capnp accepts can be read without bounds checks (capnp::readMessageUnchecked): every
//   pointer, also one that the schema does not know (a deep copy follows it), leads into the one
//   segment; none is far or a capability; none is deeper than the limit; no word belongs to two
//   objects often enough to matter.

#include "tiercel/serialization/capnp_codec.h"

#include <capnp/any.h>
#include <capnp/dynamic.h>

#include <array>
#include <cstdint>
#include <vector>

#include "frame.h"
#include "tiercel/serialization/limits.h"

namespace tiercel::serialization {
namespace {

static_assert(kCapnpTableBytes == kSegmentTableBytes && kCodecAlignment == alignof(capnp::word));

// The root is visited twice.
constexpr std::size_t kTraversalSlackWords = 16 + kCapnpEmptyElementsMax;

// Where Cap'n Proto's own reader finds the one segment.
class CheckedMessage {
 public:
  explicit CheckedMessage(kj::ArrayPtr<const capnp::word> segment)
      : segments_{segment}, reader_(kj::arrayPtr(segments_.data(), segments_.size()), options()) {}

  capnp::SegmentArrayMessageReader& operator*() noexcept { return reader_; }

 private:
  [[nodiscard]] capnp::ReaderOptions options() const noexcept {
    capnp::ReaderOptions options;
    options.traversalLimitInWords = segments_[0].size() + kTraversalSlackWords;
    options.nestingLimit = kCapnpNestingMax;
    return options;
  }

  const std::array<kj::ArrayPtr<const capnp::word>, 1> segments_;
  capnp::SegmentArrayMessageReader reader_;
};

// Reads every pointer as the schema has it, so that one of another type throws here.
class TypeCheck {
 public:
  static void check(capnp::DynamicStruct::Reader reader) {
    if (capnp::AnyStruct::Reader{reader}.getPointerSection().size() == 0) return;
    for (const capnp::StructSchema::Field field : reader.getSchema().getNonUnionFields()) {
      check_field(reader, field);
    }
    KJ_IF_MAYBE (field, reader.which()) {
      check_field(reader, *field);
    }
  }

 private:
  static bool has_pointers(capnp::Type type) noexcept {
    return type.isText() || type.isData() || type.isStruct() || type.isList();
  }

  static void check_field(capnp::DynamicStruct::Reader reader, capnp::StructSchema::Field field) {
    if (has_pointers(field.getType()) && reader.has(field)) check_value(reader.get(field));
  }

  static void check_value(capnp::DynamicValue::Reader value) {
    if (value.getType() == capnp::DynamicValue::STRUCT) check(value.as<capnp::DynamicStruct>());
    if (value.getType() == capnp::DynamicValue::LIST) check_list(value.as<capnp::DynamicList>());
  }

  static void check_list(capnp::DynamicList::Reader list) {
    if (!has_pointers(list.getSchema().getElementType())) return;
    for (const capnp::DynamicValue::Reader element : list) check_value(element);
  }
};

Result<void> check_segment(kj::ArrayPtr<const capnp::word> segment, capnp::StructSchema schema) {
  // First everything that is there, known to the schema or not: bounds, depth, sharing.
  CheckedMessage message{segment};
  const auto root = (*message).getRoot<capnp::AnyPointer>();
  if (!root.isStruct()) return corrupt("capnp: the root is not a struct");
  if (root.targetSize().capCount != 0) return corrupt("capnp: capabilities");
  // Now that nothing can lead out of the segment: unchecked readers do not follow far pointers, and
  // this is how they say so.
  capnp::readMessageUnchecked<capnp::AnyPointer>(segment.begin()).targetSize();
  // Its own traversal limit, for it visits everything once more.
  CheckedMessage typed{segment};
  TypeCheck::check((*typed).getRoot<capnp::DynamicStruct>(schema));
  return {};
}

Error too_large(std::size_t bytes) {
  return invalid_argument("capnp: " + std::to_string(bytes) + " bytes; at most " +
                          std::to_string(kPayloadBytesMax));
}

Result<std::string> make_flat(kj::ArrayPtr<const capnp::word> segment) {
  const std::size_t bytes = segment.size() * kWordBytes;
  if (bytes > kPayloadBytesMax - kCapnpTableBytes) return too_large(bytes);
  std::string flat;
  flat.reserve(kCapnpTableBytes + bytes);
  flat.append(4, '\0');
  for (int shift = 0; shift < 32; shift += 8) flat += static_cast<char>(segment.size() >> shift);
  flat.append(reinterpret_cast<const char*>(segment.begin()), bytes);
  return flat;
}

Result<std::string> flatten(capnp::MessageBuilder& builder) {
  const auto segments = builder.getSegmentsForOutput();
  if (segments.size() == 0) return invalid_argument("capnp: the value was never filled: init()");
  if (segments.size() == 1) return make_flat(segments[0]);
  const auto root = builder.getRoot<capnp::AnyPointer>().asReader();
  const std::size_t words = root.targetSize().wordCount + 1;
  if (words > kPayloadBytesMax / kWordBytes) return too_large(words * kWordBytes);
  std::vector<capnp::word> copy(words);  // Zeros.
  capnp::FlatMessageBuilder flat{kj::arrayPtr(copy.data(), copy.size())};
  flat.setRoot(root);
  return make_flat(flat.getSegmentsForOutput()[0]);
}

Result<std::string_view> read_table(std::string_view bytes) {
  if (!is_codec_aligned(bytes)) return invalid_argument("capnp: the bytes are not aligned to 8");
  if (bytes.size() < kCapnpTableBytes) return corrupt("capnp: the segment table is cut off");
  const auto number_at = [&](std::size_t offset) {
    std::uint32_t number = 0;
    for (std::size_t i = 4; i > 0; --i) {
      number = number << 8 | static_cast<unsigned char>(bytes[offset + i - 1]);
    }
    return number;
  };
  if (number_at(0) != 0) return corrupt("capnp: more than one segment");
  const std::string_view segment = bytes.substr(kCapnpTableBytes);
  if (segment.size() != std::size_t{number_at(4)} * kWordBytes) {
    return corrupt("capnp: the segment claims " + std::to_string(number_at(4)) + " words and has " +
                   std::to_string(segment.size()) + " bytes");
  }
  return segment;
}

}  // namespace

Result<std::string> encode_capnp(capnp::MessageBuilder& builder, capnp::StructSchema schema) {
  auto bytes = guarded<std::string>("capnp", invalid_argument, [&] { return flatten(builder); });
  if (!bytes) return bytes;
  const auto checked = check_capnp(*bytes, schema);
  if (checked || checked.error().code == ErrorCode::kOverloaded) {
    return checked ? std::move(bytes) : Result<std::string>{checked.error()};
  }
  return invalid_argument(checked.error().message);
}

Result<void> check_capnp(std::string_view bytes, capnp::StructSchema schema) {
  const auto segment = read_table(bytes);
  if (!segment) return segment.error();
  const kj::ArrayPtr<const capnp::word> words{reinterpret_cast<const capnp::word*>(segment->data()),
                                              segment->size() / kWordBytes};
  return guarded<void>("capnp", corrupt, [&] { return check_segment(words, schema); });
}

}  // namespace tiercel::serialization
