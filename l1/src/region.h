#pragma once

// Region: the mapping that holds a whole cache, and RegionHead: where a stripe's pinned entries go
// when their last Handle ends. Both outlive the cache while Handles do.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "entry.h"

namespace tiercel::l1 {

class Region {
 public:
  // `bytes` of zeroed memory, not resident yet; null if there is no such address space. Starts with
  // one holder.
  [[nodiscard]] static Region* create(std::size_t bytes, bool huge_pages) noexcept;
  Region(const Region&) = delete;
  Region& operator=(const Region&) = delete;

  [[nodiscard]] std::byte* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }

  void hold(std::size_t times) noexcept { holders_.fetch_add(times, std::memory_order_relaxed); }
  // The last holder unmaps and deletes.
  void release(std::size_t times = 1) noexcept;

 private:
  Region(std::byte* data, std::size_t bytes, std::size_t mapped_bytes, std::byte* mapped) noexcept
      : data_(data), bytes_(bytes), mapped_bytes_(mapped_bytes), mapped_(mapped) {}
  ~Region() = default;

  std::byte* const data_;
  const std::size_t bytes_;
  const std::size_t mapped_bytes_;
  std::byte* const mapped_;
  std::atomic<std::size_t> holders_{1};
};

// A stack without a lock: any thread pushes, the stripe's lock holder takes all at once. Linked by
// `hint`, which no reader touches in an orphan: it left the table, and nobody had announced it.
class alignas(64) RegionHead {
 public:
  RegionHead(Region& region, Blocks blocks) noexcept : region_(region), blocks_(blocks) {}

  [[nodiscard]] const Blocks& blocks() const noexcept { return blocks_; }

  // Of an orphan whose last Handle has ended.
  void give_back(const Entry& entry) noexcept;
  // All that were given back, linked by `hint`; kNoRef ends the chain.
  [[nodiscard]] Ref take_all() noexcept {
    if (returned_.load(std::memory_order_relaxed) == kNoRef) return kNoRef;
    return returned_.exchange(kNoRef, std::memory_order_acquire);
  }
  // From now on what is given back releases the region instead; what was given back before.
  [[nodiscard]] Ref close() noexcept {
    return returned_.exchange(kClosed, std::memory_order_acq_rel);
  }

 private:
  static constexpr Ref kClosed = ~Ref{0};

  Region& region_;
  const Blocks blocks_;
  std::atomic<Ref> returned_{kNoRef};
};

}  // namespace tiercel::l1
