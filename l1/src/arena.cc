// Invariants, between calls (those between allocate and the Entry's making set aside):
//   - The blocks fill [begin_, end_) without gaps; no two free ones are neighbours.
//   - A block's kPreviousFree bit says whether the one before it is free; then that one's size
//     stands in the 4 bytes before this block. The mark at end_ is a block in use of no size.
//   - A free block with the kListed bit is in the list of its class. One without it reaches into
//     the zone.
//   - free_units_ is the sum over all free blocks.
//   - cursor_ and zone_block_ are kNoRef, end_, or where a block begins.

#include "arena.h"

#include <bit>
#include <new>

#include "asan.h"

namespace tiercel::l1 {
namespace {

// What a free block keeps readable: its head and its footer.
constexpr std::size_t kFreeHeadBytes = 16;

void poison(Entry& block, std::uint32_t units) {
  const std::size_t size = std::size_t{units} * kUnitBytes;
  asan_poison(reinterpret_cast<char*>(&block) + kFreeHeadBytes, size - kFreeHeadBytes - 4);
}
void unpoison(Entry& block, std::uint32_t units) {
  asan_unpoison(&block, std::size_t{units} * kUnitBytes);
}

}  // namespace

void Arena::init(Blocks blocks, Ref begin, Ref end) noexcept {
  blocks_ = blocks;
  begin_ = begin;
  end_ = end;
  blocks_[end].block = Entry::kInUse;
  blocks_[begin].block = 0;
  free_units_ = end - begin;
  make_free(begin, end - begin);
}

unsigned Arena::class_of(std::uint32_t units) noexcept {
  if (units < kSubdivisions) return units;
  const auto top = static_cast<unsigned>(std::bit_width(units)) - 1;
  const unsigned level = top - kSubdivisionsLog2 + 1;
  return level * kSubdivisions + (units >> (top - kSubdivisionsLog2) & (kSubdivisions - 1));
}

// The first class at `index` or above that has a block; 0 (which no block has) if there is none.
unsigned Arena::first_class_from(unsigned index) const noexcept {
  unsigned level = index / kSubdivisions;
  if (level >= kLevels) return 0;
  const unsigned here = subdivisions_[level] & (~0U << index % kSubdivisions);
  if (here != 0) return level * kSubdivisions + static_cast<unsigned>(std::countr_zero(here));
  const std::uint32_t above = level + 1 < 32 ? levels_ & (~std::uint32_t{0} << (level + 1)) : 0;
  if (above == 0) return 0;
  level = static_cast<unsigned>(std::countr_zero(above));
  return level * kSubdivisions +
         static_cast<unsigned>(std::countr_zero(unsigned{subdivisions_[level]}));
}

void Arena::list(Ref ref) noexcept {
  const unsigned index = class_of(blocks_[ref].value_bytes);
  blocks_[ref].block |= kListed;
  set_next(ref, lists_[index]);
  set_previous(ref, kNoRef);
  if (lists_[index] != kNoRef) set_previous(lists_[index], ref);
  lists_[index] = ref;
  levels_ |= std::uint32_t{1} << index / kSubdivisions;
  subdivisions_[index / kSubdivisions] |= static_cast<std::uint8_t>(1U << index % kSubdivisions);
}

void Arena::unlist(Ref ref) noexcept {
  if ((blocks_[ref].block & kListed) == 0) return;
  blocks_[ref].block &= static_cast<std::uint8_t>(~kListed);
  const unsigned index = class_of(blocks_[ref].value_bytes);
  const Ref after = next(ref);
  const Ref before = previous(ref);
  if (after != kNoRef) set_previous(after, before);
  if (before != kNoRef) {
    set_next(before, after);
    return;
  }
  lists_[index] = after;
  if (after != kNoRef) return;
  auto& level = subdivisions_[index / kSubdivisions];
  level &= static_cast<std::uint8_t>(~(1U << index % kSubdivisions));
  if (level == 0) levels_ &= ~(std::uint32_t{1} << index / kSubdivisions);
}

// Writes a free block's tags; its neighbours are in use. Keeps the kPreviousFree bit.
void Arena::make_free(Ref ref, std::uint32_t units) noexcept {
  Entry& block = blocks_[ref];
  block.value_bytes = units;
  block.block &= Entry::kPreviousFree;
  footer(ref + units) = units;
  blocks_[ref + units].block |= Entry::kPreviousFree;
  poison(block, units);
  if (!in_zone(ref, units)) list(ref);
}

// The block at `from` has become part of the one at `to`.
void Arena::moved(Ref from, Ref to) noexcept {
  if (cursor_ == from) cursor_ = to;
  if (zone_block_ == from) zone_block_ = to;
}

// Of a free block that is in no list: its first `want` units for use, the rest stays free.
Arena::Allocated Arena::carve(Ref ref, std::uint32_t have, std::uint32_t want) noexcept {
  const std::uint32_t slack = have - want < kUnitsMin ? have - want : 0;
  const std::uint32_t taken = want + slack;
  unpoison(blocks_[ref], have);
  blocks_[ref].block |= Entry::kInUse;
  free_units_ -= taken;
  if (taken == have) {
    blocks_[ref + have].block &= static_cast<std::uint8_t>(~Entry::kPreviousFree);
  } else {
    blocks_[ref + taken].block = 0;
    make_free(ref + taken, have - taken);
  }
  return {ref, slack};
}

Arena::Allocated Arena::allocate(std::uint32_t units) noexcept {
  // Blocks of just this class first: a cache of equal entries finds its own size again.
  const unsigned index = class_of(units);
  Ref ref = lists_[index];
  for (unsigned i = 0; i < kTriesInClass && ref != kNoRef; ++i) {
    if (blocks_[ref].value_bytes >= units) break;
    ref = next(ref);
    if (i + 1 == kTriesInClass) ref = kNoRef;
  }
  if (ref == kNoRef) {
    const unsigned larger = first_class_from(index + 1);
    if (larger == 0) return {};
    ref = lists_[larger];
  }
  unlist(ref);
  return carve(ref, blocks_[ref].value_bytes, units);
}

void Arena::free(Ref ref) noexcept {
  std::uint32_t units = blocks_[ref].units();
  free_units_ += units;
  Ref from = ref;
  if (const Ref behind = ref + units; is_free(behind)) {
    unlist(behind);
    units += blocks_[behind].value_bytes;
    moved(behind, from);
  }
  if ((blocks_[ref].block & Entry::kPreviousFree) != 0) {
    const std::uint32_t before = footer(ref);
    from = ref - before;
    unlist(from);
    units += before;
    moved(ref, from);
  }
  make_free(from, units);
}

bool Arena::take_from_end(std::uint32_t units) noexcept {
  if ((blocks_[end_].block & Entry::kPreviousFree) == 0) return false;
  const std::uint32_t have = footer(end_);
  if (have < units || have - units < kUnitsMin) return false;
  const Ref ref = end_ - have;
  if (zone_until_ == end_) abandon_zone();
  if (cursor_ == end_) cursor_ = kNoRef;
  unlist(ref);
  unpoison(blocks_[ref], have);
  end_ -= units;
  free_units_ -= units;
  blocks_[end_].block = Entry::kInUse;
  make_free(ref, have - units);
  return true;
}

void Arena::set_zone(Ref from, Ref until) noexcept {
  zone_from_ = from;
  zone_block_ = from;
  zone_until_ = until;
}

void Arena::withhold(Ref ref) noexcept { unlist(ref); }

Arena::Allocated Arena::allocate_zone(std::uint32_t units) noexcept {
  if (!has_zone() || !is_free(zone_block_)) return {};
  const std::uint32_t have = blocks_[zone_block_].value_bytes;
  if (zone_block_ + have < zone_until_) return {};
  const Ref ref = zone_block_;
  unlist(ref);
  zone_from_ = zone_until_ = zone_block_ = kNoRef;
  return carve(ref, have, units);
}

void Arena::abandon_zone() noexcept {
  Ref ref = zone_block_;
  const Ref until = zone_until_;
  zone_from_ = zone_until_ = zone_block_ = kNoRef;
  for (; ref < until; ref += units_of(ref)) {
    if (is_free(ref) && (blocks_[ref].block & kListed) == 0) list(ref);
  }
}

bool Arena::check() const noexcept {
  std::uint64_t free_sum = 0;
  std::size_t listed = 0;
  bool previous_free = false;
  for (Ref ref = begin_; ref != end_; ref += units_of(ref)) {
    if (ref > end_ || units_of(ref) == 0) return false;
    if (((blocks_[ref].block & Entry::kPreviousFree) != 0) != previous_free) return false;
    const bool free_now = is_free(ref);
    if (free_now && previous_free) return false;
    previous_free = free_now;
    if (!free_now) continue;
    const std::uint32_t units = blocks_[ref].value_bytes;
    if (footer(ref + units) != units) return false;
    free_sum += units;
    const bool is_listed = (blocks_[ref].block & kListed) != 0;
    if (!is_listed && !in_zone(ref, units)) return false;
    listed += is_listed ? 1 : 0;
  }
  if (((blocks_[end_].block & Entry::kPreviousFree) != 0) != previous_free) return false;
  for (unsigned index = 0; index < kLevels * kSubdivisions; ++index) {
    const bool empty = lists_[index] == kNoRef;
    const bool marked = (subdivisions_[index / kSubdivisions] >> index % kSubdivisions & 1U) != 0 &&
                        (levels_ >> index / kSubdivisions & 1U) != 0;
    if (marked == empty) return false;
    Ref before = kNoRef;
    for (Ref ref = lists_[index]; ref != kNoRef; ref = next(ref), --listed) {
      const bool right =
          is_free(ref) && class_of(blocks_[ref].value_bytes) == index && previous(ref) == before;
      if (!right || listed == 0) return false;
      before = ref;
    }
  }
  return listed == 0 && free_sum == free_units_;
}

}  // namespace tiercel::l1
