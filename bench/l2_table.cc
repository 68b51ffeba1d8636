#include "l2_table.h"

#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>
#include <ranges>

#include "figures.h"

namespace tiercel::bench {
namespace {

constexpr int kNameWidth = 24;

std::string number(std::optional<double> value, int digits) {
  return value ? fmt::format("{:.{}f}", *value, digits) : "-";
}

std::optional<double> median_of(const std::vector<double>& samples) {
  return samples.empty() ? std::nullopt : std::optional{median(samples)};
}

// How much better one did than the other: by median latency where that was measured, else by rate.
double times_better(const Measurement& one, const Measurement& other) {
  if (one.latency && other.latency) return other.latency->p50_us / one.latency->p50_us;
  return one.operations_per_second() / other.operations_per_second();
}

std::optional<double> p50_us(const Measurement& measurement) {
  return measurement.latency ? std::optional{measurement.latency->p50_us} : std::nullopt;
}

std::optional<double> p99_us(const Measurement& measurement) {
  return measurement.latency ? std::optional{measurement.latency->p99_us} : std::nullopt;
}

nlohmann::json to_json(const Measurement& measurement) {
  nlohmann::json json{
      {"operations", measurement.operations},
      {"seconds", std::chrono::duration<double>(measurement.elapsed).count()},
  };
  if (measurement.cpu) {
    json["cpu_seconds"] = std::chrono::duration<double>(*measurement.cpu).count();
  }
  if (measurement.latency) {
    json["p50_us"] = measurement.latency->p50_us;
    json["p99_us"] = measurement.latency->p99_us;
  }
  return json;
}

}  // namespace

template <typename Value>
std::vector<double> Rounds::collect(const std::string& row, Value&& value) const {
  std::vector<double> samples;
  for (const Round& round : rounds_) {
    const auto found = round.find(row);
    if (found == round.end()) continue;
    if (const std::optional<double> sample = value(found->second)) samples.push_back(*sample);
  }
  return samples;
}

std::vector<double> Rounds::ratios(const Row& row) const {
  std::vector<double> samples;
  for (const Round& round : rounds_) {
    const auto one = round.find(row.name);
    const auto other = round.find(row.yardstick);
    if (one == round.end() || other == round.end()) continue;
    samples.push_back(times_better(one->second, other->second));
  }
  return samples;
}

std::optional<double> Rounds::last_operations_per_second(const std::string& row) const {
  const auto rates = collect(
      row, [](const Measurement& each) { return std::optional{each.operations_per_second()}; });
  return rates.empty() ? std::nullopt : std::optional{rates.back()};
}

std::optional<double> Rounds::cpu_ns_per_operation(const std::string& row) const {
  return median_of(
      collect(row, [](const Measurement& each) { return each.cpu_ns_per_operation(); }));
}

void Rounds::print_table() const {
  fmt::print("{:<{}} {:>9} {:>6} {:>13} {:>9} {:>8} {:>8}  ratio to\n", "", kNameWidth, "op/s",
             "ratio", "least-most", "CPU ns/op", "p50 us", "p99 us");
  for (const Row& row : rows_) print_row(row);
  fmt::print(
      "\nMedians of {} rounds. ratio: of op/s, or where there are latencies of the p50s, such "
      "that\n"
      "more is better; taken within each round. CPU: of this process with all its threads, user\n"
      "and system, commands made and replies checked included; servers and redis-benchmark are\n"
      "other processes.\n\n",
      rounds_.size());
  for (const Row& row : rows_) fmt::print("{:<{}} {}\n", row.name, kNameWidth, row.about);
}

void Rounds::print_row(const Row& row) const {
  const auto rate = median_of(collect(row.name, [](const Measurement& each) {
    return std::optional{each.operations_per_second()};
  }));
  const std::vector<double> samples = ratios(row);
  std::string range = "-";
  if (!samples.empty()) {
    const auto [least, most] = std::ranges::minmax(samples);
    range = fmt::format("{:.2f}-{:.2f}", least, most);
  }
  fmt::print(
      "{:<{}} {:>9} {:>6} {:>13} {:>9} {:>8} {:>8}  {}\n", row.name, kNameWidth, number(rate, 0),
      number(median_of(samples), 2), range, number(cpu_ns_per_operation(row.name), 0),
      number(median_of(collect(row.name, p50_us)), 1),
      number(median_of(collect(row.name, p99_us)), 1), row.yardstick.empty() ? "" : row.yardstick);
}

void Rounds::print_figures() const {
  for (const Row& row : rows_) {
    if (!row.figure.empty()) print_figure(row.figure, median_of(ratios(row)));
  }
}

nlohmann::json Rounds::to_json() const {
  auto json = nlohmann::json::array();
  for (const Round& round : rounds_) {
    auto& object = json.emplace_back(nlohmann::json::object());
    for (const auto& [name, measurement] : round) object[name] = bench::to_json(measurement);
  }
  return json;
}

}  // namespace tiercel::bench
