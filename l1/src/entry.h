#pragma once

// Entry: header, value bytes, key bytes in one block from malloc. The value comes first because
// there it is aligned without padding.
//
// Invariants:
//   - `references` counts the cache (one, while the entry is in a stripe or on its way in or out)
//     and each Handle. Who takes it to 0 frees the block. It rises from 1 only under the stripe's
//     lock, while the cache's own reference stands, so never from 0.
//   - hash_next and the links belong to the stripe and are touched under its lock; once the entry
//     has left the stripe hash_next belongs to the DeadList that it is on. Handles touch neither.
//   - Everything else is constant from create on, and so may be read by any holder without a lock.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {

// Intrusive circular list with a sentinel: sentinel.older is the newest entry, sentinel.newer the
// oldest.
struct LruLinks {
  LruLinks* newer = this;
  LruLinks* older = this;
};

struct Entry : LruLinks {
  Entry* hash_next = nullptr;
  std::uint64_t hash = 0;
  std::uint64_t version = 0;
  TimePoint expires_at = TimePoint::max();
  std::uint64_t generation = 0;
  std::size_t key_bytes = 0;
  std::size_t value_bytes = 0;
  std::atomic<std::uint32_t> references{1};  // 2^32 Handles of one entry would fill 32 GiB.
  std::uint32_t flags = 0;

  // With one reference, the caller's. Null when there is no memory.
  [[nodiscard]] static Entry* create(std::uint64_t hash, std::string_view key,
                                     std::string_view value, const EntryMeta& meta,
                                     std::uint64_t generation) noexcept;

  // A lower bound of the charge of such an entry, known before it is built.
  [[nodiscard]] static constexpr std::size_t charge_min(std::size_t key_bytes,
                                                        std::size_t value_bytes) noexcept;

  [[nodiscard]] std::string_view value() const noexcept {
    return {reinterpret_cast<const char*>(this + 1), value_bytes};
  }
  [[nodiscard]] std::string_view key() const noexcept {
    return {reinterpret_cast<const char*>(this + 1) + value_bytes, key_bytes};
  }
  [[nodiscard]] std::size_t charge() const noexcept;

  void acquire() noexcept { references.fetch_add(1, std::memory_order_relaxed); }
  void release() noexcept;
};

constexpr std::size_t Entry::charge_min(std::size_t key_bytes, std::size_t value_bytes) noexcept {
  return sizeof(Entry) + sizeof(std::size_t) + key_bytes + value_bytes;
}

static_assert(sizeof(Entry) % 8 == 0, "value bytes follow the header and are aligned to 8");

// Entries that have left a stripe. Declare it before the lock is taken: its destructor drops the
// cache's references, and so frees memory, after the lock was released.
class DeadList {
 public:
  DeadList() = default;
  DeadList(const DeadList&) = delete;
  DeadList& operator=(const DeadList&) = delete;
  ~DeadList();

  void push(Entry* entry) noexcept {
    entry->hash_next = head_;
    head_ = entry;
  }

 private:
  Entry* head_ = nullptr;
};

}  // namespace tiercel::l1
