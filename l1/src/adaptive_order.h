#pragma once

// AdaptiveOrder: which entry of a stripe is evicted next. It learns from the accesses whether
// recency or frequency tells better what will be asked for again.
//
// How. The entries stand in two regions, window and main (modal_order.h), whose rules can be those
// of LRU, of something like S3-FIFO, or of something like W-TinyLFU with a larger or a smaller
// window. Each of these modes is also run, for good, in a shadow cache of up to 320 keys without
// values (shadow.h), on the accesses whose hash falls into a sample: all accesses for a cache of up
// to 64 entries, one in 2^k for larger ones. The mode with the most shadow hits of late rules the
// real cache (committee.h). A change moves no entry; only from then on other ones leave.
//
// A shadow holds as many keys as the real cache holds entries of the sample, not 1/2^k of the
// entries: with a loop a bit longer than the cache, the few keys too many in the sample would
// otherwise decide. That number is averaged before it is followed, because a shadow that grows and
// shrinks with each eviction fares worse than a cache of constant size.
//
// Hits take no lock. They write the entry's hint (Hint::used) and, if the hash
// is in the sample, push it to a ring of the engine's, lossy; all else happens at the next insert.
//
// Order of calls, all but sample_mask() under the stripe's lock:
//   at an insert:   observe() for each hash in the ring;
//                   while there is no room: victim(), then evicted() when it was evicted, or
//                     requeue() when it cannot go now;
//                   insert(), or replace() if the key had an entry;
//                   if growth_wanted() is not empty: unlock, allocate(), lock, accept().
//   an entry leaves for any other reason: remove().
// `now` is the stripe's clock, which ticks with each insert, and each hit of an entry that is not
// the newest. Neither a tick lost nor one more does harm.
//
// Bounds. victim(): see modal_order.h. observe(): four look-ups, up to eight shadow evictions.
// Nothing is allocated here but in Growth::allocate. Memory beside the nodes: 4 to 5 bytes an entry
// (history.h), and for this object and the shadows about 6 KiB below 16 entries, 12 KiB below
// 2,048, 29 KiB from 4,096 on. Without that memory it still works, in the first mode.

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <utility>

#include "committee.h"
#include "history.h"
#include "modal_order.h"

namespace tiercel::l1 {

// Memory that an AdaptiveOrder asks for, allocated while its stripe is not locked. After accept()
// it holds what was replaced, to be freed when the lock is gone.
struct Growth {
  std::size_t lines_wanted = 0;
  std::size_t shadow_entries_wanted = 0;
  std::size_t entries = 0;            // When it was asked for,
  std::size_t committees_before = 0;  // and how many committees there had been.
  std::unique_ptr<HistoryLine[]> lines;
  std::unique_ptr<Committee> committee;

  [[nodiscard]] bool empty() const noexcept {
    return lines_wanted == 0 && shadow_entries_wanted == 0;
  }
  // What it will take, or a little less.
  [[nodiscard]] std::size_t bytes() const noexcept {
    const std::size_t shadows =
        shadow_entries_wanted == 0 ? 0 : Committee::bytes_for(shadow_entries_wanted);
    return lines_wanted * sizeof(HistoryLine) + shadows;
  }
  // What there is no memory for stays null, and is asked for again.
  void allocate() noexcept {
    if (lines_wanted != 0) lines.reset(new (std::nothrow) HistoryLine[lines_wanted]);
    if (shadow_entries_wanted != 0) committee = Committee::create(shadow_entries_wanted);
  }
};

template <typename Nodes>
class AdaptiveOrder {
 public:
  explicit AdaptiveOrder(Nodes& nodes) noexcept
      : nodes_(nodes), order_(nodes, kModes[kFirstMode]) {}
  AdaptiveOrder(const AdaptiveOrder&) = delete;
  AdaptiveOrder& operator=(const AdaptiveOrder&) = delete;

  [[nodiscard]] std::size_t entries() const noexcept { return order_.entries(); }
  [[nodiscard]] std::size_t mode() const noexcept { return election_.winner(); }
  [[nodiscard]] std::size_t bytes() const noexcept {
    return sizeof(*this) + order_.history().bytes() + (committee_ ? committee_->bytes() : 0);
  }

  // An access is to be observed if (hash32 & sample_mask()) == 0. Needs no lock.
  [[nodiscard]] std::uint32_t sample_mask() const noexcept {
    return sample_mask_.load(std::memory_order_relaxed);
  }

  void observe(std::uint32_t hash) noexcept {
    // The ring may still hold what belonged to a larger sample.
    if (committee_ == nullptr || (hash & sample_mask()) != 0) return;
    const unsigned hits = committee_->access(hash, shadow_capacity());
    const auto decay_log =
        static_cast<unsigned>(std::countr_zero(shadow_entries_)) + kDecayPerShadowEntryLog;
    if (election_.record(hits, decay_log)) order_.set_mode(kModes[election_.winner()]);
  }

  void insert(std::uint32_t ref, std::uint32_t now) noexcept {
    order_.insert(ref, now);
    ++entries_by_zeros_[zeros(ref)];
  }

  // `ref` takes over from `old`, which had the same key.
  void replace(std::uint32_t old, std::uint32_t ref, std::uint32_t now) noexcept {
    order_.replace(old, ref, now);
  }

  void remove(std::uint32_t ref) noexcept {
    order_.remove(ref);
    --entries_by_zeros_[zeros(ref)];
  }

  [[nodiscard]] const RecencyLists<Nodes>& lists() const noexcept { return order_.lists(); }

  // 0 if there is no entry.
  [[nodiscard]] std::uint32_t victim(std::uint32_t now) noexcept { return order_.victim(now); }

  void evicted(std::uint32_t ref) noexcept {
    order_.evicted(ref);
    --entries_by_zeros_[zeros(ref)];
  }

  void requeue(std::uint32_t ref, std::uint32_t now) noexcept { order_.requeue(ref, now); }

  [[nodiscard]] Growth growth_wanted() const noexcept {
    Growth growth;
    growth.lines_wanted = order_.history().lines_wanted(entries() + 1);
    if (!shadows_fit()) growth.shadow_entries_wanted = shadow_entries_for(entries() + 1);
    growth.entries = entries() + 1;
    growth.committees_before = committees_;
    return growth;
  }

  // Takes what is still wanted: another thread may have been faster. New shadows start empty, all
  // of them, so none has an advantage; what was learnt from the old ones stays.
  void accept(Growth& growth) noexcept {
    const bool lines_fit = growth.lines_wanted == order_.history().lines_wanted(entries() + 1);
    if (growth.lines != nullptr && lines_fit) order_.history().add_piece(std::move(growth.lines));
    if (growth.committee == nullptr || growth.committees_before != committees_) return;
    ++committees_;
    std::swap(committee_, growth.committee);
    shadow_entries_ = growth.shadow_entries_wanted;
    sample_log_ = 0;
    // By the entries there were when it was asked for: room for the shadows was made by evicting
    // some, and so few may be left that it would seem too large, and be asked for again.
    while (shadow_entries_ << sample_log_ <= growth.entries) ++sample_log_;
    sample_mask_.store((1U << sample_log_) - 1, std::memory_order_relaxed);
    observed_ = 0;
    sampled_average_ = 0;
  }

 private:
  static constexpr std::size_t kShadowEntriesMin = 16;
  static constexpr std::size_t kShadowEntriesUsual = 64;
  static constexpr std::size_t kShadowEntriesMax = 256;
  static constexpr std::size_t kEntriesPerShadowEntry = 16;  // Between the last two.
  static constexpr unsigned kDecayPerShadowEntryLog = 5;     // Accesses.
  static constexpr std::int64_t kAveraged = 256;             // Accesses, and the fixed point's one.

  // A power of 2.
  static std::size_t shadow_entries_for(std::size_t entries) noexcept {
    if (entries <= kShadowEntriesUsual) return std::max(kShadowEntriesMin, std::bit_ceil(entries));
    return std::clamp(std::bit_floor(entries / kEntriesPerShadowEntry), kShadowEntriesUsual,
                      kShadowEntriesMax);
  }

  // False as well when the entries have become so few that a larger sample would do.
  [[nodiscard]] bool shadows_fit() const noexcept {
    const std::size_t entries_max = shadow_entries_ << sample_log_;
    const bool too_few = entries() < entries_max / 4 && shadow_entries_ > kShadowEntriesMin;
    return entries() < entries_max && !too_few;
  }

  [[nodiscard]] std::size_t zeros(std::uint32_t ref) noexcept {
    return static_cast<std::size_t>(std::countr_zero(nodes_.hash32(ref)));
  }

  [[nodiscard]] std::size_t shadow_capacity() noexcept {
    std::size_t sampled = entries();
    for (unsigned i = 0; i < sample_log_; ++i) sampled -= entries_by_zeros_[i];
    if (sample_log_ == 0) {
      shadow_capacity_ = sampled;
    } else {
      observed_ = std::min(observed_ + 1, kAveraged);
      sampled_average_ +=
          (static_cast<std::int64_t>(sampled) * kAveraged - sampled_average_) / observed_;
      const std::int64_t off =
          sampled_average_ - static_cast<std::int64_t>(shadow_capacity_) * kAveraged;
      if (off > kAveraged || off < -kAveraged) {
        shadow_capacity_ = static_cast<std::size_t>((sampled_average_ + kAveraged / 2) / kAveraged);
      }
    }
    return std::clamp<std::size_t>(shadow_capacity_, 1, Shadow::capacity_max(shadow_entries_));
  }

  Nodes& nodes_;
  ModalOrder<Nodes, 72> order_;  // 72 pieces of lines are enough for 67 million entries.
  std::unique_ptr<Committee> committee_;
  Election election_;
  std::size_t committees_ = 0;  // So far.
  std::size_t shadow_entries_ = 0;
  unsigned sample_log_ = 0;
  std::atomic<std::uint32_t> sample_mask_{0};
  // How many entries' hashes end in so many zero bits: so how many are in any sample.
  std::array<std::uint32_t, 33> entries_by_zeros_{};
  std::size_t shadow_capacity_ = 0;
  std::int64_t sampled_average_ = 0;  // In 1/kAveraged.
  std::int64_t observed_ = 0;         // Since the shadows were new, up to kAveraged.
};

}  // namespace tiercel::l1
