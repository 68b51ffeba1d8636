#include "stream_link.h"

#include <utility>

#include "resp_format.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {

StreamLink::StreamLink(Host& host, std::string channel)
    : Link(host, "stream"), channel_(std::move(channel)) {}

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
  std::string wire;
  append_request(wire, {"SUBSCRIBE", channel_});
  connection().write(wire);
}

void StreamLink::link_up(const ServerIdentity& server) {
  if (host().observer() != nullptr) host().observer()->stream_up(server);
}

void StreamLink::link_down(const Error& reason) {
  if (host().observer() != nullptr) host().observer()->stream_down(reason);
}

void StreamLink::link_failed(const Error&) {}

void StreamLink::link_reply(const ReplyView& reply) {
  if (!is_up()) return subscription_reply(reply);
  LinkObserver* const observer = host().observer();
  if (reply.is_error() && pings_outstanding_ > 0) {
    --pings_outstanding_;
    if (observer != nullptr) observer->stream_ping_refused(reply.text());
    return;
  }
  if (reply.size() < 2 || !reply[0].is_string()) return unexpected();
  const std::string_view kind = reply[0].text();
  if (kind == "message" && reply.size() == 3 && reply[1].text() == channel_ &&
      reply[2].is_string()) {
    if (observer != nullptr) observer->stream_message(reply[2].text());
  } else if (kind == "pong" && reply.size() == 2 && reply[1].is_string() &&
             pings_outstanding_ > 0) {
    --pings_outstanding_;
    if (observer != nullptr) observer->stream_pong(reply[1].text());
  } else {
    unexpected();
  }
}

void StreamLink::subscription_reply(const ReplyView& reply) {
  if (reply.is_error()) {
    if (auto why =
            explain_refusal("SUBSCRIBE", reply.text(), host().redis().credentials, channel_)) {
      return redial(invalid_argument("channel '" + bytes_for_message(channel_) + "': " + *why));
    }
    return redial(unavailable("SUBSCRIBE was answered with " + server_text(reply.text())));
  }
  if (reply.size() != 3 || reply[0].text() != "subscribe" || reply[1].text() != channel_) {
    return unexpected();
  }
  become_up();
}

void StreamLink::unexpected() {
  redial(protocol_error("the subscribed connection carried something unexpected"));
}

}  // namespace tiercel::l2
