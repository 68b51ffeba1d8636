#pragma once

// Operator: does the deed. On a thread of its own it kills the master at its time, watches the
// promotion, and brings the old master back as a replica. While it runs, nobody else may touch the
// servers.

#include <atomic>
#include <cstddef>
#include <optional>
#include <thread>

#include "failover/board.h"
#include "failover/events.h"
#include "support/redis_server.h"

namespace tiercel::failover {

class Operator {
 public:
  // All must outlive it.
  Operator(testing::SentinelSetup& servers, Board& board, Events& events, TimePoint kill_at);
  // Gives up what it waits for and joins. A replica that is just coming back is waited for.
  ~Operator() = default;

  [[nodiscard]] bool ended() const noexcept { return ended_.load(std::memory_order_acquire); }
  // Whether a new master was promoted, and whether the deed was done at all.
  [[nodiscard]] bool killed() const noexcept { return killed_.load(); }
  [[nodiscard]] bool promoted() const noexcept { return promoted_.load(); }

 private:
  void run(const std::stop_token& stop);
  // nullopt: there is none, or it was told to stop.
  std::optional<std::size_t> find_master(const std::stop_token& stop);
  void kill_master(std::size_t number);
  bool wait_for_promotion(std::size_t old, const std::stop_token& stop);
  bool wait_for_sentinels(std::size_t old, const std::stop_token& stop);

  testing::SentinelSetup& servers_;
  Board& board_;
  Events& events_;
  const TimePoint kill_at_;
  std::atomic<bool> killed_{false};
  std::atomic<bool> promoted_{false};
  std::atomic<bool> ended_{false};
  std::jthread thread_;  // Last: it uses all the others.
};

}  // namespace tiercel::failover
