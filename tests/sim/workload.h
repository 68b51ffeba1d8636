#pragma once

// Workload: what callers do on all instances, and foreign writers beside them.

#include "simulation.h"

namespace tiercel::sim {

class Workload {
 public:
  explicit Workload(World& world) : world_(world) {}
  void start();

 private:
  void snapshot(RedisServer& server);  // BGSAVE, now and then.
  void read_on(Instance& instance);
  void write();
  void write_by(CacheModel& cache);
  void write_foreign();
  // Mostly one of two, so that an older value of the others, should one stay, is not soon replaced.
  [[nodiscard]] std::size_t some_key(std::size_t first, std::size_t count);

  World& world_;
};

}  // namespace tiercel::sim
