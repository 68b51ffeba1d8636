// Faults 10 and 11: the instance itself is held up.

#include <fmt/format.h>

#include <csignal>

#include "chaos/faults.h"
#include "chaos/world.h"

namespace tiercel::chaos {
namespace {

void process_stops(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  const auto victim = world.add({.url = server.url(), .who = "stopped for 5 s"});
  const auto brief = world.add({.url = server.url(), .who = "stopped for less"});
  world.start_load();
  world.fault_begins();
  world.signal(victim, SIGSTOP);
  world.say("SIGSTOP to an instance");
  const TimePoint wake_at = Clock::system().now() + 5s;
  // Meanwhile another one, for about as long as the lease: awake again just when it ends.
  while (Clock::system().now() + 1s < wake_at) {
    world.signal(brief, SIGSTOP);
    world.run_for(world.draw_ms(350, 650));
    world.signal(brief, SIGCONT);
    world.run_for(200ms);
  }
  world.run_for(wake_at - Clock::system().now());
  const auto woken = ticks_now();
  world.signal(victim, SIGCONT);
  world.say("SIGCONT, 5 s later");
  // Not lease_held: what it said before the stop still stands there.
  world.must_become(
      "L1 answers again", [&] { return world.of(victim).last_hit_at.load() > woken; }, 60s);
  world.run_for(1s);
  world.finish(server);
}

// A hit must have its clock read after its value: then no pause longer than the lease can end in
// one, however fresh the lease was when the read began.
void pause_reads(FaultReport& report, const Options& options, const char* hooks) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  InstanceSetup paused;
  paused.reader_threads = 8;
  paused.reads_per_s = 10;  // One read in a burst: no more is in the way when it is to stop.
  copy_text(paused.hooks, hooks);
  const auto victim = world.add({.url = server.url(),
                                 .who = "pausing reads",
                                 .recovers = false,
                                 .hooked = true,
                                 .setup = paused});
  world.start_load();
  world.fault_begins();
  world.say("each read pauses for longer than the lease between loading its value and the clock");
  const auto refusals = world.said(victim, &InstanceBoard::lease_refusals);
  world.must_become(
      "reads of what L1 holds",
      [&] {
        return world.of(victim).lease_refusals.load() > refusals + 50 ||
               world.of(victim).hits.load() > 50;
      },
      60s);
  world.without_quiet();  // Its look at L1 would pause, too.
  world.finish(server);
  const std::uint64_t hits = world.of(victim).hits.load();
  world.figure(
      fmt::format("paused reads that L1 refused {}", world.of(victim).lease_refusals - refusals));
  world.check(hits == 0, fmt::format("{} paused reads were answered by L1", hits));
}

void paused_reads(FaultReport& report, const Options& options) {
  pause_reads(report, options, "pause_before_clock_ms=700");
}

void paused_reads_control(FaultReport& report, const Options& options) {
  pause_reads(report, options, "pause_before_clock_ms=700,clock_before_value");
}

constexpr Fault kFaults[] = {
    {10, "process-stops", "SIGSTOP to an instance, SIGCONT 5 s later", process_stops},
    {11, "paused-reads", "a pause between loading the value and reading the clock", paused_reads,
     false, true},
    {11, "paused-reads-control", "the same with the clock read first: must be found wrong",
     paused_reads_control, true, true},
};

}  // namespace

std::span<const Fault> process_faults() { return kFaults; }

}  // namespace tiercel::chaos
