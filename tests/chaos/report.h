#pragma once

// What one fault showed, and how it is printed.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "fleet/oracle.h"

namespace tiercel::chaos {

struct FaultReport {
  int number = 0;
  std::string name;
  std::string skipped;                  // Why it was not run; empty: it was.
  std::vector<std::string> violations;  // What should have held and did not. Empty: all held.
  bool is_negative_control = false;     // Then there must be violations.
  std::vector<std::string> figures;     // "fills dropped 812"

  fleet::Verdict verdict;
  double lease_s = 0.5;
  std::uint64_t hits = 0;
  std::uint64_t reads_l2 = 0;
  std::uint64_t quiet_checked = 0;      // L1 entries that were compared with L2 (oracle Q).
  std::optional<double> first_hit_s;    // T: after the longest time without one, from the fault on.
  std::optional<double> first_write_s;  // T
  std::optional<double> warm_pct;
  double seconds = 0;

  [[nodiscard]] bool passed() const {
    return !skipped.empty() || violations.empty() != is_negative_control;
  }
};

// The block after a fault: what held, figures, violations.
void print_fault(const FaultReport& report);
// The table, and the lines `figure NAME VALUE`.
void print_summary(const std::vector<FaultReport>& reports);

}  // namespace tiercel::chaos
