#pragma once

// The protocol's atomic steps, as Lua that Redis runs. Each is one EVALSHA; KEYS and ARGV in the
// order given. Text only: this module sends nothing.

#include <string_view>

namespace tiercel::coherence {

// A write: history entry (its id becomes the version), message published, fill lease removed, value
// stored. Published first, so that a step that is refused midway leaves a needless invalidation and
// not a change that nobody is told of.
//   KEYS  value, fill lease, history
//   ARGV  envelope ("" deletes the value), ttl in ms ("0": none), message, channel, history_entries
// Returns the version, 8 bytes big-endian.
extern const std::string_view kWriteScript;

// A miss that wants to load: the value, or the right to load, or word that someone else loads.
//   KEYS  value, fill lease
//   ARGV  token, life of the lease in ms, "1" to load even though a value is there (it was corrupt)
//   else "0"
// Returns {1, value, remaining ttl in ms or -1} | {2}: the lease is yours | {3, ms the other's
// lease still lasts}.
extern const std::string_view kBeginFillScript;

// Stores what was loaded, but only while the token stands: an invalidation in between has removed
// it and wins.
//   KEYS  value, fill lease, history
//   ARGV  token, envelope, ttl in ms ("0": none), message for an empty history, history_entries
// Returns the version, or nil when the lease is no longer ours. Publishes nothing: nobody can hold
// anything older. The version is that of the newest write of the whole history, which is at least
// that of the newest write to this key.
extern const std::string_view kFinishFillScript;

// Gives the fill lease back after a load that failed.
//   KEYS  fill lease        ARGV  token        Returns 1 or 0.
extern const std::string_view kAbandonFillScript;

}  // namespace tiercel::coherence
