// Invariants: queries_ is non-empty exactly while a resolution is under way, and then at least one
// waiter waits. Each Query ends once, with a resolution or an error, and tells the Resolver so;
// finish() destroys them all, never from within a Query's own call (it is posted).

#include "resolver.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "connection.h"
#include "handshake.h"
#include "resp_format.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

std::optional<std::string_view> map_field(const Reply& pairs, std::string_view name) {
  for (std::size_t i = 0; i + 1 < pairs.elements.size(); i += 2) {
    if (pairs.elements[i].text == name) return pairs.elements[i + 1].text;
  }
  return std::nullopt;
}

std::optional<Endpoint> endpoint_of(std::string_view host, std::string_view port) {
  const auto number = parse_u64(port);
  if (host.empty() || !number || *number == 0 || *number > 65535) return std::nullopt;
  return Endpoint{std::string{host}, static_cast<std::uint16_t>(*number), {}};
}

}  // namespace

// One Sentinel, asked once.
class Resolver::Query final : public Connection::Listener {
 public:
  Query(Resolver& resolver, const Endpoint& sentinel) : resolver_(resolver), sentinel_(sentinel) {
    const RedisOptions& redis = resolver.host_.redis();
    connection_ = std::make_shared<Connection>(
        resolver.host_.loop(),
        Connection::Options{sentinel, redis.connect_timeout, redis.response_timeout,
                            resolver.host_.sentinel_tls()},
        *this, resolver.host_.open_handles());
  }
  ~Query() override { connection_->close(); }

  void start() { connection_->start(); }

  [[nodiscard]] bool ended() const noexcept {
    return resolution_.has_value() || error_.has_value();
  }
  [[nodiscard]] const std::optional<Resolution>& resolution() const noexcept { return resolution_; }
  [[nodiscard]] const std::optional<Error>& error() const noexcept { return error_; }
  [[nodiscard]] const Endpoint& sentinel() const noexcept { return sentinel_; }
  [[nodiscard]] std::string_view silence_hint() const noexcept {
    return connection_->silence_hint();
  }

  void connection_ready() override {
    const RedisOptions& redis = resolver_.host_.redis();
    std::string wire = auth_wire(redis.sentinel_credentials);
    awaits_auth_ = !wire.empty();
    append_request(wire, {"SENTINEL", "MASTER", redis.master_name});
    // During a failover it names the promoted replica as soon as that has taken over; MASTER does
    // so only after the other replicas have been moved, about a second later.
    append_request(wire, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", redis.master_name});
    connection_->write(wire);
  }

  void connection_reply(Reply reply) override {
    if (awaits_auth_) {
      awaits_auth_ = false;
      if (reply.is_error()) refuse("AUTH", reply);
      return;
    }
    if (!master_) {
      master_ = std::move(reply);
      if (master_->is_error()) refuse("SENTINEL", *master_);
      return;
    }
    conclude(reply);
  }

  void connection_lost(const Error& reason) override { end_with(reason); }

 private:
  void refuse(const std::string& what, const Reply& reply) {
    const RedisOptions& redis = resolver_.host_.redis();
    const std::string name = "'" + bytes_for_message(redis.master_name) + "'";
    Error error;
    if (reply.text.find("No such master") != std::string::npos) {
      error = invalid_argument("the Sentinel knows no master named " + name);
    } else if (auto why = explain_refusal(what, reply.text, redis.sentinel_credentials)) {
      error = invalid_argument("the Sentinel refuses us: " + *why);
    } else if (reply.text.find("unknown command") != std::string::npos) {
      error =
          invalid_argument("this is not a Sentinel (it does not know the command " + what + ")");
    } else {
      error = unavailable(what + " failed: " + server_text(reply.text));
    }
    error.endpoint = sentinel_.to_string();
    end_with(std::move(error));
  }

  void conclude(const Reply& current) {
    const auto epoch = map_field(*master_, "config-epoch");
    const auto number = epoch ? parse_u64(*epoch) : Result<std::uint64_t>{std::uint64_t{0}};
    auto endpoint = endpoint_of(map_field(*master_, "ip").value_or(""),
                                map_field(*master_, "port").value_or(""));
    if (current.is_array() && current.elements.size() == 2) {
      endpoint = endpoint_of(current.elements[0].text, current.elements[1].text);
    }
    if (!endpoint || !number) {
      return end_with(
          protocol_error("the Sentinel's answer makes no sense", sentinel_.to_string()));
    }
    resolution_ = Resolution{std::move(*endpoint), *number};
    end();
  }

  void end_with(Error error) {
    error_ = std::move(error);
    end();
  }

  void end() {
    connection_->close();
    resolver_.answered();
  }

  Resolver& resolver_;
  const Endpoint sentinel_;
  std::shared_ptr<Connection> connection_;
  bool awaits_auth_ = false;
  std::optional<Reply> master_;
  std::optional<Resolution> resolution_;
  std::optional<Error> error_;
};

Resolver::Resolver(Host& host) : host_(host) {}

Resolver::~Resolver() = default;

void Resolver::resolve(Waiter waiter) {
  const RedisOptions& redis = host_.redis();
  if (redis.sentinels.empty()) return waiter(Resolution{redis.server, 0});
  waiters_.push_back(std::move(waiter));
  if (!queries_.empty()) return;
  timeout_timer_ = host_.loop().run_after(redis.connect_timeout, [this] {
    timeout_timer_ = 0;
    finish();
  });
  for (const Endpoint& sentinel : redis.sentinels) {
    queries_.push_back(std::make_unique<Query>(*this, sentinel));
  }
  for (const auto& query : queries_) query->start();
}

void Resolver::answered() {
  const auto ended = [](const auto& query) { return query->ended(); };
  const bool all_ended = std::all_of(queries_.begin(), queries_.end(), ended);
  const bool any_resolved = std::any_of(queries_.begin(), queries_.end(), [](const auto& query) {
    return query->resolution().has_value();
  });
  if (!all_ended && (!any_resolved || settle_timer_ != 0)) return;
  // A timer of no length and not a direct call: the Query that tells us is still on the stack.
  host_.loop().cancel(settle_timer_);
  settle_timer_ = host_.loop().run_after(all_ended ? Duration{0} : kSettleTime, [this] {
    settle_timer_ = 0;
    finish();
  });
}

void Resolver::finish() {
  host_.loop().cancel(std::exchange(timeout_timer_, 0));
  host_.loop().cancel(std::exchange(settle_timer_, 0));
  const Result<Resolution> result = conclude();
  queries_.clear();
  std::vector<Waiter> waiters = std::exchange(waiters_, {});
  if (result) host_.master_resolved(*result);
  for (Waiter& waiter : waiters) waiter(result);
}

Result<Resolution> Resolver::conclude() const {
  const Query* best = nullptr;
  for (const auto& query : queries_) {
    if (!query->resolution()) continue;
    if (best == nullptr || query->resolution()->config_epoch > best->resolution()->config_epoch) {
      best = query.get();
    }
  }
  if (best != nullptr) return *best->resolution();
  return explain_failure();
}

Error Resolver::explain_failure() const {
  constexpr std::size_t kNamedMax = 3;
  bool all_refuse = true;
  std::string causes;
  for (std::size_t i = 0; i < queries_.size(); ++i) {
    const auto& error = queries_[i]->error();
    all_refuse = all_refuse && error && error->code == ErrorCode::kInvalidArgument;
    if (i >= kNamedMax) continue;
    causes +=
        (i == 0 ? "" : "; ") + queries_[i]->sentinel().to_string() + ": " +
        (error ? error->message : "no answer in time" + std::string{queries_[i]->silence_hint()});
  }
  if (queries_.size() > kNamedMax) {
    causes += "; and " + std::to_string(queries_.size() - kNamedMax) + " more";
  }
  const std::string name = "'" + bytes_for_message(host_.redis().master_name) + "'";
  std::string message = "no Sentinel names the master " + name + ": " + causes;
  return all_refuse ? invalid_argument(std::move(message)) : unavailable(std::move(message));
}

void Resolver::stop() {
  host_.loop().cancel(std::exchange(timeout_timer_, 0));
  host_.loop().cancel(std::exchange(settle_timer_, 0));
  queries_.clear();
  waiters_.clear();
}

}  // namespace tiercel::l2
