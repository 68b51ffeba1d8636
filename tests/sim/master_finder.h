#pragma once

// MasterFinder: where one instance believes the master to be. A model of docs/design/failover.md:
// the Sentinels' claims in rounds, the highest configuration epoch first; an announcement that goes
// on from what is believed, and an election that was followed vote by vote, ahead of the claims;
// never less than what is proven. Without Sentinels it is always the same server.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "env.h"
#include "sentinel_model.h"

namespace tiercel::sim {

class MasterFinder {
 public:
  // `on_change`: the target is another one now.
  MasterFinder(Env& env, Process& process, std::vector<SentinelModel*> sentinels,
               std::function<void()> on_change);

  void start();
  [[nodiscard]] std::optional<std::size_t> target() const { return target_; }
  void hear(const SentinelEvent& event);
  void ask();  // A round, unless one is under way.
  void found_master(std::size_t server);
  void found_none(std::size_t server);

  // For the Session: all Sentinels are asked about `master`; `done` has what came by the deadline.
  void survey(std::size_t master, const std::vector<std::string>& addresses, Duration patience,
              std::function<void(coherence::SentinelRound)> done);

 private:
  struct Round {
    std::vector<SentinelAnswer> answers;
    bool is_over = false;
  };
  void ask_all(Duration patience, std::function<void(const Round&)> done);
  void judge(const Round& round);
  void hint(std::size_t server, std::uint64_t epoch);
  void set_target(std::size_t server, std::uint64_t epoch);

  Env& env_;
  Process& process_;
  const std::vector<SentinelModel*> sentinels_;
  const std::function<void()> on_change_;
  std::optional<std::size_t> target_;
  std::uint64_t target_epoch_ = 0;
  std::uint64_t proven_epoch_ = 0;
  bool is_claimed_ = false;  // By a Sentinel that was asked.
  TimePoint hint_until_{};
  bool is_asking_ = false;
  bool asks_again_ = false;
  // What is heard of one Sentinel's events. Where some are missing, it is listened to anew.
  struct Hearing {
    bool has_begun = false;
    std::uint64_t missed = 0;  // Published before.
    std::uint64_t heard = 0;
    TimePoint since{};
    TimePoint sign_at{};                      // The last of a failover;
    std::optional<std::size_t> settled_on{};  // if that was a switch.
  };
  [[nodiscard]] bool hears(const SentinelAnswer& answer);  // All that it had published.

  std::vector<Hearing> hearings_;
  std::map<std::uint64_t, std::map<std::size_t, std::set<std::size_t>>> votes_;  // Epoch, leader.
};

}  // namespace tiercel::sim
