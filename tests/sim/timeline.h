#pragma once

// Timeline: simulated time. What happens is put in with its time and taken out in the order of
// time, and within one time in the order in which it was put in; so one seed gives one run.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/unique_function.h"

namespace tiercel::sim {

using Step = UniqueFunction<void()>;

inline constexpr TimePoint kBeginning{std::chrono::seconds{1000}};

class Timeline {
 public:
  [[nodiscard]] TimePoint now() const { return now_; }

  void at(TimePoint time, Step step) {
    heap_.push_back({std::max(time, now_), next_++, std::move(step)});
    std::push_heap(heap_.begin(), heap_.end(), later);
  }
  void after(Duration wait, Step step) { at(now_ + wait, std::move(step)); }

  void run_until(TimePoint end) {
    while (!heap_.empty() && heap_.front().time <= end) {
      std::pop_heap(heap_.begin(), heap_.end(), later);
      Entry entry = std::move(heap_.back());
      heap_.pop_back();
      now_ = entry.time;
      entry.step();
    }
    now_ = std::max(now_, end);
  }
  // What is still to come never happens.
  void forget() { heap_.clear(); }
  [[nodiscard]] std::uint64_t steps() const { return next_; }

 private:
  struct Entry {
    TimePoint time;
    std::uint64_t order;
    Step step;
  };
  static bool later(const Entry& a, const Entry& b) {
    return a.time != b.time ? a.time > b.time : a.order > b.order;
  }

  TimePoint now_ = kBeginning;
  std::uint64_t next_ = 0;
  std::vector<Entry> heap_;
};

}  // namespace tiercel::sim
