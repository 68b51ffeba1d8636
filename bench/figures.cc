#include "figures.h"

#include <algorithm>
#include <cstddef>
#include <cstdio>

namespace tiercel::bench {

double median(std::vector<double> samples) {
  const auto middle = samples.begin() + static_cast<std::ptrdiff_t>(samples.size() / 2);
  std::ranges::nth_element(samples, middle);
  if (samples.size() % 2 == 1) return *middle;
  return (*middle + *std::ranges::max_element(samples.begin(), middle)) / 2;
}

double spread_percent(const std::vector<double>& samples) {
  const auto [least, most] = std::ranges::minmax(samples);
  return 100 * (most - least) / median(samples);
}

std::optional<double> ratio(std::optional<double> one, std::optional<double> other) {
  if (!one || !other) return std::nullopt;
  return *one / *other;
}

void print_figure(std::string_view name, std::optional<double> value) {
  if (!value) return;
  std::printf("figure %.*s %.3f\n", static_cast<int>(name.size()), name.data(), *value);
}

}  // namespace tiercel::bench
