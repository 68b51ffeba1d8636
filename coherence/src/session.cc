#include "tiercel/coherence/session.h"

#include <algorithm>
#include <utility>

// Invariants:
//   lease_until_ is not TimePoint{} only while stream_ is set: the lease never outlives its epoch;
//   outstanding_ belongs to the present stream_: a pong of an earlier connection finds no ping;
//   an action kDropAll is emitted at each begin and end of an epoch, so L1 never mixes two.

namespace tiercel::coherence {
namespace {

constexpr int kPingsPerLease = 5;

Action send_ping_action(std::uint64_t token) {
  return {.kind = Action::Kind::kSendPing, .token = token};
}
Action drop_all_action(std::string reason) {
  return {.kind = Action::Kind::kDropAll, .reason = std::move(reason)};
}

std::string range_text(std::string_view field, Duration given, std::string_view range) {
  return std::string{field} + " is " + std::to_string(to_milliseconds(given)) + " ms; it must be " +
         std::string{range};
}

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
  return {};
}

Session::Session(SessionOptions options) : options_(options) {}

void Session::stream_up(const Server& server, TimePoint now, Actions& actions) {
  stream_ = server;
  redialling_ = false;
  ++epochs_;
  lease_until_ = TimePoint{};
  forget_history(kVersionUnknown);
  outstanding_.reset();
  disagree_since_.reset();
  if (!data_is_up_) data_.reset();  // Where D was says nothing about where it will be.
  actions.push_back(drop_all_action("new epoch " + epoch()));
  send_ping(now, actions);
}

void Session::stream_down(TimePoint, Actions& actions) {
  redialling_ = false;
  if (!stream_) return;
  stream_.reset();
  outstanding_.reset();
  disagree_since_.reset();
  lease_until_ = TimePoint{};
  actions.push_back(drop_all_action("the stream was lost"));
}

void Session::data_up(const Server& server, TimePoint now, Actions& actions) {
  data_ = server;
  data_is_up_ = true;
  // Kept through a loss of D: one that comes back to the other server again and again does not put
  // the redial off for ever.
  if (!links_disagree()) disagree_since_.reset();
  // Nothing that D delivered before may be vouched for by a server that turns out to be another
  // one.
  if (links_disagree()) lease_until_ = TimePoint{};
  tick(now, actions);
}

void Session::data_down(TimePoint, Actions&) { data_is_up_ = false; }

void Session::pong(std::uint64_t token, TimePoint now, Actions& actions) {
  if (!outstanding_ || outstanding_->token != token) return;
  const TimePoint proven_at = outstanding_->sent_at;
  outstanding_.reset();
  if (!links_disagree()) lease_until_ = std::max(lease_until_, proven_at + options_.lease);
  tick(now, actions);
}

void Session::ping_refused(TimePoint now, Actions&) {
  // The server lives and answered in order, but an error is no evidence. Ask again at the usual
  // pace.
  outstanding_.reset();
  next_ping_at_ = std::max(next_ping_at_, now + options_.lease / kPingsPerLease);
}

void Session::message(Change change, TimePoint, Actions& actions) {
  if (!stream_) return;
  if (change.kind == ChangeKind::kNone) return;
  if (change.kind == ChangeKind::kAll) {
    actions.push_back(drop_all_action("a change of unknown extent"));
    last_version_ = std::max(last_version_, change.version);
    return;
  }
  if (change.version != kVersionUnknown && change.version <= last_version_) {
    actions.push_back(drop_all_action("the history was reset"));
    forget_history(change.version);
    return;
  }
  last_version_ = std::max(last_version_, change.version);
  const Version comparable = last_version_ >= fill_max_ ? change.version : kVersionUnknown;
  for (auto& key : change.keys) {
    actions.push_back({.kind = Action::Kind::kEvict, .key = std::move(key), .version = comparable});
  }
}

void Session::note_fill(Version version) {
  // Only before the first message: later, acknowledgements of our own writes run ahead of theirs.
  if (last_version_ == kVersionUnknown) fill_max_ = std::max(fill_max_, version);
}

void Session::forget_history(Version last_version) {
  last_version_ = last_version;
  fill_max_ = kVersionUnknown;
}

void Session::tick(TimePoint now, Actions& actions) {
  if (!stream_ || redialling_) return;
  if (outstanding_) {
    if (now >= outstanding_->sent_at + options_.stream_timeout) {
      redial("no pong within " + std::to_string(to_milliseconds(options_.stream_timeout)) + " ms",
             actions);
    }
    return;
  }
  if (links_disagree()) {
    if (!disagree_since_) disagree_since_ = now;
    if (now >= *disagree_since_ + options_.stream_timeout) {
      redial("the stream is on another server than the data connection", actions);
      return;
    }
  }
  if (now >= next_ping_at_) send_ping(now, actions);
}

std::optional<TimePoint> Session::next_tick() const {
  if (!stream_ || redialling_) return std::nullopt;
  if (outstanding_) return outstanding_->sent_at + options_.stream_timeout;
  return next_ping_at_;
}

bool Session::fills_allowed() const { return stream_ && data_is_up_ && stream_->same_as(*data_); }

std::string Session::epoch() const {
  if (!stream_) return {};
  return stream_->run_id.substr(0, 8) + ':' + stream_->replication_id.substr(0, 8) + ':' +
         std::to_string(epochs_);
}

std::string Session::server_name() const { return stream_ ? stream_->name : std::string{}; }

bool Session::links_disagree() const { return stream_ && data_ && !stream_->same_as(*data_); }

void Session::send_ping(TimePoint now, Actions& actions) {
  outstanding_ = Ping{.token = ++last_token_, .sent_at = now};
  next_ping_at_ = now + options_.lease / kPingsPerLease;
  actions.push_back(send_ping_action(last_token_));
}

void Session::redial(std::string reason, Actions& actions) {
  redialling_ = true;
  outstanding_.reset();
  lease_until_ = TimePoint{};
  actions.push_back({.kind = Action::Kind::kRedialStream, .reason = std::move(reason)});
}

}  // namespace tiercel::coherence
