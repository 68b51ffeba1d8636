#include "hash_table.h"

#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l1 {
namespace {

// An insert adds one entry and splits up to so many buckets, so that a table which fell behind
// (no memory for a segment) catches up.
constexpr int kSplitsPerInsertMax = 2;

}  // namespace

HashTable::~HashTable() {
  for (std::size_t i = 0; i < segments_; ++i) std::free(directory_[i]);
}

bool HashTable::init(std::size_t entries_max) noexcept {
  segments_max_ = entries_max / kSegmentBuckets + 1;
  directory_ = allocate_zeroed<Segment*[]>(segments_max_);
  auto first = allocate_zeroed<Segment>();
  if (directory_ == nullptr || first == nullptr) return false;

  const std::size_t segment_charge = allocation_charge(first.get());
  charge_ = allocation_charge(directory_.get()) + segment_charge;
  charge_max_ = charge_ + (segments_max_ - 1) * segment_charge;
  directory_[0] = first.release();
  segments_ = 1;
  buckets_ = kSegmentBuckets;
  level_ = kSegmentBuckets;
  return true;
}

std::size_t HashTable::bucket_of(std::uint64_t hash) const noexcept {
  const std::size_t index = hash & (2 * level_ - 1);
  return index < buckets_ ? index : index & (level_ - 1);
}

Entry* HashTable::find(std::uint64_t hash, std::string_view key) const noexcept {
  Entry* entry = bucket(bucket_of(hash));
  while (entry != nullptr && (entry->hash != hash || entry->key() != key)) {
    entry = entry->hash_next;
  }
  return entry;
}

void HashTable::insert(Entry* entry) noexcept {
  Entry*& head = bucket(bucket_of(entry->hash));
  entry->hash_next = head;
  head = entry;
  ++entries_;
  for (int i = 0; i < kSplitsPerInsertMax; ++i) {
    if (entries_ <= buckets_ || buckets_ == segments_ * kSegmentBuckets) return;
    split_one();
  }
}

void HashTable::remove(const Entry* entry) noexcept {
  Entry** link = &bucket(bucket_of(entry->hash));
  while (*link != entry) {
    TIERCEL_CHECK(*link != nullptr);
    link = &(*link)->hash_next;
  }
  *link = entry->hash_next;
  --entries_;
}

void HashTable::add_segment(MallocPtr<Segment> segment) noexcept {
  TIERCEL_CHECK(wants_segment());
  charge_ += allocation_charge(segment.get());
  directory_[segments_++] = segment.release();
}

void HashTable::split_one() noexcept {
  const std::size_t target = buckets_;
  Entry** from = &bucket(target - level_);
  Entry** to = &bucket(target);
  while (Entry* entry = *from) {
    if ((entry->hash & (2 * level_ - 1)) == target) {
      *from = entry->hash_next;
      *to = entry;
      to = &entry->hash_next;
    } else {
      from = &entry->hash_next;
    }
  }
  *to = nullptr;
  ++buckets_;
  if (buckets_ == 2 * level_) level_ = buckets_;
}

}  // namespace tiercel::l1
