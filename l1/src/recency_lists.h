#pragma once

// RecencyLists: the entries of a stripe on intrusive lists: a window, which is a FIFO, and a main
// region in order of last use, kept lazily.
//
// A hit only writes its entry's hint. The main region therefore is not one list but up to 14, one
// for each epoch, an epoch being about an eighth of the time from an entry's last use to its
// eviction. When the oldest entry turns out to have been used, settle() puts it where its stamp
// says: to the newest end of the list of that epoch. So the order is LRU up to an eighth of a
// turnover, where CLOCK would put it in front of everything. (A calendar queue: Brown, CACM '88.)
//
// Invariants:
//   - Lists kMainFirst..kMainLast are a ring of epochs; those from epoch_oldest_ to epoch_newest_
//     are open, all others are empty. start_ grows along them.
//   - When no number is free, the newest epoch just goes on; that is the case while a cache fills.
//   - Stamps are 28 bits and compared by age, modulo 2^28. An entry not used for longer seems
//     younger than it is and stays for another round.
//
// Nodes gives `Node& operator[](std::uint32_t ref)`, refs from 1 on; a Node has
//   newer, older   integers wide enough for a ref; 0: none
//   list(), set_list(std::uint8_t)   below 16; 0: on none
//   hint           std::atomic<std::uint32_t>, see Hint
// and `std::uint32_t hash32(std::uint32_t ref)`, the hash of its key.

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "hint.h"
#include "ref_list.h"

namespace tiercel::l1 {

template <typename Nodes>
class RecencyLists {
 public:
  using Node = std::remove_reference_t<decltype(std::declval<Nodes&>()[1])>;

  explicit RecencyLists(Nodes& nodes) noexcept : nodes_(nodes) {}

  [[nodiscard]] std::size_t window_entries() const noexcept { return lists_[kWindow].count; }
  [[nodiscard]] std::size_t main_entries() const noexcept { return main_entries_; }
  [[nodiscard]] std::uint32_t hash32(std::uint32_t ref) noexcept { return nodes_.hash32(ref); }
  [[nodiscard]] bool in_window(std::uint32_t ref) noexcept { return nodes_[ref].list() == kWindow; }

  // 0 if there is none.
  [[nodiscard]] std::uint32_t window_oldest() const noexcept { return lists_[kWindow].oldest; }
  [[nodiscard]] std::uint32_t main_oldest() noexcept {
    close_empty_epochs();
    return lists_[epoch_oldest_].oldest;
  }

  void push_window(std::uint32_t ref) noexcept { push(kWindow, ref); }

  void push_main_newest(std::uint32_t ref, std::uint32_t now) noexcept {
    open_epoch(now);
    push(epoch_newest_, ref);
  }

  // Near the oldest end: the next epoch but one to be evicted.
  void push_main_old(std::uint32_t ref) noexcept {
    close_empty_epochs();
    push(epoch_oldest_ == epoch_newest_ ? epoch_oldest_ : next(epoch_oldest_), ref);
  }

  // As the next to be evicted.
  void push_main_oldest(std::uint32_t ref) noexcept {
    close_empty_epochs();
    nodes_[ref].set_list(epoch_oldest_);
    lists_[epoch_oldest_].push_oldest(nodes_, ref);
    ++main_entries_;
  }

  // Where its stamp says. At most 14 steps.
  void push_main_by_stamp(std::uint32_t ref, std::uint32_t now) noexcept {
    open_epoch(now);
    const std::uint32_t age = Hint::age(hint(ref), now);
    std::uint8_t epoch = epoch_newest_;
    while (epoch != epoch_oldest_ && age_of_epoch(epoch, now) < age) epoch = previous(epoch);
    push(epoch, ref);
  }

  void unlink(std::uint32_t ref) noexcept {
    Node& node = nodes_[ref];
    lists_[node.list()].unlink(nodes_, ref);
    if (node.list() != kWindow) --main_entries_;
    node.set_list(0);
  }

  // An entry at the old end of a list of which old(ref) is true, or 0.
  template <typename F>
  [[nodiscard]] std::uint32_t oldest_that(F&& old) const noexcept {
    for (const RefList& list : lists_) {
      if (list.oldest != 0 && old(list.oldest)) return list.oldest;
    }
    return 0;
  }
  // f(ref) for each entry, list by list.
  template <typename F>
  void for_each(F&& f) const {
    for (const RefList& list : lists_) {
      for (std::uint32_t ref = list.oldest; ref != 0; ref = nodes_[ref].newer) f(ref);
    }
  }

  [[nodiscard]] std::uint32_t hint(std::uint32_t ref) noexcept {
    return nodes_[ref].hint.load(std::memory_order_relaxed);
  }
  void set_hint(std::uint32_t ref, std::uint32_t hint) noexcept {
    nodes_[ref].hint.store(hint, std::memory_order_relaxed);
  }
  // A hit at the same moment may get lost, as hits may.
  std::uint32_t take_uses(std::uint32_t ref) noexcept {
    const std::uint32_t was = hint(ref);
    if (Hint::uses(was) != 0) set_hint(ref, was - Hint::uses(was));
    return Hint::uses(was);
  }

 private:
  static constexpr std::uint8_t kWindow = 1;
  static constexpr std::uint8_t kMainFirst = 2;
  static constexpr std::uint8_t kMainLast = 15;
  static constexpr std::uint32_t kEpochsPerTurnover = 8;

  static std::uint8_t next(std::uint8_t epoch) noexcept {
    return epoch == kMainLast ? kMainFirst : static_cast<std::uint8_t>(epoch + 1);
  }
  static std::uint8_t previous(std::uint8_t epoch) noexcept {
    return epoch == kMainFirst ? kMainLast : static_cast<std::uint8_t>(epoch - 1);
  }
  [[nodiscard]] std::uint32_t age_of_epoch(std::uint8_t epoch, std::uint32_t now) const noexcept {
    return (now - start_[epoch]) & Hint::kStampMask;
  }

  void close_empty_epochs() noexcept {
    while (epoch_oldest_ != epoch_newest_ && lists_[epoch_oldest_].empty()) {
      epoch_oldest_ = next(epoch_oldest_);
    }
  }

  void open_epoch(std::uint32_t now) noexcept {
    close_empty_epochs();
    const std::uint32_t turnover = age_of_epoch(epoch_oldest_, now);
    if (age_of_epoch(epoch_newest_, now) < turnover / kEpochsPerTurnover) return;
    if (next(epoch_newest_) == epoch_oldest_) return;
    epoch_newest_ = next(epoch_newest_);
    start_[epoch_newest_] = now & Hint::kStampMask;
  }

  void push(std::uint8_t number, std::uint32_t ref) noexcept {
    nodes_[ref].set_list(number);
    lists_[number].push_newest(nodes_, ref);
    if (number != kWindow) ++main_entries_;
  }

  Nodes& nodes_;
  std::array<RefList, 16> lists_{};
  std::array<std::uint32_t, 16> start_{};  // Of each epoch.
  std::size_t main_entries_ = 0;
  std::uint8_t epoch_oldest_ = kMainFirst;
  std::uint8_t epoch_newest_ = kMainFirst;
};

}  // namespace tiercel::l1
