// A chaos run: see options.cc for what it does, faults.h for what there is.

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <string>

#include "chaos/capabilities.h"
#include "chaos/faults.h"
#include "chaos/instance.h"
#include "chaos/options.h"
#include "chaos/report.h"
#include "support/redis_server.h"

namespace tiercel::chaos {
namespace {

#ifdef TIERCEL_CHAOS_HAS_HOOKED
constexpr bool kHasHooks = true;
#else
constexpr bool kHasHooks = false;
#endif

bool is_named(const Fault& fault, const std::string& name) {
  return name == fault.name || name == std::to_string(fault.number);
}

bool chosen(const Fault& fault, const Options& options) {
  if (options.stock_sentinel && (fault.number < 12 || fault.number > 16)) return false;
  if (options.names.empty()) return true;
  return std::ranges::any_of(options.names,
                             [&](const std::string& name) { return is_named(fault, name); });
}

FaultReport run_fault(const Fault& fault, const Options& options) {
  FaultReport report;
  report.number = fault.number;
  report.name = fault.name;
  report.is_negative_control = fault.is_negative_control;
  fmt::print("\n{} {}: {}\n", fault.number, fault.name, fault.what);
  if (!fault.needs.empty()) {
    fmt::print("  (it is about {}, which this library does not have yet)\n", fault.needs);
  }
  std::fflush(stdout);
  if (fault.needs_hooks && !kHasHooks) {
    report.skipped = "needs a build with -DTIERCEL_CHAOS_HOOKS=ON";
  } else {
    fault.run(report, options);
  }
  print_fault(report);
  return report;
}

int run(const Options& options) {
  const auto faults = all_faults();
  for (const std::string& name : options.names) {
    if (std::ranges::any_of(faults, [&](const Fault& fault) { return is_named(fault, name); })) {
      continue;
    }
    fmt::print(stderr, "there is no fault '{}'; --list lists them\n", name);
    return 2;
  }
  if (options.list) {
    for (const Fault& fault : faults) {
      fmt::print("{:>3} {:<22} {}\n", fault.number, fault.name, fault.what);
    }
    return 0;
  }
  if (!testing::RedisServer::available()) {
    fmt::print(stderr, "{}\n", testing::RedisServer::unavailable_message());
    return 1;
  }
  fmt::print("seed {}: ./run chaos --seed {} draws the same faults and keys again\n", options.seed,
             options.seed);
  std::vector<FaultReport> reports;
  for (const Fault& fault : faults) {
    if (chosen(fault, options)) reports.push_back(run_fault(fault, options));
  }
  print_summary(reports);
  const auto failed =
      std::ranges::count_if(reports, [](const FaultReport& report) { return !report.passed(); });
  if (failed > 0) {
    fmt::print("\n{} of {} did not hold (seed {}):\n", failed, reports.size(), options.seed);
    for (const FaultReport& report : reports) {
      if (report.passed()) continue;
      fmt::print("  {} {}: {}\n", report.number, report.name,
                 report.violations.empty() ? "the oracle did not notice" : report.violations[0]);
    }
  }
  return failed > 0 ? 1 : 0;
}

}  // namespace

std::vector<Fault> all_faults() {
  std::vector<Fault> all;
  for (const auto faults :
       {link_faults(), process_faults(), failover_faults(), operator_faults(), data_faults()}) {
    all.insert(all.end(), faults.begin(), faults.end());
  }
  std::ranges::stable_sort(all, {}, &Fault::number);
  return all;
}

}  // namespace tiercel::chaos

int main(int argc, char** argv) {
  using namespace tiercel::chaos;
  const CommandLine line = parse_command_line(argc, argv);
  if (line.instance) return run_instance(*line.instance);
  if (!line.options) return line.exit_status;
  return run(*line.options);
}
