#pragma once

// Shadow: a cache of keys without values, small, that follows one mode for good. It runs the same
// code as the cache, on the accesses whose hash falls into the sample, and so tells what the mode
// would be worth there ("miniature simulation": Waldspurger, Saemundsson, Ahmad and Park, ATC '17).
//
// A key is its hash of 32 bits; two keys of one hash are one key here, which is rare enough.

#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "modal_order.h"

namespace tiercel::l1 {

struct ShadowNode {
  std::uint16_t newer = 0;
  std::uint16_t older = 0;
  std::uint16_t chain = 0;  // The next in the same bucket, or the next free node.
  std::uint8_t number = 0;
  std::uint32_t hash = 0;
  std::atomic<std::uint32_t> hint{0};  // Like an entry's, though nobody else looks.

  [[nodiscard]] std::uint8_t list() const noexcept { return number; }
  void set_list(std::uint8_t list) noexcept { number = list; }
};
static_assert(sizeof(ShadowNode) == 16);

class Shadow {
 public:
  explicit Shadow(Mode mode) noexcept
      : plain_lru_(mode.window_percent == 0), order_(nodes_, mode) {}
  Shadow(const Shadow&) = delete;
  Shadow& operator=(const Shadow&) = delete;

  // Once, before anything else, with a power of 2 from 16 to 1024; false when there is no memory.
  [[nodiscard]] bool init(std::size_t entries) noexcept {
    const std::size_t entries_max = capacity_max(entries);
    nodes_.nodes.reset(new (std::nothrow) ShadowNode[entries_max + 1]);  // None is number 0.
    buckets_.reset(new (std::nothrow) std::uint16_t[entries]());
    if (nodes_.nodes == nullptr || buckets_ == nullptr) return false;
    bucket_shift_ = 32U - static_cast<unsigned>(std::countr_zero(entries));
    for (std::size_t ref = entries_max; ref > 0; --ref) release(static_cast<std::uint16_t>(ref));
    bytes_ = (entries_max + 1) * sizeof(ShadowNode) + entries * sizeof(std::uint16_t);
    if (plain_lru_) return true;  // Asks nothing of history.
    while (const std::size_t lines = order_.history().lines_wanted(entries)) {
      std::unique_ptr<HistoryLine[]> piece{new (std::nothrow) HistoryLine[lines]};
      if (piece == nullptr) return false;
      order_.history().add_piece(std::move(piece));
    }
    bytes_ += order_.history().bytes();
    return true;
  }

  // A quarter more than the name says, for samples that are larger than chance has it.
  [[nodiscard]] static constexpr std::size_t capacity_max(std::size_t entries) noexcept {
    return entries + entries / 4;
  }

  // At least what bytes() will be.
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t entries) noexcept {
    return (capacity_max(entries) + 1) * sizeof(ShadowNode) + entries * sizeof(std::uint16_t) +
           (entries / 8 + 4) * sizeof(HistoryLine);
  }
  // Beside the object itself.
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  // True for a hit. The shadow is to hold `capacity` keys, from 1 to capacity_max().
  bool access(std::uint32_t hash, std::uint32_t now, std::size_t capacity) noexcept {
    std::uint16_t& bucket = bucket_of(hash);
    for (std::uint16_t ref = bucket; ref != 0; ref = nodes_[ref].chain) {
      ShadowNode& node = nodes_[ref];
      if (node.hash != hash) continue;
      const std::uint32_t hint = node.hint.load(std::memory_order_relaxed);
      node.hint.store(Hint::used(hint, now), std::memory_order_relaxed);
      return true;
    }
    // Two, so that it shrinks when the capacity does, but never for long at once.
    for (int i = 0; i < 2 && order_.entries() >= capacity; ++i) evict(now);
    const std::uint16_t ref = free_;
    if (ref == 0) return false;
    ShadowNode& node = nodes_[ref];
    free_ = node.chain;
    node.hash = hash;
    node.chain = bucket;
    bucket = ref;
    order_.insert(ref, now);
    return false;
  }

 private:
  struct Nodes {
    ShadowNode& operator[](std::uint32_t ref) const noexcept { return nodes[ref]; }
    [[nodiscard]] std::uint32_t hash32(std::uint32_t ref) const noexcept { return nodes[ref].hash; }
    std::unique_ptr<ShadowNode[]> nodes;
  };

  // The sample is chosen by the low bits of the hash, so those say nothing here.
  std::uint16_t& bucket_of(std::uint32_t hash) const noexcept {
    return buckets_[(hash * 0x9E3779B1U) >> bucket_shift_];
  }

  void evict(std::uint32_t now) noexcept {
    const auto ref = static_cast<std::uint16_t>(order_.victim(now));
    std::uint16_t* at = &bucket_of(nodes_[ref].hash);
    while (*at != ref) at = &nodes_[*at].chain;
    *at = nodes_[ref].chain;
    order_.evicted(ref);
    release(ref);
  }

  void release(std::uint16_t ref) noexcept {
    nodes_[ref].chain = free_;
    free_ = ref;
  }

  Nodes nodes_;
  std::unique_ptr<std::uint16_t[]> buckets_;
  unsigned bucket_shift_ = 0;
  std::uint16_t free_ = 0;
  std::size_t bytes_ = 0;
  bool plain_lru_;
  ModalOrder<Nodes, 16> order_;  // 16 pieces of lines are enough for 3,840 entries.
};

}  // namespace tiercel::l1
