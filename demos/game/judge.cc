#include "game/judge.h"

#include <algorithm>
#include <array>

#include "game/keyspaces.h"

namespace tiercel::game {
namespace {

// Of one player or inventory.
struct Track {
  std::vector<const Change*> changes{};
  std::size_t due = 0;     // Changes that must have been seen by now.
  std::size_t unseen = 0;  // The first change that no tick has seen.
  Revision last = 0;
};

}  // namespace

Verdict judge(std::span<const Sighting> sightings, std::span<const Change> changes,
              Duration lease) {
  std::array<std::array<Track, kPlayers + 1>, 2> tracks;
  const auto track_of = [&tracks](Kind kind, PlayerId player) -> Track& {
    return tracks[kind == Kind::kPlayer ? 0 : 1][player];
  };
  for (const Change& change : changes)
    track_of(change.kind, change.player).changes.push_back(&change);
  Verdict verdict;
  for (const Sighting& sighting : sightings) {
    Track& track = track_of(sighting.kind, sighting.player);
    ++verdict.looked_at;
    while (track.due < track.changes.size() &&
           track.changes[track.due]->acknowledged_at + lease < sighting.asked_at) {
      ++track.due;
    }
    const Revision least = track.due == 0 ? 0 : track.changes[track.due - 1]->revision;
    if (sighting.revision < least) ++verdict.too_old;
    if (sighting.revision < track.last) ++verdict.went_back;
    track.last = std::max(track.last, sighting.revision);
    while (track.unseen < track.changes.size() &&
           track.changes[track.unseen]->revision <= sighting.revision) {
      // What is seen before its writer has the acknowledgement is seen at once.
      const Change& change = *track.changes[track.unseen++];
      verdict.seen_in.push_back(std::max(Duration{0}, sighting.asked_at - change.acknowledged_at));
    }
  }
  return verdict;
}

}  // namespace tiercel::game
