#include "tiercel/coherence/session.h"

#include <algorithm>
#include <utility>

#include "tiercel/base/chaos_hooks.h"

// Invariants:
//   lease_until_ is not TimePoint{} only while stream_ is set and joining_ is kJoined: the lease
//   never outlives its epoch;
//   every question and every time of an answer belongs to the present stream_: an answer of an
//   earlier epoch finds no question;
//   L1 reflects the history up to position_, and what of it is newer is in ahead_. Where position_
//   is unknown, L1 is empty or all of it is in ahead_, or an epoch will begin cold. What came in
//   since the master was last asked is in ahead_ whatever its version.

namespace tiercel::coherence {
namespace {

constexpr int kRoundsPerLease = 5;
// With a long lease, too, a server that becomes a replica, or is given one, is to be noticed soon.
constexpr Duration kRoundMax = std::chrono::seconds{1};

std::string range_text(std::string_view field, Duration given, std::string_view range) {
  return std::string{field} + " is " + std::to_string(to_milliseconds(given)) + " ms; it must be " +
         std::string{range};
}

Action action(Action::Kind kind, std::uint64_t token = 0) { return {.kind = kind, .token = token}; }

}  // namespace

Result<void> validate(const SessionOptions& options) {
  using namespace std::chrono_literals;
  if (options.lease < 20ms || options.lease > 60s) {
    return invalid_argument(range_text(
        "lease", options.lease,
        "20 ms to 60 s: a shorter one lapses at every hiccup of a scheduler, a longer one "
        "bounds nothing worth having"));
  }
  if (options.stream_timeout < options.lease || options.stream_timeout > 10min) {
    return invalid_argument(range_text("stream_timeout", options.stream_timeout,
                                       "at least the lease and at most 10 min"));
  }
  if (options.witness_min == WitnessMode::kSentinels && !options.has_sentinels) {
    return invalid_argument("witness_min is sentinels, but there are no Sentinels to ask");
  }
  return {};
}

Session::Session(SessionOptions options) : options_(options), witness_(options.has_sentinels) {}

// --- links

void Session::stream_up(const Server& server, TimePoint now, Actions& actions) {
  stream_ = server;
  is_redialling_ = false;
  ++epochs_;
  end_lease("the epoch has just begun");
  ping_.reset();
  master_question_.reset();
  sentinels_question_.reset();
  history_question_.reset();
  candidate_questions_.clear();
  pong_at_.reset();
  master_at_.reset();
  disagree_since_.reset();
  joining_ = Joining::kUnknown;
  history_again_at_ = TimePoint{};
  live_ = {};
  position_ = confirmed_;
  if (!data_is_up_) data_.reset();  // Where D was says nothing about where it will be.
  witness_.follow(server.replication_id);
  // What was read before S was subscribed is not vouched for by what S will say.
  actions.push_back(action(Action::Kind::kBarFills));
  if (options_.observes_foreign_writers) {
    start_cold("foreign writers were not observed for a while", actions);
  } else if (position_.version == kVersionUnknown) {
    start_cold("new epoch " + epoch(), actions);
  } else if (ahead_.has_overflowed()) {
    start_cold("too much was ahead of the stream", actions);
  }
  begin_round(now, actions);
}

void Session::stream_down(TimePoint, Actions& actions) {
  is_redialling_ = false;
  if (!stream_) return;
  stream_.reset();
  disagree_since_.reset();
  end_lease("the stream is down");
  actions.push_back(action(Action::Kind::kBarFills));
}

void Session::data_up(const Server& server, TimePoint now, Actions& actions) {
  if (data_ && !data_->same_as(server)) {
    // What was read there may still be on its way into L1.
    actions.push_back(action(Action::Kind::kBarFills));
  }
  data_ = server;
  data_is_up_ = true;
  master_question_.reset();
  history_question_.reset();
  if (links_disagree()) {
    // Nothing that D delivered before may be vouched for by a server that turns out to be another
    // one.
    end_lease("the data connection is on another server than the stream");
    master_at_.reset();
  } else {
    // Kept through a loss of D: one that comes back to the other server again and again does not
    // put the redial off for ever.
    disagree_since_.reset();
  }
  tick(now, actions);
  ask_what_is_open(now, actions);
}

void Session::data_down(TimePoint, Actions&) { data_is_up_ = false; }

void Session::redial(Action::Kind kind, std::string reason, Actions& actions) {
  is_redialling_ = true;
  end_lease(reason);
  actions.push_back({.kind = kind, .reason = std::move(reason)});
}

// --- questions

std::optional<Session::Question> Session::take(std::optional<Question>& question,
                                               std::uint64_t token) {
  if (!question || question->token != token) return std::nullopt;
  return std::exchange(question, std::nullopt);
}

Duration Session::round_length() const {
  return std::min<Duration>(options_.lease / kRoundsPerLease, kRoundMax);
}

// Where an answer takes longer than a round, the next question leaves with it.
bool Session::took_a_round(const Question& question, TimePoint now) const {
  return now >= question.sent_at + round_length();
}

void Session::send_ping(TimePoint now, Actions& actions) {
  ping_ = ask(now);
  actions.push_back(action(Action::Kind::kSendPing, ping_->token));
}

void Session::ask_master(TimePoint now, Actions& actions) {
  if (master_question_ || !links_agree() || !data_is_up_) return;
  master_question_ = ask(now);
  asked_at_position_ = {};
  if (joining_ == Joining::kJoined) {
    asked_at_position_ = position_;
    ahead_.asked();
  }
  actions.push_back(action(Action::Kind::kAskMaster, master_question_->token));
}

// All are asked together, so that none is much older than the others.
void Session::begin_round(TimePoint now, Actions& actions) {
  ++round_;
  next_round_at_ = now + round_length();
  if (!ping_) send_ping(now, actions);
  for (auto& [address, question] : candidate_questions_) {
    // A late answer still counts.
    if (question.outstanding && took_a_round(*question.outstanding, now)) {
      witness_.candidate_silent(address, now);
    }
  }
  ask_master(now, actions);
  ask_what_is_open(now, actions);
}

// Those that were not asked in this round yet: they have become known, or necessary, only now.
void Session::ask_what_is_open(TimePoint now, Actions& actions) {
  if (!stream_ || is_redialling_) return;
  const auto candidates = witness_.candidates();
  std::erase_if(candidate_questions_, [&](const auto& entry) {
    return !std::binary_search(candidates.begin(), candidates.end(), entry.first);
  });
  for (const std::string& address : candidates) {
    CandidateQuestion& question = candidate_questions_[address];
    if (question.outstanding || question.round == round_) continue;
    question.round = round_;
    question.outstanding = ask(now);
    Action to_ask = action(Action::Kind::kAskCandidate, question.outstanding->token);
    to_ask.address = address;
    actions.push_back(std::move(to_ask));
  }
  if (!sentinels_question_ && sentinels_round_ != round_ && witness_.needs_sentinels()) {
    sentinels_round_ = round_;
    sentinels_question_ = ask(now);
    actions.push_back(action(Action::Kind::kAskSentinels, sentinels_question_->token));
  }
  if (!master_at_) ask_master(now, actions);
  ask_history(now, actions);
}

void Session::pong(std::uint64_t token, TimePoint now, Actions& actions) {
  const auto question = take(ping_, token);
  if (!question) return;
  pong_at_ = question->sent_at;
  if (question->token > joined_at_token_) is_overlapping_ = false;
  renew(now);
  tick(now, actions);
  if (stream_ && !is_redialling_ && !ping_ && took_a_round(*question, now)) send_ping(now, actions);
}

// The server lives and answered in order, but an error is no evidence. The next round asks again.
void Session::ping_refused(TimePoint, Actions&) { ping_.reset(); }

void Session::data_said(std::uint64_t token, const ReplicationState& said, TimePoint now,
                        Actions& actions) {
  const auto question = take(master_question_, token);
  if (!question || !stream_ || is_redialling_) return;
  if (!said.is_master || said.replication_id != stream_->replication_id) {
    return redial(Action::Kind::kLeaveMaster,
                  said.is_master ? "the master was demoted and promoted again"
                                 : "the master has become a replica",
                  actions);
  }
  if (question->token > heard_history_at_token_) master_at_ = question->sent_at;
  if (asked_at_position_.version != kVersionUnknown) {
    confirmed_ = asked_at_position_;
    ahead_.reached(confirmed_.version);
  }
  witness_.master_said(said, now);
  if (took_a_round(*question, now)) ask_master(now, actions);
  ask_what_is_open(now, actions);
  renew(now);
}

void Session::data_silent(std::uint64_t token, TimePoint, Actions&) {
  static_cast<void>(take(master_question_, token));
}

void Session::candidate_said(std::string_view address, std::uint64_t token,
                             const ReplicationState& said, TimePoint now, Actions& actions) {
  const auto asked = candidate_questions_.find(address);
  if (asked == candidate_questions_.end()) return;
  const auto question = take(asked->second.outstanding, token);
  if (!question || !stream_) return;
  witness_.candidate_said(address, said, question->sent_at);
  if (took_a_round(*question, now)) asked->second.round = 0;
  ask_what_is_open(now, actions);
  renew(now);
}

void Session::candidate_silent(std::string_view address, std::uint64_t token, TimePoint now,
                               Actions& actions) {
  const auto asked = candidate_questions_.find(address);
  if (asked == candidate_questions_.end()) return;
  if (!take(asked->second.outstanding, token) || !stream_) return;
  witness_.candidate_silent(address, now);
  ask_what_is_open(now, actions);
}

void Session::sentinels_said(std::uint64_t token, const SentinelRound& round, TimePoint now,
                             Actions& actions) {
  const auto question = take(sentinels_question_, token);
  if (!question || !stream_) return;
  witness_.sentinels_said(round, question->sent_at);
  if (took_a_round(*question, now)) sentinels_round_ = 0;
  ask_what_is_open(now, actions);
  renew(now);
}

void Session::tick(TimePoint now, Actions& actions) {
  if (!stream_ || is_redialling_) return;
  if (ping_ && now >= ping_->sent_at + options_.stream_timeout) {
    return redial(
        Action::Kind::kRedialStream,
        "no pong within " + std::to_string(to_milliseconds(options_.stream_timeout)) + " ms",
        actions);
  }
  if (links_disagree()) {
    if (!disagree_since_) disagree_since_ = now;
    if (now >= *disagree_since_ + options_.stream_timeout) {
      if (stream_->run_id == data_->run_id) {
        return redial(Action::Kind::kLeaveMaster,
                      "the server's replication id has changed between the dials of the two links",
                      actions);
      }
      return redial(Action::Kind::kRedialStream,
                    "the stream is on another server than the data connection", actions);
    }
  }
  if (now >= next_round_at_) return begin_round(now, actions);
  if (joining_ != Joining::kJoined) ask_history(now, actions);
}

std::optional<TimePoint> Session::next_tick() const {
  if (!stream_ || is_redialling_) return std::nullopt;
  TimePoint next = next_round_at_;
  if (ping_) next = std::min(next, ping_->sent_at + options_.stream_timeout);
  return next;
}

// --- lease

void Session::renew(TimePoint now) {
  if (!stream_ || is_redialling_ || links_disagree()) return;
  if (joining_ != Joining::kJoined) {
    why_no_lease_ = "the history has not been joined yet";
    return;
  }
  if (replay_waits_) {
    why_no_lease_ = "invalidations that could not be sent wait to be replayed";
    return;
  }
  if (!pong_at_ || !master_at_) {
    why_no_lease_ = "the master has not proven itself yet";
    return;
  }
#ifdef TIERCEL_CHAOS_HOOKS
  const Witness::Proof proof = chaos_hooks().lease_by_pings_alone
                                   ? Witness::Proof{.at = TimePoint::max()}
                                   : witness_.proof(options_.witness_min);
#else
  const Witness::Proof proof = witness_.proof(options_.witness_min);
#endif
  if (!proof.at) {
    if (proof.is_deposed) return end_lease(proof.why_not);
    why_no_lease_ = proof.why_not;
    return;
  }
  if (const TimePoint at = std::min({*pong_at_, *master_at_, *proof.at}); at >= proven_at_) {
    proven_at_ = at;
    witness_mode_ =
        proof.mode;  // An older proof, of another kind perhaps, is not what it rests on.
  }
  lease_until_ = proven_at_ + options_.lease;
  why_no_lease_ = lease_until_ > now ? "" : "the answers take longer than the lease";
}

void Session::end_lease(std::string why) {
  lease_until_ = TimePoint{};
  why_no_lease_ = std::move(why);
}

void Session::replay_waits(bool waits, TimePoint now, Actions&) {
  replay_waits_ = waits;
  renew(now);
}

bool Session::fills_allowed() const {
  return joining_ == Joining::kJoined && data_is_up_ && links_agree() && !is_redialling_;
}

// --- history

void Session::ask_history(TimePoint now, Actions& actions) {
  if (joining_ == Joining::kJoined || history_question_ || now < history_again_at_) return;
  if (!links_agree() || !data_is_up_) return;
  history_question_ = ask(now);
  Action to_ask = action(Action::Kind::kAskHistory, history_question_->token);
  const bool is_cold = joining_ == Joining::kCold;
  to_ask.version = is_cold ? kVersionUnknown : position_.version;
  to_ask.count = is_cold ? 1 : kHistoryPage;
  actions.push_back(std::move(to_ask));
}

void Session::history_said(std::uint64_t token, HistoryPage page, TimePoint now, Actions& actions) {
  if (!take(history_question_, token) || !stream_ || is_redialling_) return;
  // It is this branch's if the server, asked after it, is still its master.
  heard_history_at_token_ = last_token_;
  master_at_.reset();
  if (joining_ == Joining::kCold) {
    if (!page.entries.empty()) position_ = position_of(page.entries.back());
    return join(now, actions);
  }
  if (page.entries.empty() || position_of(page.entries.front()) != position_) {
    start_cold("the server does not share our past", actions);
    return ask_history(now, actions);
  }
  if (joining_ == Joining::kUnknown) {
    joining_ = Joining::kCatchingUp;
    for (std::string& key : ahead_.take()) {
      actions.push_back({.kind = Action::Kind::kEvict, .key = std::move(key)});
    }
  }
  for (auto entry = page.entries.begin() + 1; entry != page.entries.end(); ++entry) {
    const Position reached = position_of(*entry);
    apply(std::move(*entry), actions);
    position_ = reached;
  }
  if (page.is_last) {
    ++epochs_warm_;
    return join(now, actions);
  }
  ask_history(now, actions);
}

void Session::history_silent(std::uint64_t token, TimePoint now, Actions&) {
  if (!take(history_question_, token)) return;
  history_again_at_ = now + round_length();
}

void Session::join(TimePoint now, Actions& actions) {
  joining_ = Joining::kJoined;
  is_overlapping_ = true;
  joined_at_token_ = last_token_;
  // S was subscribed before the history was asked: nothing lies between the two.
  if (live_.version > position_.version) position_ = live_;
  renew(now);
  ask_what_is_open(now, actions);
}

void Session::start_cold(std::string reason, Actions& actions) {
  joining_ = Joining::kCold;
  position_ = confirmed_ = asked_at_position_ = {};
  proven_at_ = TimePoint{};
  drop_all(std::move(reason), actions);
}

void Session::drop_all(std::string reason, Actions& actions) {
  ahead_.clear();
  actions.push_back({.kind = Action::Kind::kDropAll, .reason = std::move(reason)});
}

void Session::note_fill(std::string_view key, Version version) {
  if (options_.observes_foreign_writers) return;  // Each of its epochs begins with nothing.
  ahead_.add(key, version);
}

// --- changes

void Session::message(Change change, TimePoint now, Actions& actions) {
  if (!stream_ || change.kind == ChangeKind::kNone) return;
  const Position position = position_of(change);
  const bool is_versioned = change.version != kVersionUnknown;
  const bool rises = !is_versioned || change.version > live_.version;
  if (is_versioned) live_ = position;
  if (joining_ != Joining::kJoined) {
    if (!rises) {
      history_question_.reset();
      start_cold("the history was reset", actions);
      ask_history(now, actions);
    }
    // Whether its version can be compared with those in L1 is not known yet.
    return apply_hard(std::move(change), actions);
  }
  if (is_versioned && change.version <= position_.version) {
    // The page that was joined last held it already, most likely. Or the history was reset just
    // now, so what it says is done whatever the version.
    if (is_overlapping_ && rises) {
      change.version = position_.version;
      return apply_hard(std::move(change), actions);
    }
    drop_all("the history was reset", actions);
    position_ = position;
    confirmed_ = asked_at_position_ = {};
    if (change.kind == ChangeKind::kKeys || change.kind == ChangeKind::kAll) return;
    return apply(std::move(change), actions);
  }
  apply(std::move(change), actions);
  if (is_versioned) position_ = position;
}

// Evicts whatever L1 has, of whichever version.
void Session::apply_hard(Change change, Actions& actions) {
  if (change.kind != ChangeKind::kKeys) return apply(std::move(change), actions);
  for (std::string& key : change.keys) {
    actions.push_back({.kind = Action::Kind::kEvict, .key = std::move(key)});
  }
}

void Session::apply(Change change, Actions& actions) {
  switch (change.kind) {
    case ChangeKind::kKeys:
      if (change.value && change.keys.size() == 1) {
        note_fill(change.keys.front(), change.version);
        actions.push_back({.kind = Action::Kind::kRefresh,
                           .key = std::move(change.keys.front()),
                           .version = change.version,
                           .value = std::move(*change.value)});
        return;
      }
      for (std::string& key : change.keys) {
        actions.push_back(
            {.kind = Action::Kind::kEvict, .key = std::move(key), .version = change.version});
      }
      return;
    case ChangeKind::kTags:
      for (std::string& tag : change.keys) {
        actions.push_back(
            {.kind = Action::Kind::kTag, .key = std::move(tag), .version = change.version});
      }
      return;
    case ChangeKind::kClear:
      ahead_.clear();
      actions.push_back({.kind = Action::Kind::kClear, .version = change.version});
      return;
    case ChangeKind::kAll: return drop_all("a change of unknown extent", actions);
    case ChangeKind::kNone: return;
  }
}

void Session::foreign_change(std::vector<std::string> keys, TimePoint, Actions& actions) {
  if (!stream_) return;
  for (std::string& key : keys) {
    actions.push_back({.kind = Action::Kind::kEvict, .key = std::move(key)});
  }
}

void Session::foreign_flush(TimePoint, Actions& actions) {
  if (stream_) drop_all("the database was flushed", actions);
}

// --- names

std::string Session::epoch() const {
  if (!stream_) return {};
  return stream_->run_id.substr(0, 8) + ':' + stream_->replication_id.substr(0, 8) + ':' +
         std::to_string(epochs_);
}

std::string Session::server_name() const { return stream_ ? stream_->name : std::string{}; }

}  // namespace tiercel::coherence
