#pragma once

// Contestants that take turns: in each round all of them, in an order drawn anew. A ratio is taken
// within a round, and what counts is the median of the rounds.

#include <cstdint>
#include <functional>
#include <nlohmann/json_fwd.hpp>
#include <regex>
#include <string>
#include <vector>

#include "l2_server.h"
#include "l2_table.h"
#include "l2_work.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

// What is measured in one go: one row, or two that take turns.
struct Task {
  std::vector<Row> rows;
  std::function<Result<std::vector<Measurement>>(Duration)> run;
};

using One = std::function<Result<Measurement>(Duration)>;
[[nodiscard]] Task single(Row row, One run);

// For CLI11: what is wrong with it; empty if nothing.
[[nodiscard]] std::string check_regex(const std::string& text);
// Those with a row that the filter names, and those that their ratios are over.
[[nodiscard]] std::vector<Task> wanted(std::vector<Task> tasks, const std::regex& filter);

// So many rounds, a turn as long as that. Errors: the first of a task, with its row's name.
Result<void> measure(std::vector<Task>& tasks, std::uint32_t rounds, Duration turn, Rounds& into);

// "cpu", "cores", "kernel" and "redis", and a line of them.
[[nodiscard]] nlohmann::json describe_machine(BenchServer& server);
void print_machine(const nlohmann::json& machine);

}  // namespace tiercel::bench
