#include "sentinel_watch.h"

#include <array>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "connection.h"
#include "handshake.h"
#include "resolver.h"
#include "resp_format.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

constexpr std::string_view kChannel = "+switch-master";

// "<master name> <old ip> <old port> <new ip> <new port>"; the name may contain spaces.
std::optional<Endpoint> new_master(std::string_view payload, std::string_view master_name) {
  if (!payload.starts_with(master_name)) return std::nullopt;
  payload.remove_prefix(master_name.size());
  std::array<std::string_view, 4> words;
  for (std::string_view& word : words) {
    if (!payload.starts_with(' ')) return std::nullopt;
    payload.remove_prefix(1);
    word = payload.substr(0, payload.find(' '));
    payload.remove_prefix(word.size());
  }
  const auto port = parse_u64(words[3]);
  if (!payload.empty() || words[2].empty() || !port || *port == 0 || *port > 65535) {
    return std::nullopt;
  }
  return Endpoint{std::string{words[2]}, static_cast<std::uint16_t>(*port), {}};
}

}  // namespace

class SentinelWatch::Subscription final : public Connection::Listener {
 public:
  Subscription(Host& host, const Endpoint& sentinel)
      : host_(host),
        sentinel_(sentinel),
        backoff_(host.redis().backoff_min, host.redis().backoff_max) {}
  ~Subscription() override { stop(); }

  void dial() {
    const RedisOptions& redis = host_.redis();
    subscribed_ = false;
    connection_ = std::make_shared<Connection>(
        host_.loop(),
        Connection::Options{sentinel_, redis.connect_timeout, redis.response_timeout,
                            host_.sentinel_tls()},
        *this, host_.open_handles());
    timer_ = host_.loop().run_after(redis.connect_timeout, [this] {
      timer_ = 0;
      redial();
    });
    connection_->start();
  }

  void stop() {
    host_.loop().cancel(std::exchange(timer_, 0));
    if (connection_ != nullptr) connection_->close();
    connection_.reset();
  }

  void connection_ready() override {
    std::string wire = auth_wire(host_.redis().sentinel_credentials);
    awaits_auth_ = !wire.empty();
    append_request(wire, {"SUBSCRIBE", kChannel});
    connection_->write(wire);
  }

  void connection_reply(Reply reply) override {
    if (reply.is_error()) return redial();
    if (std::exchange(awaits_auth_, false)) return;
    if (!reply.is_array() || reply.elements.size() != 3) return redial();
    if (reply.elements[0].text == "subscribe" && !subscribed_) return subscribed();
    if (reply.elements[0].text != "message" || !subscribed_) return redial();
    if (auto master = new_master(reply.elements[2].text, host_.redis().master_name)) {
      host_.master_announced(*master);
    }
  }

  void connection_lost(const Error&) override { redial(); }

 private:
  void subscribed() {
    subscribed_ = true;
    host_.loop().cancel(std::exchange(timer_, 0));
    backoff_.reset();
    // What was announced while nobody listened must be asked for.
    if (std::exchange(was_subscribed_before_, true)) {
      host_.resolver().resolve([](const Result<Resolution>&) { /* The host hears of it. */ });
    }
  }

  void redial() {
    stop();
    timer_ = host_.loop().run_after(backoff_.next(host_.random()), [this] {
      timer_ = 0;
      dial();
    });
  }

  Host& host_;
  const Endpoint sentinel_;
  Backoff backoff_;
  std::shared_ptr<Connection> connection_;
  EventLoop::TimerId timer_ = 0;
  bool awaits_auth_ = false;
  bool subscribed_ = false;
  bool was_subscribed_before_ = false;
};

SentinelWatch::SentinelWatch(Host& host) : host_(host) {}

SentinelWatch::~SentinelWatch() = default;

void SentinelWatch::start() {
  for (const Endpoint& sentinel : host_.redis().sentinels) {
    subscriptions_.push_back(std::make_unique<Subscription>(host_, sentinel));
    subscriptions_.back()->dial();
  }
}

void SentinelWatch::stop() { subscriptions_.clear(); }

}  // namespace tiercel::l2
