#include "fleet/suspects.h"

namespace tiercel::fleet {

void Suspects::report(std::uint64_t what) noexcept {
  constexpr std::uint64_t kSpread = 0x9e3779b97f4a7c15;  // Fibonacci hashing (Knuth, TAOCP 6.4).
  const auto first = static_cast<std::size_t>((what * kSpread) >> 32);
  for (std::size_t probe = 0; probe < kProbesMax; ++probe) {
    Slot& slot = slots_[(first + probe) % kSlots];
    std::uint64_t found = 0;
    if (slot.what.compare_exchange_strong(found, what, std::memory_order_acq_rel) ||
        found == what) {
      slot.reads.fetch_add(1, std::memory_order_relaxed);
      return;
    }
  }
  overflowed_.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace tiercel::fleet
