// Invariants, whenever mutex_ is free:
//   - An entry is in table_ if and only if it is kListed, and then on one list of order_ and, if it
//     is timed, in wheel_. Otherwise it is kBuilding (one insert's, which copies into it), kRetired
//     (in the limbo list) or kPinned (in orphans_, or given back and waiting to be freed).
//   - Memory is given back to arena_ only when the entry has left the table, a hazard barrier that
//     began after that is complete, no record announces it, and no Handle pins it. The last two
//     cannot become true again then: who announces an entry asks the table afterwards, and only who
//     has announced one pins it. (pins is looked at after the announcements, and kOrphan set in the
//     same step, so either the reclaimer or the last Handle sees that the other was first.)
//
// Room is made ahead: evicted entries wait for a barrier, so a reserve of 1/64 of the stripe (1/16
// of a small one) is kept free or in limbo, and an insert seldom has to wait for one. Under the
// lock nothing is allocated elsewhere, no system call is made, nothing is called back, and at most
// the k…StepMax entries are walked. mutex_ is a leaf in the lock order.

#include "stripe.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <thread>

#include "key_hash.h"

namespace tiercel::l1 {
namespace {

constexpr std::uint32_t kEvictedPerUpkeepMax = 4;
constexpr std::uint32_t kReclaimedPerUpkeepMax = 16;
constexpr std::uint32_t kSweptPerStepMax = 32;
constexpr std::uint32_t kGrowthStepsPerSweepMax = 256;
constexpr std::uint32_t kStepsInVainMax = 256;
constexpr std::uint32_t kObservedPerInsertMax = 16;
// From here on a value is copied outside of the lock.
constexpr std::size_t kCopiedUnderLockMax = 4096;
constexpr std::size_t kSmallStripeBytes = std::size_t{1} << 20;

constexpr Ref kSentinels = 1;  // The first unit's Ref would be kNoRef.

constexpr std::uint32_t units_of_bytes(std::size_t bytes) {
  return static_cast<std::uint32_t>((bytes + kUnitBytes - 1) / kUnitBytes);
}

// Readers on other processors lose the cache line only if there is something new in it.
void set_for_readers(std::atomic<std::uint32_t>& variable, std::uint32_t value) {
  if (variable.load(std::memory_order_relaxed) != value) {
    variable.store(value, std::memory_order_relaxed);
  }
}

std::uint32_t first_groups(std::size_t bytes) {
  return static_cast<std::uint32_t>(std::clamp<std::size_t>(bytes / 131072, 1, 8) * 4);
}

}  // namespace

Stripe::Stripe(std::byte* memory, std::size_t bytes, RegionHead& head, const Generation& generation,
               std::uint64_t hash_seed, Eviction policy, TimePoint now) noexcept
    : blocks_(head.blocks()),
      head_(head),
      generation_(generation),
      counts_uses_(policy == Eviction::kAdaptive),
      order_(blocks_, kSentinels, hash_seed, clock_, policy),
      wheel_(blocks_, now),
      hash_seed_(hash_seed),
      bytes_(bytes),
      reserve_units_(
          static_cast<std::uint32_t>(bytes / kUnitBytes / (bytes >= kSmallStripeBytes ? 64 : 16))) {
  MutexLock lock{mutex_};
  const std::uint32_t groups = first_groups(bytes);
  table_.init(memory + bytes, groups);
  arena_.init(blocks_, kSentinels + LruOrder::kSentinelUnits,
              static_cast<Ref>(bytes / kUnitBytes) - groups * kGroupUnits - kGapUnits);
}

const Entry* Stripe::find_thoroughly(std::uint32_t tag, std::string_view key,
                                     std::atomic<const void*>& slot) const noexcept {
  HashTable::Search search{table_, tag};
  for (std::uint64_t word = search.next(); word != 0; word = search.next()) {
    const Entry* entry = announced(word, search.place(), slot);
    if (entry == nullptr) {
      // It was replaced, moved or removed; nothing in it was looked at. Somebody got on, so this
      // does not go on for ever.
      search = HashTable::Search{table_, tag};
    } else if (entry->has_key(key)) {
      return entry;
    }
  }
  hazard::withdraw(slot);
  return nullptr;
}

// ---------------------------------------------------------------- taking out

Ref Stripe::lookup(std::uint32_t tag, std::string_view key) const {
  std::uint64_t likely = 0;
  if (HashTable::find_in(table_.likely_line(tag), tag, likely) != nullptr) {
    if (entry_of(likely).has_key(key)) return HashTable::ref_of(likely);
  } else if (!table_.look_further(tag)) {
    return kNoRef;
  }
  HashTable::Search search{table_, tag};
  for (std::uint64_t word = search.next(); word != 0; word = search.next()) {
    const Ref ref = HashTable::ref_of(word);
    if (blocks_[ref].has_key(key)) return ref;
  }
  return kNoRef;
}

std::uint32_t Stripe::tag_of(Ref ref) const {
  if (ref == next_victim_) return next_victim_tag_;
  return static_cast<std::uint32_t>(key_hash(blocks_[ref].key(), hash_seed_));
}

void Stripe::remove(Ref ref, std::uint64_t Stats::*cause) { remove(ref, tag_of(ref), cause); }

void Stripe::remove(Ref ref, std::uint32_t tag, std::uint64_t Stats::*cause) {
  table_.remove(tag, ref);
  retire(ref, cause);
}

void Stripe::retire(Ref ref, std::uint64_t Stats::*cause) {
  Entry& entry = blocks_[ref];
  if (cause == &Stats::evicted_capacity) {
    order_.evicted(ref);
  } else if (cause != &Stats::replaced) {
    order_.remove(ref);
  }
  if (entry.is_timed()) wheel_.remove(ref);
  ++(stats_.*(entry.generation == generation() ? cause : &Stats::evicted_cleared));
  entry.set_state(Entry::State::kRetired);
  push_limbo(ref);
  ++progress_;
  const std::uint32_t units = entry.units();
  limbo_units_ += units;
  __builtin_prefetch(&blocks_[ref + units]);  // arena_.free will look at it.
  if (ref == next_victim_) next_victim_ = kNoRef;
}

// ---------------------------------------------------------------- insert

bool Stripe::insert(const NewEntry& entry) {
  // Enough to evict a full stripe some times over, in the slowest way.
  const std::size_t steps_max = 64 + bytes_ / 512;
  Inserting inserting{.entry = entry};
  for (std::size_t i = 0; i < steps_max && inserting.steps_in_vain < kStepsInVainMax; ++i) {
    Step step = Step::kNoRoomYet;
    {
      MutexLock lock{mutex_};
      step = insert_step(inserting);
    }
    if (step == Step::kCopy) {
      Entry& made = blocks_[inserting.ref];
      std::memcpy(const_cast<char*>(made.value().data()), entry.value.data(), entry.value.size());
      MutexLock lock{mutex_};
      step = put(inserting);
    }
    if (!inserting.growth.empty()) give_to_policy(inserting.growth);
    if (step == Step::kDone) return true;
    hazard::barrier();
    if (step == Step::kDoneWantsBarrier) return true;
    if (i > 8) std::this_thread::yield();
  }
  {
    MutexLock lock{mutex_};
    drop_own_zone(inserting);
  }
  refuse(entry.tag, entry.key, Refusal::kOverloaded);
  return false;
}

Stripe::Step Stripe::insert_step(Inserting& inserting) {
  const NewEntry& entry = inserting.entry;
  take_back();
  const Arena::Allocated allocated = allocate(inserting);
  if (allocated.ref == kNoRef) {
    inserting.steps_in_vain = inserting.progress == progress_ ? inserting.steps_in_vain + 1 : 0;
    inserting.progress = progress_;
    return Step::kNoRoomYet;
  }

  const bool versioned = entry.version != 0;
  const bool timed = entry.expires_at != TimePoint::max();
  const std::uint8_t block = blocks_[allocated.ref].block;
  Entry& made = *::new (&blocks_[allocated.ref]) Entry{
      .value_bytes = static_cast<std::uint32_t>(entry.value.size()),
      .key_bytes = static_cast<std::uint16_t>(entry.key.size()),
      .shape = static_cast<std::uint8_t>(
          (versioned ? Entry::kVersioned : 0) | (timed ? Entry::kTimed : 0) |
          allocated.slack << Entry::kSlackShift | entry.flags << Entry::kFlagsShift),
      .block = static_cast<std::uint8_t>(block & (Entry::kInUse | Entry::kPreviousFree)),
      .hint = 0,
      .pins = 0,
      .newer = kNoRef,
      .older = kNoRef,
      .generation = static_cast<std::uint32_t>(entry.generation)};
  made.set_state(Entry::State::kBuilding);
  char* rest = const_cast<char*>(made.after_header());
  if (versioned) std::memcpy(rest, &entry.version, sizeof entry.version);
  if (timed) {
    made.timed() = {.expires_at_ns = entry.expires_at.time_since_epoch().count(),
                    .earlier = kNoRef,
                    .later = kNoRef};
  }
  if (!entry.key.empty()) {
    std::memcpy(const_cast<char*>(made.key_data()), entry.key.data(), entry.key.size());
  }
  inserting.ref = allocated.ref;
  if (entry.value.size() > kCopiedUnderLockMax) return Step::kCopy;
  if (!entry.value.empty()) {
    std::memcpy(const_cast<char*>(made.value().data()), entry.value.data(), entry.value.size());
  }
  return put(inserting);
}

Stripe::Step Stripe::put(Inserting& inserting) {
  const NewEntry& entry = inserting.entry;
  const Ref ref = inserting.ref;
  Entry& made = blocks_[ref];
  ++stats_.inserts;
  if (made.generation != generation()) {
    // Inserted just before the clear(), and gone with it. What may stand under the key by now is
    // newer and stays.
    ++stats_.evicted_cleared;
    arena_.free(ref);
    return Step::kDone;
  }
  grow_table();  // Now, for it may evict.
  if (available_units() + limbo_units_ < reserve_units_ + entry.units) expect_eviction();
  if (const Ref old = lookup(entry.tag, entry.key); old != kNoRef) {
    table_.replace(entry.tag, old, ref);
    order_.replace(old, ref);
    retire(old, &Stats::replaced);
  } else {
    if (!table_.insert(entry.tag, ref)) {
      make_place_in_table(entry.tag);
      (void)table_.insert(entry.tag, ref);
    }
    order_.insert(ref);
  }
  made.set_state(Entry::State::kListed);
  if (made.is_timed()) wheel_.insert(ref);
  return upkeep(inserting) ? Step::kDoneWantsBarrier : Step::kDone;
}

// The bucket is full, and so is what it may overflow into: the one of it that was used least
// recently goes.
void Stripe::make_place_in_table(std::uint32_t tag) {
  Ref refs[HashTable::kLineWords];
  const std::size_t count = table_.bucket_refs(tag, refs);
  const std::uint32_t now = clock_.now();
  const auto age = [&](Ref ref) {
    return Hint::age(blocks_[ref].hint.load(std::memory_order_relaxed), now);
  };
  remove(*std::max_element(refs, refs + count, [&](Ref a, Ref b) { return age(a) < age(b); }),
         &Stats::evicted_capacity);
}

// A bounded share of the work that keeps later calls short. True if a barrier is due.
bool Stripe::upkeep(Inserting& inserting) {
  if (order_.is_adaptive()) upkeep_of_policy(inserting);
  evict_until(reserve_units_ + policy_units_wanted_, kEvictedPerUpkeepMax, inserting.ref);
  if (limbo_units_ >= reserve_units_ / 4) reclaim(kReclaimedPerUpkeepMax);
  const auto half = static_cast<std::uint32_t>(bytes_ / kUnitBytes / 2);
  // With plenty of room the order need not be exact yet, and hot entries are better left alone.
  const std::uint32_t entries = order_.entries();
  set_for_readers(window_, arena_.free_units() > half ? entries - entries / 4 : order_.window());
  return limbo_units_ >= reserve_units_ / 2 && !limbo_has_passed();
}

// ---------------------------------------------------------------- the adaptive policy

void Stripe::use_counted(Entry& entry, std::uint32_t tag) noexcept {
  const std::uint32_t seen = entry.hint.load(std::memory_order_relaxed);
  std::uint32_t now = clock_.now();
  const bool recent = Hint::age(seen, now) <= window_.load(std::memory_order_relaxed);
  if (!recent || Hint::uses(seen) < Hint::kUsesMax) {
    if (!recent) clock_.set(++now);
    entry.hint.store(Hint::used(seen, now), std::memory_order_relaxed);
  }
  note_access(tag);
}

void Stripe::upkeep_of_policy(Inserting& inserting) {
  EvictionOrder::Adaptive& policy = order_.adaptive();
  accesses_.take(kObservedPerInsertMax, [&](std::uint32_t hash) { policy.observe(hash); });
  set_for_readers(sample_mask_, policy.sample_mask());
  // Memory from elsewhere is set against the arena's, which has to have it free first.
  Growth growth = policy.growth_wanted();
  policy_units_wanted_ = units_of_bytes(growth.bytes());
  if (!growth.empty() && available_units() >= policy_units_wanted_) {
    inserting.growth = std::move(growth);
  }
}

void Stripe::give_to_policy(Growth& growth) {
  growth.allocate();
  MutexLock lock{mutex_};
  if (available_units() < units_of_bytes(growth.bytes())) return;
  order_.adaptive().accept(growth);
  policy_units_ = units_of_bytes(order_.bytes());
  policy_units_wanted_ = 0;
}

// ---------------------------------------------------------------- the rest

bool Stripe::erase(std::uint32_t tag, std::string_view key,
                   std::optional<std::uint64_t> unless_version) {
  MutexLock lock{mutex_};
  const Ref ref = lookup(tag, key);
  if (ref == kNoRef) return false;
  const Entry& entry = blocks_[ref];
  const bool live = entry.generation == generation();
  const std::uint64_t version = entry.version();
  if (live && unless_version && version != 0 && version >= *unless_version) return false;
  remove(ref, tag, &Stats::evicted_erased);
  return live;
}

void Stripe::refuse(std::uint32_t tag, std::string_view key, Refusal refusal) {
  MutexLock lock{mutex_};
  if (refusal == Refusal::kTooLarge) ++stats_.refused_too_large;
  if (refusal == Refusal::kOverloaded) ++stats_.refused_overloaded;
  const Ref ref = lookup(tag, key);
  if (ref != kNoRef) remove(ref, tag, &Stats::evicted_erased);
}

std::size_t Stripe::sweep(std::size_t entries_max, TimePoint now) {
  std::size_t removed = 0;
  std::uint32_t growth_steps = 0;
  for (bool more = true; more && removed < entries_max;) {
    MutexLock lock{mutex_};
    take_back();
    // Where nothing is inserted any more, growing would stop half-way; reads are faster after it.
    const bool grows = table_.is_growing() && ++growth_steps <= kGrowthStepsPerSweepMax;
    if (grows) grow_table();
    more = false;
    for (std::uint32_t i = 0; i < kSweptPerStepMax && removed < entries_max; ++i) {
      Ref ref = wheel_.expired(now, more);
      if (ref == kNoRef) ref = order_.oldest_of_older_generation(generation());
      if (ref == kNoRef) break;
      more = true;
      remove(ref, &Stats::evicted_expired);
      ++removed;
    }
    more = more || grows;
    reclaim(kReclaimedPerStepMax);
  }
  if (removed > 0) {
    hazard::barrier();
    MutexLock lock{mutex_};
    reclaim(kReclaimedPerStepMax);
  }
  return removed;
}

void Stripe::add_to(Stats& sum) const {
  MutexLock lock{mutex_};
  for (const auto counter :
       {&Stats::inserts, &Stats::replaced, &Stats::evicted_capacity, &Stats::evicted_expired,
        &Stats::evicted_erased, &Stats::evicted_cleared, &Stats::refused_too_large,
        &Stats::refused_overloaded}) {
    sum.*counter += stats_.*counter;
  }
  sum.entries += order_.entries();
  sum.bytes_charged += bytes_ - std::size_t{arena_.free_units()} * kUnitBytes + order_.bytes();
}

std::size_t Stripe::close() {
  MutexLock lock{mutex_};
  // One holder of the region for each, before the last Handle of any can end.
  std::size_t orphans = 0;
  const auto orphan = [&](Ref ref) {
    if (blocks_[ref].pins.fetch_or(Entry::kOrphan, std::memory_order_acq_rel) != 0) ++orphans;
  };
  order_.for_each(orphan);
  for (Ref ref = limbo_first_; ref != kNoRef; ref = blocks_[ref].older) orphan(ref);
  orphans += orphans_.count;
  // Those that were given back before the close hold nothing.
  for (Ref ref : {returned_, head_.close()}) {
    for (; ref != kNoRef; ref = blocks_[ref].hint.load(std::memory_order_relaxed)) --orphans;
  }
  return orphans;
}

bool Stripe::check() const {
  MutexLock lock{mutex_};
  if (!arena_.check() || table_.entries() != order_.entries()) return false;
  std::uint32_t listed = 0;
  std::uint32_t timed = 0;
  bool right = true;
  // The analysis does not see through for_each that the lock is held.
  order_.for_each([&](Ref ref) TIERCEL_NO_THREAD_SAFETY_ANALYSIS {
    const Entry& entry = blocks_[ref];
    ++listed;
    timed += entry.is_timed() ? 1 : 0;
    right =
        right && entry.state() == Entry::State::kListed && lookup(tag_of(ref), entry.key()) == ref;
  });
  return right && listed == order_.entries() && timed == wheel_.entries();
}

}  // namespace tiercel::l1
