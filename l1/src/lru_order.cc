// Invariants:
//   - Each entry is on one list. Its stamp is of that list's span or of a later one (but for stamps
//     so old that the clock has gone round, which do no harm).
//   - Lists oldest_ to newest() cover the clock without gaps, in this order, round modulo kLists;
//     the others are empty.

#include "lru_order.h"

#include <new>

namespace tiercel::l1 {

LruOrder::LruOrder(Blocks blocks, Ref sentinels, LogicalClock& clock) noexcept
    : blocks_(blocks), sentinels_(sentinels), clock_(clock) {
  for (std::uint32_t i = 0; i < kLists; ++i) {
    ::new (&blocks_[sentinel(i)]) Entry{};
    blocks_[sentinel(i)].newer = blocks_[sentinel(i)].older = sentinel(i);
  }
}

void LruOrder::push(std::uint32_t list, Ref ref) noexcept {
  const Ref end = sentinel(list);
  const Ref before = blocks_[end].older;
  blocks_[ref].newer = end;
  blocks_[ref].older = before;
  blocks_[before].newer = ref;
  blocks_[end].older = ref;
}

void LruOrder::unlink(Ref ref) noexcept {
  const Entry& entry = blocks_[ref];
  blocks_[entry.newer].older = entry.older;
  blocks_[entry.older].newer = entry.newer;
}

// The oldest list becomes the old end of the next.
void LruOrder::join_oldest() noexcept {
  const std::uint32_t next = (oldest_ + 1) % kLists;
  begins_at_[next] = begins_at_[oldest_];
  Entry& from = blocks_[sentinel(oldest_)];
  if (!is_empty(oldest_)) {
    const Ref to = sentinel(next);
    const Ref first = from.newer;
    const Ref last = from.older;
    const Ref behind = blocks_[to].newer;
    blocks_[to].newer = first;
    blocks_[first].older = to;
    blocks_[last].newer = behind;
    blocks_[behind].older = last;
    from.newer = from.older = sentinel(oldest_);
  }
  oldest_ = next;
  --lists_in_use_;
}

// Divides the time since the newest list began, if it has become long. Entries that were used in
// what is now a later span stay where they are until victim() meets them.
void LruOrder::begin_lists() noexcept {
  const std::uint32_t now = clock_.latest();
  const std::uint32_t turnover = Hint::age(begins_at_[oldest_], now);
  const std::uint32_t span = std::max<std::uint32_t>(1, turnover / kSpansPerTurnover);
  for (;;) {
    const std::uint32_t begin = begins_at_[newest()];
    const std::uint32_t age = Hint::age(begin, now);
    if (age < span) return;
    if (lists_in_use_ == kLists) join_oldest();
    ++lists_in_use_;
    // From now on; or, after a time of uses without inserts, as if it had been begun in time.
    begins_at_[newest()] = age < 2 * span ? Hint::make(now, 0) : begin + Hint::make(span, 0);
  }
}

std::uint32_t LruOrder::list_for(std::uint32_t hint) const noexcept {
  const std::uint32_t now = clock_.latest();
  const std::uint32_t age = Hint::age(hint, now);
  for (std::uint32_t i = lists_in_use_ - 1; i > 0; --i) {
    const std::uint32_t index = (oldest_ + i) % kLists;
    if (age <= Hint::age(begins_at_[index], now)) return index;
  }
  return oldest_;
}

void LruOrder::insert(Ref ref) noexcept {
  blocks_[ref].hint.store(Hint::make(clock_.tick(), 0), std::memory_order_relaxed);
  begin_lists();
  push(newest(), ref);
  ++entries_;
}

void LruOrder::remove(Ref ref) noexcept {
  unlink(ref);
  --entries_;
}

Ref LruOrder::oldest_of_all(std::uint32_t generation) const noexcept {
  Ref oldest = kNoRef;
  std::uint32_t oldest_age = 0;
  const std::uint32_t now = clock_.latest();
  for_each([&](Ref ref) {
    // One of an older generation is older than any age.
    const bool dead = blocks_[ref].generation != generation;
    const std::uint32_t age = dead ? Hint::kStampMask + 1 : Hint::age(hint_of(ref), now);
    if (oldest != kNoRef && age <= oldest_age) return;
    oldest = ref;
    oldest_age = age;
  });
  return oldest;
}

Ref LruOrder::victim(std::uint32_t generation) noexcept {
  if (entries_ <= kExactEntriesMax) return oldest_of_all(generation);
  for (std::uint32_t moves = 0; moves <= kMovesMax; ++moves) {
    for (; is_empty(oldest_); --lists_in_use_) oldest_ = (oldest_ + 1) % kLists;
    const Ref ref = blocks_[sentinel(oldest_)].newer;
    if (blocks_[ref].generation != generation) return ref;
    const std::uint32_t belongs = list_for(hint_of(ref));
    if (belongs == oldest_) return ref;
    unlink(ref);
    push(belongs, ref);
    __builtin_prefetch(&blocks_[blocks_[sentinel(oldest_)].newer]);
  }
  return kNoRef;
}

Ref LruOrder::oldest_of_older_generation(std::uint32_t generation) const noexcept {
  for (std::uint32_t i = 0; i < kLists; ++i) {
    const Ref ref = blocks_[sentinel(i)].newer;
    if (ref != sentinel(i) && blocks_[ref].generation != generation) return ref;
  }
  return kNoRef;
}

}  // namespace tiercel::l1
