#include "failover/report.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "failover/progress.h"

namespace tiercel::failover {
namespace {

double in_milliseconds(Duration duration) {
  return std::chrono::duration<double, std::milli>{duration}.count();
}

std::uint64_t errors_of(const Tally& tally) {
  return tally.reads_failed + tally.writes_unknown + tally.writes_failed;
}

std::string milliseconds_text(std::optional<double> milliseconds) {
  return milliseconds ? fmt::format("{:.1f} ms", *milliseconds) : "-";
}

nlohmann::json number_or_null(std::optional<double> number) {
  return number ? nlohmann::json(*number) : nlohmann::json(nullptr);
}

void add_row(std::string& text, const char* name, const std::string& value,
             const std::string& remark = {}) {
  text += fmt::format("  {:<27} {:>12}  {}", name, value, remark);
  text.erase(text.find_last_not_of(' ') + 1);
  text += '\n';
}

void add_read_rows(std::string& text, const Report& report) {
  const Tally& tally = report.tally;
  add_row(text, "reads", number_text(tally.reads()),
          fmt::format("l1 {}, l2 {}, absent {}, errors {}", number_text(tally.reads_l1),
                      number_text(tally.reads_l2), number_text(tally.reads_absent),
                      number_text(tally.reads_failed)));
  add_row(text, "l1_hit_ratio", fmt::format("{:.4f}", tally.l1_hit_ratio()));
  add_row(text, "p50 / p99 of a read",
          fmt::format("{} / {}", duration_text(Histogram::quantile(tally.read_latency, 0.5)),
                      duration_text(Histogram::quantile(tally.read_latency, 0.99))));
  add_row(text, "stale_beyond_bound", number_text(report.verdict.stale_beyond_bound),
          fmt::format("reads older than the lease ({} ms) + {} ms allow", report.options.lease_ms,
                      to_milliseconds(kTolerance)));
  add_row(text, "worst_staleness",
          milliseconds_text(in_milliseconds(report.verdict.worst_staleness)), "of all L1 hits");
  add_row(text, "monotonic_violations", number_text(report.verdict.monotonic_violations));
  add_row(text, "lost_branch_reads", number_text(report.verdict.lost_branch_reads),
          "missed only what the new master never had");
}

void add_write_rows(std::string& text, const Report& report) {
  const Tally& tally = report.tally;
  add_row(text, "writes_acked", number_text(tally.writes_acked));
  add_row(text, "writes_unknown", number_text(tally.writes_unknown),
          "outcome unknown, and said so");
  add_row(text, "writes_failed", number_text(tally.writes_failed), "not done, and said so");
  add_row(text, "writes_lost", number_text(report.verdict.writes_lost),
          "acknowledged, but not on the new master");
  add_row(text, "errors", number_text(errors_of(tally)), "reads and writes, of all the above");
  add_row(text, "first_write_after_kill", milliseconds_text(report.first_write_after_kill_ms));
  add_row(text, "first_l1_hit_after_kill", milliseconds_text(report.first_l1_hit_after_kill_ms));
}

}  // namespace

std::vector<std::string> complaints(const Report& report) {
  std::vector<std::string> found;
  const auto complain_of = [&found](std::uint64_t count, const char* what) {
    if (count > 0) found.push_back(number_text(count) + ' ' + what);
  };
  const Verdict& verdict = report.verdict;
  complain_of(verdict.stale_beyond_bound, "reads were staler than the lease allows");
  complain_of(verdict.monotonic_violations, "reads went back behind what their instance had read");
  complain_of(report.tally.values_wrong, "values were not what had been written under their key");
  complain_of(report.instances_died, "of the instances died");
  complain_of(report.writes_not_recorded, "writes could not be recorded: the log was full");
  if (report.master_killed && !report.promoted && !report.interrupted) {
    found.emplace_back("no replica was promoted");
  }
  if (report.tally.reads() == 0) found.emplace_back("nothing was read");
  return found;
}

std::string to_text(const Report& report) {
  std::string text =
      fmt::format("\n{} instances, {} keys, lease {} ms, {:.1f} s{}\n", report.options.instances,
                  number_text(report.keys), report.options.lease_ms, report.seconds_run,
                  report.interrupted ? ", interrupted" : "");
  add_read_rows(text, report);
  add_write_rows(text, report);
  const auto found = complaints(report);
  for (const std::string& complaint : found) text += "FAILED: " + complaint + '\n';
  if (found.empty()) text += "PASSED: no read was staler than the lease allows\n";
  return text;
}

std::string to_json(const Report& report) {
  const Tally& tally = report.tally;
  const Verdict& verdict = report.verdict;
  const auto quantile_us = [&tally](double fraction) {
    const auto found = Histogram::quantile(tally.read_latency, fraction);
    return number_or_null(found ? std::optional{in_milliseconds(*found) * 1e3} : std::nullopt);
  };
  const nlohmann::ordered_json json{
      {"reads", tally.reads()},
      {"l1_hit_ratio", tally.l1_hit_ratio()},
      {"stale_beyond_bound", verdict.stale_beyond_bound},
      {"worst_staleness_ms", in_milliseconds(verdict.worst_staleness)},
      {"monotonic_violations", verdict.monotonic_violations},
      {"writes_acked", tally.writes_acked},
      {"writes_unknown", tally.writes_unknown},
      {"writes_lost", verdict.writes_lost},
      {"errors", errors_of(tally)},
      {"first_write_after_kill_ms", number_or_null(report.first_write_after_kill_ms)},
      {"first_l1_hit_after_kill_ms", number_or_null(report.first_l1_hit_after_kill_ms)},
      {"lease_ms", report.options.lease_ms},
      {"lost_branch_reads", verdict.lost_branch_reads},
      {"reads_l1", tally.reads_l1},
      {"reads_l2", tally.reads_l2},
      {"reads_absent", tally.reads_absent},
      {"reads_failed", tally.reads_failed},
      {"read_p50_us", quantile_us(0.5)},
      {"read_p99_us", quantile_us(0.99)},
      {"writes_failed", tally.writes_failed},
      {"values_wrong", tally.values_wrong},
      {"suspects_overflowed", verdict.suspects_overflowed},
      {"instances", report.options.instances},
      {"instances_died", report.instances_died},
      {"keys", report.keys},
      {"zipf", report.options.zipf},
      {"seconds", report.options.seconds},
      {"seconds_run", report.seconds_run},
      {"master_killed", report.master_killed},
      {"promoted", report.promoted},
      {"interrupted", report.interrupted},
      {"passed", complaints(report).empty()}};
  return json.dump();
}

}  // namespace tiercel::failover
