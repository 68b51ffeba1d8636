#include "failover_signs.h"

namespace tiercel::l2 {

void FailoverSigns::hear(Id sentinel, const SentinelEvent& event, TimePoint now) {
  using What = SentinelEvent::Kind;
  Sign sign{now, {}};
  switch (event.kind) {
    case What::kSwitched:
    case What::kPromoted: sign.settled_on = event.endpoint; break;
    // Once the chosen replica is a master, the leader only moves the others to it.
    case What::kOthersMoved:
      if (voices_[sentinel].sign) sign.settled_on = voices_[sentinel].sign->settled_on;
      break;
    case What::kOrdered:
    case What::kElected:
    case What::kCandidacy:
    case What::kVote:
    case What::kAborted:
    case What::kFailoverStep: break;
    case What::kNewEpoch:
    case What::kMasterBack:
    case What::kSentinelSeen:
    case What::kViewChanged: return;
  }
  voices_[sentinel].sign = std::move(sign);
}

void FailoverSigns::subscribed(Id sentinel, TimePoint now) { voices_[sentinel].heard_since = now; }

void FailoverSigns::unsubscribed(Id sentinel) {
  const auto voice = voices_.find(sentinel);
  if (voice != voices_.end()) voice->second.heard_since.reset();
}

std::map<FailoverSigns::Id, FailoverSigns::Sign> FailoverSigns::recent(TimePoint now) {
  std::map<Id, Sign> signs;
  for (auto entry = voices_.begin(); entry != voices_.end();) {
    Voice& voice = entry->second;
    if (voice.sign && now - voice.sign->at >= SentinelSurvey::kQuietAfter) voice.sign.reset();
    if (voice.sign) signs[entry->first] = *voice.sign;
    entry = voice.sign || voice.heard_since ? std::next(entry) : voices_.erase(entry);
  }
  return signs;
}

std::optional<TimePoint> FailoverSigns::heard_since(Id sentinel) const {
  const auto voice = voices_.find(sentinel);
  return voice == voices_.end() ? std::nullopt : voice->second.heard_since;
}

}  // namespace tiercel::l2
