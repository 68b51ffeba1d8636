// Roles and replication of a RedisServer.

#include <algorithm>
#include <utility>

#include "redis_model.h"

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {
constexpr Duration kReplicationTimeout = 5s;
}  // namespace

void RedisServer::promote(Birth by, bool kills_clients) {
  if (is_loading()) return;
  if (is_master_) {
    if (by == Birth::kElected) env_.branches.enthrone(branch_, env_.now());
    return;
  }
  drop_master_link();
  drop_replicas();
  former_branch_ = branch_;
  former_offset_ = offset_;
  branch_ = env_.branches.begin({.parent = former_branch_,
                                 .fork = offset_,
                                 .birth = by,
                                 .server = index_,
                                 .born_at = env_.now(),
                                 .is_confirmed = by != Birth::kElected},
                                by == Birth::kElected);
  is_master_ = true;
  ++env_.counts.promotions;
  env_.trace.tell(process_.name(),
                  by == Birth::kElected ? "promoted by Sentinel" : "promoted by hand", ": ",
                  Branches::name(branch_), " from ", Branches::name(former_branch_), '@', offset_);
  if (kills_clients) kill_clients(/*subscribers_only=*/false);
  if (on_promotion) std::exchange(on_promotion, nullptr)(*this);
}

void RedisServer::replicate(std::size_t master, bool kills_clients) {
  if (is_loading() || master == index_) return;
  if (!is_master_ && master_ == master) return;
  env_.trace.tell(process_.name(), "becomes a replica of M", master + 1);
  if (is_master_) {
    env_.branches.end(branch_, env_.now());
    answer_waiters(/*all=*/true);
  }
  is_master_ = false;
  master_ = master;
  drop_master_link();
  drop_replicas();
  link_down_since_ = env_.now();
  if (kills_clients) kill_clients(/*subscribers_only=*/false);
  dial_master();
}

void RedisServer::cron() {
  for (auto& link : replicas_) {
    link->connection->to_client([connection = link->connection, replica = all_[link->server]] {
      if (replica->master_connection_ == connection)
        replica->master_heard_at_ = replica->env_.now();
    });
  }
  if (master_connection_ && env_.now() > master_heard_at_ + kReplicationTimeout) drop_master_link();
  if (!is_master_ && !master_connection_ && !is_dialling_) dial_master();
  process_.give_after(env_.some(800ms, 1200ms), [this] { cron(); });
}

void RedisServer::dial_master() {
  RedisServer& master = *all_[master_];
  is_dialling_ = true;
  env_.network.connect(
      process_, master.process(),
      [this, &master, wanted = master_](const ConnectionPtr& connection) {
        is_dialling_ = false;
        if (!connection) return;
        if (is_master_ || master_ != wanted || master_connection_) {
          connection->close_by_client();
          return;
        }
        master_connection_ = connection;
        master_heard_at_ = env_.now();
        connection->on_closed_at_client = [this, connection = connection.get()] {
          if (master_connection_.get() == connection) drop_master_link();
        };
        connection->to_server([this, &master, connection, branch = branch_, offset = offset_] {
          master.accept_replica(connection, *this, branch, offset);
        });
      });
}

// PSYNC.
void RedisServer::accept_replica(const ConnectionPtr& connection, RedisServer& replica, int branch,
                                 std::uint64_t offset) {
  // A replica that is not in step itself has nothing to hand on.
  if (is_loading() || (!is_master_ && !is_link_up_)) {
    connection->close_by_server();
    return;
  }
  std::erase_if(replicas_, [&](const auto& link) { return link->server == replica.index(); });
  replicas_.push_back(std::make_unique<ReplicaLink>());
  ReplicaLink& link = *replicas_.back();
  link.connection = connection;
  link.server = replica.index();
  connection->on_closed_at_server = [this, connection = connection.get()] {
    std::erase_if(replicas_,
                  [connection](const auto& each) { return each->connection.get() == connection; });
  };
  const bool is_ours = (branch == branch_ && offset <= offset_) ||
                       (branch == former_branch_ && offset <= former_offset_);
  if (is_ours && offset >= backlog_from_) {
    connection->to_client([&replica, connection, branch_now = branch_] {
      replica.take_partial(connection, branch_now);
    });
    for (std::uint64_t at = offset + 1; at <= offset_; ++at) send_op(link, at);
    return;
  }
  ++env_.counts.full_resyncs;
  // The fork and the transfer; what happens meanwhile follows on the same connection.
  auto snapshot = std::make_shared<const Dataset>(data_);
  connection->to_client_after(env_.some(10ms, 400ms), [&replica, connection, snapshot,
                                                       branch_now = branch_, offset_now = offset_] {
    replica.take_full(connection, *snapshot, branch_now, offset_now);
  });
}

void RedisServer::take_partial(const ConnectionPtr& connection, int branch) {
  if (connection != master_connection_) return;
  if (branch != branch_) {
    former_branch_ = branch_;
    former_offset_ = offset_;
    branch_ = branch;
    drop_replicas();
  }
  is_link_up_ = true;
  env_.trace.tell(process_.name(), "goes on from M", master_ + 1, " with ", Branches::name(branch_),
                  '@', offset_);
  connection->to_server([master = all_[master_], connection, offset = offset_] {
    master->replica_acknowledged(connection, offset);
  });
}

void RedisServer::take_full(const ConnectionPtr& connection, const Dataset& data, int branch,
                            std::uint64_t offset) {
  if (connection != master_connection_) return;
  drop_replicas();
  data_ = data;
  branch_ = branch;
  offset_ = offset;
  former_branch_ = -1;
  backlog_from_ = offset;
  is_link_up_ = true;
  loading_until_ = env_.now() + env_.some(0ms, 30ms);
  env_.trace.tell(process_.name(), "takes all data of M", master_ + 1, ": ",
                  Branches::name(branch_), '@', offset_);
  push({.kind = Push::Kind::kFlushed}, /*to_trackers=*/true, 0s);
  connection->to_server([master = all_[master_], connection, offset] {
    master->replica_acknowledged(connection, offset);
  });
}

void RedisServer::send_op(ReplicaLink& link, std::uint64_t offset) {
  RedisServer& replica = *all_[link.server];
  const bool wants_ack = !waiters_.empty();
  link.connection->to_client([this, &replica, connection = link.connection, branch = branch_,
                              offset, wants_ack] {
    if (replica.master_connection_ != connection || replica.offset_ + 1 != offset) return;
    replica.follow_op(env_.branches.op_at(branch, offset));
    if (!wants_ack) return;
    connection->to_server([this, connection, offset] { replica_acknowledged(connection, offset); });
  });
}

void RedisServer::replica_acknowledged(const ConnectionPtr& connection, std::uint64_t offset) {
  for (auto& link : replicas_) {
    if (link->connection != connection) continue;
    link->is_online = true;
    link->acknowledged = std::max(link->acknowledged, offset);
  }
  answer_waiters(/*all=*/false);
}

void RedisServer::drop_replicas() {
  for (auto& link : replicas_) link->connection->close_by_server();
  replicas_.clear();
}

void RedisServer::drop_master_link() {
  if (is_link_up_) link_down_since_ = env_.now();
  is_link_up_ = false;
  if (!master_connection_) return;
  const ConnectionPtr connection = std::exchange(master_connection_, nullptr);
  connection->close_by_client();
}

std::size_t RedisServer::replicas_at(std::uint64_t offset) const {
  return static_cast<std::size_t>(std::count_if(
      replicas_.begin(), replicas_.end(),
      [offset](const auto& link) { return link->is_online && link->acknowledged >= offset; }));
}

void RedisServer::wait(std::uint64_t offset, std::size_t count, Duration timeout,
                       std::function<void(std::size_t)> done) {
  const std::uint64_t id = ++waiters_begun_;
  waiters_.push_back({offset, count, id, std::move(done)});
  for (auto& link : replicas_) {
    // REPLCONF GETACK.
    link->connection->to_client(
        [this, connection = link->connection, replica = all_[link->server]] {
          if (replica->master_connection_ != connection) return;
          connection->to_server(
              [this, connection, at = replica->offset_] { replica_acknowledged(connection, at); });
        });
  }
  process_.give_after(timeout, [this, id] {
    const auto waiter = std::find_if(waiters_.begin(), waiters_.end(),
                                     [id](const Waiter& each) { return each.id == id; });
    if (waiter == waiters_.end()) return;
    Waiter overdue = std::move(*waiter);
    waiters_.erase(waiter);
    overdue.done(replicas_at(overdue.offset));
  });
}

void RedisServer::answer_waiters(bool all) {
  std::deque<Waiter> left;
  std::deque<Waiter> answered;
  for (Waiter& waiter : waiters_) {
    const bool is_over = all || replicas_at(waiter.offset) >= waiter.count;
    (is_over ? answered : left).push_back(std::move(waiter));
  }
  waiters_ = std::move(left);
  for (Waiter& waiter : answered) waiter.done(all ? 0 : replicas_at(waiter.offset));
}

}  // namespace tiercel::sim
