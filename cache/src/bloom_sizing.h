#pragma once

// What theory says of a BloomFilter: its false positives, and the size that they ask for.
//
// `load` is the average number of keys a block. The keys of one block are Poisson distributed; n of
// them leave a bit of a word unset with probability (63/64)^n, independently in the 8 words.

#include <cstdint>

#include "tiercel/base/result.h"
#include "tiercel/cache/bloom_filter.h"

namespace tiercel::detail {

inline constexpr std::uint64_t kBloomBlocksMax = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kBloomKeysMax = std::uint64_t{1} << 36;
inline constexpr std::uint64_t kBloomBlockBits = BloomFilter::kBlockBytes * 8;

// Rising in the load, from 0 to 1. Absolute error below 1e-12.
[[nodiscard]] double bloom_false_positive_rate(double load) noexcept;
// The inverse.
[[nodiscard]] double bloom_load_for(double false_positive_rate) noexcept;

// The load at which so many bits of all are set on average; for all of them, that of all but half a
// bit. And how many are set at a load.
[[nodiscard]] double bloom_load_of(std::uint64_t bits_set, std::uint64_t blocks) noexcept;
[[nodiscard]] std::uint64_t bloom_bits_set(double load, std::uint64_t blocks) noexcept;

// Beyond so many bits it has twice the false positives that it was made for.
[[nodiscard]] std::uint64_t bloom_overfull_bits(const BloomHeader& shape) noexcept;

// Errors: as BloomFilter::create says.
Result<BloomHeader> bloom_shape(const BloomOptions& options);
// Errors: kOverloaded.
Result<void> check_bloom_bytes(std::uint64_t blocks, std::size_t bytes_max);

}  // namespace tiercel::detail
