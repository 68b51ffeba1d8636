#include "sentinel_model.h"

#include <algorithm>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;
using EventKind = SentinelEvent::Kind;

SentinelModel::SentinelModel(Env& env, std::size_t index, std::vector<RedisServer*> servers)
    : env_(env),
      index_(index),
      process_(env.timeline, 'Z' + std::to_string(index + 1), env.sentinel_place(index)),
      servers_(std::move(servers)),
      seen_(servers_.size()) {
  for (Seen& seen : seen_) {
    seen.answered_at = env_.now();
    seen.same_role_since = env_.now();
  }
  seen_[0].is_master = true;
}

void SentinelModel::tick() {
  look_at_servers();
  if (env_.now() >= tilted_until_) act();
  if (env_.now() >= hello_at_) say_hello();
  process_.give_after(env_.some(80ms, 120ms), [this] { tick(); });
}

// --- what it sees

void SentinelModel::look_at_servers() {
  const bool is_urgent = state_ != State::kIdle || was_objectively_down_;
  const Duration info_every = is_urgent ? env_.setup.info_period / 10 : env_.setup.info_period;
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    if (!env_.network.can_ask(process_, servers_[i]->process())) continue;
    seen_[i].answered_at = env_.now();
    if (env_.now() >= seen_[i].info_at + info_every) read_info(i);
  }
}

void SentinelModel::read_info(std::size_t server) {
  const RedisServer& asked = *servers_[server];
  Seen& seen = seen_[server];
  if (asked.is_master() != seen.is_master ||
      (!asked.is_master() && asked.master_of_replica() != seen.master_of)) {
    seen.same_role_since = env_.now();
  }
  seen.info_at = env_.now();
  seen.is_master = asked.is_master();
  seen.master_of = asked.master_of_replica();
  seen.is_link_up = asked.is_link_up();
  seen.link_down_since = asked.link_down_since();
  seen.offset = asked.offset();
}

bool SentinelModel::sees_down(std::size_t server) const {
  const Seen& seen = seen_[server];
  if (env_.now() > seen.answered_at + env_.setup.down_after) return true;
  // A master that says that it is a replica, for long.
  return server == master_ && !seen.is_master &&
         env_.now() > seen.same_role_since + env_.setup.down_after + 2 * env_.setup.info_period;
}

bool SentinelModel::is_objectively_down() const {
  if (!sees_down(master_)) return false;
  std::size_t agree = 1;
  for (const SentinelModel* other : all_) {
    if (other == this || !env_.network.can_ask(process_, other->process_)) continue;
    if (env_.now() < other->tilted_until_) continue;
    if (other->master_ == master_ && other->sees_down(master_)) ++agree;
  }
  return agree >= quorum();
}

SentinelAnswer SentinelModel::answer() const {
  SentinelAnswer answer{.sentinel = index_,
                        .master = master_,
                        .lists_all_but = master_,
                        .config_epoch = config_epoch_,
                        .published = published_,
                        .is_tilted = env_.now() < tilted_until_,
                        .is_failing_over = was_objectively_down_ || state_ != State::kIdle};
  // It names the new master as soon as it has seen the promotion.
  if (state_ == State::kReconfiguring) answer.master = target_;
  for (std::size_t i = 0; i < servers_.size(); ++i) answer.sees_down.push_back(sees_down(i));
  return answer;
}

// --- what it does

void SentinelModel::act() {
  if (!sees_down(master_)) down_since_ = env_.now();
  const bool is_down = is_objectively_down();
  if (is_down && !was_objectively_down_) emit({.kind = EventKind::kObjectivelyDown});
  was_objectively_down_ = is_down;
  switch (state_) {
    case State::kIdle:
      if (is_down && env_.now() >= no_failover_before_) {
        begin_failover(/*by_hand=*/false);
      } else {
        repair();
      }
      break;
    case State::kVoting: ask_for_votes(); break;
    case State::kOrdering: order_promotion(); break;
    case State::kWaiting: await_promotion(); break;
    case State::kReconfiguring:
      if (env_.now() >= finish_at_) finish_failover();
      break;
  }
}

void SentinelModel::begin_failover(bool by_hand) {
  failover_epoch_ = ++current_epoch_;
  by_hand_ = by_hand;
  state_since_ = env_.now();
  no_failover_before_ = env_.now() + 2 * env_.setup.failover_timeout + env_.some(0s, 1s);
  votes_.assign(all_.size(), false);
  state_ = by_hand ? State::kOrdering : State::kVoting;
  env_.trace.tell(process_.name(), by_hand ? "fails over by hand" : "tries a failover", ", epoch ",
                  failover_epoch_);
  emit({.kind = EventKind::kTry, .epoch = failover_epoch_});
  if (by_hand) return;
  votes_[index_] = vote(failover_epoch_, index_) == index_;
  ask_for_votes();
}

void SentinelModel::ask_for_votes() {
  for (SentinelModel* other : all_) {
    if (other == this || votes_[other->index_]) continue;
    env_.network.post(process_, other->process_, [this, other, epoch = failover_epoch_] {
      if (other->vote(epoch, index_) != index_) return;
      env_.network.post(other->process_, process_, [this, other, epoch] {
        if (state_ == State::kVoting && failover_epoch_ == epoch) votes_[other->index_] = true;
      });
    });
  }
  const auto count = static_cast<std::size_t>(std::count(votes_.begin(), votes_.end(), true));
  if (count >= quorum()) {
    state_ = State::kOrdering;
    state_since_ = env_.now();
  } else if (env_.now() > state_since_ + std::min<Duration>(10s, env_.setup.failover_timeout)) {
    abort();
  }
}

std::size_t SentinelModel::vote(std::uint64_t epoch, std::size_t candidate) {
  current_epoch_ = std::max(current_epoch_, epoch);
  if (voted_epoch_ < epoch && current_epoch_ <= epoch) {
    voted_epoch_ = epoch;
    voted_for_ = candidate;
    emit({.kind = EventKind::kVote, .epoch = epoch, .leader = candidate});
    // Whoever votes for another does not try soon after.
    if (candidate != index_) {
      no_failover_before_ = std::max(
          no_failover_before_, env_.now() + 2 * env_.setup.failover_timeout + env_.some(0s, 1s));
    }
  }
  return voted_epoch_ == epoch ? voted_for_ : all_.size();
}

std::optional<std::size_t> SentinelModel::choose_replica() const {
  std::optional<std::size_t> best;
  const Duration down_for = sees_down(master_) ? env_.now() - down_since_ : Duration{0};
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    const Seen& seen = seen_[i];
    if (i == master_ || sees_down(i) || env_.now() > seen.answered_at + 500ms) continue;
    if (!by_hand_ && env_.now() > seen.info_at + 5 * env_.setup.info_period) continue;
    if (!seen.is_link_up && !seen.is_master &&
        env_.now() - seen.link_down_since > down_for + 10 * env_.setup.down_after) {
      continue;
    }
    if (!best || seen.offset > seen_[*best].offset) best = i;
  }
  return best;
}

void SentinelModel::order_promotion() {
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    if (env_.network.can_ask(process_, servers_[i]->process())) read_info(i);
  }
  const auto chosen = choose_replica();
  if (!chosen) return abort();
  target_ = *chosen;
  state_ = State::kWaiting;
  state_since_ = env_.now();
  env_.trace.tell(process_.name(), "orders ", name(target_), " to be master, epoch ",
                  failover_epoch_);
  emit({.kind = EventKind::kOrder, .epoch = failover_epoch_, .leader = index_, .server = target_});
  RedisServer* promoted = servers_[target_];
  env_.network.post(process_, promoted->process(),
                    [promoted] { promoted->promote(Birth::kElected, /*kill_clients=*/true); });
}

void SentinelModel::await_promotion() {
  if (seen_[target_].is_master && seen_[target_].info_at > state_since_) {
    env_.branches.confirm(servers_[target_]->branch(), env_.now());
    config_epoch_ = failover_epoch_;
    state_ = State::kReconfiguring;
    state_since_ = env_.now();
    finish_at_ = env_.now() + env_.some(300ms, 1200ms);
    emit({.kind = EventKind::kPromoted, .epoch = failover_epoch_, .server = target_});
    hello_at_ = env_.now() + env_.some(0ms, 100ms);
    for (std::size_t i = 0; i < servers_.size(); ++i) {
      if (i != master_ && i != target_) order_replication(i, target_);
    }
  } else if (env_.now() > state_since_ + env_.setup.failover_timeout) {
    abort();
  }
}

void SentinelModel::abort() {
  env_.trace.tell(process_.name(), "aborts the failover of epoch ", failover_epoch_);
  emit({.kind = EventKind::kAborted, .epoch = failover_epoch_});
  state_ = State::kIdle;
}

void SentinelModel::finish_failover() {
  state_ = State::kIdle;
  adopt(failover_epoch_, target_);
}

void SentinelModel::adopt(std::uint64_t config_epoch, std::size_t master) {
  const std::size_t former = std::exchange(master_, master);
  config_epoch_ = config_epoch;
  config_since_ = env_.now();
  state_ = State::kIdle;
  was_objectively_down_ = false;
  no_failover_before_ = env_.now();
  env_.trace.tell(process_.name(), "switches from ", name(former), " to ", name(master), ", epoch ",
                  config_epoch);
  emit({.kind = EventKind::kSwitch,
        .epoch = config_epoch,
        .server = master,
        .former_master = former});
}

// What has another role or master than it should have is told so, after a while.
void SentinelModel::repair() {
  const Duration patience = 4 * env_.setup.hello_period;
  if (env_.now() < config_since_ + patience) return;
  const Seen& master = seen_[master_];
  if (sees_down(master_) || !master.is_master) return;
  for (std::size_t i = 0; i < servers_.size(); ++i) {
    const Seen& seen = seen_[i];
    if (i == master_ || sees_down(i) || seen.info_at == TimePoint{}) continue;
    const bool is_wrong = seen.is_master || seen.master_of != master_;
    if (is_wrong && env_.now() > seen.same_role_since + patience) order_replication(i, master_);
  }
}

void SentinelModel::order_replication(std::size_t server, std::size_t master) {
  env_.trace.tell(process_.name(), "orders ", name(server), " to replicate ", name(master));
  seen_[server].same_role_since = env_.now();
  RedisServer* ordered = servers_[server];
  env_.network.post(process_, ordered->process(),
                    [ordered, master] { ordered->replicate(master, /*kill_clients=*/true); });
}

// --- how it talks

void SentinelModel::say_hello() {
  hello_at_ = env_.now() + env_.some(env_.setup.hello_period * 3 / 4, env_.setup.hello_period);
  const std::size_t named = state_ == State::kReconfiguring ? target_ : master_;
  for (SentinelModel* other : all_) {
    if (other == this) continue;
    // It travels by way of the servers' channels: of any that both reach.
    const bool has_way = std::any_of(servers_.begin(), servers_.end(), [&](RedisServer* server) {
      return env_.network.can_ask(process_, server->process()) &&
             env_.network.can_ask(other->process_, server->process());
    });
    if (!has_way) continue;
    const auto hear = [other, current = current_epoch_, config = config_epoch_, named] {
      other->hear_hello(current, config, named);
    };
    env_.timeline.after(env_.setup.trip * 2, [other, hear, life = other->process_.life()] {
      if (other->process_.life() == life) other->process_.give(hear);
    });
  }
}

void SentinelModel::hear_hello(std::uint64_t current_epoch, std::uint64_t config_epoch,
                               std::size_t master) {
  current_epoch_ = std::max(current_epoch_, current_epoch);
  if (config_epoch <= config_epoch_) return;
  if (master != master_) {
    adopt(config_epoch, master);
  } else {
    config_epoch_ = config_epoch;
  }
}

void SentinelModel::emit(SentinelEvent event) {
  event.sentinel = index_;
  ++published_;
  if (on_event) on_event(event);
}

// --- faults

void SentinelModel::tilt(Duration length) {
  tilted_until_ = std::max(tilted_until_, env_.now() + length);
}

void SentinelModel::fail_over_by_hand() {
  if (state_ != State::kIdle) return;
  begin_failover(/*by_hand=*/true);
}

void SentinelModel::crash() {
  env_.network.process_died(process_, true);
  process_.kill();
}

void SentinelModel::restart() {
  process_.start();
  if (state_ == State::kReconfiguring) finish_failover();
  state_ = State::kIdle;
  was_objectively_down_ = false;
  for (Seen& seen : seen_) seen.answered_at = env_.now();
  tick();
}

}  // namespace tiercel::sim
