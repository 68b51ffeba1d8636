// Miss ratios: the cache, with LRU and with the adaptive policy, beside the policies of the
// literature at the same number of entries. See --help.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <cstdio>
#include <string>
#include <vector>

#include "hitratio_classic.h"
#include "hitratio_engine.h"
#include "hitratio_lfu.h"
#include "hitratio_table.h"
#include "hitratio_traces.h"

namespace tiercel::bench {
namespace {

constexpr const char* kAbout =
    "Replays traces against the L1 cache, with LRU and with the adaptive policy, and against\n"
    "reference policies, and prints how many percent of the requests miss. Each cache holds the\n"
    "same number of entries, all of the same size.\n"
    "\n"
    "Formats: NAME.u64 has one little-endian unsigned 64-bit id for each request, in order;\n"
    "NAME.u64.xz is the same, compressed by xz. Caches hold 0.1 %, 1 % and 10 % of a trace's\n"
    "distinct ids. Synthetic traces run in any case.";

constexpr const char* kHelpOnColumns =
    "Columns: the references (WTLFU, WTLF10: W-TinyLFU with a window of 1 % and of 10 %; BELADY\n"
    "knows the future); the cache's own, each with the entries that it held on average; then\n"
    "differences in percentage points: ADAPT less the best reference but BELADY, ADAPT less the\n"
    "reference LRU, the cache's LRU less the reference LRU.";

template <typename Policy>
double miss_percent(Policy&& policy, const std::vector<Id>& ids) {
  std::size_t misses = 0;
  for (const Id id : ids) misses += policy.access(id) ? 0 : 1;
  return 100.0 * static_cast<double>(misses) / static_cast<double>(ids.size());
}

Row measure(const Trace& trace, std::size_t size, std::uint64_t seed) {
  const std::vector<Id>& ids = trace.ids;
  const std::size_t distinct = trace.distinct;
  Engine lru{size, l1::Eviction::kLru, seed};
  Engine adaptive{size, l1::Eviction::kAdaptive, seed};
  return {
      .trace = trace.name,
      .size = size,
      .online = {miss_percent(Lru{size, distinct}, ids),
                 miss_percent(TwoQueues{size, distinct}, ids),
                 miss_percent(Arc{size, distinct}, ids), miss_percent(S3Fifo{size, distinct}, ids),
                 miss_percent(Sieve{size, distinct}, ids),
                 miss_percent(WTinyLfu{size, distinct, 1}, ids),
                 miss_percent(WTinyLfu{size, distinct, 10}, ids)},
      .belady = miss_percent(Belady{size, distinct, ids}, ids),
      .engine_lru = miss_percent(lru, ids),
      .engine_adaptive = miss_percent(adaptive, ids),
      .engine_lru_size = lru.entries(),
      .engine_adaptive_size = adaptive.entries()};
}

// The table as it grows: on the standard output, and kept for a file.
class Report {
 public:
  explicit Report(std::uint64_t seed) : seed_(seed) { add(table_head()); }

  void run(const Trace& trace, bool synthetic) {
    for (const std::size_t size : trace.sizes) {
      rows_.push_back(measure(trace, size, seed_));
      rows_.back().synthetic = synthetic;
      add(table_line(rows_.back()));
    }
  }
  void add(const std::string& text) {
    std::fputs(text.c_str(), stdout);
    std::fflush(stdout);
    text_ += text;
  }
  [[nodiscard]] const std::vector<Row>& rows() const { return rows_; }

  [[nodiscard]] bool write(const std::string& path) const {
    std::FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) return false;
    const bool written = std::fputs(text_.c_str(), file) >= 0;
    return std::fclose(file) == 0 && written;
  }

 private:
  std::uint64_t seed_;
  std::vector<Row> rows_;
  std::string text_;
};

struct Settings {
  std::uint64_t seed = 1;
  std::string folder;
  std::string out;
  std::string plot;
};

int fail(const std::string& why) {
  std::fprintf(stderr, "hitratio_bench: %s\n", why.c_str());
  return 1;
}

int run(const Settings& settings) {
  Report report{settings.seed};
  if (!settings.folder.empty()) {
    const auto files = trace_files(settings.folder);
    if (!files) return fail(files.error().to_string());
    for (const auto& file : *files) {
      const auto trace = read_trace(file);
      if (!trace) return fail(trace.error().to_string());
      report.run(*trace, false);
    }
  }
  for (const Trace& trace : synthetic_traces()) report.run(trace, true);
  report.add(figures(report.rows()));
  if (!settings.out.empty() && !report.write(settings.out)) {
    return fail(settings.out + " cannot be written");
  }
  if (!settings.plot.empty() && !plot(report.rows(), settings.plot)) {
    return fail(settings.plot + " cannot be drawn; is gnuplot there?");
  }
  return 0;
}

}  // namespace
}  // namespace tiercel::bench

int main(int argc, char** argv) {
  tiercel::bench::Settings settings;
  CLI::App app{tiercel::bench::kAbout, "hitratio_bench"};
  app.footer(tiercel::bench::kHelpOnColumns);
  app.add_option("DIRECTORY", settings.folder, "Where traces are; else only the synthetic ones run")
      ->envname("TIERCEL_TRACES");
  app.add_option("--seed", settings.seed, "Of the cache's hash")->capture_default_str();
  app.add_option("--out", settings.out, "Write the table to this file, too");
  app.add_option("--plot", settings.plot, "Draw it as a PNG, with gnuplot");
  CLI11_PARSE(app, argc, argv);
  return tiercel::bench::run(settings);
}
