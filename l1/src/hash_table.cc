// Invariants:
//   - An entry's word stands once in the table: in the line of its home bucket, or in one of that
//     bucket's overflow lines, and then the bucket's reach includes that line. (During a move, for
//     a moment, in its old and in its new home.)
//   - home_of(tag) is the bucket by the new number if by the old one it was moved already (it is
//     front_ or above), else the bucket by the old number.
//   - Words change by single release stores under the lock. Reach becomes less only when no word in
//     the lines that it leaves out has this home.

#include "hash_table.h"

#include <algorithm>
#include <bit>
#include <span>

namespace tiercel::l1 {

using std::memory_order_relaxed;
using std::memory_order_release;

void HashTable::init(std::byte* end, std::uint32_t groups) noexcept {
  end_ = end;
  groups_ = groups;
  buckets_old_.store(buckets(), memory_order_relaxed);
  buckets_new_.store(buckets(), memory_order_relaxed);
}

std::uint32_t HashTable::home_of(std::uint32_t tag) const noexcept {
  const std::uint32_t old_home = bucket_of(tag, buckets_old_.load(memory_order_relaxed));
  if (old_home < front_.load(memory_order_relaxed)) return old_home;
  return bucket_of(tag, buckets_new_.load(memory_order_relaxed));
}

bool HashTable::place(std::uint32_t bucket, std::uint64_t word) noexcept {
  Line& own = line(line_of(bucket));
  for (Word& slot : own.words) {
    const std::uint64_t old = slot.load(memory_order_relaxed);
    if (ref_of(old) != kNoRef) continue;
    slot.store(word | (old & kReachMask), memory_order_release);
    return true;
  }
  for (std::uint32_t number = 0; number < kOverflowLines; ++number) {
    for (Word& slot : line(overflow_line_of(bucket, number)).words) {
      if (ref_of(slot.load(memory_order_relaxed)) != kNoRef) continue;
      // The word first: a reader that sees the reach must find it, one that does not came before.
      slot.store(word, memory_order_release);
      const std::uint64_t first = own.words[0].load(memory_order_relaxed);
      own.words[0].store(with_reach(first, std::max(reach_of(first), number + 1)),
                         memory_order_release);
      return true;
    }
  }
  return false;
}

bool HashTable::insert(std::uint32_t tag, Ref ref) noexcept {
  if (!place(home_of(tag), make(tag, ref))) {
    crowded_ = true;
    return false;
  }
  ++entries_;
  return true;
}

std::size_t HashTable::bucket_refs(std::uint32_t tag, Ref* refs) const noexcept {
  std::size_t count = 0;
  for (const Word& slot : line(line_of(home_of(tag))).words) {
    const Ref ref = ref_of(slot.load(memory_order_relaxed));
    if (ref != kNoRef) refs[count++] = ref;
  }
  return count;
}

HashTable::Word* HashTable::find_in(Line& line, std::uint32_t tag, Ref ref) noexcept {
  for (std::uint32_t matches = match(line, tag); matches != 0; matches &= matches - 1) {
    Word& slot = line.words[std::countr_zero(matches)];
    if (ref_of(slot.load(memory_order_relaxed)) == ref) return &slot;
  }
  return nullptr;
}

HashTable::Word* HashTable::find(std::uint32_t bucket, std::uint32_t tag, Ref ref) const noexcept {
  Word* slot = find_in(line(line_of(bucket)), tag, ref);
  for (std::uint32_t number = 0; slot == nullptr && number < kOverflowLines; ++number) {
    slot = find_in(line(overflow_line_of(bucket, number)), tag, ref);
  }
  return slot;
}

void HashTable::replace(std::uint32_t tag, Ref ref, Ref by) noexcept {
  Word* slot = find(home_of(tag), tag, ref);
  slot->store(make(tag, by) | (slot->load(memory_order_relaxed) & kReachMask),
              memory_order_release);
}

void HashTable::remove(std::uint32_t tag, Ref ref) noexcept {
  const std::uint32_t bucket = home_of(tag);
  Word* slot = find(bucket, tag, ref);
  slot->store(slot->load(memory_order_relaxed) & kReachMask, memory_order_release);
  --entries_;
  const Line& own = line(line_of(bucket));
  const bool was_in_own = slot >= own.words && slot < own.words + kLineWords;
  if (reach_of(own.words[0].load(memory_order_relaxed)) == 0) return;
  if (was_in_own) pull_back(bucket);
  refresh_reach(bucket);
}

// Moves entries of the bucket from its overflow lines into its own line, as far as there is room.
void HashTable::pull_back(std::uint32_t bucket) noexcept {
  Line& own = line(line_of(bucket));
  for (Word& to : own.words) {
    const std::uint64_t old = to.load(memory_order_relaxed);
    if (ref_of(old) != kNoRef) continue;
    std::uint32_t number = 0;
    Word* from = overflowed(bucket, number);
    if (from == nullptr) return;
    // In this order: a reader that looked here before and there after sees that the epoch changed.
    to.store(from->load(memory_order_relaxed) | (old & kReachMask), memory_order_release);
    next_epoch();
    from->store(0, memory_order_release);
  }
}

// The bucket's entry in the last of its overflow lines that has any, or null.
HashTable::Word* HashTable::overflowed(std::uint32_t bucket, std::uint32_t& number) const noexcept {
  const std::uint64_t first = line(line_of(bucket)).words[0].load(memory_order_relaxed);
  for (number = lines_of_reach(reach_of(first)); number-- > 0;) {
    for (Word& slot : line(overflow_line_of(bucket, number)).words) {
      const std::uint64_t word = slot.load(memory_order_relaxed);
      if (ref_of(word) != kNoRef && home_of(tag_of(word)) == bucket) return &slot;
    }
  }
  return nullptr;
}

void HashTable::refresh_reach(std::uint32_t bucket) noexcept {
  std::uint32_t number = 0;
  const std::uint32_t lines = overflowed(bucket, number) == nullptr ? 0 : number + 1;
  Word& first = line(line_of(bucket)).words[0];
  first.store(with_reach(first.load(memory_order_relaxed), lines), memory_order_release);
}

std::uint32_t HashTable::groups_wanted() const noexcept {
  const std::uint64_t entries_max =
      std::uint64_t{buckets()} * (crowded_ ? kEntriesPerBucketCrowded : kEntriesPerBucketMax);
  if (is_growing() || entries_ <= entries_max) return 0;
  return std::max<std::uint32_t>(4, groups_ / 8 & ~3U);
}

void HashTable::begin_growing(std::uint32_t groups) noexcept {
  const std::uint32_t first = groups_ * 8;
  crowded_ = false;
  groups_ += groups;
  for (std::uint32_t index = first; index < groups_ * 8; ++index) {
    for (Word& slot : line(index).words) slot.store(0, memory_order_relaxed);
  }
  front_.store(buckets_old_.load(memory_order_relaxed), memory_order_relaxed);
  // The number first: a reader that has seen the new epoch must know of both numbers.
  buckets_new_.store(buckets(), memory_order_release);
  next_epoch();
}

// Moves what has the old home `bucket` to its new homes, which are `bucket` itself or above.
std::size_t HashTable::move_bucket(std::uint32_t bucket, Ref* homeless) noexcept {
  const std::uint32_t buckets_old = buckets_old_.load(memory_order_relaxed);
  const std::uint32_t buckets_new = buckets_new_.load(memory_order_relaxed);
  std::size_t lost = 0;
  // From now on home_of gives the new homes of its entries.
  front_.store(bucket, memory_order_relaxed);
  // All of them first, then the moves: an entry's new home may overflow into the same lines, and it
  // must not be moved again there.
  Word* moving[kBucketWordsMax];
  std::size_t count = 0;
  for_each_line(bucket, [&](Line& at) {
    for (Word& slot : at.words) {
      const std::uint64_t word = slot.load(memory_order_relaxed);
      const bool is_here = ref_of(word) != kNoRef && bucket_of(tag_of(word), buckets_old) == bucket;
      if (is_here && bucket_of(tag_of(word), buckets_new) != bucket) moving[count++] = &slot;
    }
  });
  for (Word* slot : std::span{moving, count}) {
    const std::uint64_t word = slot->load(memory_order_relaxed);
    const std::uint32_t tag = tag_of(word);
    if (!place(bucket_of(tag, buckets_new), make(tag, ref_of(word)))) {
      homeless[lost++] = ref_of(word);
      --entries_;
    }
    slot->store(word & kReachMask, memory_order_release);
  }
  pull_back(bucket);
  refresh_reach(bucket);
  return lost;
}

std::size_t HashTable::grow_step(Ref* homeless) noexcept {
  std::size_t lost = 0;
  std::uint32_t front = front_.load(memory_order_relaxed);
  for (std::uint32_t i = 0; i < kBucketsPerStep && front > 0; ++i) {
    if (lost + kBucketWordsMax > kHomelessMax) break;
    lost += move_bucket(--front, homeless + lost);
  }
  if (front == 0) {
    front_.store(kNoFront, memory_order_relaxed);
    buckets_old_.store(buckets_new_.load(memory_order_relaxed), memory_order_release);
    next_epoch();
  }
  return lost;
}

}  // namespace tiercel::l1
