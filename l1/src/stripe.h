#pragma once

// Stripe: a lock for changes, an arena, a hash table, an order of recency and a timer wheel, over
// an equal share of the cache's region. What each call means is said in lru_cache.h; here stands
// how.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "access_ring.h"
#include "arena.h"
#include "entry.h"
#include "eviction_order.h"
#include "hash_table.h"
#include "hazard.h"
#include "lru_order.h"
#include "region.h"
#include "tiercel/base/mutex.h"
#include "tiercel/l1/lru_cache.h"
#include "timer_wheel.h"

namespace tiercel::l1 {

// Two stripes never share a cache line; nor do what readers only read, what readers write, and what
// the lock's holder writes.
class alignas(64) Stripe {
 public:
  // The cache's; read under the lock, so that within a stripe it never seems to go back.
  using Generation = std::atomic<std::uint64_t>;

  // `memory` holds zeros, is aligned to 64 and a multiple of 64.
  Stripe(std::byte* memory, std::size_t bytes, RegionHead& head, const Generation& generation,
         std::uint64_t hash_seed, Eviction policy, TimePoint now) noexcept;
  Stripe(const Stripe&) = delete;
  Stripe& operator=(const Stripe&) = delete;

  // --- Readers; any thread, no lock.

  // The key's entry, announced in `slot`, or null (then `slot` is empty). `place` and `word` are
  // what HashTable::find_in found, or place is null.
  [[nodiscard]] const Entry* find(const HashTable::Word* place, std::uint64_t word,
                                  std::uint32_t tag, std::string_view key,
                                  std::atomic<const void*>& slot) const noexcept;
  // Its parts: the entry of a word, or null if it left its place before the announcement stood;
  // and a search of all places.
  [[nodiscard]] const Entry* announced(std::uint64_t word, const HashTable::Word& place,
                                       std::atomic<const void*>& slot) const noexcept;
  [[nodiscard]] const Entry* find_thoroughly(std::uint32_t tag, std::string_view key,
                                             std::atomic<const void*>& slot) const noexcept;
  // Notes a use, of an announced entry.
  void use(const Entry& entry, std::uint32_t tag) noexcept {
    if (counts_uses_) [[unlikely]]
      return use_counted(const_cast<Entry&>(entry), tag);
    LruOrder::use(const_cast<Entry&>(entry), clock_, window_.load(std::memory_order_relaxed));
  }
  // Notes an access for the adaptive policy, if it is in the sample.
  void note_access(std::uint32_t tag) noexcept {
    if ((tag & sample_mask_.load(std::memory_order_relaxed)) == 0) accesses_.push(tag);
  }
  [[nodiscard]] const HashTable& table() const noexcept { return table_; }
  [[nodiscard]] RegionHead& head() const noexcept { return head_; }
  [[nodiscard]] const Entry& entry_of(std::uint64_t word) const noexcept {
    return blocks_[HashTable::ref_of(word)];
  }

  // --- Changes.

  struct NewEntry {
    std::uint32_t tag;
    std::string_view key;
    std::string_view value;
    std::uint64_t version;
    TimePoint expires_at;
    std::uint32_t flags;
    std::uint64_t generation;
    std::uint32_t units;
  };
  // False when the memory was not to be had; then the key has no entry.
  [[nodiscard]] bool insert(const NewEntry& entry) TIERCEL_EXCLUDES(mutex_);

  // Keeps an entry that is at `unless_version` or newer.
  bool erase(std::uint32_t tag, std::string_view key, std::optional<std::uint64_t> unless_version)
      TIERCEL_EXCLUDES(mutex_);

  enum class Refusal : std::uint8_t { kTooLarge, kOverloaded, kInvalid };
  // Counts the refusal and removes the key's entry.
  void refuse(std::uint32_t tag, std::string_view key, Refusal refusal) TIERCEL_EXCLUDES(mutex_);

  // Removes up to `entries_max` that have expired or were cleared; returns how many.
  [[nodiscard]] std::size_t sweep(std::size_t entries_max, TimePoint now) TIERCEL_EXCLUDES(mutex_);

  void add_to(Stats& sum) const TIERCEL_EXCLUDES(mutex_);

  // Makes orphans of all that is pinned, as the cache's last act; returns how many there are.
  // O(entries).
  [[nodiscard]] std::size_t close() TIERCEL_EXCLUDES(mutex_);

  // True if table, lists, wheel and arena agree. O(entries); for tests.
  [[nodiscard]] bool check() const TIERCEL_EXCLUDES(mutex_);

 private:
  enum class Step : std::uint8_t { kDone, kDoneWantsBarrier, kCopy, kNoRoomYet };
  // At each step under the lock.
  static constexpr std::uint32_t kReclaimedPerStepMax = 64;

  static constexpr std::uint32_t kGroupUnits = HashTable::kGroupBytes / kUnitBytes;
  // Between the arena's end and the table: the arena's mark, and what aligns the table.
  static constexpr std::uint32_t kGapUnits = 2;

  // Why a zone of the arena is being drained.
  enum class Drain : std::uint8_t { kNone, kSeekEnd, kForTable, kForEntry };

  // What one call of insert has in hand from step to step.
  struct Inserting {
    const NewEntry& entry;
    Growth growth{};      // Memory that the policy wants.
    Ref ref = kNoRef;     // Allocated, to be filled and put in.
    bool waited = false;  // For a barrier, before a zone was thought of.
    bool owns_zone = false;
    std::uint32_t zones_tried = 0;
    std::uint64_t progress = 0;       // The stripe's, when it was looked at last,
    std::uint32_t steps_in_vain = 0;  // and how many steps ago it changed.
  };
  Step insert_step(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Arena::Allocated allocate(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Arena::Allocated allocate_available(std::uint32_t units) TIERCEL_REQUIRES(mutex_) {
    return available_units() < units + 2 ? Arena::Allocated{} : arena_.allocate(units);
  }
  Step put(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  void drop_own_zone(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool upkeep(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  void upkeep_of_policy(Inserting& inserting) TIERCEL_REQUIRES(mutex_);
  void give_to_policy(Growth& growth) TIERCEL_EXCLUDES(mutex_);
  void use_counted(Entry& entry, std::uint32_t tag) noexcept;
  // Free, and not set against what the policy has allocated elsewhere.
  [[nodiscard]] std::uint32_t available_units() const TIERCEL_REQUIRES(mutex_) {
    return std::max(arena_.free_units(), policy_units_) - policy_units_;
  }

  [[nodiscard]] Ref lookup(std::uint32_t tag, std::string_view key) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] std::uint32_t tag_of(Ref ref) const TIERCEL_REQUIRES(mutex_);
  // Takes it out of everything; `cause` is the counter that rises, or evicted_cleared if the entry
  // was cleared already.
  void remove(Ref ref, std::uint64_t Stats::*cause) TIERCEL_REQUIRES(mutex_);
  void remove(Ref ref, std::uint32_t tag, std::uint64_t Stats::*cause) TIERCEL_REQUIRES(mutex_);
  // What remove does after the table has let go of it.
  void retire(Ref ref, std::uint64_t Stats::*cause) TIERCEL_REQUIRES(mutex_);
  void push_limbo(Ref ref) TIERCEL_REQUIRES(mutex_);
  void expect_eviction() TIERCEL_REQUIRES(mutex_);
  // Not `spared`.
  bool evict_one(Ref spared = kNoRef) TIERCEL_REQUIRES(mutex_);
  // Until so much is free or will be after a barrier, or `evictions_max` have been evicted.
  void evict_until(std::uint32_t units, std::uint32_t evictions_max, Ref spared = kNoRef)
      TIERCEL_REQUIRES(mutex_);
  void make_place_in_table(std::uint32_t tag) TIERCEL_REQUIRES(mutex_);
  void reclaim(std::uint32_t entries_max) TIERCEL_REQUIRES(mutex_);
  void take_back() TIERCEL_REQUIRES(mutex_);
  void grow_table() TIERCEL_REQUIRES(mutex_);
  void seek_end(std::uint32_t units) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool drain(std::uint32_t blocks_max) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool has_passed(Ref ref, hazard::Epoch completed) const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] bool limbo_has_passed() const TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] std::uint32_t generation() const noexcept {
    return static_cast<std::uint32_t>(generation_.load(std::memory_order_acquire));
  }

  // Read by readers and written rarely: one cache line, with what they read of the table.
  const Blocks blocks_;
  RegionHead& head_;
  const Generation& generation_;
  std::atomic<std::uint32_t> window_{0};
  std::atomic<std::uint32_t> sample_mask_{~std::uint32_t{0}};
  const bool counts_uses_;  // The policy is adaptive.
  HashTable table_;         // Changed under mutex_.

  // Written by readers.
  alignas(64) LogicalClock clock_;
  AccessRing accesses_;  // Its reading end under mutex_.

  alignas(64) mutable Mutex mutex_;
  Arena arena_ TIERCEL_GUARDED_BY(mutex_);
  EvictionOrder order_ TIERCEL_GUARDED_BY(mutex_);
  TimerWheel wheel_ TIERCEL_GUARDED_BY(mutex_);
  // Entries that left the table and may still be looked at, in the order in which they left:
  // linked by `older`; `newer` holds the hazard epoch.
  Ref limbo_first_ TIERCEL_GUARDED_BY(mutex_) = kNoRef;
  Ref limbo_last_ TIERCEL_GUARDED_BY(mutex_) = kNoRef;
  hazard::Epoch limbo_epoch_ TIERCEL_GUARDED_BY(mutex_) = 0;  // Of the last.
  std::uint32_t limbo_units_ TIERCEL_GUARDED_BY(mutex_) = 0;
  RefList orphans_ TIERCEL_GUARDED_BY(mutex_);
  Ref returned_ TIERCEL_GUARDED_BY(mutex_) = kNoRef;  // Taken back, not freed yet.
  std::uint32_t policy_units_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint32_t policy_units_wanted_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Drain drain_ TIERCEL_GUARDED_BY(mutex_) = Drain::kNone;
  std::uint32_t drain_waits_ TIERCEL_GUARDED_BY(mutex_) = 0;
  // Expected, in this call of insert; its tag is known already.
  Ref next_victim_ TIERCEL_GUARDED_BY(mutex_) = kNoRef;
  std::uint32_t next_victim_tag_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t progress_ TIERCEL_GUARDED_BY(mutex_) = 0;  // Entries evicted, freed or moved.
  Stats stats_ TIERCEL_GUARDED_BY(mutex_);  // Without hits, misses, entries and bytes_charged.

  // Constant after construction.
  const std::uint64_t hash_seed_;
  const std::size_t bytes_;
  const std::uint32_t reserve_units_;
};

[[gnu::always_inline]] inline const Entry* Stripe::announced(
    std::uint64_t word, const HashTable::Word& place,
    std::atomic<const void*>& slot) const noexcept {
  const Entry& entry = entry_of(word);
  hazard::announce(slot, &entry);
  return HashTable::same_entry(word, place.load(std::memory_order_acquire)) ? &entry : nullptr;
}

[[gnu::always_inline]] inline const Entry* Stripe::find(
    const HashTable::Word* place, std::uint64_t word, std::uint32_t tag, std::string_view key,
    std::atomic<const void*>& slot) const noexcept {
  if (place != nullptr) [[likely]] {
    const Entry* entry = announced(word, *place, slot);
    if (entry != nullptr && entry->has_key(key)) [[likely]]
      return entry;
  }
  return find_thoroughly(tag, key, slot);
}

}  // namespace tiercel::l1
