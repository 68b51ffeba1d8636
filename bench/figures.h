#pragma once

// What the benches say of their samples: medians, spreads, and the lines that others read.

#include <optional>
#include <string_view>
#include <vector>

namespace tiercel::bench {

// Of at least one sample.
[[nodiscard]] double median(std::vector<double> samples);

// From the least to the greatest sample, in percent of the median.
[[nodiscard]] double spread_percent(const std::vector<double>& samples);

// `one` over `other`, if there are both.
[[nodiscard]] std::optional<double> ratio(std::optional<double> one, std::optional<double> other);

// `figure NAME VALUE`, or nothing for what was not measured.
void print_figure(std::string_view name, std::optional<double> value);

}  // namespace tiercel::bench
