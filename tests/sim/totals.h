#pragma once

// Totals: the reports of many seeds, summed up and printed; and run_seeds, which runs them in
// several processes, so that a crash of one seed names it and spares the others.

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "simulation.h"

namespace tiercel::sim {

struct Totals {
  std::uint64_t seeds = 0;
  std::uint64_t seeds_violated = 0;
  std::uint64_t seeds_lost = 0;  // Their process died; named in `crashed`.
  std::vector<std::uint64_t> crashed;
  std::vector<std::pair<std::uint64_t, Violation>> violations;  // The first of each seed's.
  std::uint64_t stale_beyond_bound = 0;
  double worst_staleness_over_lease = 0;
  std::uint64_t worst_seed = 0;
  std::uint64_t acknowledged = 0, lost = 0, steps = 0;
  double calm_after_s_max = 0;
  Counts counts;

  void add(const Report& report);
  void add(const Totals& other);
  [[nodiscard]] bool is_good() const { return seeds_violated == 0 && crashed.empty(); }
  void print() const;
};

Totals run_seeds(std::uint64_t first, std::uint64_t count, std::size_t jobs, Sabotage sabotage);

// One seed, told from the beginning to the end; true if it violates nothing.
bool tell_seed(std::uint64_t seed, Sabotage sabotage, Telling telling);

}  // namespace tiercel::sim
