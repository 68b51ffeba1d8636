#pragma once

// The rounds of the L2 bench, and what they say: a table, the figures, and JSON.

#include <map>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "l2_work.h"

namespace tiercel::bench {

// One line of the table: a contestant at one task.
struct Row {
  std::string name;
  std::string about;
  std::string yardstick{};  // The row that its ratio is over, in the same round. Empty: none.
  std::string figure{};     // The name of its ratio as a figure. Empty: it is none.
};

class Rounds {
 public:
  explicit Rounds(std::vector<Row> rows) : rows_(std::move(rows)) {}

  void begin_round() { rounds_.emplace_back(); }
  void add(const std::string& row, const Measurement& measurement) {
    rounds_.back().insert_or_assign(row, measurement);
  }

  // Of the latest round in which it was measured.
  [[nodiscard]] std::optional<double> last_operations_per_second(const std::string& row) const;
  // nullopt: it was not measured, or has no such thing.
  [[nodiscard]] std::optional<double> cpu_ns_per_operation(const std::string& row) const;

  // Medians of the rounds; ratios are taken within each round before.
  void print_table() const;
  void print_figures() const;  // The ratios that are figures.
  [[nodiscard]] nlohmann::json to_json() const;

 private:
  using Round = std::map<std::string, Measurement, std::less<>>;
  template <typename Value>
  [[nodiscard]] std::vector<double> collect(const std::string& row, Value&& value) const;
  [[nodiscard]] std::vector<double> ratios(const Row& row) const;
  void print_row(const Row& row) const;

  std::vector<Row> rows_;
  std::vector<Round> rounds_;
};

}  // namespace tiercel::bench
