#include "redis_model.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;
using coherence::ChangeKind;
using coherence::kVersionUnknown;

RedisServer::RedisServer(Env& env, std::size_t index)
    : env_(env),
      index_(index),
      address_("10.0.0." + std::to_string(index + 1) + ":6379"),
      process_(env.timeline, 'M' + std::to_string(index + 1), index),
      run_id_("run-" + std::to_string(index + 1) + "-1"),
      // Servers' clocks are set by different people.
      clock_offset_(env.some(0s, 300ms)) {}

void RedisServer::start() {
  if (index_ == 0) {
    branch_ = env_.branches.begin(
        {.parent = -1, .fork = 0, .birth = Birth::kOrigin, .server = index_, .born_at = env_.now()},
        /*is_legitimate=*/true);
  } else {
    is_master_ = false;
    master_ = 0;
    // What a server has that never was a master: an id of its own.
    branch_ = env_.branches.begin({.parent = -1,
                                   .fork = 0,
                                   .birth = Birth::kOrigin,
                                   .server = index_,
                                   .born_at = env_.now(),
                                   .ended_at = env_.now()},
                                  /*is_legitimate=*/false);
  }
  cron();
}

Duration RedisServer::wall_clock() const {
  return std::chrono::hours{24 * 365 * 50} + (env_.now() - kBeginning) + clock_offset_;
}

std::optional<Reply> RedisServer::refusal(bool is_write) const {
  if (is_loading()) return Reply{.status = Status::kLoading};
  if (is_write && !is_master_) return Reply{.status = Status::kReadonly};
  return std::nullopt;
}

// --- reads

Reply RedisServer::identify() const {
  Reply reply;
  if (is_loading()) reply.status = Status::kLoading;
  reply.run_id = run_id_;
  reply.replication.is_master = is_master_;
  reply.replication.replication_id = Branches::name(branch_);
  reply.replication.former_replication_id = Branches::name(former_branch_);
  reply.replication.is_linked = !is_master_ && is_link_up_;
  if (is_master_) {
    for (const auto& replica : replicas_) {
      if (replica->is_online)
        reply.replication.replicas.push_back(all_[replica->server]->address());
    }
  }
  return reply;
}

Reply RedisServer::get(std::size_t key) const {
  if (auto refused = refusal(false)) return *refused;
  const Stored& stored = data_.values[key];
  return {.status = stored.exists ? Status::kOk : Status::kNothing, .stored = stored};
}

Reply RedisServer::history(Version from, std::size_t count) const {
  if (auto refused = refusal(false)) return *refused;
  Reply reply;
  if (from == kVersionUnknown) {
    if (!data_.history.empty()) reply.history.push_back(data_.history.back());
    return reply;
  }
  auto entry = std::lower_bound(
      data_.history.begin(), data_.history.end(), from,
      [](const Message& message, Version version) { return message.version < version; });
  for (; entry != data_.history.end(); ++entry) {
    if (reply.history.size() == count) {
      reply.is_last = false;
      break;
    }
    reply.history.push_back(*entry);
  }
  return reply;
}

Reply RedisServer::tags() {
  if (auto refused = refusal(!data_.has_base)) return *refused;
  if (!data_.has_base) {
    Op op{.kind = Op::Kind::kBase};
    op.lease.begun_at = data_.last_id;
    run(std::move(op));
  }
  return {.tags = data_.tags, .base = data_.base};
}

// --- changes

Message RedisServer::next_message(ChangeKind kind, std::uint64_t origin,
                                  std::uint64_t nonce) const {
  return {.kind = kind,
          .version = data_.next_id(wall_clock()),
          .origin = origin,
          .nonce = nonce,
          .subject = 0,
          .value = {},
          .has_value = false};
}

Reply RedisServer::write(std::size_t key, std::uint32_t write, bool is_delete, std::uint64_t origin,
                         std::uint64_t nonce, bool with_value) {
  if (auto refused = refusal(true)) return *refused;
  Op op{.kind = Op::Kind::kWrite, .key = key, .has_message = true, .is_published = true};
  op.message = next_message(ChangeKind::kKeys, origin, nonce);
  op.message.subject = key;
  op.stored = {.exists = !is_delete,
               .version = op.message.version,
               .value = {.write = write, .incarnation = data_.incarnation, .place = {}}};
  op.message.has_value = with_value && !is_delete;
  const Version version = op.message.version;
  const Place place = run(std::move(op));
  return {.stored = data_.values[key], .place = place, .version = version};
}

Reply RedisServer::invalidate_tag(std::size_t tag, std::uint32_t write, std::uint64_t origin,
                                  std::uint64_t nonce) {
  if (auto refused = refusal(true)) return *refused;
  Op op{.kind = Op::Kind::kTag, .has_message = true, .is_published = true};
  op.message = next_message(ChangeKind::kTags, origin, nonce);
  op.message.subject = tag;
  op.stored.value.write = write;
  const Version version = op.message.version;
  const Place place = run(std::move(op));
  return {.place = place, .version = version};
}

Reply RedisServer::clear(std::uint32_t write, std::uint64_t origin, std::uint64_t nonce) {
  if (auto refused = refusal(true)) return *refused;
  Op op{.kind = Op::Kind::kClear, .has_message = true, .is_published = true};
  op.message = next_message(ChangeKind::kClear, origin, nonce);
  op.stored.value.write = write;
  const Version version = op.message.version;
  const Place place = run(std::move(op));
  return {.place = place, .version = version};
}

Reply RedisServer::begin_fill(std::size_t key, std::uint64_t token, Duration life,
                              bool ignore_stored) {
  if (auto refused = refusal(true)) return *refused;
  const Stored& stored = data_.values[key];
  if (!ignore_stored && stored.exists) return {.outcome = 1, .stored = stored};
  const FillLease& lease = data_.leases[key];
  const bool is_held = lease.token != 0 && wall_clock() < lease.until;
  if (is_held && lease.token != token) return {.outcome = 3};
  // Where the history stands: a tag that is invalidated later makes the load too old.
  const Version begun_at = data_.last_id;
  if (!is_held) {
    Op op{.kind = Op::Kind::kFillBegin, .key = key};
    op.lease = {.token = token, .begun_at = begun_at, .until = wall_clock() + life};
    run(std::move(op));
  }
  return {.outcome = 2, .version = begun_at};
}

Reply RedisServer::finish_fill(std::size_t key, std::uint64_t token, std::uint32_t write,
                               Version begun_at, bool ignored_stored, std::uint64_t origin,
                               std::uint64_t nonce) {
  if (auto refused = refusal(true)) return *refused;
  const FillLease& lease = data_.leases[key];
  if (lease.token != token || wall_clock() >= lease.until) return {.status = Status::kNothing};
  if ((!ignored_stored && data_.values[key].exists) || !data_.has_base ||
      data_.tag_version(tag_of(key)) > begun_at) {
    run({.kind = Op::Kind::kFillAbandon, .key = key});
    return {.status = Status::kNothing};
  }
  Op op{.kind = Op::Kind::kFillFinish, .key = key};
  if (data_.history.empty()) {
    op.message = next_message(ChangeKind::kNone, origin, nonce);
    op.has_message = true;
  }
  const Version version = op.has_message ? op.message.version : data_.last_id;
  op.stored = {.exists = true,
               .version = version,
               .value = {.write = write, .incarnation = data_.incarnation, .place = {}}};
  const Place place = run(std::move(op));
  return {.stored = data_.values[key], .place = place, .version = version};
}

Reply RedisServer::abandon_fill(std::size_t key, std::uint64_t token) {
  if (auto refused = refusal(true)) return *refused;
  if (data_.leases[key].token != token) return {.status = Status::kNothing};
  run({.kind = Op::Kind::kFillAbandon, .key = key});
  return {};
}

void RedisServer::foreign_set(std::size_t key, std::uint32_t write) {
  if (refusal(true)) return;
  Op op{.kind = Op::Kind::kForeignSet, .key = key};
  op.stored = {.exists = true,
               .version = kVersionUnknown,
               .value = {.write = write, .incarnation = data_.incarnation, .place = {}}};
  run(std::move(op));
}

void RedisServer::foreign_delete(std::size_t key) {
  if (refusal(true)) return;
  run({.kind = Op::Kind::kForeignDelete, .key = key});
}

void RedisServer::flush_all() {
  if (refusal(true)) return;
  run({.kind = Op::Kind::kFlush});
}

Place RedisServer::run(Op op) {
  ++offset_;
  const Place place{branch_, offset_};
  op.stored.value.place = place;
  op.message.value = op.stored.value;
  data_.apply(op, env_.setup.history_entries);
  tell_checkers(op, place);
  publish(op);
  env_.branches[branch_].ops.push_back(std::move(op));
  for (auto& replica : replicas_) send_op(*replica, offset_);
  return place;
}

void RedisServer::follow_op(const Op& op) {
  ++offset_;
  data_.apply(op, env_.setup.history_entries);
  publish(op);
  for (auto& replica : replicas_) send_op(*replica, offset_);
}

void RedisServer::publish(const Op& op) {
  if (op.is_published) push({.kind = Push::Kind::kMessage, .message = op.message}, false, 0s);
  // The end of the turn, in which a pong may overtake it.
  const Duration turn = env_.some(0us, 60us);
  switch (op.kind) {
    case Op::Kind::kWrite:
    case Op::Kind::kFillFinish:
    case Op::Kind::kForeignSet:
    case Op::Kind::kForeignDelete:
      push({.kind = Push::Kind::kTracked, .key = op.key}, true, turn);
      break;
    case Op::Kind::kFlush: push({.kind = Push::Kind::kFlushed}, true, turn); break;
    default: break;
  }
}

void RedisServer::push(const Push& what, bool to_trackers, Duration wait) {
  std::erase_if(clients_,
                [](const Client& client) { return !client.connection->is_open_at_server(); });
  for (const Client& client : clients_) {
    if (!client.is_subscribed || (to_trackers && !client.tracks)) continue;
    const auto send = [handler = client.handler, what](const ConnectionPtr& to) {
      to->to_client([handler, what] { handler(what); });
    };
    if (wait == Duration{0}) {
      send(client.connection);
    } else {
      process_.give_after(wait, [send, connection = client.connection] { send(connection); });
    }
  }
}

void RedisServer::tell_checkers(const Op& op, Place place) {
  const std::uint32_t write = op.stored.value.write;
  const bool observed = env_.setup.session.observes_foreign_writers;
  env_.trace.mix(place.offset);
  // A foreign change is acknowledged at the end of the turn.
  const TimePoint at = env_.now();
  const TimePoint turn_end = at + 60us;
  const auto changed = [&](std::size_t key, TimePoint when) {
    env_.checkers.executed(key, place, write, when, op.kind == Op::Kind::kClear);
  };
  switch (op.kind) {
    case Op::Kind::kWrite: changed(op.key, at); break;
    case Op::Kind::kForeignSet:
    case Op::Kind::kForeignDelete: changed(op.key, turn_end); break;
    case Op::Kind::kTag:
      for (std::size_t key = 0; key < kKeys; ++key) {
        if (is_loaded(key) && tag_of(key) == op.message.subject) changed(key, at);
      }
      break;
    case Op::Kind::kClear:
      for (std::size_t key = 0; key < kKeys; ++key) changed(key, at);
      break;
    case Op::Kind::kFlush:
      for (std::size_t key = 0; key < kKeys; ++key) {
        if (observed && !is_loaded(key)) changed(key, turn_end);
      }
      break;
    default: break;
  }
  if (!env_.trace.is_on()) return;
  static constexpr const char* kNames[] = {
      "write", "fill begun", "fill",        "fill abandoned", "tag",
      "clear", "base",       "foreign set", "foreign delete", "flush"};
  env_.trace.tell(process_.name(), kNames[static_cast<std::size_t>(op.kind)], ' ',
                  op.kind == Op::Kind::kTag ? tag_name(op.message.subject) : key_name(op.key),
                  op.stored.exists ? " = write " : " write ", write, " at ",
                  Branches::name(place.branch), '@', place.offset, " version ",
                  op.has_message ? op.message.version : op.stored.version);
}

// --- clients

void RedisServer::register_client(const ConnectionPtr& connection) {
  const bool is_known = std::any_of(clients_.begin(), clients_.end(), [&](const Client& client) {
    return client.connection == connection;
  });
  if (!is_known) clients_.push_back({.connection = connection, .handler = {}});
}

void RedisServer::subscribe(const ConnectionPtr& connection, bool tracks, PushHandler handler) {
  for (Client& client : clients_) {
    if (client.connection != connection) continue;
    client.is_subscribed = true;
    client.tracks = tracks;
    client.handler = std::move(handler);
    return;
  }
}

void RedisServer::kill_clients(bool subscribers_only) {
  for (Client& client : clients_) {
    if (!subscribers_only || client.is_subscribed) client.connection->close_by_server();
  }
  std::erase_if(clients_,
                [](const Client& client) { return !client.connection->is_open_at_server(); });
}

// --- life

void RedisServer::take_snapshot() {
  if (is_loading() || branch_ < 0) return;
  snapshot_ = {data_, branch_, offset_};
}

void RedisServer::crash(bool with_its_host) {
  env_.trace.tell(process_.name(), with_its_host ? "dies with its host" : "is killed");
  if (is_master_) env_.branches.end(branch_, env_.now());
  clients_.clear();
  replicas_.clear();
  waiters_.clear();
  master_connection_.reset();
  is_dialling_ = false;
  is_link_up_ = false;
  env_.network.process_died(process_, !with_its_host);
  process_.kill();
}

void RedisServer::restart(bool from_snapshot) {
  process_.start();
  ++lives_;
  ++env_.counts.restarts;
  run_id_ = "run-" + std::to_string(index_ + 1) + '-' + std::to_string(lives_ + 1);
  loading_until_ = env_.now() + env_.some(0ms, 20ms);
  link_down_since_ = env_.now();
  const bool has_data = from_snapshot && snapshot_.branch >= 0;
  const bool reigns = env_.branches.reign() != 0 && is_master_ && [this] {
    for (int b = env_.branches.size() - 1; b >= 0; --b) {
      if (env_.branches[b].rank == env_.branches.reign()) {
        return env_.branches[b].server == index_;
      }
    }
    return false;
  }();
  // Where no Sentinel knew of its promotion, none does now.
  const bool is_confirmed = branch_ < 0 || env_.branches[branch_].is_confirmed;
  data_ = has_data ? snapshot_.data : Dataset{};
  data_.incarnation += has_data ? 0 : 1000 * static_cast<std::uint32_t>(lives_ + 1 + 10 * index_);
  offset_ = has_data ? snapshot_.offset : 0;
  former_branch_ = -1;
  if (is_master_ || !has_data) {
    if (has_data) {
      former_branch_ = snapshot_.branch;
      former_offset_ = offset_;
    }
    branch_ = env_.branches.begin({.parent = has_data ? snapshot_.branch : -1,
                                   .fork = offset_,
                                   .birth = has_data ? Birth::kRestarted : Birth::kOrigin,
                                   .server = index_,
                                   .born_at = env_.now(),
                                   .ended_at = is_master_ ? TimePoint::max() : env_.now(),
                                   .is_confirmed = is_confirmed},
                                  reigns);
  } else {
    branch_ = snapshot_.branch;
  }
  backlog_from_ = offset_;
  env_.trace.tell(process_.name(), "restarts as ", is_master_ ? "master" : "replica",
                  has_data ? " with a snapshot, " : " empty, ", Branches::name(branch_), '@',
                  offset_);
  cron();
}

}  // namespace tiercel::sim
