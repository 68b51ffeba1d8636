#pragma once

// KeySource: which key comes next, by zipf or from a trace. Keys are numbered densely, 0 to
// key_count - 1; key_id() of the board tells a traced key's own id. One owner each.

#include <cstdint>
#include <memory>
#include <optional>

#include "failover/board.h"
#include "tiercel/base/result.h"

namespace tiercel::failover {

class KeySource {
 public:
  // The source of thread `slot` of `slots` over all instances: each gets a seed, or a place in the
  // trace, of its own. The board must outlive it.
  static Result<std::unique_ptr<KeySource>> open(const Board& board, std::uint32_t slot,
                                                 std::uint32_t slots);
  virtual ~KeySource() = default;

  // Errors: those of TraceStream.
  virtual Result<std::uint32_t> next() = 0;

  // The next key that this instance may write. nullopt when none came in a while: it owns none, or
  // hardly any.
  Result<std::optional<std::uint32_t>> next_owned(std::uint32_t instance, std::uint32_t instances);
};

// Each key has one writer in the whole fleet, so that the order of its writes is known.
constexpr std::uint32_t owner_of(std::uint32_t key, std::uint32_t instances) {
  return key % instances;
}

}  // namespace tiercel::failover
