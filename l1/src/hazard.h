#pragma once

// Hazard pointers (Michael 2004): how readers without a lock keep the memory that they look at from
// being reused, and how writers learn that nobody looks any more.
//
//   Reader                                       Writer
//   1 word = slot of the table                   1 slot of the table = something else
//   2 slots[depth] = entry of word               2 retired_at = epoch()
//   3 compiler barrier                           3 barrier(), by whoever needs memory
//   4 is the slot of the table still word?       4 passed(retired_at)? announced? else reuse
//     no: begin again. yes: use the entry
//   5 slots[depth] = null
//
// Between 2 and 4 a reader would need a store-load fence, some 20 ns and the end of overlapped
// cache misses. Instead the writer makes all processors that run this process execute one
// (membarrier(2), MEMBARRIER_CMD_PRIVATE_EXPEDITED: 0.4 to 10 us), for hundreds of retired entries
// at once: an asymmetric fence, as in folly's hazptr and userspace RCU. After it, a reader that
// passed its step 4 before has its step 2 visible, and one that comes to step 4 later sees the
// writer's step 1. Where the kernel has no membarrier, readers pay for the fence.
//
// Records are one a thread, for the whole process: whoever reuses memory asks all of them. They are
// recycled when a thread ends and never freed.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace tiercel::l1 {

struct alignas(64) ReaderRecord {
  static constexpr std::uint32_t kVisitsMax = 4;  // Nested in each other; deeper ones pin.

  // The last one is for moments without user code in them.
  std::atomic<const void*> slots[kVisitsMax + 1] = {};
  std::uint32_t depth = 0;       // Visits under way; the owning thread's.
  std::uint32_t id = 0;          // Constant. Dense, from 0.
  ReaderRecord* next = nullptr;  // Constant once published.
  std::atomic<bool> taken{true};

  [[nodiscard]] std::atomic<const void*>& brief_slot() noexcept { return slots[kVisitsMax]; }
};

namespace hazard {

// The calling thread's record. Null until its first use.
extern constinit thread_local ReaderRecord* t_record __attribute__((tls_model("initial-exec")));
extern constinit std::atomic<bool> g_fences_needed;
[[nodiscard]] ReaderRecord* register_thread() noexcept;

[[nodiscard]] inline ReaderRecord& this_thread() noexcept {
  ReaderRecord* record = t_record;
  return record != nullptr ? *record : *register_thread();
}

// Step 2 and 3 of a reader. All stores are releases, so that whoever reads any of them also sees
// that the earlier entry is not used any more.
inline void announce(std::atomic<const void*>& slot, const void* entry) noexcept {
  if (g_fences_needed.load(std::memory_order_relaxed)) [[unlikely]] {
    slot.exchange(entry, std::memory_order_seq_cst);
    return;
  }
  slot.store(entry, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
}
inline void withdraw(std::atomic<const void*>& slot) noexcept {
  slot.store(nullptr, std::memory_order_release);
}

// Barriers are numbered.
using Epoch = std::uint64_t;
// The number of barriers begun so far. To be asked after the entry has left the table.
[[nodiscard]] Epoch epoch() noexcept;
// The latest barrier that is complete. To be asked before the announcements are read: one that
// completes after that proves nothing. What was retired before it, at a lower epoch(), has passed.
[[nodiscard]] Epoch completed() noexcept;
// A system call: not to be called under a lock.
void barrier() noexcept;

// The announced addresses of a range, in constant space.
class Announced {
 public:
  // As of now; for entries whose epoch had passed before.
  Announced(const void* begin, const void* end) noexcept;
  [[nodiscard]] bool contains(const void* entry) const noexcept {
    if (none_) return false;
    const std::uint32_t bit = bit_of(entry);
    return (bits_[bit / 64] >> (bit % 64) & 1) != 0 && is_announced(entry);
  }
  [[nodiscard]] bool none() const noexcept { return none_; }

 private:
  [[nodiscard]] static bool is_announced(const void* entry) noexcept;
  static constexpr std::uint32_t kBitsLog2 = 10;
  [[nodiscard]] static std::uint32_t bit_of(const void* entry) noexcept {
    const auto address = reinterpret_cast<std::uintptr_t>(entry);
    return static_cast<std::uint32_t>(address * 0x9E3779B97F4A7C15u >> (64 - kBitsLog2));
  }

  std::uint64_t bits_[(std::size_t{1} << kBitsLog2) / 64] = {};
  bool none_ = true;
};

}  // namespace hazard
}  // namespace tiercel::l1
