#include "l1_group.h"

#include <algorithm>
#include <cstdio>
#include <random>
#include <regex>
#include <utility>

namespace tiercel::bench {

bool is_wanted(const std::string& name) {
  std::string filter = benchmark::GetBenchmarkFilter();
  if (filter.empty() || filter == "all") return true;
  return std::regex_search(name, std::regex{filter});
}

void Group::add(const std::string& scenario, const std::string& column, int threads,
                Function function) {
  const std::string name = scenario + "/" + column;
  if (!is_wanted(name)) return;
  auto found = std::ranges::find_if(scenarios_, [&](const Scenario& candidate) {
    return candidate.name == scenario && candidate.threads == threads;
  });
  if (found == scenarios_.end()) {
    found = scenarios_.insert(found, {.name = scenario, .threads = threads, .entrants = {}});
  }
  found->entrants.push_back({name, std::move(function)});
}

void Group::add(const std::string& scenario, const std::string& column, const Function& function) {
  for (int threads = 1; threads <= kThreadsMax; ++threads) {
    add(scenario, column, threads, function);
  }
}

void Group::run(const Rounds& rounds, MedianReporter& reporter) {
  if (scenarios_.empty()) return;
  std::mt19937 order{1};
  for (int round = 1; round <= rounds.count; ++round) {
    std::fprintf(stderr, "%s …: round %d of %d\n", scenarios_.front().name.c_str(), round,
                 rounds.count);
    for (Scenario& scenario : scenarios_) {
      std::ranges::shuffle(scenario.entrants, order);
      for (const Entrant& entrant : scenario.entrants) {
        benchmark::RegisterBenchmark(entrant.name.c_str(), entrant.function)
            ->Threads(scenario.threads)
            ->UseRealTime()
            ->MinTime(rounds.seconds);
      }
    }
    benchmark::RunSpecifiedBenchmarks(&reporter, "all");
    benchmark::ClearRegisteredBenchmarks();
  }
}

}  // namespace tiercel::bench
