# What is published on the invalidation channel, after the 8-byte version and the 8-byte header.
# docs/wire_format.md has the bytes, and the rule by which this may change: new fields at the end only;
# anything that an old reader may not ignore raises the format version in the header.
@0xa1ae75ee1eb7e959;

using Cxx = import "/capnp/c++.capnp";
$Cxx.namespace("tiercel::serialization::wire");

struct InvalidationMessage {
  origin @0 :UInt64;  # The instance that wrote.
  nonce @1 :UInt64;   # Its counter; (origin, nonce) names one message.
  kind @2 :Kind;
  keys @3 :List(Data);
  value @4 :Data;     # Null: no value came along. Empty: the empty value did.

  enum Kind {
    set @0;         # The keys have new values; `value` may hold the one key's.
    invalidate @1;  # The keys are gone or changed.
    tag @2;         # `keys` are tags: all entries that carry one are invalid.
    clear @3;       # All entries of the namespace are invalid; no keys.
    fillDone @4;    # A load has ended; `value` may hold the one key's value.
  }
}
