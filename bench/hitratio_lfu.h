#pragma once

// More of hitratio_classic.h: W-TinyLFU, and Belady's optimum.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <limits>
#include <set>
#include <utility>
#include <vector>

#include "hitratio_lists.h"

namespace tiercel::bench {

// A count-min sketch of counters up to 15, halved every 10 * capacity accesses.
class Frequencies {
 public:
  explicit Frequencies(std::size_t capacity) : period_(10 * capacity) {
    std::size_t counters = 64;
    while (counters < 16 * capacity) counters *= 2;
    counters_.resize(counters);
  }

  unsigned count(Id id) const {
    unsigned least = 15;
    for (unsigned row = 0; row < 4; ++row) {
      least = std::min<unsigned>(least, counters_[index(id, row)]);
    }
    return least;
  }

  void add(Id id) {
    const unsigned least = count(id);
    if (least == 15) return;
    for (unsigned row = 0; row < 4; ++row) {
      auto& counter = counters_[index(id, row)];
      if (counter < 15) ++counter;
    }
    if (++added_ < period_) return;
    added_ /= 2;
    for (auto& counter : counters_) counter = static_cast<std::uint8_t>(counter / 2);
  }

 private:
  std::size_t index(Id id, unsigned row) const {
    std::uint64_t x = (id + 1) * 0x9E3779B97F4A7C15ULL + row * 0xD1B54A32D192ED03ULL;
    x = (x ^ (x >> 32)) * 0xD6E8FEB86659FD93ULL;
    return (x ^ (x >> 32)) & (counters_.size() - 1);
  }

  std::vector<std::uint8_t> counters_;
  std::size_t period_;
  std::size_t added_ = 0;
};

// Einziger, Friedman and Manes, TOS '17: a window of some percent, then a segmented LRU with 80 %
// protected, entered only by those more frequent than whom they would displace.
class WTinyLfu {
 public:
  WTinyLfu(std::size_t capacity, std::size_t distinct, std::size_t window_percent)
      : lists_(distinct),
        frequencies_(capacity),
        window_(std::max<std::size_t>(1, capacity * window_percent / 100)),
        main_(capacity - std::min(capacity, window_)),
        protected_(main_ * 8 / 10) {}

  bool access(Id id) {
    frequencies_.add(id);
    const std::size_t list = lists_.list(id);
    if (list == kProbation || list == kProtected) {
      lists_.push(kProtected, id);
      if (lists_.size(kProtected) > protected_) lists_.push(kProbation, lists_.oldest(kProtected));
      return true;
    }
    lists_.push(kWindow, id);
    if (list == 0 && lists_.size(kWindow) > window_) leave_window();
    return list == kWindow;
  }

 private:
  enum : std::size_t { kWindow = 1, kProbation, kProtected };

  void leave_window() {
    const Id candidate = lists_.oldest(kWindow);
    if (lists_.size(kProbation) + lists_.size(kProtected) < main_) {
      lists_.push(kProbation, candidate);
      return;
    }
    if (main_ == 0) {
      lists_.remove(candidate);
      return;
    }
    const Id victim = lists_.oldest(lists_.size(kProbation) > 0 ? kProbation : kProtected);
    if (frequencies_.count(candidate) > frequencies_.count(victim)) {
      lists_.remove(victim);
      lists_.push(kProbation, candidate);
    } else {
      lists_.remove(candidate);
    }
  }

  Lists<4> lists_;
  Frequencies frequencies_;
  std::size_t window_;
  std::size_t main_;
  std::size_t protected_;
};

class WTinyLfu1 : public WTinyLfu {
 public:
  WTinyLfu1(std::size_t capacity, std::size_t distinct) : WTinyLfu(capacity, distinct, 1) {}
};

class WTinyLfu10 : public WTinyLfu {
 public:
  WTinyLfu10(std::size_t capacity, std::size_t distinct) : WTinyLfu(capacity, distinct, 10) {}
};

// Belady, IBM Systems Journal 5, 1966: evicts who is used again last, which is the optimum where
// each miss lets its id in. Knows the trace.
class Belady {
 public:
  Belady(std::size_t capacity, std::size_t distinct, const std::vector<Id>& trace)
      : next_(trace.size()), due_(distinct, kNotHere), capacity_(capacity) {
    std::vector<std::size_t> seen(distinct, 0);
    for (std::size_t i = trace.size(); i-- > 0;) {
      // Those that never come again are due after the end, each at a time of its own.
      next_[i] = seen[trace[i]] != 0 ? seen[trace[i]] : trace.size() + i + 1;
      seen[trace[i]] = i;
      if (i == 0) seen[trace[i]] = kNotHere;
    }
  }

  bool access(Id id) {
    const bool hit = due_[id] != kNotHere;
    if (hit) {
      here_.erase({due_[id], id});
    } else if (here_.size() == capacity_) {
      const auto last = std::prev(here_.end());
      due_[last->second] = kNotHere;
      here_.erase(last);
    }
    due_[id] = next_[now_++];
    here_.emplace(due_[id], id);
    return hit;
  }

 private:
  static constexpr std::size_t kNotHere = std::numeric_limits<std::size_t>::max();

  std::vector<std::size_t> next_;
  std::vector<std::size_t> due_;
  std::set<std::pair<std::size_t, Id>> here_;
  std::size_t capacity_;
  std::size_t now_ = 0;
};

}  // namespace tiercel::bench
