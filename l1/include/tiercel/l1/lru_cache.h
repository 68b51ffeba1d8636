#pragma once

// LruCache: the in-process tier. Bytes by key, in least-recently-used order, within an exact budget
// of bytes, with a deadline (expires_at) and the caller's version for each entry.
//
// The cache is divided into stripes by the key's hash. Each has its own lock, its own LRU order and
// an equal share of the capacity, so "least recently used" is meant within a stripe. It knows
// nothing of Redis, leases or loaders: the `cache` module is built on it, and is what most users
// want.
//
// Threads: any thread may call anything at any time, but the destructor, which must be the last
// call. Nothing waits for anything but a stripe's lock, which is held for a bounded, short time: no
// allocation, no free, no user code (the clock included) and no walk over more than a few dozen
// entries happens under it. Calls on one key are linearizable.
//
// Memory: an entry is one allocation: header, value bytes, key bytes. Its charge is what the
// allocator gives for it (malloc_usable_size and glibc's word before each block), not what was
// asked. Charged as well: each stripe's own state and hash table, so an empty cache is not at 0.
// The sum of all charges never exceeds capacity_bytes_max, at any moment, seen from any thread:
// room is made before an entry goes in. Not charged: an entry that was evicted while a Handle pins
// it (it belongs to the reader), an entry that insert has built and not yet put in (one for each
// thread that inserts), removed entries for the moment until they are freed (a few dozen a thread),
// and the LruCache object (under 200 bytes).
//
// Hash: XXH3 seeded per process, so that nobody can choose keys that collide without the seed.
//
// Example (compiled in tests/l1/lru_cache_test.cc):
//
//   auto cache = LruCache::create({.capacity_bytes_max = 1 << 20});
//   if (!cache) return cache.error();
//   if (auto put = (*cache)->insert("user:7", "Ada", {.version = 3}); !put) log(put.error());
//   if (Handle hit = (*cache)->find("user:7")) use(hit.value(), hit.version());

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::l1 {

struct Entry;
class Stripe;

struct Options {
  // Bytes that all charges together may reach. Range 4 KiB to 1 TiB. More keeps more entries; the
  // memory is taken as entries come, not at the start (but for 0.15 %, the tables' directories).
  std::size_t capacity_bytes_max = std::size_t{64} << 20;

  // At most so many stripes: a power of two, range 1 to 4096. The cache halves the number while a
  // stripe would get less than 64 KiB. More lets more threads in side by side; less allows larger
  // entries (one must fit into a stripe) and an LRU order closer to that of the whole.
  std::size_t stripes = 64;

  // Seed of the hash. nullopt: from the operating system's entropy, which is what production
  // wants. A number makes placement repeatable for a test, and lets attackers choose collisions.
  std::optional<std::uint64_t> hash_seed = std::nullopt;

  // What expires_at is compared with. Must outlive the cache. Never null.
  const Clock* clock = &Clock::system();
};

// Errors: kInvalidArgument, with the field's name and range.
Result<void> validate(const Options& options);

// What the caller attaches to an entry; given back by its Handle.
struct EntryMeta {
  // The caller's; 0 means unknown. The cache uses it in erase_older only: insert does not compare.
  std::uint64_t version = 0;

  // From this moment on, on Options::clock, the entry counts as a miss. max(): never.
  TimePoint expires_at = TimePoint::max();

  // The caller's, uninterpreted (for instance: this is a negative entry).
  std::uint32_t flags = 0;

  // The generation() to which the value belongs. A caller that fetches a value notes generation()
  // before it starts: then a clear() in between wins, however late insert is called. nullopt: that
  // of the moment when insert is called.
  std::optional<std::uint64_t> generation = std::nullopt;
};

// A pinned entry. Its bytes stay valid and unchanged while the Handle lives, also after the entry
// was replaced, evicted or cleared and after the cache was destroyed. Costs one atomic increment
// and decrement. Keep it for the length of a request, not for ever: pinned memory is not charged.
//
// Threads: an ordinary value (one thread at a time); it may be moved to, and destroyed on, any
// thread. The accessors need a Handle that is not empty; calling one on an empty Handle aborts.
class Handle {
 public:
  Handle() noexcept = default;
  Handle(Handle&& other) noexcept : entry_(std::exchange(other.entry_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      entry_ = std::exchange(other.entry_, nullptr);
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  // False for a miss, after a move and after reset.
  explicit operator bool() const noexcept { return entry_ != nullptr; }

  [[nodiscard]] std::string_view key() const noexcept;
  // data() is aligned to 8 bytes, also for an empty value, so that words can be read in place.
  [[nodiscard]] std::string_view value() const noexcept;
  [[nodiscard]] std::uint64_t version() const noexcept;
  [[nodiscard]] TimePoint expires_at() const noexcept;
  [[nodiscard]] std::uint32_t flags() const noexcept;
  // LruCache::generation() to which the entry belongs. A reader that must not use what was cleared
  // after its find compares it with the cache's current one.
  [[nodiscard]] std::uint64_t generation() const noexcept;

  // Lets go of the entry; every view of it ends. Frees the memory if it was the last holder.
  void reset() noexcept;

 private:
  friend class LruCache;
  explicit Handle(Entry* pinned) noexcept : entry_(pinned) {}

  Entry* entry_ = nullptr;
};

// Counters since the start, then sizes now. Each entry that went in is still there or left for one
// cause: inserts == entries + replaced + evicted_capacity + evicted_expired + evicted_erased +
// evicted_cleared, in each stripe at each moment.
struct Stats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;   // Expired and cleared entries that find met are misses.
  std::uint64_t inserts = 0;  // Those that were refused are not counted here.
  std::uint64_t replaced = 0;
  std::uint64_t evicted_capacity = 0;  // To make room; also if nobody had noticed it expired.
  std::uint64_t evicted_expired = 0;
  std::uint64_t evicted_erased = 0;  // By erase, erase_older or a refused insert of the same key.
  std::uint64_t evicted_cleared = 0;
  std::uint64_t refused_too_large = 0;
  std::uint64_t refused_overloaded = 0;

  std::uint64_t entries = 0;        // With expired and cleared ones that nothing has met yet.
  std::uint64_t bytes_charged = 0;  // Of those, of the tables and of the stripes.
};

class LruCache {
 public:
  // Errors: kInvalidArgument as from validate; kOverloaded when the memory for the stripes is not
  // to be had.
  static Result<std::unique_ptr<LruCache>> create(const Options& options);
  ~LruCache();
  LruCache(const LruCache&) = delete;
  LruCache& operator=(const LruCache&) = delete;

  // Copies both and puts them in as the most recently used entry, in place of an older entry of
  // the same key. Evicts the least recently used entries of the stripe first, as many as it takes:
  // that is the cost beside O(1), paid in bounded steps between which others can work. If
  // meta.generation is not the current one any more, the call counts as one just before the
  // clear(): it succeeds and changes nothing.
  //
  // Errors, after each of which the key has no entry (an old value must not outlive the attempt to
  // replace it):
  //   kInvalidArgument  the entry's charge is over entry_bytes_max(), or meta.generation has not
  //                     been yet;
  //   kOverloaded       no memory, or other threads kept filling the room that was being made.
  Result<void> insert(std::string_view key, std::string_view value, const EntryMeta& meta = {});

  // The entry, pinned, and now the most recently used of its stripe; or an empty Handle. Entries
  // that have expired (the clock is read once, as the call begins) or were cleared are removed.
  [[nodiscard]] Handle find(std::string_view key);

  // True if there was an entry, which might have expired unnoticed; a cleared one does not count.
  bool erase(std::string_view key);

  // As erase, unless the entry's version is `version` or newer. An entry of unknown version (0) is
  // always erased. For an invalidation that says which version replaced the value.
  bool erase_older(std::string_view key, std::uint64_t version);

  // O(1): moves the generation. Every entry of older ones is dead at once: no find that begins
  // after clear() has returned can return it. The memory comes back as inserts, finds and sweeps
  // meet the dead entries, which are the first to be evicted.
  void clear() noexcept;

  // Starts at 1; each clear() adds one.
  [[nodiscard]] std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_acquire);
  }

  // Looks at up to `entries_max` entries, in pieces of a few dozen under the lock, from where the
  // last call stopped, and removes those that have expired or were cleared; returns how many. Twice
  // the number of entries, or more, covers the whole cache. For a background thread; several at
  // once do no harm.
  std::size_t sweep(std::size_t entries_max);

  // The sum over the stripes, taken one after the other: exact for each, not one instant for all.
  // O(stripes).
  [[nodiscard]] Stats stats() const;

  // The largest charge that one entry may have: what a stripe can hold when its table has its full
  // size and nothing else is in. Constant. An entry's charge is its key and value bytes and about
  // 100 more.
  [[nodiscard]] std::size_t entry_bytes_max() const noexcept { return entry_bytes_max_; }

  [[nodiscard]] std::size_t capacity_bytes_max() const noexcept { return capacity_bytes_max_; }
  // In use, after the halving described at Options::stripes.
  [[nodiscard]] std::size_t stripes() const noexcept { return stripe_mask_ + 1; }

 private:
  struct Place;  // Where a key belongs: its hash and its stripe.

  LruCache(const Options& options, std::size_t stripe_count, std::unique_ptr<Stripe[]> stripes);
  [[nodiscard]] Place place(std::string_view key) const noexcept;
  Error refuse_too_large(std::string_view key, const Place& place, std::size_t charge);
  Error refuse_overloaded(std::string_view key, const Place& place, const char* reason);

  // Constant after construction.
  const Clock& clock_;
  const std::size_t capacity_bytes_max_;
  const std::uint64_t hash_seed_;
  const std::size_t stripe_mask_;
  const std::unique_ptr<Stripe[]> stripes_;
  const std::size_t entry_bytes_max_;

  std::atomic<std::uint64_t> generation_{1};
  std::atomic<std::size_t> sweep_stripe_{0};  // Where sweep goes on.
};

}  // namespace tiercel::l1
