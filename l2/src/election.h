#pragma once

// Election: pieces together, from the events of several Sentinels, that a replica is being promoted
// by right, about 0.9 s before the first Sentinel announces it. By right means what it means to the
// Sentinels themselves:
//
//   - a majority of the Sentinels that we know voted for the same Sentinel in the same epoch (each
//     votes once in an epoch, so there is no second one), and we heard every vote from the voter;
//   - that Sentinel says that it stood for our master in this epoch, was elected, and has sent the
//     replica SLAVEOF NO ONE. In one epoch it promotes no other.
//
// What remains is the replica's own word: ROLE, asked by whoever dials it. No I/O, no clock; loop
// thread only. A manual SENTINEL FAILOVER has no votes and is left to the announcement.

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>

#include "sentinel_event.h"

namespace tiercel::l2 {

class Election {
 public:
  struct Promotion {
    Endpoint endpoint;
    std::uint64_t epoch = 0;

    friend bool operator==(const Promotion&, const Promotion&) = default;
  };

  // `sentinel` names who published the event, the same number for the same Sentinel. `voters`: how
  // many Sentinels there are. Each promotion is returned once.
  std::optional<Promotion> hear(std::uint64_t sentinel, const SentinelEvent& event,
                                std::size_t voters);

  // Its subscription ended: what it says next does not continue what it said. Its votes stand.
  void interrupted(std::uint64_t sentinel);

 private:
  struct Voice {
    std::uint64_t epoch_last = 0;                // Of +new-epoch.
    std::uint64_t epoch_stood = 0;               // At +try-failover; 0: it does not stand.
    bool is_elected = false;                     // In epoch_stood.
    std::optional<Endpoint> promoting;           // In epoch_stood.
    std::map<std::uint64_t, std::string> votes;  // By epoch, the newest few.
  };

  [[nodiscard]] std::optional<Promotion> conclude(std::size_t voters);

  std::map<std::uint64_t, Voice> voices_;
  std::uint64_t epoch_told_ = 0;  // Of the last promotion returned; older ones are history.
};

}  // namespace tiercel::l2
