#pragma once

// The judge: was what the ticks saw as fresh as the lease promises? Pure.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "game/shop.h"
#include "game/world.h"
#include "tiercel/base/clock.h"

namespace tiercel::game {

struct Verdict {
  std::uint64_t looked_at = 0;
  std::uint64_t too_old = 0;      // A change that was acknowledged `lease` before was not in it.
  std::uint64_t went_back = 0;    // An older revision than the tick before had seen.
  std::vector<Duration> seen_in;  // For each change that was seen: how long after it.
};

// Both in the order of time.
[[nodiscard]] Verdict judge(std::span<const Sighting> sightings, std::span<const Change> changes,
                            Duration lease);

}  // namespace tiercel::game
