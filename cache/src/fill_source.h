#pragma once

// FillSource: where the values of a keyspace come from: its loader, its policy, its breaker, its
// bulkhead, what was counted of them and who is told. Shared by the keyspace and by the flights
// that load. Any thread; the loader is called on the executor, and neither it nor the observer
// under a lock.

#include <array>
#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "learned.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/striped_counter.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/cache/cache.h"
#include "tiercel/cache/fill_policy.h"
#include "tiercel/cache/keyspace_stats.h"
#include "tiercel/cache/observer.h"
#include "tiercel/serialization/codec_ids.h"

namespace tiercel {

// What a codec is to the cache: its id, and whether bytes that claim to be of it are.
struct CodecCheck {
  std::uint32_t codec_id = serialization::kCodecRaw;
  std::function<bool(std::string_view payload)> accepts{};  // Empty: all.

  [[nodiscard]] bool accept(std::uint32_t stored_id, std::string_view payload) const {
    return stored_id == codec_id && (!accepts || accepts(payload));
  }
};

class KeyGuard;

class FillSource {
 public:
  FillSource(std::string name, FillPolicy policy, RequestLoader loader, BatchLoader batch_loader,
             CodecCheck codec = {}, std::shared_ptr<KeyspaceObserver> observer = {})
      : name_(std::move(name)),
        policy_(policy),
        loader_(std::move(loader)),
        batch_loader_(std::move(batch_loader)),
        codec_(std::move(codec)),
        observer_(std::move(observer)) {
    if (policy_.breaker) breaker_.emplace(*policy_.breaker);
  }

  [[nodiscard]] const std::string& name() const noexcept { return name_; }
  [[nodiscard]] const FillPolicy& policy() const noexcept { return policy_; }
  [[nodiscard]] const CodecCheck& codec() const noexcept { return codec_; }
  [[nodiscard]] bool has_loader() const noexcept { return loader_ || batch_loader_; }
  // A read may be answered, and begin a load beside itself.
  [[nodiscard]] bool renews_beside_reads() const noexcept {
    return has_loader() && (policy_.refresh_ahead > 0 || gives_stale_at_once());
  }
  [[nodiscard]] bool gives_stale_at_once() const noexcept {
    return policy_.soft_deadline == std::chrono::milliseconds{0};
  }
  [[nodiscard]] bool has_batch_loader() const noexcept { return static_cast<bool>(batch_loader_); }

  // One result for each request. An exception counts as kInternal for all of them. Where the
  // breaker is open, none is called.
  [[nodiscard]] std::vector<LoadResult> load(const std::vector<LoadRequest>& requests,
                                             const Clock& clock);

  // Bulkhead. kRuns: leave() must follow. kWaits: `begin` will be called, by whoever leaves, and
  // leave() must follow that. kRefused: neither.
  enum class Entry : std::uint8_t { kRuns, kWaits, kRefused };
  [[nodiscard]] Entry enter(UniqueFunction<void()> begin) TIERCEL_EXCLUDES(mutex_);
  void leave() TIERCEL_EXCLUDES(mutex_);

  [[nodiscard]] BreakerState breaker_state(TimePoint now) const TIERCEL_EXCLUDES(mutex_);

  // `keys` loads were refused; counted and told.
  void note_refused(std::span<const std::string_view> keys, LoadRefusal by) noexcept;
  // A reader was given a value whose life had ended; likewise.
  void note_stale(std::string_view key) noexcept;

  // Any time; `now` is for the breaker's state.
  [[nodiscard]] KeyspaceStats stats(TimePoint now) const TIERCEL_EXCLUDES(mutex_);

  // Whether a load of this key beside a read may begin: no more than one in a second begins in this
  // process, so that each hit of a key that is due costs no more than this call. No lock.
  [[nodiscard]] bool claim_refresh(std::string_view key, TimePoint now) noexcept;

  Learned learned;

  std::shared_ptr<KeyGuard> guard{};  // Set before it is shared; mostly null.

  struct Counters {
    StripedCounter hits_l1, absent, misses;  // Raised by looks into L1.
    std::atomic<std::uint64_t> hits_l2{0}, joined{0}, waits{0}, loads{0}, loads_failed{0},
        loads_refused_bulkhead{0}, loads_refused_breaker{0}, refreshes{0}, stale_served{0},
        defaults_served{0}, codec_mismatches{0}, load_time_ns{0};
    std::array<std::atomic<std::uint64_t>, LoadTimes::kBuckets> load_times{};
  };
  Counters counters;

 private:
  const std::string name_;
  const FillPolicy policy_;
  const RequestLoader loader_;
  const BatchLoader batch_loader_;
  const CodecCheck codec_;
  const std::shared_ptr<KeyspaceObserver> observer_;  // Null: nobody is told.

  // The key as the keyspace's user knows it.
  [[nodiscard]] std::string_view own_part(std::string_view key) const noexcept;
  void note_load(const LoadRequest& request, const LoadResult& result, Duration took) noexcept;
  // What the breaker has become, if it is another than before. The caller tells, outside the lock.
  struct BreakerTurn {
    BreakerState from = BreakerState::kClosed;
    BreakerState to = BreakerState::kClosed;
  };
  [[nodiscard]] BreakerTurn take_turn(TimePoint now) TIERCEL_REQUIRES(mutex_);
  void tell(const BreakerTurn& turn) noexcept TIERCEL_EXCLUDES(mutex_);

  mutable Mutex mutex_;
  std::optional<CircuitBreaker> breaker_ TIERCEL_GUARDED_BY(mutex_);
  BreakerState breaker_was_ TIERCEL_GUARDED_BY(mutex_) = BreakerState::kClosed;
  std::size_t running_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::deque<UniqueFunction<void()>> waiting_ TIERCEL_GUARDED_BY(mutex_);

  // The hash of a key's upper 32 bits, and when it was claimed in ms, of which 32 bits.
  static constexpr std::size_t kClaims = 1024;
  std::vector<std::atomic<std::uint64_t>> claims_ =
      std::vector<std::atomic<std::uint64_t>>(kClaims);
};

}  // namespace tiercel
