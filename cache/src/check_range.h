#pragma once

// Options within their ranges, or an error that names the field and the range.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel {

inline Result<void> check_range(std::string_view field, std::chrono::milliseconds given,
                                std::chrono::milliseconds low, std::chrono::milliseconds high) {
  if (given >= low && given <= high) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(given.count()) +
                          " ms; it must be " + std::to_string(low.count()) + " to " +
                          std::to_string(high.count()) + " ms");
}

inline Result<void> check_range(std::string_view field, std::uint64_t given, std::uint64_t low,
                                std::uint64_t high) {
  if (given >= low && given <= high) return {};
  return invalid_argument(std::string{field} + " is " + std::to_string(given) + "; it must be " +
                          std::to_string(low) + " to " + std::to_string(high));
}

}  // namespace tiercel
