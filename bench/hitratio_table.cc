#include "hitratio_table.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <optional>

namespace tiercel::bench {
namespace {

[[gnu::format(printf, 1, 2)]] std::string format(const char* pattern, ...) {
  std::array<char, 256> buffer{};
  std::va_list arguments;
  va_start(arguments, pattern);
  (void)std::vsnprintf(buffer.data(), buffer.size(), pattern, arguments);
  va_end(arguments);
  return buffer.data();
}

std::string worst_figures(const std::vector<Row>& rows, bool synthetic, const char* prefix) {
  std::optional<double> to_best;
  std::optional<double> to_lru;
  std::optional<double> lru_to_lru;
  const auto raise = [](std::optional<double>& worst, double to) {
    worst = std::max(worst.value_or(to), to);
  };
  for (const Row& row : rows) {
    if (row.synthetic != synthetic) continue;
    raise(to_best, row.adaptive_to_best());
    raise(to_lru, row.adaptive_to_lru());
    raise(lru_to_lru, row.lru_to_lru());
  }
  if (!to_best) return {};
  return format("figure %s_adaptive_worst_vs_best %.2f\n", prefix, *to_best) +
         format("figure %s_adaptive_worst_vs_lru %.2f\n", prefix, *to_lru) +
         format("figure %s_lru_worst_vs_lru %.2f\n", prefix, *lru_to_lru);
}

}  // namespace

double Row::adaptive_to_best() const { return engine_adaptive - *std::ranges::min_element(online); }

std::string table_head() {
  return format("%-23s | %-55s | %-27s | %s\n", "", "references, misses in %", "tiercel",
                "difference") +
         format("%-16s %6s | %6s %6s %6s %6s %6s %6s %6s %6s |", "trace", "size", "LRU", "2Q",
                "ARC", "S3FIFO", "SIEVE", "WTLFU", "WTLF10", "BELADY") +
         format(" %6s %6s %6s %6s | %6s %6s %6s\n", "LRU", "count", "ADAPT", "count", "A-best",
                "A-LRU", "L-LRU");
}

std::string table_line(const Row& row) {
  std::string line = format("%-16s %6zu |", row.trace.c_str(), row.size);
  for (const double percent : row.online) line += format(" %6.2f", percent);
  line += format(" %6.2f |", row.belady);
  line += format(" %6.2f %6zu", row.engine_lru, row.engine_lru_size);
  line += format(" %6.2f %6zu |", row.engine_adaptive, row.engine_adaptive_size);
  return line + format(" %+6.2f %+6.2f %+6.2f\n", row.adaptive_to_best(), row.adaptive_to_lru(),
                       row.lru_to_lru());
}

std::string figures(const std::vector<Row>& rows) {
  return worst_figures(rows, false, "hitratio") + worst_figures(rows, true, "hitratio_synthetic");
}

}  // namespace tiercel::bench
