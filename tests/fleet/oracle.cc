#include "fleet/oracle.h"

#include <algorithm>

// Invariants
// - The records of a key form a chain, newest first, in falling order of sequence and settled_at:
//   its one writer appends them one after the other.
// - A record is complete before newest() points to it (release / acquire).
// - So what a read has missed is a run of the chain that begins at the newest record, and what it
//   has missed beyond the bound is the older end of that run.

namespace tiercel::fleet {
namespace {

std::int64_t ticks(TimePoint time) { return time.time_since_epoch().count(); }

void raise(std::atomic<std::int64_t>& to, std::int64_t value) {
  std::int64_t present = to.load(std::memory_order_relaxed);
  while (present < value && !to.compare_exchange_weak(present, value, std::memory_order_relaxed)) {
  }
}

// To a millisecond, so that millions of hits a second do not fight over a cache line.
void note_seen(WriteRecord& record, std::int64_t began) {
  constexpr std::int64_t kStep = 1'000'000;
  if (record.seen_until.load(std::memory_order_relaxed) + kStep > began) return;
  raise(record.seen_until, began);
}

// A run of a key's chain as one word for the table of suspects.
constexpr std::uint64_t pack_run(std::uint32_t newest, std::uint32_t oldest) {
  return std::uint64_t{newest} << 32 | oldest;
}

class Judge {
 public:
  Judge(const WriteLog& log, const History& history, const JudgeOptions& options)
      : log_(log), history_(history), options_(options) {}

  [[nodiscard]] bool is_lost(const WriteRecord& record) const {
    if (record.outcome != Outcome::kAcked) return false;
    if (record.version == 0) return false;  // Of a foreign writer, who has none: not judged by it.
    if (!options_.name_of_key) return !history_.contains(record.version);
    return !history_.contains(record.version, options_.name_of_key(record.key));
  }

  // Whether any write of the run is one that a read could have returned.
  [[nodiscard]] bool missed_a_living_write(std::uint64_t run) const {
    const auto oldest = static_cast<std::uint32_t>(run);
    auto position = static_cast<std::uint32_t>(run >> 32);
    while (position != kNoRecord) {
      const WriteRecord& record = log_.record(position);
      if (record.outcome == Outcome::kAcked && !is_lost(record)) return true;
      if (position == oldest) break;
      position = record.previous;
    }
    return false;
  }

  void judge_record(const WriteRecord& record, Verdict& verdict) const {
    verdict.writes_acked += record.outcome == Outcome::kAcked ? 1 : 0;
    if (is_lost(record)) {
      ++verdict.writes_lost;
      judge_ghost(record, verdict);
      return;
    }
    const std::int64_t missed_until = record.missed_until.load(std::memory_order_relaxed);
    if (missed_until == 0) return;
    verdict.worst_staleness =
        std::max(verdict.worst_staleness, Duration{missed_until - record.settled_at});
  }

 private:
  void judge_ghost(const WriteRecord& record, Verdict& verdict) const {
    const std::int64_t seen_until = record.seen_until.load(std::memory_order_relaxed);
    if (!options_.branch_ended_at || seen_until == 0) return;
    const Duration after{seen_until - ticks(*options_.branch_ended_at)};
    verdict.worst_ghost = std::max(verdict.worst_ghost, after);
    if (after > log_.limits().staleness_max) ++verdict.ghosts;
  }

  const WriteLog& log_;
  const History& history_;
  const JudgeOptions& options_;
};

}  // namespace

bool Oracle::record_write(std::uint32_t key, std::uint32_t sequence, Outcome outcome,
                          std::uint64_t version, TimePoint settled_at) noexcept {
  WriteLogHeader& state = log_.header();
  std::uint32_t count = state.records.load(std::memory_order_relaxed);
  do {
    if (count >= log_.limits().capacity) {
      state.records_refused.fetch_add(1, std::memory_order_relaxed);
      return false;
    }
  } while (!state.records.compare_exchange_weak(count, count + 1, std::memory_order_acq_rel));
  const std::uint32_t position = count + 1;
  WriteRecord& record = log_.record(position);
  record.key = key;
  record.previous = log_.newest(key).load(std::memory_order_relaxed);
  record.sequence = sequence;
  record.outcome = outcome;
  record.version = outcome == Outcome::kAcked ? version : 0;
  record.settled_at = ticks(settled_at);
  log_.newest(key).store(position, std::memory_order_release);
  return true;
}

void Oracle::judge_read(std::uint32_t key, Seen seen, TimePoint began_at, bool from_l1) noexcept {
  const std::uint32_t head = log_.newest(key).load(std::memory_order_acquire);
  if (head == kNoRecord) return;
  const std::int64_t began = ticks(began_at);
  if (log_.record(head).sequence <= seen.sequence) {
    if (from_l1 && log_.record(head).sequence == seen.sequence) note_seen(log_.record(head), began);
    return;
  }
  const bool was_unknown = is_unknown(key, seen.sequence);
  const std::int64_t bound = ticks(began_at - log_.limits().staleness_max);
  std::uint32_t newest_beyond = kNoRecord;
  std::uint32_t oldest_beyond = kNoRecord;
  for (std::uint32_t position = head; position != kNoRecord;) {
    WriteRecord& record = log_.record(position);
    if (record.sequence <= seen.sequence) {
      if (from_l1 && record.sequence == seen.sequence) note_seen(record, began);
      break;
    }
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
    log_.header().stale.report(pack_run(newest_beyond, oldest_beyond));
  }
}

void Oracle::judge_order(std::uint32_t key, Seen before, Seen seen) noexcept {
  if (seen.sequence >= before.sequence) return;
  if (seen.version > before.version && is_unknown(key, seen.sequence)) return;
  log_.header().backwards.report(before.version);
}

bool Oracle::is_unknown(std::uint32_t key, std::uint32_t sequence) const noexcept {
  std::uint32_t position = log_.newest(key).load(std::memory_order_acquire);
  while (position != kNoRecord && log_.record(position).sequence > sequence) {
    position = log_.record(position).previous;
  }
  return position != kNoRecord && log_.record(position).sequence == sequence &&
         log_.record(position).outcome == Outcome::kUnknown;
}

Verdict judge_run(const WriteLog& log, const History& history, const JudgeOptions& options) {
  Verdict verdict;
  const Judge judge{log, history, options};
  for (std::uint32_t position = 1; position <= log.count(); ++position) {
    const WriteRecord& record = log.record(position);
    if (record.sequence == 0) continue;  // Its writer died over it.
    judge.judge_record(record, verdict);
  }
  log.header().stale.for_each([&](std::uint64_t run, std::uint64_t reads) {
    (judge.missed_a_living_write(run) ? verdict.stale_beyond_bound : verdict.lost_branch_reads) +=
        reads;
  });
  log.header().backwards.for_each([&](std::uint64_t version, std::uint64_t reads) {
    (history.contains(version) ? verdict.monotonic_violations : verdict.lost_branch_reads) += reads;
  });
  const std::uint64_t stale_overflowed = log.header().stale.overflowed();
  const std::uint64_t backwards_overflowed = log.header().backwards.overflowed();
  verdict.stale_beyond_bound += stale_overflowed;
  verdict.monotonic_violations += backwards_overflowed;
  verdict.suspects_overflowed = stale_overflowed + backwards_overflowed;
  return verdict;
}

}  // namespace tiercel::fleet
