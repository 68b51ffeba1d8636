#pragma once

// HashTable: the entries of one stripe by key. Chained and intrusive; grows by linear hashing
// (Litwin, 1980; Larson, "Dynamic hash tables", 1988): one bucket is split at a time, so no
// operation ever rehashes more than two chains. Buckets come in segments of constant size. A
// directory, sized once for the most entries that the stripe can hold, points to the segments;
// nothing is ever copied or moved.
//
// The table allocates nothing after init: when wants_segment() says so its owner, who holds the
// lock, allocates a segment outside of it and hands it in. Without one the chains get longer, that
// is all. The table does not shrink: at its full size it is about a tenth of the stripe.
//
// Not thread-safe: guarded by the stripe's lock. The entries are the stripe's, the segments its.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "entry.h"
#include "memory.h"

namespace tiercel::l1 {

class HashTable {
 public:
  static constexpr std::size_t kSegmentBuckets = 64;
  struct Segment {
    Entry* buckets[kSegmentBuckets];
  };

  HashTable() = default;
  HashTable(const HashTable&) = delete;
  HashTable& operator=(const HashTable&) = delete;
  ~HashTable();

  // Once, before anything else. False when there is no memory.
  [[nodiscard]] bool init(std::size_t entries_max) noexcept;

  [[nodiscard]] Entry* find(std::uint64_t hash, std::string_view key) const noexcept;
  // The key must not be in.
  void insert(Entry* entry) noexcept;
  // The entry must be in.
  void remove(const Entry* entry) noexcept;

  // More entries than buckets, and no bucket left to split into.
  [[nodiscard]] bool wants_segment() const noexcept {
    return entries_ > buckets_ && buckets_ == segments_ * kSegmentBuckets &&
           segments_ < segments_max_;
  }
  // Only when wants_segment(). The charge rises by allocation_charge of the segment.
  void add_segment(MallocPtr<Segment> segment) noexcept;

  [[nodiscard]] std::size_t charge() const noexcept { return charge_; }
  // At the full size.
  [[nodiscard]] std::size_t charge_max() const noexcept { return charge_max_; }
  [[nodiscard]] std::size_t entries() const noexcept { return entries_; }
  [[nodiscard]] std::size_t buckets() const noexcept { return buckets_; }
  [[nodiscard]] std::size_t bucket_of(std::uint64_t hash) const noexcept;

 private:
  [[nodiscard]] Entry*& bucket(std::size_t index) const noexcept {
    return directory_[index / kSegmentBuckets]->buckets[index % kSegmentBuckets];
  }
  void split_one() noexcept;

  // Constant after init.
  MallocPtr<Segment*[]> directory_;
  std::size_t segments_max_ = 0;
  std::size_t charge_max_ = 0;

  std::size_t segments_ = 0;
  std::size_t buckets_ = 0;  // In use; level_ <= buckets_ < 2 * level_.
  std::size_t level_ = 0;    // A power of two: buckets below buckets_ - level_ have been split.
  std::size_t entries_ = 0;
  std::size_t charge_ = 0;
};

}  // namespace tiercel::l1
