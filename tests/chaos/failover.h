#pragma once

// What the faults with Sentinels share: a fleet that follows them, instances that are pinned to the
// first master, and waiting for a promotion.

#include <cstdint>
#include <string>
#include <vector>

#include "chaos/world.h"

namespace tiercel::chaos {

struct FleetShape {
  bool pinned_reader = true;
  bool pinned_writer = true;
  std::uint32_t replicas = 0;  // Copies that each write waits for.
  std::string pinned_hooks{};  // The library's test hooks, for the pinned ones.
};

class FailoverFleet {
 public:
  // Two instances that follow the Sentinels, one of which writes. The pinned ones know nothing but
  // the first master's own port, as behind a fixed address: their lease is all that protects them.
  // The first of them writes, too: those writes are lost with the old master.
  FailoverFleet(World& world, testing::SentinelSetup& servers, const FleetShape& shape = {});

  [[nodiscard]] testing::RedisServer& old_master() { return servers_.server(0); }
  // The moment when a replica says that it is the master now; G counts from there. -1, and a
  // violation, when none does within a minute.
  int wait_for_promotion(const std::vector<std::size_t>& of = {1, 2});
  // Until the followers hold a lease on the new master and write there.
  void wait_for_followers(testing::RedisServer& master);
  // After the deed: enough for the Sentinels to demote a zombie, and some.
  void run_on();
  // The master whom most Sentinels name; nullptr, and a violation, when there is none.
  testing::RedisServer* final_master(int not_this = 0);

  // Likewise, whoever it is.
  static testing::RedisServer* master_of(World& world, testing::SentinelSetup& servers);

  [[nodiscard]] std::uint32_t follower(std::size_t index) const { return followers_.at(index); }
  [[nodiscard]] const std::vector<std::uint32_t>& pinned() const { return pinned_; }

 private:
  World& world_;
  testing::SentinelSetup& servers_;
  std::vector<std::uint32_t> followers_;
  std::vector<std::uint32_t> pinned_;
};

}  // namespace tiercel::chaos
