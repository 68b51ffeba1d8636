// tiercel_sim: runs seeds, or tells one. See docs/testing.md.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include "tiercel/base/bytes.h"
#include "totals.h"

namespace {

constexpr std::string_view kUsage =
    "tiercel_sim [--seeds N] [--first-seed N] [--jobs N] [--sabotage WHAT]\n"
    "tiercel_sim --seed N [--trace | --last-lines] [--sabotage WHAT]\n"
    "\n"
    "  --seeds N        run N seeds (default 200) in --jobs processes (default: the processors)\n"
    "  --seed N         run one; --trace tells its whole story, --last-lines how it ends\n"
    "  --sabotage WHAT  break something on purpose: tokens, witness, drops, marks, clock, ahead,\n"
    "                   tags. The checkers must notice.\n";

std::optional<tiercel::sim::Sabotage> parse_sabotage(std::string_view name) {
  for (std::size_t i = 0; i < tiercel::sim::kSabotages; ++i) {
    const auto sabotage = static_cast<tiercel::sim::Sabotage>(i);
    if (tiercel::sim::to_string(sabotage) == name) return sabotage;
  }
  return std::nullopt;
}

int usage(const std::string& problem) {
  std::fprintf(stderr, "%s\n%s", problem.c_str(), std::string{kUsage}.c_str());
  return 2;
}

}  // namespace

int main(int argc, char** argv) {
  using tiercel::sim::Sabotage;
  using tiercel::sim::Telling;
  std::uint64_t seeds = 200;
  std::uint64_t first_seed = 1;
  std::uint64_t jobs = std::max(1U, std::thread::hardware_concurrency());
  std::optional<std::uint64_t> one;
  Telling telling = Telling::kNothing;
  Sabotage sabotage = Sabotage::kNone;
  for (int i = 1; i < argc; ++i) {
    const std::string_view option = argv[i];
    if (option == "--help") {
      std::printf("%s", std::string{kUsage}.c_str());
      return 0;
    }
    if (option == "--trace") {
      telling = Telling::kAll;
      continue;
    }
    if (option == "--last-lines") {
      telling = Telling::kLastLines;
      continue;
    }
    if (i + 1 == argc) return usage("a value is missing after " + std::string{option});
    const std::string_view value = argv[++i];
    if (option == "--sabotage") {
      const auto parsed = parse_sabotage(value);
      if (!parsed) return usage("unknown sabotage");
      sabotage = *parsed;
      continue;
    }
    const auto number = tiercel::parse_u64(value);
    if (!number) return usage("not a number: " + std::string{value});
    if (option == "--seeds") {
      seeds = *number;
    } else if (option == "--first-seed") {
      first_seed = *number;
    } else if (option == "--seed") {
      one = *number;
    } else if (option == "--jobs") {
      jobs = std::max<std::uint64_t>(1, *number);
    } else {
      return usage("unknown option " + std::string{option});
    }
  }
  if (one) return tiercel::sim::tell_seed(*one, sabotage, telling) ? 0 : 1;

  const auto began = std::chrono::steady_clock::now();
  const auto totals = tiercel::sim::run_seeds(first_seed, seeds, jobs, sabotage);
  if (!totals.violations.empty()) {
    const std::uint64_t seed = totals.violations.front().first;
    std::printf("--- how seed %llu ends ---\n", static_cast<unsigned long long>(seed));
    tiercel::sim::tell_seed(seed, sabotage, Telling::kLastLines);
    std::printf("--- ./run sim --seed %llu --trace tells it all ---\n\n",
                static_cast<unsigned long long>(seed));
  }
  const double took =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  totals.print();
  std::printf("%.1f s\n", took);
  return totals.is_good() ? 0 : 1;
}
