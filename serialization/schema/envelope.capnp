# What stands in Redis under a key, after the 8-byte version and the 8-byte header.
# docs/wire_format.md has the bytes, and the rule by which this may change: new fields at the end only;
# anything that an old reader may not ignore raises the format version in the header.
@0xfc61758f16a7fdfe;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("tiercel::serialization::wire");

struct Envelope {
  negative @0 :Bool;    # "The source of truth has no such key": a cached absence.
  compressed @1 :Bool;  # The payload is compressed. Reserved: version 1 readers refuse it.
  tombstone @2 :Bool;   # Deleted, and kept for its version.
  codecId @3 :UInt32;   # What the payload's bytes are; see codec_ids.h.
  softTtlMs @4 :UInt64; # From the write, in milliseconds: refresh after it. 0: none.
  hardTtlMs @5 :UInt64; # From the write, in milliseconds: do not serve after it. 0: none.
  payload @6 :Data;
  tagSlots @7 :List(UInt16); # Of the value's tags: at most 16, rising. See tag_slots.h.
}
