#pragma once

// Simulation: one run of one seed. It builds the world, lets instances work in it while faults
// strike, heals everything, stops the writing, waits until all is calm, and holds what is left
// against the checkers.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cache_model.h"
#include "env.h"
#include "redis_model.h"
#include "sentinel_model.h"

namespace tiercel::sim {

// A process that has a cache; each of its lives has a new one.
class Instance {
 public:
  Instance(Env& env, std::size_t index, std::vector<RedisServer*> servers,
           std::vector<SentinelModel*> sentinels, Database& database);
  void start();
  void crash();
  void restart();

  [[nodiscard]] Process& process() { return process_; }
  // Null while it is dead.
  [[nodiscard]] CacheModel* cache() {
    return process_.is_alive() && !lives_.empty() ? lives_.back().get() : nullptr;
  }
  // What a caller's thread does; nothing while the process is stopped or dead.
  template <typename Call>
  void call(Call&& what) {
    if (process_.is_running() && cache() != nullptr) what(*cache());
  }
  void count_epochs();

 private:
  Env& env_;
  const std::size_t index_;
  Process process_;
  const std::vector<RedisServer*> servers_;
  const std::vector<SentinelModel*> sentinels_;
  Database& database_;
  // All of them: what is still under way in the timeline holds tokens of those that ended.
  std::vector<std::unique_ptr<CacheModel>> lives_;
};

// What the faults and the workload work on.
struct World {
  explicit World(const SimOptions& options);
  ~World();
  World(const World&) = delete;
  World& operator=(const World&) = delete;

  [[nodiscard]] RedisServer& master();  // That most believe in.
  [[nodiscard]] std::size_t master_index() const;

  Env env;
  Database database;
  std::vector<std::unique_ptr<RedisServer>> servers;
  std::vector<std::unique_ptr<SentinelModel>> sentinels;
  std::vector<std::unique_ptr<Instance>> instances;
  Process foreign_writer;
  bool is_writing = true;
  bool was_flushed = false;         // Unseen by whoever does not observe foreign writers.
  bool was_data_forgotten = false;  // A server began again with less data than it had had.
  TimePoint last_write_at{};
};

struct Report {
  std::uint64_t seed = 0;
  std::string setup{};
  std::vector<Violation> violations{};
  std::vector<std::string> story{};  // The last lines, if they were kept.
  std::uint64_t stale_beyond_bound = 0;
  double worst_staleness_over_lease = 0;
  std::uint64_t acknowledged = 0, lost = 0;
  double calm_after_s = 0;  // How long after the healing until all had settled.
  std::uint64_t fingerprint = 0, text_hash = 0, steps = 0;
  Counts counts{};
};

Report simulate(const SimOptions& options);

}  // namespace tiercel::sim
