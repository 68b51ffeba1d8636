// Invariants: questions_ of a server holds one entry for each reply that is still to come, in
// order; it is empty while the connection is not up. A callback may change the set, and so destroy
// the server that it comes from: in each function the callbacks are called last, from locals.

#include "watched_servers.h"

#include <algorithm>
#include <deque>
#include <string>
#include <utility>

#include "kept_connection.h"
#include "later.h"
#include "replica_lag.h"
#include "resp_format.h"

namespace tiercel::l2 {

class WatchedServers::Server final : public KeptConnection {
 public:
  struct Question {
    ReplicationCallback callback;
    EventLoop::TimerId timer = 0;  // Its deadline.
  };

  // INFO is answered where PING is not: while loading, and by a replica that has lost its master.
  Server(Host& host, const Endpoint& endpoint)
      : KeptConnection(
            host, endpoint,
            {.name = "tiercel-witness", .selects_database = false, .question = kQuestion}),
        host_(host) {}

  void ask(TimePoint deadline, ReplicationCallback callback) {
    const TimePoint now = host_.clock().now();
    if (auto why_not = refusal(deadline, now)) {
      return host_.later().run(
          [callback = std::move(callback), why_not = std::move(*why_not)]() mutable {
            callback(std::move(why_not));
          });
    }
    std::string wire;
    append_request(wire, kQuestion);
    write(wire);
    questions_.push_back({std::move(callback), host_.loop().run_after(deadline - now, [this] {
                            // A connection that hangs would keep us from reaching a server that
                            // does not.
                            redial(unavailable("no answer in time", endpoint().to_string()));
                          })});
  }

  // Whom to answer when it is gone.
  std::deque<Question> stop_asking() {
    stop();
    return take_questions();
  }

 private:
  inline static const std::vector<std::string_view> kQuestion{"INFO", "replication"};

  [[nodiscard]] std::optional<Error> refusal(TimePoint deadline, TimePoint now) const {
    if (!is_up()) return trouble();
    if (deadline <= now) return unavailable("the deadline has passed", endpoint().to_string());
    if (questions_.size() < kQuestionsMax) return std::nullopt;
    return overloaded("it owes answers to " + std::to_string(kQuestionsMax) + " questions");
  }

  void kept_up() override {}
  void kept_reply(const ReplyView& reply) override {
    if (questions_.empty()) {
      return redial(protocol_error("it sent a reply to nothing", endpoint().to_string()));
    }
    Question question = std::move(questions_.front());
    questions_.pop_front();
    host_.loop().cancel(question.timer);
    question.callback(take_replication_info(reply, host_.redis().credentials, endpoint()));
  }
  void kept_down(const Error& reason) override {
    for (Question& question : take_questions()) question.callback(reason);
  }
  std::deque<Question> take_questions() {
    for (const Question& question : questions_) host_.loop().cancel(question.timer);
    return std::exchange(questions_, {});
  }

  Host& host_;
  std::deque<Question> questions_;
};

WatchedServers::WatchedServers(Host& host) noexcept : host_(host) {}

WatchedServers::~WatchedServers() = default;  // Not on the loop thread: stop() came before.

WatchedServers::Server* WatchedServers::find(const Endpoint& endpoint) const {
  const auto at = std::find_if(servers_.begin(), servers_.end(), [&endpoint](const auto& server) {
    return server->endpoint() == endpoint;
  });
  return at == servers_.end() ? nullptr : at->get();
}

void WatchedServers::watch(std::span<const Endpoint> servers) {
  if (host_.later().is_stopped()) return;
  const auto is_wanted = [servers](const auto& server) {
    return std::find(servers.begin(), servers.end(), server->endpoint()) != servers.end();
  };
  const auto first_gone = std::stable_partition(servers_.begin(), servers_.end(), is_wanted);
  for (auto gone = first_gone; gone != servers_.end(); ++gone) {
    for (Server::Question& question : (*gone)->stop_asking()) {
      host_.later().run([callback = std::move(question.callback)]() mutable {
        callback(unavailable("it is not watched any more"));
      });
    }
  }
  servers_.erase(first_gone, servers_.end());
  for (const Endpoint& endpoint : servers) {
    if (servers_.size() == kServersMax) return;
    if (find(endpoint) != nullptr) continue;
    servers_.push_back(std::make_unique<Server>(host_, endpoint));
    servers_.back()->start();
  }
}

void WatchedServers::ask(const Endpoint& server, TimePoint deadline, ReplicationCallback callback) {
  if (host_.later().is_stopped()) return callback(closed("the client is closed"));
  if (Server* const watched = find(server)) return watched->ask(deadline, std::move(callback));
  host_.later().run([callback = std::move(callback), where = server.to_string()]() mutable {
    callback(
        unavailable("it is not watched (at most " + std::to_string(kServersMax) + " servers are)",
                    std::move(where)));
  });
}

void WatchedServers::stop() {
  for (const auto& server : std::exchange(servers_, {})) {
    for (Server::Question& question : server->stop_asking()) {
      question.callback(closed("the client was closed"));
    }
  }
}

}  // namespace tiercel::l2
