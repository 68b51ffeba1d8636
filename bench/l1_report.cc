#include "l1_report.h"

#include <algorithm>
#include <cstdio>
#include <functional>
#include <iostream>

namespace tiercel::bench {

bool MedianReporter::ReportContext(const Context& context) {
  if (!has_printed_context_) PrintBasicContext(&std::cerr, context);
  has_printed_context_ = true;
  return true;
}

void MedianReporter::ReportRuns(const std::vector<Run>& runs) {
  for (const Run& run : runs) {
    const std::string& name = run.run_name.function_name;
    if (run.error_occurred) {
      std::fprintf(stderr, "%s: %s\n", run.benchmark_name().c_str(), run.error_message.c_str());
      has_failed_ = true;
      continue;
    }
    const std::size_t slash = name.find('/');
    Samples& samples =
        row(name.substr(0, slash), static_cast<int>(run.threads)).cells[name.substr(slash + 1)];
    samples.ns.push_back(1e9 / run.counters.at("items_per_second"));
    if (const auto hits = run.counters.find("hits"); hits != run.counters.end()) {
      samples.hit_ratio.push_back(hits->second);
    }
  }
}

MedianReporter::Row& MedianReporter::row(std::string_view scenario, int threads) {
  if (const Row* found = find(scenario, threads)) return const_cast<Row&>(*found);
  return rows_.emplace_back(Row{std::string{scenario}, threads, {}});
}

const MedianReporter::Row* MedianReporter::find(std::string_view scenario, int threads) const {
  const auto found = std::ranges::find_if(
      rows_, [&](const Row& row) { return row.scenario == scenario && row.threads == threads; });
  return found == rows_.end() ? nullptr : &*found;
}

std::optional<double> MedianReporter::median_ns(std::string_view scenario, int threads,
                                                std::string_view column) const {
  const Row* found = find(scenario, threads);
  if (found == nullptr) return std::nullopt;
  const auto cell = found->cells.find(column);
  if (cell == found->cells.end()) return std::nullopt;
  return median(cell->second.ns);
}

std::optional<double> MedianReporter::vs_best_bounded(std::string_view scenario, int threads,
                                                      const std::vector<Column>& columns,
                                                      std::string_view ours) const {
  std::optional<double> best;
  for (const Column& column : columns) {
    if (!column.is_bounded || column.name == ours) continue;
    const auto ns = median_ns(scenario, threads, column.name);
    if (ns && (!best || *ns < *best)) best = ns;
  }
  return ratio(best, median_ns(scenario, threads, ours));
}

void MedianReporter::print_tables(const std::vector<Column>& columns, std::string_view ours) const {
  std::printf("Nanoseconds an operation over all threads, medians (* has no bound and no order)\n");
  std::printf("%-16s %3s", "", "thr");
  for (const Column& column : columns) std::printf(" %13s", column.name.c_str());
  std::printf(" %6s %8s\n", "ratio", "spread %");
  for (const Row& row : rows_) print_row(row, columns, ours);
  std::printf(
      "ratio: of the best bounded peer to ours. spread: of the rounds, the largest in the row.\n");
  for (const Row& row : rows_) print_others(row, columns);
  for (const Row& row : rows_) print_hit_ratios(row, columns);
}

void MedianReporter::print_row(const Row& row, const std::vector<Column>& columns,
                               std::string_view ours) const {
  const auto is_measured = [&row](const Column& column) { return row.cells.contains(column.name); };
  if (std::ranges::none_of(columns, is_measured)) return;
  std::printf("%-16s %3d", row.scenario.c_str(), row.threads);
  double spread = 0;
  for (const Column& column : columns) {
    const auto cell = row.cells.find(column.name);
    if (cell == row.cells.end()) {
      std::printf(" %13s", "-");
      continue;
    }
    std::printf(" %13.1f", median(cell->second.ns));
    spread = std::max(spread, spread_percent(cell->second.ns));
  }
  const auto best = vs_best_bounded(row.scenario, row.threads, columns, ours);
  if (best) {
    std::printf(" %6.2f %8.0f\n", *best, spread);
  } else {
    std::printf(" %6s %8.0f\n", "-", spread);
  }
}

void MedianReporter::print_others(const Row& row, const std::vector<Column>& columns) const {
  for (const auto& [name, samples] : row.cells) {
    if (std::ranges::find(columns, name, &Column::name) != columns.end()) continue;
    std::printf("%-16s %3d %-20s %8.1f ns, spread %.0f %%\n", row.scenario.c_str(), row.threads,
                name.c_str(), median(samples.ns), spread_percent(samples.ns));
  }
}

void MedianReporter::print_hit_ratios(const Row& row, const std::vector<Column>& columns) const {
  for (const Column& column : columns) {
    const auto cell = row.cells.find(column.name);
    if (cell == row.cells.end() || cell->second.hit_ratio.empty()) continue;
    std::printf("%-16s %3d %-20s %8.1f %% hits\n", row.scenario.c_str(), row.threads,
                column.name.c_str(), 100 * median(cell->second.hit_ratio));
  }
}

}  // namespace tiercel::bench
