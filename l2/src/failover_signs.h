#pragma once

// FailoverSigns: who has published anything of a failover of our master lately, and since when we
// hear each Sentinel without a gap. A function of (state, event, now); does no I/O. Loop thread
// only.
//
// A vote names no master (+vote-for-leader): one for another master that the same Sentinels watch
// is a sign, too.

#include <map>
#include <optional>

#include "sentinel_directory.h"
#include "sentinel_event.h"
#include "tiercel/l2/sentinel_survey.h"

namespace tiercel::l2 {

class FailoverSigns {
 public:
  using Id = SentinelDirectory::Id;
  struct Sign {
    TimePoint at{};
    std::optional<Endpoint> settled_on{};  // See SentinelSurvey::Sign.
  };

  void hear(Id sentinel, const SentinelEvent& event, TimePoint now);
  // From now on all of its channels reach us.
  void subscribed(Id sentinel, TimePoint now);
  void unsubscribed(Id sentinel);

  // The last sign that is less than kQuietAfter old, by Sentinel.
  [[nodiscard]] std::map<Id, Sign> recent(TimePoint now);
  // Nothing: not all of its channels do.
  [[nodiscard]] std::optional<TimePoint> heard_since(Id sentinel) const;

 private:
  struct Voice {
    std::optional<Sign> sign{};
    std::optional<TimePoint> heard_since{};
  };
  std::map<Id, Voice> voices_;  // Those that are neither heard nor have a recent sign go.
};

}  // namespace tiercel::l2
