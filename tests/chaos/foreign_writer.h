#pragma once

// ForeignWriter: a client that knows nothing of Tiercel and changes values behind its back, in the
// keys of the scenario's own slot (the last one). What it did goes to the oracle as any write does;
// a key that is gone counts as a write that nobody can read: what L1 answers must not be older.

#include <cstdint>

#include "chaos/world.h"
#include "fleet/oracle.h"
#include "support/blocking_redis.h"

namespace tiercel::chaos {

class ForeignWriter {
 public:
  ForeignWriter(World& world, testing::RedisServer& server);

  // One change of a key of ours: SET, DEL, RENAME, EVAL or PEXPIRE.
  void write_once();
  void flush_all(bool in_transaction);
  // maxmemory goes down until keys go; the history, which must stay, is not for eviction (it is
  // volatile-ttl that evicts: only keys with a TTL).
  void evict_all();
  void end_eviction();
  [[nodiscard]] std::uint64_t count() const noexcept { return count_; }

 private:
  std::uint32_t draw_key();
  std::string next_value(std::uint32_t key);
  void done(std::uint32_t key);
  testing::RedisReply run(const std::vector<std::string>& words);
  [[nodiscard]] std::string name_of(std::uint32_t key) const;

  World& world_;
  testing::BlockingRedis redis_;
  fleet::Oracle oracle_;
  std::vector<std::uint32_t> sequences_;
  std::uint64_t count_ = 0;
};

}  // namespace tiercel::chaos
