#pragma once

// What the hit-ratio bench found out, as text.

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace tiercel::bench {

// Those that can be had: they do not know the future.
inline constexpr std::array<std::string_view, 7> kOnlinePolicies{
    "LRU", "2Q", "ARC", "S3-FIFO", "SIEVE", "W-TinyLFU 1 %", "W-TinyLFU 10 %"};

// One trace at one size. Misses are in percent of the requests.
struct Row {
  std::string trace;
  bool synthetic = false;
  std::size_t size = 0;                                 // In entries.
  std::array<double, kOnlinePolicies.size()> online{};  // References, as in kOnlinePolicies.
  double belady = 0;
  double engine_lru = 0;
  double engine_adaptive = 0;
  std::size_t engine_lru_size = 0;  // On average.
  std::size_t engine_adaptive_size = 0;

  [[nodiscard]] double adaptive_to_best() const;
  [[nodiscard]] double adaptive_to_lru() const { return engine_adaptive - online[0]; }
  [[nodiscard]] double lru_to_lru() const { return engine_lru - online[0]; }
};

[[nodiscard]] std::string table_head();
[[nodiscard]] std::string table_line(const Row& row);

// `figure NAME VALUE` for the worst differences: of the recorded traces, then of the synthetic
// ones.
[[nodiscard]] std::string figures(const std::vector<Row>& rows);

// Draws a PNG with gnuplot. False if that did not work.
[[nodiscard]] bool plot(const std::vector<Row>& rows, const std::string& png);

}  // namespace tiercel::bench
