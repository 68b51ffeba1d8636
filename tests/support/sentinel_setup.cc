#include <algorithm>
#include <map>
#include <string_view>

#include "support/blocking_redis.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {

namespace {

// For one question to one process, which may be stopped.
constexpr Duration kAskLimit = std::chrono::seconds{1};
constexpr std::chrono::milliseconds kSetupLimit = std::chrono::seconds{60};
constexpr Duration kPollStep = std::chrono::milliseconds{20};

Result<RedisReply> ask(const RedisServer& server, const std::vector<std::string>& words) {
  auto redis = BlockingRedis::connect_unix(server.unix_path(), kAskLimit);
  if (!redis) return redis.error();
  return redis->command(words, kAskLimit);
}

// Pairs of name and value, as SENTINEL answers them; empty fields for what is not there.
using Fields = std::map<std::string, std::string, std::less<>>;

Fields fields_of(const RedisReply& reply) {
  Fields fields;
  for (std::size_t i = 0; i + 1 < reply.elements.size(); i += 2) {
    fields[reply.elements[i].text] = reply.elements[i + 1].text;
  }
  return fields;
}

std::string role_of(const RedisServer& server) {
  const auto reply = ask(server, {"ROLE"});
  return reply && !reply->elements.empty() ? reply->elements.front().text : std::string{};
}

bool link_is_up(const RedisServer& replica) {
  const auto info = ask(replica, {"INFO", "replication"});
  return info && info->text.find("master_link_status:up") != std::string::npos;
}

}  // namespace

struct SentinelSetup::State {
  SentinelSetupOptions options;
  std::vector<std::unique_ptr<RedisServer>> servers;
  std::unique_ptr<TcpProxy> master_proxy;  // After the servers: it goes before them.
  std::vector<std::unique_ptr<RedisServer>> sentinels;

  // Under which the others know a server.
  [[nodiscard]] std::string port_of(std::size_t index) const {
    const bool proxied = index == 0 && master_proxy != nullptr;
    return std::to_string(proxied ? master_proxy->port() : servers[index]->port());
  }
  void start_servers();
  void start_sentinels();
  // What is not yet as it should be; empty when all is in health.
  [[nodiscard]] std::string complaint() const;
  [[nodiscard]] std::string sentinel_complaint(const RedisServer& sentinel) const;
};

void SentinelSetup::State::start_servers() {
  servers.push_back(
      RedisServer::start({.arguments = options.server_arguments, .tls = options.tls}));
  if (options.master_behind_proxy) {
    master_proxy = std::make_unique<TcpProxy>(servers.front()->port());
    // What it calls itself as a replica, later.
    servers.front()->command({"CONFIG", "SET", "replica-announce-port", port_of(0)});
  }
  const std::string master_port = port_of(0);
  for (int i = 0; i < options.replicas; ++i) {
    auto arguments = options.server_arguments;
    arguments.insert(arguments.end(), {"--replicaof", "127.0.0.1", master_port});
    servers.push_back(RedisServer::start({.arguments = std::move(arguments), .tls = options.tls}));
  }
  // Before the Sentinels start: they look at a server closely only every ten seconds by default.
  const bool up = poll_until(
      [&] {
        for (std::size_t i = 1; i < servers.size(); ++i) {
          if (!link_is_up(*servers[i])) return false;
        }
        return true;
      },
      kSetupLimit, kPollStep);
  if (!up) fail("a replica does not find its master\n" + servers.back()->log_tail());
}

void SentinelSetup::State::start_sentinels() {
  const std::string& name = options.master_name;
  RedisServerOptions sentinel;
  sentinel.sentinel = true;
  sentinel.tls = options.tls;
  sentinel.config = {
      "sentinel monitor " + name + " 127.0.0.1 " + port_of(0) + " " +
          std::to_string(options.sentinels / 2 + 1),
      "sentinel down-after-milliseconds " + name + " " + std::to_string(options.down_after.count()),
      "sentinel failover-timeout " + name + " " + std::to_string(options.failover_timeout.count()),
      "sentinel parallel-syncs " + name + " " + std::to_string(std::max(1, options.replicas))};
  if (options.fast_periods) {
    sentinel.startup_commands = {{"SENTINEL", "DEBUG", "publish-period", "200", "info-period",
                                  "500", "ping-period", "200", "tilt-trigger", "30000"}};
  }
  for (int i = 0; i < options.sentinels; ++i) sentinels.push_back(RedisServer::start(sentinel));
}

std::string SentinelSetup::State::sentinel_complaint(const RedisServer& sentinel) const {
  const auto master = ask(sentinel, {"SENTINEL", "MASTER", options.master_name});
  if (!master) return master.error().to_string();
  Fields fields = fields_of(*master);
  if (fields["flags"] != "master") return "it sees the master as " + fields["flags"];
  if (fields["num-slaves"] != std::to_string(options.replicas)) {
    return "it knows " + fields["num-slaves"] + " replicas";
  }
  if (fields["num-other-sentinels"] != std::to_string(options.sentinels - 1)) {
    return "it knows " + fields["num-other-sentinels"] + " other Sentinels";
  }
  const auto replicas = ask(sentinel, {"SENTINEL", "REPLICAS", options.master_name});
  if (!replicas) return replicas.error().to_string();
  for (const RedisReply& element : replicas->elements) {
    Fields replica = fields_of(element);
    // A replica without `ok` here is not eligible for promotion.
    if (replica["flags"] != "slave" || replica["master-link-status"] != "ok") {
      return "it sees replica " + replica["name"] + " as " + replica["flags"] +
             " with its link: " + replica["master-link-status"];
    }
  }
  const auto quorum = ask(sentinel, {"SENTINEL", "CKQUORUM", options.master_name});
  if (!quorum) return quorum.error().to_string();
  return quorum->is_error() ? quorum->text : std::string{};
}

std::string SentinelSetup::State::complaint() const {
  for (const auto& sentinel : sentinels) {
    const std::string text = sentinel_complaint(*sentinel);
    if (!text.empty()) return "Sentinel " + sentinel->endpoint() + ": " + text;
  }
  return {};
}

std::unique_ptr<SentinelSetup> SentinelSetup::start(SentinelSetupOptions options) {
  auto state = std::make_unique<State>();
  state->options = std::move(options);
  state->start_servers();
  state->start_sentinels();
  std::string complaint;
  const bool healthy = poll_until(
      [&] {
        complaint = state->complaint();
        return complaint.empty();
      },
      kSetupLimit, kPollStep);
  if (!healthy) {
    std::string logs;
    for (const auto& sentinel : state->sentinels) logs += sentinel->log_tail();
    fail("the Sentinels did not come into health: " + complaint + "\n" + logs);
  }
  return std::unique_ptr<SentinelSetup>{new SentinelSetup{std::move(state)}};
}

SentinelSetup::SentinelSetup(std::unique_ptr<State> state) : state_(std::move(state)) {}
SentinelSetup::~SentinelSetup() {
  // Sentinels first: they would hold an election over every server that goes away.
  state_->sentinels.clear();
}

std::string SentinelSetup::url() const {
  std::string url = state_->options.tls ? "rediss+sentinel://" : "redis+sentinel://";
  for (std::size_t i = 0; i < state_->sentinels.size(); ++i) {
    if (i > 0) url += ',';
    url += state_->sentinels[i]->endpoint();
  }
  return url + "/" + state_->options.master_name;
}

std::vector<std::uint16_t> SentinelSetup::sentinel_ports() const {
  std::vector<std::uint16_t> ports;
  for (const auto& sentinel : state_->sentinels) ports.push_back(sentinel->port());
  return ports;
}

std::string SentinelSetup::master_name() const { return state_->options.master_name; }
std::size_t SentinelSetup::server_count() const noexcept { return state_->servers.size(); }
std::size_t SentinelSetup::sentinel_count() const noexcept { return state_->sentinels.size(); }

RedisServer& SentinelSetup::server(std::size_t index) { return *state_->servers.at(index); }
RedisServer& SentinelSetup::sentinel(std::size_t index) { return *state_->sentinels.at(index); }
TcpProxy& SentinelSetup::master_proxy() { return *state_->master_proxy; }

int SentinelSetup::master_index() {
  std::map<std::string, std::size_t> votes;  // By port: all of them are on 127.0.0.1.
  for (const auto& sentinel : state_->sentinels) {
    const auto reply =
        ask(*sentinel, {"SENTINEL", "GET-MASTER-ADDR-BY-NAME", state_->options.master_name});
    if (reply && reply->elements.size() == 2) ++votes[reply->elements[1].text];
  }
  for (std::size_t i = 0; i < state_->servers.size(); ++i) {
    const RedisServer& candidate = *state_->servers[i];
    if (2 * votes[state_->port_of(i)] <= state_->sentinels.size()) continue;
    return role_of(candidate) == "master" ? static_cast<int>(i) : -1;
  }
  return -1;
}

int SentinelSetup::wait_for_new_master(int old, std::chrono::milliseconds limit) {
  int index = -1;
  const bool found = poll_until(
      [&] {
        index = master_index();
        return index >= 0 && index != old;
      },
      limit, kPollStep);
  return found ? index : -1;
}

void SentinelSetup::restart_as_replica(std::size_t index) {
  RedisServer& server = *state_->servers.at(index);
  server.kill();
  const int master = wait_for_new_master(static_cast<int>(index), kSetupLimit);
  if (master < 0) fail("no master to follow: the Sentinels have not promoted one");
  const std::string port = state_->port_of(static_cast<std::size_t>(master));
  server.restart({"--replicaof", "127.0.0.1", port});
  if (!poll_until([&] { return link_is_up(server); }, kSetupLimit, kPollStep)) {
    fail("the restarted server does not find its master\n" + server.log_tail());
  }
}

}  // namespace tiercel::testing
