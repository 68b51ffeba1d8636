#pragma once

// BloomGenerations: which Bloom filter answers, and which one is being made, so that no key which
// was added is ever refused. A state machine without I/O: whoever reads Redis or enumerates keys
// tells it what came, and gives it every key that any writer adds.
//
//   nothing answers ──► priming: header, chunks, in any order of chunks ──┐
//        ▲        └───► building: an enumerator's keys ──────────────────┴──► primed
//        │                                                                      │ ▲
//        └── lost() ◄───────────────────────────────────────────────────────────┘ └─ priming or
//                                                                       building the next one
//
// may_contain() says true until a filter is primed, and answers by the newest primed one from then
// on. While another is primed or built, the old one answers, and add() goes to both. A rebuild is
// how keys that were deleted leave the filter, and how an overfull one becomes larger.
//
// Three things are the caller's, and without them keys are refused that exist:
//   1. add() is called for each key of each writer of the fleet after the key is in the source that
//      an enumerator reads, and in the chunks that a priming reads, and before its write is
//      acknowledged. For a key that is added before that, a rebuild that begins in between may have
//      passed by.
//   2. If adds may have been missed (an epoch ended, messages were lost), lost() is called before
//      the lease is valid again.
//   3. A refusal counts only if the lease is still valid after may_contain() returned.
//
// Threads: add and may_contain from any thread; a mutex is held to copy two pointers or to keep one
// hash, never while a filter is probed or filled. The others by one thread at a time (which may
// differ).
//
// Memory: two filters at most, each within bytes_max; and until a priming has its header, the
// hashes of adds: 8 bytes each, adds_kept_max at most. If there are more, that priming fails.
//
// Example (compiled in tests/cache/bloom_generations_test.cc):
//
//   BloomGenerations guard{{}};
//   auto built = guard.begin_building({.keys_expected = 1'000'000, .generation = 1});
//   for (const std::string& key : all_keys) built->add(key);      // Any threads.
//   if (auto done = guard.finish(); !done) return done.error();
//   if (!guard.may_contain("user:8") && lease.is_valid()) return not_found();

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/bloom_filter.h"

namespace tiercel {

struct BloomGenerationsOptions {
  // Of each filter that a priming makes. 64 bytes to 256 GiB.
  std::size_t bytes_max = std::size_t{1} << 30;
  // See above. 0 to any number.
  std::size_t adds_kept_max = 1'000'000;
};

class BloomGenerations {
 public:
  // What is made beside the filter that answers, if any does.
  enum class Next : std::uint8_t { kNothing, kAwaitingHeader, kPriming, kBuilding };

  explicit BloomGenerations(const BloomGenerationsOptions& options) : options_(options) {}
  BloomGenerations(const BloomGenerations&) = delete;
  BloomGenerations& operator=(const BloomGenerations&) = delete;

  // ---- any thread

  void add(std::string_view key) { add(BloomFilter::hash_of(key)); }
  void add(KeyHash hash) TIERCEL_EXCLUDES(mutex_);
  // True while nothing is primed.
  [[nodiscard]] bool may_contain(std::string_view key) const {
    return may_contain(BloomFilter::hash_of(key));
  }
  [[nodiscard]] bool may_contain(KeyHash hash) const TIERCEL_EXCLUDES(mutex_);

  // The one that answers; null while none does. It stays valid, but adds may stop going to it.
  [[nodiscard]] std::shared_ptr<const BloomFilter> current() const TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Next next() const TIERCEL_EXCLUDES(mutex_);

  // ---- one thread at a time; each refuses with kConflict what is not its turn

  // From now on adds are kept for a filter that is to come. Then read the header, then the chunks.
  Result<void> begin_priming() TIERCEL_EXCLUDES(mutex_);
  // Errors also: as BloomFilter::create; kOverloaded if there were too many adds; kConflict if its
  // generation is below that of the filter that answers. The priming has failed then.
  Result<void> take_header(const BloomHeader& header) TIERCEL_EXCLUDES(mutex_);
  // Errors also: as BloomFilter::merge_chunk; the priming has failed then. A chunk that comes twice
  // is added twice.
  Result<void> take_chunk(std::size_t chunk, std::string_view bytes) TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::size_t chunks_missing() const TIERCEL_EXCLUDES(mutex_);

  // An empty filter that gets all adds from now on. Put into it what an enumerator finds that
  // begins after this call; other threads may, too. Errors also: as BloomFilter::create; kConflict
  // if its generation is not above that of the filter that answers.
  Result<std::shared_ptr<BloomFilter>> begin_building(const BloomOptions& options)
      TIERCEL_EXCLUDES(mutex_);

  // The priming that has all chunks, or the building whose enumerator is through: it answers from
  // now on. Errors also: kConflict (chunks are missing; go on); kCorrupt (all came, and have less
  // in them than the header announced: the priming has failed).
  Result<void> finish() TIERCEL_EXCLUDES(mutex_);

  // Ends a priming or a building without effect on what answers. Any time.
  void abandon() TIERCEL_EXCLUDES(mutex_);
  // Adds may have been missed: nothing answers any more, and what is being made is abandoned, as it
  // missed them, too. Any time.
  void lost() TIERCEL_EXCLUDES(mutex_);

 private:
  Result<void> expect(Next next) const TIERCEL_REQUIRES(mutex_);
  void drop_next() TIERCEL_REQUIRES(mutex_);
  Error fail(Error error) TIERCEL_EXCLUDES(mutex_);

  const BloomGenerationsOptions options_;

  mutable Mutex mutex_;  // A leaf.
  std::shared_ptr<BloomFilter> current_ TIERCEL_GUARDED_BY(mutex_);
  Next state_ TIERCEL_GUARDED_BY(mutex_) = Next::kNothing;
  std::shared_ptr<BloomFilter> next_ TIERCEL_GUARDED_BY(mutex_);  // kPriming and kBuilding.
  // kAwaitingHeader: what add() was given; too many: kept_all_ is false.
  std::vector<KeyHash> kept_ TIERCEL_GUARDED_BY(mutex_);
  bool kept_all_ TIERCEL_GUARDED_BY(mutex_) = true;
  // kPriming.
  std::uint64_t bits_announced_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<bool> has_chunk_ TIERCEL_GUARDED_BY(mutex_);
  std::size_t chunks_missing_ TIERCEL_GUARDED_BY(mutex_) = 0;
};

}  // namespace tiercel
