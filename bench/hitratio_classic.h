#pragma once

// The eviction policies to compare with, as their papers have them: LRU, 2Q, ARC, S3-FIFO, SIEVE.
//
// In all of them entries are of equal size, and a cache holds `capacity` of them, at least one. Ids
// are 0 to distinct-1, so that everything is an array. access() says whether it was a hit and, if
// not, lets the id in. Nothing is allocated after construction, but by Belady.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "hitratio_lists.h"

namespace tiercel::bench {

class Lru {
 public:
  Lru(std::size_t capacity, std::size_t distinct) : lists_(distinct), capacity_(capacity) {}

  bool access(Id id) {
    const bool hit = lists_.list(id) == 1;
    if (!hit && lists_.size(1) == capacity_) lists_.remove(lists_.oldest(1));
    lists_.push(1, id);
    return hit;
  }

 private:
  Lists<2> lists_;
  std::size_t capacity_;
};

// Johnson and Shasha, VLDB '94, the full version: a FIFO of 25 %, a ghost of 50 %.
class TwoQueues {
 public:
  TwoQueues(std::size_t capacity, std::size_t distinct)
      : lists_(distinct),
        capacity_(capacity),
        in_(std::max<std::size_t>(1, capacity / 4)),
        out_(std::max<std::size_t>(1, capacity / 2)) {}

  bool access(Id id) {
    const std::size_t list = lists_.list(id);
    if (list == kMain) lists_.push(kMain, id);
    if (list == kMain || list == kIn) return true;
    if (lists_.size(kIn) + lists_.size(kMain) == capacity_) make_room();
    lists_.push(list == kOut ? kMain : kIn, id);
    return false;
  }

 private:
  enum : std::size_t { kIn = 1, kOut, kMain };

  void make_room() {
    if (lists_.size(kIn) <= in_ && lists_.size(kMain) > 0) {
      lists_.remove(lists_.oldest(kMain));
      return;
    }
    lists_.push(kOut, lists_.oldest(kIn));
    if (lists_.size(kOut) > out_) lists_.remove(lists_.oldest(kOut));
  }

  Lists<4> lists_;
  std::size_t capacity_;
  std::size_t in_;
  std::size_t out_;
};

// Megiddo and Modha, FAST '03.
class Arc {
 public:
  Arc(std::size_t capacity, std::size_t distinct) : lists_(distinct), capacity_(capacity) {}

  bool access(Id id) {
    const std::size_t list = lists_.list(id);
    if (list == kT1 || list == kT2) {
      lists_.push(kT2, id);
      return true;
    }
    const double b1 = static_cast<double>(lists_.size(kB1));
    const double b2 = static_cast<double>(lists_.size(kB2));
    const double capacity = static_cast<double>(capacity_);
    if (list == kB1) {
      target_ = std::min(capacity, target_ + std::max(1.0, b2 / b1));
      replace(false);
    } else if (list == kB2) {
      target_ = std::max(0.0, target_ - std::max(1.0, b1 / b2));
      replace(true);
    } else {
      miss();
    }
    lists_.push(list == 0 ? kT1 : kT2, id);
    return false;
  }

 private:
  enum : std::size_t { kT1 = 1, kT2, kB1, kB2 };

  void replace(bool in_b2) {
    const std::size_t t1 = lists_.size(kT1);
    const double t1_size = static_cast<double>(t1);
    if (t1 > 0 && (t1_size > target_ || (in_b2 && t1_size == target_))) {
      lists_.push(kB1, lists_.oldest(kT1));
    } else if (lists_.size(kT2) > 0) {
      lists_.push(kB2, lists_.oldest(kT2));
    } else {
      lists_.push(kB1, lists_.oldest(kT1));
    }
  }

  void miss() {
    const std::size_t l1 = lists_.size(kT1) + lists_.size(kB1);
    const std::size_t all = l1 + lists_.size(kT2) + lists_.size(kB2);
    if (l1 == capacity_) {
      if (lists_.size(kT1) < capacity_) {
        lists_.remove(lists_.oldest(kB1));
        replace(false);
      } else {
        lists_.remove(lists_.oldest(kT1));
      }
    } else if (all >= capacity_) {
      if (all == 2 * capacity_) lists_.remove(lists_.oldest(kB2));
      replace(false);
    }
  }

  Lists<5> lists_;
  std::size_t capacity_;
  double target_ = 0;
};

// Yang et al., SOSP '23: small FIFO of 10 %, ghost of 90 %, promotion from 2 hits on, 2-bit CLOCK.
class S3Fifo {
 public:
  S3Fifo(std::size_t capacity, std::size_t distinct)
      : lists_(distinct),
        uses_(distinct),
        capacity_(capacity),
        small_(std::max<std::size_t>(1, capacity / 10)),
        ghost_(std::max<std::size_t>(1, capacity - small_)) {}

  bool access(Id id) {
    const std::size_t list = lists_.list(id);
    if (list == kSmall || list == kMain) {
      uses_[id] = static_cast<std::uint8_t>(std::min(uses_[id] + 1, 3));
      return true;
    }
    // Before making room, because that may push it out of the ghost.
    lists_.remove(id);
    while (lists_.size(kSmall) + lists_.size(kMain) >= capacity_) make_room();
    uses_[id] = 0;
    lists_.push(list == kGhost ? kMain : kSmall, id);
    return false;
  }

 private:
  enum : std::size_t { kSmall = 1, kMain, kGhost };

  void make_room() {
    if (lists_.size(kSmall) < small_ && lists_.size(kMain) > 0) {
      evict_main();
      return;
    }
    const Id id = lists_.oldest(kSmall);
    lists_.push(uses_[id] >= 2 ? kMain : kGhost, id);
    uses_[id] = 0;
    if (lists_.size(kGhost) > ghost_) lists_.remove(lists_.oldest(kGhost));
  }

  void evict_main() {
    Id id = lists_.oldest(kMain);
    for (; uses_[id] > 0; id = lists_.oldest(kMain)) {
      --uses_[id];
      lists_.push(kMain, id);
    }
    lists_.remove(id);
  }

  Lists<4> lists_;
  std::vector<std::uint8_t> uses_;
  std::size_t capacity_;
  std::size_t small_;
  std::size_t ghost_;
};

// Zhang et al., NSDI '24.
class Sieve {
 public:
  Sieve(std::size_t capacity, std::size_t distinct)
      : lists_(distinct), used_(distinct), capacity_(capacity) {}

  bool access(Id id) {
    if (lists_.list(id) == 1) {
      used_[id] = true;
      return true;
    }
    if (lists_.size(1) == capacity_) {
      if (hand_ == kNoId) hand_ = lists_.oldest(1);
      for (; used_[hand_]; hand_ = lists_.newer(hand_)) used_[hand_] = false;
      const Id victim = hand_;
      hand_ = victim == lists_.newest(1) ? kNoId : lists_.newer(victim);
      lists_.remove(victim);
    }
    used_[id] = false;
    lists_.push(1, id);
    return false;
  }

 private:
  static constexpr Id kNoId = std::numeric_limits<Id>::max();

  Lists<2> lists_;
  std::vector<bool> used_;
  std::size_t capacity_;
  Id hand_ = kNoId;
};

}  // namespace tiercel::bench
