#include "failover/reader.h"

#include <string>

#include "fleet/pacer.h"
#include "fleet/payload.h"

namespace tiercel::failover {
namespace {

void count(std::atomic<std::uint64_t>& counter) { counter.fetch_add(1, std::memory_order_relaxed); }

}  // namespace

Result<void> Reader::run() {
  const Board& board = surroundings_.board;
  Pacer pacer{board.config().reads_per_s};
  while (board.phase() < Phase::kStopped) {
    for (int due = pacer.wait(); due > 0 && board.phase() < Phase::kStopped; --due) {
      const auto key = keys_->next();
      if (!key) return key.error();
      read(*key);
    }
  }
  return {};
}

void Reader::read(std::uint32_t key) {
  BoardState& state = surroundings_.board.state();
  const bool first_hit_wanted = state.kill_begun_at.load(std::memory_order_acquire) != 0 &&
                                state.first_l1_hit_at.load(std::memory_order_relaxed) == 0;
  const bool in_new_epoch = first_hit_wanted && surroundings_.epochs.in_new_epoch();
  const Seen before = surroundings_.seen.newest(key);

  const TimePoint began_at = Clock::system().now();
  auto answer = ask_memory(key);
  if (!answer) answer = ask_cache(key);
  const TimePoint ended_at = Clock::system().now();
  surroundings_.mine().read_latency.add(ended_at - began_at);
  if (!answer) return;

  oracle_.judge_read(key, answer->seen, began_at, answer->from_l1);
  oracle_.judge_order(key, before, answer->seen);
  surroundings_.seen.note(key, answer->seen);
  if (in_new_epoch && answer->from_l1) {
    std::int64_t none = 0;
    state.first_l1_hit_at.compare_exchange_strong(none, ended_at.time_since_epoch().count());
  }
}

// nullopt: an error, or a value that makes no sense; both are counted.
std::optional<Reader::Answer> Reader::ask_cache(std::uint32_t key) {
  InstanceBoard& mine = surroundings_.mine();
  const std::uint64_t id = surroundings_.board.id_of_key(key);
  const auto found = surroundings_.cache.get(key_name(id));
  if (!found) {
    count(mine.reads_failed);
    return std::nullopt;
  }
  if (!*found) {
    count(mine.reads_absent);
    return Answer{};
  }
  const Value& value = **found;
  const bool from_l1 = value.tier() == Tier::kL1;
  count(from_l1 ? mine.reads_l1 : mine.reads_l2);
  const auto payload = decode_payload(value.bytes());
  const BoardConfig& config = surroundings_.board.config();
  if (!payload || payload->key_id != id || payload->sequence == 0 || value.version() == 0 ||
      payload->writer != owner_of(key, config.instances)) {
    count(mine.values_wrong);
    return std::nullopt;
  }
  const Seen seen{.sequence = payload->sequence, .version = value.version()};
  if (config.stale_reader) remembered_.try_emplace(key, seen);
  return Answer{.seen = seen, .from_l1 = from_l1};
}

// The negative control: what was read once is the answer for ever, as from an L1 that hears no
// invalidation.
std::optional<Reader::Answer> Reader::ask_memory(std::uint32_t key) {
  if (!surroundings_.board.config().stale_reader) return std::nullopt;
  const auto found = remembered_.find(key);
  if (found == remembered_.end()) return std::nullopt;
  count(surroundings_.mine().reads_l1);
  return Answer{.seen = found->second, .from_l1 = true};
}

}  // namespace tiercel::failover
