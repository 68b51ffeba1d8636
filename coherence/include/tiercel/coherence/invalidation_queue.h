#pragma once

// InvalidationQueue: what must still be invalidated in Redis and everywhere, because it could not
// be sent when the database changed. It is replayed before the lease is taken again.
//
// An invalidation says no more than "not what it was before", so it may be said late, twice, and in
// any order: a key that waits is not queued again. One that is under way is: the database may have
// changed, and a load may have stored what it was, since that was sent.
//
// Bounded by number and by bytes, what is under way included. What does not fit turns all that
// waits into one clear, which is heavier and forgets nothing, but for one thing: a clear does not
// reach values of unknown version in Redis (scripts.h), so an invalidated value of a foreign
// writer's stays there until its ttl ends. add() says when that happens, and counters() how often.
//
// Any thread; it has a mutex of its own, calls nobody under it, and does no I/O. A batch is O(names
// log n), the rest O(log n), or O(n) for what turns all into a clear.
//
//   queue.add(InvalidationKind::kKey, "player:42");
//   while (auto batch = queue.take(kKeysPerMessageMax, kKeysBytesPerMessageMax)) send(*batch);
//   // acknowledged: queue.acknowledge(*batch); refused or unknown: queue.put_back(*batch);
//   (compiled in tests/coherence/invalidation_queue_test.cc)

#include <cstddef>
#include <cstdint>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"

namespace tiercel::coherence {

struct InvalidationQueueOptions {
  // Keys and tags. 1 to 16 M. Less means a clear earlier in a long outage; more, a longer replay.
  std::size_t entries_max = 100'000;
  // Memory, about: the names and kEntryOverheadBytes each. 1 KiB to 16 GiB.
  std::size_t bytes_max = std::size_t{16} << 20;
};

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const InvalidationQueueOptions& options);

enum class InvalidationKind : std::uint8_t { kKey, kTag, kClear };

class InvalidationQueue {
 public:
  static constexpr std::size_t kEntryOverheadBytes = 96;

  enum class Added : std::uint8_t {
    kQueued,
    kCoalesced,  // It waits already, or a clear does, which covers it.
    kCollapsed,  // It did not fit: all that waited is one clear now.
  };

  // What goes into one message, all of one kind. Empty for a clear.
  struct Batch {
    std::uint64_t id = 0;
    InvalidationKind kind = InvalidationKind::kClear;
    std::vector<std::string> names{};
  };

  struct Counters {
    std::uint64_t queued = 0;
    std::uint64_t coalesced = 0;
    std::uint64_t collapsed = 0;     // Times that all became one clear.
    std::uint64_t acknowledged = 0;  // Names, and clears.
    std::uint64_t put_back = 0;      // Names, and clears.
    std::size_t entries = 0;         // Waiting or under way, and their bytes.
    std::size_t bytes = 0;
  };

  explicit InvalidationQueue(InvalidationQueueOptions options);  // Validated ones.
  InvalidationQueue(const InvalidationQueue&) = delete;
  InvalidationQueue& operator=(const InvalidationQueue&) = delete;

  // `name` is a key or a tag; for kClear it has no meaning.
  Added add(InvalidationKind kind, std::string_view name = {});

  // The next to send: a clear first, then keys, then tags; at most `names_max` (at least 1) names
  // of `bytes_max` bytes together. A name longer than that collapses all into a clear. nullopt
  // where nothing waits. The batch is under way until it is acknowledged or put back.
  std::optional<Batch> take(std::size_t names_max, std::size_t bytes_max);

  // It has happened.
  void acknowledge(const Batch& batch);
  // It has not, or nobody knows: it waits again.
  void put_back(const Batch& batch);

  // Nothing waits and nothing is under way.
  [[nodiscard]] bool empty() const;
  [[nodiscard]] Counters counters() const;

 private:
  using Names = std::set<std::string, std::less<>>;

  static std::size_t charge(std::string_view name) { return name.size() + kEntryOverheadBytes; }

  Names& names_of(InvalidationKind kind) TIERCEL_REQUIRES(mutex_) {
    return kind == InvalidationKind::kKey ? keys_ : tags_;
  }
  Added insert(InvalidationKind kind, std::string_view name) TIERCEL_REQUIRES(mutex_);
  void collapse() TIERCEL_REQUIRES(mutex_);
  void forget(const Names& names) TIERCEL_REQUIRES(mutex_);
  bool end(const Batch& batch) TIERCEL_REQUIRES(mutex_);

  const InvalidationQueueOptions options_;

  mutable Mutex mutex_;
  Names keys_ TIERCEL_GUARDED_BY(mutex_);
  Names tags_ TIERCEL_GUARDED_BY(mutex_);
  bool clear_waits_ TIERCEL_GUARDED_BY(mutex_) = false;           // Then no key and no tag waits.
  std::set<std::uint64_t> under_way_ TIERCEL_GUARDED_BY(mutex_);  // Ids of batches.
  std::uint64_t last_id_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Counters counters_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::coherence
