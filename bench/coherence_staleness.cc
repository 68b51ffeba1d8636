#include "coherence_staleness.h"

#include <algorithm>

namespace tiercel::bench {

double Staleness::stale_percent() const {
  return reads == 0 ? 0 : 100 * static_cast<double>(stale) / static_cast<double>(reads);
}

void judge(const WriteTimes& writes, std::span<const Read> reads, Duration bound,
           Staleness& staleness) {
  for (const Read& read : reads) {
    ++staleness.reads;
    const std::vector<TimePoint>& acknowledged = writes.of(read.key);
    if (read.sequence >= acknowledged.size()) continue;  // Nothing newer was ever acknowledged.
    const TimePoint missed = acknowledged[read.sequence];
    if (missed >= read.began_at) continue;
    ++staleness.stale;
    const Duration age = read.began_at - missed;
    if (age > bound) ++staleness.beyond_bound;
    staleness.ages.push_back(age);
    staleness.worst = std::max(staleness.worst, age);
    staleness.worst_at_end = std::max(staleness.worst_at_end, read.ended_at - missed);
  }
}

}  // namespace tiercel::bench
