// Stripe, where memory comes from: eviction, the limbo of what has left the table, and pieces that
// are larger than what is free. The invariants stand in stripe.cc.

#include <algorithm>

#include "stripe.h"

namespace tiercel::l1 {
namespace {

constexpr std::uint32_t kEvictedPerStepMax = 32;
constexpr std::uint32_t kDrainedPerStepMax = 32;
constexpr std::uint32_t kTakenBackPerStepMax = 32;
constexpr std::uint32_t kPinnedSkippedMax = 8;
constexpr std::uint32_t kZonesTriedMax = 8;
constexpr std::uint32_t kDrainWaitsMax = 4096;

}  // namespace

// ---------------------------------------------------------------- eviction

// Gets the memory on its way that the next eviction will need: it is the coldest of all.
void Stripe::expect_eviction() {
  const Ref ref = order_.next_oldest();
  if (ref == kNoRef) return;
  next_victim_tag_ = tag_of(ref);
  next_victim_ = ref;
  __builtin_prefetch(&table_.likely_line(next_victim_tag_));
}

bool Stripe::evict_one(Ref spared) {
  for (std::uint32_t skipped = 0; skipped <= kPinnedSkippedMax; ++skipped) {
    const Ref ref = order_.victim(generation());
    if (ref == kNoRef && order_.entries() > 0) ++progress_;  // Others were moved.
    if (ref == kNoRef || ref == spared) return false;
    Entry& entry = blocks_[ref];
    // Pinned memory would not come back; and what is pinned is in use.
    const bool pinned = entry.pins.load(std::memory_order_relaxed) != 0;
    if (pinned && entry.generation == generation() && skipped < kPinnedSkippedMax) {
      order_.requeue(ref);
      continue;
    }
    remove(ref, &Stats::evicted_capacity);
    if (const Ref next = order_.next_oldest(); next != kNoRef) {
      // Its header and, in the next line, its key.
      __builtin_prefetch(&blocks_[next]);
      __builtin_prefetch(&blocks_[next + 64 / kUnitBytes]);
    }
    return true;
  }
  return false;
}

void Stripe::evict_until(std::uint32_t units, std::uint32_t evictions_max, Ref spared) {
  for (std::uint32_t i = 0; i < evictions_max; ++i) {
    if (available_units() + limbo_units_ >= units || !evict_one(spared)) return;
  }
}

// ---------------------------------------------------------------- limbo

// Entries hold the lower half of the epoch at which they were retired. If the last one has passed
// all have; otherwise they are so close together that the halves can be compared by their distance.
bool Stripe::has_passed(Ref ref, hazard::Epoch completed) const {
  if (completed > limbo_epoch_) return true;
  const auto since = static_cast<std::uint32_t>(completed) - blocks_[ref].newer;
  return static_cast<std::int32_t>(since) > 0;
}

bool Stripe::limbo_has_passed() const {
  return limbo_first_ != kNoRef && has_passed(limbo_first_, hazard::completed());
}

void Stripe::push_limbo(Ref ref) {
  Entry& entry = blocks_[ref];
  limbo_epoch_ = hazard::epoch();
  entry.newer = static_cast<std::uint32_t>(limbo_epoch_);
  entry.older = kNoRef;
  (limbo_last_ == kNoRef ? limbo_first_ : blocks_[limbo_last_].older) = ref;
  limbo_last_ = ref;
}

// Frees what nobody can look at any more.
void Stripe::reclaim(std::uint32_t entries_max) {
  const hazard::Epoch completed = hazard::completed();  // Before the announcements are read.
  if (limbo_first_ == kNoRef || !has_passed(limbo_first_, completed)) return;
  const hazard::Announced announced{&blocks_[arena_.begin()], &blocks_[arena_.end()]};
  for (std::uint32_t i = 0; i < entries_max; ++i) {
    const Ref ref = limbo_first_;
    if (ref == kNoRef || !has_passed(ref, completed)) return;
    Entry& entry = blocks_[ref];
    limbo_first_ = entry.older;
    if (limbo_first_ == kNoRef) limbo_last_ = kNoRef;
    if (announced.contains(&entry)) {
      push_limbo(ref);  // To be looked at again after the next barrier.
      continue;
    }
    limbo_units_ -= entry.units();
    ++progress_;
    if (entry.pins.fetch_or(Entry::kOrphan, std::memory_order_acq_rel) == 0) {
      arena_.free(ref);
    } else {
      entry.set_state(Entry::State::kPinned);
      orphans_.push_newest(blocks_, ref);
    }
  }
}

void Stripe::take_back() {
  for (std::uint32_t i = 0; i < kTakenBackPerStepMax; ++i) {
    if (returned_ == kNoRef) returned_ = head_.take_all();
    if (returned_ == kNoRef) return;
    const Ref ref = returned_;
    returned_ = blocks_[ref].hint.load(std::memory_order_relaxed);
    orphans_.unlink(blocks_, ref);
    arena_.free(ref);
  }
}

// ---------------------------------------------------------------- one large piece of memory

// Walks on through the zone, evicts what is in it and withholds what is free. True once it has been
// walked to the end; some of it may still have to be reclaimed.
bool Stripe::drain(std::uint32_t blocks_max) {
  for (std::uint32_t i = 0; i < blocks_max; ++i) {
    const Ref ref = arena_.cursor();
    if (ref >= arena_.zone_until()) return true;
    if (arena_.is_free(ref)) {
      arena_.withhold(ref);
    } else if (blocks_[ref].state() == Entry::State::kListed) {
      remove(ref, &Stats::evicted_capacity);
    }
    arena_.set_cursor(ref + arena_.units_of(ref));
  }
  return false;
}

void Stripe::grow_table() {
  if (table_.is_growing()) {
    Ref homeless[HashTable::kHomelessMax];
    const std::size_t count = table_.grow_step(homeless);
    for (std::size_t i = 0; i < count; ++i) retire(homeless[i], &Stats::evicted_capacity);
    return;
  }
  const std::uint32_t groups = table_.groups_wanted();
  if (groups == 0 || drain_ == Drain::kForEntry) return;
  const std::uint32_t units = groups * kGroupUnits;
  if (available_units() >= units && arena_.take_from_end(units)) {
    if (drain_ == Drain::kSeekEnd || drain_ == Drain::kForTable) drain_ = Drain::kNone;
    table_.begin_growing(groups);
    return;
  }
  if (drain_ == Drain::kNone) {
    arena_.set_cursor(arena_.begin());
    drain_ = Drain::kSeekEnd;
  } else if (drain_ == Drain::kSeekEnd) {
    seek_end(units);
  } else if (drain(kDrainedPerStepMax) && ++drain_waits_ > kDrainWaitsMax) {
    arena_.abandon_zone();
    drain_ = Drain::kNone;
  }
}

// Looks for the block behind which the arena has so much, and makes that a zone. One block more
// than is wanted, because some of the arena must be left behind it.
void Stripe::seek_end(std::uint32_t units) {
  for (std::uint32_t i = 0; i < kDrainedPerStepMax; ++i) {
    const Ref ref = arena_.cursor();
    if (ref == kNoRef || ref >= arena_.end()) {
      drain_ = Drain::kNone;
      return;
    }
    const std::uint32_t here = arena_.units_of(ref);
    if (ref + here + units + kGapUnits * 2 > arena_.end()) {
      arena_.set_zone(ref, arena_.end());
      drain_ = Drain::kForTable;
      drain_waits_ = 0;
      return;
    }
    arena_.set_cursor(ref + here);
  }
}

// ---------------------------------------------------------------- for one entry

Arena::Allocated Stripe::allocate(Inserting& inserting) {
  const std::uint32_t units = inserting.entry.units;
  if (inserting.owns_zone) {
    if (!drain(kDrainedPerStepMax)) return {};
    reclaim(kReclaimedPerStepMax);
    Arena::Allocated allocated;
    if (available_units() >= units) allocated = arena_.allocate_zone(units);
    if (allocated.ref != kNoRef) {
      inserting.owns_zone = false;
      drain_ = Drain::kNone;
    } else if (!limbo_has_passed() && ++drain_waits_ > kZonesTriedMax) {
      // A Handle or a visit holds some of it. Elsewhere, perhaps.
      drop_own_zone(inserting);
    }
    return allocated;
  }
  Arena::Allocated allocated = allocate_available(units);
  if (allocated.ref != kNoRef) return allocated;
  reclaim(kReclaimedPerStepMax);
  allocated = allocate_available(units);
  if (allocated.ref != kNoRef) return allocated;

  evict_until(units + std::max(units, reserve_units_), kEvictedPerStepMax);
  if (limbo_first_ != kNoRef && units <= reserve_units_ / 4 && !inserting.waited) {
    inserting.waited = true;  // Likely to fit once the limbo has been reclaimed.
    return {};
  }
  // There is memory, but in pieces; or so much is wanted that only a zone gives it in one.
  if (drain_ == Drain::kForEntry || inserting.zones_tried == kZonesTriedMax) return {};
  if (drain_ == Drain::kForTable) arena_.abandon_zone();
  // Later ones go on where the one before ended: the arena keeps its cursor valid.
  Ref from = inserting.zones_tried == 0 ? order_.victim(generation()) : arena_.cursor();
  if (from == kNoRef || from + units > arena_.end()) from = arena_.begin();
  ++inserting.zones_tried;
  inserting.owns_zone = true;
  drain_ = Drain::kForEntry;
  drain_waits_ = 0;
  arena_.set_zone(from, from + units);
  arena_.set_cursor(from);
  return {};
}

void Stripe::drop_own_zone(Inserting& inserting) {
  if (!inserting.owns_zone) return;
  arena_.abandon_zone();
  drain_ = Drain::kNone;
  inserting.owns_zone = false;
}

}  // namespace tiercel::l1
