#pragma once

// Faults: what strikes a world, when, and how all of it is healed. Each takes its choices from the
// seed's second generator, so that a new fault does not change the workload of others.

#include <cstddef>
#include <string_view>

#include "simulation.h"

namespace tiercel::sim {

enum class Fault : std::uint8_t {
  kSlowLinks,
  kCutLinks,
  kCutOneWay,
  kResetLinks,
  kHalfOpenStream,
  kHalfOpenData,
  kKillSubscribers,
  kStopInstance,
  kStallLoop,
  kCrashInstance,
  kStopMaster,         // Shorter than down-after, mostly.
  kZombie,             // Hung until after it was replaced, then awake.
  kZombieAtPromotion,  // The same, awake in that very moment.
  kSecondZombie,       // The replacement hangs as well, while others still follow the first.
  kKillMaster,
  kKillMasterTwice,  // And whoever is promoted.
  kRestartEmpty,     // Before anybody notices.
  kRestartSnapshot,
  kKillReplica,
  kCutReplication,
  kIsolateMaster,  // With some instances on its side.
  kIsolateOneWay,
  kManualFailover,
  kManualTwice,
  kPromoteByHand,
  kPromoteUnreachable,  // A replica that instances cannot ask.
  kDemoteByHand,
  kLoseWhatIsAhead,  // S is silent, replicas get nothing, and then the master dies.
  kDemoteZombie,     // Of two masters the old one, by hand, which closes no connection.
  kKillSentinel,
  kCutSentinel,
  kTiltSentinel,
  kStopSentinel,
  kLeaderDies,  // Right after its order of promotion.
  kFlush,
  kClockBack,
  kClockAhead,
};
inline constexpr std::size_t kFaults = 37;
static_assert(kFaults <= kFaultKindsMax);
std::string_view to_string(Fault fault);

class Faults {
 public:
  explicit Faults(World& world) : world_(world), env_(world.env), random_(world.env.fault_random) {}

  void plan();
  void heal();
  // What no Sentinel mends: servers that replicate each other in a ring.
  void mend();

 private:
  void strike(Fault fault);
  void strike_links(Fault fault);
  void strike_servers(Fault fault);
  void strike_sentinels(Fault fault);

  [[nodiscard]] Duration some(Duration least, Duration most) {
    return Env::some(random_, least, most);
  }
  [[nodiscard]] bool one_in(std::uint64_t n) { return random_.below(n) == 0; }
  [[nodiscard]] Instance& some_instance();
  [[nodiscard]] RedisServer& some_server();
  [[nodiscard]] RedisServer* some_replica();
  void cut_both(std::size_t a, std::size_t b, Duration length);
  void cut_one(std::size_t a, std::size_t b, Duration length);
  // Crash now, start again after `wait`.
  void kill_server(RedisServer& server, Duration wait, bool from_snapshot, bool with_its_host);
  void hang_until_replaced(RedisServer& server, Duration then_after);
  template <typename Then>
  void at_next_promotion(Then then);
  void restore(RedisServer& server);  // By its operator, as the master.
  void isolate(RedisServer& server, Duration length, bool one_way);

  World& world_;
  Env& env_;
  Random& random_;
};

}  // namespace tiercel::sim
