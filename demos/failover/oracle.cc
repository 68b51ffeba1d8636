#include "failover/oracle.h"

#include <algorithm>

// Invariants
// - The records of a key form a chain, newest first, in falling order of sequence and settled_at:
//   its one writer appends them one after the other.
// - A record is complete before newest() points to it (release / acquire).
// - So what a read has missed is a run of the chain that begins at the newest record, and what it
//   has missed beyond the bound is the older end of that run.

namespace tiercel::failover {
namespace {

std::int64_t ticks(TimePoint time) { return time.time_since_epoch().count(); }

void raise(std::atomic<std::int64_t>& to, std::int64_t value) {
  std::int64_t present = to.load(std::memory_order_relaxed);
  while (present < value && !to.compare_exchange_weak(present, value, std::memory_order_relaxed)) {
  }
}

// A run of a key's chain as one word for the table of suspects.
constexpr std::uint64_t pack_run(std::uint32_t newest, std::uint32_t oldest) {
  return std::uint64_t{newest} << 32 | oldest;
}

bool is_lost(const WriteRecord& record, const History& history) {
  return record.outcome == Outcome::kAcked && !history.contains(record.version);
}

// Whether any write of the run is one that a read could have returned.
bool missed_a_living_write(const Board& board, std::uint64_t run, const History& history) {
  const auto oldest = static_cast<std::uint32_t>(run);
  auto position = static_cast<std::uint32_t>(run >> 32);
  while (position != kNoRecord) {
    const WriteRecord& record = board.record(position);
    if (record.outcome == Outcome::kAcked && !is_lost(record, history)) return true;
    if (position == oldest) break;
    position = record.previous;
  }
  return false;
}

}  // namespace

bool Oracle::record_write(std::uint32_t key, std::uint32_t sequence, Outcome outcome,
                          std::uint64_t version, TimePoint settled_at) noexcept {
  BoardState& state = board_.state();
  std::uint32_t count = state.records.load(std::memory_order_relaxed);
  do {
    if (count >= board_.config().log_capacity) {
      state.records_refused.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!state.records.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel));
  const std::uint32_t position = count + 1;
  WriteRecord& record = board_.record(position);
  record.key = key;
  record.previous = board_.newest(key).load(std::memory_order_relaxed);
  record.sequence = sequence;
  record.outcome = outcome;
  record.version = outcome == Outcome::kAcked ? version : 0;
  record.settled_at = ticks(settled_at);
  board_.newest(key).store(position, std::memory_order_release);
  return true;
}

void Oracle::judge_read(std::uint32_t key, Seen seen, TimePoint began_at, bool from_l1) noexcept {
  const std::uint32_t head = board_.newest(key).load(std::memory_order_acquire);
  if (head == kNoRecord || board_.record(head).sequence <= seen.sequence) return;
  const bool was_unknown = is_unknown(key, seen.sequence);
  const std::int64_t began = ticks(began_at);
  const std::int64_t bound = ticks(began_at - board_.config().staleness_max());
  std::uint32_t newest_beyond = kNoRecord;
  std::uint32_t oldest_beyond = kNoRecord;
  for (std::uint32_t position = head; position != kNoRecord;) {
    WriteRecord& record = board_.record(position);
    if (record.sequence <= seen.sequence) break;
    const bool came_later = !was_unknown || record.version > seen.version;
    if (record.outcome == Outcome::kAcked && record.settled_at < began && came_later) {
      if (from_l1) raise(record.missed_until, began);
      if (record.settled_at < bound) {
        if (newest_beyond == kNoRecord) newest_beyond = position;
        oldest_beyond = position;
      }
    }
    position = record.previous;
  }
  if (newest_beyond != kNoRecord) {
    board_.state().stale.report(pack_run(newest_beyond, oldest_beyond));
  }
}

void Oracle::judge_order(std::uint32_t key, Seen before, Seen seen) noexcept {
  if (seen.sequence >= before.sequence) return;
  if (seen.version > before.version && is_unknown(key, seen.sequence)) return;
  board_.state().backwards.report(before.version);
}

bool Oracle::is_unknown(std::uint32_t key, std::uint32_t sequence) const noexcept {
  std::uint32_t position = board_.newest(key).load(std::memory_order_acquire);
  while (position != kNoRecord && board_.record(position).sequence > sequence) {
    position = board_.record(position).previous;
  }
  return position != kNoRecord && board_.record(position).sequence == sequence &&
         board_.record(position).outcome == Outcome::kUnknown;
}

Verdict judge_run(const Board& board, const History& history) {
  Verdict verdict;
  for (std::uint32_t position = 1; position <= board.record_count(); ++position) {
    const WriteRecord& record = board.record(position);
    if (record.sequence == 0) continue;  // Its writer died over it.
    if (is_lost(record, history)) {
      ++verdict.writes_lost;
      continue;
    }
    const std::int64_t missed_until = record.missed_until.load(std::memory_order_relaxed);
    if (missed_until != 0) {
      verdict.worst_staleness =
          std::max(verdict.worst_staleness, Duration{missed_until - record.settled_at});
    }
  }
  board.state().stale.for_each([&](std::uint64_t run, std::uint64_t reads) {
    (missed_a_living_write(board, run, history) ? verdict.stale_beyond_bound
                                                : verdict.lost_branch_reads) += reads;
  });
  board.state().backwards.for_each([&](std::uint64_t version, std::uint64_t reads) {
    (history.contains(version) ? verdict.monotonic_violations : verdict.lost_branch_reads) += reads;
  });
  const std::uint64_t stale_overflowed = board.state().stale.overflowed();
  const std::uint64_t backwards_overflowed = board.state().backwards.overflowed();
  verdict.stale_beyond_bound += stale_overflowed;
  verdict.monotonic_violations += backwards_overflowed;
  verdict.suspects_overflowed = stale_overflowed + backwards_overflowed;
  return verdict;
}

}  // namespace tiercel::failover
