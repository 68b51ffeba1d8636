#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "entry.h"
#include "tiercel/base/check.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/sanitizers.h"
#include "tiercel/l1/lru_cache.h"

namespace tiercel::l1 {

// Under a sanitizer the process's memory is not the cache's alone, and runs are shorter.
inline constexpr bool kSanitized = TIERCEL_ASAN || TIERCEL_TSAN;

// Aborts on bad options, which are a bug of the test.
inline std::unique_ptr<LruCache> make_cache(const Options& options) {
  auto cache = LruCache::create(options);
  TIERCEL_CHECK(cache);
  return *std::move(cache);
}

// Each entry that went in is there or left for one counted cause.
inline bool counters_balance(const Stats& stats) {
  return stats.inserts == stats.entries + stats.replaced + stats.evicted_capacity +
                              stats.evicted_expired + stats.evicted_erased + stats.evicted_cleared;
}

// The value, copied; nullopt for a miss.
inline std::optional<std::string> read(LruCache& cache, std::string_view key) {
  std::optional<std::string> value;
  cache.visit(key, [&](const EntryView& hit) { value = std::string{hit.value()}; });
  return value;
}

// Whether the key is a hit, by a read without a copy; counts as a use.
inline bool has(LruCache& cache, std::string_view key) {
  return cache.try_get(key, {}).has_value();
}

// ---------------------------------------------------------------- of the engine's inside

// Zeroed memory for blocks, from unit 0 on; the arena's mark at `units` included.
class BlockMemory {
 public:
  explicit BlockMemory(std::size_t units) : words_(units + 4) {}
  [[nodiscard]] Blocks blocks() { return Blocks{reinterpret_cast<std::byte*>(words_.data())}; }

 private:
  std::vector<std::uint64_t> words_;
};

// Makes the block an Entry of `units` and `slack` more, with an empty key. A timed one is never on
// the wheel yet. The bits that are the arena's stay.
inline Entry& make_entry(Blocks blocks, Ref ref, std::uint32_t units, std::uint32_t slack = 0,
                         std::optional<TimePoint> expires_at = std::nullopt) {
  const std::uint32_t fixed = Entry::kHeaderBytes + (expires_at ? sizeof(Timed) : 0);
  TIERCEL_CHECK(units * kUnitBytes >= fixed);
  const std::uint8_t block = blocks[ref].block;
  Entry& made = *::new (&blocks[ref]) Entry{
      .value_bytes = static_cast<std::uint32_t>(units * kUnitBytes - fixed),
      .key_bytes = 0,
      .shape =
          static_cast<std::uint8_t>((expires_at ? Entry::kTimed : 0) | slack << Entry::kSlackShift),
      .block = static_cast<std::uint8_t>(block & (Entry::kInUse | Entry::kPreviousFree)),
      .hint = 0,
      .pins = 0,
      .newer = kNoRef,
      .older = kNoRef,
      .generation = 1};
  made.set_state(Entry::State::kListed);
  if (expires_at) {
    made.timed() = {.expires_at_ns = expires_at->time_since_epoch().count(),
                    .earlier = kNoRef,
                    .later = kNoRef};
  }
  TIERCEL_CHECK(made.units() == units + slack);
  return made;
}

}  // namespace tiercel::l1
