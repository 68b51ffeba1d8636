#pragma once

// The bits of a key in its block, and two ways to look at them that agree.
//
// Of the hash's upper half (by the multiplication) comes the block, so its upper bits say nothing
// more within a block; the hash is therefore mixed once more. Of the mixed word, the upper 6 bits
// are the bit in word 0, the next 6 that in word 1, and so on.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "tiercel/base/sanitizers.h"
#include "tiercel/cache/bloom_filter.h"

// AVX2 does in 4 ns what else takes 7. It is taken where the processor has it, and not under
// ThreadSanitizer, which would not see what its loads do.
#if defined(__x86_64__) && defined(__GNUC__) && !TIERCEL_TSAN
#define TIERCEL_BLOOM_AVX2 1
#include <immintrin.h>
#else
#define TIERCEL_BLOOM_AVX2 0
#endif

namespace tiercel::detail {

inline constexpr std::size_t kBloomWords = BloomFilter::kBlockBytes / sizeof(std::uint64_t);
static_assert(kBloomWords == BloomFilter::kProbes);

// 2^64 over the golden ratio (Knuth, TAOCP 3, 6.4).
inline constexpr std::uint64_t kBloomMix = 0x9E37'79B9'7F4A'7C15;

[[nodiscard]] inline std::uint64_t bloom_mixed(KeyHash hash) noexcept {
  return hash.bits * kBloomMix;
}

[[nodiscard]] inline unsigned bloom_bit(std::uint64_t mixed, std::size_t word) noexcept {
  return static_cast<unsigned>(mixed >> (58 - 6 * word)) & 63;
}

// Filters share their words between threads without locks, so every access is atomic.
[[nodiscard]] inline std::uint64_t bloom_load(std::uint64_t& word) noexcept {
  return std::atomic_ref{word}.load(std::memory_order_relaxed);
}

// No branch before the last: half of the bits are set, so none of them could be guessed.
[[nodiscard]] inline bool bloom_probe_portable(std::uint64_t* block, std::uint64_t mixed) noexcept {
  const auto shifted = [block, mixed](std::size_t word) {
    return bloom_load(block[word]) >> bloom_bit(mixed, word);
  };
  const std::uint64_t first = (shifted(0) & shifted(1)) & (shifted(2) & shifted(3));
  const std::uint64_t second = (shifted(4) & shifted(5)) & (shifted(6) & shifted(7));
  return (first & second & 1) != 0;
}

#if TIERCEL_BLOOM_AVX2

// C++ has no atomic load of 32 bytes, and an ordinary one would be a data race to the compiler. So
// the load is the assembler's. Were it torn, that would not matter: bits are set one by one and
// never unset, and no bit means anything for another.
[[gnu::target("avx2")]] inline __m256i bloom_load_half(const std::uint64_t* words) noexcept {
  const auto* from = reinterpret_cast<const __m256i*>(words);
  __m256i loaded;
  asm volatile("vmovdqa %1, %0" : "=x"(loaded) : "m"(*from));
  return loaded;
}

[[gnu::target("avx2")]] inline bool bloom_probe_avx2(const std::uint64_t* block,
                                                     std::uint64_t mixed) noexcept {
  const __m256i all = _mm256_set1_epi64x(static_cast<long long>(mixed));
  const __m256i low = _mm256_srlv_epi64(all, _mm256_setr_epi64x(58, 52, 46, 40));
  const __m256i high = _mm256_srlv_epi64(all, _mm256_setr_epi64x(34, 28, 22, 16));
  const __m256i six_bits = _mm256_set1_epi64x(63);
  const __m256i one = _mm256_set1_epi64x(1);
  const __m256i low_bits = _mm256_sllv_epi64(one, _mm256_and_si256(low, six_bits));
  const __m256i high_bits = _mm256_sllv_epi64(one, _mm256_and_si256(high, six_bits));
  return (_mm256_testc_si256(bloom_load_half(block), low_bits) &
          _mm256_testc_si256(bloom_load_half(block + 4), high_bits)) != 0;
}

[[nodiscard]] inline bool bloom_has_avx2() noexcept { return __builtin_cpu_supports("avx2") != 0; }

#endif

}  // namespace tiercel::detail
