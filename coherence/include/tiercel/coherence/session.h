#pragma once

// Session: the coherence protocol of one instance, as a function of (state, event, now) to actions.
//
// It learns what happens to the two links (S, the subscribed stream, and D, the data connection)
// and what the master, its replicas and the Sentinels answer; it decides what to ask, when the
// lease holds, when an epoch ends, whether L1 outlives it, and what a message does to L1. It does
// no I/O, reads no clock, holds no lock and starts no thread: the cache runs it on the loop thread
// under real time, the simulator under its own. Events must come from one thread at a time, with a
// `now` that never goes back. docs/design/coherence.md has the protocol, the invariants and the
// proof.
//
// Lease. It holds until F + Δ, where F is the oldest of these, each the send time of a question
// that was answered:
//   the ping on S         everything published before it was processed has arrived;
//   the question on D     "are you still the master of this branch of history?";
//   the witness           nobody else was promoted from this branch (witness.h).
// All are asked together every Δ/5, one question of each kind outstanding at a time; a late answer
// counts from its send time, so it proves nothing that it should not. A ping unanswered for
// stream_timeout makes the session redial S. Nothing is granted while D is known to be on another
// server than S, before the epoch has joined the history, and while invalidations wait to be
// replayed.
//
// Epoch. It begins when S is up and ends when S is lost, or when the server turns out to be no
// master of the same branch any more. A mere lapse of the lease drops nothing: on an unbroken
// stream the next proofs make all entries good again.
//
// Joining. A new epoch bars every fill under way, and L1 does not answer until it has joined the
// history: S is subscribed first, then D is asked for what the history holds from the last message
// on that was processed. If that entry is still there, with the same origin and nonce, the server
// shares our past: what follows is applied, and L1 stays warm, but for the keys that are ahead
// (ahead_keys.h): they may be of a lost branch. The lease waits for the master to say, after that,
// that it is the master of the branch still.
// If it is not there, all of L1 goes, in O(1). Versions of different branches are never compared.
//
// Messages. On one stream versions rise. One that does not means that the history was reset
// (FLUSHALL, a clock set back): versions no longer order anything, so L1 is dropped. What was
// published between SUBSCRIBE and the page of the history comes twice; that is no reset.
//
// Foreign writers. Where S observes them too, history is not all that happened, so each new epoch
// drops L1.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/coherence/ahead_keys.h"
#include "tiercel/coherence/version.h"
#include "tiercel/coherence/witness.h"

namespace tiercel::coherence {

struct SessionOptions {
  // Δ, how old an answer from L1 can be. 20 ms to 60 s. Less is fresher and costs more questions (5
  // of each kind in each Δ) and more lapses on a slow network or a busy machine.
  Duration lease = std::chrono::milliseconds{500};
  // A ping unanswered for so long gives S up. Δ to 10 min. It should exceed the hiccups that are
  // normal (a slow script, a fork, CLIENT PAUSE).
  Duration stream_timeout = std::chrono::seconds{2};
  // Whether there are Sentinels to ask, and the weakest witness that a lease may rest on.
  // kSentinels is refused where there are none.
  bool has_sentinels = false;
  WitnessMode witness_min = WitnessMode::kNone;
  // S also reports every change of the namespace's values, whoever makes it.
  bool observes_foreign_writers = false;
};

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const SessionOptions& options);

// Who answered on a link before it was used.
struct Server {
  std::string name{};  // For people: "127.0.0.1:6379".
  std::string run_id{};
  std::string replication_id{};

  // The same process in the same life on the same branch of history, whatever its address is
  // called.
  [[nodiscard]] bool same_as(const Server& other) const {
    return run_id == other.run_id && replication_id == other.replication_id;
  }
};

// kKeys: these keys changed. kTags: whatever carries one of these tags. kClear: everything that is
// older than `version`. kAll: anything may have changed (a message of a newer release, or damaged).
// kNone: nothing that L1 holds.
enum class ChangeKind : std::uint8_t { kKeys, kTags, kClear, kAll, kNone };

// A message, decoded. (origin, nonce) names it.
struct Change {
  ChangeKind kind = ChangeKind::kNone;
  Version version = kVersionUnknown;
  std::uint64_t origin = 0;
  std::uint64_t nonce = 0;
  std::vector<std::string> keys{};     // Or tags.
  std::optional<std::string> value{};  // Of the one key, as it is stored after the version.
};

// An answer to kAskHistory: entries of the history in order, each as the message that it holds.
struct HistoryPage {
  std::vector<Change> entries{};
  bool is_last = true;  // There is nothing after it.
};

// What the surroundings must do, in the order given.
struct Action {
  enum class Kind : std::uint8_t {
    kSendPing,      // `token` on S.
    kAskMaster,     // INFO replication on D; data_said or data_silent with `token`.
    kAskCandidate,  // The same of the server at `address`; candidate_said or candidate_silent.
    kAskSentinels,  // Ask all of them; sentinels_said with `token`, always.
    // The history on D from `version` on, that entry included, at most `count`; unknown: only the
    // newest entry, and, before it is asked, all that must be known before a first fill (tags;
    // this instance's Δ is registered). history_said or history_silent with `token`.
    kAskHistory,
    kRedialStream,  // Close S and dial again; stream_down follows. `reason` is for the log.
    kLeaveMaster,   // Likewise, and D: the server is not the master that it was.
    kBarFills,      // FillTable::mark_all. L1 stays.
    kDropAll,       // kBarFills, then clear L1. `reason` is for the log.
    kEvict,         // FillTable::mark(key, version), then drop the key from L1 unless that new.
    kRefresh,       // As kEvict, but if L1 has the key, older, it gets `value` in its place.
    kTag,           // TagTable::invalidate(key, version): entries that carry tag `key`.
    kClear,         // TagTable::clear(version), then kDropAll.
  };
  Kind kind = Kind::kDropAll;
  std::uint64_t token = 0;
  std::string reason{};
  std::string key{};
  Version version = kVersionUnknown;
  std::size_t count = 0;
  std::string address{};
  std::string value{};
};
using Actions = std::vector<Action>;

class Session {
 public:
  // Entries of the history asked for at a time.
  static constexpr std::size_t kHistoryPage = 512;

  explicit Session(SessionOptions options);  // Validated ones.

  // Each appends what is to be done to `actions`, to be carried out before the next event is given.
  // When lease_until() falls, the surroundings must publish that before they carry the actions out.
  void stream_up(const Server& server, TimePoint now, Actions& actions);
  void stream_down(TimePoint now, Actions& actions);
  void data_up(const Server& server, TimePoint now, Actions& actions);
  void data_down(TimePoint now, Actions& actions);
  void pong(std::uint64_t token, TimePoint now, Actions& actions);
  void ping_refused(TimePoint now, Actions& actions);
  void message(Change change, TimePoint now, Actions& actions);
  // What S reports of foreign writers: keys of values that changed, by whomever.
  void foreign_change(std::vector<std::string> keys, TimePoint now, Actions& actions);
  void foreign_flush(TimePoint now, Actions& actions);

  void data_said(std::uint64_t token, const ReplicationState& said, TimePoint now,
                 Actions& actions);
  void data_silent(std::uint64_t token, TimePoint now, Actions& actions);
  void candidate_said(std::string_view address, std::uint64_t token, const ReplicationState& said,
                      TimePoint now, Actions& actions);
  void candidate_silent(std::string_view address, std::uint64_t token, TimePoint now,
                        Actions& actions);
  void sentinels_said(std::uint64_t token, const SentinelRound& round, TimePoint now,
                      Actions& actions);
  void history_said(std::uint64_t token, HistoryPage page, TimePoint now, Actions& actions);
  void history_silent(std::uint64_t token, TimePoint now, Actions& actions);

  // Invalidations that could not be sent wait (true), or have all been acknowledged (false).
  void replay_waits(bool waits, TimePoint now, Actions& actions);

  void tick(TimePoint now, Actions& actions);

  // A value of this version goes into L1.
  void note_fill(std::string_view key, Version version);

  // Whether everything up to this version is applied.
  [[nodiscard]] bool has_reached(Version version) const { return position_.version >= version; }
  [[nodiscard]] bool is_on(const Server& server) const {
    return stream_ && stream_->same_as(server);
  }
  // Whether the answer to this question still counts.
  [[nodiscard]] bool awaits_history(std::uint64_t token) const {
    return history_question_ && history_question_->token == token;
  }

  // When tick() has something to do next; nothing while S is down.
  [[nodiscard]] std::optional<TimePoint> next_tick() const;

  // Until when L1 may answer; TimePoint{} when it may not.
  [[nodiscard]] TimePoint lease_until() const { return lease_until_; }
  // F: what L1 holds reflects all that was acknowledged before. Also true while there is no lease,
  // as long as L1 was not dropped since; then TimePoint{}.
  [[nodiscard]] TimePoint proven_at() const { return proven_at_; }
  // What the lease rests on, and why there is none or no newer one ("" where all is well).
  [[nodiscard]] WitnessMode witness_mode() const { return witness_mode_; }
  [[nodiscard]] const std::string& why_no_lease() const { return why_no_lease_; }

  // True while what D delivers now may be put into L1: the epoch has joined the history, and both
  // links are on the same server.
  [[nodiscard]] bool fills_allowed() const;

  [[nodiscard]] bool stream_is_up() const { return stream_.has_value(); }
  // "RUNID:REPLID:COUNTER", the ids cut to 8 characters; empty while S is down.
  [[nodiscard]] std::string epoch() const;
  [[nodiscard]] std::string server_name() const;  // S's server; empty while S is down.
  [[nodiscard]] std::uint64_t epochs() const { return epochs_; }
  // How many of them began with L1 kept.
  [[nodiscard]] std::uint64_t epochs_warm() const { return epochs_warm_; }
  // Of the candidates, those whom to keep a connection to.
  [[nodiscard]] std::vector<std::string> candidates() const { return witness_.candidates(); }

 private:
  // Where in the history L1 is: everything up to this message is applied.
  struct Position {
    Version version = kVersionUnknown;
    std::uint64_t origin = 0;
    std::uint64_t nonce = 0;

    friend bool operator==(const Position&, const Position&) = default;
  };
  struct Question {
    std::uint64_t token = 0;
    TimePoint sent_at{};
  };
  struct CandidateQuestion {
    std::optional<Question> outstanding{};
    std::uint64_t round = 0;  // In which it was asked last.
  };
  // kUnknown: not known whether the server shares our past; kCatchingUp: it does, and some of what
  // we missed is still to be applied; kCold: L1 is empty, and where the history stands is asked.
  enum class Joining : std::uint8_t { kUnknown, kCatchingUp, kCold, kJoined };

  [[nodiscard]] static Position position_of(const Change& change) {
    return {change.version, change.origin, change.nonce};
  }
  [[nodiscard]] bool links_agree() const { return stream_ && data_ && stream_->same_as(*data_); }
  [[nodiscard]] bool links_disagree() const {
    return stream_ && data_ && !stream_->same_as(*data_);
  }
  // True, and the question is over, if it is this one.
  [[nodiscard]] static std::optional<Question> take(std::optional<Question>& question,
                                                    std::uint64_t token);
  [[nodiscard]] Question ask(TimePoint now) { return {++last_token_, now}; }
  [[nodiscard]] Duration round_length() const;
  [[nodiscard]] bool took_a_round(const Question& question, TimePoint now) const;
  void begin_round(TimePoint now, Actions& actions);
  void send_ping(TimePoint now, Actions& actions);
  void ask_master(TimePoint now, Actions& actions);
  void ask_what_is_open(TimePoint now, Actions& actions);
  void ask_history(TimePoint now, Actions& actions);
  void renew(TimePoint now);
  void end_lease(std::string why);
  void start_cold(std::string reason, Actions& actions);
  void drop_all(std::string reason, Actions& actions);
  void join(TimePoint now, Actions& actions);
  void apply(Change change, Actions& actions);
  void apply_hard(Change change, Actions& actions);
  void redial(Action::Kind kind, std::string reason, Actions& actions);

  const SessionOptions options_;
  std::optional<Server> stream_;
  std::optional<Server> data_;  // Where D is, or was last while this stream has been up.
  bool data_is_up_ = false;
  bool is_redialling_ = false;  // Asked for, stream_down not yet seen.
  std::optional<TimePoint> disagree_since_;
  TimePoint next_round_at_{};  // Valid while stream_ is set.
  std::uint64_t round_ = 0;

  // Of this epoch: what is asked, and when what was answered was sent.
  std::optional<Question> ping_;
  std::optional<Question> master_question_;
  std::optional<Question> sentinels_question_;
  std::optional<Question> history_question_;
  std::map<std::string, CandidateQuestion, std::less<>> candidate_questions_;
  std::uint64_t sentinels_round_ = 0;
  std::optional<TimePoint> pong_at_;
  std::optional<TimePoint> master_at_;
  Joining joining_ = Joining::kUnknown;
  // Answers of the master to questions up to this one may be of before the history was read.
  std::uint64_t heard_history_at_token_ = 0;
  TimePoint history_again_at_{};  // After a question that was not answered.
  Position live_;                 // The newest message of this stream.
  // Messages that the last page held already may still come, until a ping that was sent after it
  // had joined (its token is greater than this) is answered.
  bool is_overlapping_ = false;
  std::uint64_t joined_at_token_ = 0;

  Position position_;  // All up to here is applied. Version unknown: of nothing.
  // The position when the last question was sent that the master answered as master of this branch:
  // up to here what S said is of this branch for certain. Where S is on a server that was turned
  // into a replica and has gone over to its master's branch, the rest is not. Joining begins here.
  Position confirmed_;
  Position asked_at_position_;  // Of the outstanding question to the master.
  AheadKeys ahead_;
  Witness witness_;
  bool replay_waits_ = false;
  TimePoint lease_until_{};
  TimePoint proven_at_{};
  WitnessMode witness_mode_ = WitnessMode::kNone;
  std::string why_no_lease_ = "not connected yet";
  std::uint64_t last_token_ = 0;
  std::uint64_t epochs_ = 0;
  std::uint64_t epochs_warm_ = 0;
};

}  // namespace tiercel::coherence
