#pragma once

// BloomFilter: a set of keys that can say "certainly not in it" in one look at one cache line, and
// never says so of a key that was added. It sometimes says "maybe" of a key that was not (a false
// positive), and it never forgets: there is no removal, and adding too many keys makes it useless,
// not wrong (is_overfull()). Guards against keys that cannot exist are built on it; by itself it
// knows nothing of Redis, leases or generations (bloom_generations.h does).
//
// The algorithm: blocked (Putze, Sanders, Singler, "Cache-, Hash- and Space-Efficient Bloom
// Filters", 2007): the key's hash chooses one block of 64 bytes. Within it, split (as in Impala
// and Parquet, there with words of 32 bits): one bit in each of its 8 words of 64 bits. So a probe
// is always 8 bits. Hash: XXH3, 64 bits, of a fixed seed, as all instances must agree. Block: the
// upper half of hash × blocks (Lemire, "Fast Random Integer Generation in an Interval", 2019).
// docs/design/bloom.md has the bits, what was measured, and what else was tried.
//
//   bits a key            6        8       10       12       16       24       32
//   false positives    9.3 %    2.9 %   1.05 %   0.42 %  0.091 %  9.1e-5   1.7e-5
//
// Threads: any thread may call anything at any time; nothing locks, waits, throws or, but for
// create and the strings that are returned, allocates. What a key's add() has set is seen by every
// may_contain() that happens after it: whoever learns of the key through a mutex, a queue or a
// socket will not be refused it. Without such an order a probe sees all, some or none of the bits.
// add() orders nothing but itself (its accesses are relaxed).
//
// Memory: 64 bytes a block, in one mapping, resident as it is filled; bytes_max is its bound. 100
// million keys at 10 bits: 125 MB.
//
// Hostile keys: the seed is public, so whoever chooses keys can choose some that get past the
// filter, or fill blocks with them if they are added. Then it protects less, and refuses nothing.
//
// Example (compiled in tests/cache/bloom_filter_test.cc):
//
//   auto filter = BloomFilter::create({.keys_expected = 1'000'000, .false_positive_rate = 0.01});
//   if (!filter) return filter.error();
//   (*filter)->add("user:7");
//   if (!(*filter)->may_contain("user:8")) return not_found();

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"

namespace tiercel {

namespace detail {
class BloomPages;
}

// A key as filters see it. What keeps or sends keys for a filter may keep or send these instead.
struct KeyHash {
  std::uint64_t bits = 0;

  friend bool operator==(KeyHash, KeyHash) = default;
};

struct BloomOptions {
  // How many different keys it is made for. 1 to 2^36. More cost memory, fewer false positives.
  std::uint64_t keys_expected = 0;

  // How large it is for them: by the share of absent keys that may pass once keys_expected keys are
  // in it, 0.000'001 to 0.25; or by the bits of memory a key, 4 to 64. At most one of them
  // is set; if none is, the rate is 0.01.
  std::optional<double> false_positive_rate = std::nullopt;
  std::optional<double> bits_per_key = std::nullopt;

  // What asks for more memory is refused. 64 bytes to 256 GiB.
  std::size_t bytes_max = std::size_t{1} << 30;

  // The caller's, stands in the header. A rebuilt filter has a higher one.
  std::uint64_t generation = 0;

  // Asks the kernel for 2 MiB pages, which a large filter needs to be fast.
  bool huge_pages = true;
};

// What describes a filter where its chunks are stored. The rest is fixed by the format's version.
struct BloomHeader {
  std::uint64_t blocks = 0;         // 1 to 2^32.
  std::uint64_t keys_expected = 0;  // 1 to 2^36.
  std::uint64_t generation = 0;
  // Of the filter when the header was made. The chunks that are copied after that have as many or
  // more; so who merges them into an empty filter and finds fewer has not got all of them.
  std::uint64_t bits_set = 0;

  friend bool operator==(const BloomHeader&, const BloomHeader&) = default;
};

// 72 bytes: docs/design/bloom.md shows them. `header` must be one of a filter.
[[nodiscard]] std::string encode_bloom_header(const BloomHeader& header);

// Errors: kCorrupt (not a header, or a damaged one); kProtocol (one of another format version, hash
// seed or number of probes: a newer Tiercel's). It allocates nothing for what the header announces.
Result<BloomHeader> decode_bloom_header(std::string_view bytes);

// Where a key's bits stand in the stored chunks, for scripts that set them there: chunk i is a
// string of which SETBIT numbers the bits.
struct BloomPlacement {
  std::size_t chunk = 0;
  std::array<std::uint32_t, 8> setbit_offsets{};
};

// What a look at every block tells. The difference between its rate and false_positive_rate() is
// how unevenly the blocks are filled.
struct BloomSurvey {
  std::uint64_t bits_set = 0;
  double false_positive_rate = 0;  // Of keys whose hashes are random.
};

class BloomFilter {
 public:
  static constexpr std::size_t kBlockBytes = 64;
  static constexpr std::size_t kProbes = 8;
  static constexpr std::size_t kChunkBytes = std::size_t{64} << 10;
  static constexpr std::uint64_t kHashSeed = 0x54696572'63656C01;  // "Tiercel", 1.

  // Empty. Errors: kInvalidArgument (a field out of range, by name); kOverloaded (more than
  // bytes_max, or no memory).
  static Result<std::unique_ptr<BloomFilter>> create(const BloomOptions& options);
  // Empty, of the header's shape and generation. Errors: the same.
  static Result<std::unique_ptr<BloomFilter>> create(const BloomHeader& header,
                                                     std::size_t bytes_max, bool huge_pages = true);
  ~BloomFilter();
  BloomFilter(const BloomFilter&) = delete;
  BloomFilter& operator=(const BloomFilter&) = delete;

  [[nodiscard]] static KeyHash hash_of(std::string_view key) noexcept;

  // Whether it changed anything: if not, the key was in it, or seemed to be.
  bool add(std::string_view key) noexcept { return add(hash_of(key)); }
  bool add(KeyHash hash) noexcept;
  // The same for many, with the waits for memory overlapped.
  void add_many(std::span<const std::string_view> keys) noexcept;
  void add_many(std::span<const KeyHash> hashes) noexcept;

  // False: the key was not added. True: it was, or it is a false positive.
  [[nodiscard]] bool may_contain(std::string_view key) const noexcept;
  [[nodiscard]] bool may_contain(KeyHash hash) const noexcept;
  // may[i] is the answer to keys[i]; waits for memory are overlapped. `may` is at least as long.
  void may_contain_many(std::span<const std::string_view> keys, std::span<bool> may) const noexcept;
  // Fetches the block of a key that is asked for soon.
  void prefetch(KeyHash hash) const noexcept;

  // ---- stored and sent in pieces

  // Take it before the chunks; see BloomHeader::bits_set.
  [[nodiscard]] BloomHeader header() const noexcept;

  // Chunks of kChunkBytes; the last may be shorter.
  [[nodiscard]] std::size_t chunks() const noexcept;
  [[nodiscard]] std::size_t chunk_bytes(std::size_t chunk) const noexcept;
  // A copy with at least what was added before. Bit b of the filter is bit b % 8 of byte b / 8,
  // counted from the lowest. chunk < chunks().
  [[nodiscard]] std::string copy_chunk(std::size_t chunk) const;
  // Adds what is in a chunk of a filter of the same shape. Errors: kInvalidArgument (no such
  // chunk); kCorrupt (not the chunk's length); nothing is changed then.
  Result<void> merge_chunk(std::size_t chunk, std::string_view bytes);
  // Adds what is in the other. Errors: kInvalidArgument (it has another number of blocks).
  Result<void> merge(const BloomFilter& other);

  [[nodiscard]] BloomPlacement placement(KeyHash hash) const noexcept;
  // The same bits as SETBIT would number them in the key's block alone, of whichever filter.
  [[nodiscard]] static std::array<std::uint16_t, kProbes> block_offsets(KeyHash hash) noexcept;

  // ---- how full it is

  [[nodiscard]] std::uint64_t blocks() const noexcept { return blocks_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return blocks_ * kBlockBytes; }
  [[nodiscard]] std::uint64_t keys_expected() const noexcept { return keys_expected_; }
  [[nodiscard]] std::uint64_t generation() const noexcept { return generation_; }

  // Exact while nothing is being added, and the same whatever the order of adds and merges was.
  [[nodiscard]] std::uint64_t bits_set() const noexcept;
  // How many different keys set so many bits: within 1 % for 10,000 keys and more, up to some eight
  // times keys_expected at 10 bits a key.
  [[nodiscard]] double keys_estimated() const noexcept;
  // The share of absent keys that pass, as is to be expected of so many keys.
  [[nodiscard]] double false_positive_rate() const noexcept;
  // Whether that is more than twice what it was made for: time for a larger generation.
  [[nodiscard]] bool is_overfull() const noexcept { return bits_set() > overfull_bits_; }
  // O(bytes()): 125 MB take some 50 ms.
  [[nodiscard]] BloomSurvey survey() const noexcept;

 private:
  struct alignas(64) Counter {
    std::atomic<std::uint64_t> bits_set{0};
  };
  // So many that threads which add at the same time seldom meet.
  static constexpr std::size_t kCounters = 16;

  BloomFilter(const BloomHeader& shape, std::unique_ptr<detail::BloomPages> pages) noexcept;

  [[nodiscard]] std::uint64_t* block_of(KeyHash hash) const noexcept;

  const std::uint64_t blocks_;
  const std::uint64_t keys_expected_;
  const std::uint64_t generation_;
  const std::uint64_t overfull_bits_;
  const std::unique_ptr<detail::BloomPages> pages_;
  std::uint64_t* const words_;  // Of pages_; 8 a block, touched by atomic accesses only.
  std::array<Counter, kCounters> counters_;
};

}  // namespace tiercel
