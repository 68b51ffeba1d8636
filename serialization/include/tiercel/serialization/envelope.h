#pragma once

// The envelope: what Tiercel stores in Redis around a value. docs/wire_format.md has the bytes.
//
// A stored value is an 8-byte version, which the write script puts before what encode_envelope
// returns, then an 8-byte header by which our own values are told from those of a foreign writer,
// then the envelope. Bytes without that header are not an error: they are a plain SET of someone
// else's and are returned whole, with version 0. Bytes with it that do not parse are kCorrupt:
// count them, never return them to the user, treat them as a miss. There is no checksum: a byte
// that changed inside the payload goes unnoticed, as it does in Redis itself.
//
// Any thread; the functions share nothing. They do not block, print nothing and throw nothing, and
// the bytes may come from an attacker: the cost is bounded by their length (limits.h).
//
//   Result<std::string> bytes = encode_envelope({.hard_ttl = 60s, .payload = "ready"});
//   // … the script stores version + bytes; later:
//   Result<StoredValue> stored = decode_value(from_redis);
//   if (stored && !stored->envelope.negative) use(stored->envelope.payload);
//   (compiled in tests/serialization/envelope_test.cc)

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/serialization/codec_ids.h"
#include "tiercel/serialization/limits.h"
#include "tiercel/serialization/tag_slots.h"

namespace tiercel::serialization {

struct Envelope {
  bool negative = false;    // A cached absence: the source of truth has no such key.
  bool compressed = false;  // Reserved for a later version; refused by both directions today.
  bool tombstone = false;   // Deleted, and kept for its version.
  // Both count from the write. 0: none. Range 0 to kTtlMax. Refresh after `soft_ttl`; do not serve
  // after `hard_ttl`. A soft TTL that is longer than the hard one never comes to pass.
  std::chrono::milliseconds soft_ttl{0};
  std::chrono::milliseconds hard_ttl{0};
  std::uint32_t codec_id = kCodecRaw;
  // Of the tags that the value carries. Whoever invalidates one of them invalidates the value.
  TagSlots tag_slots{};
  std::string_view payload{};  // Not owned.
};

struct StoredValue {
  // Written by someone else: `envelope.payload` is all of the bytes and the rest are defaults.
  bool foreign = false;
  // The stream id that the write script packed; 0 is unknown.
  std::uint64_t version = 0;
  // `envelope.payload` points into the bytes that were given to decode_value, and lives as long.
  Envelope envelope{};
};

// The bytes to store, without the version: the write script puts that before them.
// One allocation and one copy of the payload. Errors: kInvalidArgument (payload over
// kPayloadBytesMax, TTL out of range, `compressed`), kOverloaded (out of memory).
Result<std::string> encode_envelope(const Envelope& envelope);

// Reads what stands in Redis. Bytes of any alignment; they are copied once for parsing if the
// envelope does not begin at a multiple of 8, and the payload points into `bytes` all the same.
// Errors: kCorrupt (ours, and not parsable: damaged, of an unknown format version, or out of
// bounds), kOverloaded (out of memory).
Result<StoredValue> decode_value(std::string_view bytes);

}  // namespace tiercel::serialization
