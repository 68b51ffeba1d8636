// The data goes to gnuplot's standard input, hitratio_plot.gp says how it is drawn.

#include <cstdio>

#include "hitratio_table.h"

namespace tiercel::bench {
namespace {

// A block for each trace: size, then a column for each policy.
void print_data(std::FILE* to, const std::vector<Row>& rows) {
  std::fputs("$data << END\n", to);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Row& row = rows[i];
    if (i > 0 && rows[i - 1].trace != row.trace) std::fputs("\n\n", to);
    std::fprintf(to, "%zu", row.size);
    for (const double percent : row.online) std::fprintf(to, " %.3f", percent);
    std::fprintf(to, " %.3f %.3f %.3f\n", row.belady, row.engine_lru, row.engine_adaptive);
  }
  std::fputs("END\n", to);
}

void print_names(std::FILE* to, const std::vector<Row>& rows) {
  std::fputs("traces = \"", to);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (i > 0 && rows[i - 1].trace == rows[i].trace) continue;
    std::fprintf(to, "%s ", rows[i].trace.c_str());
  }
  std::fputs("\"\narray policies = [", to);
  for (const std::string_view name : kOnlinePolicies) {
    std::fprintf(to, "\"%.*s\", ", static_cast<int>(name.size()), name.data());
  }
  std::fputs("\"BELADY\", \"tiercel LRU\", \"tiercel adaptive\"]\n", to);
}

}  // namespace

bool plot(const std::vector<Row>& rows, const std::string& png) {
  std::FILE* gnuplot = popen("gnuplot", "w");
  if (gnuplot == nullptr) return false;
  print_data(gnuplot, rows);
  print_names(gnuplot, rows);
  std::fprintf(gnuplot, "png = '%s'\nload '%s'\n", png.c_str(), TIERCEL_HITRATIO_PLOT);
  return pclose(gnuplot) == 0;
}

}  // namespace tiercel::bench
