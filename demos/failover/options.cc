#include "failover/options.h"

#include <CLI/CLI.hpp>
#include <cmath>
#include <fstream>
#include <iostream>

namespace tiercel::failover {
namespace {

constexpr int kExitWrongOptions = 2;
constexpr double kZipfMax = 2.0;

// CLI::Range lets a NaN through.
std::string check_zipf(const std::string& text) {
  double value = 0;
  if (!CLI::detail::lexical_cast(text, value)) return "'" + text + "' is not a number";
  if (std::isfinite(value) && value >= 0 && value <= kZipfMax) return {};
  return "'" + text + "' is not in the range 0 to 2";
}

// Before minutes of work, not after them. Leaves what is in the file as it is.
std::string check_writable(const std::string& path) {
  if (std::ofstream{path, std::ios::app}) return {};
  return "cannot write '" + path + "'";
}

void add_options(CLI::App& app, Options& options) {
  app.add_option("--keys", options.keys, "Keys to read and write")
      ->check(CLI::Range(std::uint64_t{1}, kKeysMax))
      ->capture_default_str();
  app.add_option("--zipf", options.zipf, "Skew of the keys: 0 (uniform) to 2")
      ->check(check_zipf)
      ->capture_default_str();
  app.add_option("--writes-per-s", options.writes_per_s, "Writes a second, of all instances")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{20'000}))
      ->capture_default_str();
  app.add_option("--seconds", options.seconds, "How long to run")
      ->check(CLI::Range(5U, 3600U))
      ->capture_default_str();
  app.add_option("--instances", options.instances, "Instance processes")
      ->check(CLI::Range(1U, kInstancesMax))
      ->capture_default_str();
  app.add_option("--lease-ms", options.lease_ms, "The lease: how old an answer from L1 may be")
      ->check(CLI::Range(20U, 60'000U))
      ->capture_default_str();
  app.add_option("--trace", options.trace,
                 "Take the keys from this file instead, one decimal key id a line")
      ->check(CLI::ExistingFile);
  app.add_option("--json", options.json, "Write the report to this file, as one JSON object")
      ->check(check_writable);
  app.add_flag_callback(
      "--no-kill", [&options] { options.kill_master = false; },
      "Let the master live: a healthy run");
  app.add_flag("--verbose", options.verbose, "Show the library's log lines");
  // Hidden: to show that the oracle can fail.
  app.add_flag("--stale-reader", options.stale_reader)->group("");
}

std::string check_together(const Options& options) {
  if (options.writes_per_s * options.seconds <= kWritesMax) return {};
  return "--writes-per-s " + std::to_string(options.writes_per_s) + " for --seconds " +
         std::to_string(options.seconds) + " makes " +
         std::to_string(options.writes_per_s * options.seconds) + " writes; at most " +
         std::to_string(kWritesMax) + " can be judged in one run";
}

}  // namespace

CommandLine parse_command_line(int argc, const char* const* argv) {
  Options options;
  std::uint32_t number = 0;
  CLI::App app{
      "Reads and writes through Tiercel from several processes, kills the Redis master under "
      "them,\n"
      "and checks every answer against what was acknowledged.\n"
      "Exit status: 0 all is well, 1 a promise was broken or the run failed, 2 wrong options."};
  add_options(app, options);
  auto* instance = app.add_subcommand("instance", "")->group("");
  instance->add_option("number", number)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked_for_help = app.exit(error, std::cout, std::cerr) == 0;
    return {.options = {}, .instance = {}, .exit_status = asked_for_help ? 0 : kExitWrongOptions};
  }
  if (instance->parsed()) return {.options = {}, .instance = number, .exit_status = 0};
  if (const std::string complaint = check_together(options); !complaint.empty()) {
    std::cerr << complaint << '\n';
    return {.options = {}, .instance = {}, .exit_status = kExitWrongOptions};
  }
  return {.options = std::move(options), .instance = {}, .exit_status = 0};
}

}  // namespace tiercel::failover
