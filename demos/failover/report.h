#pragma once

// Report: what the run showed, for people and as JSON for programs.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "failover/options.h"
#include "failover/tally.h"
#include "fleet/oracle.h"
#include "tiercel/base/result.h"

namespace tiercel::failover {

struct Report {
  Options options;
  std::uint64_t keys = 0;  // Different ones, of the trace or of --keys.
  double seconds_run = 0;
  bool interrupted = false;
  Tally tally;
  Verdict verdict;
  std::uint32_t instances_died = 0;
  bool master_killed = false;
  bool promoted = false;
  std::uint64_t writes_not_recorded = 0;
  // From the SIGKILL; nullopt: there was none, or it never came to that.
  std::optional<double> first_write_after_kill_ms;
  std::optional<double> first_l1_hit_after_kill_ms;
};

// What is wrong, a sentence each; empty: the run has passed.
std::vector<std::string> complaints(const Report& report);

std::string to_text(const Report& report);

// One object on one line. Never fails: all names and numbers are ours.
std::string to_json(const Report& report);

}  // namespace tiercel::failover
