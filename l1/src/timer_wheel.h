#pragma once

// TimerWheel: the entries of a stripe that have a deadline, by deadline, so that what has expired
// is found in O(1) an entry. A hierarchical wheel (Varghese, Lauck, "Hashed and Hierarchical Timing
// Wheels", SOSP 1987) without cascades (Thomas Gleixner, "timers: Switch to a non-cascading wheel",
// Linux 4.8, 2016): an entry is filed once, on the finest level that reaches far enough, and found
// up to one slot of that level late: at most an eighth of the time that it had to live, or 8 ms.
// Late is harmless, since each read looks at the deadline itself.
//
// Guarded by the stripe's lock.

#include <cstdint>

#include "entry.h"
#include "tiercel/base/clock.h"

namespace tiercel::l1 {

class TimerWheel {
 public:
  TimerWheel(Blocks blocks, TimePoint now) noexcept;

  // Only entries that are timed.
  void insert(Ref ref) noexcept;
  void remove(Ref ref) noexcept;

  // An entry that has expired, or kNoRef if none is known of. O(1), amortised over entries and
  // time: it stops after kStepsMax entries whose deadline is farther away than the wheel reaches,
  // and then *more is true.
  [[nodiscard]] Ref expired(TimePoint now, bool& more) noexcept;

  [[nodiscard]] std::uint32_t entries() const noexcept { return entries_; }

 private:
  static constexpr std::uint32_t kLevels = 8;
  static constexpr std::uint32_t kSlots = 64;
  static constexpr std::uint32_t kTickShift = 23;  // Nanoseconds to ticks of 8.4 ms.
  static constexpr std::uint32_t kLevelShift = 3;  // Each level's slots are 8 times longer.
  static constexpr std::uint32_t kStepsMax = 32;

  [[nodiscard]] static std::int64_t slot_time(std::int64_t ns, std::uint32_t level) noexcept {
    return ns >> (kTickShift + kLevelShift * level);
  }
  void file(Ref ref) noexcept;
  void unfile(Ref ref) noexcept;

  const Blocks blocks_;
  std::uint32_t entries_ = 0;
  // Of each level: the slot times up to here have been emptied; which slots hold entries.
  std::int64_t done_[kLevels] = {};
  std::uint64_t occupied_[kLevels] = {};
  Ref slots_[kLevels][kSlots] = {};
};

}  // namespace tiercel::l1
