// Faults 17 to 20: somebody promotes or demotes by hand; networks part and heal.

#include <fmt/format.h>

#include <string>

#include "chaos/capabilities.h"
#include "chaos/failover.h"
#include "chaos/faults.h"

namespace tiercel::chaos {
namespace {

struct Pair {
  testing::RedisServer& master;
  testing::RedisServer& replica;
};

// Without Sentinels.
Pair start_pair(World& world) {
  auto& master = world.start_server();
  auto& replica = world.start_server({"--replicaof", "127.0.0.1", std::to_string(master.port())});
  world.must_become("the replica follows", [&] {
    return replica.command({"INFO", "replication"}).find("master_link_status:up") !=
           std::string::npos;
  });
  return {.master = master, .replica = replica};
}

enum class Deed : std::uint8_t { kPromoteOnly, kDemote, kFailoverCommand };

void by_hand(FaultReport& report, const Options& options, Deed deed) {
  World world{report, options};
  const Pair servers = start_pair(world);
  const auto writer = world.add({.url = servers.master.url(),
                                 .who = "pinned to the old master",
                                 .writes = true,
                                 .recovers = false});
  const auto reader = world.add(
      {.url = servers.master.url(), .who = "pinned to the old master", .recovers = false});
  const auto heir = world.add({.url = servers.replica.url(),
                               .who = "at the new master",
                               .writes = true,
                               .recovers = false,
                               .starts_later = true});
  world.start_load();
  // A new replica's first second: it has not yet said how far it is, and the master holds back.
  world.run_for(world.draw_ms(1500, 2000));
  world.fault_begins();
  // The keys have one writer at a time; the last writes may be lost, as with any failover.
  world.stop_writing(writer);
  const std::string port = std::to_string(servers.replica.port());
  if (deed == Deed::kFailoverCommand) {
    world.say("FAILOVER: " + servers.master.command({"FAILOVER"}));
  } else {
    world.say("REPLICAOF NO ONE to the replica: " +
              servers.replica.command({"REPLICAOF", "NO", "ONE"}));
  }
  world.must_become(
      "the replica is a master now",
      [&] { return servers.replica.command({"ROLE"}).starts_with("master"); }, 30s, 1ms);
  world.branch_ended();
  if (deed == Deed::kDemote) {
    world.say("REPLICAOF to the old master: " +
              servers.master.command({"REPLICAOF", "127.0.0.1", port}));
  }
  world.start_member(heir);
  world.start_writing(heir);
  world.must_become("writes are acknowledged there",
                    [&] { return world.of(heir).writes_acked.load() > 10; });
  world.run_for(4s);
  if (deed != Deed::kPromoteOnly) {
    world.must_become("the lease ends", [&] { return world.of(reader).lease_held.load() == 0; });
  }
  world.finish(servers.replica);
}

void promoted_by_hand(FaultReport& report, const Options& options) {
  by_hand(report, options, Deed::kPromoteOnly);
}
void demoted_by_hand(FaultReport& report, const Options& options) {
  by_hand(report, options, Deed::kDemote);
}
void failover_command(FaultReport& report, const Options& options) {
  by_hand(report, options, Deed::kFailoverCommand);
}

// The master is cut off from replicas, Sentinels and all who follow these. Pinned instances reach
// it still (a one-sided partition), but for one that is cut off, too, and comes back with the rest.
void part(FaultReport& report, const Options& options, bool pinned_writer) {
  World world{report, options};
  auto& servers = world.start_sentinels(/*master_behind_proxy=*/true);
  FailoverFleet fleet{world, servers, {.pinned_writer = pinned_writer}};
  auto& own_link = world.start_proxy(servers.server(0).port());
  world.add({.url = own_link.url(), .who = "cut off itself, too", .recovers = false});
  world.start_load();
  world.run_for(world.draw_ms(200, 700));
  world.fault_begins();
  constexpr testing::LinkFault kSilence{.blackhole = true};
  servers.master_proxy().set_client_to_server(kSilence);
  servers.master_proxy().set_server_to_client(kSilence);
  own_link.set_client_to_server(kSilence);
  own_link.set_server_to_client(kSilence);
  world.say("the master is cut off from replicas, Sentinels and their followers");
  fleet.wait_for_promotion();
  auto* master = fleet.final_master();
  if (master == nullptr) return;
  fleet.wait_for_followers(*master);
  world.run_for(4s);
  own_link.heal();
  world.run_for(world.draw_ms(200, 1000));
  servers.master_proxy().heal();
  world.say("healed");
  world.must_become(
      "the old master is a replica",
      [&] { return servers.server(0).command({"ROLE"}).starts_with("slave"); }, 60s);
  world.run_for(2s);
  if (pinned_writer) {
    world.figure(fmt::format("writes that the isolated master acknowledged {}",
                             world.of(fleet.pinned()[0]).writes_acked.load()));
  }
  world.finish(*master);
}

void partition(FaultReport& report, const Options& options) { part(report, options, false); }
void rollback(FaultReport& report, const Options& options) {
  part(report, options, true);
  if (report.verdict.writes_lost == 0) {
    report.violations.emplace_back("no write was lost: there was nothing to roll back");
  }
}

constexpr std::string_view kNeedsWitness = kHasWitness ? "" : "the witness";

constexpr Fault kFaults[] = {
    {17, "promoted-by-hand", "REPLICAOF NO ONE to a replica, the old master is left alone",
     promoted_by_hand, false, false, kNeedsWitness},
    {18, "demoted-by-hand", "REPLICAOF to the master", demoted_by_hand, false, false,
     kNeedsWitness},
    {18, "failover-command", "FAILOVER to the master", failover_command, false, false,
     kNeedsWitness},
    {19, "partition", "one-sided and full partition, then healed", partition, false, false,
     kNeedsWitness},
    {20, "rollback", "writes on an isolated master are lost when it is healed", rollback, false,
     false, kNeedsWitness},
};

}  // namespace

std::span<const Fault> operator_faults() { return kFaults; }

}  // namespace tiercel::chaos
