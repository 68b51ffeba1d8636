// What is stored of a filter: its header and its chunks. The golden file pins their bytes, and with
// them the hash and the places of a key's bits: if that test fails, filters in Redis and deployed
// instances speak another format than this build, and keys that exist would be refused. Raise the
// format version instead of changing the file. TIERCEL_UPDATE_GOLDEN=1 rewrites it.

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <iterator>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bloom_test_support.h"
#include "tiercel/base/bytes.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace tiercel::testing {
namespace {

constexpr BloomHeader kHeader{
    .blocks = 12'345, .keys_expected = 500'000, .generation = 7, .bits_set = 1'000'000};
constexpr std::size_t kHeaderBytes = 72;

// As if it had been written so: the checksum is right.
std::string with_word(std::string header, std::size_t index, std::uint64_t word) {
  std::string bytes;
  append_u64_be(bytes, word);
  header.replace(8 * index, 8, bytes);
  header.resize(kHeaderBytes - 8);
  append_u64_be(header, XXH3_64bits(header.data(), header.size()));
  return header;
}

ErrorCode code_of(std::string_view header) {
  const auto decoded = decode_bloom_header(header);
  return decoded ? ErrorCode::kInternal : decoded.error().code;
}

TEST(BloomHeader, ComesBackAsItWas) {
  const std::string bytes = encode_bloom_header(kHeader);
  EXPECT_EQ(bytes.size(), kHeaderBytes);
  const auto decoded = decode_bloom_header(bytes);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_EQ(*decoded, kHeader);
  EXPECT_EQ(with_word(bytes, 5, kHeader.keys_expected), bytes) << "or the tests below show nothing";
}

TEST(BloomHeader, WithAnyByteChangedItIsRefused) {
  const std::string header = encode_bloom_header(kHeader);
  for (std::size_t i = 0; i < header.size(); ++i) {
    for (const int change : {1, 0x80, 0xFF}) {
      std::string changed = header;
      changed[i] = static_cast<char>(changed[i] ^ change);
      EXPECT_FALSE(decode_bloom_header(changed)) << "byte " << i;
    }
  }
}

TEST(BloomHeader, OfAnotherLengthItIsRefused) {
  const std::string header = encode_bloom_header(kHeader);
  for (std::size_t length = 0; length < header.size(); ++length) {
    EXPECT_EQ(code_of(header.substr(0, length)), ErrorCode::kCorrupt) << length;
  }
  EXPECT_EQ(code_of(header + '\0'), ErrorCode::kCorrupt);
  EXPECT_EQ(code_of(header + header), ErrorCode::kCorrupt);
  EXPECT_EQ(code_of("WRONGTYPE"), ErrorCode::kCorrupt);
}

TEST(BloomHeader, OfAnotherFormatItSaysSo) {
  const std::string header = encode_bloom_header(kHeader);
  for (const std::size_t index : {1U, 2U, 3U}) {  // Version, seed, probes.
    EXPECT_EQ(code_of(with_word(header, index, 9)), ErrorCode::kProtocol) << index;
  }
  // Another version may be of another length, and is still told from a damaged one.
  EXPECT_EQ(code_of(with_word(header, 1, 2).substr(0, 40)), ErrorCode::kProtocol);
}

TEST(BloomHeader, WhatNoFilterHasIsRefused) {
  const std::string header = encode_bloom_header(kHeader);
  const std::vector<std::pair<std::size_t, std::uint64_t>> hostile{
      {4, 0},
      {4, (std::uint64_t{1} << 32) + 1},
      {4, ~std::uint64_t{0}},
      {5, 0},
      {5, (std::uint64_t{1} << 36) + 1},
      {7, 12'345 * 512 + 1},
      {7, ~std::uint64_t{0}}};
  for (const auto& [index, word] : hostile) {
    EXPECT_EQ(code_of(with_word(header, index, word)), ErrorCode::kCorrupt) << index << ' ' << word;
  }
  EXPECT_TRUE(decode_bloom_header(with_word(header, 7, 12'345 * 512)));
  EXPECT_TRUE(decode_bloom_header(with_word(header, 6, ~std::uint64_t{0})));
}

TEST(BloomHeader, AHugeFilterIsAnnouncedInVain) {
  const auto header =
      decode_bloom_header(with_word(encode_bloom_header(kHeader), 4, std::uint64_t{1} << 32));
  ASSERT_TRUE(header);
  const auto filter = BloomFilter::create(*header, std::size_t{1} << 30);
  ASSERT_FALSE(filter);
  EXPECT_EQ(filter.error().code, ErrorCode::kOverloaded);
  EXPECT_NE(filter.error().message.find("bytes_max"), std::string::npos);

  const auto by_hand = BloomFilter::create(BloomHeader{.blocks = 0, .keys_expected = 1}, 1 << 20);
  ASSERT_FALSE(by_hand);
  EXPECT_EQ(by_hand.error().code, ErrorCode::kInvalidArgument);
}

TEST(BloomChunks, BringAFilterToAnotherInstance) {
  constexpr std::uint64_t kKeys = 130'000;  // Three chunks, the last of them shorter.
  const auto filter = make_filter({.keys_expected = kKeys, .bits_per_key = 10, .generation = 3});
  add_keys(*filter, 0, kKeys);
  ASSERT_EQ(filter->chunks(), 3U);
  EXPECT_EQ(filter->chunk_bytes(0), BloomFilter::kChunkBytes);
  EXPECT_EQ(filter->chunk_bytes(2), filter->bytes() - 2 * BloomFilter::kChunkBytes);

  const auto header = decode_bloom_header(encode_bloom_header(filter->header()));
  ASSERT_TRUE(header);
  auto copy = BloomFilter::create(*header, 1 << 20);
  ASSERT_TRUE(copy);
  EXPECT_EQ((*copy)->generation(), 3U);
  EXPECT_EQ((*copy)->bits_set(), 0U);
  for (const std::size_t chunk : {2U, 0U, 1U}) {
    EXPECT_LT((*copy)->bits_set(), header->bits_set) << "what tells that a chunk is missing";
    ASSERT_TRUE((*copy)->merge_chunk(chunk, filter->copy_chunk(chunk)));
  }
  EXPECT_EQ((*copy)->header(), *header);
  EXPECT_TRUE(all_bytes(**copy) == all_bytes(*filter));
  EXPECT_EQ(refused(**copy, 0, kKeys), 0U);
  EXPECT_EQ((*copy)->is_overfull(), filter->is_overfull());
}

TEST(BloomChunks, AddToWhatIsThere) {
  const auto mine = make_filter({.keys_expected = 60'000});
  const auto stored = make_filter({.keys_expected = 60'000});
  add_keys(*mine, 0, 30'000);
  add_keys(*stored, 30'000, 60'000);
  for (int twice = 0; twice < 2; ++twice) {
    for (std::size_t chunk = 0; chunk < stored->chunks(); ++chunk) {
      ASSERT_TRUE(mine->merge_chunk(chunk, stored->copy_chunk(chunk)));
    }
  }
  EXPECT_EQ(refused(*mine, 0, 60'000), 0U);
  EXPECT_EQ(mine->bits_set(), mine->survey().bits_set);
}

TEST(BloomChunks, OfAnotherLengthOrPlaceAreRefused) {
  const auto filter = make_filter({.keys_expected = 60'000, .bits_per_key = 10});
  ASSERT_EQ(filter->chunks(), 2U);
  const std::string full(BloomFilter::kChunkBytes, '\xFF');
  struct Case {
    std::size_t chunk;
    std::string bytes;
    ErrorCode code;
  };
  const std::vector<Case> cases{
      {0, "", ErrorCode::kCorrupt},           {0, full.substr(1), ErrorCode::kCorrupt},
      {0, full + 'x', ErrorCode::kCorrupt},   {1, full, ErrorCode::kCorrupt},
      {2, full, ErrorCode::kInvalidArgument}, {~std::size_t{0}, full, ErrorCode::kInvalidArgument},
  };
  for (const auto& [chunk, bytes, code] : cases) {
    const auto merged = filter->merge_chunk(chunk, bytes);
    ASSERT_FALSE(merged) << chunk;
    EXPECT_EQ(merged.error().code, code) << chunk;
  }
  EXPECT_EQ(filter->bits_set(), 0U);
}

// What a script that sets these bits in Redis makes of an empty chunk.
TEST(BloomChunks, SetbitPutsAKeyWhereAddDoes) {
  const auto filter = make_filter({.keys_expected = 130'000, .bits_per_key = 10});
  std::set<std::size_t> chunks;
  for (std::uint64_t number = 0; number < 200; ++number) {
    const auto alone = make_filter({.keys_expected = 130'000, .bits_per_key = 10});
    alone->add(key_of(number));
    const BloomPlacement placement = alone->placement(BloomFilter::hash_of(key_of(number)));
    ASSERT_LT(placement.chunk, alone->chunks());
    chunks.insert(placement.chunk);
    std::string bytes(alone->chunk_bytes(placement.chunk), '\0');
    for (const std::uint32_t offset : placement.setbit_offsets) {
      ASSERT_LT(offset / 8, bytes.size());
      bytes[offset / 8] = static_cast<char>(bytes[offset / 8] | 0x80 >> offset % 8);
    }
    ASSERT_TRUE(bytes == alone->copy_chunk(placement.chunk)) << number;
  }
  EXPECT_EQ(chunks.size(), 3U);
}

std::string golden(const std::string& encoded) {
  const std::string path = TIERCEL_GOLDEN_DIR "/bloom_v1.bin";
  const char* update = std::getenv("TIERCEL_UPDATE_GOLDEN");
  if (update != nullptr && std::string_view{update} == "1") {
    std::ofstream{path, std::ios::binary | std::ios::trunc} << encoded;
  }
  std::ifstream file{path, std::ios::binary};
  EXPECT_TRUE(file) << "cannot read " << path;
  return {std::istreambuf_iterator<char>{file}, {}};
}

TEST(BloomGolden, Version1) {
  const auto filter = make_filter({.keys_expected = 20, .bits_per_key = 64, .generation = 7});
  for (const std::string_view key :
       {"", "user:7", "user:1234", "a key of more than sixteen bytes"}) {
    filter->add(key);
  }
  const std::string bytes = golden(encode_bloom_header(filter->header()) + filter->copy_chunk(0));
  EXPECT_EQ(escape_bytes(bytes),
            escape_bytes(encode_bloom_header(filter->header()) + filter->copy_chunk(0)));

  const auto header = decode_bloom_header(std::string_view{bytes}.substr(0, kHeaderBytes));
  ASSERT_TRUE(header) << header.error().to_string();
  EXPECT_EQ(*header,
            (BloomHeader{.blocks = 3, .keys_expected = 20, .generation = 7, .bits_set = 30}));
  auto copy = BloomFilter::create(*header, 1 << 20);
  ASSERT_TRUE(copy);
  ASSERT_TRUE((*copy)->merge_chunk(0, std::string_view{bytes}.substr(kHeaderBytes)));
  EXPECT_TRUE((*copy)->may_contain("user:1234"));
  EXPECT_FALSE((*copy)->may_contain("user:1235"));
}

}  // namespace
}  // namespace tiercel::testing
