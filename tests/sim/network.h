#pragma once

// Network: what one process sends to another, with delays and cuts for each direction of each pair.
//
// A Connection is like TCP: each direction in order, nothing lost while both ends live; what meets
// a cut arrives some time after the cut ends, and so does the news that the other end has closed. A
// half-open connection carries nothing any more and tells nobody. The kernel accepts connections
// for a process that is stopped. A datagram that meets a cut is lost.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "process.h"
#include "tiercel/base/random.h"

namespace tiercel::sim {

class Network;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(Network& network, Process& client, Process& server);

  void to_server(Step step);
  void to_client(Step step) { to_client_after(Duration{0}, std::move(step)); }
  void to_client_after(Duration wait, Step step);
  // Frees what the callbacks hold. The other end hears of it when the network lets it.
  void close_by_client();
  void close_by_server();
  void lose() { is_lost_ = true; }  // Half-open from now on.

  [[nodiscard]] bool is_open_at_client() const { return is_open_at_client_; }
  [[nodiscard]] bool is_open_at_server() const { return is_open_at_server_; }

  // Set by the two ends; called when the other one has closed.
  Step on_closed_at_client;
  Step on_closed_at_server;

 private:
  friend class Network;
  void arrive_at_server(Step step);
  void arrive_at_client(Step step);
  void end_at_client();
  void end_at_server();
  void deliver_to_client(TimePoint at, Step step);

  Network& network_;
  Process& client_;
  Process& server_;
  std::uint64_t client_life_;
  std::uint64_t server_life_ = 0;
  bool is_open_at_client_ = true;
  bool is_open_at_server_ = false;
  bool is_lost_ = false;
  TimePoint last_to_server_{};
  TimePoint last_to_client_{};
};
using ConnectionPtr = std::shared_ptr<Connection>;

class Network {
 public:
  Network(Timeline& timeline, Random& random, std::size_t places, Duration trip_typical);

  // `done` runs on the client's loop: the connection, or null when it was refused. A connection
  // whose way is cut takes as long as the cut: the caller has deadlines of its own.
  void connect(Process& client, Process& server, std::function<void(const ConnectionPtr&)> done);
  void post(Process& from, Process& to, Step step);  // A datagram to its loop.

  // All that end at the process; the other ends are told, unless its host died with it.
  void process_died(Process& process, bool tell);

  // Faults. Directions are set apart; each lasts as long as the longest that was asked for.
  void cut(std::size_t from, std::size_t to, Duration length);
  void slow(std::size_t from, std::size_t to, Duration length, Duration delay_max);
  void heal_all();
  [[nodiscard]] bool is_cut(std::size_t from, std::size_t to) const;
  // Whether a question from one would be answered by the other about now.
  [[nodiscard]] bool can_ask(const Process& from, const Process& to) const;

 private:
  friend class Connection;
  struct Way {
    TimePoint cut_until{};
    TimePoint slow_until{};
    Duration delay_max{};
  };
  [[nodiscard]] Way& way(std::size_t from, std::size_t to) { return ways_[from * places_ + to]; }
  [[nodiscard]] const Way& way(std::size_t from, std::size_t to) const {
    return ways_[from * places_ + to];
  }
  [[nodiscard]] Duration trip(std::size_t from, std::size_t to);
  // When what is sent now arrives; `last` keeps the order.
  [[nodiscard]] TimePoint arrival(std::size_t from, std::size_t to, TimePoint& last);

  Timeline& timeline_;
  Random& random_;
  const std::size_t places_;
  const Duration trip_typical_;
  std::vector<Way> ways_;
  std::vector<std::weak_ptr<Connection>> connections_;
  std::size_t prune_at_ = 64;
};

}  // namespace tiercel::sim
