#include "guard_state.h"

#include <algorithm>

#include "tiercel/base/bytes.h"
#include "tiercel/base/random.h"

namespace tiercel {
namespace {

constexpr std::string_view kMark{
    "\xF1"
    "TCLBGS\x01",
    8};
constexpr std::size_t kHeaderBytes = 72;
constexpr std::size_t kFixedBytes = kMark.size() + StoredGuard::kIdBytes + 4;
constexpr std::uint64_t kChunkBlocks = BloomFilter::kChunkBytes / BloomFilter::kBlockBytes;

void append_u16_be(std::string& out, std::uint16_t word) {
  out += static_cast<char>(word >> 8);
  out += static_cast<char>(word & 0xFF);
}

}  // namespace

std::uint64_t StoredGuard::newest_generation() const noexcept {
  std::uint64_t newest = 0;
  if (current) newest = std::max(newest, current->generation);
  if (next) newest = std::max(newest, next->generation);
  for (const BloomHeader& header : garbage) newest = std::max(newest, header.generation);
  return newest;
}

std::string new_guard_id() {
  std::string id;
  append_u64_be(id, entropy_u64());
  append_u64_be(id, entropy_u64());
  return id;
}

std::string encode_guard(const StoredGuard& guard) {
  std::string bytes{kMark};
  bytes += guard.id;
  bytes += static_cast<char>(guard.current.has_value());
  bytes += static_cast<char>(guard.next.has_value());
  bytes += static_cast<char>(guard.garbage.size());
  bytes += static_cast<char>(guard.branch.size());
  if (guard.current) bytes += encode_bloom_header(*guard.current);
  if (guard.next) bytes += encode_bloom_header(*guard.next);
  for (const BloomHeader& header : guard.garbage) bytes += encode_bloom_header(header);
  return bytes + guard.branch;
}

Result<StoredGuard> decode_guard(std::string_view bytes) {
  if (bytes.size() < kFixedBytes || !bytes.starts_with(kMark.substr(0, kMark.size() - 1))) {
    return corrupt("what Redis holds of the guard is not a guard's");
  }
  if (!bytes.starts_with(kMark)) return protocol_error("the guard in Redis is of another format");
  StoredGuard guard{.id = guard_id_of(bytes)};
  const auto number_at = [&bytes](std::size_t at) -> std::size_t {
    return static_cast<unsigned char>(bytes[at]);
  };
  const std::size_t counts = kMark.size() + StoredGuard::kIdBytes;
  const std::size_t currents = number_at(counts);
  const std::size_t nexts = number_at(counts + 1);
  const std::size_t garbage = number_at(counts + 2);
  const std::size_t branch_bytes = number_at(counts + 3);
  if (currents > 1 || nexts > 1 || garbage > StoredGuard::kGarbageMax + 3 ||
      bytes.size() != kFixedBytes + kHeaderBytes * (currents + nexts + garbage) + branch_bytes) {
    return corrupt("the guard in Redis has the wrong length");
  }
  std::size_t at = kFixedBytes;
  for (std::size_t i = 0; i < currents + nexts + garbage; ++i, at += kHeaderBytes) {
    auto header = decode_bloom_header(bytes.substr(at, kHeaderBytes));
    if (!header) return std::move(header).error();
    if (header->generation > StoredGuard::kGenerationMax) {
      return corrupt("the guard in Redis has an impossible generation");
    }
    if (i < currents) {
      guard.current = *header;
    } else if (i < currents + nexts) {
      guard.next = *header;
    } else {
      guard.garbage.push_back(*header);
    }
  }
  guard.branch = bytes.substr(at);
  return guard;
}

std::string guard_id_of(std::string_view bytes) {
  return std::string{
      bytes.substr(std::min(bytes.size(), kMark.size())).substr(0, StoredGuard::kIdBytes)};
}

std::size_t chunks_of(const BloomHeader& header) noexcept {
  return static_cast<std::size_t>((header.blocks + kChunkBlocks - 1) / kChunkBlocks);
}

std::size_t chunk_bytes_of(const BloomHeader& header, std::size_t chunk) noexcept {
  const std::uint64_t blocks = std::min(kChunkBlocks, header.blocks - chunk * kChunkBlocks);
  return static_cast<std::size_t>(blocks) * BloomFilter::kBlockBytes;
}

std::string chunk_key(std::string_view guard_key, std::uint64_t generation, std::size_t chunk) {
  std::string key{guard_key};
  return key + ':' + std::to_string(generation) + ':' + std::to_string(chunk);
}

std::string told_to_guard(const std::vector<KeyHash>& hashes) {
  std::string told;
  append_u16_be(told, static_cast<std::uint16_t>(hashes.size()));
  for (const KeyHash hash : hashes) {
    for (int shift = 0; shift < 64; shift += 8) {
      told += static_cast<char>((hash.bits >> shift) & 0xFF);
    }
    for (const std::uint16_t offset : BloomFilter::block_offsets(hash)) append_u16_be(told, offset);
  }
  return told;
}

}  // namespace tiercel
