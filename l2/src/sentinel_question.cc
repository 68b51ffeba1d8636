// Invariants: steps_ holds one entry for each reply that is still to come; it is empty while no
// question is under way. Whoever ends a question does so last, since `ended_` may destroy this.

#include "sentinel_question.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "handshake.h"
#include "resp_format.h"
#include "sentinel_event.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kMastersNamedMax = 8;

// Of the pairs of name and value that Sentinels answer with.
std::string_view field(const Reply& pairs, std::string_view name) {
  for (std::size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
    if (pairs.elements[i].text == name) return pairs.elements[i + 1].text;
  }
  return {};
}

}  // namespace

SentinelQuestion::SentinelQuestion(Host& host, Endpoint sentinel, Ended ended)
    : host_(host), sentinel_(std::move(sentinel)), ended_(std::move(ended)) {}

SentinelQuestion::~SentinelQuestion() {
  host_.loop().cancel(timer_);
  hang_up();
}

void SentinelQuestion::ask() {
  if (std::exchange(is_asking_, true)) return;
  refusal_.reset();
  answer_ = {};
  timer_ = host_.loop().run_after(host_.redis().connect_timeout, [this] {
    timer_ = 0;
    const std::string hint{connection_ != nullptr ? connection_->silence_hint()
                                                  : std::string_view{}};
    hang_up();
    end_with(unavailable("no answer in time" + hint, sentinel_.to_string()));
  });
  is_connection_fresh_ = connection_ == nullptr;
  if (is_ready_) {
    send();
  } else {
    dial();
  }
}

void SentinelQuestion::dial() {
  const Duration wait = gate_.wait(host_.clock().now());
  if (wait > Duration{0}) {
    dial_timer_ = host_.loop().run_after(wait, [this] {
      dial_timer_ = 0;
      dial();
    });
    return;
  }
  gate_.attempted(host_.clock().now());
  const RedisOptions& redis = host_.redis();
  Connection::Listener& listener = *this;  // The base is private, make_shared could not convert.
  connection_ = std::make_shared<Connection>(
      host_.loop(),
      Connection::Options{sentinel_, redis.connect_timeout, redis.response_timeout,
                          host_.sentinel_tls()},
      listener, host_.open_handles());
  connection_->start();
}

void SentinelQuestion::connection_ready() {
  is_ready_ = true;
  is_authenticated_ = false;
  send();
}

void SentinelQuestion::send() {
  const std::string& name = host_.redis().master_name;
  std::string wire;
  steps_ = {Step::kInfo, Step::kMyId, Step::kSentinels, Step::kCurrent, Step::kMaster};
  if (!is_authenticated_) {
    wire = auth_wire(host_.redis().sentinel_credentials);
    if (!wire.empty()) steps_.push_back(Step::kAuth);
  }
  append_request(wire, {"SENTINEL", "MASTER", name});
  // During a failover it names the promoted replica as soon as that has taken over; MASTER does
  // so only after the other replicas have been moved, about a second later.
  append_request(wire, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", name});
  append_request(wire, {"SENTINEL", "SENTINELS", name});
  append_request(wire, {"SENTINEL", "MYID"});
  append_request(wire, {"INFO", "sentinel"});
  connection_->write(wire);
}

void SentinelQuestion::connection_reply(Reply reply) {
  if (steps_.empty()) {
    hang_up();  // Out of step; a new question makes a new connection.
    return;
  }
  const Step step = steps_.back();
  steps_.pop_back();
  switch (step) {
    case Step::kAuth:
      if (reply.is_error()) return refuse("AUTH", reply);
      is_authenticated_ = true;
      return;
    case Step::kMaster: return take_master(reply);
    case Step::kCurrent: return take_current(reply);
    // These may be forbidden or unknown: then we know less, that is all.
    case Step::kSentinels: return take_sentinels(reply);
    case Step::kMyId:
      if (reply.is_string()) answer_.run_id = reply.text;
      return;
    case Step::kInfo:
      answer_.claim.is_tilted = reply.text.find("sentinel_tilt:1") != std::string::npos;
      if (steps_.empty()) end();  // Else SENTINEL MASTERS is still to come.
      return;
    case Step::kMasters: return take_masters(reply);
  }
}

void SentinelQuestion::take_master(const Reply& reply) {
  if (reply.is_error()) {
    refusal_ = reply;
    return;
  }
  if (const auto epoch = parse_u64(field(reply, "config-epoch"))) {
    answer_.claim.config_epoch = *epoch;
  }
}

void SentinelQuestion::take_current(const Reply& reply) {
  if (reply.is_nil()) {
    // Its reply comes after those to what was asked already.
    steps_.insert(steps_.begin(), Step::kMasters);
    std::string wire;
    append_request(wire, {"SENTINEL", "MASTERS"});
    connection_->write(wire);
    return;
  }
  if (reply.is_error()) return refuse("SENTINEL", reply);
  if (reply.is_array() && reply.elements.size() == 2) {
    if (auto master = parse_endpoint(reply.elements[0].text, reply.elements[1].text)) {
      answer_.claim.master = std::move(*master);
      return;
    }
  }
  hang_up();
  end_with(protocol_error("the Sentinel's answer makes no sense", sentinel_.to_string()));
}

void SentinelQuestion::take_sentinels(const Reply& reply) {
  for (const Reply& peer : reply.elements) {
    // They never forget one by themselves: what is down may be long gone.
    if (field(peer, "flags").find("s_down") != std::string_view::npos) continue;
    if (auto endpoint = parse_endpoint(field(peer, "ip"), field(peer, "port"))) {
      answer_.sentinels.push_back({std::move(*endpoint), std::string{field(peer, "runid")}});
    }
  }
}

void SentinelQuestion::take_masters(const Reply& reply) {
  std::string known;
  std::size_t count = 0;
  for (const Reply& master : reply.elements) {
    const std::string_view name = field(master, "name");
    if (name.empty() || ++count > kMastersNamedMax) continue;
    known += (known.empty() ? "'" : ", '") + bytes_for_message(name) + "'";
  }
  if (count > kMastersNamedMax) {
    known += " and " + std::to_string(count - kMastersNamedMax) + " more";
  }
  std::string message =
      "the Sentinel knows no master named '" + bytes_for_message(host_.redis().master_name) + "'";
  if (!reply.is_error()) message += known.empty() ? " (and no other)" : "; it knows " + known;
  Error error = invalid_argument(std::move(message));
  error.endpoint = sentinel_.to_string();
  end_with(std::move(error), true);
}

void SentinelQuestion::refuse(const std::string& what, const Reply& reply) {
  Error error;
  if (auto why = explain_refusal(what, reply.text, host_.redis().sentinel_credentials)) {
    error = invalid_argument("the Sentinel refuses us: " + *why);
  } else if (reply.text.find("unknown command") != std::string::npos) {
    error = invalid_argument("this is not a Sentinel (it does not know the command " + what + ")");
  } else {
    error = unavailable(what + " failed: " + server_text(reply.text));
  }
  error.endpoint = sentinel_.to_string();
  hang_up();
  end_with(std::move(error));
}

void SentinelQuestion::connection_lost(const Error& reason) {
  const bool was_reused = is_asking_ && !is_connection_fresh_;
  hang_up();
  if (!is_asking_) return;
  if (was_reused) {  // It had gone while nobody asked, and only now we hear of it.
    is_connection_fresh_ = true;
    return dial();
  }
  if (refusal_) return refuse("SENTINEL", *std::exchange(refusal_, std::nullopt));
  end_with(reason);
}

void SentinelQuestion::hang_up() {
  host_.loop().cancel(std::exchange(dial_timer_, 0));
  is_ready_ = false;
  steps_.clear();
  if (connection_ != nullptr) connection_->close();
  connection_.reset();
}

void SentinelQuestion::end_with(Error error, bool is_master_unknown) {
  host_.loop().cancel(std::exchange(timer_, 0));
  is_asking_ = false;
  ended_(Outcome{{}, std::move(error), is_master_unknown});
}

void SentinelQuestion::end() {
  host_.loop().cancel(std::exchange(timer_, 0));
  is_asking_ = false;
  ended_(Outcome{std::move(answer_), {}, false});
}

}  // namespace tiercel::l2
