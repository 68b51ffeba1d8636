#pragma once

// Arena: the blocks of one stripe, in a fixed range of memory. Two-level segregated fit (Masmano,
// Ripoll, Crespo, Real, "TLSF: a New Dynamic Memory Allocator for Real-Time Systems", 2004) with
// boundary tags (Knuth, TAOCP 1, 2.5): allocate and free are O(1), neighbours that are free are
// always joined, and memory never comes from elsewhere. A block in use needs no header of its own:
// an Entry knows its size.
//
//   free block, 3 units or more:
//     0  units u32 │ - │ block u8: kPreviousFree, kListed      (where an Entry has its bits)
//     8  next u32 │ previous u32     in the list of its size, if it is listed
//     …  units u32                   in the last 4 bytes, for the block behind
//
// The zone: a range that is being drained, because one large piece of memory is wanted (for a large
// entry, or for the table, which grows down from above). A free block that reaches into it is kept
// out of the lists, so it is not given away in small pieces again.
//
// Under AddressSanitizer the inside of free blocks is poisoned.
//
// Not thread-safe: guarded by the stripe's lock.

#include <cstddef>
#include <cstdint>

#include "entry.h"

namespace tiercel::l1 {

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // Units [begin, end) of the region are one free block. The unit at `end` becomes the arena's too,
  // as the mark of its end. begin > 0.
  void init(Blocks blocks, Ref begin, Ref end) noexcept;

  // A block of `units` or up to 2 more (the slack); kNoRef if there is none. The caller turns it
  // into an Entry of just that size before anything else is called; its bits in `block` stay.
  struct Allocated {
    Ref ref = kNoRef;
    std::uint32_t slack = 0;
  };
  [[nodiscard]] Allocated allocate(std::uint32_t units) noexcept;
  void free(Ref ref) noexcept;

  // Takes `units` from the end, if they are free there.
  [[nodiscard]] bool take_from_end(std::uint32_t units) noexcept;

  // One zone at a time: [from, until). A block must begin at `from`.
  void set_zone(Ref from, Ref until) noexcept;
  [[nodiscard]] bool has_zone() const noexcept { return zone_until_ != kNoRef; }
  [[nodiscard]] Ref zone_until() const noexcept { return zone_until_; }
  [[nodiscard]] bool in_zone(Ref ref, std::uint32_t units) const noexcept {
    return has_zone() && ref < zone_until_ && ref + units > zone_from_;
  }
  // Keeps a free block that reaches into the zone from being given away.
  void withhold(Ref ref) noexcept;
  // The zone's beginning, if all of it is free; then there is no zone any more.
  [[nodiscard]] Allocated allocate_zone(std::uint32_t units) noexcept;
  // Gives back what was withheld. O(blocks in the zone), which are few once it has been drained.
  void abandon_zone() noexcept;

  // A place among the blocks that stays valid whatever happens to them.
  [[nodiscard]] Ref cursor() const noexcept { return cursor_; }
  void set_cursor(Ref ref) noexcept { cursor_ = ref; }

  [[nodiscard]] Ref begin() const noexcept { return begin_; }
  [[nodiscard]] Ref end() const noexcept { return end_; }
  [[nodiscard]] bool is_free(Ref ref) const noexcept {
    return (blocks_[ref].block & Entry::kInUse) == 0;
  }
  [[nodiscard]] std::uint32_t units_of(Ref ref) const noexcept {
    return is_free(ref) ? blocks_[ref].value_bytes : blocks_[ref].units();
  }
  [[nodiscard]] std::uint32_t free_units() const noexcept { return free_units_; }
  // True if every block and list is as it should be. O(blocks); for tests.
  [[nodiscard]] bool check() const noexcept;

 private:
  static constexpr std::uint32_t kUnitsMin = 3;
  static constexpr std::uint8_t kListed = 4;  // In `block` of a free block.
  static constexpr unsigned kSubdivisionsLog2 = 3;
  static constexpr unsigned kSubdivisions = 1U << kSubdivisionsLog2;
  static constexpr unsigned kLevels = 30;
  static constexpr unsigned kTriesInClass = 4;

  // The links of a free block stand where an entry has its hint and its pins.
  [[nodiscard]] Ref next(Ref ref) const noexcept {
    return blocks_[ref].hint.load(std::memory_order_relaxed);
  }
  [[nodiscard]] Ref previous(Ref ref) const noexcept {
    return blocks_[ref].pins.load(std::memory_order_relaxed);
  }
  void set_next(Ref ref, Ref to) noexcept {
    blocks_[ref].hint.store(to, std::memory_order_relaxed);
  }
  void set_previous(Ref ref, Ref to) noexcept {
    blocks_[ref].pins.store(to, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint32_t& footer(Ref behind) const noexcept {
    return *(&blocks_[behind].value_bytes - 1);
  }
  // Classes: below 8 units one for each size, then 8 for each power of two.
  [[nodiscard]] static unsigned class_of(std::uint32_t units) noexcept;
  [[nodiscard]] unsigned first_class_from(unsigned index) const noexcept;
  void make_free(Ref ref, std::uint32_t units) noexcept;
  void list(Ref ref) noexcept;
  void unlist(Ref ref) noexcept;  // If it is listed.
  void moved(Ref from, Ref to) noexcept;
  [[nodiscard]] Allocated carve(Ref ref, std::uint32_t have, std::uint32_t want) noexcept;

  Blocks blocks_;
  Ref begin_ = kNoRef;
  Ref end_ = kNoRef;
  std::uint32_t free_units_ = 0;
  Ref zone_from_ = kNoRef;
  Ref zone_block_ = kNoRef;  // The block that holds zone_from_.
  Ref zone_until_ = kNoRef;
  Ref cursor_ = kNoRef;
  std::uint32_t levels_ = 0;                 // Bit i: some list of level i is not empty.
  std::uint8_t subdivisions_[kLevels] = {};  // Bit j of [i]: list j of level i is not empty.
  Ref lists_[kLevels * kSubdivisions] = {};
};

}  // namespace tiercel::l1
