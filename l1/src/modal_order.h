#pragma once

// ModalOrder: who is evicted next, in one of several modes that work on the same two regions, so
// that a change of mode moves nobody.
//
// A new entry enters the window. When the window is full its oldest entry competes with the oldest
// of the main region: it takes the other's place if it was asked for more often lately; otherwise
// it is evicted. That is W-TinyLFU (Einziger et al., TOS '17) with an LRU main region and with
// short, ghost-filtered counts, see history.h. The modes differ in
//   - the size of the window. Without one every entry enters the main region: plain LRU.
//   - where a key goes that comes back soon after its eviction: to the window, so that it must
//     still win by its count, or straight to the main region, as in 2Q (Johnson and Shasha, VLDB
//     '94) and S3-FIFO (Yang et al., SOSP '23).
//   - doubt. In a loop longer than the cache keys may come back while they are ghosts, each with
//     the same count, and chase each other out before they are hit. Admitting only some of them
//     lets the others stay until they are (as BIP does: Qureshi et al., ISCA '07).
// An admitted candidate starts near the old end, like W-TinyLFU's probation.
//
// Bounds: victim() looks at no more than kStepsMax entries that were used and relinks them; each
// relinking takes up to 14 steps over an array. All else is O(1). Nothing is allocated.

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "history.h"
#include "recency_lists.h"

namespace tiercel::l1 {

struct Mode {
  unsigned window_percent = 0;
  bool recalled_to_main = false;
  // A candidate that wins by one count only is admitted each `doubt`-th time.
  unsigned doubt = 1;
};

template <typename Nodes, std::size_t kPiecesMax>
class ModalOrder {
 public:
  ModalOrder(Nodes& nodes, Mode mode) noexcept : lists_(nodes), mode_(mode) {}

  void set_mode(Mode mode) noexcept { mode_ = mode; }
  [[nodiscard]] History<kPiecesMax>& history() noexcept { return history_; }
  [[nodiscard]] const History<kPiecesMax>& history() const noexcept { return history_; }
  [[nodiscard]] std::size_t entries() const noexcept {
    return lists_.window_entries() + lists_.main_entries();
  }

  void insert(std::uint32_t ref, std::uint32_t now) noexcept {
    const bool recalled = history_.recall(lists_.hash32(ref), entries() + 1);
    lists_.set_hint(ref, Hint::make(now, 0));
    if (mode_.window_percent == 0 || (recalled && mode_.recalled_to_main)) {
      lists_.push_main_newest(ref, now);
    } else {
      lists_.push_window(ref);
    }
  }

  // `ref` takes over from `old`, which had the same key: a use of the entry.
  void replace(std::uint32_t old, std::uint32_t ref, std::uint32_t now) noexcept {
    const bool in_window = lists_.in_window(old);
    lists_.set_hint(ref, Hint::used(lists_.hint(old), now));
    lists_.unlink(old);
    if (in_window) {
      lists_.push_window(ref);
    } else {
      lists_.push_main_newest(ref, now);
    }
  }

  void remove(std::uint32_t ref) noexcept { lists_.unlink(ref); }

  void evicted(std::uint32_t ref) noexcept {
    lists_.unlink(ref);
    history_.remember(lists_.hash32(ref));
  }

  // The victim cannot go now: to the newest end.
  void requeue(std::uint32_t ref, std::uint32_t now) noexcept {
    const bool in_window = lists_.in_window(ref);
    lists_.unlink(ref);
    if (in_window) {
      lists_.push_window(ref);
    } else {
      lists_.push_main_newest(ref, now);
    }
  }

  [[nodiscard]] const RecencyLists<Nodes>& lists() const noexcept { return lists_; }

  // 0 if there is no entry.
  [[nodiscard]] std::uint32_t victim(std::uint32_t now) noexcept {
    return mode_.window_percent == 0 ? least_recent(now) : loser(now);
  }

 private:
  static constexpr unsigned kStepsMax = 32;

  // Without a window; what is left in it from another mode leaves by age.
  std::uint32_t least_recent(std::uint32_t now) noexcept {
    unsigned steps = kStepsMax;
    std::uint32_t in_window = lists_.window_oldest();
    for (; in_window != 0 && steps > kStepsMax / 2; in_window = lists_.window_oldest()) {
      if (Hint::uses(lists_.hint(in_window)) == 0) break;
      to_main(in_window, now);
      --steps;
    }
    const std::uint32_t in_main = settle_main(now, steps);
    if (in_window == 0) return in_main;
    if (in_main == 0) return in_window;
    const bool window_is_older =
        Hint::age(lists_.hint(in_window), now) >= Hint::age(lists_.hint(in_main), now);
    return window_is_older ? in_window : in_main;
  }

  std::uint32_t loser(std::uint32_t now) noexcept {
    const std::size_t window_max = std::max<std::size_t>(1, entries() * mode_.window_percent / 100);
    if (lists_.window_entries() > window_max) shrink_window(now);
    if (lists_.main_entries() == 0) return lists_.window_oldest();
    // Below its size the window still gives every other victim. Else, in a loop, a recalled key
    // might take the place of just the one asked for next, which is then recalled, and so on.
    const bool spared = lists_.window_entries() < window_max && ++spared_ % 2 != 0;
    if (spared || lists_.window_entries() == 0) return settle_main(now, kStepsMax - 1);

    const std::uint32_t candidate = lists_.window_oldest();
    const unsigned count = frequency(candidate);
    if (count == 0) return candidate;  // Cannot win, so the main region need not be looked at.
    const std::uint32_t in_main = settle_main(now, kStepsMax - 1);
    const unsigned count_to_beat = frequency(in_main);
    if (count <= count_to_beat) return candidate;
    if (count == count_to_beat + 1 && ++near_ties_ % mode_.doubt != 0) return candidate;
    lists_.unlink(candidate);
    lists_.push_main_old(candidate);
    return in_main;
  }

  // By one, without a contest: the mode before had a larger window, or an eviction too many has
  // left room in the main region. An entry that was not used goes to the very end. So when the
  // number of entries that fit goes up and down, as it does when their sizes differ, it is always
  // the same few places that change hands, and the rest of the main region is left in peace.
  void shrink_window(std::uint32_t now) noexcept {
    const std::uint32_t oldest = lists_.window_oldest();
    if (Hint::uses(lists_.hint(oldest)) != 0) {
      to_main(oldest, now);
    } else {
      lists_.unlink(oldest);
      lists_.push_main_oldest(oldest);
    }
  }

  // Puts used ones where they belong, until the oldest is one that was not used. 0 if none.
  std::uint32_t settle_main(std::uint32_t now, unsigned steps) noexcept {
    std::uint32_t oldest = lists_.main_oldest();
    for (; oldest != 0 && steps > 0; --steps, oldest = lists_.main_oldest()) {
      if (Hint::uses(lists_.hint(oldest)) == 0) break;
      to_main(oldest, now);
    }
    return oldest;
  }

  void to_main(std::uint32_t ref, std::uint32_t now) noexcept {
    count_uses(ref);
    lists_.unlink(ref);
    lists_.push_main_by_stamp(ref, now);
  }

  void count_uses(std::uint32_t ref) noexcept {
    history_.count(lists_.hash32(ref), lists_.take_uses(ref));
  }

  unsigned frequency(std::uint32_t ref) noexcept {
    count_uses(ref);
    return history_.frequency(lists_.hash32(ref));
  }

  RecencyLists<Nodes> lists_;
  History<kPiecesMax> history_;
  Mode mode_;
  unsigned near_ties_ = 0;
  unsigned spared_ = 0;
};

}  // namespace tiercel::l1
