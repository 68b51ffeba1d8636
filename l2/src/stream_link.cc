#include "stream_link.h"

#include <utility>

#include "resp_format.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {

namespace {

constexpr std::string_view kInvalidations = "__redis__:invalidate";

}  // namespace

StreamLink::StreamLink(Host& host, std::string channel, std::string track_prefix)
    : Link(host, "stream"), channel_(std::move(channel)), track_prefix_(std::move(track_prefix)) {}

void StreamLink::ping(std::string_view token) {
  TIERCEL_CHECK(token.size() <= kPingTokenBytesMax);
  if (!is_up() || pings_outstanding_ >= kPingsOutstandingMax) return;
  ++pings_outstanding_;
  std::string wire;
  append_request(wire, {"PING", token});
  connection().write(wire);
}

// Who the server is was asked before, on this connection: a subscribed one may not ask any more.
void StreamLink::link_handshaken() {
  pings_outstanding_ = 0;
  has_told_ = false;
  std::string wire;
  if (tracks()) {
    step_ = Step::kId;
    append_request(wire, {"CLIENT", "ID"});
  } else {
    subscribe(wire);
  }
  connection().write(wire);
}

void StreamLink::subscribe(std::string& wire) const {
  if (tracks()) {
    append_request(wire, {"SUBSCRIBE", channel_, kInvalidations});
  } else {
    append_request(wire, {"SUBSCRIBE", channel_});
  }
}

void StreamLink::link_up(const ServerIdentity& server) {
  if (host().observer() != nullptr) host().observer()->stream_up(server);
}

void StreamLink::link_down(const Error& reason) {
  if (host().observer() != nullptr) host().observer()->stream_down(reason);
}

void StreamLink::link_failed(const Error&) {}

void StreamLink::link_reply(const ReplyView& reply) {
  if (!is_up()) {
    switch (step_) {
      case Step::kId: return id_reply(reply);
      case Step::kTracking: return tracking_reply(reply);
      case Step::kChannel:
      case Step::kInvalidations: return subscription_reply(reply);
    }
  }
  LinkObserver* const observer = host().observer();
  if (reply.is_error() && pings_outstanding_ > 0) {
    --pings_outstanding_;
    has_told_ = true;
    if (observer != nullptr) observer->stream_ping_refused(reply.text());
    return;
  }
  if (reply.size() < 2 || !reply[0].is_string()) return unexpected();
  const std::string_view kind = reply[0].text();
  if (kind == "message" && reply.size() == 3) {
    take_message(reply[1], reply[2]);
  } else if (kind == "pong" && reply.size() == 2 && reply[1].is_string() &&
             pings_outstanding_ > 0) {
    --pings_outstanding_;
    has_told_ = true;
    if (observer != nullptr) observer->stream_pong(reply[1].text());
  } else {
    unexpected();
  }
}

void StreamLink::take_message(const ReplyView& channel, const ReplyView& payload) {
  if (tracks() && channel.text() == kInvalidations) return take_invalidation(payload);
  if (channel.text() != channel_ || !payload.is_string()) return unexpected();
  has_told_ = true;
  if (host().observer() != nullptr) host().observer()->stream_message(payload.text());
}

// Keys, or nil for a flush of any database.
void StreamLink::take_invalidation(const ReplyView& keys) {
  LinkObserver* const observer = host().observer();
  if (keys.is_nil()) {
    has_told_ = true;
    if (observer != nullptr) observer->stream_flushed();
    return;
  }
  if (!keys.is_array()) return unexpected();
  keys_.clear();
  for (const ReplyView& key : keys) {
    if (!key.is_string()) return unexpected();
    if (!key.text().starts_with(track_prefix_)) continue;
    keys_.push_back(key.text().substr(track_prefix_.size()));
  }
  if (keys_.empty()) return;
  has_told_ = true;
  if (observer != nullptr) observer->stream_tracked(keys_);
}

void StreamLink::link_read_end(bool) {
  if (!std::exchange(has_told_, false)) return;
  if (host().observer() != nullptr) host().observer()->stream_read_end();
}

void StreamLink::id_reply(const ReplyView& reply) {
  if (!reply.is_integer()) return refused("CLIENT ID", reply);
  step_ = Step::kTracking;
  std::string wire;
  append_request(wire, {"CLIENT", "TRACKING", "ON", "REDIRECT", std::to_string(reply.integer()),
                        "BCAST", "PREFIX", track_prefix_});
  subscribe(wire);
  connection().write(wire);
}

void StreamLink::tracking_reply(const ReplyView& reply) {
  if (reply.is_error() || reply.text() != "OK") return refused("CLIENT TRACKING", reply);
  step_ = Step::kChannel;
}

void StreamLink::subscription_reply(const ReplyView& reply) {
  if (reply.is_error()) return refused("SUBSCRIBE", reply);
  const std::string_view channel = step_ == Step::kChannel ? channel_ : kInvalidations;
  if (reply.size() != 3 || reply[0].text() != "subscribe" || reply[1].text() != channel) {
    return unexpected();
  }
  if (tracks() && std::exchange(step_, Step::kInvalidations) == Step::kChannel) return;
  become_up();
}

void StreamLink::refused(const char* what, const ReplyView& reply) {
  std::string channels = "&" + bytes_for_message(channel_);
  if (tracks()) channels += " or &" + std::string{kInvalidations};
  const std::string where = "channel '" + bytes_for_message(channel_) + "': ";
  if (auto why = explain_refusal(what, reply.text(), host().redis().credentials, channels)) {
    return redial(invalid_argument(where + *why));
  }
  const std::string said = std::string{what} + " was answered with " + server_text(reply.text());
  // It does not know the command, or not these words of it, and never will.
  const bool is_unknown = reply.is_error("ERR") && std::string_view{what} != "SUBSCRIBE";
  if (!is_unknown) return redial(unavailable(said));
  redial(invalid_argument(where + said +
                          " (foreign writers are observed by CLIENT TRACKING, which "
                          "needs Redis 6 or newer)"));
}

void StreamLink::unexpected() {
  redial(protocol_error("the subscribed connection carried something unexpected"));
}

}  // namespace tiercel::l2
