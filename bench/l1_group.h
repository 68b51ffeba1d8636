#pragma once

// Scenarios that are measured together, round after round.

#include <benchmark/benchmark.h>

#include <functional>
#include <string>
#include <vector>

#include "l1_report.h"

namespace tiercel::bench {

inline constexpr int kThreadsMax = 2;

// Whether --benchmark_filter lets it be measured.
[[nodiscard]] bool is_wanted(const std::string& name);

struct Rounds {
  int count;
  double seconds;  // Of each run, at least.
};

// Scenarios whose caches live at the same time; they go when the group does.
class Group {
 public:
  using Function = std::function<void(benchmark::State&)>;  // One call is a run by one thread.

  // Takes its turn in each round, unless the filter excludes it.
  void add(const std::string& scenario, const std::string& column, int threads, Function function);

  // With each number of threads.
  void add(const std::string& scenario, const std::string& column, const Function& function);

  // Each round measures all of them once, in an order drawn anew within each scenario.
  void run(const Rounds& rounds, MedianReporter& reporter);

 private:
  struct Entrant {
    std::string name;
    Function function;
  };
  struct Scenario {
    std::string name;
    int threads;
    std::vector<Entrant> entrants;
  };

  std::vector<Scenario> scenarios_;
};

}  // namespace tiercel::bench
