#pragma once

// TagTable: which values a tag's invalidation, or a clear, has made dead. An instance's copy of
// what Redis keeps in the hash of tags (scripts.h), kept current by the messages on the channel.
//
// A tag is one of 65,536 slots (serialization/tag_slots.h has the hash). Each slot has the version
// at which it was last invalidated, and `base` is the version before which everything is dead: that
// of the last clear, or from which on the hash knows of invalidations. A value is dead if base or
// one of its slots is newer than the value. An equal version is not newer: it is that of a fill
// that began after the invalidation, when nothing else had been written since.
//
// Values of unknown version (foreign writers') carry no tags and are not reached by a clear here;
// whoever clears drops L1 as well.
//
// A hit asks like this, around the steps of lease.h:
//   1. load the lease, L1's generation and generation();   2. take the value;
//   3. is_dead(generation, …): then it is a miss;          4. read the clock, …
// The generation makes sure that the value is not judged by the table of a later epoch, whose
// versions are of another branch of history.
//
// An epoch that does not go on from the last: reset(); then ask Redis for the tags, and go on
// hearing messages; then join() with the answer. Whatever was heard in between may be older or
// newer than the answer; both count. An epoch that goes on (L1 stays warm) keeps the table, which
// learns what it missed from the history.
//
// is_dead, generation: any thread; no lock; O(slots of the value), two loads without tags.
// invalidate, clear: any thread, but not while reset runs. reset, join: one thread at a time.
// Memory: 512 KiB.

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

using TagSlot = std::uint16_t;

// What the hash holds.
struct TagBaseline {
  Version base = kVersionUnknown;
  std::vector<std::pair<TagSlot, Version>> slots{};
};

// Reads the whole of the hash, as HGETALL gives it: field, version, field, version, … Errors:
// kCorrupt (no base; a field that is neither base nor a slot; a version that is not 8 bytes, or is
// 0): then nothing is known of the tags, and a clear puts the hash in order.
Result<TagBaseline> decode_tags(std::span<const std::string_view> fields_and_versions);

// Whether a value of this version is dead by what Redis says now: the versions of base, which comes
// first, and of each of the value's slots; nullopt where there is none. For reads that no lease
// vouches for; the tags must have been asked for after the value. Errors: kCorrupt, as above.
Result<bool> is_dead_in_redis(Version version,
                              std::span<const std::optional<std::string_view>> versions);

class TagTable {
 public:
  static constexpr std::size_t kSlots = 65536;

  TagTable();  // As after reset().
  TagTable(const TagTable&) = delete;
  TagTable& operator=(const TagTable&) = delete;

  // Of the last join.
  [[nodiscard]] std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_acquire);
  }

  // Between reset() and join() nothing is known here: then ask Redis (is_dead_in_redis).
  [[nodiscard]] bool has_joined() const noexcept { return (generation() & kNotJoined) == 0; }

  // Also true if the table has not joined, or was reset since `generation`, whatever it says now.
  [[nodiscard]] bool is_dead(std::uint64_t generation, Version version,
                             std::span<const TagSlot> slots) const noexcept {
    // Acquire: who sees a version that a reset put there sees that a reset has begun.
    bool is_dead = version == kVersionUnknown ? !slots.empty()
                                              : base_.load(std::memory_order_acquire) > version;
    for (const TagSlot slot : slots) {
      is_dead |= versions_[slot].load(std::memory_order_acquire) > version;
    }
    return is_dead || generation_.load(std::memory_order_relaxed) != (generation & ~kNotJoined);
  }

  // The slot was invalidated, everything was cleared, at `version`. An older one than is known
  // changes nothing. An unknown one counts as newer than all, until the next reset.
  void invalidate(TagSlot slot, Version version) noexcept;
  void clear(Version version) noexcept;

  // Forgets everything. O(kSlots), some 50 us.
  void reset() noexcept;
  // What Redis says, asked for after the reset and after the channel was subscribed to. O(slots).
  void join(const TagBaseline& baseline) noexcept;

 private:
  static constexpr std::uint64_t kNotJoined = 1;

  static void raise(std::atomic<Version>& stored, Version version) noexcept;

  std::atomic<std::uint64_t> generation_{kNotJoined};  // Rises by one with each reset and join.
  std::atomic<Version> base_{kVersionUnknown};
  const std::unique_ptr<std::atomic<Version>[]> versions_;
};

}  // namespace tiercel::coherence
