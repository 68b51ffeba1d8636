#pragma once

// MasterBelief: who the master is, from what the Sentinels claim, what was announced, and what the
// links found out themselves. A function of (state, event, now); does no I/O. Loop thread only.
// docs/design/failover.md says why each rule is as it is:
//
//   1. A promotion by right (Election) or an announcement counts at once, and until a Sentinel's
//      answer reaches its epoch, for at most kAheadMax: whoever still claims less is behind.
//   2. Else the claim with the highest configuration epoch; of equal ones, the one with more
//      Sentinels behind it. An epoch becomes *proven* when a link found a master there.
//   3. A claim below the proven epoch counts for nothing, until a majority of the Sentinels has
//      claimed so, and none more, for kOutvotedMax: then they were set up anew.
//   4. A claim that the server itself denied (ROLE), or whose server could not be reached for
//      kUnreachableMax, is refuted: what a majority of the Sentinels names goes first.
//   5. When no Sentinel answers, the server that was proven last, but only in the same life (run
//      id and replication id): that is as good as a connection that was never lost.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {

// Where to dial.
struct Resolution {
  Endpoint endpoint{};
  std::uint64_t config_epoch = 0;
  // Set: only if the server is still in this life.
  std::optional<ServerIdentity> only_if{};
};

// What one Sentinel says. Tilted: it has stopped acting on what it sees.
struct SentinelClaim {
  Endpoint master{};
  std::uint64_t config_epoch = 0;
  bool is_tilted = false;
};

class MasterBelief {
 public:
  static constexpr Duration kAheadMax = std::chrono::seconds{5};
  static constexpr Duration kOutvotedMax = std::chrono::seconds{10};
  static constexpr Duration kUnreachableMax = std::chrono::seconds{5};

  // From the answers of one round. `voters`: how many Sentinels there are. Nothing when nobody
  // claims anything and no master was ever found.
  [[nodiscard]] std::optional<Resolution> choose(std::span<const SentinelClaim> claims,
                                                 std::size_t voters, TimePoint now);

  // A Sentinel announced that `from` was replaced by `to`. False: that does not continue what we
  // believe; ask all of them instead.
  [[nodiscard]] bool announced(const Endpoint& from, const Endpoint& to, TimePoint now);
  // A replica is being promoted by right. False: an older story than what we believe.
  [[nodiscard]] bool promotion_ordered(const Endpoint& replica, std::uint64_t epoch, TimePoint now);
  // No promotion, after all.
  void promotion_aborted();
  // Something is believed that no Sentinel has confirmed in an answer yet.
  [[nodiscard]] bool is_ahead(TimePoint now) const { return ahead_ && now < ahead_->until; }

  // What the links found. found_master: ROLE said so.
  void found_master(const ServerIdentity& identity);
  void found_not_master(const Endpoint& endpoint);
  void found_unreachable(const Endpoint& endpoint, TimePoint now);

 private:
  struct Proposal {
    Endpoint endpoint;
    std::uint64_t epoch = 0;
    std::size_t votes = 0;
    std::size_t votes_alert = 0;  // Of Sentinels that are not tilted.
  };
  struct Ahead {
    Endpoint endpoint;
    std::uint64_t epoch = 0;
    TimePoint until{};
    bool is_announced = false;
  };
  struct Refuted {
    Endpoint endpoint;
    std::uint64_t epoch = 0;
  };

  [[nodiscard]] static std::vector<Proposal> proposals_of(std::span<const SentinelClaim> claims);
  [[nodiscard]] bool is_outdated(const Proposal& best, std::size_t voters, TimePoint now);
  void prove();
  [[nodiscard]] bool is_refuted(const Proposal& proposal) const;
  void refute(const Endpoint& endpoint, std::uint64_t epoch);
  Resolution aim_at(const Endpoint& endpoint, std::uint64_t epoch);

  std::optional<Endpoint> target_;  // The last choice, and the epoch at which it was claimed.
  std::uint64_t target_epoch_ = 0;
  std::optional<ServerIdentity> found_;   // Where a link last found a master.
  std::optional<ServerIdentity> proven_;  // And a Sentinel named it, too.
  std::uint64_t proven_epoch_ = 0;
  std::optional<Ahead> ahead_;
  std::vector<Refuted> refuted_;  // Oldest first, kRefutedMax at most.
  std::optional<TimePoint> outvoted_since_;
  std::optional<TimePoint> unreachable_since_;  // Of target_.
};

}  // namespace tiercel::l2
