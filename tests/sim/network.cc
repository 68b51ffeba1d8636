#include "network.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {
// After a cut heals TCP sends again when its backoff ends, which has grown with the cut.
constexpr Duration kBackoffMax = 2s;
}  // namespace

Connection::Connection(Network& network, Process& client, Process& server)
    : network_(network), client_(client), server_(server), client_life_(client.life()) {}

void Connection::to_server(Step step) {
  if (!is_open_at_client_ || client_life_ != client_.life()) return;
  const TimePoint at = network_.arrival(client_.place(), server_.place(), last_to_server_);
  network_.timeline_.at(at, [self = shared_from_this(), step = std::move(step)]() mutable {
    self->arrive_at_server(std::move(step));
  });
}

void Connection::arrive_at_server(Step step) {
  if (is_lost_) return;
  if (server_life_ != server_.life()) {
    // Whoever lives there now knows no such connection; a dead host answers nothing.
    if (server_.is_alive()) {
      deliver_to_client(network_.arrival(server_.place(), client_.place(), last_to_client_),
                        [self = shared_from_this()] { self->end_at_client(); });
    }
    return;
  }
  server_.give([self = shared_from_this(), step = std::move(step)]() mutable {
    if (self->is_open_at_server_) step();
  });
}

void Connection::to_client_after(Duration wait, Step step) {
  if (!is_open_at_server_ || server_life_ != server_.life()) return;
  last_to_client_ = std::max(last_to_client_, network_.timeline_.now() + wait);
  deliver_to_client(network_.arrival(server_.place(), client_.place(), last_to_client_),
                    std::move(step));
}

void Connection::deliver_to_client(TimePoint at, Step step) {
  network_.timeline_.at(at, [self = shared_from_this(), step = std::move(step)]() mutable {
    self->arrive_at_client(std::move(step));
  });
}

void Connection::arrive_at_client(Step step) {
  if (is_lost_ || client_life_ != client_.life()) return;
  client_.give([self = shared_from_this(), step = std::move(step)]() mutable {
    if (self->is_open_at_client_) step();
  });
}

void Connection::end_at_client() {
  if (!is_open_at_client_) return;
  is_open_at_client_ = false;
  Step told = std::move(on_closed_at_client);
  on_closed_at_client = nullptr;
  if (told && client_life_ == client_.life()) told();
}

void Connection::end_at_server() {
  if (!is_open_at_server_) return;
  is_open_at_server_ = false;
  Step told = std::move(on_closed_at_server);
  on_closed_at_server = nullptr;
  if (told && server_life_ == server_.life()) told();
}

void Connection::close_by_client() {
  if (!is_open_at_client_) return;
  to_server([self = shared_from_this()] { self->end_at_server(); });
  is_open_at_client_ = false;
  on_closed_at_client = nullptr;
}

void Connection::close_by_server() {
  if (!is_open_at_server_) return;
  to_client([self = shared_from_this()] { self->end_at_client(); });
  is_open_at_server_ = false;
  on_closed_at_server = nullptr;
}

Network::Network(Timeline& timeline, Random& random, std::size_t places, Duration trip_typical)
    : timeline_(timeline),
      random_(random),
      places_(places),
      trip_typical_(trip_typical),
      ways_(places * places) {}

void Network::connect(Process& client, Process& server,
                      std::function<void(const ConnectionPtr&)> done) {
  auto connection = std::make_shared<Connection>(*this, client, server);
  if (connections_.size() >= prune_at_) {
    std::erase_if(connections_, [](const auto& weak) { return weak.expired(); });
    prune_at_ = 64 + 2 * connections_.size();
  }
  connections_.push_back(connection);
  const TimePoint at = arrival(client.place(), server.place(), connection->last_to_server_);
  timeline_.at(at, [this, connection, done = std::move(done)]() mutable {
    Process& to = connection->server_;
    const bool is_accepted = to.is_alive();
    if (is_accepted) {
      connection->server_life_ = to.life();
      connection->is_open_at_server_ = true;
    }
    connection->deliver_to_client(
        arrival(to.place(), connection->client_.place(), connection->last_to_client_),
        [connection, is_accepted, done = std::move(done)] {
          done(is_accepted ? connection : nullptr);
        });
  });
}

void Network::post(Process& from, Process& to, Step step) {
  if (is_cut(from.place(), to.place())) return;
  timeline_.after(trip(from.place(), to.place()),
                  [&to, life = to.life(), step = std::move(step)]() mutable {
                    if (life == to.life()) to.give(std::move(step));
                  });
}

void Network::process_died(Process& process, bool tell) {
  for (const auto& weak : connections_) {
    const auto connection = weak.lock();
    if (!connection) continue;
    if (&connection->server_ == &process && connection->is_open_at_server_) {
      connection->is_open_at_server_ = false;
      connection->on_closed_at_server = nullptr;
      if (!tell) continue;
      connection->deliver_to_client(
          arrival(process.place(), connection->client_.place(), connection->last_to_client_),
          [connection] { connection->end_at_client(); });
    } else if (&connection->client_ == &process && connection->is_open_at_client_) {
      connection->is_open_at_client_ = false;
      connection->on_closed_at_client = nullptr;
      if (!tell) continue;
      Process& server = connection->server_;
      timeline_.at(arrival(process.place(), server.place(), connection->last_to_server_),
                   [connection] {
                     connection->arrive_at_server([connection] { connection->end_at_server(); });
                   });
    }
  }
}

void Network::cut(std::size_t from, std::size_t to, Duration length) {
  auto& until = way(from, to).cut_until;
  until = std::max(until, timeline_.now() + length);
}

void Network::slow(std::size_t from, std::size_t to, Duration length, Duration delay_max) {
  Way& slowed = way(from, to);
  slowed.slow_until = std::max(slowed.slow_until, timeline_.now() + length);
  slowed.delay_max = delay_max;
}

void Network::heal_all() {
  for (Way& healed : ways_) healed = Way{};
}

bool Network::is_cut(std::size_t from, std::size_t to) const {
  return timeline_.now() < way(from, to).cut_until;
}

bool Network::can_ask(const Process& from, const Process& to) const {
  return to.is_running() && !is_cut(from.place(), to.place()) && !is_cut(to.place(), from.place());
}

Duration Network::trip(std::size_t from, std::size_t to) {
  const Way& taken = way(from, to);
  auto length = static_cast<double>(trip_typical_.count()) * (0.5 + random_.unit());
  if (random_.below(200) == 0) length *= 1.0 + 10.0 * random_.unit();
  if (timeline_.now() < taken.slow_until) {
    length += static_cast<double>(taken.delay_max.count()) * random_.unit();
  }
  return Duration{static_cast<Duration::rep>(length)};
}

TimePoint Network::arrival(std::size_t from, std::size_t to, TimePoint& last) {
  TimePoint leaves = timeline_.now();
  const TimePoint cut_until = way(from, to).cut_until;
  if (leaves < cut_until) {
    const Duration backoff = std::min<Duration>(kBackoffMax, cut_until - leaves);
    leaves =
        cut_until +
        Duration{static_cast<Duration::rep>(static_cast<double>(backoff.count()) * random_.unit())};
  }
  last = std::max(last + 1ns, leaves + trip(from, to));
  return last;
}

}  // namespace tiercel::sim
