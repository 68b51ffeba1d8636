#include "chaos/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>

namespace tiercel::chaos {
namespace {

double in_seconds(Duration duration) { return std::chrono::duration<double>{duration}.count(); }

double over_lease(const FaultReport& report) {
  return in_seconds(report.verdict.worst_staleness) / report.lease_s;
}

std::string seconds_text(const std::optional<double>& seconds) {
  return seconds ? fmt::format("{:.2f}", *seconds) : "-";
}

std::string outcome_of(const FaultReport& report) {
  if (!report.skipped.empty()) return "skipped";
  if (report.is_negative_control) return report.passed() ? "caught" : "NOT CAUGHT";
  return report.passed() ? "held" : "VIOLATED";
}

}  // namespace

void print_fault(const FaultReport& report) {
  if (!report.skipped.empty()) {
    fmt::print("  skipped: {}\n", report.skipped);
    std::fflush(stdout);
    return;
  }
  const fleet::Verdict& verdict = report.verdict;
  fmt::print(
      "  oracle: {} L1 hits, {} reads from Redis; stale beyond the bound {} (worst {:.0f} ms, "
      "lease {:.0f} ms); backwards {}; L1 = L2 for {} entries; writes {} acknowledged, {} "
      "lost; lost writes still served too late {}\n",
      report.hits, report.reads_l2, verdict.stale_beyond_bound,
      1000 * in_seconds(verdict.worst_staleness), 1000 * report.lease_s,
      verdict.monotonic_violations, report.quiet_checked, verdict.writes_acked, verdict.writes_lost,
      verdict.ghosts);
  for (const std::string& figure : report.figures) fmt::print("  {}\n", figure);
  for (const std::string& violation : report.violations) {
    fmt::print("  {}: {}\n", report.is_negative_control ? "caught" : "VIOLATION", violation);
  }
  if (report.is_negative_control && report.violations.empty()) {
    fmt::print("  VIOLATION: the oracle did not notice; it is blind\n");
  }
  fmt::print("  {} ({:.1f} s)\n", outcome_of(report), report.seconds);
  std::fflush(stdout);
}

void print_summary(const std::vector<FaultReport>& reports) {
  fmt::print("\n{:>3} {:<22} {:<10} {:>10} {:>8} {:>7} {:>8} {:>8} {:>6} {:>7}\n", "#", "fault",
             "outcome", "L1 hits", "stale", "worst/D", "1st hit", "1st wr.", "lost", "seconds");
  std::uint64_t stale = 0;
  double worst = 0;
  bool any_worst = false;
  std::optional<double> first_hit;
  std::optional<double> warm;
  for (const FaultReport& report : reports) {
    fmt::print("{:>3} {:<22} {:<10} ", report.number, report.name, outcome_of(report));
    if (!report.skipped.empty()) {
      fmt::print("{}\n", report.skipped);
      continue;
    }
    fmt::print("{:>10} {:>8} {:>7.2f} {:>8} {:>8} {:>6} {:>7.1f}\n", report.hits,
               report.verdict.stale_beyond_bound, over_lease(report),
               seconds_text(report.first_hit_s), seconds_text(report.first_write_s),
               report.verdict.writes_lost, report.seconds);
    if (report.is_negative_control) continue;
    stale += report.verdict.stale_beyond_bound;
    if (report.number >= 12 && report.number <= 19) {
      worst = std::max(worst, over_lease(report));
      any_worst = true;
    }
    if (report.name == "master-killed") first_hit = report.first_hit_s;
    if (report.warm_pct) warm = report.warm_pct;
  }
  fmt::print(
      "\n1st hit: the first L1 hit after the longest time without one, from the fault on, of the "
      "instance that waited longest; 1st wr.: the first write begun after the fault that was "
      "acknowledged, likewise; in seconds.\nlost: acknowledged writes that the final master does "
      "not have (information: asynchronous replication).\n\n");
  fmt::print("figure stale_beyond_bound {}\n", stale);
  if (any_worst) fmt::print("figure worst_staleness_over_lease {:.2f}\n", worst);
  if (first_hit) fmt::print("figure first_l1_hit_after_kill_s {:.2f}\n", *first_hit);
  if (warm) fmt::print("figure warm_after_failover_pct {:.1f}\n", *warm);
  std::fflush(stdout);
}

}  // namespace tiercel::chaos
