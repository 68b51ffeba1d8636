#include "sentinel_watch.h"

#include <algorithm>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "connection.h"
#include "dial_gate.h"
#include "handshake.h"
#include "resp_format.h"

namespace tiercel::l2 {
namespace {

constexpr int kBackoffMaxFactor = 10;  // A Sentinel may be gone for good, and is only a help.
constexpr std::size_t kPingsOwedMax = 64;

}  // namespace

class SentinelWatch::Subscription final : public Connection::Listener {
 public:
  Subscription(SentinelWatch& watch, SentinelDirectory::Id id, Endpoint sentinel)
      : watch_(watch),
        host_(watch.host_),
        id_(id),
        sentinel_(std::move(sentinel)),
        backoff_(host_.redis().backoff_min, host_.redis().backoff_max * kBackoffMaxFactor) {}
  ~Subscription() override { stop(); }

  [[nodiscard]] SentinelDirectory::Id id() const noexcept { return id_; }
  [[nodiscard]] bool is_subscribed() const noexcept { return is_subscribed_; }

  // Its pong carries the number. Pongs owed are bounded: a Sentinel that hangs is not asked more.
  bool ping(std::uint64_t number) {
    if (!is_subscribed_ || pings_owed_ >= kPingsOwedMax) return false;
    ++pings_owed_;
    ping_newest_ = std::to_string(number);
    std::string wire;
    append_request(wire, {"PING", ping_newest_});
    connection_->write(wire);
    return true;
  }

  void dial() {
    const RedisOptions& redis = host_.redis();
    gate_.attempted(host_.clock().now());
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
    is_subscribed_ = false;
    pings_owed_ = 0;
    if (connection_ != nullptr) connection_->close();
    connection_.reset();
  }

  void connection_ready() override {
    std::string wire = auth_wire(host_.redis().sentinel_credentials);
    awaits_auth_ = !wire.empty();
    std::span<const std::string_view> channels = sentinel_channels();
    if (is_restricted_) channels = channels.first(1);
    acknowledgements_missing_ = channels.size();
    append_array_header(wire, channels.size() + 1);
    append_bulk(wire, "SUBSCRIBE");
    for (const std::string_view channel : channels) append_bulk(wire, channel);
    connection_->write(wire);
  }

  void connection_reply(Reply reply) override {
    if (is_subscribed_ && reply.is_error() && pings_owed_ > 0) return ponged(ping_newest_, true);
    if (reply.is_error()) {
      is_restricted_ = is_restricted_ || (!awaits_auth_ && reply.is_error("NOPERM"));
      return redial();
    }
    if (std::exchange(awaits_auth_, false)) return;
    const auto& elements = reply.elements;
    if (is_subscribed_ && elements.size() == 2 && elements[0].text == "pong" && pings_owed_ > 0) {
      return ponged(elements[1].text, false);
    }
    if (!reply.is_array() || elements.size() != 3) return redial();
    if (!is_subscribed_) {
      if (elements[0].text != "subscribe") return redial();
      if (--acknowledgements_missing_ == 0) become_subscribed();
      return;
    }
    if (elements[0].text != "message") return redial();
    const auto event =
        parse_sentinel_event(elements[1].text, elements[2].text, host_.redis().master_name);
    if (event) watch_.listener_.sentinel_event(id_, *event);
  }

  void connection_lost(const Error&) override { redial(); }

 private:
  void become_subscribed() {
    is_subscribed_ = true;
    host_.loop().cancel(std::exchange(timer_, 0));
    backoff_.reset();
    watch_.directory_.subscribed(id_, true);
    watch_.listener_.sentinel_subscribed(id_, !is_restricted_);
  }

  void ponged(std::string_view number, bool is_refused) {
    --pings_owed_;
    if (number == ping_newest_) watch_.listener_.sentinel_ponged(id_, is_refused);
  }

  void redial() {
    const bool was_subscribed = is_subscribed_;
    stop();
    const Duration wait = std::max(backoff_.next(host_.random()), gate_.wait(host_.clock().now()));
    timer_ = host_.loop().run_after(wait, [this] {
      timer_ = 0;
      dial();
    });
    if (!was_subscribed) return;
    watch_.directory_.subscribed(id_, false);
    watch_.listener_.sentinel_unsubscribed(id_);
  }

  SentinelWatch& watch_;
  Host& host_;
  const SentinelDirectory::Id id_;
  const Endpoint sentinel_;
  Backoff backoff_;
  DialGate gate_;
  std::shared_ptr<Connection> connection_;
  EventLoop::TimerId timer_ = 0;  // The attempt's limit, or the backoff.
  bool awaits_auth_ = false;
  bool is_restricted_ = false;  // Only +switch-master is asked for: the ACL forbade the rest.
  std::size_t acknowledgements_missing_ = 0;
  bool is_subscribed_ = false;
  std::size_t pings_owed_ = 0;
  std::string ping_newest_;
};

SentinelWatch::SentinelWatch(Host& host, SentinelDirectory& directory, Listener& listener)
    : host_(host), directory_(directory), listener_(listener) {}

SentinelWatch::~SentinelWatch() = default;

void SentinelWatch::follow_directory() {
  std::erase_if(subscriptions_, [this](const auto& subscription) {
    return directory_.find(subscription->id()) == nullptr;
  });
  for (const SentinelDirectory::Sentinel& sentinel : directory_.all()) {
    const bool is_known = std::any_of(
        subscriptions_.begin(), subscriptions_.end(),
        [&sentinel](const auto& subscription) { return subscription->id() == sentinel.id; });
    if (is_known) continue;
    subscriptions_.push_back(std::make_unique<Subscription>(*this, sentinel.id, sentinel.endpoint));
    subscriptions_.back()->dial();
  }
}

void SentinelWatch::stop() { subscriptions_.clear(); }

std::vector<SentinelDirectory::Id> SentinelWatch::ping() {
  ++pings_;
  std::vector<SentinelDirectory::Id> pinged;
  for (const auto& subscription : subscriptions_) {
    if (subscription->ping(pings_)) pinged.push_back(subscription->id());
  }
  return pinged;
}

std::size_t SentinelWatch::subscribed_count() const noexcept {
  return static_cast<std::size_t>(
      std::count_if(subscriptions_.begin(), subscriptions_.end(),
                    [](const auto& subscription) { return subscription->is_subscribed(); }));
}

}  // namespace tiercel::l2
