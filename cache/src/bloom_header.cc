// The header's 72 bytes: nine words, big-endian as all of ours in Redis, the last of them the XXH3
// hash of what is before it, so that a damaged header is not taken for a smaller filter.

#include <string>

#include "bloom_sizing.h"
#include "tiercel/base/bytes.h"
#include "tiercel/cache/bloom_filter.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel {
namespace {

constexpr std::uint64_t kMagic = 0xF154'434C'424C'4F4D;  // F1 "TCLBLOM".
constexpr std::uint64_t kFormatVersion = 1;
constexpr std::size_t kHeaderBytes = 72;
constexpr std::size_t kChecked = kHeaderBytes - sizeof(std::uint64_t);

std::uint64_t checksum(std::string_view header) noexcept {
  return XXH3_64bits(header.data(), kChecked);
}

Error damaged(std::string_view what) {
  return corrupt("the header of a Bloom filter is damaged: " + std::string{what});
}

Error foreign(std::string_view field, std::uint64_t given, std::uint64_t known) {
  return protocol_error("a Bloom filter of " + std::string{field} + " " + std::to_string(given) +
                        "; this release knows " + std::to_string(known));
}

Result<void> check(const BloomHeader& header) {
  if (header.blocks == 0 || header.blocks > detail::kBloomBlocksMax) {
    return damaged("its number of blocks is out of range");
  }
  if (header.keys_expected == 0 || header.keys_expected > detail::kBloomKeysMax) {
    return damaged("its keys_expected is out of range");
  }
  if (header.bits_set > header.blocks * detail::kBloomBlockBits) {
    return damaged("more bits are set than there are");
  }
  return {};
}

}  // namespace

std::string encode_bloom_header(const BloomHeader& header) {
  std::string bytes;
  bytes.reserve(kHeaderBytes);
  for (const std::uint64_t word :
       {kMagic, kFormatVersion, BloomFilter::kHashSeed, std::uint64_t{BloomFilter::kProbes},
        header.blocks, header.keys_expected, header.generation, header.bits_set}) {
    append_u64_be(bytes, word);
  }
  append_u64_be(bytes, checksum(bytes));
  return bytes;
}

Result<BloomHeader> decode_bloom_header(std::string_view bytes) {
  const auto word = [bytes](std::size_t index) { return read_u64_be(bytes.data() + 8 * index); };
  if (bytes.size() < 16 || word(0) != kMagic) {
    return corrupt("not the header of a Bloom filter: " + bytes_for_message(bytes));
  }
  // Before anything else, which another version may have elsewhere.
  if (word(1) != kFormatVersion) return foreign("format version", word(1), kFormatVersion);
  if (bytes.size() != kHeaderBytes) {
    return damaged(std::to_string(bytes.size()) + " bytes instead of " +
                   std::to_string(kHeaderBytes));
  }
  if (word(8) != checksum(bytes)) return damaged("its checksum is wrong");
  if (word(2) != BloomFilter::kHashSeed) {
    return foreign("hash seed", word(2), BloomFilter::kHashSeed);
  }
  if (word(3) != BloomFilter::kProbes) return foreign("probes", word(3), BloomFilter::kProbes);
  const BloomHeader header{
      .blocks = word(4), .keys_expected = word(5), .generation = word(6), .bits_set = word(7)};
  if (auto valid = check(header); !valid) return valid.error();
  return header;
}

}  // namespace tiercel
