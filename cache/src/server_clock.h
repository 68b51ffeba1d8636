#pragma once

// ServerClock: what the clock of the Redis server shows, so that a stored value's end is known
// without asking for it: Redis ends it by that clock, a value's version has when it was written at
// the earliest, and the envelope for how long. One thread.
//
// The estimate of an end is never late where the server's clock is not set while it is used; it is
// early by the time that the question took, and, for what a loader brought, by as long as nothing
// had been written before.

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>

#include "tiercel/base/clock.h"
#include "tiercel/coherence/version.h"

namespace tiercel {

class ServerClock {
 public:
  // How often to ask: the clocks drift apart, by no more than kDrift in that time.
  static constexpr Duration kAskEvery = std::chrono::seconds{1};
  static constexpr Duration kDrift = std::chrono::milliseconds{1};

  // We are on another server, or do not know.
  void reset() noexcept { sample_.reset(); }
  // The answer to a question that was sent at `sent_at`.
  void said(TimePoint sent_at, std::chrono::milliseconds server_time) noexcept {
    sample_ = Sample{sent_at, server_time};
  }

  // When a value ends that was written with this version and life, at the earliest. Nothing: not
  // known.
  [[nodiscard]] std::optional<TimePoint> end_of(coherence::Version version,
                                                std::chrono::milliseconds life) const noexcept {
    if (!sample_ || version == coherence::kVersionUnknown) return std::nullopt;
    const std::chrono::milliseconds written_at{
        static_cast<std::int64_t>(version >> coherence::kVersionSequenceBits)};
    return sample_->sent_at + (written_at + life - sample_->server_time) - kDrift;
  }

 private:
  struct Sample {
    TimePoint sent_at;
    std::chrono::milliseconds server_time;
  };
  std::optional<Sample> sample_;
};

}  // namespace tiercel
