#include "checkers.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {
namespace {

std::string place_text(Place place) {
  return Branches::name(place.branch) + '@' + std::to_string(place.offset);
}

}  // namespace

void Checkers::executed(std::size_t key, Place place, std::uint32_t write, TimePoint at,
                        bool is_clear) {
  changes_[key].push_back({at, place, write, is_clear});
}

bool Checkers::reflects(const Value& value, std::size_t key, const Change& change) const {
  if (is_loaded(key)) return value.write >= change.write;
  return branches_.contains(value.place.branch, change.place, value.place.offset);
}

// Whether a change that the hit does not reflect should have been.
Checkers::Claim Checkers::claim(const Hit& hit, const Change& change) const {
  if (branches_.contains(hit.branch, change.place)) return Claim::kCounts;
  if (hit.mode == coherence::WitnessMode::kNone) return Claim::kNone;
  const Branch& own = branches_[hit.branch];
  const Branch& other = branches_[change.place.branch];
  const bool is_elected =
      other.is_legitimate() && other.rank > own.rank && change.at >= other.enthroned_at;
  // Unless it was dethroned in favour of ours.
  const bool is_seen_by_replicas = hit.mode == coherence::WitnessMode::kReplicas &&
                                   branches_.descends(change.place.branch, hit.branch) &&
                                   !(other.is_legitimate() && other.rank < own.rank);
  if (!is_elected && !is_seen_by_replicas) return Claim::kNone;
  const bool is_sure = is_seen_by_replicas || other.is_confirmed;
  return is_sure && other.ended_at > hit.read_at ? Claim::kCounts : Claim::kIfItLasts;
}

void Checkers::hit(const Hit& hit) {
  const auto& changes = changes_[hit.key];
  const bool is_newest = hit.branch == branches_.size() - 1 && branches_.is_in_order();
  TimePoint oldest = TimePoint::max();
  Place oldest_place;
  for (auto change = changes.rbegin(); change != changes.rend(); ++change) {
    if (reflects(hit.value, hit.key, *change)) {
      // All older ones are on its path, too, or lost.
      if (is_newest && !is_loaded(hit.key)) break;
      continue;
    }
    if (change->is_clear && hit.version == coherence::kVersionUnknown) continue;
    const Claim claimed = claim(hit, *change);
    if (claimed == Claim::kCounts && change->at < oldest) {
      oldest = change->at;
      oldest_place = change->place;
    } else if (claimed == Claim::kIfItLasts && change->at < hit.proven_at &&
               pending_.size() < 1000) {
      const bool was_master = branches_[change->place.branch].ended_at > hit.read_at;
      pending_.push_back({change->place, change->at, was_master, std::string{hit.who}, hit});
    }
  }
  if (oldest != TimePoint::max()) judge(hit, hit.who, oldest_place, oldest);
  if (is_loaded(hit.key)) return;
  if (!branches_.contains(hit.branch, hit.value.place)) {
    const bool is_of_later = branches_[hit.value.place.branch].rank > branches_[hit.branch].rank;
    if (is_of_later || branches_.descends(hit.value.place.branch, hit.branch)) return;
    ++hits_of_lost_branches_;
    violated("ghost", std::string{hit.who} + " was served " + key_name(hit.key) + " of " +
                          place_text(hit.value.place) + " under a lease on " +
                          Branches::name(hit.branch) + ", whose history does not hold it");
  }
}

void Checkers::judge(const Hit& hit, std::string_view who, Place place, TimePoint changed_at) {
  const double staleness =
      static_cast<double>((hit.read_at - changed_at).count()) / static_cast<double>(lease_.count());
  if (hit.is_leased) worst_ = std::max(worst_, staleness);
  const auto text = [&] {
    return std::string{who} + " was served " + key_name(hit.key) + " = write " +
           std::to_string(hit.value.write) + " (" + place_text(hit.value.place) + ", version " +
           std::to_string(hit.version) + ") at " + time_text(hit.read_at) + ", F " +
           time_text(hit.proven_at) + ", witness " + std::string{coherence::to_string(hit.mode)} +
           ", on " + Branches::name(hit.branch) + "; but it was changed at " +
           time_text(changed_at) + " by " + place_text(place) + ", " +
           length_text(hit.read_at - changed_at) + " before";
  };
  if (changed_at < hit.proven_at) trace_.tell("!", "R is violated here");
  if (hit.is_leased && changed_at < hit.read_at - lease_) {
    ++stale_beyond_bound_;
    violated("R", text());
  } else if (changed_at < hit.proven_at) {
    violated("age", text());
  }
}

void Checkers::seen_in_order(std::string_view who, std::size_t key, const Seen& before,
                             const Seen& now) {
  if (before.generation != now.generation) return;
  if (before.version == coherence::kVersionUnknown || now.version == coherence::kVersionUnknown) {
    return;
  }
  if (before.value.incarnation != now.value.incarnation || now.version >= before.version) return;
  // Versions of different branches mean nothing to each other.
  if (!branches_.contains(before.value.place.branch, now.value.place, before.value.place.offset)) {
    return;
  }
  trace_.tell("!", "M is violated here");
  violated("M", std::string{who} + " saw " + key_name(key) + " go back from version " +
                    std::to_string(before.version) + " (" + place_text(before.value.place) +
                    ") to " + std::to_string(now.version) + " (" + place_text(now.value.place) +
                    ')');
}

void Checkers::acknowledged(Place place, bool by_all_replicas) {
  acknowledged_.emplace_back(place, by_all_replicas);
}

bool Checkers::is_outdated(std::size_t key, const Value& value, int branch,
                           std::uint64_t offset) const {
  return std::any_of(changes_[key].begin(), changes_[key].end(), [&](const Change& change) {
    return branches_.contains(branch, change.place, offset) && !reflects(value, key, change);
  });
}

void Checkers::settle(int last, std::uint64_t last_offset, bool has_data_been_forgotten) {
  for (const auto& [place, by_all] : acknowledged_) {
    if (branches_.contains(last, place, last_offset)) continue;
    ++lost_;
    if (by_all && !has_data_been_forgotten) {
      violated("W", "the write " + place_text(place) +
                        " was acknowledged by all replicas and is not in " + Branches::name(last) +
                        '@' + std::to_string(last_offset));
    }
  }
  for (const Pending& pending : pending_) {
    const bool has_lasted = branches_.contains(last, pending.place, last_offset);
    // What no Sentinel knew of they could not tell (assumption A5).
    const bool is_known = branches_[pending.place.branch].is_confirmed;
    if (!is_known && pending.hit.mode == coherence::WitnessMode::kSentinels) continue;
    const bool was_confirmed = pending.was_master && branches_[pending.place.branch].is_confirmed;
    if (!has_lasted && !was_confirmed) continue;
    judge(pending.hit, pending.who, pending.place, pending.changed_at);
  }
}

void Checkers::violated(std::string checker, std::string text) {
  if (violations_.size() < kViolationsMax) {
    violations_.push_back({std::move(checker), std::move(text)});
  }
}

}  // namespace tiercel::sim
