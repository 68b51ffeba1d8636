#pragma once

// History: what is remembered of keys that may be gone, one cache line for each 16 entries.
//
// A line holds
//   - 15 fingerprints of 16 bits, a FIFO of the keys evicted last (2Q's A1out, S3-FIFO's ghost).
//     Evictions spread evenly over the lines, so the fifteen last of each are, near enough, the
//     15/16 * entries last of all. A stranger is taken for a ghost once in 4,400 times.
//   - 64 counters of 4 bits, a count-min sketch of how often a key was asked for lately. A key has
//     one counter in each of four words, and only the least of them grow. All are halved after each
//     entries/2 inserts, lazily: a line notes the era it stands at, and catches up when it is
//     looked at.
//
// TinyLFU (Einziger, Friedman and Manes, TOS '17) counts every access and so needs four times the
// counters. Here the ghosts are its doorkeeper: an insert is counted only if the key is a ghost, so
// that keys that come once leave no trace but their fingerprint.
//
// Lines are added one at a time by linear hashing: the new line starts as a copy of the one it is
// split from, which keeps each key's count and ghost where they will be looked for. Memory comes
// from outside in pieces, each at most a quarter of what is there, so that nothing large is ever
// copied or cleared under a lock. Without memory it remembers nothing, and all still works.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace tiercel::l1 {

struct alignas(64) HistoryLine {
  std::array<std::uint64_t, 4> counters{};
  std::array<std::uint16_t, 15> ghosts{};  // 0: none.
  std::uint16_t next_and_era = 0;          // 4 bits: the ghost to overwrite next; 12 bits: era.
};
static_assert(sizeof(HistoryLine) == 64);

template <std::size_t kPiecesMax>
class History {
 public:
  using Piece = std::unique_ptr<HistoryLine[]>;

  // The lines that the next piece must have, or 0 if there is enough for so many entries.
  [[nodiscard]] std::size_t lines_wanted(std::size_t entries) const noexcept {
    if (pieces_used_ == kPiecesMax || lines_allotted_ * kEntriesPerLine >= entries) return 0;
    return piece_lines(pieces_used_);
  }

  void add_piece(Piece piece) noexcept {
    lines_allotted_ += piece_lines(pieces_used_);
    pieces_[pieces_used_++] = std::move(piece);
    lines_ = std::max<std::size_t>(lines_, 1);
  }

  [[nodiscard]] std::size_t bytes() const noexcept { return lines_allotted_ * sizeof(HistoryLine); }

  // An insert of this key, after which there are `entries`. True if it was evicted lately; that is
  // said once, then the ghost is gone.
  [[nodiscard]] bool recall(std::uint32_t hash, std::size_t entries) noexcept {
    entries_ = entries;
    if (lines_ == 0) return false;
    grow();
    if (++inserts_ * 2 >= entries_) {
      inserts_ = 0;
      era_ = (era_ + 1) % kEras;
    }
    const std::uint64_t mixed = mix(hash);
    HistoryLine& at = line(index_of(mixed));
    const auto ghost = std::find(at.ghosts.begin(), at.ghosts.end(), fingerprint(mixed));
    if (ghost == at.ghosts.end()) return false;
    *ghost = 0;
    add(at, mixed, 1);
    return true;
  }

  void remember(std::uint32_t hash) noexcept {
    if (lines_ == 0) return;
    const std::uint64_t mixed = mix(hash);
    HistoryLine& at = line(index_of(mixed));
    const unsigned next = at.next_and_era % kGhostSlots;
    at.ghosts[next] = fingerprint(mixed);
    // A cache smaller than a line remembers fewer.
    const auto in_use =
        static_cast<unsigned>(std::clamp<std::size_t>(entries_, 2, at.ghosts.size()));
    set_state(at, (next + 1) % in_use, at.next_and_era / kGhostSlots);
  }

  void count(std::uint32_t hash, unsigned times) noexcept {
    if (lines_ == 0 || times == 0) return;
    const std::uint64_t mixed = mix(hash);
    add(line(index_of(mixed)), mixed, times);
  }

  [[nodiscard]] unsigned frequency(std::uint32_t hash) noexcept {
    if (lines_ == 0) return 0;
    const std::uint64_t mixed = mix(hash);
    HistoryLine& at = line(index_of(mixed));
    catch_up(at);
    return least(at, mixed);
  }

 private:
  static constexpr std::size_t kEntriesPerLine = 16;
  static constexpr unsigned kCountMax = 15;
  static constexpr unsigned kGhostSlots = 16;  // In the encoding; the last is never used.
  static constexpr unsigned kEras = 4096;
  // Pieces 0 to 3 have 4 lines each, 4 to 7 have 8, and so on.
  static constexpr unsigned kFirstPieceLog = 2;

  static constexpr std::size_t piece_lines(std::size_t piece) noexcept {
    return std::size_t{1} << (kFirstPieceLog + piece / 4);
  }

  // The lower half of the bits chooses the line, the upper what is in it.
  static std::uint64_t mix(std::uint32_t hash) noexcept {
    std::uint64_t mixed = (hash + 1ULL) * 0x9E3779B97F4A7C15ULL;
    mixed = (mixed ^ (mixed >> 32)) * 0xD6E8FEB86659FD93ULL;
    return mixed ^ (mixed >> 32);
  }
  static std::uint16_t fingerprint(std::uint64_t mixed) noexcept {
    return static_cast<std::uint16_t>(std::max<std::uint64_t>(mixed >> 48, 1));
  }
  static unsigned shift(std::uint64_t mixed, unsigned word) noexcept {
    return static_cast<unsigned>(mixed >> (32 + 4 * word)) % 16 * 4;
  }
  static unsigned counter(const HistoryLine& at, std::uint64_t mixed, unsigned word) noexcept {
    return static_cast<unsigned>(at.counters[word] >> shift(mixed, word)) % 16;
  }
  static unsigned least(const HistoryLine& at, std::uint64_t mixed) noexcept {
    unsigned count = kCountMax;
    for (unsigned word = 0; word < 4; ++word) count = std::min(count, counter(at, mixed, word));
    return count;
  }
  static void set_state(HistoryLine& at, unsigned next, unsigned era) noexcept {
    at.next_and_era = static_cast<std::uint16_t>(next + era * kGhostSlots);
  }

  void add(HistoryLine& at, std::uint64_t mixed, unsigned times) noexcept {
    catch_up(at);
    const unsigned wanted = std::min(least(at, mixed) + times, kCountMax);
    for (unsigned word = 0; word < 4; ++word) {
      const unsigned has = counter(at, mixed, word);
      if (has < wanted) at.counters[word] += std::uint64_t{wanted - has} << shift(mixed, word);
    }
  }

  void catch_up(HistoryLine& at) const noexcept {
    const unsigned halvings = (era_ + kEras - at.next_and_era / kGhostSlots) % kEras;
    if (halvings == 0) return;
    const std::uint64_t kept = 0x1111111111111111ULL * (kCountMax >> std::min(halvings, 4U));
    for (std::uint64_t& word : at.counters) word = (word >> std::min(halvings, 4U)) & kept;
    set_state(at, at.next_and_era % kGhostSlots, era_);
  }

  // By one line at most. Inserts come at least as often as new lines are due.
  void grow() noexcept {
    if (lines_ == lines_allotted_ || lines_ * kEntriesPerLine >= entries_) return;
    line(lines_) = line(lines_ - std::bit_floor(lines_));
    ++lines_;
  }

  // Four pieces of each size: shifted by four such pieces, the two bits after an index's highest
  // say which.
  HistoryLine& line(std::size_t index) noexcept {
    const std::size_t shifted = index + (std::size_t{4} << kFirstPieceLog);
    const auto log = static_cast<unsigned>(std::bit_width(shifted)) - 3;
    const std::size_t piece = (log - kFirstPieceLog) * 4 + (shifted >> log) % 4;
    return pieces_[piece][shifted & ((std::size_t{1} << log) - 1)];
  }

  [[nodiscard]] std::size_t index_of(std::uint64_t mixed) const noexcept {
    const std::size_t whole = std::bit_floor(lines_);
    const std::size_t key = mixed & 0xFFFFFFFFU;
    const std::size_t index = key & (2 * whole - 1);
    return index < lines_ ? index : key & (whole - 1);
  }

  std::array<Piece, kPiecesMax> pieces_;
  std::size_t pieces_used_ = 0;
  std::size_t lines_allotted_ = 0;
  std::size_t lines_ = 0;  // In use.
  std::size_t entries_ = 0;
  std::size_t inserts_ = 0;  // In this era.
  unsigned era_ = 0;
};

}  // namespace tiercel::l1
