// Invariants:
// - What encode_envelope returns, decode_value accepts.
// - A returned payload lies inside the bytes that were given.
// - An error's message never holds bytes of the payload.

#include "tiercel/serialization/envelope.h"

#include "envelope.capnp.h"
#include "frame.h"
#include "tiercel/base/bytes.h"

namespace tiercel::serialization {
namespace {

// The payload follows the root pointer and these, and the slots of the tags follow it.
constexpr std::size_t kDataWords = 3;
constexpr std::size_t kPointers = 2;
constexpr std::size_t kEnvelopeWords = 1 + kDataWords + kPointers;
static_assert(kVersionBytes + kHeaderBytes + kSegmentTableBytes + kEnvelopeWords * kWordBytes +
                  kTagsPerValueMax * sizeof(TagSlot) ==
              kValueOverheadBytes);

Result<void> check_ttl(const char* name, std::chrono::milliseconds ttl) {
  if (ttl >= std::chrono::milliseconds{0} && ttl <= kTtlMax) return {};
  return invalid_argument(std::string{name} + " is " + std::to_string(ttl.count()) +
                          " ms; give 0 (none) to " + std::to_string(kTtlMax.count()) + " ms");
}

Result<void> check_envelope(const Envelope& envelope) {
  if (envelope.payload.size() > kPayloadBytesMax) {
    return invalid_argument("the payload has " + std::to_string(envelope.payload.size()) +
                            " bytes; Redis takes at most " + std::to_string(kPayloadBytesMax));
  }
  if (envelope.compressed) {
    return invalid_argument("compressed payloads are not supported by format version 1");
  }
  if (auto checked = check_ttl("soft_ttl", envelope.soft_ttl); !checked) return checked;
  return check_ttl("hard_ttl", envelope.hard_ttl);
}

Result<void> check_header(std::string_view bytes) {
  if (bytes.size() > kValueBytesMax) {
    return corrupt("value: " + std::to_string(bytes.size()) + " bytes are more than " +
                   std::to_string(kValueBytesMax));
  }
  const FrameHeader header = read_header(bytes);
  if (header.format_version != kFormatVersion) {
    return corrupt("value: format version " + std::to_string(header.format_version) +
                   "; this build reads " + std::to_string(kFormatVersion));
  }
  if (header.kind != static_cast<std::uint8_t>(FrameKind::kValue)) {
    return corrupt("value: kind " + std::to_string(header.kind) + " is not a value");
  }
  if (!header.reserved_are_zero) return corrupt("value: reserved header bytes are not zero");
  return {};
}

bool ttl_in_range(std::uint64_t ttl_ms) noexcept {
  return ttl_ms <= static_cast<std::uint64_t>(kTtlMax.count());
}

std::chrono::milliseconds to_ttl(std::uint64_t ttl_ms) noexcept {
  return std::chrono::milliseconds{static_cast<std::chrono::milliseconds::rep>(ttl_ms)};
}

Result<TagSlots> read_tag_slots(wire::Envelope::Reader root) {
  const auto listed = root.getTagSlots();
  if (listed.size() > kTagsPerValueMax) {
    return corrupt("value: " + std::to_string(listed.size()) + " tag slots are more than " +
                   std::to_string(kTagsPerValueMax));
  }
  TagSlots slots;
  for (const TagSlot slot : listed) TIERCEL_CHECK(slots.add(slot));
  return slots;
}

Result<Envelope> read_envelope(std::string_view segment) {
  SegmentMessage message{segment};
  const auto root = message.root<wire::Envelope>(kDataWords, kPointers);
  if (root.getCompressed()) return corrupt("value: compressed, which is not supported");
  if (!ttl_in_range(root.getSoftTtlMs())) return corrupt("value: soft TTL out of range");
  if (!ttl_in_range(root.getHardTtlMs())) return corrupt("value: hard TTL out of range");
  auto tag_slots = read_tag_slots(root);
  if (!tag_slots) return tag_slots.error();
  return Envelope{.negative = root.getNegative(),
                  .compressed = false,
                  .tombstone = root.getTombstone(),
                  .soft_ttl = to_ttl(root.getSoftTtlMs()),
                  .hard_ttl = to_ttl(root.getHardTtlMs()),
                  .codec_id = root.getCodecId(),
                  .tag_slots = *tag_slots,
                  .payload = message.original(root.getPayload())};
}

}  // namespace

Result<std::string> encode_envelope(const Envelope& envelope) {
  if (auto checked = check_envelope(envelope); !checked) return checked.error();
  return guarded<std::string>("encode_envelope", internal, [&]() -> Result<std::string> {
    std::string frame =
        make_frame(FrameKind::kValue, kEnvelopeWords + words_for(envelope.payload.size()) +
                                          words_for(envelope.tag_slots.size() * sizeof(TagSlot)));
    capnp::FlatMessageBuilder builder{segment_of(frame)};
    auto root = builder.initRoot<wire::Envelope>();
    root.setNegative(envelope.negative);
    root.setTombstone(envelope.tombstone);
    root.setCodecId(envelope.codec_id);
    root.setSoftTtlMs(static_cast<std::uint64_t>(envelope.soft_ttl.count()));
    root.setHardTtlMs(static_cast<std::uint64_t>(envelope.hard_ttl.count()));
    root.setPayload(
        {reinterpret_cast<const kj::byte*>(envelope.payload.data()), envelope.payload.size()});
    if (!envelope.tag_slots.empty()) {
      auto listed = root.initTagSlots(static_cast<unsigned>(envelope.tag_slots.size()));
      unsigned index = 0;
      for (const TagSlot slot : envelope.tag_slots.span()) listed.set(index++, slot);
    }
    builder.requireFilled();
    return frame;
  });
}

Result<StoredValue> decode_value(std::string_view bytes) {
  if (!has_magic(bytes)) {
    return StoredValue{.foreign = true, .version = 0, .envelope = {.payload = bytes}};
  }
  if (auto checked = check_header(bytes); !checked) return checked.error();
  auto segment = read_segment(bytes);
  if (!segment) return corrupt("value: " + segment.error().message);
  auto envelope = guarded<Envelope>("value", corrupt, [&] { return read_envelope(*segment); });
  if (!envelope) return std::move(envelope).error();
  return StoredValue{.foreign = false, .version = read_u64_be(bytes.data()), .envelope = *envelope};
}

}  // namespace tiercel::serialization
