#pragma once

// Fleet: the instance processes. They run as long as it lives at most, whatever happens to the
// coordinator. One owner.

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "failover/board.h"
#include "support/guarded_process.h"
#include "tiercel/base/result.h"

namespace tiercel::failover {

struct Death {
  std::uint32_t instance;
  std::string text;  // "instance 2 was killed by signal 11"
};

class Fleet {
 public:
  // Starts as many as the board says, each with the board as its standard input. Errors:
  // kUnavailable when this program cannot be started again.
  static Result<Fleet> start(const Board& board);

  // Instances that have ended otherwise than with status 0 since the last call.
  std::vector<Death> take_deaths();
  [[nodiscard]] std::uint32_t deaths() const noexcept { return deaths_; }

  // Waits until all have ended; what is still there at the limit is killed and counts as dead.
  void join(Duration limit);

 private:
  struct Member {
    std::unique_ptr<testing::GuardedProcess> process;
    bool reported = false;
  };
  std::vector<Member> members_;
  std::uint32_t deaths_ = 0;
};

}  // namespace tiercel::failover
