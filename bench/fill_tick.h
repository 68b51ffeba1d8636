#pragma once

// How long does try_get take a thread that may not wait, while everything around it goes wrong? A
// thread wakes 60 times a second and makes nothing but calls of Keyspace::try_get (a Cap'n Proto
// struct, one field read), each of them timed. A tenth of the keys do not exist; the others are
// hot. Around it, in this process, on real servers with Sentinels:
//
//   quiet         nothing
//   misses        two threads ask for new keys, 128 at a time, with a loader
//   invalidations two instances write hot keys as fast as they can, and one thread reads them again
//   failover      both of these, and the master is killed; until L1 answers again, and a second
//   more
//
// Each call is timed by the machine's clock and by the thread's own CPU time. What the second does
// not see is time in which the thread did not run: storm, servers and thread share the processors.
// The CPU time includes interrupts, and what the hypervisor takes; and it is read by a system call,
// whose own time (the median of reading it twice) is taken off. A control, in the same ticks: a
// loop of arithmetic about as long as a hit, which shows what the machine alone does to such a
// tail.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct TickSettings {
  std::chrono::milliseconds phase{3000};  // Each but the failover.
  std::size_t calls = 1000;               // Of a tick.
};

struct TickPhase {
  std::string name;
  bool is_storm = true;
  std::vector<std::uint32_t> wall_ns{};  // Of each call,
  std::vector<std::uint32_t> cpu_ns{};
  std::vector<std::uint32_t> control_ns{};  // and of as many controls, by the machine's clock.
  std::uint64_t ticks = 0;
  std::uint64_t hits = 0;
  std::uint64_t locks = 0;
  std::uint64_t allocations = 0;
  std::uint64_t preemptions = 0;  // Of the thread, also between calls.
  Duration elapsed{0};
  // Of the storm meanwhile.
  std::uint64_t loads = 0;
  std::uint64_t invalidations = 0;
};

// Errors: what could not be opened; kInternal when L1 does not answer again after the failover.
Result<std::vector<TickPhase>> run_tick(const TickSettings& settings);

}  // namespace tiercel::bench
