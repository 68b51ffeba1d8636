#include "cache_model.h"

#include <algorithm>
#include <span>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::sim {

using namespace std::chrono_literals;
using coherence::Action;
using coherence::kVersionUnknown;

CacheModel::CacheModel(Env& env, Process& process, std::vector<RedisServer*> servers,
                       std::vector<SentinelModel*> sentinels, Database& database,
                       std::uint64_t origin)
    : env_(env),
      process_(process),
      servers_(std::move(servers)),
      database_(database),
      origin_(origin),
      clock_(env.timeline, env.some(0s, 100s)),
      finder_(env, process, std::move(sentinels), [this] { links_.target_changed(); }),
      links_(env, process, servers_, finder_, *this),
      session_(env.setup.session) {
  auto l1 = l1::LruCache::create({.capacity_bytes_max = 64 << 10,
                                  .stripes = 1,
                                  .huge_pages = false,
                                  .hash_seed = 1,
                                  .clock = &clock_});
  TIERCEL_CHECK(l1.has_value());
  l1_ = std::move(*l1);
}

void CacheModel::start() {
  finder_.start();
  links_.start();
}

// --- events

template <typename Event>
void CacheModel::event(Event&& give) {
  give(clock_.now(), actions_);
  settle();
}

void CacheModel::data_up(const coherence::Server& server) {
  replay();  // First: what it sends is before all that is asked.
  event([&](TimePoint now, auto& out) { session_.data_up(server, now, out); });
}
void CacheModel::data_down() {
  event([&](TimePoint now, auto& out) { session_.data_down(now, out); });
}
void CacheModel::stream_up(const coherence::Server& server) {
  stream_branch_ = -1;
  for (int branch = env_.branches.size() - 1; branch >= 0; --branch) {
    if (Branches::name(branch) == server.replication_id) stream_branch_ = branch;
  }
  event([&](TimePoint now, auto& out) { session_.stream_up(server, now, out); });
}
void CacheModel::stream_down() {
  event([&](TimePoint now, auto& out) { session_.stream_down(now, out); });
}
void CacheModel::stream_push(const Push& push) {
  event([&](TimePoint now, auto& out) {
    switch (push.kind) {
      case Push::Kind::kMessage: session_.message(push.message.to_change(), now, out); break;
      case Push::Kind::kTracked: session_.foreign_change({key_name(push.key)}, now, out); break;
      case Push::Kind::kFlushed: session_.foreign_flush(now, out); break;
    }
  });
}

void CacheModel::settle() {
  if (session_.lease_until() < cell_.until()) cell_.grant(session_.lease_until());
  while (!actions_.empty()) {
    coherence::Actions batch = std::exchange(actions_, {});
    for (auto& action : batch) {
      interleave();
      run(action);
    }
  }
  publish();
  arm_timer();
}

void CacheModel::run(Action& action) {
  using Kind = Action::Kind;
  switch (action.kind) {
    case Kind::kSendPing: return send_ping(action.token);
    case Kind::kAskMaster: return ask_master(action.token);
    case Kind::kAskCandidate: return ask_candidate(action.address, action.token);
    case Kind::kAskSentinels: return ask_sentinels(action.token);
    case Kind::kAskHistory: return ask_history(action);
    case Kind::kRedialStream:
      env_.trace.tell(process_.name(), "redials S: ", action.reason);
      return links_.redial_stream();
    case Kind::kLeaveMaster:
      env_.trace.tell(process_.name(), "leaves the master: ", action.reason);
      return links_.leave_master();
    case Kind::kBarFills: return bar_fills();
    case Kind::kDropAll:
      env_.trace.tell(process_.name(), "drops L1: ", action.reason);
      return drop_l1();
    case Kind::kEvict: return evict(action.key, action.version);
    case Kind::kRefresh: return refresh(action);
    case Kind::kTag:
      tags_.invalidate(static_cast<coherence::TagSlot>(key_number(action.key)), action.version);
      return;
    case Kind::kClear: tags_.clear(action.version); return drop_l1();
  }
}

void CacheModel::publish() {
  cell_.prove(session_.proven_at());
  interleave();
  const bool is_granted = session_.lease_until() != TimePoint{};
  if (session_.fills_allowed()) {
    l1_branch_ = stream_branch_;
    l1_epoch_ = session_.epochs();
  }
  if (is_granted) {
    lease_branch_ = stream_branch_;
    lease_mode_ = session_.witness_mode();
  }
  cell_.grant(session_.lease_until());
  const bool has_lease = is_leased();
  if (has_lease == had_lease_) return;
  had_lease_ = has_lease;
  if (!has_lease) ++env_.counts.lapses;
  if (has_lease) {
    env_.trace.tell(process_.name(), "has the lease, witness ",
                    coherence::to_string(session_.witness_mode()), ", epoch ", session_.epoch());
  } else {
    env_.trace.tell(process_.name(), "has no lease: ", session_.why_no_lease());
  }
}

void CacheModel::arm_timer() {
  const auto next = session_.next_tick();
  if (!next) {
    timer_at_ = TimePoint::max();
    ++timer_;
    return;
  }
  if (timer_at_ <= *next) return;  // It fires in time, and looks again.
  timer_at_ = *next;
  process_.give_after(std::max(Duration{0}, *next - clock_.now()), [this, timer = ++timer_] {
    if (timer != timer_) return;
    timer_at_ = TimePoint::max();
    event([&](TimePoint now, auto& out) { session_.tick(now, out); });
  });
}

// Other threads run at any time.
void CacheModel::interleave() {
  if (is_interleaving_ || !env_.one_in(48)) return;
  is_interleaving_ = true;
  const std::size_t key = env_.random.below(kKeys);
  const Vouch loaded = vouch();
  if (const auto entry = pin(key, loaded)) {
    ++env_.counts.reads;
    serve(key, loaded, *entry, seen_[key]);
  }
  is_interleaving_ = false;
}

// --- questions

void CacheModel::send_ping(std::uint64_t token) {
  links_.ping([this, token](Status status) {
    event([&](TimePoint now, auto& out) {
      if (status == Status::kOk) {
        session_.pong(token, now, out);
      } else {
        session_.ping_refused(now, out);
      }
    });
  });
}

void CacheModel::ask_master(std::uint64_t token) {
  links_.submit([](RedisServer& server) { return server.identify(); }, /*is_safe=*/true,
                env_.setup.session.stream_timeout,
                [this, token](Links::Ending ending, const Reply& reply) {
                  event([&](TimePoint now, auto& out) {
                    if (ending == Links::Ending::kAnswered && reply.status == Status::kOk) {
                      session_.data_said(token, reply.replication, now, out);
                    } else {
                      session_.data_silent(token, now, out);
                    }
                  });
                  watch_candidates();
                });
}

void CacheModel::ask_candidate(const std::string& address, std::uint64_t token) {
  watch_candidates();
  if (env_.options.sabotage == Sabotage::kWitnessUnheeded) {
    process_.give_after(0s, [this, address, token] {
      event([&](TimePoint now, auto& out) {
        session_.candidate_said(
            address, token, {.is_master = false, .replication_id = Branches::name(stream_branch_)},
            now, out);
      });
    });
    return;
  }
  links_.ask_server(server_at(address), env_.setup.session.stream_timeout,
                    [this, address, token](std::optional<Reply> reply) {
                      event([&](TimePoint now, auto& out) {
                        if (reply) {
                          session_.candidate_said(address, token, reply->replication, now, out);
                        } else {
                          session_.candidate_silent(address, token, now, out);
                        }
                      });
                    });
}

void CacheModel::ask_sentinels(std::uint64_t token) {
  std::vector<std::string> addresses;
  for (const RedisServer* server : servers_) addresses.push_back(server->address());
  const std::size_t master = links_.stream_server().value_or(0);
  finder_.survey(
      master, addresses, env_.setup.session.lease / 4,
      [this, token](coherence::SentinelRound round) {
        if (env_.options.sabotage == Sabotage::kWitnessUnheeded) {
          round.answered = round.known;
          round.is_calm = true;
        }
        event([&](TimePoint now, auto& out) { session_.sentinels_said(token, round, now, out); });
        watch_candidates();
      });
}

void CacheModel::ask_history(const Action& action) {
  const auto answered = [this, token = action.token](Links::Ending ending, const Reply& reply) {
    event([&](TimePoint now, auto& out) {
      if (ending != Links::Ending::kAnswered || reply.status != Status::kOk) {
        return session_.history_silent(token, now, out);
      }
      coherence::HistoryPage page{.entries = {}, .is_last = reply.is_last};
      for (const Message& message : reply.history) page.entries.push_back(message.to_change());
      session_.history_said(token, std::move(page), now, out);
    });
  };
  const Duration patience = env_.setup.session.stream_timeout;
  if (action.version == kVersionUnknown) {
    tags_.reset();  // Messages of new invalidations are kept from here on.
    links_.submit(
        [](RedisServer& server) { return server.tags(); }, /*is_safe=*/true, patience,
        [this, token = action.token](Links::Ending ending, const Reply& reply) {
          if (ending != Links::Ending::kAnswered || reply.status != Status::kOk) {
            event([&](TimePoint now, auto& out) { session_.history_silent(token, now, out); });
            return;
          }
          if (!session_.awaits_history(token)) return;
          coherence::TagBaseline baseline{.base = reply.base};
          for (std::size_t tag = 0; tag < kTagSlots; ++tag) {
            if (reply.tags[tag] == kVersionUnknown) continue;  // Never invalidated.
            baseline.slots.emplace_back(static_cast<coherence::TagSlot>(tag), reply.tags[tag]);
          }
          tags_.join(baseline);
        });
  }
  links_.submit([from = action.version,
                 count = action.count](RedisServer& server) { return server.history(from, count); },
                /*is_safe=*/true, patience, answered);
}

void CacheModel::watch_candidates() {
  std::vector<std::size_t> wanted;
  for (const std::string& address : session_.candidates()) wanted.push_back(server_at(address));
  links_.watch(wanted);
}

std::size_t CacheModel::server_at(std::string_view address) const {
  for (const RedisServer* server : servers_) {
    if (server->address() == address) return server->index();
  }
  TIERCEL_CHECK(false);
  return 0;
}

// --- what actions mean for L1

void CacheModel::bar_fills() { fills_.mark_all(); }

void CacheModel::drop_l1() {
  ++env_.counts.drops;
  l1_branch_ = stream_branch_;
  fills_.mark_all();
  interleave();
  if (env_.options.sabotage != Sabotage::kDropsUnheeded) l1_->clear();
}

void CacheModel::mark(std::string_view key, Version version) {
  if (env_.options.sabotage != Sabotage::kMarksForgotten) fills_.mark(key, version);
}

void CacheModel::evict(std::string_view key, Version version) {
  mark(key, version);
  interleave();
  forget_older(key, version);
}

void CacheModel::forget_older(std::string_view key, Version version) {
  if (version == kVersionUnknown) {
    l1_->erase(key);
  } else {
    l1_->erase_older(key, version);
  }
}

void CacheModel::refresh(const Action& action) {
  const auto replace = [&] {
    const l1::Handle held = l1_->pin(action.key);
    if (!held || held.version() >= action.version) return;
    static_cast<void>(l1_->insert(action.key, action.value, {.version = action.version}));
  };
  if (env_.options.sabotage == Sabotage::kMarksForgotten) return replace();
  fills_.mark_and(action.key, action.version, replace);
}

bool CacheModel::is_dead(std::size_t key, std::uint64_t tags_generation, Version version) const {
  if (env_.options.sabotage == Sabotage::kTagsForgotten) return false;
  const auto slot = static_cast<coherence::TagSlot>(tag_of(key));
  const std::span slots = is_loaded(key) ? std::span{&slot, 1} : std::span<decltype(slot)>{};
  return tags_.is_dead(tags_generation, version, slots);
}

std::uint64_t CacheModel::generation() const {
  return (session_.epochs() << 32) + l1_->generation();
}

void CacheModel::count_epochs() {
  env_.counts.epochs += session_.epochs();
  env_.counts.epochs_warm += session_.epochs_warm();
}

}  // namespace tiercel::sim
