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

// Misses that want to load, of one key or of several: for each the value, or the right to load, or
// word that someone else loads.
//   KEYS  history, tags, then the values, then their fill leases (1 to 1,024 of each)
//   ARGV  life of the leases in ms; "1" to load even though a value is there (it was corrupt, or is
//         dead) else "0"; ms: a value whose life ends sooner is no answer; then the tokens
// A value's life ends before it goes where a part of its time is for being stale (hard less soft
// ttl). Returns an array: the version that the leases were granted at, or nil, and an answer for
// each:
//         0: the value's key holds something else than a string
//       | {1, value, remaining ttl in ms or -1}
//       | 2, or {2, old, its remaining ttl}: the lease is yours; give the version back to
//         kFinishFillsScript, and begin to load only now
//       | {3, old, its remaining ttl, ms the other's lease still lasts}, and its end will be
//         published
//       | 4: the fill lease's key holds something else than a string.
// `old` is the value that was no answer, or nil. The version is the history's newest; where there
// is no history, one that is older than any to come. Makes a base where there is none.
extern const std::string_view kBeginFillsScript;

// Stores what was loaded, of one key or of several, different ones: each only while its token
// stands (an invalidation of the key in between has removed it and wins), and only if neither one
// of the value's tags nor everything was invalidated since the lease was granted, and only if no
// value came in between (a foreign writer's: ours would have removed the token).
//   KEYS  history, tags, then the values, then their fill leases (1 to 1,024 of each)
//   ARGV  message ("fill done" of all of them), channel, history_entries, then for each: token,
//         envelope, ttl in ms ("0": none), version granted at, what it may replace: "0" nothing,
//         "=" with the first 8 bytes of the value that was seen: that one, "1" whatever is there;
//         the slots of the value's tags, two bytes big-endian each (those in the envelope)
// Only within the epoch in which the lease was granted: versions of another branch of history say
// nothing about this one.
// Returns an array: for each the version, or nil where it was refused; the lease is given back
// either way. The message is published, with version 0, only where somebody waits for one of the
// loads; it invalidates nothing, for nobody can hold anything older, and loads do not flood the
// channel. It begins an empty history.
// The version is that of the newest write of the whole history, which is at least that of the
// newest write to any of these keys.
extern const std::string_view kFinishFillsScript;

// Gives the fill lease back after a load that failed; published as by kFinishFillsScript.
//   KEYS  fill lease        ARGV  token, channel, message        Returns 1 or 0.
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

// Locks. What stands at a lock's key: 16 bytes token (8 bytes origin, which names the instance, 8
// bytes number), 8 bytes fencing number, and one byte more once another instance waits for it.

// Takes the lock, or says that someone else holds it. May be run again with the same token: the
// grant then stands, with its number, and its life begins anew.
//   KEYS  lock, lock number
//   ARGV  token, life of the lock in ms, "1" to note that its holder is waited for, else "0"
// Returns {1, fencing number} | {0, ms that it still lasts, or -1 where it never ends (a foreign
// value)}. The number (8 bytes big-endian) is the server's clock, milliseconds << 20 |
// microseconds << 10, or the newest number of the namespace and one, whichever is more. So it rises
// from grant to grant also where the newest number was lost, as long as the clock did not go back.
extern const std::string_view kAcquireLockScript;

// Lets the lock last on.
//   KEYS  lock        ARGV  token, life in ms        Returns 1, or 0: it is not ours (any more).
extern const std::string_view kRenewLockScript;

// Gives it back.
//   KEYS  lock        ARGV  token
// Returns 0: it was not ours (any more) | 1 | 2: another instance waits for it.
extern const std::string_view kReleaseLockScript;

}  // namespace tiercel::coherence
