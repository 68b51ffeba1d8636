// Faults 12 to 16, 22 and 23: the master dies, hangs and wakes up, under Sentinels.

#include <fmt/format.h>

#include "chaos/capabilities.h"
#include "chaos/failover.h"
#include "chaos/faults.h"

namespace tiercel::chaos {
namespace {

void master_killed(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  FailoverFleet fleet{world, servers};
  world.start_load();
  world.run_for(world.draw_ms(200, 1200));
  world.fault_begins();
  servers.server(0).kill();
  world.say("SIGKILL to the master");
  fleet.wait_for_promotion();
  auto* master = fleet.final_master();
  if (master == nullptr) return;
  world.say("most Sentinels name " + master->endpoint());
  fleet.wait_for_followers(*master);
  world.run_for(2s);
  servers.restart_as_replica(0);
  world.say("the old master is back as a replica");
  world.run_for(2s);
  world.finish(*master);
}

// Nothing is written while the master dies, so nothing can be lost: L1 has no reason to be dropped.
void warm_failover(FaultReport& report, const Options& options) {
  constexpr std::uint32_t kKeys = 10'000;
  World world{report, options, {.key_count = kKeys}};
  auto& servers = world.start_sentinels();
  InstanceSetup quick;
  quick.fills_per_s = 20'000;
  const auto writer = world.add({.url = servers.url(), .writes = true, .setup = quick});
  const auto reader = world.add({.url = servers.url(), .who = "reader", .setup = quick});
  world.start_load();
  world.stop_writing(writer);
  world.must_become(
      "L1 holds every key", [&] { return world.of(reader).l1_entries.load() >= kKeys; }, 60s);
  const std::string history = std::string{kNamespace} + "/history";
  const auto newest = [&](std::size_t server) {
    return servers.server(server).command({"XREVRANGE", history, "+", "-", "COUNT", "1"});
  };
  world.must_become("both replicas have all",
                    [&] { return newest(1) == newest(0) && newest(2) == newest(0); });
  world.let_fill(false);
  const std::uint64_t before = world.count_in_l1(reader);
  const auto epochs = world.said(reader, &InstanceBoard::epochs);
  world.fault_begins();
  servers.server(0).kill();
  world.say(fmt::format("SIGKILL to the master, with {} entries in L1 and no writes", before));
  const int index = servers.wait_for_new_master(0);
  if (index < 0) return world.violation("no new master");
  auto& master = servers.server(static_cast<std::size_t>(index));
  world.must_become(
      "a new epoch with a lease",
      [&] {
        return world.of(reader).epochs.load() > epochs && world.of(reader).lease_held.load() != 0;
      },
      60s);
  const std::uint64_t after = world.count_in_l1(reader);
  report.warm_pct =
      before == 0 ? 0 : 100.0 * static_cast<double>(after) / static_cast<double>(before);
  world.figure(
      fmt::format("{} of {} entries are still there ({:.1f} %)", after, before, *report.warm_pct));
  if (kHasWarmEpochs) {
    world.check(2 * after > before, "L1 did not outlive a failover that lost nothing");
  }
  world.let_fill(true);
  world.start_writing(writer);
  world.run_for(1s);
  world.finish(master);
}

void master_hangs(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  InstanceSetup patient;
  patient.stream_timeout_ms = 10'000;
  const auto writer = world.add({.url = servers.url(), .writes = true, .setup = patient});
  const auto reader = world.add({.url = servers.url(), .who = "reader", .setup = patient});
  world.start_load();
  const auto epochs = world.said(reader, &InstanceBoard::epochs);
  const auto drops = world.of(reader).l1_drops.load();
  world.fault_begins();
  servers.server(0).stop_process();
  world.say("SIGSTOP to the master for 700 ms; the Sentinels need three seconds");
  world.run_for(700ms);
  const bool bypassed = world.said(reader, &InstanceBoard::lease_held) == 0;
  servers.server(0).continue_process();
  world.must_become("the lease is back", [&] { return world.of(reader).lease_held.load() != 0; });
  const auto acked = world.of(writer).writes_acked.load();
  world.must_become("writes go on", [&] { return world.of(writer).writes_acked.load() > acked; });
  world.run_for(2s);
  auto* master = FailoverFleet::master_of(world, servers);
  if (master == nullptr) return;
  if (master == &servers.server(0)) {
    world.check(bypassed, "the lease held, though nobody could renew it");
    world.check(world.said(reader, &InstanceBoard::epochs) == epochs, "the epoch ended");
    world.check(world.of(reader).l1_drops.load() == drops, "L1 was dropped");
    world.say("the same S goes on, nothing was dropped");
  } else {
    world.figure(
        "the Sentinels were slow to hear the master and did fail over; nothing is said of "
        "the epoch then");
  }
  world.finish(*master);
}

void hang_failover_wake(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  FailoverFleet fleet{world, servers};
  world.start_load();
  world.run_for(world.draw_ms(200, 700));
  world.fault_begins();
  servers.server(0).stop_process();
  world.say("SIGSTOP to the master");
  fleet.wait_for_promotion();
  auto* master = fleet.final_master();
  if (master == nullptr) return;
  fleet.wait_for_followers(*master);
  world.run_for(world.draw_ms(500, 1500));
  servers.server(0).continue_process();
  world.say("SIGCONT: the old master answers, as a master, until a Sentinel demotes it");
  fleet.run_on();
  world.say("the old master's role: " + servers.server(0).command({"ROLE"}).substr(0, 6));
  world.finish(*master);
}

// Sentinels demote a master that should be a replica after four of these periods: 40 s.
void let_zombies_live(testing::SentinelSetup& servers) {
  for (std::size_t i = 0; i < servers.sentinel_count(); ++i) {
    const std::string reply =
        servers.sentinel(i).command({"SENTINEL", "DEBUG", "publish-period", "10000"});
    if (reply != "OK") testing::fail("SENTINEL DEBUG: " + reply);
  }
}

void wake_at_promotion(FaultReport& report, const Options& options, const std::string& hooks) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  FailoverFleet fleet{world, servers, {.pinned_hooks = hooks}};
  world.start_load();
  world.run_for(world.draw_ms(200, 700));
  // The control's fault must show, however late its threads are: the zombie lives as long.
  const bool is_control = !hooks.empty();
  if (is_control) let_zombies_live(servers);
  world.fault_begins();
  servers.server(0).stop_process();
  world.say("SIGSTOP to the master");
  fleet.wait_for_promotion();
  const std::int64_t promoted_at = ticks_now();
  servers.server(0).continue_process();
  world.say("SIGCONT at that moment");
  if (is_control) {
    // No must_become: its violation would pass for one that the oracles found.
    const bool shown = testing::poll_until(
        [&] {
          return world.of(fleet.pinned()[1]).last_hit_at.load() >
                 promoted_at + 2 * world.lease().count();
        },
        30s);
    if (!shown) world.say("L1 behind the old master did not answer again");
  }
  fleet.run_on();
  auto* master = fleet.final_master();
  if (master == nullptr) return;
  fleet.wait_for_followers(*master);
  world.finish(*master);
}

void wakes_at_promotion(FaultReport& report, const Options& options) {
  wake_at_promotion(report, options, "");
}
void pings_alone(FaultReport& report, const Options& options) {
  wake_at_promotion(report, options, "lease_by_pings_alone");
}

void manual_failover(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  // Every write waits for both replicas: then none may be lost.
  FailoverFleet fleet{world, servers, {.replicas = kHasReplicas ? 2U : 0U}};
  world.start_load();
  world.run_for(world.draw_ms(200, 700));
  world.fault_begins();
  world.say("SENTINEL FAILOVER: " +
            servers.sentinel(0).command({"SENTINEL", "FAILOVER", servers.master_name()}));
  fleet.wait_for_promotion();
  fleet.run_on();
  auto* master = fleet.final_master();
  if (master == nullptr) return;
  fleet.wait_for_followers(*master);
  world.finish(*master);
  if (kHasReplicas) {
    world.check(
        report.verdict.writes_lost == 0,
        fmt::format("W: {} acknowledged writes were lost, though each waited for all replicas",
                    report.verdict.writes_lost));
  }
}

void helpers_die(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  FailoverFleet fleet{world, servers};
  world.start_load();
  world.fault_begins();
  const auto reader = fleet.follower(1);
  const auto look = [&](const std::string& what, const std::string& witness) {
    world.run_for(2s);
    world.must_become("the lease is there, and rests on the " + witness + ": " + what, [&] {
      return world.of(reader).lease_held.load() != 0 &&
             (!kHasWitness || world.witness_of(reader) == witness);
    });
    world.say(what + ": the lease rests on \"" + world.witness_of(reader) + "\"");
  };
  look("all in health", "replicas");
  servers.sentinel(0).stop_process();
  look("one Sentinel stopped", "replicas");
  servers.sentinel(0).continue_process();
  servers.server(2).kill();
  look("one replica dead", "sentinels");
  servers.server(2).restart();
  look("it is back", "replicas");
  for (std::size_t i = 0; i < servers.sentinel_count(); ++i) servers.sentinel(i).kill();
  look("all Sentinels dead", "replicas");
  world.finish(servers.server(0));
}

void second_failover(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& servers = world.start_sentinels();
  FailoverFleet fleet{world, servers, {.pinned_writer = false}};
  world.start_load();
  world.fault_begins();
  servers.server(0).kill();
  world.say("SIGKILL to the master");
  const int first = fleet.wait_for_promotion();
  if (first < 0) return;
  world.run_for(world.draw_ms(0, 1500));
  servers.server(static_cast<std::size_t>(first)).kill();
  world.say("SIGKILL to the new master");
  fleet.wait_for_promotion({static_cast<std::size_t>(3 - first)});
  int index = -1;
  world.must_become(
      "most Sentinels name the third",
      [&] {
        index = servers.master_index();
        return index == 3 - first;
      },
      120s, 50ms);
  if (index < 0) return;
  auto& master = servers.server(static_cast<std::size_t>(index));
  fleet.wait_for_followers(master);
  world.run_for(1s);
  world.finish(master);
}

constexpr Fault kFaults[] = {
    {12, "master-killed", "kill -9 of the master under load", master_killed},
    {12, "warm-failover", "kill -9 of the master while nothing is written", warm_failover},
    {13, "master-hangs", "SIGSTOP to the master, shorter than down-after", master_hangs},
    {14, "hang-failover-wake", "the master hangs, is failed over, wakes up", hang_failover_wake,
     false, false, kHasWitness ? "" : "the witness"},
    {15, "wakes-at-promotion", "the master wakes up exactly at the promotion", wakes_at_promotion,
     false, false, kHasWitness ? "" : "the witness"},
    {15, "pings-alone-control", "the same with a lease that pings alone renew: must be found wrong",
     pings_alone, true, true},
    {16, "manual-failover", "SENTINEL FAILOVER with a live master", manual_failover, false, false,
     kHasWitness ? "" : "the witness"},
    {22, "helpers-die", "a Sentinel stopped, a replica dead, all Sentinels dead", helpers_die},
    {23, "second-failover", "the new master is killed at once", second_failover},
};

}  // namespace

std::span<const Fault> failover_faults() { return kFaults; }

}  // namespace tiercel::chaos
