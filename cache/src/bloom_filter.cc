// Invariants:
//   - A bit, once set, stays set. So what a probe saw set is set, whatever happens meanwhile.
//   - The counters' sum is the number of bits set: whoever turns a bit from 0 to 1, which one
//     fetch_or alone sees, counts it afterwards.

#include "tiercel/cache/bloom_filter.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <new>
#include <string>

#include "bloom_pages.h"
#include "bloom_probe.h"
#include "bloom_sizing.h"
#include "tiercel/base/check.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel {
namespace {

using detail::kBloomWords;

static_assert(std::atomic_ref<std::uint64_t>::is_always_lock_free);
static_assert(BloomFilter::kChunkBytes % BloomFilter::kBlockBytes == 0);

// So many keys are under way at once: about as many as a core can wait for, and some for the way.
constexpr std::size_t kBatch = 32;

constexpr std::size_t kChunkWords = BloomFilter::kChunkBytes / sizeof(std::uint64_t);

// A word and its 8 bytes in a chunk, the lowest first. Both ways.
std::uint64_t in_chunk_order(std::uint64_t word) noexcept {
  if constexpr (std::endian::native == std::endian::little) return word;
  return __builtin_bswap64(word);
}

#if TIERCEL_BLOOM_AVX2
// A filter that is asked before this is initialised takes the other way, with the same answer.
const bool kHasAvx2 = detail::bloom_has_avx2();
#endif

bool probe(std::uint64_t* block, std::uint64_t mixed) noexcept {
#if TIERCEL_BLOOM_AVX2
  if (kHasAvx2) return detail::bloom_probe_avx2(block, mixed);
#endif
  return detail::bloom_probe_portable(block, mixed);
}

Result<std::unique_ptr<detail::BloomPages>> pages_for(std::uint64_t blocks, bool huge_pages) {
  const std::uint64_t bytes = blocks * BloomFilter::kBlockBytes;
  auto pages = detail::BloomPages::create(bytes, huge_pages);
  if (pages == nullptr) {
    return overloaded("the system refuses the " + std::to_string(bytes) +
                      " bytes of memory for a Bloom filter; expect fewer keys or more false "
                      "positives");
  }
  return pages;
}

}  // namespace

// ---------------------------------------------------------------- making one

Result<std::unique_ptr<BloomFilter>> BloomFilter::create(const BloomOptions& options) {
  const auto shape = detail::bloom_shape(options);
  if (!shape) return shape.error();
  return create(*shape, options.bytes_max, options.huge_pages);
}

Result<std::unique_ptr<BloomFilter>> BloomFilter::create(const BloomHeader& header,
                                                         std::size_t bytes_max, bool huge_pages) {
  // What decode_bloom_header gives out is valid; a header may be made by hand, too.
  if (auto valid = decode_bloom_header(encode_bloom_header(header)); !valid) {
    return invalid_argument(valid.error().message);
  }
  if (auto fits = detail::check_bloom_bytes(header.blocks, bytes_max); !fits) return fits.error();
  auto pages = pages_for(header.blocks, huge_pages);
  if (!pages) return pages.error();
  std::unique_ptr<BloomFilter> filter{new (std::nothrow) BloomFilter(header, *std::move(pages))};
  if (filter == nullptr) return overloaded("no memory for a Bloom filter");
  return filter;
}

BloomFilter::BloomFilter(const BloomHeader& shape,
                         std::unique_ptr<detail::BloomPages> pages) noexcept
    : blocks_(shape.blocks),
      keys_expected_(shape.keys_expected),
      generation_(shape.generation),
      overfull_bits_(detail::bloom_overfull_bits(shape)),
      pages_(std::move(pages)),
      words_(pages_->words()) {}

BloomFilter::~BloomFilter() = default;

// ---------------------------------------------------------------- keys

KeyHash BloomFilter::hash_of(std::string_view key) noexcept {
  return {XXH3_64bits_withSeed(key.data(), key.size(), kHashSeed)};
}

inline std::uint64_t* BloomFilter::block_of(KeyHash hash) const noexcept {
  __extension__ using Wide = unsigned __int128;
  return words_ + static_cast<std::uint64_t>((Wide{hash.bits} * blocks_) >> 64) * kBloomWords;
}

bool BloomFilter::add(KeyHash hash) noexcept {
  std::uint64_t* const block = block_of(hash);
  const std::uint64_t mixed = detail::bloom_mixed(hash);
  std::uint64_t newly_set = 0;
  for (std::size_t word = 0; word < kBloomWords; ++word) {
    const std::uint64_t mask = std::uint64_t{1} << detail::bloom_bit(mixed, word);
    // A look first: keys are added again and again, and a load leaves the line to other readers.
    if ((detail::bloom_load(block[word]) & mask) != 0) continue;
    const std::uint64_t before =
        std::atomic_ref{block[word]}.fetch_or(mask, std::memory_order_relaxed);
    if ((before & mask) == 0) ++newly_set;
  }
  if (newly_set == 0) return false;
  // Release: who reads the counters finds these bits set. See header().
  counters_[hash.bits % kCounters].bits_set.fetch_add(newly_set, std::memory_order_release);
  return true;
}

bool BloomFilter::may_contain(std::string_view key) const noexcept {
  return may_contain(hash_of(key));
}

bool BloomFilter::may_contain(KeyHash hash) const noexcept {
  return probe(block_of(hash), detail::bloom_mixed(hash));
}

void BloomFilter::prefetch(KeyHash hash) const noexcept { __builtin_prefetch(block_of(hash)); }

void BloomFilter::may_contain_many(std::span<const std::string_view> keys,
                                   std::span<bool> may) const noexcept {
  TIERCEL_CHECK(may.size() >= keys.size());
  std::array<KeyHash, kBatch> hashes;
  for (std::size_t done = 0; done < keys.size(); done += kBatch) {
    const std::size_t count = std::min(kBatch, keys.size() - done);
    for (std::size_t i = 0; i < count; ++i) prefetch(hashes[i] = hash_of(keys[done + i]));
    for (std::size_t i = 0; i < count; ++i) may[done + i] = may_contain(hashes[i]);
  }
}

void BloomFilter::add_many(std::span<const std::string_view> keys) noexcept {
  std::array<KeyHash, kBatch> hashes;
  for (std::size_t done = 0; done < keys.size(); done += kBatch) {
    const std::size_t count = std::min(kBatch, keys.size() - done);
    for (std::size_t i = 0; i < count; ++i) hashes[i] = hash_of(keys[done + i]);
    add_many(std::span<const KeyHash>{hashes.data(), count});
  }
}

void BloomFilter::add_many(std::span<const KeyHash> hashes) noexcept {
  for (std::size_t done = 0; done < hashes.size(); done += kBatch) {
    const auto batch = hashes.subspan(done, std::min(kBatch, hashes.size() - done));
    for (const KeyHash hash : batch) __builtin_prefetch(block_of(hash), 1);
    for (const KeyHash hash : batch) add(hash);
  }
}

// ---------------------------------------------------------------- stored and sent in pieces

BloomHeader BloomFilter::header() const noexcept {
  return {.blocks = blocks_,
          .keys_expected = keys_expected_,
          .generation = generation_,
          .bits_set = bits_set()};
}

std::size_t BloomFilter::chunks() const noexcept {
  return (bytes() + kChunkBytes - 1) / kChunkBytes;
}

std::size_t BloomFilter::chunk_bytes(std::size_t chunk) const noexcept {
  TIERCEL_CHECK(chunk < chunks());
  return std::min(kChunkBytes, bytes() - chunk * kChunkBytes);
}

std::string BloomFilter::copy_chunk(std::size_t chunk) const {
  std::string bytes(chunk_bytes(chunk), '\0');
  std::uint64_t* const words = words_ + chunk * kChunkWords;
  for (std::size_t i = 0; i < bytes.size() / sizeof(std::uint64_t); ++i) {
    const std::uint64_t word = in_chunk_order(detail::bloom_load(words[i]));
    std::memcpy(bytes.data() + i * sizeof word, &word, sizeof word);
  }
  return bytes;
}

namespace {

// Of one word; how many bits it added.
std::uint64_t merge_word(std::uint64_t& into, std::uint64_t word) noexcept {
  if ((word & ~detail::bloom_load(into)) == 0) return 0;
  const std::uint64_t before = std::atomic_ref{into}.fetch_or(word, std::memory_order_relaxed);
  return static_cast<std::uint64_t>(std::popcount(word & ~before));
}

}  // namespace

Result<void> BloomFilter::merge_chunk(std::size_t chunk, std::string_view bytes) {
  if (chunk >= chunks()) {
    return invalid_argument("chunk " + std::to_string(chunk) + " of a Bloom filter that has " +
                            std::to_string(chunks()));
  }
  if (bytes.size() != chunk_bytes(chunk)) {
    return corrupt("chunk " + std::to_string(chunk) + " of a Bloom filter has " +
                   std::to_string(bytes.size()) + " bytes instead of " +
                   std::to_string(chunk_bytes(chunk)));
  }
  std::uint64_t* const words = words_ + chunk * kChunkWords;
  std::uint64_t newly_set = 0;
  for (std::size_t i = 0; i < bytes.size() / sizeof(std::uint64_t); ++i) {
    std::uint64_t word = 0;
    std::memcpy(&word, bytes.data() + i * sizeof word, sizeof word);
    newly_set += merge_word(words[i], in_chunk_order(word));
  }
  counters_[chunk % kCounters].bits_set.fetch_add(newly_set, std::memory_order_release);
  return {};
}

Result<void> BloomFilter::merge(const BloomFilter& other) {
  if (other.blocks_ != blocks_) {
    return invalid_argument("a Bloom filter of " + std::to_string(other.blocks_) +
                            " blocks cannot be merged into one of " + std::to_string(blocks_));
  }
  std::uint64_t newly_set = 0;
  for (std::size_t i = 0; i < blocks_ * kBloomWords; ++i) {
    newly_set += merge_word(words_[i], detail::bloom_load(other.words_[i]));
  }
  counters_[0].bits_set.fetch_add(newly_set, std::memory_order_release);
  return {};
}

BloomPlacement BloomFilter::placement(KeyHash hash) const noexcept {
  const auto first = static_cast<std::size_t>(block_of(hash) - words_);
  const std::uint64_t mixed = detail::bloom_mixed(hash);
  BloomPlacement placement{.chunk = first / kChunkWords};
  for (std::size_t word = 0; word < kBloomWords; ++word) {
    const std::size_t bit = (first % kChunkWords + word) * 64 + detail::bloom_bit(mixed, word);
    // SETBIT counts the bits of a byte from the highest.
    placement.setbit_offsets[word] = static_cast<std::uint32_t>(bit ^ 7);
  }
  return placement;
}

std::array<std::uint16_t, BloomFilter::kProbes> BloomFilter::block_offsets(KeyHash hash) noexcept {
  const std::uint64_t mixed = detail::bloom_mixed(hash);
  std::array<std::uint16_t, kProbes> offsets{};
  for (std::size_t word = 0; word < kBloomWords; ++word) {
    offsets[word] = static_cast<std::uint16_t>((word * 64 + detail::bloom_bit(mixed, word)) ^ 7);
  }
  return offsets;
}

// ---------------------------------------------------------------- how full it is

std::uint64_t BloomFilter::bits_set() const noexcept {
  std::uint64_t sum = 0;
  for (const Counter& counter : counters_) {
    sum += counter.bits_set.load(std::memory_order_acquire);
  }
  return sum;
}

double BloomFilter::keys_estimated() const noexcept {
  return detail::bloom_load_of(bits_set(), blocks_) * static_cast<double>(blocks_);
}

double BloomFilter::false_positive_rate() const noexcept {
  return detail::bloom_false_positive_rate(detail::bloom_load_of(bits_set(), blocks_));
}

BloomSurvey BloomFilter::survey() const noexcept {
  BloomSurvey survey;
  for (std::uint64_t block = 0; block < blocks_; ++block) {
    double rate = 1;
    for (std::size_t word = 0; word < kBloomWords; ++word) {
      const int set = std::popcount(detail::bloom_load(words_[block * kBloomWords + word]));
      survey.bits_set += static_cast<std::uint64_t>(set);
      rate *= set / 64.0;
    }
    survey.false_positive_rate += rate;
  }
  survey.false_positive_rate /= static_cast<double>(blocks_);
  return survey;
}

}  // namespace tiercel
