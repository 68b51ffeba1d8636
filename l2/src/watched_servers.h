#pragma once

// WatchedServers: connections to servers other than the master, each kept while it is wanted, for
// questions about their place in replication. Loop thread only. See Client::watch_servers.

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "host.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/replication.h"

namespace tiercel::l2 {

class WatchedServers {
 public:
  static constexpr std::size_t kServersMax = Client::kServersWatchedMax;
  static constexpr std::size_t kQuestionsMax = 8;  // Of one server, outstanding.

  explicit WatchedServers(Host& host) noexcept;
  ~WatchedServers();
  WatchedServers(const WatchedServers&) = delete;
  WatchedServers& operator=(const WatchedServers&) = delete;

  void watch(std::span<const Endpoint> servers);
  // The callback comes later, or at once with kClosed after stop().
  void ask(const Endpoint& server, TimePoint deadline, ReplicationCallback callback);
  // Answers what is outstanding with kClosed.
  void stop();

 private:
  class Server;

  [[nodiscard]] Server* find(const Endpoint& endpoint) const;

  Host& host_;
  std::vector<std::unique_ptr<Server>> servers_;
};

}  // namespace tiercel::l2
