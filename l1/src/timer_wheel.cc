// Invariants:
//   - An entry stands in slot `t % kSlots` of a level, where t is the slot time of its deadline
//   there,
//     plus one (so that the slot is due only when the whole of its time is over), or the last slot
//     that the top level reaches. Always done_ < t <= done_ + kSlots - 1, when it is filed.
//   - `earlier` of a slot's first entry is kNoRef, and `later` leads through the slot.
//   - Which slot an entry is in is found again by its deadline only if nothing moved meanwhile; so
//     the slot's number is kept in `earlier` of the first: see slot_mark.

#include "timer_wheel.h"

#include <algorithm>
#include <bit>

namespace tiercel::l1 {
namespace {

// The first entry of a slot names the slot in its `earlier`, above all Refs (which have 31 bits).
constexpr Ref slot_mark(std::uint32_t level, std::uint32_t slot) noexcept {
  return std::uint32_t{1} << 31 | level << 8 | slot;
}
constexpr bool is_slot_mark(Ref ref) noexcept { return ref >> 31 != 0; }

}  // namespace

TimerWheel::TimerWheel(Blocks blocks, TimePoint now) noexcept : blocks_(blocks) {
  for (std::uint32_t level = 0; level < kLevels; ++level) {
    done_[level] = slot_time(now.time_since_epoch().count(), level);
  }
}

void TimerWheel::file(Ref ref) noexcept {
  Timed& timed = blocks_[ref].timed();
  std::uint32_t level = 0;
  std::int64_t time = 0;
  for (;; ++level) {
    time = std::max(slot_time(timed.expires_at_ns, level) + 1, done_[level] + 1);
    if (time - done_[level] < kSlots) break;
    if (level + 1 < kLevels) continue;
    time = done_[level] + kSlots - 1;
    break;
  }
  const auto slot = static_cast<std::uint32_t>(time % kSlots);
  const Ref first = slots_[level][slot];
  timed.earlier = slot_mark(level, slot);
  timed.later = first;
  if (first != kNoRef) blocks_[first].timed().earlier = ref;
  slots_[level][slot] = ref;
  occupied_[level] |= std::uint64_t{1} << slot;
}

void TimerWheel::unfile(Ref ref) noexcept {
  const Timed timed = blocks_[ref].timed();
  if (timed.later != kNoRef) blocks_[timed.later].timed().earlier = timed.earlier;
  if (!is_slot_mark(timed.earlier)) {
    blocks_[timed.earlier].timed().later = timed.later;
    return;
  }
  const std::uint32_t level = timed.earlier >> 8 & 0xFF;
  const std::uint32_t slot = timed.earlier & 0xFF;
  slots_[level][slot] = timed.later;
  if (timed.later == kNoRef) occupied_[level] &= ~(std::uint64_t{1} << slot);
}

void TimerWheel::insert(Ref ref) noexcept {
  file(ref);
  ++entries_;
}

void TimerWheel::remove(Ref ref) noexcept {
  unfile(ref);
  --entries_;
}

Ref TimerWheel::expired(TimePoint now, bool& more) noexcept {
  const std::int64_t now_ns = now.time_since_epoch().count();
  more = false;
  std::uint32_t steps = 0;
  for (std::uint32_t level = 0; level < kLevels; ++level) {
    const std::int64_t due = slot_time(now_ns, level);
    while (done_[level] < due) {
      // Slots behind done_, as bits from 0 on; those that are due, with an entry in.
      const auto next = static_cast<int>((done_[level] + 1) % kSlots);
      const std::uint64_t behind = std::rotr(occupied_[level], next);
      const std::int64_t slots_due = std::min<std::int64_t>(due - done_[level], kSlots);
      const std::uint64_t mask =
          slots_due == kSlots ? ~std::uint64_t{0} : (std::uint64_t{1} << slots_due) - 1;
      if ((behind & mask) == 0) {
        done_[level] = due;
        break;
      }
      // Empty slots before it are done; the slot itself only when nothing is left in it.
      done_[level] += std::countr_zero(behind);
      const auto slot = static_cast<std::uint32_t>((done_[level] + 1) % kSlots);
      const Ref ref = slots_[level][slot];
      if (blocks_[ref].timed().expires_at_ns <= now_ns) return ref;
      // It was farther away than the wheel reaches.
      if (++steps > kStepsMax) {
        more = true;
        return kNoRef;
      }
      unfile(ref);
      file(ref);
    }
  }
  return kNoRef;
}

}  // namespace tiercel::l1
