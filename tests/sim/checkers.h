#pragma once

// Checkers: what was done to the data, and what readers were told, held against the contract.
//
// R. Let a read that L1 answered have looked at the clock at t, under a lease F + Δ that S had on
// branch b, with value v. A change x of the key counts against it if it was executed before F and v
// does not reflect it, and
//   own     x is on the path of b (b's own changes, and those of its ancestors before the forks);
//   other   or x is on another branch c that has more authority: one that the Sentinels made the
//           one to use later than b; or, where the lease rested on the replicas' word, one that
//           anybody promoted from b or from a branch that descends from it, unless b was made the
//           one to use again after it. And c was not thrown away by then: its server is still its
//           master at t, or c is part of what the last master holds in the end. A Sentinel's
//           promotion of which no Sentinel ever came to know (its leader died, or gave up) counts
//           as anybody's, and not at all where the lease rested on the Sentinels' word (A5 in
//           docs/design/coherence.md).
// What is left out: changes of branches that were lost before t, since nobody can reflect them; and
// those of other servers while the lease claims no more than "per server" (mode none).
// "Executed" stands in for "acknowledged": it is earlier, so more is demanded. F is demanded where
// the contract says t - Δ (t < F + Δ): that is what Value::age_bound() promises.
// v reflects x if x is on v's path at or before it; of loaded keys, if the load saw x in the
// database.
// Ghost (C4): under a lease on b nothing is served that is neither on b's path nor of a later
// branch: what was lost with an old master is gone.
// M. Per instance and key, within one generation of L1 (and while its server is on the branch that
// it was on when the epoch began: what goes to Redis has no lease): no read's version is older than
// that of a read, or an own write, that had ended before it began, if both are of one path. W. At
// the end: an acknowledged write is on the last master's path or lost (counted). One that was
// acknowledged by all replicas is not lost, unless a server forgot its data.
// Q. At the end: what L1 holds is what the last master holds. Of loaded keys: nothing in its
// history is newer. (A load that replaces a stored value is not announced, since no value that was
// stored before it is wrong by it; who still minds an invalidation of a lost branch makes such
// loads.)

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "branches.h"
#include "dataset.h"
#include "tiercel/coherence/witness.h"
#include "trace.h"

namespace tiercel::sim {

struct Violation {
  std::string checker;  // "R", "ghost", "age", "M", "W", "Q", "T", "tokens"
  std::string text;
};

// A read that L1 answered.
struct Hit {
  std::string_view who{};
  std::size_t key = 0;
  Value value{};
  Version version = coherence::kVersionUnknown;
  TimePoint read_at{};    // When the clock was read.
  TimePoint proven_at{};  // F.
  bool is_leased = true;  // Otherwise an older answer was asked for, and only F is promised.
  int branch = -1;        // That the lease was granted for.
  coherence::WitnessMode mode = coherence::WitnessMode::kNone;
};

class Checkers {
 public:
  Checkers(const Branches& branches, Trace& trace, Duration lease)
      : branches_(branches), trace_(trace), lease_(lease) {}

  // The value of a key changed at a place of the history. For loaded keys `write` is the newest in
  // the database that the change tells of.
  // A clear does not reach values of unknown version (tag_table.h).
  void executed(std::size_t key, Place place, std::uint32_t write, TimePoint at,
                bool is_clear = false);

  void hit(const Hit& hit);

  // M: what one instance knows of one key.
  struct Seen {
    std::uint64_t generation = 0;
    Value value{};
    Version version = coherence::kVersionUnknown;
  };
  // `before`: what had been seen when the read began.
  void seen_in_order(std::string_view who, std::size_t key, const Seen& before, const Seen& now);

  // W.
  void acknowledged(Place place, bool by_all_replicas);

  // Q: whether the history of this branch up to `offset` changed the key in a way that the value
  // does not reflect.
  [[nodiscard]] bool is_outdated(std::size_t key, const Value& value, int branch,
                                 std::uint64_t offset) const;

  // When nothing happens any more; `last` is the branch that the last master is on.
  void settle(int last, std::uint64_t last_offset, bool has_data_been_forgotten);

  void violated(std::string checker, std::string text);
  [[nodiscard]] const std::vector<Violation>& violations() const { return violations_; }
  [[nodiscard]] std::uint64_t stale_beyond_bound() const { return stale_beyond_bound_; }
  [[nodiscard]] double worst_staleness_over_lease() const { return worst_; }
  [[nodiscard]] std::uint64_t acknowledged_count() const { return acknowledged_.size(); }
  [[nodiscard]] std::uint64_t lost_count() const { return lost_; }
  [[nodiscard]] std::uint64_t hits_of_lost_branches() const { return hits_of_lost_branches_; }

 private:
  static constexpr std::size_t kViolationsMax = 20;

  struct Change {
    TimePoint at;
    Place place;
    std::uint32_t write;
    bool is_clear;
  };
  // To be judged when it is known which branch has lasted.
  struct Pending {
    Place place;
    TimePoint changed_at;
    bool was_master;  // Its server, when the read happened.
    std::string who;
    Hit hit;
  };
  enum class Claim : std::uint8_t { kNone, kIfItLasts, kCounts };

  [[nodiscard]] bool reflects(const Value& value, std::size_t key, const Change& change) const;
  [[nodiscard]] Claim claim(const Hit& hit, const Change& change) const;
  void judge(const Hit& hit, std::string_view who, Place place, TimePoint changed_at);

  const Branches& branches_;
  Trace& trace_;
  const Duration lease_;
  std::array<std::vector<Change>, kKeys> changes_;
  std::vector<Pending> pending_;
  std::vector<std::pair<Place, bool>> acknowledged_;
  std::vector<Violation> violations_;
  std::uint64_t stale_beyond_bound_ = 0;
  std::uint64_t lost_ = 0;
  std::uint64_t hits_of_lost_branches_ = 0;
  double worst_ = 0;
};

}  // namespace tiercel::sim
