// Faults 21, 24, 25 and 28: what is in the server goes, changes behind our back, or says odd
// things.

#include <fmt/format.h>

#include <csignal>
#include <string>

#include "chaos/capabilities.h"
#include "chaos/faults.h"
#include "chaos/foreign_writer.h"
#include "chaos/world.h"
#include "support/blocking_redis.h"
#include "tiercel/coherence/names.h"

namespace tiercel::chaos {
namespace {

void empty_restart(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  const auto reader = world.add({.url = server.url(), .who = "reader"});
  world.start_load();
  world.run_for(world.draw_ms(200, 1000));
  const auto epochs = world.said(reader, &InstanceBoard::epochs);
  world.fault_begins();
  server.kill();
  // From here on, what was written is lost.
  world.branch_ended();
  const TimePoint killed_at = Clock::system().now();
  server.restart();
  world.say(fmt::format("kill -9; back, empty, {} ms later",
                        to_milliseconds(Clock::system().now() - killed_at)));
  world.must_become("a new epoch with a lease", [&] {
    return world.of(reader).epochs.load() > epochs && world.of(reader).lease_held.load() != 0;
  });
  world.run_for(2s);
  world.finish(server);
  world.check(report.verdict.writes_lost > 0,
              "nothing was lost: the server did not come back empty");
}

void foreign_writers(FaultReport& report, const Options& options) {
  World world{report, options, {.foreign_slots = 1}};
  auto& server = world.start_server();
  InstanceSetup observing;
  observing.foreign_writers = true;
  world.add({.url = server.url(), .who = "writer", .writes = true, .setup = observing});
  world.add({.url = server.url(), .who = "reader", .setup = observing});
  world.start_load();
  ForeignWriter foreign{world, server};
  world.fault_begins();
  world.say("SET, DEL, RENAME, EVAL and PEXPIRE by a client that knows nothing of Tiercel");
  const TimePoint until = Clock::system().now() + 4s;
  while (Clock::system().now() < until) foreign.write_once();
  for (const bool in_transaction : {false, true}) {
    world.say(in_transaction ? "FLUSHALL in a MULTI" : "FLUSHALL");
    foreign.flush_all(in_transaction);
    world.branch_ended();
    world.run_for(1500ms);
  }
  world.say("an eviction storm: maxmemory just above what is there");
  foreign.evict_all();
  world.run_for(1s);
  foreign.end_eviction();
  world.run_for(1s);
  world.finish(server);
  world.figure(fmt::format("foreign changes {}", foreign.count()));
}

void refusals(FaultReport& report, const Options& options) {
  World world{report, options};
  auto& server = world.start_server({"--enable-debug-command", "yes", "--lua-time-limit", "100"});
  InstanceSetup patient;
  patient.stream_timeout_ms = 10'000;
  world.add({.url = server.url(), .who = "writer", .writes = true, .setup = patient});
  const auto reader = world.add({.url = server.url(), .who = "reader", .setup = patient});
  world.start_load();
  const auto epochs = world.said(reader, &InstanceBoard::epochs);
  world.fault_begins();
  const auto resumed = [&](const std::string& what) {
    world.must_become("the lease is back after " + what,
                      [&] { return world.of(reader).lease_held.load() != 0; });
    const auto hits = world.of(reader).hits.load();
    world.must_become("L1 answers after " + what,
                      [&] { return world.of(reader).hits.load() > hits; });
    world.run_for(500ms);
  };
  {
    auto redis = testing::BlockingRedis::connect_unix(server.unix_path());
    if (!redis) return world.violation(redis.error().to_string());
    // A script that only reads may be killed; this one ends by itself.
    constexpr const char* kSpin =
        "local t = redis.call('TIME') local till = t[1] + 2 "
        "repeat t = redis.call('TIME') until t[1] + t[2] / 1000000 >= till + 0.5 return 1";
    world.say("a script that takes over 2 s: everything is answered -BUSY");
    (void)redis->command({"EVAL", kSpin, "0"}, 20s);
  }
  resumed("-BUSY");
  world.say("CLIENT PAUSE 1500 ALL");
  const TimePoint paused_at = Clock::system().now();
  server.command({"CLIENT", "PAUSE", "1500", "ALL"});
  world.run_for(1s);
  const bool held = world.said(reader, &InstanceBoard::lease_held) != 0;
  // On a machine that is busy with something else, the pause may be over before that is said.
  const bool was_paused = Clock::system().now() < paused_at + 1500ms;
  world.check(!held || !was_paused, "the lease held through a pause of 1 s");
  resumed("CLIENT PAUSE");
  world.check(world.said(reader, &InstanceBoard::epochs) == epochs,
              "an error was taken for the end of the stream: the epoch ended");
  world.say("DEBUG RELOAD: " + server.command({"DEBUG", "RELOAD"}));
  resumed("DEBUG RELOAD");
  world.say("the replication's -MASTERDOWN and -READONLY: the master follows nobody for a second");
  server.command({"CONFIG", "SET", "replica-serve-stale-data", "no"});
  server.command({"REPLICAOF", "127.0.0.1", "1"});
  world.must_become("the lease ends", [&] { return world.of(reader).lease_held.load() == 0; });
  world.run_for(1s);
  server.command({"REPLICAOF", "NO", "ONE"});
  resumed("-MASTERDOWN");
  world.finish(server);
}

// Bytes that begin like ours and do not go on so, lengths that lie, other releases' marks.
std::string garbage(Random& random, const std::string& sample) {
  std::string bytes = sample;
  const std::uint64_t kind = random.below(4);
  if (kind == 0) bytes.resize(random.below(bytes.size() + 1));
  if (kind == 1) bytes.append(random.below(4096), static_cast<char>(random.below(256)));
  const std::uint64_t flips = kind == 3 ? 0 : 1 + random.below(8);
  for (std::uint64_t i = 0; i < flips && !bytes.empty(); ++i) {
    bytes[random.below(bytes.size())] = static_cast<char>(random.below(256));
  }
  if (kind == 3) {
    bytes.assign(random.below(200), '\0');
    for (char& c : bytes) c = static_cast<char>(random.below(256));
  }
  return bytes;
}

void hostile_bytes(FaultReport& report, const Options& options) {
  World world{report, options, {.foreign_slots = 1}};
  auto& server = world.start_server();
  world.add({.url = server.url(), .who = "writer", .writes = true});
  const auto reader = world.add({.url = server.url(), .who = "reader"});
  world.start_load();
  auto redis = testing::BlockingRedis::connect_unix(server.unix_path());
  const auto names = coherence::Names::create(kNamespace);
  if (!redis || !names) return world.violation("no connection");
  const auto value = redis->command({"GET", names->value_key("key:0")});
  const auto entry = redis->command({"XREVRANGE", names->history_key(), "+", "-", "COUNT", "1"});
  if (!value || !entry || entry->elements.empty()) return world.violation("nothing to imitate");
  const std::string message =
      value->text.substr(0, 8) + entry->elements[0].elements[1].elements[1].text;
  const auto before = world.said(reader, &InstanceBoard::resident_bytes);
  world.fault_begins();
  world.say("damaged values and messages, thousands of them, between the real ones");
  const TimePoint until = Clock::system().now() + 4s;
  std::uint64_t sent = 0;
  while (Clock::system().now() < until) {
    const std::uint64_t key = 2 * world.random().below(world.board().config().key_count / 2) + 1;
    (void)redis->command({"SET", names->value_key("key:" + std::to_string(key)),
                          garbage(world.random(), value->text)});
    // Seldom: one that claims to be ours drops all of L1, and then nothing else is tested.
    if (world.random().below(50) == 0) {
      (void)redis->command({"PUBLISH", names->channel(), garbage(world.random(), message)});
      world.run_for(20ms);
    }
    ++sent;
  }
  world.run_for(500ms);
  const auto after = world.said(reader, &InstanceBoard::resident_bytes);
  world.finish(server);
  const auto corrupt = world.of(reader).values_corrupt.load();
  const auto unreadable = world.of(reader).messages_unreadable.load();
  world.figure(
      fmt::format("{} pieces of garbage; values corrupt {}, foreign {}, messages unreadable {}; "
                  "resident memory {} MiB, before {} MiB",
                  sent, corrupt, world.of(reader).values_foreign.load(), unreadable, after >> 20,
                  before >> 20));
  world.check(corrupt > 0, "no value was found corrupt");
  world.check(unreadable > 0, "no message was found unreadable");
  constexpr std::uint64_t kGrowthMax = std::uint64_t{96} << 20;  // L1 itself may take 64 MiB.
  world.check(after < before + kGrowthMax, "memory grew");
}

constexpr std::string_view kNeedsForeign = kHasForeignWriters ? "" : "foreign writers observed";

constexpr Fault kFaults[] = {
    {21, "empty-restart", "kill -9 and a restart within 100 ms, without persistence",
     empty_restart},
    {24, "foreign-writers", "SET, DEL, RENAME, EVAL, expiry, eviction, FLUSHALL by others",
     foreign_writers, false, false, kNeedsForeign},
    {25, "refusals", "-BUSY, CLIENT PAUSE, DEBUG RELOAD, -MASTERDOWN", refusals},
    {28, "hostile-bytes", "garbage in Redis and on the channel", hostile_bytes},
};

}  // namespace

std::span<const Fault> data_faults() { return kFaults; }

}  // namespace tiercel::chaos
