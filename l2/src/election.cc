#include "election.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kVotesMax = 8;     // Of one Sentinel. It may watch several masters.
constexpr std::size_t kVoicesMax = 256;  // More than the directory ever holds at a time.

using Kind = SentinelEvent::Kind;

}  // namespace

std::optional<Election::Promotion> Election::hear(std::uint64_t sentinel,
                                                  const SentinelEvent& event, std::size_t voters) {
  if (voices_.size() >= kVoicesMax && !voices_.contains(sentinel)) voices_.clear();
  Voice& voice = voices_[sentinel];
  switch (event.kind) {
    case Kind::kNewEpoch: voice.epoch_last = event.epoch; return std::nullopt;
    case Kind::kCandidacy:
      voice.epoch_stood = voice.epoch_last;
      voice.is_elected = false;
      voice.promoting.reset();
      return std::nullopt;
    case Kind::kVote:
      voice.votes.emplace(event.epoch, event.run_id);  // A second vote in an epoch does not count.
      if (voice.votes.size() > kVotesMax) voice.votes.erase(voice.votes.begin());
      break;
    case Kind::kElected: voice.is_elected = voice.epoch_stood != 0; break;
    case Kind::kOrdered:
      if (voice.is_elected) voice.promoting = event.endpoint;
      break;
    case Kind::kAborted:
      voice.epoch_stood = 0;
      voice.is_elected = false;
      voice.promoting.reset();
      return std::nullopt;
    default: return std::nullopt;
  }
  return conclude(voters);
}

// The votes of the others may come after the leader's own words: every way round is looked at.
std::optional<Election::Promotion> Election::conclude(std::size_t voters) {
  for (const auto& [sentinel, voice] : voices_) {
    if (!voice.promoting) continue;
    // Whom it voted for in the epoch in which it stood: itself. So its name is known.
    const auto own = voice.votes.find(voice.epoch_stood);
    if (own == voice.votes.end()) continue;
    std::size_t votes = 0;
    for (const auto& [other, their] : voices_) {
      const auto vote = their.votes.find(voice.epoch_stood);
      votes += vote != their.votes.end() && vote->second == own->second ? 1 : 0;
    }
    if (votes * 2 <= voters) continue;
    const Promotion promotion{*voice.promoting, voice.epoch_stood};
    if (promotion.epoch <= epoch_told_) continue;
    epoch_told_ = promotion.epoch;
    return promotion;
  }
  return std::nullopt;
}

void Election::interrupted(std::uint64_t sentinel) {
  const auto voice = voices_.find(sentinel);
  if (voice == voices_.end()) return;
  voice->second.epoch_last = 0;
  voice->second.epoch_stood = 0;
  voice->second.is_elected = false;
  voice->second.promoting.reset();
}

}  // namespace tiercel::l2
