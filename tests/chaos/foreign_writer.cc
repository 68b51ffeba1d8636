#include "chaos/foreign_writer.h"

#include "fleet/payload.h"
#include "support/unique_fd.h"
#include "tiercel/coherence/names.h"

namespace tiercel::chaos {
namespace {

testing::BlockingRedis connect(testing::RedisServer& server) {
  auto redis = testing::BlockingRedis::connect_unix(server.unix_path());
  if (!redis) testing::fail(redis.error().to_string());
  return std::move(redis).value();
}

}  // namespace

ForeignWriter::ForeignWriter(World& world, testing::RedisServer& server)
    : world_(world),
      redis_(connect(server)),
      oracle_(world.board().log()),
      sequences_(world.board().config().key_count) {}

std::uint32_t ForeignWriter::draw_key() {
  const BoardConfig& config = world_.board().config();
  const std::uint64_t owned = config.key_count / config.slots;
  return static_cast<std::uint32_t>(world_.random().below(owned)) * config.slots + config.slots - 1;
}

std::string ForeignWriter::name_of(std::uint32_t key) const {
  return coherence::Names::create(kNamespace)->value_key(fleet::key_name(key));
}

std::string ForeignWriter::next_value(std::uint32_t key) {
  return fleet::encode_payload({.writer = 99, .sequence = ++sequences_[key], .key_id = key});
}

// Without a version: such a write has none, and cannot be lost here.
void ForeignWriter::done(std::uint32_t key) {
  ++count_;
  oracle_.record_write(key, sequences_[key], fleet::Outcome::kAcked, 0, Clock::system().now());
}

testing::RedisReply ForeignWriter::run(const std::vector<std::string>& words) {
  auto reply = redis_.command(words);
  if (!reply) testing::fail(reply.error().to_string());
  return std::move(reply).value();
}

void ForeignWriter::write_once() {
  const std::uint32_t key = draw_key();
  switch (world_.random().below(6)) {
    case 0:
      ++sequences_[key];
      run({"DEL", name_of(key)});
      break;
    case 1:
      run({"EVAL", "return redis.call('SET', KEYS[1], ARGV[1])", "1", name_of(key),
           next_value(key)});
      break;
    case 2:
      run({"SET", "elsewhere", next_value(key)});
      run({"RENAME", "elsewhere", name_of(key)});
      break;
    case 3: run({"SET", name_of(key), next_value(key), "PX", "100"}); break;
    default: run({"SET", name_of(key), next_value(key)}); break;
  }
  done(key);
  world_.run_for(1ms);
}

void ForeignWriter::flush_all(bool in_transaction) {
  const BoardConfig& config = world_.board().config();
  if (in_transaction) run({"MULTI"});
  run({"FLUSHALL"});
  if (in_transaction) run({"EXEC"});
  for (std::uint32_t key = config.slots - 1; key < config.key_count; key += config.slots) {
    ++sequences_[key];
    done(key);
  }
}

void ForeignWriter::evict_all() {
  const BoardConfig& config = world_.board().config();
  for (std::uint32_t key = config.slots - 1; key < config.key_count; key += config.slots) {
    run({"SET", name_of(key), next_value(key), "EX", "1000"});
    done(key);
  }
  world_.run_for(300ms);  // So that L1 has them.
  run({"CONFIG", "SET", "maxmemory-policy", "volatile-ttl"});
  run({"CONFIG", "SET", "maxmemory", "1mb"});
  run({"SET", "a key that makes it evict", "x"});
  for (std::uint32_t key = config.slots - 1; key < config.key_count; key += config.slots) {
    if (run({"EXISTS", name_of(key)}).integer != 0) continue;
    ++sequences_[key];
    done(key);
  }
}

void ForeignWriter::end_eviction() { run({"CONFIG", "SET", "maxmemory", "0"}); }

}  // namespace tiercel::chaos
