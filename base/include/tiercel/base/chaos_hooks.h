#pragma once

// ChaosHooks: how a test can make the library wrong on purpose, to see that its oracles notice, or
// slow at a place that cannot be reached from outside. Not installed, and nothing of it is in a
// build without TIERCEL_CHAOS_HOOKS, which only tests/chaos/CMakeLists.txt defines, for a variant
// of the library that it links into its own instances.

#ifdef TIERCEL_CHAOS_HOOKS

#include <chrono>

namespace tiercel {

struct ChaosHooks {
  // Fills go into L1 whatever happened to their key meanwhile.
  bool fills_without_tokens = false;
  // The lease rests on the pongs of the subscription and on nothing else.
  bool lease_by_pings_alone = false;
  // A hit reads its clock before its value...
  bool clock_before_value = false;
  // ... and, wherever the clock is read, rests for so long between the value and the decision.
  std::chrono::milliseconds pause_before_clock{0};
};

// As the environment's TIERCEL_CHAOS_HOOKS said when it was first asked: names of the above,
// separated by commas; "pause_before_clock_ms=700".
const ChaosHooks& chaos_hooks();

}  // namespace tiercel

#endif
