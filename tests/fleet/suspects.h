#pragma once

// Suspects: reads that look wrong but can be judged only at the end, when it is known which writes
// were lost with the old master. Reads that missed the same writes share a slot and are counted, so
// that a table of fixed size holds a whole run; what does not fit is counted too, and must be taken
// for wrong.
//
// Lives in zeroed shared memory. report() from any thread of any process, without a lock.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tiercel::fleet {

class Suspects {
 public:
  static constexpr std::size_t kSlots = std::size_t{1} << 16;

  // `what` says which writes were missed, in the caller's own way; not 0.
  void report(std::uint64_t what) noexcept;

  [[nodiscard]] std::uint64_t overflowed() const noexcept {
    return overflowed_.load(std::memory_order_relaxed);
  }

  // visit(what, reads)
  template <typename Visit>
  void for_each(Visit&& visit) const {
    for (const Slot& slot : slots_) {
      const std::uint64_t what = slot.what.load(std::memory_order_acquire);
      if (what != 0) visit(what, slot.reads.load(std::memory_order_relaxed));
    }
  }

 private:
  static constexpr std::size_t kProbesMax = 64;

  struct Slot {
    std::atomic<std::uint64_t> what;  // 0: free. Set once.
    std::atomic<std::uint64_t> reads;
  };

  std::array<Slot, kSlots> slots_;
  std::atomic<std::uint64_t> overflowed_;
};

}  // namespace tiercel::fleet
