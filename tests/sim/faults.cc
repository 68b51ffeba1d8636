#include "faults.h"

#include <algorithm>
#include <array>
#include <memory>
#include <utility>

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {

constexpr std::array<std::string_view, kFaults> kNames = {
    "slow links",
    "cut links",
    "cut one way",
    "reset links",
    "half-open stream",
    "half-open data connection",
    "kill subscribers",
    "stop an instance",
    "stall a loop",
    "crash an instance",
    "stop the master",
    "zombie",
    "zombie awake at the promotion",
    "second zombie",
    "kill the master",
    "kill the master and the next",
    "restart the master empty",
    "restart the master from a snapshot",
    "kill a replica",
    "cut replication",
    "isolate the master",
    "isolate the master one way",
    "manual failover",
    "two manual failovers",
    "promote by hand",
    "promote an unreachable replica by hand",
    "demote the master by hand",
    "lose what is ahead of the stream",
    "demote a zombie by hand",
    "kill a Sentinel",
    "cut a Sentinel off",
    "TILT",
    "stop a Sentinel",
    "the leader dies after its order",
    "flush",
    "clock back",
    "clock ahead",
};

}  // namespace

std::string_view to_string(Fault fault) { return kNames[static_cast<std::size_t>(fault)]; }

void Faults::plan() {
  for (std::size_t i = 0; i < env_.setup.faults; ++i) {
    const auto fault = static_cast<Fault>(random_.below(kFaults));
    const TimePoint at = kBeginning + some(1500ms, env_.setup.faults_end - kBeginning - 2s);
    env_.timeline.at(at, [this, fault] { strike(fault); });
    // Some things only go wrong together.
    if (one_in(3)) {
      const auto other = static_cast<Fault>(random_.below(kFaults));
      env_.timeline.at(at + some(0ms, 1500ms), [this, other] { strike(other); });
    }
  }
}

void Faults::strike(Fault fault) {
  if (env_.now() >= env_.setup.faults_end) return;
  ++env_.counts.faults[static_cast<std::size_t>(fault)];
  env_.trace.tell("FAULT", to_string(fault));
  if (fault <= Fault::kCrashInstance) return strike_links(fault);
  if (fault <= Fault::kDemoteZombie || fault >= Fault::kFlush) return strike_servers(fault);
  if (!world_.sentinels.empty()) strike_sentinels(fault);
}

Instance& Faults::some_instance() {
  return *world_.instances[random_.below(world_.instances.size())];
}
RedisServer& Faults::some_server() { return *world_.servers[random_.below(world_.servers.size())]; }
RedisServer* Faults::some_replica() {
  if (world_.servers.size() < 2) return nullptr;
  const std::size_t master = world_.master_index();
  const std::size_t other = random_.below(world_.servers.size() - 1);
  return world_.servers[other < master ? other : other + 1].get();
}

void Faults::cut_one(std::size_t a, std::size_t b, Duration length) {
  if (env_.now() >= env_.setup.faults_end) return;
  env_.network.cut(a, b, std::min<Duration>(length, env_.setup.faults_end - env_.now()));
}
void Faults::cut_both(std::size_t a, std::size_t b, Duration length) {
  cut_one(a, b, length);
  cut_one(b, a, length);
}

void Faults::strike_links(Fault fault) {
  Instance& instance = some_instance();
  const std::size_t place = instance.process().place();
  const Duration length = one_in(3) ? some(2s, 12s) : some(20ms, 2s);
  switch (fault) {
    case Fault::kSlowLinks: {
      const Duration delay = one_in(2) ? some(5ms, 100ms) : some(100ms, 1s);
      const std::size_t from = random_.below(env_.places());
      for (std::size_t to = 0; to < env_.places(); ++to) {
        if (one_in(2)) env_.network.slow(from, to, length, delay);
        if (one_in(2)) env_.network.slow(to, from, length, delay);
      }
      return;
    }
    case Fault::kCutLinks:
    case Fault::kCutOneWay:
      for (std::size_t server = 0; server < world_.servers.size(); ++server) {
        if (one_in(3)) continue;
        if (fault == Fault::kCutLinks) {
          cut_both(place, server, length);
        } else if (one_in(2)) {
          cut_one(place, server, length);
        } else {
          cut_one(server, place, length);
        }
      }
      return;
    case Fault::kResetLinks:
    case Fault::kHalfOpenStream:
    case Fault::kHalfOpenData: {
      const bool half_open = fault != Fault::kResetLinks;
      const bool is_stream = fault == Fault::kHalfOpenStream || (!half_open && one_in(2));
      instance.process().give([&instance, is_stream, half_open] {
        CacheModel* const cache = instance.cache();
        if (cache == nullptr) return;
        if (is_stream) {
          cache->links().break_stream(half_open);
        } else {
          cache->links().break_data(half_open);
        }
      });
      return;
    }
    case Fault::kKillSubscribers: world_.master().kill_clients(/*subscribers_only=*/true); return;
    case Fault::kStopInstance: instance.process().stop(length); return;
    case Fault::kStallLoop: instance.process().stall(length); return;
    case Fault::kCrashInstance:
      if (!instance.process().is_alive()) return;
      instance.crash();
      env_.timeline.after(some(10ms, 2s), [&instance] {
        if (!instance.process().is_alive()) instance.restart();
      });
      return;
    default: return;
  }
}

void Faults::kill_server(RedisServer& server, Duration wait, bool from_snapshot,
                         bool with_its_host) {
  if (!server.process().is_alive() || env_.now() >= env_.setup.faults_end) return;
  server.crash(with_its_host);
  world_.was_data_forgotten = true;
  env_.timeline.after(wait, [&server, from_snapshot] {
    if (!server.process().is_alive()) server.restart(from_snapshot);
  });
}

template <typename Then>
void Faults::at_next_promotion(Then then) {
  // One of them; all forget it then.
  auto shared = std::make_shared<Then>(std::move(then));
  for (const auto& server : world_.servers) {
    server->on_promotion = [this, shared](RedisServer& promoted) {
      for (const auto& each : world_.servers) each->on_promotion = nullptr;
      (*shared)(promoted);
    };
  }
}

void Faults::hang_until_replaced(RedisServer& server, Duration then_after) {
  if (env_.now() >= env_.setup.faults_end) return;
  server.process().stop(env_.setup.faults_end - env_.now());
  at_next_promotion([this, &server, then_after](RedisServer&) {
    env_.timeline.after(then_after, [this, &server] {
      env_.trace.tell("FAULT", server.process().name(), " wakes up");
      server.process().resume();
    });
  });
}

void Faults::isolate(RedisServer& server, Duration length, bool one_way) {
  const auto cut = [&](std::size_t other) {
    if (!one_way) return cut_both(server.index(), other, length);
    if (one_in(2)) {
      cut_one(server.index(), other, length);
    } else {
      cut_one(other, server.index(), length);
    }
  };
  for (std::size_t other = 0; other < world_.servers.size(); ++other) {
    if (other != server.index()) cut(other);
  }
  for (std::size_t i = 0; i < world_.sentinels.size(); ++i) cut(env_.sentinel_place(i));
  for (std::size_t i = 0; i < world_.instances.size(); ++i) {
    if (one_in(2)) cut(env_.instance_place(i));
  }
}

void Faults::strike_servers(Fault fault) {
  RedisServer& master = world_.master();
  RedisServer* replica = some_replica();
  const Duration length = one_in(2) ? some(3s, 14s) : some(50ms, 3s);
  switch (fault) {
    case Fault::kStopMaster: master.process().stop(some(10ms, 2 * env_.setup.down_after)); return;
    case Fault::kZombie: return hang_until_replaced(master, some(0ms, 4s));
    case Fault::kZombieAtPromotion: return hang_until_replaced(master, some(0us, 300us));
    case Fault::kSecondZombie: {
      if (world_.servers.size() < 3) return;
      for (const auto& server : world_.servers) {
        for (const auto& other : world_.servers) {
          if (server.get() != &master && other.get() != &master && server != other) {
            cut_both(server->index(), other->index(), length);
          }
        }
      }
      master.process().stop(env_.setup.faults_end - env_.now());
      at_next_promotion([this](RedisServer& promoted) {
        env_.timeline.after(some(100ms, 4s),
                            [this, &promoted] { hang_until_replaced(promoted, some(0ms, 2s)); });
      });
      return;
    }
    case Fault::kKillMaster: return kill_server(master, length, one_in(2), one_in(3));
    case Fault::kKillMasterTwice:
      kill_server(master, length, one_in(2), one_in(3));
      at_next_promotion([this, length](RedisServer& promoted) {
        const Duration wait = some(0ms, 3s);
        env_.timeline.after(wait, [this, &promoted, length] {
          kill_server(promoted, length, one_in(2), one_in(3));
        });
      });
      return;
    case Fault::kRestartEmpty: return kill_server(master, some(5ms, 100ms), false, false);
    case Fault::kRestartSnapshot: return kill_server(master, some(5ms, 100ms), true, false);
    case Fault::kKillReplica:
      if (replica) kill_server(*replica, length, one_in(2), one_in(3));
      return;
    case Fault::kCutReplication:
      for (std::size_t other = 0; other < world_.servers.size(); ++other) {
        if (other != master.index() && !one_in(3)) cut_both(master.index(), other, length);
      }
      return;
    case Fault::kIsolateMaster: return isolate(master, length, false);
    case Fault::kIsolateOneWay: return isolate(master, length, true);
    case Fault::kManualFailover:
    case Fault::kManualTwice:
      if (world_.sentinels.empty()) return;
      world_.sentinels[random_.below(world_.sentinels.size())]->fail_over_by_hand();
      if (fault == Fault::kManualTwice) {
        at_next_promotion([this](RedisServer&) {
          env_.timeline.after(some(0ms, 5s), [this] {
            if (env_.now() >= env_.setup.faults_end) return;
            world_.sentinels[random_.below(world_.sentinels.size())]->fail_over_by_hand();
          });
        });
      }
      return;
    case Fault::kPromoteByHand:
    case Fault::kPromoteUnreachable:
      if (!replica) return;
      if (fault == Fault::kPromoteUnreachable) {
        for (std::size_t i = 0; i < world_.instances.size(); ++i) {
          if (!one_in(3)) cut_both(env_.instance_place(i), replica->index(), length);
        }
      }
      replica->process().give([replica] { replica->promote(Birth::kByHand, false); });
      return;
    case Fault::kDemoteByHand:
      if (!replica) return;
      master.process().give(
          [&master, replica, kills = one_in(2)] { master.replicate(replica->index(), kills); });
      // Most operators promote somebody as well.
      if (!one_in(4)) {
        env_.timeline.after(some(0ms, 50ms), [replica] {
          replica->process().give([replica] { replica->promote(Birth::kByHand, false); });
        });
      }
      return;
    case Fault::kLoseWhatIsAhead:
      for (const auto& instance : world_.instances) {
        instance->process().give([hit = instance.get()] {
          if (CacheModel* cache = hit->cache()) cache->links().break_stream(/*half_open=*/true);
        });
      }
      env_.timeline.after(some(5ms, 50ms), [this, &master] {
        for (std::size_t other = 0; other < world_.servers.size(); ++other) {
          if (other != master.index()) cut_both(master.index(), other, 4s);
        }
      });
      env_.timeline.after(some(100ms, 600ms), [this, &master] {
        kill_server(master, some(6s, 10s), one_in(2), /*with_its_host=*/false);
      });
      return;
    case Fault::kDemoteZombie:
      if (!replica) return;
      // Who does not hear of it stays on the old master.
      for (std::size_t i = 0; i < world_.instances.size(); ++i) {
        if (one_in(4)) continue;
        for (std::size_t s = 0; s < world_.sentinels.size(); ++s) {
          cut_both(env_.instance_place(i), env_.sentinel_place(s), length);
        }
      }
      at_next_promotion([this, &master](RedisServer& promoted) {
        env_.timeline.after(some(100ms, 4s), [this, &master, &promoted] {
          if (env_.now() >= env_.setup.faults_end) return;
          master.process().give(
              [&master, &promoted] { master.replicate(promoted.index(), /*kill_clients=*/false); });
        });
      });
      if (world_.sentinels.empty()) {
        replica->process().give([replica] { replica->promote(Birth::kByHand, false); });
      } else {
        world_.sentinels[random_.below(world_.sentinels.size())]->fail_over_by_hand();
      }
      return;
    case Fault::kFlush:
      world_.was_flushed = true;
      master.process().give([&master] { master.flush_all(); });
      return;
    case Fault::kClockBack: some_server().set_clock_ahead(-some(10ms, 60s)); return;
    case Fault::kClockAhead: some_server().set_clock_ahead(some(10ms, 60s)); return;
    default: return;
  }
}

void Faults::strike_sentinels(Fault fault) {
  SentinelModel& sentinel = *world_.sentinels[random_.below(world_.sentinels.size())];
  const Duration length = some(500ms, 12s);
  switch (fault) {
    case Fault::kKillSentinel:
      if (!sentinel.process().is_alive()) return;
      sentinel.crash();
      env_.timeline.after(length, [&sentinel] {
        if (!sentinel.process().is_alive()) sentinel.restart();
      });
      return;
    case Fault::kCutSentinel:
      for (std::size_t other = 0; other < env_.places(); ++other) {
        const std::size_t place = sentinel.process().place();
        if (other != place && !one_in(4)) cut_both(place, other, length);
      }
      return;
    case Fault::kTiltSentinel: sentinel.tilt(length); return;
    case Fault::kStopSentinel: sentinel.process().stop(length); return;
    case Fault::kLeaderDies: {
      const RedisServer& master = world_.master();
      if (one_in(2)) {
        world_.master().process().stop(env_.setup.down_after * 2 + 1s);
      } else {
        sentinel.fail_over_by_hand();
      }
      at_next_promotion([this, &master, length](RedisServer& promoted) {
        env_.trace.tell("FAULT", "whoever ordered ", promoted.process().name(),
                        " to be master dies");
        for (const auto& each : world_.sentinels) {
          if (!each->is_failing_over_to(promoted.index())) continue;
          each->crash();
          env_.timeline.after(length, [dead = each.get()] {
            if (!dead->process().is_alive()) dead->restart();
          });
        }
        static_cast<void>(master);
      });
      return;
    }
    default: return;
  }
}

void Faults::restore(RedisServer& server) {
  server.promote(Birth::kByHand, false);
  env_.branches.enthrone(server.branch(), env_.now());
}

void Faults::heal() {
  env_.trace.tell("FAULT", "all is healed");
  env_.network.heal_all();
  for (const auto& server : world_.servers) {
    server->on_promotion = nullptr;
    server->process().resume();
    if (!server->process().is_alive()) server->restart(/*from_snapshot=*/false);
  }
  for (const auto& sentinel : world_.sentinels) {
    sentinel->process().resume();
    if (!sentinel->process().is_alive()) sentinel->restart();
  }
  for (const auto& instance : world_.instances) {
    instance->process().resume();
    if (!instance->process().is_alive()) instance->restart();
  }
  mend();
  if (!world_.sentinels.empty()) return;
  // Where no Sentinel does it, the operator puts everything back.
  for (const auto& server : world_.servers) {
    server->process().give_after(100ms, [this, server = server.get()] {
      if (server->index() == 0) {
        restore(*server);
      } else {
        server->replicate(0, false);
      }
    });
  }
}

void Faults::mend() {
  const bool has_master = std::any_of(world_.servers.begin(), world_.servers.end(),
                                      [](const auto& server) { return server->is_master(); });
  if (!has_master) restore(world_.master());
}

}  // namespace tiercel::sim
