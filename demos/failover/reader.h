#pragma once

// Reader: one thread of an instance that reads at a bounded pace and has every answer judged.

#include <cstdint>
#include <memory>
#include <optional>
#include <unordered_map>

#include "failover/board.h"
#include "failover/epoch_watch.h"
#include "failover/key_source.h"
#include "fleet/oracle.h"
#include "fleet/seen_table.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/cache.h"

namespace tiercel::failover {

// What the threads of an instance share. Outlives them.
struct Surroundings {
  Board& board;
  Cache& cache;
  EpochWatch& epochs;
  SeenTable& seen;
  std::uint32_t number;  // Of the instance.

  [[nodiscard]] InstanceBoard& mine() const { return board.state().instances[number]; }
};

class Reader {
 public:
  Reader(const Surroundings& surroundings, std::unique_ptr<KeySource> keys)
      : surroundings_(surroundings), oracle_(surroundings.board.log()), keys_(std::move(keys)) {}

  // Reads while the run lasts. Errors: those of the key source.
  Result<void> run();

 private:
  struct Answer {
    Seen seen;
    bool from_l1 = false;
  };

  void read(std::uint32_t key);
  std::optional<Answer> ask_cache(std::uint32_t key);
  std::optional<Answer> ask_memory(std::uint32_t key);

  const Surroundings surroundings_;
  Oracle oracle_;
  const std::unique_ptr<KeySource> keys_;
  std::unordered_map<std::uint32_t, Seen> remembered_;  // Only with stale_reader.
};

}  // namespace tiercel::failover
