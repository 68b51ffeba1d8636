// What is common to the stripes: options, hashing, the generation, the sweep's round. Invariants:
//   - The stripes' capacities add up to at most capacity_bytes_max_. Each stripe keeps to its own
//     (stripe.cc), so nothing is shared between them and the whole can never exceed the sum.
//   - generation_ only rises.
//
// No lock here: entries are built before, and freed after, a stripe takes its own.

#include "tiercel/l1/lru_cache.h"

#include <algorithm>
#include <bit>
#include <new>
#include <string>

#include "entry.h"
#include "key_hash.h"
#include "stripe.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/random.h"

namespace tiercel::l1 {
namespace {

constexpr std::size_t kCapacityBytesMin = std::size_t{4} << 10;
constexpr std::size_t kCapacityBytesMax = std::size_t{1} << 40;
constexpr std::size_t kStripesMax = 4096;
constexpr std::size_t kStripeBytesMin = std::size_t{64} << 10;

// The stripe comes from the top 12 bits, which the hash table reaches last.
constexpr int kStripeShift = 64 - std::bit_width(kStripesMax - 1);

std::size_t stripes_for(const Options& options) {
  std::size_t count = options.stripes;
  while (count > 1 && options.capacity_bytes_max / count < kStripeBytesMin) count /= 2;
  return count;
}

}  // namespace

struct LruCache::Place {
  std::uint64_t hash;
  Stripe& stripe;
};

Result<void> validate(const Options& options) {
  if (options.capacity_bytes_max < kCapacityBytesMin ||
      options.capacity_bytes_max > kCapacityBytesMax) {
    return invalid_argument("l1 capacity_bytes_max is " +
                            std::to_string(options.capacity_bytes_max) + "; it must be " +
                            std::to_string(kCapacityBytesMin) + " (4 KiB) to " +
                            std::to_string(kCapacityBytesMax) + " (1 TiB)");
  }
  if (!std::has_single_bit(options.stripes) || options.stripes > kStripesMax) {
    return invalid_argument("l1 stripes is " + std::to_string(options.stripes) +
                            "; it must be a power of two, 1 to " + std::to_string(kStripesMax));
  }
  if (options.clock == nullptr) return invalid_argument("l1 clock is null; hand in a Clock");
  return {};
}

Result<std::unique_ptr<LruCache>> LruCache::create(const Options& options) {
  if (auto valid = validate(options); !valid) return valid.error();
  const std::size_t count = stripes_for(options);
  std::unique_ptr<Stripe[]> stripes{new (std::nothrow) Stripe[count]};
  bool ready = stripes != nullptr;
  for (std::size_t i = 0; ready && i < count; ++i) {
    ready = stripes[i].init(options.capacity_bytes_max / count);
  }
  if (!ready) return overloaded("no memory for the stripes of the L1 cache");
  return std::unique_ptr<LruCache>{new LruCache{options, count, std::move(stripes)}};
}

LruCache::LruCache(const Options& options, std::size_t stripe_count,
                   std::unique_ptr<Stripe[]> stripes)
    : clock_(*options.clock),
      capacity_bytes_max_(options.capacity_bytes_max),
      hash_seed_(options.hash_seed ? *options.hash_seed : entropy_u64()),
      stripe_mask_(stripe_count - 1),
      stripes_(std::move(stripes)),
      entry_bytes_max_(stripes_[0].entry_bytes_max()) {}

LruCache::~LruCache() = default;

LruCache::Place LruCache::place(std::string_view key) const noexcept {
  const std::uint64_t hash = key_hash(key, hash_seed_);
  return {hash, stripes_[(hash >> kStripeShift) & stripe_mask_]};
}

Error LruCache::refuse_too_large(std::string_view key, const Place& place, std::size_t charge) {
  place.stripe.refuse(place.hash, key, Stripe::Refusal::kTooLarge, generation_);
  return invalid_argument("the entry of key " + bytes_for_message(key) + " takes " +
                          std::to_string(charge) + " bytes in L1, over the limit of " +
                          std::to_string(entry_bytes_max_) +
                          " (what fits into a stripe); raise capacity_bytes_max or lower stripes");
}

Error LruCache::refuse_overloaded(std::string_view key, const Place& place, const char* reason) {
  place.stripe.refuse(place.hash, key, Stripe::Refusal::kOverloaded, generation_);
  return overloaded("key " + bytes_for_message(key) + " was not put into L1: " + reason);
}

Result<void> LruCache::insert(std::string_view key, std::string_view value, const EntryMeta& meta) {
  const std::uint64_t now_current = generation();
  const std::uint64_t entry_generation = meta.generation.value_or(now_current);
  const Place at = place(key);
  if (entry_generation > now_current) {
    at.stripe.refuse(at.hash, key, Stripe::Refusal::kInvalid, generation_);
    return invalid_argument("generation " + std::to_string(entry_generation) +
                            " has not been yet; the current one is " + std::to_string(now_current));
  }
  // Before the allocation: a huge value that is refused shall not first take its memory.
  const std::size_t charge_min = Entry::charge_min(key.size(), value.size());
  if (charge_min > entry_bytes_max_) return refuse_too_large(key, at, charge_min);

  Entry* entry = Entry::create(at.hash, key, value, meta, entry_generation);
  if (entry == nullptr) return refuse_overloaded(key, at, "no memory");
  if (const std::size_t charge = entry->charge(); charge > entry_bytes_max_) {
    entry->release();
    return refuse_too_large(key, at, charge);
  }
  if (!at.stripe.insert(entry, generation_)) {
    return overloaded("key " + bytes_for_message(key) +
                      " was not put into L1: other threads kept filling the room made for it");
  }
  return {};
}

Handle LruCache::find(std::string_view key) {
  const TimePoint now = clock_.now();
  const Place at = place(key);
  return Handle{at.stripe.find(at.hash, key, now, generation_)};
}

bool LruCache::erase(std::string_view key) {
  const Place at = place(key);
  return at.stripe.erase(at.hash, key, std::nullopt, generation_);
}

bool LruCache::erase_older(std::string_view key, std::uint64_t version) {
  const Place at = place(key);
  return at.stripe.erase(at.hash, key, version, generation_);
}

void LruCache::clear() noexcept { generation_.fetch_add(1, std::memory_order_acq_rel); }

std::size_t LruCache::sweep(std::size_t entries_max) {
  const TimePoint now = clock_.now();
  std::size_t removed = 0;
  std::size_t left = entries_max;
  // One stripe more than there are: the first may have been begun by an earlier call.
  for (std::size_t passes = 0; left > 0 && passes < stripes() + 1;) {
    std::size_t index = sweep_stripe_.load(std::memory_order_relaxed);
    const Stripe::Swept swept = stripes_[index].sweep(left, now, generation_);
    removed += swept.removed;
    left -= swept.walked;
    if (!swept.pass_done) continue;
    ++passes;
    // Another sweeper may have moved on already; then its place is ours as well.
    sweep_stripe_.compare_exchange_strong(index, (index + 1) & stripe_mask_,
                                          std::memory_order_relaxed);
  }
  return removed;
}

Stats LruCache::stats() const {
  Stats sum;
  for (std::size_t i = 0; i < stripes(); ++i) stripes_[i].add_to(sum);
  return sum;
}

}  // namespace tiercel::l1
