#pragma once

// LruCache: the in-process tier. Bytes by key, within an exact budget of bytes, least recently used
// out first (or by an adaptive policy), with a deadline (expires_at) and the caller's version for
// each entry. It knows nothing of Redis, leases or loaders: the `cache` module is built on it, and
// is what most users want. docs/design/l1.md has the design at length, with a picture.
//
// The cache is divided into stripes by the key's hash. Each has a lock for changes, its own order
// of recency and an equal, fixed share of the memory.
//
// Reads (try_get, visit, pin, get_many) take no lock, allocate nothing, make no system call and
// wait for nobody. They write only to the reading thread's own cache lines and, if the entry has
// not been used for a while, a stamp into the entry and its stripe's logical clock: plain stores,
// of which some may get lost between threads. A thread's first read of all registers it, which may
// allocate 64 bytes; they are used again by another thread when it ends.
//
// Changes (insert, erase, erase_older, sweep) take their stripe's lock for a bounded, short time:
// no user code, no system call and no walk over more than a few dozen entries happens under it.
// Calls on one key are linearizable. The lock is a leaf in the lock order.
//
// Why a reader can never see freed memory: hazard pointers (Michael, "Hazard Pointers: Safe Memory
// Reclamation for Lock-Free Objects", 2004). A reader announces an entry before it looks inside and
// then asks again whether the table still leads to it; what has left the table is reused only after
// a barrier on all threads' processors (membarrier(2)) and if nobody has announced it.
//
// Memory: the capacity is one mapping, reserved at the start; pages become resident as they are
// first used. Everything lives in it and is charged: entries with header, padding and slack,
// tables, free lists, the stripes themselves, evicted entries that are not reusable yet or that a
// Handle still pins. Only what the adaptive policy remembers is allocated elsewhere, and charged
// too: so much of the mapping is left unused for it. So neither the sum of charges nor resident
// memory can exceed capacity_bytes_max. Beside its key and value an entry costs 28 bytes, up to 7
// of padding after the key and up to 23 at its end (about 4 on average), 8 more with a version, 16
// more with a deadline; and about 12 in the table.
//
// Example (compiled in tests/l1/lru_cache_test.cc):
//
//   auto cache = LruCache::create({.capacity_bytes_max = 1 << 20});
//   if (!cache) return cache.error();
//   if (auto put = (*cache)->insert("user:7", "Ada", {.version = 3}); !put) log(put.error());
//   (*cache)->visit("user:7", [](const EntryView& hit) { use(hit.value(), hit.version()); });

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::l1 {

struct Entry;
struct HitCounter;
struct ReaderRecord;
class RegionHead;
class Region;
class Stripe;

// kLru: the least recently used entry of a stripe goes first (docs/design/l1.md says how exactly).
// kAdaptive: a policy that learns from the traffic whether recency or frequency pays; resists
// scans; for when the hit ratio matters more than LRU order. A hit costs a little more.
enum class Eviction : std::uint8_t { kLru, kAdaptive };

struct Options {
  // Bytes that all charges together may reach, and resident memory with them. Range 64 KiB to
  // 1 TiB, at most 8 GiB a stripe.
  std::size_t capacity_bytes_max = std::size_t{64} << 20;

  // At most so many stripes: a power of two, range 1 to 4096. The cache halves the number while a
  // stripe would get less than 64 KiB. More lets more threads change things side by side; less
  // allows larger entries (one must fit into a stripe) and an order closer to that of the whole.
  std::size_t stripes = 64;

  Eviction eviction = Eviction::kLru;

  // Asks the kernel for 2 MiB pages: random access over a large cache is up to twice as fast. But
  // then memory becomes resident in pieces of that size, so soon after the start all of it.
  bool huge_pages = true;

  // Seed of the hash. nullopt: from the operating system's entropy, which is what production
  // wants. A number makes placement repeatable for a test, and lets attackers choose collisions.
  std::optional<std::uint64_t> hash_seed = std::nullopt;

  // What expires_at is compared with. Must outlive the cache. Never null. It is read at each hit of
  // an entry that has a deadline, and not for others.
  const Clock* clock = &Clock::system();
};

// Errors: kInvalidArgument, with the field's name and range.
Result<void> validate(const Options& options);

// What the caller attaches to an entry.
struct EntryMeta {
  // The caller's; 0 means unknown. The cache uses it in erase_older only: insert does not compare.
  std::uint64_t version = 0;

  // From this moment on, on Options::clock, the entry counts as a miss. max(): never.
  TimePoint expires_at = TimePoint::max();

  // The caller's, uninterpreted (for instance: this is a negative entry). 0 to kFlagsMax.
  std::uint32_t flags = 0;

  // The generation() to which the value belongs. A caller that fetches a value notes generation()
  // before it starts: then a clear() in between wins, however late insert is called. nullopt: that
  // of the moment when insert is called.
  std::optional<std::uint64_t> generation = std::nullopt;
};

inline constexpr std::uint32_t kFlagsMax = 15;
inline constexpr std::size_t kKeyBytesMax = 65535;

// An entry as its reader sees it: no copy. Valid as long as what gave it out says.
class EntryView {
 public:
  [[nodiscard]] std::string_view key() const noexcept;
  // data() is aligned to 8 bytes, also for an empty value, so that words can be read in place.
  [[nodiscard]] std::string_view value() const noexcept { return value_; }
  [[nodiscard]] std::uint64_t version() const noexcept;
  [[nodiscard]] TimePoint expires_at() const noexcept;
  [[nodiscard]] std::uint32_t flags() const noexcept;
  // LruCache::generation() to which the entry belongs. A reader that must not use what was cleared
  // after its read compares it with the cache's current one.
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

 private:
  friend class LruCache;
  friend class Handle;

  const Entry* entry_ = nullptr;
  std::string_view value_;
  std::uint64_t generation_ = 0;
};

// A pinned entry. Its bytes stay valid and unchanged while the Handle lives, also after the entry
// was replaced, evicted or cleared and after the cache was destroyed. Costs one atomic increment
// and one decrement. Keep it for the length of a request, not for ever: the memory stays charged to
// the cache, which works around it.
//
// Threads: an ordinary value (one thread at a time); it may be moved to, and destroyed on, any
// thread. The accessors need a Handle that is not empty; calling one on an empty Handle is a bug.
class Handle {
 public:
  Handle() noexcept = default;
  Handle(Handle&& other) noexcept
      : view_(std::exchange(other.view_, {})), home_(std::exchange(other.home_, nullptr)) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      view_ = std::exchange(other.view_, {});
      home_ = std::exchange(other.home_, nullptr);
    }
    return *this;
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  ~Handle() { reset(); }

  // False for a miss, after a move and after reset.
  explicit operator bool() const noexcept { return home_ != nullptr; }

  [[nodiscard]] const EntryView& view() const noexcept { return view_; }
  [[nodiscard]] std::string_view key() const noexcept { return view_.key(); }
  [[nodiscard]] std::string_view value() const noexcept { return view_.value(); }
  [[nodiscard]] std::uint64_t version() const noexcept { return view_.version(); }
  [[nodiscard]] TimePoint expires_at() const noexcept { return view_.expires_at(); }
  [[nodiscard]] std::uint32_t flags() const noexcept { return view_.flags(); }
  [[nodiscard]] std::uint64_t generation() const noexcept { return view_.generation(); }

  // Lets go of the entry; every view of it ends.
  void reset() noexcept {
    if (home_ != nullptr) unpin();
  }

 private:
  friend class LruCache;
  void unpin() noexcept;

  EntryView view_;
  RegionHead* home_ = nullptr;
};

// Counters since the start, then sizes now. Each entry that went in is still there or left for one
// cause: inserts == entries + replaced + evicted_capacity + evicted_expired + evicted_erased +
// evicted_cleared, in each stripe at each moment.
struct Stats {
  std::uint64_t hits = 0;
  std::uint64_t misses = 0;   // Expired and cleared entries that a read met are misses.
  std::uint64_t inserts = 0;  // Those that were refused are not counted here.
  std::uint64_t replaced = 0;
  std::uint64_t evicted_capacity = 0;  // To make room; also if nobody had noticed it expired.
  std::uint64_t evicted_expired = 0;
  std::uint64_t evicted_erased = 0;  // By erase, erase_older or a refused insert of the same key.
  std::uint64_t evicted_cleared = 0;
  std::uint64_t refused_too_large = 0;
  std::uint64_t refused_overloaded = 0;

  std::uint64_t entries = 0;        // With expired and cleared ones that nothing has met yet.
  std::uint64_t bytes_charged = 0;  // All charges: see "Memory" above.
};

class LruCache {
 public:
  // Errors: kInvalidArgument as from validate; kOverloaded when the memory is not to be had.
  static Result<std::unique_ptr<LruCache>> create(const Options& options);

  // No call may begin once the destructor has, and all that have begun must be over, but for visits
  // whose visitor is running: they are waited for (so destroying the cache inside its own visit
  // never ends). Handles stay valid. O(entries).
  ~LruCache();
  LruCache(const LruCache&) = delete;
  LruCache& operator=(const LruCache&) = delete;

  // --- Reads. A key that is absent, expired (by the clock, read during the call) or cleared is a
  // --- miss. A hit makes the entry the most recently used.

  // Copies the value into `out` and returns its size. If it is larger than `out`, nothing is copied
  // and the size tells how much it takes. nullopt: a miss.
  [[nodiscard]] std::optional<std::size_t> try_get(std::string_view key,
                                                   std::span<char> out) noexcept {
    const std::size_t size = copy(key, out);
    return size == kMiss ? std::nullopt : std::optional{size};
  }

  // Calls visitor(const EntryView&) on a hit, on this thread, and returns true. The view and its
  // spans are valid during the call only. The visitor may use this cache and others (insert
  // included); what it throws comes out of here. While it runs, the entry's memory cannot be
  // reused, so it should be quick; nothing else is held up.
  template <typename Visitor>
  bool visit(std::string_view key, Visitor&& visitor) {
    const Reading reading{*this, key};
    if (!reading) return false;
    std::forward<Visitor>(visitor)(reading.view());
    return true;
  }

  // The entry, pinned, or an empty Handle.
  [[nodiscard]] Handle pin(std::string_view key) noexcept;

  // visit for each of `keys`: visitor(index, const EntryView&) for each hit, in the order of the
  // keys; returns the number of hits. While one is read, the memory of up to 16 that follow is on
  // its way, so that their latencies overlap. Not one moment for all keys. Hits and misses are
  // counted when it returns.
  template <typename Visitor>
  std::size_t get_many(std::span<const std::string_view> keys, Visitor&& visitor) {
    BatchReading reading{*this, keys};
    for (std::size_t i = 0; i < keys.size(); ++i) {
      if (reading.read(i)) visitor(i, reading.view());
    }
    return reading.hits();
  }

  // --- Changes.

  // Copies both and puts them in as the most recently used entry, in place of an older entry of
  // the same key. Entries are evicted before, as many as it takes: that is the cost beside O(1),
  // paid in bounded steps between which others can work. If meta.generation is not the current one
  // any more, the call counts as one just before the clear(): it succeeds and changes nothing.
  //
  // Errors, after each of which the key has no entry (an old value must not outlive the attempt to
  // replace it):
  //   kInvalidArgument  the entry's charge is over entry_bytes_max(), the key over kKeyBytesMax,
  //                     the flags over kFlagsMax, or meta.generation has not been yet;
  //   kOverloaded       Handles or visits hold the memory that is needed, or other threads kept
  //                     filling the room that was being made.
  Result<void> insert(std::string_view key, std::string_view value, const EntryMeta& meta = {});

  // True if there was an entry, which might have expired unnoticed; a cleared one does not count.
  bool erase(std::string_view key);

  // As erase, unless the entry's version is `version` or newer. An entry of unknown version (0) is
  // always erased. For an invalidation that says which version replaced the value.
  bool erase_older(std::string_view key, std::uint64_t version);

  // O(1): moves the generation. Every entry of older ones is dead at once: no read that begins
  // after clear() has returned can return it. The memory comes back as inserts and sweeps meet the
  // dead entries, which are the first to be evicted.
  void clear() noexcept;

  // Starts at 1; each clear() adds one.
  [[nodiscard]] std::uint64_t generation() const noexcept {
    return generation_.load(std::memory_order_acquire);
  }

  // Removes up to `entries_max` entries that have expired or were cleared, O(1) each, in pieces of
  // a few dozen under the lock; returns how many. What has expired is found at once if its deadline
  // is near, later (about an eighth of its whole life, if sweep is called regularly) if that was
  // long: reads are exact, this only gives memory back. For a background thread; several at once do
  // no harm.
  std::size_t sweep(std::size_t entries_max);

  // The sum over the stripes, taken one after the other: exact for each, not one instant for all.
  // Hits and misses are counted by each thread for itself. O(stripes).
  [[nodiscard]] Stats stats() const;

  // The largest charge that one entry may have: half of a stripe's share. Constant.
  [[nodiscard]] std::size_t entry_bytes_max() const noexcept { return entry_bytes_max_; }

  [[nodiscard]] std::size_t capacity_bytes_max() const noexcept { return capacity_bytes_max_; }
  // In use, after the halving described at Options::stripes.
  [[nodiscard]] std::size_t stripes() const noexcept { return stripe_mask_ + 1; }

  // Whether the inside is as it should be: tables, lists and memory agree. Holds up changes.
  // O(entries); for tests.
  [[nodiscard]] bool check() const;

 private:
  static constexpr std::size_t kMiss = ~std::size_t{0};  // No value is as large.

  struct Place;  // Where a key belongs: its tag and its stripe.

  // What is known about a key before its entry is read.
  struct Probe {
    Stripe* stripe;
    std::uint32_t tag;
    const std::atomic<std::uint64_t>* place;  // Where it is likely to be, or null,
    std::uint64_t word;                       // and what stood there.
  };

  // Where a thread announces what it reads while user code runs. One thread's are nested, so its
  // last one ends first. Without one, if visits are nested too deep, entries are pinned instead.
  class VisitSlot {
   public:
    explicit VisitSlot(ReaderRecord& thread) noexcept;
    VisitSlot(const VisitSlot&) = delete;
    VisitSlot& operator=(const VisitSlot&) = delete;
    ~VisitSlot();

    [[nodiscard]] ReaderRecord& thread() const noexcept { return thread_; }
    [[nodiscard]] bool is_there() const noexcept { return slot_ != nullptr; }
    [[nodiscard]] std::atomic<const void*>& slot() const noexcept { return *slot_; }

   private:
    ReaderRecord& thread_;
    std::atomic<const void*>* slot_;
  };

  // Holds an entry for the length of a visit.
  class Reading {
   public:
    Reading(LruCache& cache, std::string_view key) noexcept;
    explicit operator bool() const noexcept { return view_.entry_ != nullptr; }
    [[nodiscard]] const EntryView& view() const noexcept { return view_; }

   private:
    const VisitSlot slot_;
    Handle pin_;  // What holds it where there is no slot.
    const EntryView view_;
  };

  // Holds one entry of many after the other, while the memory of those to come is on its way.
  class BatchReading {
   public:
    BatchReading(LruCache& cache, std::span<const std::string_view> keys) noexcept;
    BatchReading(const BatchReading&) = delete;
    BatchReading& operator=(const BatchReading&) = delete;
    ~BatchReading();

    // The i-th key, from 0 on one after the other; lets go of the one before. False: a miss.
    [[nodiscard]] bool read(std::size_t i) noexcept;
    [[nodiscard]] const EntryView& view() const noexcept { return view_; }
    [[nodiscard]] std::size_t hits() const noexcept { return hits_; }

   private:
    // How many keys ahead of its reading a key is hashed and its line of the table fetched; the
    // line read and the entry fetched; and the same once more, if the line led to another one.
    static constexpr std::size_t kHashAhead = 16;
    static constexpr std::size_t kEntryAhead = 10;
    static constexpr std::size_t kFurtherAhead = 5;

    [[nodiscard]] Probe& probe(std::size_t i) noexcept { return probes_[i % kHashAhead]; }
    void fetch_line(std::size_t i) noexcept;
    void fetch_entry(std::size_t i) noexcept;
    void fetch_entry_further(std::size_t i) noexcept;

    LruCache& cache_;
    const std::span<const std::string_view> keys_;
    // Lets the cache's destructor wait for the batch, also while it holds no entry.
    const VisitSlot in_use_;
    const VisitSlot slot_;
    Handle pin_;
    EntryView view_;
    std::size_t hits_ = 0;
    std::size_t misses_ = 0;
    Probe probes_[kHashAhead];
  };

  LruCache(const Options& options, Region& region, std::size_t stripe_count);
  [[nodiscard]] Place place(std::string_view key) const noexcept;
  [[nodiscard]] Probe probe(std::string_view key) const noexcept;
  [[nodiscard]] bool is_live(const Entry& entry, std::uint64_t& current) const noexcept;
  [[nodiscard]] const Entry* find(const Probe& probe, std::string_view key,
                                  std::atomic<const void*>& slot,
                                  std::uint64_t& current) const noexcept;
  [[nodiscard]] const Entry* find_briefly(const Probe& probe, std::string_view key,
                                          ReaderRecord& thread,
                                          std::uint64_t& current) const noexcept;
  [[nodiscard]] EntryView find_for_visit(const Probe& probe, std::string_view key,
                                         const VisitSlot& slot, Handle& pin) const noexcept;
  [[nodiscard]] static EntryView view_of(const Entry& entry, std::uint64_t current) noexcept;
  [[nodiscard]] static Handle pin_announced(const EntryView& view, Stripe& stripe,
                                            std::atomic<const void*>& slot) noexcept;
  // try_get; kMiss for a miss. (An optional would be put together in memory here, byte by byte,
  // and read as words, which stalls.)
  [[nodiscard]] std::size_t copy(std::string_view key, std::span<char> out) noexcept;
  Error refuse_too_large(std::string_view key, const Place& place, std::size_t charge);

  // Constant after construction. What the pointers lead to lies in the region.
  const Clock& clock_;
  const std::size_t capacity_bytes_max_;
  const std::uint64_t hash_seed_;
  const std::size_t stripe_mask_;
  Region& region_;
  Stripe* const stripes_;
  HitCounter* const counters_;
  const std::size_t stripe_bytes_;
  const std::size_t entry_bytes_max_;

  alignas(64) std::atomic<std::uint64_t> generation_{1};
  std::atomic<std::size_t> sweep_stripe_{0};  // Where sweep goes on.
};

}  // namespace tiercel::l1
