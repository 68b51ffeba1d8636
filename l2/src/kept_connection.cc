#include "kept_connection.h"

#include <algorithm>
#include <string>
#include <utility>

#include "handshake.h"
#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr std::string_view kSetName = "CLIENT";

}  // namespace

KeptConnection::KeptConnection(DialContext& context, Endpoint server, Greeting greeting)
    : context_(context),
      server_(std::move(server)),
      greeting_(std::move(greeting)),
      backoff_(context.redis().backoff_min, context.redis().backoff_max),
      trouble_(unavailable("not connected yet", server_.to_string())) {}

KeptConnection::~KeptConnection() = default;

void KeptConnection::start() { dial(); }

void KeptConnection::stop() { abandon(); }

void KeptConnection::dial() {
  gate_.attempted(context_.clock().now());
  const RedisOptions& redis = context_.redis();
  Connection::Listener& listener = *this;  // The base is private, make_shared could not convert.
  connection_ = std::make_shared<Connection>(
      context_.loop(),
      Connection::Options{server_, redis.connect_timeout, redis.response_timeout,
                          context_.server_tls()},
      listener, context_.open_handles());
  timer_ = context_.loop().run_after(redis.connect_timeout, [this] {
    timer_ = 0;
    redial(unavailable(
        "no connection, or no handshake, in time" + std::string{connection_->silence_hint()},
        server_.to_string()));
  });
  connection_->start();
}

void KeptConnection::connection_ready() {
  const RedisOptions& redis = context_.redis();
  std::string wire = auth_wire(redis.credentials);
  greetings_.clear();
  if (!wire.empty()) greetings_.emplace_back("AUTH");
  append_request(wire, {kSetName, "SETNAME", greeting_.name});
  greetings_.push_back(kSetName);
  if (redis.database != 0 && greeting_.selects_database) {
    append_request(wire, {"SELECT", std::to_string(redis.database)});
    greetings_.emplace_back("SELECT");
  }
  append_request(wire, greeting_.question);
  greetings_.push_back(greeting_.question.front());
  std::reverse(greetings_.begin(), greetings_.end());
  connection_->write(wire);
}

void KeptConnection::connection_reply_view(const ReplyView& reply) {
  if (is_up_) return kept_reply(reply);
  greeted(reply);
}

void KeptConnection::greeted(const ReplyView& reply) {
  const std::string_view what = greetings_.back();
  greetings_.pop_back();
  // NOAUTH is for all that follows.
  const bool matters = what != kSetName || reply.is_error("NOAUTH");
  if (reply.is_error() && matters) {
    if (auto why = explain_refusal(std::string{what}, reply.text(), context_.redis().credentials)) {
      Error error = invalid_argument(std::move(*why));
      error.endpoint = server_.to_string();
      return redial(error);
    }
    return redial(unavailable(server_text(reply.text()), server_.to_string()));
  }
  if (!greetings_.empty()) return;
  context_.loop().cancel(std::exchange(timer_, 0));
  is_up_ = true;
  trouble_.reset();
  backoff_.reset();
  kept_up();
}

void KeptConnection::connection_lost(const Error& reason) { redial(reason); }

void KeptConnection::abandon() {
  context_.loop().cancel(std::exchange(timer_, 0));
  is_up_ = false;
  if (connection_ != nullptr) connection_->close();
  connection_.reset();
}

void KeptConnection::redial(const Error& reason) {
  const Error error = reason;  // It may stand in what is given up.
  abandon();
  trouble_ = error;
  const Duration wait =
      std::max(backoff_.next(context_.random()), gate_.wait(context_.clock().now()));
  timer_ = context_.loop().run_after(wait, [this] {
    timer_ = 0;
    dial();
  });
  kept_down(error);
}

}  // namespace tiercel::l2
