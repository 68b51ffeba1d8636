#pragma once

// EvictionOrder: who of a stripe goes next, by one of the two policies. Guarded by the stripe's
// lock, but for what readers are given.

#include <cstdint>
#include <memory>
#include <new>

#include "adaptive_order.h"
#include "entry.h"
#include "key_hash.h"
#include "lru_order.h"

namespace tiercel::l1 {

// The nodes of an AdaptiveOrder: a stripe's entries.
struct HashedBlocks {
  Blocks blocks;
  std::uint64_t hash_seed;

  [[nodiscard]] Entry& operator[](Ref ref) const noexcept { return blocks[ref]; }
  [[nodiscard]] std::uint32_t hash32(Ref ref) const noexcept {
    return static_cast<std::uint32_t>(key_hash(blocks[ref].key(), hash_seed));
  }
};

class EvictionOrder {
 public:
  using Adaptive = AdaptiveOrder<HashedBlocks>;

  // Falls back to LRU if there is no memory for the other.
  EvictionOrder(Blocks blocks, Ref sentinels, std::uint64_t hash_seed, LogicalClock& clock,
                Eviction policy) noexcept
      : nodes_{blocks, hash_seed}, clock_(clock), lru_(blocks, sentinels, clock) {
    if (policy == Eviction::kAdaptive) adaptive_.reset(new (std::nothrow) Adaptive{nodes_});
  }

  [[nodiscard]] bool is_adaptive() const noexcept { return adaptive_ != nullptr; }
  // Only if is_adaptive().
  [[nodiscard]] Adaptive& adaptive() const noexcept { return *adaptive_; }

  [[nodiscard]] std::uint32_t entries() const noexcept {
    return adaptive_ ? static_cast<std::uint32_t>(adaptive_->entries()) : lru_.entries();
  }
  [[nodiscard]] std::uint32_t window() const noexcept {
    return adaptive_ ? entries() / 16 : lru_.window();
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return adaptive_ ? adaptive_->bytes() : 0; }

  void insert(Ref ref) noexcept {
    adaptive_ ? adaptive_->insert(ref, clock_.tick()) : lru_.insert(ref);
  }
  // `ref` takes over from `old`, which had the same key.
  void replace(Ref old, Ref ref) noexcept {
    if (adaptive_) return adaptive_->replace(old, ref, clock_.tick());
    lru_.remove(old);
    lru_.insert(ref);
  }
  void remove(Ref ref) noexcept { adaptive_ ? adaptive_->remove(ref) : lru_.remove(ref); }
  void evicted(Ref ref) noexcept { adaptive_ ? adaptive_->evicted(ref) : lru_.remove(ref); }
  // To the newest end, because it cannot go now.
  void requeue(Ref ref) noexcept {
    if (adaptive_) return adaptive_->requeue(ref, clock_.tick());
    lru_.remove(ref);
    lru_.insert(ref);
  }

  // Who goes next. kNoRef: there is nobody, or ask again (see LruOrder). Entries of another
  // generation than the given one go first.
  [[nodiscard]] Ref victim(std::uint32_t generation) noexcept {
    if (!adaptive_) return lru_.victim(generation);
    const Ref old = oldest_of_older_generation(generation);
    return old != kNoRef ? old : adaptive_->victim(clock_.latest());
  }
  // An entry of another generation, or kNoRef: at the old end of some list. Remembers when there
  // was none.
  [[nodiscard]] Ref oldest_of_older_generation(std::uint32_t generation) noexcept {
    if (generation == settled_generation_) return kNoRef;
    const Ref ref = adaptive_ ? adaptive_->lists().oldest_that(
                                    [&](Ref at) { return nodes_[at].generation != generation; })
                              : lru_.oldest_of_older_generation(generation);
    if (ref == kNoRef) settled_generation_ = generation;
    return ref;
  }
  // For prefetching: what victim() is likely to look at next.
  [[nodiscard]] Ref next_oldest() const noexcept { return adaptive_ ? kNoRef : lru_.next_oldest(); }

  template <typename F>
  void for_each(F&& f) const {
    adaptive_ ? adaptive_->lists().for_each(f) : lru_.for_each(f);
  }

 private:
  HashedBlocks nodes_;
  LogicalClock& clock_;
  LruOrder lru_;
  std::unique_ptr<Adaptive> adaptive_;
  std::uint32_t settled_generation_ = 0;
};

}  // namespace tiercel::l1
