#include "chaos/options.h"

#include <CLI/CLI.hpp>
#include <iostream>

#include "tiercel/base/random.h"

namespace tiercel::chaos {

CommandLine parse_command_line(int argc, const char* const* argv) {
  constexpr int kExitWrongOptions = 2;
  Options options;
  // A short one, for people to type.
  options.seed = entropy_u64() % 1'000'000'000;
  std::uint32_t number = 0;
  CLI::App app{
      "Does to real Redis servers, Sentinels, links and processes what can happen to them, and "
      "checks "
      "every\nanswer of the cache against what was acknowledged.\n"
      "Exit status: 0 all held, 1 a promise was broken or the run failed, 2 wrong options."};
  app.add_option("NAME", options.names, "Faults, by name or number; all when there is none");
  app.add_option("--seed", options.seed, "Draws the same faults and keys again");
  app.add_flag("--stock-sentinel", options.stock_sentinel,
               "Run faults 12 to 16, at the periods that Sentinel has by itself");
  app.add_flag("--list", options.list, "List the faults");
  app.add_flag("--verbose", options.verbose, "Show what the instances say");
  auto* instance = app.add_subcommand("instance", "")->group("");
  instance->add_option("number", number)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool asked_for_help = app.exit(error, std::cout, std::cerr) == 0;
    return {.exit_status = asked_for_help ? 0 : kExitWrongOptions};
  }
  if (instance->parsed()) return {.instance = number};
  return {.options = std::move(options)};
}

}  // namespace tiercel::chaos
