#pragma once

// What a bench of several parts does with those that were asked for.

#include <fmt/core.h>

#include <algorithm>
#include <cstdio>
#include <initializer_list>

#include "tiercel/base/result.h"

namespace tiercel::bench {

template <typename Settings, typename Results>
struct Part {
  const char* name;
  Result<void> (*measure)(const Settings& settings, Results& results);
};

// Measures those that `settings.parts` names, in this order, until one fails; says why.
template <typename Settings, typename Results>
bool measure_parts(const Settings& settings, Results& results,
                   std::initializer_list<Part<Settings, Results>> parts) {
  for (const auto& part : parts) {
    if (std::ranges::find(settings.parts, part.name) == settings.parts.end()) continue;
    const Result<void> measured = part.measure(settings, results);
    std::fflush(stdout);
    if (measured) continue;
    fmt::print(stderr, "{}: {}\n", part.name, measured.error().to_string());
    return false;
  }
  return true;
}

}  // namespace tiercel::bench
