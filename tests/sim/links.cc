#include "links.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {
constexpr Duration kDialTimeout = 1s;
constexpr Duration kBackoffMin = 20ms;
constexpr Duration kBackoffMax = 1s;
constexpr Duration kLeavePatience = 100ms;
}  // namespace

Links::Links(Env& env, Process& process, std::vector<RedisServer*> servers, MasterFinder& finder,
             LinkUser& user)
    : env_(env), process_(process), servers_(std::move(servers)), finder_(finder), user_(user) {
  stream_.is_stream = true;
}

void Links::start() {
  dial(data_);
  dial(stream_);
}

// --- dialling

void Links::dial_later(Link& link) {
  const Duration most =
      std::min<Duration>(kBackoffMax, kBackoffMin * (1 << std::min(link.attempts++, 8)));
  process_.give_after(env_.some(1ms, most), [this, &link, attempt = link.attempt] {
    if (attempt == link.attempt && !link.is_up && !link.is_dialling) dial(link);
  });
}

void Links::dial(Link& link) {
  const auto target = finder_.target();
  if (!target) {
    finder_.ask();
    return dial_later(link);
  }
  link.is_dialling = true;
  link.server = *target;
  const std::uint64_t attempt = ++link.attempt;
  process_.give_after(kDialTimeout, [this, &link, attempt] {
    if (attempt != link.attempt || link.is_up) return;
    finder_.ask();
    lose(link);
  });
  env_.network.connect(process_, servers_[link.server]->process(),
                       [this, &link, attempt](const ConnectionPtr& connection) {
                         if (attempt != link.attempt) {
                           if (connection) connection->close_by_client();
                           return;
                         }
                         if (!connection) {
                           finder_.found_none(link.server);
                           return lose(link);
                         }
                         link.connection = connection;
                         connection->on_closed_at_client = [this, &link, attempt] {
                           if (attempt == link.attempt) lose(link);
                         };
                         shake_hands(link, attempt);
                       });
}

void Links::shake_hands(Link& link, std::uint64_t attempt) {
  RedisServer& server = *servers_[link.server];
  link.connection->to_server([this, &link, &server, attempt, connection = link.connection] {
    server.register_client(connection);
    connection->to_client([this, &link, &server, attempt, reply = server.identify()] {
      if (attempt != link.attempt) return;
      if (reply.status != Status::kOk || !reply.replication.is_master) {
        finder_.found_none(link.server);
        return lose(link);
      }
      const coherence::Server who{.name = server.address(),
                                  .run_id = reply.run_id,
                                  .replication_id = reply.replication.replication_id};
      if (link.is_stream) {
        subscribe(link, attempt, who);
      } else {
        up(link, who);
      }
    });
  });
}

void Links::subscribe(Link& link, std::uint64_t attempt, const coherence::Server& who) {
  RedisServer& server = *servers_[link.server];
  const bool tracks = env_.setup.session.observes_foreign_writers;
  link.connection->to_server(
      [this, &link, &server, attempt, who, tracks, connection = link.connection] {
        server.subscribe(connection, tracks, [this, &link, attempt](const Push& push) {
          if (attempt == link.attempt) user_.stream_push(push);
        });
        connection->to_client([this, &link, attempt, who] {
          if (attempt == link.attempt) up(link, who);
        });
      });
}

void Links::up(Link& link, const coherence::Server& server) {
  link.is_up = true;
  link.is_dialling = false;
  link.attempts = 0;
  finder_.found_master(link.server);
  env_.trace.tell(process_.name(), link.is_stream ? "S" : "D", " is up on ",
                  servers_[link.server]->process().name(), ", ", server.replication_id);
  if (link.is_stream) {
    user_.stream_up(server);
  } else {
    is_leaving_ = false;
    user_.data_up(server);
    send_waiting();
  }
}

void Links::lose(Link& link) {
  const bool was_up = std::exchange(link.is_up, false);
  link.is_dialling = false;
  ++link.attempt;
  if (link.connection) std::exchange(link.connection, nullptr)->close_by_client();
  if (was_up) {
    env_.trace.tell(process_.name(), link.is_stream ? "S" : "D", " is lost");
    if (link.is_stream) {
      user_.stream_down();
    } else {
      user_.data_down();
      std::vector<std::uint64_t> unknown;
      for (auto& [id, pending] : pending_) {
        if (pending.is_sent && !pending.is_safe) unknown.push_back(id);
        pending.is_sent = false;
      }
      for (const std::uint64_t id : unknown) finish(id, Ending::kUnknown, {});
    }
  }
  if (!link.is_up && !link.is_dialling) dial_later(link);
}

void Links::redial_stream() {
  if (stream_.is_up) lose(stream_);
}

void Links::leave_master() {
  finder_.ask();
  if (stream_.is_up) lose(stream_);
  if (!data_.is_up || is_leaving_) return;
  is_leaving_ = true;
  process_.give_after(kLeavePatience, [this, attempt = data_.attempt] {
    if (attempt == data_.attempt && data_.is_up) lose(data_);
  });
}

void Links::target_changed() {
  for (Link* link : {&stream_, &data_}) {
    if ((link->is_up || link->is_dialling) && link->server != finder_.target()) lose(*link);
  }
}

void Links::break_stream(bool half_open) {
  if (!stream_.connection) return;
  if (half_open) return stream_.connection->lose();
  lose(stream_);
}

void Links::break_data(bool half_open) {
  if (!data_.connection) return;
  if (half_open) return data_.connection->lose();
  lose(data_);
}

// --- commands

void Links::submit(Command command, bool is_safe, Duration patience, Done done,
                   std::size_t waits_for) {
  const std::uint64_t id = ++last_id_;
  pending_.emplace(id, Pending{.command = std::move(command),
                               .is_safe = is_safe,
                               .waits_for = waits_for,
                               .done = std::move(done)});
  process_.give_after(patience, [this, id, attempt = data_.attempt] {
    const auto found = pending_.find(id);
    if (found == pending_.end()) return;
    const bool was_sent = found->second.is_sent;
    finish(id, was_sent ? Ending::kUnknown : Ending::kNotDone, {});
    // The connection may be dead without anybody saying so.
    if (was_sent && attempt == data_.attempt && data_.is_up && env_.one_in(3)) lose(data_);
  });
  if (data_.is_up && !is_leaving_) send(id);
}

void Links::send_waiting() {
  for (auto& [id, pending] : pending_) {
    if (!pending.is_sent) send(id);
  }
}

void Links::send(std::uint64_t id) {
  Pending& pending = pending_.at(id);
  pending.is_sent = true;
  RedisServer& server = *servers_[data_.server];
  const ConnectionPtr connection = data_.connection;
  const auto arrived = [this, id](Reply reply) {
    const auto found = pending_.find(id);
    if (found != pending_.end() && found->second.is_sent) {
      finish(id, Ending::kAnswered, std::move(reply));
    }
  };
  connection->to_server(
      [connection, &server, arrived, command = pending.command, waits_for = pending.waits_for] {
        Reply reply = command(server);
        if (waits_for == 0 || reply.place.branch < 0) {
          connection->to_client(
              [arrived, reply = std::move(reply)]() mutable { arrived(std::move(reply)); });
          return;
        }
        server.wait(reply.place.offset, waits_for, 500ms,
                    [connection, arrived, reply](std::size_t count) mutable {
                      reply.outcome = static_cast<int>(count);
                      connection->to_client([arrived, reply] { arrived(reply); });
                    });
      });
}

void Links::finish(std::uint64_t id, Ending ending, Reply reply) {
  const auto found = pending_.find(id);
  if (found == pending_.end()) return;
  const Done done = std::move(found->second.done);
  pending_.erase(found);
  if (ending == Ending::kAnswered && reply.status == Status::kReadonly) {
    finder_.found_none(data_.server);
    leave_master();
  }
  done(ending, std::move(reply));
}

void Links::ping(std::function<void(Status)> done) {
  if (!stream_.is_up) return;
  RedisServer& server = *servers_[stream_.server];
  stream_.connection->to_server([&server, connection = stream_.connection, done = std::move(done)] {
    connection->to_client([done, status = server.ping()] { done(status); });
  });
}

// --- candidates

void Links::ask_server(std::size_t server, Duration patience,
                       std::function<void(std::optional<Reply>)> done) {
  const std::uint64_t id = ++last_id_;
  Side& side = sides_[server];
  side.asked.emplace(id, std::move(done));
  process_.give_after(patience, [this, server, id] {
    const auto found = sides_.find(server);
    if (found != sides_.end() && found->second.asked.contains(id)) lose_side(server);
  });
  if (side.connection) {
    send_side(server, id);
  } else if (!side.is_dialling) {
    dial_side(server);
  }
}

void Links::dial_side(std::size_t server) {
  sides_[server].is_dialling = true;
  env_.network.connect(
      process_, servers_[server]->process(), [this, server](const ConnectionPtr& connection) {
        const auto found = sides_.find(server);
        if (found == sides_.end() || found->second.connection) {
          if (connection) connection->close_by_client();
          return;
        }
        Side& side = found->second;
        side.is_dialling = false;
        if (!connection) return lose_side(server);
        side.connection = connection;
        connection->on_closed_at_client = [this, server, connection = connection.get()] {
          const auto side_now = sides_.find(server);
          if (side_now != sides_.end() && side_now->second.connection.get() == connection) {
            lose_side(server);
          }
        };
        std::vector<std::uint64_t> ids;
        for (const auto& [id, done] : side.asked) ids.push_back(id);
        for (const std::uint64_t id : ids) send_side(server, id);
      });
}

void Links::send_side(std::size_t server, std::uint64_t id) {
  const ConnectionPtr connection = sides_[server].connection;
  RedisServer& asked = *servers_[server];
  connection->to_server([this, connection, &asked, server, id] {
    asked.register_client(connection);
    connection->to_client([this, server, id, reply = asked.identify()] {
      const auto side = sides_.find(server);
      if (side == sides_.end()) return;
      const auto found = side->second.asked.find(id);
      if (found == side->second.asked.end()) return;
      const auto done = std::move(found->second);
      side->second.asked.erase(found);
      done(reply.status == Status::kOk ? std::optional{reply} : std::nullopt);
    });
  });
}

void Links::lose_side(std::size_t server) {
  Side& side = sides_[server];
  if (side.connection) std::exchange(side.connection, nullptr)->close_by_client();
  side.is_dialling = false;
  const auto asked = std::exchange(side.asked, {});
  for (const auto& [id, done] : asked) done(std::nullopt);
}

void Links::watch(const std::vector<std::size_t>& servers) {
  for (auto side = sides_.begin(); side != sides_.end();) {
    if (std::find(servers.begin(), servers.end(), side->first) != servers.end()) {
      ++side;
      continue;
    }
    const Side closed = std::move(side->second);
    side = sides_.erase(side);
    if (closed.connection) closed.connection->close_by_client();
    for (const auto& [id, done] : closed.asked) done(std::nullopt);
  }
}

}  // namespace tiercel::sim
