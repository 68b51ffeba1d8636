#pragma once

// Collects what Google Benchmark measures, round after round, and answers with medians.

#include <benchmark/benchmark.h>

#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "figures.h"

namespace tiercel::bench {

// A benchmark is called "scenario/column": one row of the table for each scenario and number of
// threads, one column for each cache.
struct Column {
  std::string name;
  bool is_bounded;
};

class MedianReporter : public benchmark::BenchmarkReporter {
 public:
  bool ReportContext(const Context& context) override;
  void ReportRuns(const std::vector<Run>& runs) override;

  // Nanoseconds an operation over all threads: time on the wall by operations of all threads.
  // nullopt: it was not measured.
  [[nodiscard]] std::optional<double> median_ns(std::string_view scenario, int threads,
                                                std::string_view column) const;
  [[nodiscard]] bool has_failed() const noexcept { return has_failed_; }

  void print_tables(const std::vector<Column>& columns, std::string_view ours) const;

  // The time of the fastest bounded column but ours, over ours.
  [[nodiscard]] std::optional<double> vs_best_bounded(std::string_view scenario, int threads,
                                                      const std::vector<Column>& columns,
                                                      std::string_view ours) const;

 private:
  struct Samples {
    std::vector<double> ns;
    std::vector<double> hit_ratio;
  };
  struct Row {
    std::string scenario;
    int threads;
    std::map<std::string, Samples, std::less<>> cells;
  };

  Row& row(std::string_view scenario, int threads);
  [[nodiscard]] const Row* find(std::string_view scenario, int threads) const;
  void print_row(const Row& row, const std::vector<Column>& columns, std::string_view ours) const;
  void print_others(const Row& row, const std::vector<Column>& columns) const;
  void print_hit_ratios(const Row& row, const std::vector<Column>& columns) const;

  std::vector<Row> rows_;  // In the order in which they were first measured.
  bool has_printed_context_ = false;
  bool has_failed_ = false;
};

}  // namespace tiercel::bench
