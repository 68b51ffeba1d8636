#pragma once

// SeenTable: for each key the newest write that this instance has read so far, for oracle M. Grows
// with the keys that are read, at most one entry a key. Any thread.

#include <array>
#include <cstddef>
#include <cstdint>
#include <unordered_map>

#include "fleet/oracle.h"
#include "tiercel/base/mutex.h"

namespace tiercel::fleet {

class SeenTable {
 public:
  [[nodiscard]] Seen newest(std::uint32_t key) {
    Stripe& stripe = stripes_[key % kStripes];
    MutexLock lock{stripe.mutex};
    const auto found = stripe.seen.find(key);
    return found == stripe.seen.end() ? Seen{} : found->second;
  }

  void note(std::uint32_t key, Seen seen) {
    Stripe& stripe = stripes_[key % kStripes];
    MutexLock lock{stripe.mutex};
    Seen& newest = stripe.seen[key];
    if (seen.sequence > newest.sequence) newest = seen;
  }

 private:
  static constexpr std::size_t kStripes = 16;
  struct Stripe {
    Mutex mutex;
    std::unordered_map<std::uint32_t, Seen> seen TIERCEL_GUARDED_BY(mutex);
  };
  std::array<Stripe, kStripes> stripes_;
};

}  // namespace tiercel::fleet
