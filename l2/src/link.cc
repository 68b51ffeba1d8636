// Invariants: connection_ is set exactly while dialing or up; handshake_ while dialing and before
// the heir's part; timer_ while waiting, due or dialing. Every way out of a state goes through
// abandon(), which closes the connection, cancels the timer and makes answers of the resolver
// stale. The heir is called last in each function, since it may redial.

#include "link.h"

#include <string>
#include <utility>

#include "dial_gate.h"
#include "master_finder.h"

namespace tiercel::l2 {
namespace {

// A link that was up for less than this many backoff_min keeps its place in the backoff: a server
// that accepts and then closes again and again must not be dialled at full speed.
constexpr int kStableAfterBackoffs = 10;

}  // namespace

Link::Link(Host& host, std::string_view name)
    : host_(host),
      name_(name),
      backoff_(host.redis().backoff_min, host.redis().backoff_max),
      trouble_(unavailable("not connected yet")) {}

Link::~Link() { abandon(); }

void Link::start() { resolve(); }

void Link::stop() { abandon(); }

void Link::abandon() {
  ++generation_;
  state_ = State::kStopped;
  if (timer_ != 0) host_.loop().cancel(std::exchange(timer_, 0));
  handshake_.reset();
  if (connection_ != nullptr) {
    link_leaving();
    connection_->close();
  }
  connection_.reset();
}

void Link::resolve() {
  state_ = State::kResolving;
  const std::uint64_t generation = generation_;
  host_.finder().resolve([this, generation](const Result<Resolution>& resolution) {
    if (generation != generation_) return;
    if (resolution) {
      become_due(*resolution, Duration{0});
    } else {
      give_up(resolution.error());
    }
  });
}

void Link::become_due(const Resolution& resolution, Duration delay) {
  state_ = State::kDue;
  identity_ = ServerIdentity{resolution.endpoint, {}, {}};
  only_if_ = resolution.only_if;
  if (delay == Duration{0}) return dial_when_let();
  timer_ = host_.loop().run_after(delay, [this] {
    timer_ = 0;
    dial_when_let();
  });
}

void Link::dial_when_let() {
  const Duration wait = host_.dial_gate().wait(host_.clock().now());
  if (!has_dialled_ || wait == Duration{0}) return dial();
  timer_ = host_.loop().run_after(wait, [this] {
    timer_ = 0;
    dial_when_let();
  });
}

void Link::dial() {
  const RedisOptions& redis = host_.redis();
  state_ = State::kDialing;
  has_dialled_ = true;
  has_met_master_ = false;
  const auto since = host_.dial_gate().attempted(host_.clock().now());
  host_.counters().connects_attempted.fetch_add(1, std::memory_order_relaxed);
  host_.log(
      LogLevel::kDebug,
      std::string{name_} + " link: dials " + endpoint_text() +
          (since ? ", " + std::to_string(to_milliseconds(*since)) + " ms after the last" : ""));
  Connection::Listener& listener = *this;  // The base is private, make_shared could not convert.
  connection_ =
      std::make_shared<Connection>(host_.loop(),
                                   Connection::Options{identity_.endpoint, redis.connect_timeout,
                                                       redis.response_timeout, host_.server_tls()},
                                   listener, host_.open_handles());
  timer_ = host_.loop().run_after(redis.connect_timeout, [this] {
    timer_ = 0;
    const std::string limit = std::to_string(host_.redis().connect_timeout.count()) + " ms";
    redial(unavailable("no connection, or no handshake, within " + limit +
                           std::string{connection_->silence_hint()},
                       endpoint_text()));
  });
  connection_->start();
}

void Link::connection_ready() {
  handshake_.emplace(host_.redis(), identity_.endpoint, "tiercel-" + std::string{name_});
  connection_->write(handshake_->wire());
}

void Link::connection_reply_view(const ReplyView& reply) {
  if (!handshake_) return link_reply(reply);
  const Handshake::Outcome outcome = handshake_->feed(reply.to_reply());
  if (outcome != Handshake::Outcome::kMore) finish_handshake(outcome);
}

void Link::finish_handshake(Handshake::Outcome outcome) {
  if (outcome == Handshake::Outcome::kMaster) {
    identity_ = handshake_->identity();
    handshake_.reset();
    has_met_master_ = true;
    if (only_if_ && *only_if_ != identity_) {
      return redial(unavailable(
          "it was restarted or promoted, and no Sentinel answers that could say whether it is the "
          "master"));
    }
    host_.finder().found_master(identity_);
    return link_handshaken();
  }
  const Error error = handshake_->error();
  const Endpoint endpoint = identity_.endpoint;
  redial(error);
  if (outcome == Handshake::Outcome::kNotMaster) host_.found_not_master(endpoint, error);
}

void Link::become_up() {
  host_.loop().cancel(std::exchange(timer_, 0));
  state_ = State::kUp;
  up_since_ = host_.clock().now();
  set_trouble(std::nullopt);
  last_logged_failure_.clear();
  host_.log(LogLevel::kInfo, std::string{name_} + " link up: " + endpoint_text());
  link_up(identity_);
}

void Link::connection_read_end(bool more) {
  if (is_up()) link_read_end(more);
}

void Link::connection_drained() { link_drained(); }

void Link::connection_lost(const Error& reason) {
  // What must be changed stays said so: the server's verdict on our certificate comes only now.
  if (handshake_ && reason.code != ErrorCode::kInvalidArgument) {
    return redial(unavailable("during the handshake: " + reason.message, endpoint_text()));
  }
  redial(reason);
}

void Link::redial(Error reason) {
  if (state_ == State::kStopped) return;
  if (reason.endpoint.empty()) reason.endpoint = endpoint_text();
  give_up(reason);
}

void Link::give_up(const Error& reason) {
  const bool was_up = is_up();
  const bool is_unreachable = state_ == State::kDialing && !has_met_master_;
  const Endpoint endpoint = identity_.endpoint;
  const Duration stable_after = host_.redis().backoff_min * kStableAfterBackoffs;
  if (was_up && host_.clock().now() - up_since_ >= stable_after) backoff_.reset();
  abandon();
  state_ = State::kWaiting;
  timer_ = host_.loop().run_after(backoff_.next(host_.random()), [this] {
    timer_ = 0;
    resolve();
  });
  set_trouble(reason);
  log_failure(reason);
  if (was_up) return link_down(reason);
  if (is_unreachable) host_.finder().found_unreachable(endpoint);
  host_.counters().connects_failed.fetch_add(1, std::memory_order_relaxed);
  link_failed(reason);
}

void Link::go_to(const Endpoint& master, Duration delay) {
  if (state_ == State::kStopped) return;
  const bool is_there = state_ == State::kDue || state_ == State::kDialing || state_ == State::kUp;
  if (is_there && endpoint() == master) return;
  const bool was_up = is_up();
  const Error reason = unavailable("the master is now " + master.to_string(), endpoint_text());
  if (identity_.endpoint != master) backoff_.reset();
  abandon();
  if (was_up) set_trouble(reason);
  become_due({master, 0, {}}, delay);
  if (was_up) link_down(reason);
}

void Link::log_failure(const Error& reason) {
  // The same failure again and again is said once.
  std::string text = std::string{name_} + " link: " + reason.to_string();
  const bool is_new = text != last_logged_failure_;
  host_.log(is_new ? LogLevel::kWarning : LogLevel::kDebug, text);
  last_logged_failure_ = std::move(text);
}

void Link::set_trouble(std::optional<Error> trouble) {
  MutexLock lock{trouble_mutex_};
  trouble_ = std::move(trouble);
}

std::optional<Error> Link::trouble() const {
  MutexLock lock{trouble_mutex_};
  return trouble_;
}

}  // namespace tiercel::l2
