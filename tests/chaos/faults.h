#pragma once

// The faults, by theme: each file of faults_*.cc lists its own.

#include <span>
#include <string_view>
#include <vector>

#include "chaos/options.h"
#include "chaos/report.h"

namespace tiercel::chaos {

struct Fault {
  int number = 0;  // That of the specification; variants share one.
  std::string_view name{};
  std::string_view what{};  // One line.
  void (*run)(FaultReport& report, const Options& options) = nullptr;
  bool is_negative_control = false;  // The oracle must find it wrong.
  bool needs_hooks = false;          // Of the library, which only a build for tests has.
  // What the library cannot do yet and the fault is about; empty: it can. See capabilities.h.
  std::string_view needs{};
};

std::span<const Fault> link_faults();      // Between an instance and its server.
std::span<const Fault> process_faults();   // The instance itself is held up.
std::span<const Fault> failover_faults();  // The master dies, hangs, wakes up.
std::span<const Fault> operator_faults();  // Somebody promotes, demotes, isolates.
std::span<const Fault> data_faults();      // What is in the server changes or says odd things.

// All, in the order of their numbers.
std::vector<Fault> all_faults();

}  // namespace tiercel::chaos
