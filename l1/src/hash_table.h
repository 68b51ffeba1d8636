#pragma once

// HashTable: the Refs of one stripe's entries by the hash of their keys. Read without a lock.
//
// A line is 64 bytes, 8 words. Groups are of eight lines: seven are buckets, the eighth is where
// entries go whose bucket is full; if it is full too, those of the three groups beside. A word is
//
//   tag: 32 bits of the hash │ reach: 2 bits, in a bucket's first word │ Ref: 30 bits, 0 if empty
//
// and is replaced as a whole. The bucket is the tag scaled to the number of buckets, tag · n /
// 2^32, so that n may be any number, load is even at all times, and growing never looks at an
// entry. The tag decides nearly always, so a probe touches one line of the table and one entry.
//
// Growing, by an eighth, is done in steps of a few buckets, from the last one down: entries only
// move up, into buckets that were emptied before. Meanwhile an entry is in its old bucket or in its
// new one, never in neither: it is written to the new one first, and a reader looks into the old
// one first. Otherwise an entry moves only from an overflow line into its bucket, when a place
// there becomes free; a reader may just have looked there. So when a reader finds nothing, but
// growing has begun or ended meanwhile or an entry moved back (the table's epoch tells), it looks
// again. It never waits for a writer.
//
// The lines lie below the region's end, line 0 highest, and are never given back. A bucket whose
// line and overflow lines are full takes no more: the cache then evicts one of its entries. The
// table asks to grow from 6 entries a bucket on, from 5 if that has happened; it is rare.
//
// Changes are guarded by the stripe's lock.

#include <algorithm>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>

#include "entry.h"
#include "tiercel/base/sanitizers.h"

#if defined(__SSE2__) && !TIERCEL_TSAN
#include <emmintrin.h>
#define TIERCEL_SSE2 1
#endif

namespace tiercel::l1 {

class HashTable {
 public:
  using Word = std::atomic<std::uint64_t>;
  static constexpr std::size_t kLineWords = 8;
  static constexpr std::uint32_t kGroupBuckets = 7;
  static constexpr std::size_t kGroupBytes = 512;

  struct alignas(64) Line {
    Word words[kLineWords];
  };

  HashTable() = default;
  HashTable(const HashTable&) = delete;
  HashTable& operator=(const HashTable&) = delete;

  // `end`, aligned to 64, is where the region ends. The bytes below it, as many as the groups take,
  // are the table's and hold zeros. The number of groups is always a multiple of 4.
  void init(std::byte* end, std::uint32_t groups) noexcept;

  // --- Readers; any thread.

  // What a reader needs to go on from one candidate to the next.
  class Search {
   public:
    Search(const HashTable& table, std::uint32_t tag) noexcept;
    // The next word with the tag, or 0: there is none. `place` is where it stands.
    [[nodiscard]] std::uint64_t next() noexcept;
    [[nodiscard]] const Word& place() const noexcept { return *place_; }

   private:
    void enter(std::uint32_t bucket) noexcept;

    void begin() noexcept;

    const HashTable* table_;
    std::uint32_t tag_;
    std::uint32_t epoch_ = 0;
    std::uint32_t bucket_ = 0;
    std::uint32_t bucket_later_ = 0;    // To look into after bucket_; the same if there is none.
    std::uint32_t overflow_lines_ = 0;  // Overflow lines to look into,
    std::uint32_t overflow_lines_seen_ = 0;  // and how many of them have been.
    std::uint32_t matches_ = 0;
    const Line* line_ = nullptr;
    const Word* place_ = nullptr;
  };

  // The line in which the tag's entries are, but for those that overflowed, and for a few while the
  // table grows. A guess: what is found there holds, what is not there may be elsewhere.
  [[nodiscard]] const Line& likely_line(std::uint32_t tag) const noexcept {
    std::uint32_t bucket = bucket_of(tag, buckets_old_.load(std::memory_order_acquire));
    if (bucket >= front_.load(std::memory_order_relaxed)) [[unlikely]] {
      bucket = bucket_of(tag, buckets_new_.load(std::memory_order_acquire));
    }
    return line(line_of(bucket));
  }
  // Where the line has a word with the tag, and that word; null: nowhere. The usual way to a hit.
  [[nodiscard]] static const Word* find_in(const Line& line, std::uint32_t tag,
                                           std::uint64_t& word) noexcept {
    const std::uint32_t matches = match(line, tag);
    if (matches == 0) return nullptr;
    const Word& place = line.words[std::countr_zero(matches)];
    word = place.load(std::memory_order_acquire);
    return tag_of(word) == tag && ref_of(word) != kNoRef ? &place : nullptr;
  }

  // After find_in found nothing in the tag's likely line: whether a Search may still find
  // something, whose memory then is on its way.
  [[nodiscard]] bool look_further(std::uint32_t tag) const noexcept {
    const std::uint32_t buckets = buckets_old_.load(std::memory_order_acquire);
    if (buckets != buckets_new_.load(std::memory_order_acquire)) return true;
    const std::uint32_t bucket = bucket_of(tag, buckets);
    const Line& home = line(line_of(bucket));
    if (reach_of(home.words[0].load(std::memory_order_acquire)) == 0) return false;
    __builtin_prefetch(&line(overflow_line_of(bucket, 0)));
    return true;
  }

  static constexpr Ref ref_of(std::uint64_t word) noexcept {
    return static_cast<Ref>(word & kRefMask);
  }
  static constexpr bool same_entry(std::uint64_t word, std::uint64_t other) noexcept {
    return ((word ^ other) & ~kReachMask) == 0;
  }

  // --- The lock's holder.

  // False if neither the bucket nor its overflow line has room.
  [[nodiscard]] bool insert(std::uint32_t tag, Ref ref) noexcept;
  // The Refs in the bucket where the tag belongs, for the choice of one to evict; at most 8.
  [[nodiscard]] std::size_t bucket_refs(std::uint32_t tag, Ref* refs) const noexcept;
  // `ref` must be in, under the tag.
  void replace(std::uint32_t tag, Ref ref, Ref by) noexcept;
  void remove(std::uint32_t tag, Ref ref) noexcept;

  [[nodiscard]] bool is_growing() const noexcept {
    return buckets_new_.load(std::memory_order_relaxed) !=
           buckets_old_.load(std::memory_order_relaxed);
  }
  // How many groups to add, or 0; never while it is growing.
  [[nodiscard]] std::uint32_t groups_wanted() const noexcept;
  // The bytes below the table that the groups take are its own now.
  void begin_growing(std::uint32_t groups) noexcept;
  // Moves a few buckets. An entry that finds no room is taken out: returns how many, and their Refs
  // in `homeless`, which has room for kHomelessMax.
  static constexpr std::size_t kHomelessMax = 64;
  [[nodiscard]] std::size_t grow_step(Ref* homeless) noexcept;

  [[nodiscard]] std::size_t bytes() const noexcept { return std::size_t{groups_} * kGroupBytes; }
  [[nodiscard]] std::uint32_t entries() const noexcept { return entries_; }
  [[nodiscard]] std::uint32_t buckets() const noexcept { return groups_ * kGroupBuckets; }

 private:
  // Which of its overflow lines hold something of this bucket: none, the first, at most the first
  // two, any of the four.
  static constexpr unsigned kReachShift = 30;
  static constexpr std::uint64_t kReachMask = std::uint64_t{3} << kReachShift;
  static constexpr std::uint64_t kRefMask = (std::uint64_t{1} << kReachShift) - 1;
  static constexpr std::uint32_t kBucketsPerStep = 8;
  static constexpr std::uint32_t kEntriesPerBucketMax = 6;
  static constexpr std::uint32_t kEntriesPerBucketCrowded = 5;

  [[nodiscard]] static std::uint32_t bucket_of(std::uint32_t tag, std::uint32_t buckets) noexcept {
    return static_cast<std::uint32_t>(std::uint64_t{tag} * buckets >> 32);
  }
  [[nodiscard]] static std::uint32_t line_of(std::uint32_t bucket) noexcept {
    return bucket + bucket / kGroupBuckets;
  }
  static constexpr std::uint32_t kOverflowLines = 4;
  static constexpr std::size_t kBucketWordsMax = (1 + kOverflowLines) * kLineWords;
  [[nodiscard]] static std::uint32_t overflow_line_of(std::uint32_t bucket,
                                                      std::uint32_t number) noexcept {
    return (bucket / kGroupBuckets ^ number) * 8 + kGroupBuckets;
  }
  [[nodiscard]] static std::uint32_t reach_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>((word & kReachMask) >> kReachShift);
  }
  [[nodiscard]] static std::uint32_t lines_of_reach(std::uint32_t reach) noexcept {
    return reach < 3 ? reach : kOverflowLines;
  }
  [[nodiscard]] static std::uint64_t with_reach(std::uint64_t word, std::uint32_t lines) noexcept {
    return (word & ~kReachMask) | std::uint64_t{std::min(lines, 3U)} << kReachShift;
  }
  // For changes: the bucket's own line, then its overflow lines.
  template <typename F>
  void for_each_line(std::uint32_t bucket, F&& f) const noexcept {
    f(line(line_of(bucket)));
    for (std::uint32_t number = 0; number < kOverflowLines; ++number) {
      f(line(overflow_line_of(bucket, number)));
    }
  }
  [[nodiscard]] static std::uint32_t tag_of(std::uint64_t word) noexcept {
    return static_cast<std::uint32_t>(word >> 32);
  }
  [[nodiscard]] static std::uint64_t make(std::uint32_t tag, Ref ref) noexcept {
    return std::uint64_t{tag} << 32 | ref;
  }
  // Bit i: word i has the tag.
  [[nodiscard]] static std::uint32_t match(const Line& line, std::uint32_t tag) noexcept;

  [[nodiscard]] Line& line(std::uint32_t index) const noexcept {
    return *reinterpret_cast<Line*>(end_ - (std::size_t{index} + 1) * sizeof(Line));
  }
  [[nodiscard]] std::uint32_t home_of(std::uint32_t tag) const noexcept;
  [[nodiscard]] bool place(std::uint32_t bucket, std::uint64_t word) noexcept;
  [[nodiscard]] static Word* find_in(Line& line, std::uint32_t tag, Ref ref) noexcept;
  [[nodiscard]] Word* find(std::uint32_t bucket, std::uint32_t tag, Ref ref) const noexcept;
  [[nodiscard]] Word* overflowed(std::uint32_t bucket, std::uint32_t& number) const noexcept;
  void refresh_reach(std::uint32_t bucket) noexcept;
  void pull_back(std::uint32_t bucket) noexcept;
  void next_epoch() noexcept {
    epoch_.store(epoch_.load(std::memory_order_relaxed) + 1, std::memory_order_release);
  }
  [[nodiscard]] std::size_t move_bucket(std::uint32_t bucket, Ref* homeless) noexcept;

  // Read by readers; the first 24 bytes. Both numbers are the same unless the table is growing. The
  // epoch changes when growing begins, when it ends, and when an entry is pulled back from an
  // overflow line.
  std::byte* end_ = nullptr;  // Constant after init.
  std::atomic<std::uint32_t> buckets_old_{0};
  std::atomic<std::uint32_t> buckets_new_{0};
  std::atomic<std::uint32_t> epoch_{0};
  // Old buckets from here on have been moved; kNoFront unless the table is growing.
  static constexpr std::uint32_t kNoFront = ~std::uint32_t{0};
  std::atomic<std::uint32_t> front_{kNoFront};

  // Read and written under the lock.
  std::uint32_t groups_ = 0;
  std::uint32_t entries_ = 0;
  bool crowded_ = false;  // Some bucket was full since the last growing.
};

// ---------------------------------------------------------------- what readers run

inline std::uint32_t HashTable::match(const Line& line, std::uint32_t tag) noexcept {
#ifdef TIERCEL_SSE2
  // Two words a load; each half of a load is as atomic as a plain load of the word. What it finds
  // is read again as an atomic before it is used.
  const auto* words = reinterpret_cast<const float*>(line.words);
  const __m128i wanted = _mm_set1_epi32(static_cast<int>(tag));
  const auto four = [&](const float* at) {
    const __m128 tags = _mm_shuffle_ps(_mm_load_ps(at), _mm_load_ps(at + 4), 0xDD);
    const __m128i equal = _mm_cmpeq_epi32(_mm_castps_si128(tags), wanted);
    return static_cast<std::uint32_t>(_mm_movemask_ps(_mm_castsi128_ps(equal)));
  };
  const std::uint32_t matches = four(words) | four(words + 8) << 4;
  // What is loaded after this is loaded later: x86 keeps the order of loads, the compiler must.
  std::atomic_signal_fence(std::memory_order_acquire);
  return matches;
#else
  std::uint32_t matches = 0;
  for (std::uint32_t i = 0; i < kLineWords; ++i) {
    const bool equal = tag_of(line.words[i].load(std::memory_order_acquire)) == tag;
    matches |= static_cast<std::uint32_t>(equal) << i;
  }
  return matches;
#endif
}

inline HashTable::Search::Search(const HashTable& table, std::uint32_t tag) noexcept
    : table_(&table), tag_(tag) {
  epoch_ = table_->epoch_.load(std::memory_order_acquire);
  begin();
}

inline void HashTable::Search::begin() noexcept {
  const std::uint32_t buckets_new = table_->buckets_new_.load(std::memory_order_acquire);
  const std::uint32_t buckets_old = table_->buckets_old_.load(std::memory_order_acquire);
  bucket_later_ = bucket_of(tag_, buckets_new);
  enter(bucket_of(tag_, buckets_old));
}

inline void HashTable::Search::enter(std::uint32_t bucket) noexcept {
  bucket_ = bucket;
  line_ = &table_->line(line_of(bucket));
  matches_ = match(*line_, tag_);
  overflow_lines_ = lines_of_reach(reach_of(line_->words[0].load(std::memory_order_acquire)));
  overflow_lines_seen_ = 0;
}

inline std::uint64_t HashTable::Search::next() noexcept {
  for (;;) {
    while (matches_ != 0) {
      place_ = &line_->words[std::countr_zero(matches_)];
      matches_ &= matches_ - 1;
      const std::uint64_t word = place_->load(std::memory_order_acquire);
      if (tag_of(word) == tag_ && ref_of(word) != kNoRef) return word;
    }
    if (overflow_lines_seen_ < overflow_lines_) {
      line_ = &table_->line(overflow_line_of(bucket_, overflow_lines_seen_++));
      matches_ = match(*line_, tag_);
    } else if (bucket_ != bucket_later_) {
      enter(bucket_later_);
    } else if (const std::uint32_t epoch = table_->epoch_.load(std::memory_order_acquire);
               epoch != epoch_) {
      epoch_ = epoch;
      begin();
    } else {
      return 0;
    }
  }
}

}  // namespace tiercel::l1
