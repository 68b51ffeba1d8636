#pragma once

// Stripe: one lock, one hash table, one LRU list, one share of the capacity. LevelDB's LRUCache
// (util/cache.cc) is the model. What each call means is said in lru_cache.h; here stands how.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

#include "entry.h"
#include "hash_table.h"
#include "tiercel/base/mutex.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {

// Two stripes never share a cache line: their locks are taken by different threads.
class alignas(64) Stripe {
 public:
  Stripe() = default;
  Stripe(const Stripe&) = delete;
  Stripe& operator=(const Stripe&) = delete;
  ~Stripe();

  // Once, before anything else; false when there is no memory.
  [[nodiscard]] bool init(std::size_t capacity_bytes) noexcept;

  // Constant after init.
  [[nodiscard]] std::size_t entry_bytes_max() const noexcept { return entry_bytes_max_; }

  // The cache's; read under the lock, so that within a stripe it never seems to go back.
  using Generation = std::atomic<std::uint64_t>;

  // Takes over the caller's reference. The charge must be at most entry_bytes_max(). False when
  // other threads kept taking the room; then the key has no entry.
  [[nodiscard]] bool insert(Entry* entry, const Generation& generation) TIERCEL_EXCLUDES(mutex_);

  // With a reference for the caller, or null.
  [[nodiscard]] Entry* find(std::uint64_t hash, std::string_view key, TimePoint now,
                            const Generation& generation) TIERCEL_EXCLUDES(mutex_);

  // Keeps an entry that is at `unless_version` or newer.
  bool erase(std::uint64_t hash, std::string_view key, std::optional<std::uint64_t> unless_version,
             const Generation& generation) TIERCEL_EXCLUDES(mutex_);

  enum class Refusal : std::uint8_t { kTooLarge, kOverloaded, kInvalid };
  // Counts the refusal and removes the key's entry.
  void refuse(std::uint64_t hash, std::string_view key, Refusal refusal,
              const Generation& generation) TIERCEL_EXCLUDES(mutex_);

  struct Swept {
    std::size_t walked = 0;
    std::size_t removed = 0;
    bool pass_done = false;  // All entries that stood here when the pass began have been seen.
  };
  [[nodiscard]] Swept sweep(std::size_t entries_max, TimePoint now, const Generation& generation)
      TIERCEL_EXCLUDES(mutex_);

  void add_to(Stats& sum) const TIERCEL_EXCLUDES(mutex_);

 private:
  enum class Step : std::uint8_t { kDone, kDoneWantsSegment, kNoRoomYet };

  Step insert_step(Entry* entry, std::uint64_t current, DeadList& dead) TIERCEL_REQUIRES(mutex_);
  void grow_table(const Generation& generation) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] bool make_room(std::size_t bytes, std::uint64_t current, DeadList& dead)
      TIERCEL_REQUIRES(mutex_);
  // `cause` is the counter that rises, or evicted_cleared if the entry was cleared already.
  void remove(Entry* entry, std::uint64_t Stats::*cause, std::uint64_t current, DeadList& dead)
      TIERCEL_REQUIRES(mutex_);
  void link_newest(Entry* entry) TIERCEL_REQUIRES(mutex_);
  void unlink(Entry* entry) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Entry* oldest() TIERCEL_REQUIRES(mutex_) { return static_cast<Entry*>(lru_.newer); }

  // Constant after init.
  std::size_t capacity_bytes_ = 0;
  std::size_t entry_bytes_max_ = 0;
  std::size_t insert_steps_max_ = 0;

  mutable Mutex mutex_;
  std::size_t charged_ TIERCEL_GUARDED_BY(mutex_) = 0;  // Entries, table and this object.
  HashTable table_ TIERCEL_GUARDED_BY(mutex_);
  LruLinks lru_ TIERCEL_GUARDED_BY(mutex_);  // The sentinel.
  // The sweep's place: the entry to look at next, and how many of this pass are left at most.
  LruLinks* sweep_next_ TIERCEL_GUARDED_BY(mutex_) = &lru_;
  std::size_t sweep_left_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Stats stats_ TIERCEL_GUARDED_BY(mutex_);  // Without entries and bytes_charged.
};

}  // namespace tiercel::l1
