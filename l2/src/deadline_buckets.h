#pragma once

// DeadlineBuckets: commands by deadline, so that those that are due are found without looking at
// the others. One bucket for each span of 2 ms in which some deadline lies; the commands in it are
// linked. Loop thread only.

#include <array>
#include <cstdint>
#include <map>

#include "pending_command.h"
#include "tiercel/base/clock.h"

namespace tiercel::l2 {

class DeadlineBuckets {
 public:
  // A command is due when the whole of its bucket is: at most so long after its deadline.
  static constexpr Duration kSpan = std::chrono::milliseconds{2};

  // O(log of the buckets), O(1) for one deadline after the other. It must not be in yet.
  void add(PendingCommand& command);
  // O(1), and O(log of the buckets) for the last of its bucket.
  void remove(PendingCommand& command) noexcept;
  // Takes out one of those that are due, of the earliest bucket first; null: there is none.
  [[nodiscard]] PendingCommand* take_due(TimePoint now) noexcept;

  [[nodiscard]] bool empty() const noexcept { return buckets_.empty(); }

 private:
  using Number = std::int64_t;
  struct Bucket {
    PendingCommand* first = nullptr;
    PendingCommand* last = nullptr;
  };
  static Number number_of(TimePoint deadline) noexcept {
    return deadline.time_since_epoch() / kSpan;
  }

  std::map<Number, Bucket> buckets_;  // None is empty.
};

}  // namespace tiercel::l2
