#pragma once

// The protocol's atomic steps, as Lua that Redis runs. Each is one EVALSHA; KEYS and ARGV in the
// order given. Text only: this module sends nothing.
//
// "Version" is 8 bytes big-endian, as it stands before a value. "Published" means the version and
// then the message, on the channel; the history keeps the message under that version. What is
// published is published before anything changes, so that a step that is refused midway leaves a
// needless invalidation and not a change that nobody is told of. On an error reply of any of these
// the value may still be what it was, or be changed: treat the outcome as unknown unless the error
// names a permission or an argument.
//
// How tags work. `tags` (Names::tags_key) is a hash: field "base" and one field for each slot that
// was ever invalidated, "0" to "65535", each holding a version. A value is dead if one of its
// slots, or base, holds a version newer than the value's own (TagTable, tag_table.h). Base is as
// old as the hash: of what was before, the hash knows nothing. Where there is no base all values
// are dead; every script that needs one makes one. A clear begins the hash anew.
//
// A value's version can be that of an invalidation, and then the value is alive: it is a fill that
// began after it, and nothing else was written since. A fill that began before is refused.

#include <string_view>

namespace tiercel::coherence {

// A write: history entry (its id becomes the version), published, fill lease removed, value stored.
//   KEYS  value, fill lease, history
//   ARGV  envelope ("" deletes the value), ttl in ms ("0": none), message, channel, history_entries
// Returns the version. The envelope may carry tags; the message may carry the envelope as its value
// ("value push": exactly what is stored after the version, of a set of one key).
extern const std::string_view kWriteScript;

// Writes of several keys, different ones, in one step: one history entry, one message, one version
// for all of them, the fill leases removed, the values stored.
//   KEYS  history, then the values, then their fill leases (1 to 1,024 of each)
//   ARGV  message, channel, history_entries, then for each value: envelope (none is ""), ttl in ms
//         ("0": none)
// Returns the version. The message carries no value.
extern const std::string_view kWriteManyScript;

// A write that happens only over what the writer expects to be there.
//   KEYS  as kWriteScript, then: tags
//   ARGV  as kWriteScript, then: expected: a version, or "" for no value
// Returns the version, or, where something else is there and nothing was changed, an array of one:
// nil for no value, "" for a value of unknown version (a foreign writer's, also of another type; a
// corrupt one), else the version that is there. A negative entry, a tombstone and a dead value (a
// tag of it was invalidated since, or everything; is_dead_in_redis) are no value.
extern const std::string_view kWriteIfScript;

// The cheaper mode: no history entry and no version (0: unknown), so nobody can tell which of two
// such values is newer, and who was not connected cannot catch up. All instances of the namespace
// must then drop L1 at each new epoch, as with foreign writers. No tags, and clears do not reach
// the stored value.
//   KEYS  value, fill lease
//   ARGV  envelope ("" deletes the value), ttl in ms ("0": none), message, channel
// Returns version 0, which is published, too.
extern const std::string_view kWriteUnversionedScript;

// Invalidates many keys in one step: one history entry, one message published, the values and the
// fill leases removed.
//   KEYS  history, then any number (1 to 4,000) of values and fill leases, in any order
//   ARGV  message, channel, history_entries
// Returns the version.
extern const std::string_view kInvalidateManyScript;

// Invalidates tags: history entry, published, slots set to the version.
//   KEYS  history, tags
//   ARGV  message, channel, history_entries, then the slots (1 to 2,000, decimal)
// Returns the version.
extern const std::string_view kInvalidateTagsScript;

// Invalidates every value of a known version: history entry, published, the hash of tags begun
// anew at the version. The values stay where they are, dead. O(slots that were ever invalidated).
//   KEYS  history, tags
//   ARGV  message, channel, history_entries
// Returns the version.
extern const std::string_view kClearScript;

// What the tags are in Redis, with a base made where there was none: at the history's newest
// version.
//   KEYS  history, tags
//   ARGV  nothing: all of it, field, version, field, version, … (decode_tags)
//         or fields, "base" first: their versions in that order, nil where there is none
//         (is_dead_in_redis)
extern const std::string_view kReadTagsScript;

// A miss that wants to load: the value, or the right to load, or word that someone else loads.
//   KEYS  value, fill lease, history, tags
//   ARGV  token, life of the lease in ms, "1" to load even though a value is there (it was corrupt,
//         or is dead) else "0"
// Returns {1, value, remaining ttl in ms or -1} | {2, version granted at}: the lease is yours; give
// the version back to kFinishFillScript, and begin to load only now | {3, ms the other's lease
// still lasts}. The version is the history's newest; where there is no history, one that is older
// than any to come. Makes a base where there is none.
extern const std::string_view kBeginFillScript;

// Stores what was loaded, but only while the token stands (an invalidation of the key in between
// has removed it and wins), and only if neither one of the value's tags nor everything was
// invalidated since the lease was granted, and only if no value came in between (a foreign
// writer's: ours would have removed the token).
//   KEYS  value, fill lease, history, tags
//   ARGV  token, envelope, ttl in ms ("0": none), message for an empty history, history_entries,
//         version granted at, what kBeginFillScript was given as its third ("0" or "1"), then the
//         slots of the value's tags (decimal; those in the envelope)
// Only within the epoch in which the lease was granted: versions of another branch of history say
// nothing about this one.
// Returns the version, or nil where it was refused; the lease is given back either way. Publishes
// nothing: nobody can hold anything older. The version is that of the newest write of the whole
// history, which is at least that of the newest write to this key.
extern const std::string_view kFinishFillScript;

// Gives the fill lease back after a load that failed.
//   KEYS  fill lease        ARGV  token        Returns 1 or 0.
extern const std::string_view kAbandonFillScript;

// The id of the history's newest entry, "" where there is none.
//   KEYS  history
extern const std::string_view kNewestScript;

// What is there of an entry, in one step, to compare it with what L1 answered. Changes nothing.
//   KEYS  value, tags
//   ARGV  size up to which the whole value is wanted, then the slots of the entry's tags (decimal)
// Returns {size, bytes, {base, versions of the slots}}: size is -1 for a key that holds something
// else than a string; bytes are nil where there is none, and of a larger value the first 33, which
// is where the flags end (docs/wire_format.md); of base and slots nil where there is none.
extern const std::string_view kAuditScript;

// Makes this instance's lease known to those who fence a write, and asks for the longest known.
//   KEYS  lease registry
//   ARGV  Δ of this instance in ms, life in ms: how long it is remembered if it does not come back.
//         The life must exceed any Δ (60 s) and the time until this is called again.
// Returns the longest Δ in ms, this instance's included.
extern const std::string_view kRegisterLeaseScript;

}  // namespace tiercel::coherence
