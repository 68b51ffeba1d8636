#pragma once

// Env: what every part of one simulated world shares: time, chance, the network, the true history
// of the data, the checkers, and the parameters that the seed has drawn.

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "branches.h"
#include "checkers.h"
#include "network.h"
#include "tiercel/base/random.h"
#include "tiercel/coherence/session.h"
#include "timeline.h"
#include "trace.h"

namespace tiercel::sim {

// What can be broken on purpose, to prove that the checkers would see it. It is the simulator that
// breaks it, around the production code, so production has no such switch.
enum class Sabotage : std::uint8_t {
  kNone,
  kTokensUnheeded,   // A fill goes into L1 although its token was marked.
  kWitnessUnheeded,  // Every candidate is said to follow, and every Sentinel to be calm.
  kDropsUnheeded,    // L1 survives what should drop it.
  kMarksForgotten,   // A message evicts, but does not mark the tokens.
  kClockNotRead,     // A reader goes by whether a lease was granted, not by the time.
  kAheadForgotten,   // The session is not told what goes into L1.
  kTagsForgotten,    // Invalidated tags are not looked at.
};
inline constexpr std::size_t kSabotages = 8;
std::string_view to_string(Sabotage sabotage);

struct SimOptions {
  std::uint64_t seed = 1;
  Sabotage sabotage = Sabotage::kNone;
  Telling telling = Telling::kNothing;
};

// Drawn from the seed (setup.cc).
struct Setup {
  std::size_t instances = 3;
  std::size_t servers = 3;
  std::size_t sentinels = 3;  // 0: the instances know one address, for ever.
  coherence::SessionOptions session{};
  Duration trip{};  // One way, typically.
  std::size_t history_entries = 100;
  bool stops_readers = true;
  // Sentinel.
  Duration down_after{};
  Duration failover_timeout{};
  Duration info_period{};  // Normally; a tenth of it while something is wrong.
  Duration hello_period{};
  // Workload.
  Duration read_every{};
  Duration write_every{};
  // Faults.
  std::size_t faults = 3;
  TimePoint faults_end{};
};
Setup draw_setup(Random& random);
std::string describe(const Setup& setup);

// Faults that were injected, by kind (faults.h).
inline constexpr std::size_t kFaultKindsMax = 40;

struct Counts {
  std::uint64_t reads = 0, hits = 0, stale_serves = 0, lease_refusals = 0, dead_by_tag = 0;
  std::uint64_t fills = 0, fills_refused = 0, loads = 0;
  std::uint64_t writes = 0, writes_unknown = 0, foreign_writes = 0;
  std::uint64_t epochs = 0, epochs_warm = 0, drops = 0, lapses = 0;
  std::uint64_t promotions = 0, restarts = 0, full_resyncs = 0;
  std::array<std::uint64_t, 3> hits_by_mode{};
  double lease_available = 0;  // Sum over samples; and how many there were.
  double lease_samples = 0;
  std::array<std::uint64_t, kFaultKindsMax> faults{};
};

struct Env {
  explicit Env(const SimOptions& given);

  const SimOptions options;
  Timeline timeline;
  Random random;
  Random fault_random;
  const Setup setup;
  Trace trace;
  Network network;
  Branches branches;
  Counts counts;
  Checkers checkers;

  [[nodiscard]] TimePoint now() const { return timeline.now(); }
  // Between the two, uniformly.
  [[nodiscard]] Duration some(Duration least, Duration most) { return some(random, least, most); }
  static Duration some(Random& from, Duration least, Duration most) {
    return least + Duration{static_cast<Duration::rep>(
                       from.below(static_cast<std::uint64_t>((most - least).count()) + 1))};
  }
  [[nodiscard]] bool one_in(std::uint64_t n) { return random.below(n) == 0; }
  // Places in the network: servers, then Sentinels, then instances, then foreign writers.
  [[nodiscard]] std::size_t sentinel_place(std::size_t i) const { return setup.servers + i; }
  [[nodiscard]] std::size_t instance_place(std::size_t i) const {
    return setup.servers + setup.sentinels + i;
  }
  [[nodiscard]] std::size_t places() const {
    return setup.servers + setup.sentinels + setup.instances + 1;
  }
};

}  // namespace tiercel::sim
