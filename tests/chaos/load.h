#pragma once

// Load: the threads of an instance. A reader asks L1 alone (try_get), as fast as it is told to, and
// has every hit judged; a filler brings what is missing from Redis (get); the writer writes the
// keys that are its own, one at a time, and records each.

#include <atomic>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "chaos/board.h"
#include "fleet/oracle.h"
#include "tiercel/base/random.h"
#include "tiercel/cache/cache.h"

namespace tiercel::chaos {

// What the threads of an instance share. Outlives them.
struct Surroundings {
  Board& board;
  Cache& cache;
  const std::vector<std::string>& keys;  // By number.
  std::uint32_t number;                  // Of the instance.

  [[nodiscard]] InstanceBoard& mine() const { return board.instance(number); }
};

// M, for the reads of one thread: within an epoch, no read finds an older write than one before it.
// Which epoch a read belonged to is known where the epoch was the same before and after a burst of
// them; of other bursts nothing is said.
class OrderWatch {
 public:
  OrderWatch(const Surroundings& surroundings, fleet::Oracle& oracle)
      : surroundings_(surroundings), oracle_(oracle), seen_(surroundings.keys.size()) {}

  void begin_burst();
  void note(std::uint32_t key, fleet::Seen seen);
  void end_burst();

 private:
  struct Backwards {
    std::uint32_t key;
    fleet::Seen before;
    fleet::Seen seen;
  };

  const Surroundings& surroundings_;
  fleet::Oracle& oracle_;
  std::vector<fleet::Seen> seen_;
  std::vector<Backwards> found_;
  std::string epoch_;
};

// nullopt: not what any writer wrote under that key; counted.
std::optional<fleet::Seen> look_at(const Surroundings& surroundings, std::uint32_t key,
                                   const Value& value);

void run_reader(const Surroundings& surroundings, std::uint64_t seed);
void run_filler(const Surroundings& surroundings, std::uint64_t seed);
void run_writer(const Surroundings& surroundings, std::uint64_t seed);

}  // namespace tiercel::chaos
