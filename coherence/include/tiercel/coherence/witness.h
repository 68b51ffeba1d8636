#pragma once

// Witness: the proof that nobody but our master has been taking writes. A pure function of what
// the master, its replicas and the Sentinels said, and of when they were asked.
//
// A master that hung, was replaced and wakes up again pongs and calls itself a master for ten
// seconds and more. Its replicas do not lie: whoever was promoted was a replica before. So: if
// every server that could be promoted, asked at time t or later, was not, then no other server had
// accepted a write of our branch of history before t. proof() gives the newest such t.
//
// Who could be promoted ("candidates"): every replica that the master has listed (INFO replication)
// since we know this branch, and every one that the Sentinels list. The Sentinels' list matters at
// the beginning: a replica that was promoted a moment ago is not in its old master's list any more.
// One that is silent, or is a master, or follows another branch, and is not in the master's list,
// stays a candidate until a majority of the Sentinels, asked in a calm round after it had gone,
// does not list it either, or, without Sentinels, for kForgetAfter.
//
// What a candidate may answer, X being the replication id of our branch:
//   itself        a master with id X: our own server, under the name that a Sentinel still has.
//   follows       a replica, its replication id is X. Good: it has not been promoted.
//   elsewhere     never seen to follow X: a replica of another branch; or, without Sentinels, the
//                 master before ours (its id is our former one). Good: it does not take writes, or
//                 they are lost.
//   deposes us    a master that was promoted from X (its former id is X), or one that followed X.
//                 We are on the old master. There is no proof of any kind while that is its last
//                 word, unless the Sentinels vouch for our master and see it down.
//   lost          a replica that has left X for another branch. Not good: by itself it proves
//                 nothing, and what else there is has to do. Likewise no answer, and that of a
//                 replica that knows neither X nor its master yet: it was restarted.
//   rival         any other master: restarted, or promoted from the branch before ours beside us,
//                 or the one before ours, which the Sentinels may choose again before they have
//                 made a replica of it. Which of the two counts only they can say. Not good.
//
// The proofs, strongest first; the newest one counts, and of two as new the stronger. WitnessMode
// names the one that a lease rests on:
//   kReplicas   every candidate's last answer is good, and at least one follows. One that is late
//               holds the proof at its last answer. With Sentinels, a
//               majority of them has been heard once for this branch, in a calm round (for the
//               list: once they have gone over to another master, theirs is his, and he is not in
//               it).
//   kSentinels  the candidates that are not good are vouched for by the Sentinels: in one round
//               all that answer name our master and see no failover, none of their events spoke of
//               one, and either all Sentinels answer, or a majority, and each of those sees each
//               such candidate down. Blind for an operator's bare REPLICAOF NO ONE at a candidate
//               that we cannot reach.
//   kNone       without Sentinels: the candidates that answer are good. "Per server": an operator
//               may promote a replica that we cannot reach, and a lone master has no witness.
//
// Bounded: kCandidatesMax. One more counts as one that cannot be reached.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"

namespace tiercel::coherence {

// In rising strength.
enum class WitnessMode : std::uint8_t { kNone, kSentinels, kReplicas };
std::string_view to_string(WitnessMode mode) noexcept;  // "none", "sentinels", "replicas"

// What a server said of its place in replication (INFO replication).
struct ReplicationState {
  bool is_master = false;
  std::string replication_id{};         // master_replid
  std::string former_replication_id{};  // master_replid2: of the branch it was promoted from.
  // A master's replicas that are online, "ADDRESS:PORT" as it names them.
  std::vector<std::string> replicas{};
  bool is_linked = true;  // Of a replica: it is in touch with its master, and synchronised.
};

// One round in which all Sentinels were asked about our master.
struct SentinelRound {
  struct Replica {
    std::string address{};
    std::size_t down_count = 0;  // Of those who answered, how many see it down or disconnected.
  };
  std::size_t known = 0;     // Sentinels, configured and learned.
  std::size_t answered = 0;  // Of these, with an answer.
  // All who answered name the server that we use, and see no failover of it under way or due
  // (o_down, failover_in_progress), and none of their events since the last round spoke of a vote,
  // a try or a switch.
  bool is_calm = false;
  std::vector<Replica> replicas{};  // All that any of them lists.

  [[nodiscard]] bool has_majority() const noexcept { return 2 * answered > known; }
  [[nodiscard]] bool is_calm_majority() const noexcept { return is_calm && has_majority(); }
};

class Witness {
 public:
  static constexpr std::size_t kCandidatesMax = 64;
  static constexpr Duration kForgetAfter = std::chrono::seconds{60};

  explicit Witness(bool has_sentinels) : has_sentinels_(has_sentinels) {}

  // S is on a server of this branch. What is known of the candidates stays if it is the branch that
  // was followed before; the master's own list is asked for anew either way.
  // All that is known of `former_replication_id` comes with the master's first answer.
  void follow(std::string_view replication_id);

  // The master's answer has come; answers to questions that were sent at `asked_at`; no answer.
  void master_said(const ReplicationState& said, TimePoint now);
  void candidate_said(std::string_view address, const ReplicationState& said, TimePoint asked_at);
  void candidate_silent(std::string_view address, TimePoint now);
  void sentinels_said(const SentinelRound& round, TimePoint asked_at);

  // Whom to ask, in a fixed order.
  [[nodiscard]] std::vector<std::string> candidates() const;
  // Whether the Sentinels must be asked, too: their list has not been seen, or the candidates by
  // themselves are no proof.
  [[nodiscard]] bool needs_sentinels() const;

  struct Proof {
    // Nobody else took a write before this. TimePoint::max(): there is nobody else that we know of.
    // nullopt: not known; `why_not` says why.
    std::optional<TimePoint> at{};
    WitnessMode mode = WitnessMode::kNone;
    std::string why_not{};
    bool is_deposed = false;  // It is known that somebody else was promoted.
  };
  // The newest proof that is at least as strong as `mode_min`.
  [[nodiscard]] Proof proof(WitnessMode mode_min) const;

 private:
  enum class Answer : std::uint8_t {
    kNone,
    kItself,
    kFollows,
    kElsewhere,
    kDeposesUs,
    kLost,
    kRival
  };

  struct Candidate {
    Answer answer = Answer::kNone;  // The last.
    TimePoint asked_at{};           // When that was asked for.
    // It has not answered since the branch is followed in this epoch.
    bool is_silent = true;
    bool is_late = false;       // It owes an answer, or has failed to give the last one.
    bool has_followed = false;  // Our branch, by its own word or the master's.
    bool is_listed = false;     // By the master, when it was last asked.
    bool is_listed_by_sentinels = false;
    std::size_t down_count = 0;                 // In the last Sentinels' round.
    std::optional<TimePoint> unlisted_since{};  // By the master. Nothing: it is, or is not known.
    std::optional<TimePoint> gone_since{};      // Unlisted, and not to be seen following.

    [[nodiscard]] bool is_on_time() const noexcept { return !is_silent && !is_late; }
    [[nodiscard]] bool is_good() const noexcept {
      return !is_silent && (answer == Answer::kItself || answer == Answer::kFollows ||
                            answer == Answer::kElsewhere);
    }
  };

  [[nodiscard]] Candidate* find_or_add(std::string_view address);
  [[nodiscard]] Answer judge(const Candidate& candidate, const ReplicationState& said) const;
  [[nodiscard]] bool is_overfull() const { return masters_list_is_cut_ || sentinels_list_is_cut_; }
  [[nodiscard]] bool has_witness() const;
  [[nodiscard]] bool sentinels_are_calm() const { return round_ && round_->is_calm_majority(); }
  [[nodiscard]] bool sentinels_vouch_for(const Candidate& candidate) const;
  [[nodiscard]] bool is_seen_down(const Candidate& candidate) const;
  [[nodiscard]] bool has_left(const Candidate& candidate) const;
  void forget_gone(TimePoint now);
  [[nodiscard]] Proof proof_of_replicas() const;
  [[nodiscard]] Proof proof_of_others(WitnessMode mode_min) const;
  [[nodiscard]] std::string why_not_replicas() const;

  const bool has_sentinels_;
  std::string replication_id_;
  std::string former_replication_id_;
  std::map<std::string, Candidate, std::less<>> candidates_;
  bool masters_list_is_cut_ = false;    // The last one had more than there was room for.
  bool sentinels_list_is_cut_ = false;  // Likewise.
  bool has_masters_list_ = false;       // In this epoch.
  bool is_seeded_ = false;              // A majority of the Sentinels was heard for this branch.
  std::optional<SentinelRound> round_;  // The last one.
  TimePoint round_at_{};
};

}  // namespace tiercel::coherence
