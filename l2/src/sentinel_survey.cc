#include "tiercel/l2/sentinel_survey.h"

#include <algorithm>

namespace tiercel::l2 {

SentinelFlags SentinelFlags::parse(std::string_view words) {
  SentinelFlags flags;
  while (!words.empty()) {
    const auto comma = words.find(',');
    const std::string_view word = words.substr(0, comma);
    words.remove_prefix(comma == std::string_view::npos ? words.size() : comma + 1);
    if (word == "s_down") flags.s_down = true;
    if (word == "o_down") flags.o_down = true;
    if (word == "disconnected") flags.disconnected = true;
    if (word == "failover_in_progress" || word == "force_failover") {
      flags.failover_in_progress = true;
    }
    if (word == "promoted") flags.promoted = true;
  }
  return flags;
}

bool SentinelSurvey::is_quiet(const Endpoint& master) const {
  return std::all_of(signs.begin(), signs.end(), [&master](const Sign& sign) {
    return sign.ago >= kQuietAfter || sign.settled_on == master;
  });
}

bool SentinelSurvey::is_calm(const Endpoint& master) const {
  const auto sees_calm = [&](const SentinelView& view) {
    const bool promotes_another = std::any_of(
        view.replicas.begin(), view.replicas.end(), [&](const SentinelReplica& replica) {
          return replica.flags.promoted && replica.endpoint != master;
        });
    // It names a server that it promoted while its failover is not finished: what it says of the
    // former master is no sign of another failover.
    const bool has_promoted_it = view.flagged_master.port != 0 && view.flagged_master != master;
    const bool fails_it_over =
        !has_promoted_it && (view.master_flags.o_down || view.master_flags.failover_in_progress);
    return view.master == master && !fails_it_over && !promotes_another && !view.is_tilted &&
           view.is_heard && (views.size() >= known || view.heard_for >= kQuietAfter);
  };
  return !views.empty() && std::all_of(views.begin(), views.end(), sees_calm) && is_quiet(master);
}

std::vector<SentinelSurvey::Replica> SentinelSurvey::replicas() const {
  std::vector<Replica> all;
  for (const SentinelView& view : views) {
    for (const SentinelReplica& listed : view.replicas) {
      auto known_one = std::find_if(all.begin(), all.end(), [&listed](const Replica& replica) {
        return replica.endpoint == listed.endpoint;
      });
      if (known_one == all.end()) known_one = all.insert(all.end(), {listed.endpoint, 0});
      const bool is_down = listed.flags.s_down || listed.flags.disconnected;
      if (is_down && !view.is_tilted) ++known_one->down_count;
    }
  }
  return all;
}

}  // namespace tiercel::l2
