#pragma once

// Branches: the true history of all data, which nobody in the simulated world can see whole. Each
// time that a server begins to take writes (a promotion, a restart) a branch begins, at some place
// of the branch that its data come from. What happened to a server's data is then a place: a branch
// and an offset, where offsets count from the root along the path.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "dataset.h"
#include "tiercel/base/check.h"
#include "timeline.h"

namespace tiercel::sim {

// kOrigin: the first, and each one whose data begin with nothing. kElected: promoted by a Sentinel.
// kByHand: by an operator. kRestarted: its data come from a snapshot.
enum class Birth : std::uint8_t { kOrigin, kElected, kByHand, kRestarted };

struct Branch {
  int parent = -1;
  std::uint64_t fork = 0;  // The last offset of the parent's path that it shares.
  Birth birth = Birth::kOrigin;
  std::size_t server = 0;
  TimePoint born_at{};
  TimePoint ended_at = TimePoint::max();  // When its server stopped being master of it.
  // Authority: an even number for each branch that whoever decides made the one to use, rising; an
  // odd one, just below the reigning branch's, for those that nobody asked for.
  int rank = 0;
  bool is_confirmed = true;  // False: promoted by a Sentinel, and none of them knows of it yet.
  TimePoint enthroned_at{};  // When it became the one to use, for the last time.
  std::vector<Op> ops{};     // Those after `fork`.

  [[nodiscard]] bool is_legitimate() const { return rank % 2 == 0; }
};

class Branches {
 public:
  // `is_legitimate`: it is the one to use from now on.
  int begin(Branch branch, bool is_legitimate) {
    if (is_legitimate) reign_ += 2;
    branch.rank = is_legitimate ? reign_ : reign_ - 1;
    branch.enthroned_at = branch.born_at;
    all_.push_back(std::move(branch));
    return static_cast<int>(all_.size()) - 1;
  }
  // An old one is the one to use again: Sentinels have chosen a master that never had stopped.
  void enthrone(int branch, TimePoint now) {
    if ((*this)[branch].rank == reign_) return;
    reign_ += 2;
    (*this)[branch].rank = reign_;
    (*this)[branch].enthroned_at = now;
    is_in_order_ = false;
  }
  // A Sentinel has seen its server as the master that it wanted, however it became one.
  void confirm(int branch, TimePoint now) {
    (*this)[branch].is_confirmed = true;
    if (!(*this)[branch].is_legitimate()) enthrone(branch, now);
  }
  void end(int branch, TimePoint now) {
    Branch& ended = all_[static_cast<std::size_t>(branch)];
    ended.ended_at = std::min(ended.ended_at, now);
  }
  [[nodiscard]] Branch& operator[](int branch) { return all_[static_cast<std::size_t>(branch)]; }
  [[nodiscard]] const Branch& operator[](int branch) const {
    return all_[static_cast<std::size_t>(branch)];
  }
  [[nodiscard]] int size() const { return static_cast<int>(all_.size()); }
  [[nodiscard]] int reign() const { return reign_; }
  // Whether a branch that was born later has always had more authority.
  [[nodiscard]] bool is_in_order() const { return is_in_order_; }

  [[nodiscard]] std::uint64_t tip(int branch) const {
    return (*this)[branch].fork + (*this)[branch].ops.size();
  }
  // Whether the place is part of what the branch holds at `offset`.
  [[nodiscard]] bool contains(
      int branch, Place place,
      std::uint64_t offset = std::numeric_limits<std::uint64_t>::max()) const {
    while (branch >= 0 && branch != place.branch) {
      offset = std::min(offset, (*this)[branch].fork);
      branch = (*this)[branch].parent;
    }
    return branch >= 0 && place.offset <= offset;
  }
  // Whether `branch` goes on from `from`, by any number of promotions.
  [[nodiscard]] bool descends(int branch, int from) const {
    while (branch >= 0 && branch != from) branch = (*this)[branch].parent;
    return branch == from;
  }
  // The place that `branch` holds at `offset`, where there is an operation.
  [[nodiscard]] Place place_at(int branch, std::uint64_t offset) const {
    while (offset <= (*this)[branch].fork && (*this)[branch].parent >= 0) {
      branch = (*this)[branch].parent;
    }
    return {branch, offset};
  }
  [[nodiscard]] const Op& op_at(int branch, std::uint64_t offset) const {
    const Place place = place_at(branch, offset);
    const Branch& holder = (*this)[place.branch];
    TIERCEL_CHECK(offset > holder.fork && offset - holder.fork <= holder.ops.size());
    return holder.ops[static_cast<std::size_t>(offset - holder.fork - 1)];
  }
  static std::string name(int branch) {
    return branch < 0 ? std::string{} : "branch" + std::to_string(branch);
  }

 private:
  std::vector<Branch> all_;
  int reign_ = 0;
  bool is_in_order_ = true;
};

}  // namespace tiercel::sim
