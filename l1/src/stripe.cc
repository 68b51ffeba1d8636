// Invariants, whenever mutex_ is free:
//   - charged_ == sizeof(Stripe) + table_.charge() + the sum of charge() of the entries in table_,
//     and charged_ <= capacity_bytes_.
//   - An entry is in table_ if and only if it is on the list lru_; each holds the cache's one
//     reference.
//   - On the list, every cleared entry is older than every one of the current generation: entries
//     come to the newest end only while they are current. So making room takes dead ones first.
//   - sweep_next_ is an entry on the list or the sentinel (unlink moves it on); it means something
//     while sweep_left_ > 0.
//
// Under the lock nothing is allocated, freed or called back, and at most kEvictedPerStepMax or
// kWalkedPerSweepStepMax entries and two chains of the table are walked. Entries that leave go to
// a DeadList declared before the lock is taken. mutex_ is a leaf in the lock order.

#include "stripe.h"

#include <algorithm>
#include <utility>

namespace tiercel::l1 {
namespace {

constexpr std::size_t kEvictedPerStepMax = 32;
constexpr std::size_t kWalkedPerSweepStepMax = 64;

}  // namespace

Stripe::~Stripe() {
  DeadList dead;
  MutexLock lock{mutex_};
  while (lru_.newer != &lru_) {
    Entry* entry = oldest();
    unlink(entry);
    dead.push(entry);
  }
}

bool Stripe::init(std::size_t capacity_bytes) noexcept {
  MutexLock lock{mutex_};
  const std::size_t entries_max = capacity_bytes / Entry::charge_min(0, 0);
  if (!table_.init(entries_max)) return false;
  capacity_bytes_ = capacity_bytes;
  charged_ = sizeof(Stripe) + table_.charge();
  // With the table at its full size, so that what fits today fits tomorrow.
  const std::size_t fixed_bytes_max = sizeof(Stripe) + table_.charge_max();
  entry_bytes_max_ = capacity_bytes - std::min(capacity_bytes, fixed_bytes_max);
  // Enough to evict a full stripe twice over; only a crowd of other inserts can make it too few.
  insert_steps_max_ = 2 * (entries_max / kEvictedPerStepMax + 1);
  return charged_ <= capacity_bytes_;
}

void Stripe::link_newest(Entry* entry) {
  entry->newer = &lru_;
  entry->older = lru_.older;
  lru_.older->newer = entry;
  lru_.older = entry;
}

void Stripe::unlink(Entry* entry) {
  if (sweep_next_ == entry) sweep_next_ = entry->newer;
  entry->newer->older = entry->older;
  entry->older->newer = entry->newer;
}

void Stripe::remove(Entry* entry, std::uint64_t Stats::*cause, std::uint64_t current,
                    DeadList& dead) {
  table_.remove(entry);
  unlink(entry);
  charged_ -= entry->charge();
  ++(stats_.*(entry->generation == current ? cause : &Stats::evicted_cleared));
  dead.push(entry);
}

bool Stripe::make_room(std::size_t bytes, std::uint64_t current, DeadList& dead) {
  for (std::size_t i = 0; i < kEvictedPerStepMax; ++i) {
    if (charged_ + bytes <= capacity_bytes_ || lru_.newer == &lru_) break;
    remove(oldest(), &Stats::evicted_capacity, current, dead);
  }
  return charged_ + bytes <= capacity_bytes_;
}

bool Stripe::insert(Entry* entry, const Generation& generation) {
  for (std::size_t i = 0; i < insert_steps_max_; ++i) {
    Step step = Step::kNoRoomYet;
    {
      DeadList dead;
      MutexLock lock{mutex_};
      step = insert_step(entry, generation.load(std::memory_order_acquire), dead);
    }
    if (step == Step::kDoneWantsSegment) grow_table(generation);
    if (step != Step::kNoRoomYet) return true;
  }
  refuse(entry->hash, entry->key(), Refusal::kOverloaded, generation);
  entry->release();
  return false;
}

Stripe::Step Stripe::insert_step(Entry* entry, std::uint64_t current, DeadList& dead) {
  if (entry->generation != current) {
    // Inserted just before the clear(), and gone with it. What may stand under the key by now is
    // newer and stays.
    ++stats_.inserts;
    ++stats_.evicted_cleared;
    dead.push(entry);
    return Step::kDone;
  }
  if (Entry* old = table_.find(entry->hash, entry->key())) {
    remove(old, &Stats::replaced, current, dead);
  }
  const std::size_t charge = entry->charge();
  if (!make_room(charge, current, dead)) return Step::kNoRoomYet;
  table_.insert(entry);
  link_newest(entry);
  charged_ += charge;
  ++stats_.inserts;
  return table_.wants_segment() ? Step::kDoneWantsSegment : Step::kDone;
}

void Stripe::grow_table(const Generation& generation) {
  auto segment = allocate_zeroed<HashTable::Segment>();
  if (segment == nullptr) return;  // A later insert asks again.
  const std::size_t charge = allocation_charge(segment.get());
  DeadList dead;
  MutexLock lock{mutex_};
  // Asked twice: another thread may have been faster, and room is made by evicting entries, after
  // which the table may be large enough. More than kSegmentBuckets entries are far larger than a
  // segment, so the newest are safe.
  if (!table_.wants_segment()) return;
  if (!make_room(charge, generation.load(std::memory_order_acquire), dead)) return;
  if (!table_.wants_segment()) return;
  table_.add_segment(std::move(segment));
  charged_ += charge;
}

Entry* Stripe::find(std::uint64_t hash, std::string_view key, TimePoint now,
                    const Generation& generation) {
  DeadList dead;
  MutexLock lock{mutex_};
  const std::uint64_t current = generation.load(std::memory_order_acquire);
  Entry* entry = table_.find(hash, key);
  if (entry == nullptr) {
    ++stats_.misses;
    return nullptr;
  }
  if (entry->generation != current || entry->expires_at <= now) {
    ++stats_.misses;
    remove(entry, &Stats::evicted_expired, current, dead);
    return nullptr;
  }
  ++stats_.hits;
  unlink(entry);
  link_newest(entry);
  entry->acquire();
  return entry;
}

bool Stripe::erase(std::uint64_t hash, std::string_view key,
                   std::optional<std::uint64_t> unless_version, const Generation& generation) {
  DeadList dead;
  MutexLock lock{mutex_};
  const std::uint64_t current = generation.load(std::memory_order_acquire);
  Entry* entry = table_.find(hash, key);
  if (entry == nullptr) return false;
  const bool live = entry->generation == current;
  const bool newer = unless_version && entry->version != 0 && entry->version >= *unless_version;
  if (live && newer) return false;
  remove(entry, &Stats::evicted_erased, current, dead);
  return live;
}

void Stripe::refuse(std::uint64_t hash, std::string_view key, Refusal refusal,
                    const Generation& generation) {
  DeadList dead;
  MutexLock lock{mutex_};
  if (refusal == Refusal::kTooLarge) ++stats_.refused_too_large;
  if (refusal == Refusal::kOverloaded) ++stats_.refused_overloaded;
  if (Entry* old = table_.find(hash, key)) {
    remove(old, &Stats::evicted_erased, generation.load(std::memory_order_acquire), dead);
  }
}

Stripe::Swept Stripe::sweep(std::size_t entries_max, TimePoint now, const Generation& generation) {
  DeadList dead;
  MutexLock lock{mutex_};
  const std::uint64_t current = generation.load(std::memory_order_acquire);
  if (sweep_left_ == 0) {
    // A new pass, from the oldest on. It looks at no more than what is here now: entries that are
    // used meanwhile move ahead of it, and it must not chase them while other stripes wait.
    sweep_next_ = lru_.newer;
    sweep_left_ = table_.entries();
  }
  Swept swept;
  const std::size_t walked_max = std::min(entries_max, kWalkedPerSweepStepMax);
  while (swept.walked < walked_max && sweep_left_ > 0 && sweep_next_ != &lru_) {
    auto* entry = static_cast<Entry*>(sweep_next_);
    sweep_next_ = entry->newer;
    --sweep_left_;
    ++swept.walked;
    if (entry->generation == current && entry->expires_at > now) continue;
    remove(entry, &Stats::evicted_expired, current, dead);
    ++swept.removed;
  }
  if (sweep_next_ == &lru_) sweep_left_ = 0;  // The rest of the pass left meanwhile.
  swept.pass_done = sweep_left_ == 0;
  return swept;
}

void Stripe::add_to(Stats& sum) const {
  MutexLock lock{mutex_};
  for (const auto counter :
       {&Stats::hits, &Stats::misses, &Stats::inserts, &Stats::replaced, &Stats::evicted_capacity,
        &Stats::evicted_expired, &Stats::evicted_erased, &Stats::evicted_cleared,
        &Stats::refused_too_large, &Stats::refused_overloaded}) {
    sum.*counter += stats_.*counter;
  }
  sum.entries += table_.entries();
  sum.bytes_charged += charged_;
}

}  // namespace tiercel::l1
