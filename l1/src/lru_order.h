#pragma once

// LruOrder: which entry of a stripe was used least recently, when uses are noted without a lock.
//
// A reader that uses an entry writes the stripe's logical clock into the entry (its stamp) and
// moves the clock on by one: two plain stores, and none at all if the entry is among the most
// recently used sixteenth already. Nothing is queued that could overflow, and no list is touched.
// Under contention two readers may get the same time, that is all.
//
// The order is put right when something must go. Entries stand on up to 16 lists, each for a span
// of the clock, an eighth of the time since the oldest entry's last use. victim() looks at the
// oldest list: an entry whose stamp is of a later span was used since, and moves to the list of
// that span, so each use costs at most one move, and many uses of a hot entry cost one together.
// What is left at the old end of the oldest list is the answer. So the order is LRU to about an
// eighth of a turnover. A stripe of up to 64 entries is searched for the oldest stamp instead:
// there it is LRU exactly.
//
// This is lazy promotion by generations, as in Linux' multi-generational LRU (Yu Zhao, 2022), with
// the batching of BP-Wrapper (Ding, Jiang, Zhang, ICDE 2009) moved from the reader to the writer.
//
// Guarded by the stripe's lock, but for the clock and the window, which readers use.

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "entry.h"
#include "logical_clock.h"

namespace tiercel::l1 {

class LruOrder {
 public:
  static constexpr std::uint32_t kLists = 16;
  static constexpr std::uint32_t kUnitsPerSentinel = 4;
  static constexpr std::uint32_t kSentinelUnits = kLists * kUnitsPerSentinel;

  // kSentinelUnits from `sentinels` on are its own: a header without an entry closes each list to a
  // ring, so that lists can be joined in O(1) and an entry need not know which one it is on.
  LruOrder(Blocks blocks, Ref sentinels, LogicalClock& clock) noexcept;

  // For readers: a use that finds its entry's stamp at most `window` old need not be noted.
  static void use(Entry& entry, LogicalClock& clock, std::uint32_t window) noexcept {
    const std::uint32_t now = clock.now();
    if (Hint::age(entry.hint.load(std::memory_order_relaxed), now) <= window) return;
    clock.set(now + 1);
    entry.hint.store(Hint::make(now + 1, 0), std::memory_order_relaxed);
  }

  // As the most recently used.
  void insert(Ref ref) noexcept;
  void remove(Ref ref) noexcept;

  // The least recently used entry, which stays where it is. kNoRef if there are none, or if
  // kMovesMax entries had to be moved and none was found yet: then ask again. One that belongs to
  // an older generation than the given one goes first.
  [[nodiscard]] Ref victim(std::uint32_t generation) noexcept;
  // Any entry of an older generation, or kNoRef. On each list they come first: new entries are
  // added behind them, and victim() moves none.
  [[nodiscard]] Ref oldest_of_older_generation(std::uint32_t generation) const noexcept;
  // For prefetching: what victim() looks at next; maybe no entry at all.
  [[nodiscard]] Ref next_oldest() const noexcept { return blocks_[sentinel(oldest_)].newer; }

  [[nodiscard]] std::uint32_t window() const noexcept {
    return entries_ <= kExactEntriesMax ? 0 : entries_ / 16;
  }
  [[nodiscard]] std::uint32_t entries() const noexcept { return entries_; }

  // Calls f(ref) for each entry. O(entries).
  template <typename F>
  void for_each(F&& f) const {
    for (std::uint32_t i = 0; i < kLists; ++i) {
      for (Ref ref = blocks_[sentinel(i)].newer; ref != sentinel(i); ref = blocks_[ref].newer) {
        f(ref);
      }
    }
  }

 private:
  static constexpr std::uint32_t kMovesMax = 32;
  static constexpr std::uint32_t kExactEntriesMax = 64;
  static constexpr std::uint32_t kSpansPerTurnover = 8;

  [[nodiscard]] Ref sentinel(std::uint32_t list) const noexcept {
    return sentinels_ + list * kUnitsPerSentinel;
  }
  [[nodiscard]] bool is_empty(std::uint32_t list) const noexcept {
    return blocks_[sentinel(list)].newer == sentinel(list);
  }
  [[nodiscard]] std::uint32_t newest() const noexcept {
    return (oldest_ + lists_in_use_ - 1) % kLists;
  }
  [[nodiscard]] std::uint32_t hint_of(Ref ref) const noexcept {
    return blocks_[ref].hint.load(std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint32_t list_for(std::uint32_t hint) const noexcept;
  [[nodiscard]] Ref oldest_of_all(std::uint32_t generation) const noexcept;
  void push(std::uint32_t list, Ref ref) noexcept;
  void unlink(Ref ref) noexcept;
  void begin_lists() noexcept;
  void join_oldest() noexcept;

  const Blocks blocks_;
  const Ref sentinels_;
  LogicalClock& clock_;
  std::uint32_t entries_ = 0;
  std::uint32_t oldest_ = 0;              // Index of the oldest list; the others follow, round.
  std::uint32_t lists_in_use_ = 1;        // From oldest_ on.
  std::uint32_t begins_at_[kLists] = {};  // The first stamp of each list in use, as a Hint.
};

}  // namespace tiercel::l1
