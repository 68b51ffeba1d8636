#pragma once

// Writer: the one thread of an instance that writes, to the keys that the instance owns, one write
// at a time, so that the order of a key's writes is known. What became of each goes to the oracle.

#include <cstdint>
#include <memory>
#include <unordered_map>
#include <vector>

#include "failover/key_source.h"
#include "failover/reader.h"
#include "fleet/oracle.h"
#include "tiercel/base/result.h"
#include "tiercel/cache/cache.h"

namespace tiercel::failover {

class Writer {
 public:
  Writer(const Surroundings& surroundings, std::unique_ptr<KeySource> keys)
      : surroundings_(surroundings), oracle_(surroundings.board.log()), keys_(std::move(keys)) {}

  // Writes each owned key among the first `keys` once, many at a time: before the run, so that it
  // does not begin with an empty Redis. False when the log is full.
  bool fill(std::uint32_t keys);

  // Writes while the run lasts. Errors: those of the key source.
  Result<void> run();

 private:
  bool fill_batch(const std::vector<std::uint32_t>& keys);
  bool write(std::uint32_t key);
  bool settle(std::uint32_t key, std::uint32_t sequence, const WriteResult& result,
              TimePoint settled_at);

  const Surroundings surroundings_;
  Oracle oracle_;
  const std::unique_ptr<KeySource> keys_;
  std::unordered_map<std::uint32_t, std::uint32_t> sequences_;  // Last given out, for each key.
};

}  // namespace tiercel::failover
