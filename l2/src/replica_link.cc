// Invariants: sent_ holds one entry for each reply that is still to come, in order. The owner's
// calls come last in each function, since it may stop this link.

#include "replica_link.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "handshake.h"
#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr Duration kSweepInterval = std::chrono::milliseconds{5};

// Errors that say nothing about the read, only about this replica.
bool is_replicas_own(const Reply& reply) {
  for (const char* code : {"LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "DENIED"}) {
    if (reply.is_error(code)) return true;
  }
  return false;
}

}  // namespace

ReplicaLink::ReplicaLink(Owner& owner, Endpoint replica)
    : owner_(owner),
      replica_(std::move(replica)),
      backoff_(owner.redis().backoff_min, owner.redis().backoff_max),
      trouble_(unavailable("not connected yet", replica_.to_string())) {}

ReplicaLink::~ReplicaLink() = default;  // Not on the loop thread: stop() came before.

void ReplicaLink::start() { dial(); }

void ReplicaLink::stop() {
  abandon();
  owner_.loop().cancel(std::exchange(sweep_timer_, 0));
  return_reads();
}

void ReplicaLink::dial() {
  gate_.attempted(owner_.clock().now());
  const RedisOptions& redis = owner_.redis();
  Connection::Listener& listener = *this;  // The base is private, make_shared could not convert.
  connection_ =
      std::make_shared<Connection>(owner_.loop(),
                                   Connection::Options{replica_, redis.connect_timeout,
                                                       redis.response_timeout, owner_.server_tls()},
                                   listener, owner_.open_handles());
  timer_ = owner_.loop().run_after(redis.connect_timeout, [this] {
    timer_ = 0;
    redial(unavailable("no connection, or no handshake, in time", replica_.to_string()));
  });
  connection_->start();
}

void ReplicaLink::connection_ready() {
  const RedisOptions& redis = owner_.redis();
  const auto expect = [this](bool is_last) {
    Sent& sent = sent_.emplace_back();
    sent.kind = Sent::Kind::kGreeting;
    sent.is_last_greeting = is_last;
  };
  std::string wire = auth_wire(redis.credentials);
  if (!wire.empty()) expect(false);
  if (redis.database != 0) {
    append_request(wire, {"SELECT", std::to_string(redis.database)});
    expect(false);
  }
  append_request(wire, {"PING"});
  expect(true);
  connection_->write(wire);
}

void ReplicaLink::connection_reply(Reply reply) {
  if (sent_.empty()) {
    return redial(protocol_error("the replica sent a reply to nothing", replica_.to_string()));
  }
  Sent sent = std::move(sent_.front());
  sent_.pop_front();
  switch (sent.kind) {
    case Sent::Kind::kGreeting: break;
    case Sent::Kind::kSample: return take_sample(reply);
    case Sent::Kind::kRead: return take_answer(std::move(sent), std::move(reply));
  }
  if (reply.is_error()) {
    const auto why = explain_refusal("PING", reply.text, owner_.redis().credentials);
    return redial(unavailable(why ? *why : server_text(reply.text), replica_.to_string()));
  }
  if (!sent.is_last_greeting) return;
  owner_.loop().cancel(std::exchange(timer_, 0));
  is_up_ = true;
  trouble_.reset();
  backoff_.reset();
  sample();
}

void ReplicaLink::connection_lost(const Error& reason) { redial(reason); }

void ReplicaLink::abandon() {
  owner_.loop().cancel(std::exchange(timer_, 0));
  is_up_ = false;
  is_sampling_ = false;
  info_.reset();
  if (connection_ != nullptr) connection_->close();
  connection_.reset();
}

void ReplicaLink::redial(const Error& reason) {
  abandon();
  trouble_ = reason;
  const Duration wait = std::max(backoff_.next(owner_.random()), gate_.wait(owner_.clock().now()));
  timer_ = owner_.loop().run_after(wait, [this] {
    timer_ = 0;
    dial();
  });
  return_reads();
}

void ReplicaLink::return_reads() {
  for (Sent& sent : std::exchange(sent_, {})) {
    if (sent.read) owner_.read_returned(std::move(*sent.read));
  }
}

// Their late replies are still to come.
void ReplicaLink::take_back_reads() {
  std::vector<ReplicaRead> reads;
  for (Sent& sent : sent_) {
    if (!sent.read) continue;
    reads.push_back(std::move(*sent.read));
    sent.read.reset();
  }
  for (ReplicaRead& read : reads) owner_.read_returned(std::move(read));
}

void ReplicaLink::sample() {
  if (!is_up_ || std::exchange(is_sampling_, true)) return;
  std::string wire;
  append_request(wire, {"INFO", "replication"});
  Sent& sent = sent_.emplace_back();
  sent.kind = Sent::Kind::kSample;
  sent.at = asked_at_ = owner_.clock().now();
  connection_->write(wire);
  start_sweep();
}

void ReplicaLink::take_sample(const Reply& reply) {
  is_sampling_ = false;
  info_.reset();
  auto info = reply.is_string() ? parse_replication_info(reply.text) : std::nullopt;
  if (!info) {
    trouble_ = unavailable("INFO replication makes no sense", replica_.to_string());
  } else if (info->is_master) {
    trouble_ = unavailable("it is a master now", replica_.to_string());
  } else {
    // That it has lost its master is no trouble: it is as far behind as its offset says.
    trouble_.reset();
    info_ = std::move(info);
    sampled_at_ = owner_.clock().now();
  }
  owner_.sampled(*this);
}

void ReplicaLink::read(ReplicaRead read, const ReplicaLag& lag) {
  Sent& sent = sent_.emplace_back();
  sent.lag = lag;
  sent.at = owner_.clock().now();
  ++read.tries;
  sent.read = std::move(read);
  connection_->write(sent.read->command.wire());
  start_sweep();
}

void ReplicaLink::take_answer(Sent sent, Reply reply) {
  if (!sent.read) return;  // Its deadline has answered it.
  if (is_replicas_own(reply)) {
    info_.reset();  // Nothing more goes there until the next sample.
    trouble_ = unavailable(server_text(reply.text), replica_.to_string());
    return owner_.read_returned(std::move(*sent.read));
  }
  owner_.read_ended(std::move(*sent.read), ReplicaReply{std::move(reply), replica_, sent.lag});
}

void ReplicaLink::start_sweep() {
  if (sweep_timer_ != 0 || sent_.empty()) return;
  sweep_timer_ = owner_.loop().run_after(kSweepInterval, [this] {
    sweep_timer_ = 0;
    sweep();
    start_sweep();
  });
}

void ReplicaLink::sweep() {
  const TimePoint now = owner_.clock().now();
  std::vector<ReplicaRead> overdue;
  for (Sent& sent : sent_) {
    if (!sent.read || sent.read->deadline > now) continue;
    overdue.push_back(std::move(*sent.read));
    sent.read.reset();
  }
  if (is_silent()) take_back_reads();
  const auto limit = owner_.redis().response_timeout;
  if (!sent_.empty() && is_up_ && now - sent_.front().at > limit) {
    redial(
        unavailable("no reply for " + std::to_string(limit.count()) + " ms", replica_.to_string()));
  }
  for (ReplicaRead& read : overdue) {
    owner_.read_ended(std::move(read), unavailable("no reply in time", replica_.to_string()));
  }
}

}  // namespace tiercel::l2
