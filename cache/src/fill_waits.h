#pragma once

// FillWaits: flights that wait for another process's load of their key to end, and which loads have
// ended lately: the message that says so comes on S and can overtake the answer on D that says that
// someone loads. One thread at a time.

#include <array>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "flights.h"
#include "tiercel/base/clock.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel {

class FillWaits {
 public:
  using Waiting = std::pair<std::shared_ptr<Flight>, l2::EventLoop::TimerId>;

  // Until the timer fires, which then removes it.
  void add(const std::shared_ptr<Flight>& flight, l2::EventLoop::TimerId timer) {
    waiting_.emplace(flight->key, Waiting{flight, timer});
  }
  void remove(const Flight& flight) {
    const auto [begin, end] = waiting_.equal_range(flight.key);
    for (auto entry = begin; entry != end; ++entry) {
      if (entry->second.first.get() != &flight) continue;
      waiting_.erase(entry);
      return;
    }
  }
  // A load of the key has ended: whoever waits for it, who then waits no more.
  [[nodiscard]] std::vector<Waiting> take(std::string_view key, TimePoint now) {
    slot_of(key) = now;
    std::vector<Waiting> waiting;
    if (waiting_.empty()) return waiting;
    const auto [begin, end] = waiting_.equal_range(std::string{key});
    for (auto entry = begin; entry != end; ++entry) waiting.push_back(std::move(entry->second));
    waiting_.erase(begin, end);
    return waiting;
  }
  // True also where another key's end has taken the place of this one's.
  [[nodiscard]] bool may_have_ended_since(std::string_view key, TimePoint moment) {
    return slot_of(key) >= moment;
  }

 private:
  TimePoint& slot_of(std::string_view key) {
    return ended_[std::hash<std::string_view>{}(key) % ended_.size()];
  }

  std::unordered_multimap<std::string, Waiting> waiting_;
  std::array<TimePoint, 1024> ended_{};
};

}  // namespace tiercel
