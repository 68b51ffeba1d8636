// Reads go: hash, stripe, Stripe::find (which announces the entry), is it live?, use it, withdraw
// the announcement. The region holds, in this order: the stripes, their heads, the hit counters,
// and each stripe's memory.

#include "tiercel/l1/lru_cache.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <thread>

#include "hazard.h"
#include "hit_counter.h"
#include "key_hash.h"
#include "region.h"
#include "stripe.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

constexpr std::size_t kCapacityBytesMin = std::size_t{64} << 10;
constexpr std::size_t kCapacityBytesMax = std::size_t{1} << 40;
constexpr std::size_t kStripeBytesMin = std::size_t{64} << 10;
constexpr std::size_t kStripeBytesMax = std::size_t{8} << 30;
constexpr std::size_t kStripesMax = 4096;
constexpr std::size_t kValueBytesMax = std::numeric_limits<std::uint32_t>::max();
constexpr unsigned kStripeShift = 32;  // The bits below are the tag.
// More Handles than can be.
constexpr std::size_t kHoldersMax = std::size_t{1} << 48;

std::string range_error(std::string_view field, std::size_t given, std::string_view range) {
  return std::string{field} + " is " + std::to_string(given) + "; it must be " + std::string{range};
}

std::size_t stripes_for(const Options& options) {
  std::size_t stripes = options.stripes;
  while (stripes > 1 && options.capacity_bytes_max / stripes < kStripeBytesMin) stripes /= 2;
  return stripes;
}

constexpr std::size_t aligned_64(std::size_t bytes) { return (bytes + 63) & ~std::size_t{63}; }

std::size_t fixed_bytes(std::size_t stripes) {
  return aligned_64(stripes * (sizeof(Stripe) + sizeof(RegionHead)) +
                    HitCounter::kAll * sizeof(HitCounter));
}

}  // namespace

Result<void> validate(const Options& options) {
  if (options.capacity_bytes_max < kCapacityBytesMin ||
      options.capacity_bytes_max > kCapacityBytesMax) {
    return invalid_argument(range_error("capacity_bytes_max", options.capacity_bytes_max,
                                        "65536 (64 KiB) to 1099511627776 (1 TiB)"));
  }
  if (options.stripes < 1 || options.stripes > kStripesMax ||
      (options.stripes & (options.stripes - 1)) != 0) {
    return invalid_argument(
        range_error("stripes", options.stripes, "a power of two from 1 to 4096"));
  }
  if (options.capacity_bytes_max / stripes_for(options) > kStripeBytesMax) {
    return invalid_argument(
        range_error("stripes", options.stripes,
                    "so many that a stripe has at most 8 GiB of capacity_bytes_max, which is " +
                        std::to_string(options.capacity_bytes_max)));
  }
  if (options.clock == nullptr) return invalid_argument("clock is null; give a Clock");
  return {};
}

// ---------------------------------------------------------------- views and handles

std::string_view EntryView::key() const noexcept { return entry_->key(); }
std::uint64_t EntryView::version() const noexcept { return entry_->version(); }
std::uint32_t EntryView::flags() const noexcept { return entry_->flags(); }
TimePoint EntryView::expires_at() const noexcept {
  return entry_->is_timed() ? TimePoint{Duration{entry_->expires_at_ns()}} : TimePoint::max();
}

void Handle::unpin() noexcept {
  auto& entry = const_cast<Entry&>(*view_.entry_);
  const std::uint32_t before = entry.pins.fetch_sub(1, std::memory_order_acq_rel);
  if (before == (Entry::kOrphan | 1)) home_->give_back(entry);
  view_ = {};
  home_ = nullptr;
}

// ---------------------------------------------------------------- life

Result<std::unique_ptr<LruCache>> LruCache::create(const Options& options) {
  if (auto valid = validate(options); !valid) return valid.error();
  const std::size_t stripe_count = stripes_for(options);
  Region* region =
      Region::create(options.capacity_bytes_max & ~std::size_t{63}, options.huge_pages);
  if (region == nullptr) {
    return overloaded("no address space for an in-process cache of " +
                      std::to_string(options.capacity_bytes_max) + " bytes");
  }
  std::unique_ptr<LruCache> cache{new (std::nothrow) LruCache{options, *region, stripe_count}};
  if (cache == nullptr) {
    region->release();
    return overloaded("no memory for an in-process cache");
  }
  return cache;
}

LruCache::LruCache(const Options& options, Region& region, std::size_t stripe_count)
    : clock_(*options.clock),
      capacity_bytes_max_(options.capacity_bytes_max),
      hash_seed_(options.hash_seed ? *options.hash_seed : entropy_u64()),
      stripe_mask_(stripe_count - 1),
      region_(region),
      stripes_(reinterpret_cast<Stripe*>(region.data())),
      counters_(reinterpret_cast<HitCounter*>(
          region.data() + stripe_count * (sizeof(Stripe) + sizeof(RegionHead)))),
      stripe_bytes_((region.bytes() - fixed_bytes(stripe_count)) / stripe_count & ~std::size_t{63}),
      entry_bytes_max_(stripe_bytes_ / 2) {
  auto* heads = reinterpret_cast<RegionHead*>(region.data() + stripe_count * sizeof(Stripe));
  for (std::size_t i = 0; i < HitCounter::kAll; ++i) new (&counters_[i]) HitCounter;
  const TimePoint now = clock_.now();
  for (std::size_t i = 0; i < stripe_count; ++i) {
    std::byte* memory = region.data() + fixed_bytes(stripe_count) + i * stripe_bytes_;
    auto* head = new (&heads[i]) RegionHead{region, Blocks{memory}};
    new (&stripes_[i])
        Stripe{memory, stripe_bytes_, *head, generation_, hash_seed_, options.eviction, now};
  }
}

LruCache::~LruCache() {
  // Visits under way: after the barrier their announcements can be seen.
  hazard::barrier();
  const std::byte* begin = region_.data();
  while (!hazard::Announced{begin, begin + region_.bytes()}.none()) {
    std::this_thread::sleep_for(std::chrono::microseconds{50});
  }
  region_.hold(kHoldersMax);
  std::size_t orphans = 0;
  for (std::size_t i = 0; i < stripes(); ++i) {
    orphans += stripes_[i].close();
    stripes_[i].~Stripe();
  }
  region_.release(kHoldersMax - orphans + 1);
}

// ---------------------------------------------------------------- reads

struct LruCache::Place {
  std::uint32_t tag;
  Stripe& stripe;
};

inline LruCache::Place LruCache::place(std::string_view key) const noexcept {
  const std::uint64_t hash = key_hash(key, hash_seed_);
  return {static_cast<std::uint32_t>(hash), stripes_[(hash >> kStripeShift) & stripe_mask_]};
}

// What the entry says is compared with the cache's generation and clock after the entry was found,
// so a read that begins after clear() or the deadline never returns it.
inline bool LruCache::is_live(const Entry& entry, std::uint64_t& current) const noexcept {
  current = generation();
  if (entry.generation != static_cast<std::uint32_t>(current)) return false;
  return !entry.is_timed() || entry.expires_at_ns() > clock_.now().time_since_epoch().count();
}

namespace {

// All of a small entry, on its way before the first of it is needed.
void prefetch(const Entry& entry) noexcept {
  const char* at = reinterpret_cast<const char*>(&entry);
  __builtin_prefetch(at);
  __builtin_prefetch(at + 64);
  __builtin_prefetch(at + 128);
  __builtin_prefetch(at + 160);  // The fourth line, if the entry begins late in its first one.
}

}  // namespace

[[gnu::always_inline]] inline LruCache::Probe LruCache::probe(std::string_view key) const noexcept {
  const Place at = place(key);
  Probe probe{.stripe = &at.stripe, .tag = at.tag, .place = nullptr, .word = 0};
  probe.place = HashTable::find_in(at.stripe.table().likely_line(at.tag), at.tag, probe.word);
  if (probe.place != nullptr) [[likely]] {
    prefetch(at.stripe.entry_of(probe.word));
  }
  return probe;
}

// Announced, or null; the use is noted. `current` is the generation by which it is live.
[[gnu::always_inline]] inline const Entry* LruCache::find(const Probe& probe, std::string_view key,
                                                          std::atomic<const void*>& slot,
                                                          std::uint64_t& current) const noexcept {
  const Entry* entry = probe.stripe->find(probe.place, probe.word, probe.tag, key, slot);
  if (entry != nullptr && is_live(*entry, current)) [[likely]] {
    probe.stripe->use(*entry, probe.tag);
    return entry;
  }
  if (entry != nullptr) hazard::withdraw(slot);
  probe.stripe->note_access(probe.tag);
  return nullptr;
}

// The same for a moment without user code in it, and counted.
[[gnu::always_inline]] inline const Entry* LruCache::find_briefly(
    const Probe& probe, std::string_view key, ReaderRecord& thread,
    std::uint64_t& current) const noexcept {
  const Entry* entry = find(probe, key, thread.brief_slot(), current);
  HitCounter::count(counters_, thread, entry != nullptr ? &HitCounter::hits : &HitCounter::misses);
  return entry;
}

inline EntryView LruCache::view_of(const Entry& entry, std::uint64_t current) noexcept {
  EntryView view;
  view.entry_ = &entry;
  view.value_ = entry.value();
  view.generation_ = current;
  return view;
}

std::size_t LruCache::copy(std::string_view key, std::span<char> out) noexcept {
  const Probe at = probe(key);
  ReaderRecord& thread = hazard::this_thread();
  std::uint64_t current = 0;
  const Entry* entry = find_briefly(at, key, thread, current);
  if (entry == nullptr) [[unlikely]]
    return kMiss;
  const std::string_view value = entry->value();
  if (value.size() <= out.size() && !value.empty()) {
    std::memcpy(out.data(), value.data(), value.size());
  }
  hazard::withdraw(thread.brief_slot());
  return value.size();
}

// Turns the announcement into a pin.
inline Handle LruCache::pin_announced(const EntryView& view, Stripe& stripe,
                                      std::atomic<const void*>& slot) noexcept {
  Handle handle;
  handle.view_ = view;
  const_cast<Entry*>(view.entry_)->pins.fetch_add(1, std::memory_order_relaxed);
  hazard::withdraw(slot);
  handle.home_ = &stripe.head();
  return handle;
}

Handle LruCache::pin(std::string_view key) noexcept {
  const Probe at = probe(key);
  ReaderRecord& thread = hazard::this_thread();
  std::uint64_t current = 0;
  const Entry* entry = find_briefly(at, key, thread, current);
  if (entry == nullptr) [[unlikely]]
    return {};
  return pin_announced(view_of(*entry, current), *at.stripe, thread.brief_slot());
}

inline LruCache::VisitSlot::VisitSlot(ReaderRecord& thread) noexcept
    : thread_(thread),
      slot_(thread.depth == ReaderRecord::kVisitsMax ? nullptr : &thread.slots[thread.depth++]) {}

LruCache::VisitSlot::~VisitSlot() {
  if (slot_ == nullptr) return;
  hazard::withdraw(*slot_);
  --thread_.depth;
}

[[gnu::always_inline]] inline EntryView LruCache::find_for_visit(const Probe& probe,
                                                                 std::string_view key,
                                                                 const VisitSlot& slot,
                                                                 Handle& pin) const noexcept {
  std::uint64_t current = 0;
  if (slot.is_there()) [[likely]] {
    const Entry* entry = find(probe, key, slot.slot(), current);
    return entry == nullptr ? EntryView{} : view_of(*entry, current);
  }
  auto& brief = slot.thread().brief_slot();
  const Entry* entry = find(probe, key, brief, current);
  if (entry == nullptr) return {};
  pin = pin_announced(view_of(*entry, current), *probe.stripe, brief);
  return pin.view_;
}

LruCache::Reading::Reading(LruCache& cache, std::string_view key) noexcept
    : slot_(hazard::this_thread()),
      view_(cache.find_for_visit(cache.probe(key), key, slot_, pin_)) {
  HitCounter::count(cache.counters_, slot_.thread(),
                    view_.entry_ != nullptr ? &HitCounter::hits : &HitCounter::misses);
}

LruCache::BatchReading::BatchReading(LruCache& cache,
                                     std::span<const std::string_view> keys) noexcept
    : cache_(cache), keys_(keys), in_use_(hazard::this_thread()), slot_(in_use_.thread()) {
  // Of the region, the part that is no entry's.
  if (in_use_.is_there()) hazard::announce(in_use_.slot(), cache.region_.data());
  for (std::size_t i = 0; i < std::min(kHashAhead, keys.size()); ++i) fetch_line(i);
  for (std::size_t i = 0; i < std::min(kEntryAhead, keys.size()); ++i) fetch_entry(i);
  for (std::size_t i = 0; i < std::min(kFurtherAhead, keys.size()); ++i) fetch_entry_further(i);
}

LruCache::BatchReading::~BatchReading() {
  HitCounter::count(cache_.counters_, in_use_.thread(), &HitCounter::hits, hits_);
  HitCounter::count(cache_.counters_, in_use_.thread(), &HitCounter::misses, misses_);
}

inline void LruCache::BatchReading::fetch_line(std::size_t i) noexcept {
  const Place at = cache_.place(keys_[i]);
  const HashTable::Line& line = at.stripe.table().likely_line(at.tag);
  __builtin_prefetch(&line);
  probe(i) = {.stripe = &at.stripe, .tag = at.tag, .place = line.words, .word = 0};
}

inline void LruCache::BatchReading::fetch_entry(std::size_t i) noexcept {
  Probe& at = probe(i);
  const auto& line = *reinterpret_cast<const HashTable::Line*>(at.place);
  at.place = HashTable::find_in(line, at.tag, at.word);
  if (at.place != nullptr) [[likely]]
    return prefetch(at.stripe->entry_of(at.word));
  at.word = at.stripe->table().look_further(at.tag) ? 1 : 0;
}

inline void LruCache::BatchReading::fetch_entry_further(std::size_t i) noexcept {
  Probe& at = probe(i);
  if (at.place != nullptr || at.word == 0) [[likely]]
    return;
  HashTable::Search search{at.stripe->table(), at.tag};
  at.word = search.next();
  if (at.word == 0) return;
  at.place = &search.place();
  prefetch(at.stripe->entry_of(at.word));
}

bool LruCache::BatchReading::read(std::size_t i) noexcept {
  if (!slot_.is_there()) [[unlikely]]
    pin_ = {};
  view_ = cache_.find_for_visit(probe(i), keys_[i], slot_, pin_);
  if (i + kHashAhead < keys_.size()) fetch_line(i + kHashAhead);
  if (i + kEntryAhead < keys_.size()) fetch_entry(i + kEntryAhead);
  if (i + kFurtherAhead < keys_.size()) fetch_entry_further(i + kFurtherAhead);
  const bool is_hit = view_.entry_ != nullptr;
  ++(is_hit ? hits_ : misses_);
  return is_hit;
}

// ---------------------------------------------------------------- changes

Error LruCache::refuse_too_large(std::string_view key, const Place& place, std::size_t charge) {
  place.stripe.refuse(place.tag, key, Stripe::Refusal::kTooLarge);
  return invalid_argument("the entry of key " + bytes_for_message(key) + " takes " +
                          std::to_string(charge) + " bytes in L1, over the limit of " +
                          std::to_string(entry_bytes_max_) +
                          " (half of a stripe); raise capacity_bytes_max or lower stripes");
}

Result<void> LruCache::insert(std::string_view key, std::string_view value, const EntryMeta& meta) {
  const std::uint64_t now_current = generation();
  const std::uint64_t entry_generation = meta.generation.value_or(now_current);
  const Place at = place(key);
  std::string wrong;
  if (entry_generation > now_current) {
    wrong = "generation " + std::to_string(entry_generation) +
            " has not been yet; the current one is " + std::to_string(now_current);
  } else if (key.size() > kKeyBytesMax) {
    wrong = "the key has " + std::to_string(key.size()) + " bytes; at most " +
            std::to_string(kKeyBytesMax) + " are allowed";
  } else if (meta.flags > kFlagsMax) {
    wrong = "flags is " + std::to_string(meta.flags) + "; at most " + std::to_string(kFlagsMax) +
            " is allowed";
  }
  if (!wrong.empty()) {
    at.stripe.refuse(at.tag, key, Stripe::Refusal::kInvalid);
    return invalid_argument(wrong);
  }
  const std::uint64_t units = Entry::units_for(key.size(), value.size(), meta.version != 0,
                                               meta.expires_at != TimePoint::max());
  const std::uint64_t charge = units * kUnitBytes;
  if (charge > entry_bytes_max_ || value.size() > kValueBytesMax) {
    return refuse_too_large(key, at, charge);
  }
  const bool inserted = at.stripe.insert({.tag = at.tag,
                                          .key = key,
                                          .value = value,
                                          .version = meta.version,
                                          .expires_at = meta.expires_at,
                                          .flags = meta.flags,
                                          .generation = entry_generation,
                                          .units = static_cast<std::uint32_t>(units)});
  if (inserted) return {};
  return overloaded("key " + bytes_for_message(key) +
                    " was not put into L1: Handles and visits hold the memory, or other threads "
                    "kept filling the room made for it");
}

bool LruCache::erase(std::string_view key) {
  const Place at = place(key);
  return at.stripe.erase(at.tag, key, std::nullopt);
}

bool LruCache::erase_older(std::string_view key, std::uint64_t version) {
  const Place at = place(key);
  return at.stripe.erase(at.tag, key, version);
}

void LruCache::clear() noexcept { generation_.fetch_add(1, std::memory_order_acq_rel); }

std::size_t LruCache::sweep(std::size_t entries_max) {
  const TimePoint now = clock_.now();
  std::size_t removed = 0;
  for (std::size_t i = 0; i < stripes() && removed < entries_max; ++i) {
    const std::size_t index = sweep_stripe_.fetch_add(1, std::memory_order_relaxed);
    removed += stripes_[index & stripe_mask_].sweep(entries_max - removed, now);
  }
  return removed;
}

Stats LruCache::stats() const {
  Stats sum;
  sum.bytes_charged = fixed_bytes(stripes());
  for (std::size_t i = 0; i < stripes(); ++i) stripes_[i].add_to(sum);
  for (std::size_t i = 0; i < HitCounter::kAll; ++i) {
    sum.hits += counters_[i].hits.load(std::memory_order_relaxed);
    sum.misses += counters_[i].misses.load(std::memory_order_relaxed);
  }
  return sum;
}

bool LruCache::check() const {
  for (std::size_t i = 0; i < stripes(); ++i) {
    if (!stripes_[i].check()) return false;
  }
  return true;
}

}  // namespace tiercel::l1
