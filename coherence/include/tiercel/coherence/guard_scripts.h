#pragma once

// The atomic steps of a keyspace's guard (docs/design/bloom.md), as Lua that Redis runs; as
// scripts.h says of all of them. "Guard" is the key Names::guard_key(): what is stored of it has a
// mark of 8 bytes and then an id of 16, which is new with each change.
//
// They touch keys that KEYS does not name: the chunks of the filters, whose names follow from what
// the guard's key holds at that moment. That is why writers need not know which filters there are.

#include <string_view>

namespace tiercel::coherence {

// Goes before a script that writes keys, and takes away what it is given: then that runs as if it
// were alone. Sets the keys' bits in all filters that Redis has of their guards, in the same step
// as the write. Where a filter turns out to be damaged the guard's key is deleted.
//   KEYS  those of the script, then the guards, the last one first
//   ARGV  those of the script, then one text: for each guard the number of keys (2 bytes,
//         big-endian), and for each of them 24 bytes: the hash (8 bytes, little-endian), then the
//         offsets of its bits in its block as SETBIT counts them (2 bytes each, big-endian)
extern const std::string_view kGuardPrologue;

// What is stored, and the server's clock.
//   KEYS  guard
// Returns {text or nil, {seconds, microseconds}}.
extern const std::string_view kGuardReadScript;

// Replaces what is stored.
//   KEYS  guard      ARGV  the id that is there ("": nothing is), the text ("" deletes)
// Returns 1, or 0 where another id is there and nothing was changed.
extern const std::string_view kGuardChangeScript;

// Adds bits to a chunk.
//   KEYS  guard, chunk, a name for a moment      ARGV  the id that must be there, the bits
// Returns 1, or 0 where another id is there, or the chunk has another length: nothing was changed.
extern const std::string_view kGuardMergeScript;

// Renews or gives back the right to build.
//   KEYS  lease      ARGV  token, life in ms ("0": give it back)
// Returns 1, or 0 where someone else has it.
extern const std::string_view kGuardLeaseScript;

}  // namespace tiercel::coherence
