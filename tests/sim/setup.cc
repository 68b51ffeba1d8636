#include <chrono>

#include "env.h"

namespace tiercel::sim {

using namespace std::chrono_literals;

std::string_view to_string(Sabotage sabotage) {
  switch (sabotage) {
    case Sabotage::kNone: return "none";
    case Sabotage::kTokensUnheeded: return "tokens";
    case Sabotage::kWitnessUnheeded: return "witness";
    case Sabotage::kDropsUnheeded: return "drops";
    case Sabotage::kMarksForgotten: return "marks";
    case Sabotage::kClockNotRead: return "clock";
    case Sabotage::kAheadForgotten: return "ahead";
    case Sabotage::kTagsForgotten: return "tags";
  }
  return "?";
}

Setup draw_setup(Random& random) {
  const auto pick = [&random](std::initializer_list<Duration> choices) {
    return choices.begin()[random.below(choices.size())];
  };
  Setup setup;
  setup.instances = 2 + random.below(3);
  // Mostly a master and two replicas under three Sentinels.
  switch (random.below(12)) {
    case 0: setup.servers = 1, setup.sentinels = 0; break;
    case 1: setup.servers = 2, setup.sentinels = 0; break;
    case 2: setup.servers = 3, setup.sentinels = 0; break;
    case 3: setup.servers = 2, setup.sentinels = 3; break;
    case 4: setup.servers = 4, setup.sentinels = 3; break;
    case 5: setup.servers = 3, setup.sentinels = 5; break;
    default: setup.servers = 3, setup.sentinels = 3; break;
  }
  setup.trip = pick({50us, 200us, 200us, 1ms, 5ms});
  setup.session.lease = pick({50ms, 100ms, 300ms, 500ms, 500ms, 500ms, 1s, 2s});
  if (setup.trip <= 200us && random.below(10) == 0) setup.session.lease = 20ms;
  setup.session.stream_timeout = std::max<Duration>(setup.session.lease, pick({500ms, 2s, 2s}));
  setup.session.has_sentinels = setup.sentinels > 0;
  using coherence::WitnessMode;
  switch (random.below(4)) {
    case 0: setup.session.witness_min = WitnessMode::kReplicas; break;
    case 1: setup.session.witness_min = WitnessMode::kNone; break;
    default:
      setup.session.witness_min =
          setup.sentinels > 0 ? WitnessMode::kSentinels : WitnessMode::kNone;
  }
  if (setup.servers == 1) setup.session.witness_min = WitnessMode::kNone;
  setup.session.observes_foreign_writers = random.below(5) == 0;
  setup.history_entries = random.below(4) == 0 ? 20 : 400;
  setup.down_after = pick({300ms, 500ms, 1s, 2s});
  setup.failover_timeout = pick({3s, 6s});
  const bool is_stock = random.below(2) == 0;
  setup.info_period = is_stock ? Duration{10s} : Duration{2s};
  setup.hello_period = is_stock ? Duration{2s} : Duration{400ms};
  setup.read_every = pick({4ms, 8ms, 16ms});
  setup.write_every = pick({8ms, 20ms, 60ms});
  setup.faults = 1 + random.below(7);
  setup.faults_end = kBeginning + 18s;
  return setup;
}

std::string describe(const Setup& setup) {
  std::string text =
      std::to_string(setup.instances) + " instances, " + std::to_string(setup.servers) +
      " servers, " + std::to_string(setup.sentinels) + " Sentinels; lease " +
      length_text(setup.session.lease) + ", stream_timeout " +
      length_text(setup.session.stream_timeout) + ", witness_min " +
      std::string{coherence::to_string(setup.session.witness_min)} +
      (setup.session.observes_foreign_writers ? ", foreign writers observed" : "") + "; trip " +
      length_text(setup.trip) + ", history " + std::to_string(setup.history_entries) +
      " entries; down-after " + length_text(setup.down_after) + ", failover-timeout " +
      length_text(setup.failover_timeout) + ", info " + length_text(setup.info_period) +
      ", hello " + length_text(setup.hello_period) + "; " + std::to_string(setup.faults) +
      " faults";
  return text;
}

Env::Env(const SimOptions& given)
    : options(given),
      random(given.seed * 0x9e3779b97f4a7c15ULL + 1),
      fault_random(given.seed * 0xbf58476d1ce4e5b9ULL + 2),
      setup(draw_setup(random)),
      trace(timeline, given.telling),
      network(timeline, random, places(), setup.trip),
      checkers(branches, trace, setup.session.lease) {}

}  // namespace tiercel::sim
