#include "failover/writer.h"

#include <optional>
#include <string>

#include "fleet/pacer.h"
#include "fleet/payload.h"
#include "tiercel/base/mutex.h"

namespace tiercel::failover {
namespace {

constexpr std::size_t kFillBatch = 64;

// Answers of one batch, gathered from the loop thread.
struct Gathering {
  struct Settled {
    WriteResult result;
    TimePoint at;
  };
  Mutex mutex;
  CondVar changed;
  std::vector<std::optional<Settled>> settled TIERCEL_GUARDED_BY(mutex);
  std::size_t missing TIERCEL_GUARDED_BY(mutex) = 0;
};

Outcome outcome_of(const WriteResult& result) {
  if (result) return Outcome::kAcked;
  return result.error().code == ErrorCode::kDeadlineExceeded ? Outcome::kUnknown : Outcome::kFailed;
}

}  // namespace

bool Writer::fill(std::uint32_t keys) {
  const std::uint32_t instances = surroundings_.board.config().instances;
  std::vector<std::uint32_t> batch;
  for (std::uint32_t key = surroundings_.number; key < keys; key += instances) {
    batch.push_back(key);
    if (batch.size() < kFillBatch) continue;
    if (!fill_batch(batch)) return false;
    batch.clear();
  }
  return batch.empty() || fill_batch(batch);
}

bool Writer::fill_batch(const std::vector<std::uint32_t>& keys) {
  auto gathering = std::make_shared<Gathering>();
  {
    MutexLock lock{gathering->mutex};
    gathering->settled.resize(keys.size());
    gathering->missing = keys.size();
  }
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const std::uint64_t id = surroundings_.board.id_of_key(keys[i]);
    const std::uint32_t sequence = ++sequences_[keys[i]];
    surroundings_.cache.set_async(
        key_name(id),
        encode_payload({.writer = surroundings_.number, .sequence = sequence, .key_id = id}), {},
        [gathering, i](WriteResult result) {
          const TimePoint now = Clock::system().now();
          MutexLock lock{gathering->mutex};
          gathering->settled[i].emplace(Gathering::Settled{std::move(result), now});
          if (--gathering->missing == 0) gathering->changed.notify_one();
        });
  }
  MutexLock lock{gathering->mutex};
  while (gathering->missing > 0) gathering->changed.wait(gathering->mutex);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto& settled = *gathering->settled[i];
    if (!settle(keys[i], sequences_[keys[i]], settled.result, settled.at)) return false;
  }
  return true;
}

Result<void> Writer::run() {
  const Board& board = surroundings_.board;
  const std::uint32_t instances = board.config().instances;
  Pacer pacer{board.config().writes_per_s};
  while (board.phase() < Phase::kQuiet) {
    for (int due = pacer.wait(); due > 0 && board.phase() < Phase::kQuiet; --due) {
      const auto key = keys_->next_owned(surroundings_.number, instances);
      if (!key) return key.error();
      if (!*key) break;
      if (!write(**key)) return {};
    }
  }
  return {};
}

bool Writer::write(std::uint32_t key) {
  BoardState& state = surroundings_.board.state();
  const std::uint64_t id = surroundings_.board.id_of_key(key);
  const std::uint32_t sequence = ++sequences_[key];
  // Asked before the write begins: an answer to it then comes from the new master.
  const bool master_is_dead = state.kill_done_at.load(std::memory_order_acquire) != 0;
  const auto result = surroundings_.cache.set(
      key_name(id),
      encode_payload({.writer = surroundings_.number, .sequence = sequence, .key_id = id}));
  const TimePoint settled_at = Clock::system().now();
  if (result && master_is_dead) {
    std::int64_t none = 0;
    state.first_write_at.compare_exchange_strong(none, settled_at.time_since_epoch().count());
  }
  InstanceBoard& mine = surroundings_.mine();
  const Outcome outcome = outcome_of(result);
  (outcome == Outcome::kAcked     ? mine.writes_acked
   : outcome == Outcome::kUnknown ? mine.writes_unknown
                                  : mine.writes_failed)
      .fetch_add(1, std::memory_order_relaxed);
  return settle(key, sequence, result, settled_at);
}

bool Writer::settle(std::uint32_t key, std::uint32_t sequence, const WriteResult& result,
                    TimePoint settled_at) {
  return oracle_.record_write(key, sequence, outcome_of(result), result ? result->version : 0,
                              settled_at);
}

}  // namespace tiercel::failover
