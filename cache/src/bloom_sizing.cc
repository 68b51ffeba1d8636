#include "bloom_sizing.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>
#include <string>
#include <string_view>

#include "check_range.h"

namespace tiercel::detail {
namespace {

constexpr double kRateMin = 0.000'001;
constexpr double kRateMax = 0.25;
constexpr double kRateDefault = 0.01;
constexpr double kBitsMin = 4;
constexpr double kBitsMax = 64;
constexpr double kWordBits = 64;

std::string as_text(double number) {
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%g", number);
  return text.data();
}

using tiercel::check_range;

Result<void> check_range(std::string_view field, double given, double low, double high) {
  if (given >= low && given <= high) return {};  // Not so for NaN.
  return invalid_argument(std::string{field} + " is " + as_text(given) + "; it must be " +
                          as_text(low) + " to " + as_text(high));
}

Result<double> bits_per_key(const BloomOptions& options) {
  if (options.bits_per_key && options.false_positive_rate) {
    return invalid_argument("bits_per_key and false_positive_rate are both set; set one");
  }
  if (options.bits_per_key) {
    const double bits = *options.bits_per_key;
    if (auto valid = check_range("bits_per_key", bits, kBitsMin, kBitsMax); !valid) {
      return valid.error();
    }
    return bits;
  }
  const double rate = options.false_positive_rate.value_or(kRateDefault);
  if (auto valid = check_range("false_positive_rate", rate, kRateMin, kRateMax); !valid) {
    return valid.error();
  }
  return static_cast<double>(kBloomBlockBits) / bloom_load_for(rate);
}

}  // namespace

double bloom_false_positive_rate(double load) noexcept {
  // (1 - (63/64)^n)^8 expanded, and for a Poisson n the mean of q^n is exp(-load * (1 - q)).
  constexpr std::array<double, 9> kBinomials{1, -8, 28, -56, 70, -56, 28, -8, 1};
  double sum = 0;
  double q = 1;
  for (const double binomial : kBinomials) {
    sum += binomial * std::exp(-load * (1 - q));
    q *= 1 - 1 / kWordBits;
  }
  return std::clamp(sum, 0.0, 1.0);
}

double bloom_load_for(double false_positive_rate) noexcept {
  double low = 0;
  double high = 4096;  // All words full, as good as.
  for (int i = 0; i < 100; ++i) {
    const double middle = (low + high) / 2;
    (bloom_false_positive_rate(middle) < false_positive_rate ? low : high) = middle;
  }
  return low;
}

double bloom_load_of(std::uint64_t bits_set, std::uint64_t blocks) noexcept {
  const double bits = static_cast<double>(blocks) * static_cast<double>(kBloomBlockBits);
  const double unset = std::max(bits - static_cast<double>(bits_set), 0.5);
  return -kWordBits * std::log(unset / bits);
}

std::uint64_t bloom_bits_set(double load, std::uint64_t blocks) noexcept {
  const double bits = static_cast<double>(blocks) * static_cast<double>(kBloomBlockBits);
  return static_cast<std::uint64_t>(bits * -std::expm1(-load / kWordBits));
}

std::uint64_t bloom_overfull_bits(const BloomHeader& shape) noexcept {
  const double load = static_cast<double>(shape.keys_expected) / static_cast<double>(shape.blocks);
  const double rate = std::clamp(2 * bloom_false_positive_rate(load), kRateMin, 0.99);
  return bloom_bits_set(bloom_load_for(rate), shape.blocks);
}

Result<void> check_bloom_bytes(std::uint64_t blocks, std::size_t bytes_max) {
  const std::uint64_t bytes = blocks * BloomFilter::kBlockBytes;
  if (bytes <= bytes_max) return {};
  return overloaded("a filter of " + std::to_string(bytes) + " bytes is more than bytes_max, " +
                    std::to_string(bytes_max) +
                    "; raise it, or expect fewer keys or more false positives");
}

Result<BloomHeader> bloom_shape(const BloomOptions& options) {
  if (auto valid = check_range("keys_expected", options.keys_expected, 1, kBloomKeysMax); !valid) {
    return valid.error();
  }
  constexpr std::uint64_t kBytesMax = kBloomBlocksMax * BloomFilter::kBlockBytes;
  if (auto valid = check_range("bytes_max", options.bytes_max, BloomFilter::kBlockBytes, kBytesMax);
      !valid) {
    return valid.error();
  }
  const auto bits = bits_per_key(options);
  if (!bits) return bits.error();
  const double blocks = std::ceil(static_cast<double>(options.keys_expected) * *bits /
                                  static_cast<double>(kBloomBlockBits));
  const BloomHeader shape{.blocks = std::max(static_cast<std::uint64_t>(blocks), std::uint64_t{1}),
                          .keys_expected = options.keys_expected,
                          .generation = options.generation};
  if (auto fits = check_bloom_bytes(shape.blocks, options.bytes_max); !fits) return fits.error();
  return shape;
}

}  // namespace tiercel::detail
