#include "simulation.h"

#include <algorithm>
#include <utility>

#include "faults.h"
#include "workload.h"

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {

constexpr Duration kWritesAfterHealing = 2s;
constexpr Duration kCalmWithin = 80s;  // After the healing: TILT, demotions, failovers.
constexpr Duration kMendAfter = 15s;
constexpr Duration kLook = 250ms;

}  // namespace

// --- instances

Instance::Instance(Env& env, std::size_t index, std::vector<RedisServer*> servers,
                   std::vector<SentinelModel*> sentinels, Database& database)
    : env_(env),
      index_(index),
      process_(env.timeline, 'I' + std::to_string(index + 1), env.instance_place(index)),
      servers_(std::move(servers)),
      sentinels_(std::move(sentinels)),
      database_(database) {}

void Instance::start() {
  const std::uint64_t origin = 100 * (index_ + 1) + lives_.size();
  lives_.push_back(
      std::make_unique<CacheModel>(env_, process_, servers_, sentinels_, database_, origin));
  process_.give([cache = lives_.back().get()] { cache->start(); });
}

void Instance::crash() {
  env_.trace.tell(process_.name(), "is killed");
  env_.network.process_died(process_, true);
  process_.kill();
}

void Instance::restart() {
  env_.trace.tell(process_.name(), "starts");
  process_.start();
  start();
}

void Instance::count_epochs() {
  for (const auto& life : lives_) life->count_epochs();
}

// --- world

World::World(const SimOptions& options)
    : env(options), foreign_writer(env.timeline, "F", env.places() - 1) {
  std::vector<RedisServer*> all_servers;
  std::vector<SentinelModel*> all_sentinels;
  for (std::size_t i = 0; i < env.setup.servers; ++i) {
    servers.push_back(std::make_unique<RedisServer>(env, i));
    all_servers.push_back(servers.back().get());
  }
  for (std::size_t i = 0; i < env.setup.sentinels; ++i) {
    sentinels.push_back(std::make_unique<SentinelModel>(env, i, all_servers));
    all_sentinels.push_back(sentinels.back().get());
  }
  for (const auto& server : servers) server->know(all_servers);
  for (const auto& sentinel : sentinels) sentinel->know(all_sentinels);
  for (const auto& server : servers) server->start();
  for (std::size_t i = 0; i < env.setup.instances; ++i) {
    instances.push_back(std::make_unique<Instance>(env, i, all_servers, all_sentinels, database));
  }
  for (const auto& sentinel : sentinels) {
    sentinel->on_event = [this, from = sentinel.get()](const SentinelEvent& event) {
      for (const auto& instance : instances) {
        env.network.post(from->process(), instance->process(), [heard = instance.get(), event] {
          if (CacheModel* cache = heard->cache()) cache->hear(event);
        });
      }
    };
    env.timeline.after(env.some(0ms, 100ms), [started = sentinel.get()] { started->start(); });
  }
  for (const auto& instance : instances) {
    env.timeline.after(env.some(10ms, 300ms), [started = instance.get()] { started->start(); });
  }
}

// What is under way holds tokens and connections; it goes before what they belong to.
World::~World() {
  env.timeline.forget();
  for (const auto& instance : instances) {
    if (instance->process().is_alive()) instance->process().kill();
  }
  for (const auto& server : servers) {
    if (server->process().is_alive()) server->process().kill();
  }
  env.timeline.forget();
}

std::size_t World::master_index() const {
  if (sentinels.empty()) return 0;
  std::vector<std::size_t> votes(servers.size());
  for (const auto& sentinel : sentinels) ++votes[sentinel->master()];
  return static_cast<std::size_t>(std::max_element(votes.begin(), votes.end()) - votes.begin());
}

RedisServer& World::master() { return *servers[master_index()]; }

// --- a run

namespace {

// Nothing is wrong any more: one master, all others in step with it, every instance leased by
// proofs that are newer than the last write.
std::string why_not_calm(World& world) {
  RedisServer& master = world.master();
  if (!master.is_master()) return "the master is none";
  for (const auto& sentinel : world.sentinels) {
    if (sentinel->master() != master.index()) return "the Sentinels do not agree";
  }
  for (const auto& server : world.servers) {
    if (server.get() == &master) continue;
    if (server->is_master()) return server->process().name() + " is a master, too";
    if (!server->is_link_up() || server->branch() != master.branch() ||
        server->offset() != master.offset()) {
      return server->process().name() + " is not in step";
    }
  }
  for (const auto& instance : world.instances) {
    CacheModel* const cache = instance->cache();
    if (cache == nullptr) return instance->process().name() + " is dead";
    if (!cache->is_leased()) {
      return instance->process().name() + " has no lease: " + cache->why_no_lease();
    }
    if (cache->proven_at() <= world.last_write_at) return "the proofs are older than the writes";
    if (!cache->is_quiet()) return instance->process().name() + " still reads or writes";
  }
  return {};
}

void compare_l1_with_l2(World& world) {
  const Dataset& data = world.master().data();
  const bool flush_unseen = world.was_flushed && !world.env.setup.session.observes_foreign_writers;
  for (const auto& instance : world.instances) {
    CacheModel* const cache = instance->cache();
    if (cache == nullptr) continue;
    for (std::size_t key = 0; key < kKeys; ++key) {
      const auto held = cache->in_l1(key);
      if (!held) continue;
      const Stored& stored = data.values[key];
      if (stored.exists && stored.value.write == held->write) continue;
      if (!stored.exists && flush_unseen) continue;
      const bool is_good =
          is_loaded(key) && !world.env.checkers.is_outdated(key, *held, world.master().branch(),
                                                            world.master().offset());
      if (is_good) continue;
      world.env.checkers.violated(
          "Q", instance->process().name() + " holds " + key_name(key) + " = write " +
                   std::to_string(held->write) + " (" + Branches::name(held->place.branch) + '@' +
                   std::to_string(held->place.offset) + "), the master " +
                   (stored.exists ? "write " + std::to_string(stored.value.write) : "nothing"));
    }
    if (const std::size_t left = cache->tokens_under_way(); left != 0) {
      world.env.checkers.violated(
          "tokens", instance->process().name() + " has " + std::to_string(left) + " tokens left");
    }
  }
}

void sample_leases(World& world) {
  for (const auto& instance : world.instances) {
    instance->call([&world](const CacheModel& cache) {
      world.env.counts.lease_samples += 1;
      world.env.counts.lease_available += cache.is_leased() ? 1 : 0;
    });
  }
  if (world.is_writing) {
    world.env.timeline.after(20ms, [&world] { sample_leases(world); });
  }
}

}  // namespace

Report simulate(const SimOptions& options) {
  World world{options};
  Env& env = world.env;
  env.trace.tell("seed", options.seed, ": ", describe(env.setup));
  Workload workload{world};
  Faults faults{world};
  env.timeline.after(500ms, [&] { workload.start(); });
  env.timeline.after(1s, [&] { sample_leases(world); });
  faults.plan();
  env.timeline.run_until(env.setup.faults_end);
  faults.heal();
  env.timeline.run_until(env.setup.faults_end + kWritesAfterHealing);
  const auto wait_for_calm = [&] {
    std::string why_not;
    int calm_looks = 0;
    while (env.now() < env.setup.faults_end + kCalmWithin && calm_looks < 3) {
      env.timeline.run_until(env.now() + kLook);
      if (env.now() > env.setup.faults_end + kMendAfter) faults.mend();
      why_not = why_not_calm(world);
      calm_looks = why_not.empty() ? calm_looks + 1 : 0;
    }
    return why_not;
  };
  world.is_writing = false;
  std::string why_not = wait_for_calm();
  if (!why_not.empty()) {
    env.checkers.violated(
        "T", "no calm " + length_text(kCalmWithin) + " after everything was healed: " + why_not);
  } else {
    compare_l1_with_l2(world);
  }
  const RedisServer& last = world.master();
  env.checkers.settle(last.branch(), last.offset(), world.was_data_forgotten || world.was_flushed);

  Report report{.seed = options.seed, .setup = describe(env.setup)};
  for (const auto& instance : world.instances) instance->count_epochs();
  report.violations = env.checkers.violations();
  report.story.assign(env.trace.last_lines().begin(), env.trace.last_lines().end());
  report.stale_beyond_bound = env.checkers.stale_beyond_bound();
  report.worst_staleness_over_lease = env.checkers.worst_staleness_over_lease();
  report.acknowledged = env.checkers.acknowledged_count();
  report.lost = env.checkers.lost_count();
  report.calm_after_s = std::chrono::duration<double>(env.now() - env.setup.faults_end).count();
  report.fingerprint = env.trace.fingerprint();
  report.text_hash = env.trace.text_hash();
  report.steps = env.timeline.steps();
  report.counts = env.counts;
  return report;
}

}  // namespace tiercel::sim
