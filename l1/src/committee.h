#pragma once

// Committee: one Shadow for each mode, all of which see the same sampled accesses, and Election:
// their hit ratios over the last while, and which mode is to rule.

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>

#include "modal_order.h"
#include "shadow.h"

namespace tiercel::l1 {

// Chosen to differ, so that among them there is one for every work: what came last comes again
// (LRU); what came twice comes again (like S3-FIFO and 2Q); both, with counts; what is there stays,
// against loops and noise (like W-TinyLFU). A new mode is a line here.
inline constexpr std::array kModes{
    Mode{.window_percent = 0},
    Mode{.window_percent = 10, .recalled_to_main = true},
    Mode{.window_percent = 20},
    Mode{.window_percent = 1, .doubt = 2},
};
inline constexpr std::size_t kFirstMode = 1;  // Until there is evidence.

class Committee {
 public:
  // Null when there is no memory. See Shadow::init.
  [[nodiscard]] static std::unique_ptr<Committee> create(std::size_t shadow_entries) noexcept {
    std::unique_ptr<Committee> committee{new (std::nothrow) Committee};
    if (committee == nullptr) return nullptr;
    for (Shadow& shadow : committee->shadows_) {
      if (!shadow.init(shadow_entries)) return nullptr;
    }
    return committee;
  }

  // At least what bytes() of such a one will be.
  [[nodiscard]] static constexpr std::size_t bytes_for(std::size_t shadow_entries) noexcept {
    return sizeof(Committee) + kModes.size() * Shadow::bytes_for(shadow_entries);
  }
  [[nodiscard]] std::size_t bytes() const noexcept {
    std::size_t sum = sizeof(*this);
    for (const Shadow& shadow : shadows_) sum += shadow.bytes();
    return sum;
  }

  // Bit i: whether mode i would have had it.
  unsigned access(std::uint32_t hash, std::size_t capacity) noexcept {
    ++now_;
    unsigned hits = 0;
    for (std::size_t i = 0; i < shadows_.size(); ++i) {
      if (shadows_[i].access(hash, now_, capacity)) hits |= 1U << i;
    }
    return hits;
  }

 private:
  Committee() = default;

  std::array<Shadow, kModes.size()> shadows_{Shadow{kModes[0]}, Shadow{kModes[1]},
                                             Shadow{kModes[2]}, Shadow{kModes[3]}};
  std::uint32_t now_ = 0;
};

// Hits are counted with exponential decay: an access weighs 1/e after 2^decay_log more of them.
class Election {
 public:
  [[nodiscard]] std::size_t winner() const noexcept { return winner_; }

  // Counts an access. Now and then it changes the winner; then it says true.
  bool record(unsigned hits, unsigned decay_log) noexcept {
    for (std::size_t i = 0; i < hits_.size(); ++i) {
      hits_[i] += (hits >> i) % 2 * kOne;
      hits_[i] -= hits_[i] >> decay_log;
    }
    accesses_ += kOne;
    accesses_ -= accesses_ >> decay_log;
    if (++recorded_ % kRecordedPerBallot != 0) return false;

    const auto best = std::max_element(hits_.begin(), hits_.end());
    if (*best - hits_[winner_] <= accesses_ / kAccessesPerHitMargin + kHitsMargin * kOne)
      return false;
    winner_ = static_cast<std::size_t>(best - hits_.begin());
    return true;
  }

 private:
  static constexpr std::uint64_t kOne = 1U << 16U;  // Fixed point.
  static constexpr unsigned kRecordedPerBallot = 32;
  // A challenger must be better by 0.4 % of the accesses and, against chance, by 16 hits.
  static constexpr std::uint64_t kAccessesPerHitMargin = 256;
  static constexpr std::uint64_t kHitsMargin = 16;

  std::array<std::uint64_t, kModes.size()> hits_{};
  std::uint64_t accesses_ = 0;
  std::size_t winner_ = kFirstMode;
  unsigned recorded_ = 0;
};

}  // namespace tiercel::l1
