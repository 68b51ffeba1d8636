#pragma once

// Staleness: which of a run's reads were stale, and by how much, judged when the run is over, so
// that what a writer noted down late is not overlooked.
//
// A read is stale if it returned a write of its key although a later one had been acknowledged
// before the read began. Its age counts from the first write that it misses. So both are what
// redis-near-cache's bench says of itself; that one counts ages to the end of the read, which is
// given beside ours. The end of a read includes what its thread waited for a core after it had its
// answer, so what is promised is measured to the begin.

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tiercel/base/clock.h"

namespace tiercel::bench {

// When each write of each key was acknowledged. A key has one writer, which has one write of it
// under way at a time; two keys may be written by two threads.
class WriteTimes {
 public:
  explicit WriteTimes(std::size_t keys) : times_(keys) {}

  // The sequence of the write that comes next; the first is 1. What was there before the run is 0.
  [[nodiscard]] std::uint32_t next(std::uint32_t key) const {
    return static_cast<std::uint32_t>(times_[key].size()) + 1;
  }
  void acknowledged(std::uint32_t key, TimePoint at) { times_[key].push_back(at); }

  // Of the writes 1, 2, ….
  [[nodiscard]] const std::vector<TimePoint>& of(std::uint32_t key) const { return times_[key]; }

 private:
  std::vector<std::vector<TimePoint>> times_;
};

struct Read {
  std::uint32_t key = 0;
  std::uint32_t sequence = 0;  // Of the write that was returned.
  TimePoint began_at{};
  TimePoint ended_at{};
};

struct Staleness {
  std::uint64_t reads = 0;
  std::uint64_t stale = 0;
  std::uint64_t beyond_bound = 0;  // Of the stale ones: those of a greater age.
  Duration worst{0};               // Age at the begin of the read.
  Duration worst_at_end{0};
  std::vector<Duration> ages{};  // Of all stale ones, at the begin.

  [[nodiscard]] double stale_percent() const;
};

void judge(const WriteTimes& writes, std::span<const Read> reads, Duration bound,
           Staleness& staleness);

}  // namespace tiercel::bench
