#include "workload.h"

namespace tiercel::sim {

using namespace std::chrono_literals;

namespace {
constexpr std::size_t kLoadedFirst = 6;
constexpr std::size_t kLoadedCount = 6;
constexpr std::size_t kForeignFirst = 12;
constexpr std::size_t kForeignCount = 2;
}  // namespace

void Workload::start() {
  for (const auto& instance : world_.instances) read_on(*instance);
  write();
  for (const auto& server : world_.servers) snapshot(*server);
  if (world_.env.setup.session.observes_foreign_writers) write_foreign();
}

void Workload::snapshot(RedisServer& server) {
  if (!world_.is_writing) return;
  if (server.process().is_running()) server.take_snapshot();
  world_.env.timeline.after(world_.env.some(1s, 6s), [this, &server] { snapshot(server); });
}

void Workload::read_on(Instance& instance) {
  Env& env = world_.env;
  instance.call([&](CacheModel& cache) {
    const std::uint64_t burst = env.one_in(4) ? 6 : 2;
    for (std::uint64_t i = 0; i < burst; ++i) cache.read(env.random.below(kKeys));
  });
  if (!world_.is_writing) return;
  env.timeline.after(env.some(1us, 2 * env.setup.read_every),
                     [this, &instance] { read_on(instance); });
}

std::size_t Workload::some_key(std::size_t first, std::size_t count) {
  Env& env = world_.env;
  return first + (env.one_in(6) ? env.random.below(count) : env.random.below(2));
}

void Workload::write() {
  if (!world_.is_writing) return;
  Env& env = world_.env;
  world_.instances[env.random.below(world_.instances.size())]->call(
      [&](CacheModel& cache) { write_by(cache); });
  env.timeline.after(env.some(1us, 2 * env.setup.write_every), [this] { write(); });
}

void Workload::write_by(CacheModel& cache) {
  Env& env = world_.env;
  const std::uint64_t draw = env.random.below(100);
  world_.last_write_at = env.now() + 2s;  // Until it has been answered, or given up.
  if (draw < 55) return cache.set(some_key(0, kLoadedFirst), 0);
  if (draw < 62) return cache.set(some_key(0, kLoadedFirst), world_.servers.size() - 1);
  if (draw < 70) return cache.set(some_key(kForeignFirst, kForeignCount), 0);
  if (draw < 93) return cache.change_and_invalidate(some_key(kLoadedFirst, kLoadedCount));
  if (draw < 99) return cache.change_and_invalidate_tag(env.random.below(kTagSlots));
  cache.change_and_clear();
}

// Somebody's own program, with a connection to whatever the Sentinels say.
void Workload::write_foreign() {
  if (!world_.is_writing) return;
  Env& env = world_.env;
  RedisServer& server = world_.master();
  const std::size_t key = kForeignFirst + env.random.below(kForeignCount);
  const bool deletes = env.one_in(5);
  ++env.counts.foreign_writes;
  env.network.post(world_.foreign_writer, server.process(),
                   [&server, key, deletes, write = ++world_.database.writes] {
                     if (deletes) {
                       server.foreign_delete(key);
                     } else {
                       server.foreign_set(key, write);
                     }
                   });
  env.timeline.after(env.some(1ms, 200ms), [this] { write_foreign(); });
}

}  // namespace tiercel::sim
