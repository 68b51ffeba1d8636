#pragma once

// DialGate: the least time between two attempts to connect of one client, D and S together, so that
// whatever happens (events of several Sentinels, a server that accepts and closes, two links lost
// at once) the client makes no more than one attempt in any kGap. The first attempt of each link is
// not held up: it cannot be part of a storm of reconnects. Loop thread only.

#include <algorithm>
#include <optional>

#include "tiercel/base/clock.h"

namespace tiercel::l2 {

class DialGate {
 public:
  static constexpr Duration kGap = std::chrono::milliseconds{50};

  // How long to wait still; 0: an attempt may be made now.
  [[nodiscard]] Duration wait(TimePoint now) const {
    if (!last_) return Duration{0};
    return std::max(Duration{0}, *last_ + kGap - now);
  }
  // An attempt is made now. How long after the last one; nothing for the first.
  std::optional<Duration> attempted(TimePoint now) {
    const auto since = last_ ? std::optional{now - *last_} : std::nullopt;
    last_ = now;
    return since;
  }

 private:
  std::optional<TimePoint> last_;
};

}  // namespace tiercel::l2
