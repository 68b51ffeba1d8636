#pragma once

// Ring: notes on their way from the threads that read to the loop thread.
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
#include <utility>

namespace tiercel {

template <typename Note, std::size_t kSlots>
class Ring {
 public:
  Ring() : slots_(std::make_unique<Slot[]>(kSlots)) {
    for (std::size_t i = 0; i < kSlots; ++i) slots_[i].turn.store(i, std::memory_order_relaxed);
  }

  // Any thread. Calls fill(Note&) on what an earlier note has left, or returns false: it is full.
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
        fill(slot.note);
        slot.turn.store(position + 1, std::memory_order_release);
        return true;
      }
    }
  }

  // One thread. False: there is none.
  bool pop(Note& note) noexcept {
    Slot& slot = slots_[read_ % kSlots];
    if (slot.turn.load(std::memory_order_acquire) != read_ + 1) return false;
    note = std::move(slot.note);
    slot.turn.store(read_ + kSlots, std::memory_order_release);
    ++read_;
    return true;
  }

 private:
  struct Slot {
    std::atomic<std::uint64_t> turn;
    Note note;
  };

  const std::unique_ptr<Slot[]> slots_;
  alignas(64) std::atomic<std::uint64_t> written_{0};
  alignas(64) std::uint64_t read_ = 0;
};

// A key on its way: longer ones do not go.
class NotedKey {
 public:
  static constexpr std::size_t kBytesMax = 256;

  void assign(std::string_view key) noexcept {
    bytes_ = static_cast<std::uint16_t>(key.copy(store_.data(), kBytesMax));
  }
  [[nodiscard]] std::string_view text() const noexcept { return {store_.data(), bytes_}; }

 private:
  std::uint16_t bytes_ = 0;
  std::array<char, kBytesMax> store_{};
};

}  // namespace tiercel
