// Invariants: sent_ holds one entry for each reply that is still to come, in order. The owner's
// calls come last in each function, since it may stop this link.

#include "replica_link.h"

#include <utility>
#include <vector>

#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr Duration kSweepInterval = std::chrono::milliseconds{5};

// Errors that say nothing about the read, only about this replica.
bool is_replicas_own(const ReplyView& reply) {
  for (const char* code : {"LOADING", "MASTERDOWN", "NOAUTH", "NOPERM", "DENIED"}) {
    if (reply.is_error(code)) return true;
  }
  return false;
}

}  // namespace

ReplicaLink::ReplicaLink(Owner& owner, Endpoint replica)
    : KeptConnection(owner, std::move(replica), {.name = "tiercel-replica", .question = {"PING"}}),
      owner_(owner) {}

ReplicaLink::~ReplicaLink() = default;

void ReplicaLink::stop() {
  KeptConnection::stop();
  forget_sample();
  owner_.loop().cancel(std::exchange(sweep_timer_, 0));
  return_reads();
}

void ReplicaLink::kept_reply(const ReplyView& reply) {
  if (sent_.empty()) {
    return redial(protocol_error("the replica sent a reply to nothing", endpoint().to_string()));
  }
  Sent sent = std::move(sent_.front());
  sent_.pop_front();
  if (sent.is_sample) return take_sample(reply);
  take_answer(std::move(sent), reply);
}

void ReplicaLink::kept_down(const Error&) {
  forget_sample();
  return_reads();
}

void ReplicaLink::forget_sample() {
  is_sampling_ = false;
  info_.reset();
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
  if (!is_up() || std::exchange(is_sampling_, true)) return;
  std::string wire;
  append_request(wire, {"INFO", "replication"});
  Sent& sent = sent_.emplace_back();
  sent.is_sample = true;
  sent.at = asked_at_ = owner_.clock().now();
  write(wire);
  start_sweep();
}

void ReplicaLink::take_sample(const ReplyView& reply) {
  forget_sample();
  auto info = take_replication_info(reply, owner_.redis().credentials, endpoint());
  if (!info) {
    set_trouble(info.error());
  } else if (info->is_master) {
    set_trouble(unavailable("it is a master now", endpoint().to_string()));
  } else {
    // That it has lost its master is no trouble: it is as far behind as its offset says.
    set_trouble(std::nullopt);
    info_ = std::move(*info);
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
  write(sent.read->command.wire());
  start_sweep();
}

void ReplicaLink::take_answer(Sent sent, const ReplyView& reply) {
  if (!sent.read) return;  // Its deadline has answered it.
  if (is_replicas_own(reply)) {
    info_.reset();  // Nothing more goes there until the next sample.
    set_trouble(unavailable(server_text(reply.text()), endpoint().to_string()));
    return owner_.read_returned(std::move(*sent.read));
  }
  owner_.read_ended(std::move(*sent.read), ReplicaReply{reply.to_reply(), endpoint(), sent.lag});
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
  if (!sent_.empty() && is_up() && now - sent_.front().at > limit) {
    redial(unavailable("no reply for " + std::to_string(limit.count()) + " ms",
                       endpoint().to_string()));
  }
  for (ReplicaRead& read : overdue) {
    owner_.read_ended(std::move(read), unavailable("no reply in time", endpoint().to_string()));
  }
}

}  // namespace tiercel::l2
