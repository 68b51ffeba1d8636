#pragma once

// SentinelDirectory: the Sentinels that a client knows: the configured ones, and those that other
// Sentinels told of. Configured ones stay for ever. Learned ones stay for the life of the client,
// up to kSentinelsMax in all; one that has been silent for kForgetAfter is forgotten, but only
// while another Sentinel answers (when nobody does, the trouble may be ours). Does no I/O.
//
// Changed on the loop thread only; statuses(): any thread.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/result.h"
#include "tiercel/l2/client.h"

namespace tiercel::l2 {

class SentinelDirectory {
 public:
  using Id = std::uint64_t;  // Never 0, never used twice.

  static constexpr std::size_t kSentinelsMax = 64;
  static constexpr Duration kForgetAfter = std::chrono::minutes{10};

  struct Sentinel {
    Id id = 0;
    Endpoint endpoint{};
    bool is_configured = false;
    std::string run_id{};     // Empty: not known (yet, or an old version).
    bool has_spoken = false;  // It has answered or published, ever.
    TimePoint heard_at{};     // Its last answer; when it was learned, until then.
    bool is_silent = false;   // Its last question got no answer.
  };

  SentinelDirectory(std::span<const Endpoint> configured, TimePoint now);

  // The references and the span are valid until the next change.
  [[nodiscard]] std::span<const Sentinel> all() const noexcept { return sentinels_; }
  [[nodiscard]] const Sentinel* find(Id id) const noexcept;

  // How many there are, for majorities: learned ones that have never spoken do not count, so an
  // address that nobody can reach, or that somebody made up, changes no majority.
  [[nodiscard]] std::size_t voters() const noexcept;

  // One Sentinel told of another. Ignored when it is known, by address or by run id.
  void learn(const Endpoint& endpoint, const std::string& run_id, TimePoint now);
  // It answered, and called itself `run_id` (may be empty). A learned one that turns out to be one
  // that we already know under another address is forgotten.
  void answered(Id id, const std::string& run_id, TimePoint now);
  void failed(Id id, const Error& reason);
  void subscribed(Id id, bool is_subscribed);
  void forget_silent(TimePoint now);

  [[nodiscard]] std::vector<SentinelStatus> statuses() const TIERCEL_EXCLUDES(statuses_mutex_);

 private:
  [[nodiscard]] std::size_t index_of(Id id) const noexcept;
  void add(const Endpoint& endpoint, const std::string& run_id, bool is_configured, TimePoint now);
  void remove(std::size_t index);

  std::vector<Sentinel> sentinels_;
  Id id_last_ = 0;

  mutable Mutex statuses_mutex_;
  std::vector<SentinelStatus> statuses_ TIERCEL_GUARDED_BY(statuses_mutex_);  // In the same order.
};

}  // namespace tiercel::l2
