// Faults 1 to 9 and 26: the links between an instance and its server.

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <string>
#include <vector>

#include "chaos/capabilities.h"
#include "chaos/faults.h"
#include "chaos/world.h"
#include "tiercel/coherence/names.h"

namespace tiercel::chaos {
namespace {

// S is the connection that has sent this.
constexpr const char* kStreamMarker = "SUBSCRIBE";

// The link of one instance, with S and D to be told apart.
testing::TcpProxy& start_link(World& world, const testing::RedisServer& server, bool faults_hit_s) {
  testing::TcpProxy& proxy = world.start_proxy(server.port());
  proxy.set_marker(kStreamMarker);
  proxy.set_only_marked(faults_hit_s);
  return proxy;
}

void hammer(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  InstanceSetup busy;
  busy.reads_per_s = 1'000'000;
  busy.fills_per_s = 5'000;
  busy.writes_per_s = 1'000;
  for (int i = 0; i < 3; ++i) world.add({.url = server.url(), .writes = true, .setup = busy});
  world.start_load();
  world.say("3 processes read and write 64 keys as fast as they can");
  world.run_for(6s);
  world.finish(server);
  world.figure(fmt::format("fills {}, fills dropped {}", world.sum(&InstanceBoard::fills),
                           world.sum(&InstanceBoard::fills_dropped)));
}

// Writes come in bursts, with pauses in which what went wrong would show for longer than the lease.
void race_fills_with_writes(FaultReport& report, const Options& options, const char* hooks) {
  World world{report, options};
  auto& server = world.start_server();
  auto& link = start_link(world, server, /*faults_hit_s=*/false);
  const auto writer = world.add({.url = server.url(), .who = "writer", .writes = true});
  InstanceSetup filling;
  filling.filler_threads = 8;
  filling.fills_per_s = 500;
  const bool hooked = *hooks != '\0';
  if (hooked) copy_text(filling.hooks, hooks);
  for (int i = 0; i < 2; ++i) {
    world.add(
        {.url = link.url(), .who = "behind slow replies", .hooked = hooked, .setup = filling});
  }
  world.start_load();
  link.set_server_to_client({.delay = 50ms});
  world.fault_begins();
  world.say("replies on D come 50 ms late, while the keys are written in bursts");
  for (int burst = 0; burst < 6; ++burst) {
    world.start_writing(writer);
    world.run_for(world.draw_ms(250, 400));
    world.stop_writing(writer);
    world.run_for(world.lease() + 300ms);
  }
  world.finish(server);
  const std::uint64_t dropped = world.sum(&InstanceBoard::fills_dropped);
  world.figure(
      fmt::format("fills {}, fills dropped {}", world.sum(&InstanceBoard::fills), dropped));
  if (!hooked) world.check(dropped > 0, "no fill was dropped: no fill met a write");
}

void fill_race(FaultReport& report, const Options& options) {
  race_fills_with_writes(report, options, "");
}

void fill_race_without_tokens(FaultReport& report, const Options& options) {
  race_fills_with_writes(report, options, "fills_without_tokens");
}

void late_invalidations(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  auto& link = start_link(world, server, /*faults_hit_s=*/true);
  world.add({.url = server.url(), .who = "writer", .writes = true});
  world.add({.url = link.url(), .who = "behind the late stream"});
  world.start_load();
  link.set_server_to_client({.delay = 300ms});
  world.fault_begins();
  world.say("all that comes on S is 300 ms late");
  world.run_for(5s);
  link.heal();
  world.say("healed");
  world.run_for(1s);
  world.finish(server);
}

void stream_silent(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  auto& link = start_link(world, server, /*faults_hit_s=*/true);
  world.add({.url = server.url(), .who = "writer", .writes = true});
  const auto victim = world.add({.url = link.url(), .who = "behind the silent stream"});
  world.start_load();
  const auto epochs = world.said(victim, &InstanceBoard::epochs);
  link.set_server_to_client({.blackhole = true});
  world.fault_begins();
  world.say("S is half open: nothing comes any more");
  world.must_become("the lease is lost", [&] { return world.of(victim).lease_held.load() == 0; });
  world.run_for(3s);
  link.heal();
  world.say("healed");
  world.must_become("a new epoch after the redial, with a lease", [&] {
    return world.of(victim).epochs.load() > epochs && world.of(victim).lease_held.load() != 0;
  });
  world.run_for(1s);
  world.finish(server);
}

void stream_reset(FaultReport& report, const Options& options) {
  // The answer to SUBSCRIBE and a message together are shorter than this.
  constexpr std::size_t kBytes = 256;
  constexpr std::size_t kVictims = 4;  // Side by side, each with the next k.
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  struct Victim {
    testing::TcpProxy& link;
    std::uint32_t number;
  };
  std::vector<Victim> victims;
  for (std::size_t i = 0; i < kVictims; ++i) {
    auto& link = start_link(world, server, /*faults_hit_s=*/true);
    victims.push_back(
        {.link = link, .number = world.add({.url = link.url(), .who = "behind the cut stream"})});
  }
  world.start_load();
  world.fault_begins();
  world.say(fmt::format("S is reset after byte k, for each k from 0 to {}", kBytes - 1));
  std::uint64_t cuts = 0;
  for (std::size_t k = 0; k < kBytes; k += kVictims) {
    std::vector<std::uint64_t> epochs;
    for (std::size_t i = 0; i < kVictims; ++i) {
      epochs.push_back(world.of(victims[i].number).epochs.load());
      victims[i].link.set_server_to_client({.reset_after_bytes = k + i});
    }
    // Several messages pass in this time.
    world.run_for(20ms);
    for (const Victim& victim : victims) victim.link.set_server_to_client({});
    for (std::size_t i = 0; i < kVictims; ++i) {
      const InstanceBoard& victim = world.of(victims[i].number);
      const bool back = testing::poll_until(
          [&] { return victim.epochs.load() > epochs[i] && victim.lease_held.load() != 0; }, 5s,
          2ms);
      cuts += back ? 1 : 0;
      world.must_become(fmt::format("a lease after a cut at byte {}", k + i),
                        [&] { return victim.lease_held.load() != 0; });
    }
  }
  world.run_for(500ms);
  world.finish(server);
  const std::uint64_t unreadable = world.sum(&InstanceBoard::messages_unreadable);
  world.figure(fmt::format("{} cuts that ended an epoch; messages {}, unreadable {}", cuts,
                           world.sum(&InstanceBoard::messages), unreadable));
  world.check(cuts > 0, "no cut met the stream");
  world.check(unreadable == 0, "a message was read from the wrong byte on");
}

void one_byte_at_a_time(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  auto& link = world.start_proxy(server.port());
  // The proxy passes 20,000 single bytes a second at best.
  InstanceSetup slow;
  slow.writes_per_s = 20;
  slow.fills_per_s = 20;
  world.add({.url = server.url(), .who = "writer", .writes = true, .setup = slow});
  const auto trickled = world.add({.url = link.url(), .who = "behind the trickle", .setup = slow});
  world.start_load();
  link.set_server_to_client({.chunk_bytes_max = 1});
  link.set_client_to_server({.chunk_bytes_max = 1});
  world.fault_begins();
  world.say("every byte is a segment of its own, both ways, on S and D");
  world.run_for(5s);
  // On a busy machine the trickle is thinner, and the lease comes and goes.
  world.must_become("an answer of L1 behind the trickle", [&] {
    return ticks_now() - world.of(trickled).last_hit_at.load() < Duration{300ms}.count();
  });
  world.finish(server);
}

void stream_killed(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .writes = true});
  world.add({.url = server.url(), .writes = true});
  const auto reader = world.add({.url = server.url(), .who = "reader"});
  world.start_load();
  world.fault_begins();
  for (int i = 0; i < 5; ++i) {
    const auto epochs = world.said(reader, &InstanceBoard::epochs);
    world.say("CLIENT KILL TYPE pubsub: " + server.command({"CLIENT", "KILL", "TYPE", "pubsub"}));
    world.must_become("a new epoch with a lease", [&] {
      return world.of(reader).epochs.load() > epochs && world.of(reader).lease_held.load() != 0;
    });
    world.run_for(world.draw_ms(300, 700));
  }
  world.finish(server);
  if (kHasWarmEpochs) {
    const std::uint64_t warm = world.of(reader).epochs_warm.load();
    world.figure(fmt::format("epochs that began with a warm L1 {} of {}", warm,
                             world.of(reader).epochs.load()));
    world.check(warm > 0, "L1 did not outlive one reconnect");
  }
}

void data_killed(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .writes = true});
  world.add({.url = server.url(), .writes = true});
  const auto reader = world.add({.url = server.url(), .who = "reader"});
  world.start_load();
  const auto hits = world.of(reader).hits.load();
  world.fault_begins();
  for (int i = 0; i < 10; ++i) {
    const auto before = world.of(reader).hits.load();
    world.say("CLIENT KILL TYPE normal, S lives on: " +
              server.command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"}));
    world.must_become("L1 goes on answering",
                      [&] { return world.of(reader).hits.load() > before; });
    world.run_for(world.draw_ms(100, 500));
  }
  world.finish(server);
  world.figure(fmt::format("L1 hits of the reader meanwhile {}", world.of(reader).hits - hits));
}

void slow_subscriber(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  const auto victim = world.add({.url = server.url(), .who = "paused reader"});
  world.start_load();
  server.command({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 1048576 0 0"});
  const auto epochs = world.said(victim, &InstanceBoard::epochs);
  world.fault_begins();
  world.signal(victim, SIGSTOP);
  const std::string channel = coherence::Names::create(kNamespace)->channel();
  // Nobody's messages, so that megabytes do not take minutes; the writes of the fleet are between
  // them.
  const std::string junk(std::size_t{64} << 10, 'x');
  std::size_t published = 0;
  const bool freed = testing::poll_until(
      [&] {
        published += junk.size();
        const std::string receivers = server.command({"PUBLISH", channel, junk});
        return receivers == "1" || receivers == "0";
      },
      60s, 1ms);
  world.say(fmt::format("the reader does not read; freed by the server after {} MB on the channel",
                        published >> 20));
  world.check(freed, "the server did not free the subscriber: the fault did not happen");
  world.run_for(2s);
  world.signal(victim, SIGCONT);
  world.say("the reader goes on, with megabytes of old messages before the end of the stream");
  world.must_become("a new epoch with a lease", [&] {
    return world.of(victim).epochs.load() > epochs && world.of(victim).lease_held.load() != 0;
  });
  world.run_for(1s);
  world.finish(server);
}

void reply_lost(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  auto& link = start_link(world, server, /*faults_hit_s=*/false);
  const auto writer = world.add({.url = link.url(), .who = "writer", .writes = true});
  world.add({.url = server.url(), .who = "reader"});
  world.start_load();
  world.fault_begins();
  InstanceBoard& told = world.of(writer);
  for (int i = 0; i < 6; ++i) {
    const auto unknown = told.writes_unknown.load();
    // Either the write's deadline or the reset comes first.
    const Duration lasts = i % 2 == 0 ? Duration{1200ms} : Duration{world.draw_ms(20, 300)};
    // Without a connection a write fails and nobody doubts it; and a writer that is late sends
    // nothing in so short a time. So each try begins with a connection, until one has hit a write.
    const auto lose_a_reply = [&] {
      const auto acked = told.writes_acked.load();
      if (!testing::poll_until([&] { return told.writes_acked.load() > acked; })) return false;
      link.set_server_to_client({.blackhole = true});
      world.run_for(lasts);
      link.reset_all();
      link.heal();
      return testing::poll_until([&] { return told.writes_unknown.load() > unknown; }, 2s);
    };
    world.must_become("the writer is told that the outcome is unknown", lose_a_reply, 60s);
    const auto healed = ticks_now();
    world.must_become(
        "L1 answers again", [&] { return told.last_hit_at.load() > healed; }, 60s);
    world.run_for(200ms);
  }
  world.say("6 times the replies to writes were lost, then the connection");
  world.finish(server);
}

constexpr Fault kFaults[] = {
    {1, "hammer", "no fault: three processes, 64 keys, as fast as can be", hammer},
    {2, "fill-race", "replies with values come 50 ms late while their keys are written", fill_race},
    {2, "fill-race-control", "the same with fills that ignore their tokens: must be found wrong",
     fill_race_without_tokens, true, true},
    {3, "late-invalidations", "the stream is 300 ms late", late_invalidations},
    {4, "stream-silent", "the stream is half open", stream_silent},
    {5, "stream-reset", "the stream is reset after byte k, for every k", stream_reset},
    {6, "one-byte", "every byte is a segment of its own", one_byte_at_a_time},
    {7, "stream-killed", "CLIENT KILL TYPE pubsub", stream_killed},
    {8, "data-killed", "the data connections are killed, the streams live", data_killed},
    {9, "slow-subscriber", "a reader pauses until the server frees its subscription",
     slow_subscriber},
    {26, "reply-lost", "replies to writes are lost: outcome unknown", reply_lost},
};

}  // namespace

std::span<const Fault> link_faults() { return kFaults; }

}  // namespace tiercel::chaos
