#pragma once

// AuditRing: hits on their way from the threads that read to the loop thread, which audits them.
//
// A fixed number of slots; nothing is allocated, locked or waited for. A slot's `turn` says whose
// it is (Dmitry Vyukov's bounded queue): position p may be written when it is p, and read when it
// is p + 1. A writer that is held up between the two holds up the reader, and, when the ring is
// full, makes others drop; it makes nobody wait.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "tiercel/coherence/audit_judge.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {

struct AuditSample {
  static constexpr std::size_t kKeyBytesMax = 256;

  coherence::AuditedHit hit;
  std::uint64_t payload_hash;
  bool is_hashed;
  bool is_negative;
  std::uint8_t slots_count;
  std::uint16_t key_bytes;
  std::array<std::uint16_t, serialization::kTagsPerValueMax> slots;
  std::array<char, kKeyBytesMax> key_store;

  [[nodiscard]] std::string_view key() const noexcept { return {key_store.data(), key_bytes}; }
};

class AuditRing {
 public:
  static constexpr std::size_t kSlots = 128;

  AuditRing() : slots_(std::make_unique<Slot[]>(kSlots)) {
    for (std::size_t i = 0; i < kSlots; ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  // Any thread. Calls fill(AuditSample&), or returns false: it is full.
  template <typename Fill>
  bool push(Fill&& fill) noexcept {
    std::uint64_t position = written_.load(std::memory_order_relaxed);
    for (;;) {
      Slot& slot = slots_[position % kSlots];
      const std::uint64_t turn = slot.turn.load(std::memory_order_acquire);
      if (turn < position) return false;
      if (turn > position) {
        position = written_.load(std::memory_order_relaxed);
      } else if (written_.compare_exchange_weak(position, position + 1,
                                                std::memory_order_relaxed)) {
        fill(slot.sample);
        slot.turn.store(position + 1, std::memory_order_release);
        return true;
      }
    }
  }

  // One thread. False: there is none.
  bool pop(AuditSample& sample) noexcept {
    Slot& slot = slots_[read_ % kSlots];
    if (slot.turn.load(std::memory_order_acquire) != read_ + 1) return false;
    sample = slot.sample;
    slot.turn.store(read_ + kSlots, std::memory_order_release);
    ++read_;
    return true;
  }

 private:
  struct Slot {
    std::atomic<std::uint64_t> turn;
    AuditSample sample;
  };

  const std::unique_ptr<Slot[]> slots_;
  alignas(64) std::atomic<std::uint64_t> written_{0};
  alignas(64) std::uint64_t read_ = 0;
};

}  // namespace tiercel
