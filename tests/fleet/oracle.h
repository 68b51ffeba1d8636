#pragma once

// The oracle: says whether what the cache answered was right. It knows every write, because writers
// record each when it has ended, and it knows one clock, because all processes run on one machine.
//
//   R  A read that began at t must return the latest write of its key that was acknowledged before
//      t - staleness_max (the lease, and a tolerance), or a later one.
//   M  A read that began after another read of the same instance had ended must not return an
//      earlier write of the key than that one did.
//   W  A write that was acknowledged is in the history of the master that is there at the end.
//   G  (where it is asked for) No L1 returns a lost write for longer than staleness_max after the
//      server that had acknowledged it ceased to be the master.
//
// The order of a key's writes is that of their sequence numbers: a key has one writer at a time,
// which has one write of it under way at a time. The exception is a write of unknown outcome, which
// can be executed after its successors; what it left behind is then compared by version.
//
// Writes that were lost with the old master (asynchronous replication) are set apart: nobody can
// still return them. Which these are is known at the end only, so a read that looks wrong is noted
// down with what it missed (suspects.h) and judged then.
//
// All but judge_run: any thread of any process, no lock.

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "fleet/history.h"
#include "fleet/write_log.h"
#include "tiercel/base/clock.h"

namespace tiercel::fleet {

// What a read found: which write of the key. Both 0: the key was absent.
struct Seen {
  std::uint32_t sequence = 0;
  std::uint64_t version = 0;
};

class Oracle {
 public:
  // The log must outlive it.
  explicit Oracle(WriteLog& log) noexcept : log_(log) {}

  // A write has ended. Only the key's own writer calls this, in the order of its writes. `version`
  // is 0 unless it was acknowledged. False when the log is full: then the writer must stop.
  bool record_write(std::uint32_t key, std::uint32_t sequence, Outcome outcome,
                    std::uint64_t version, TimePoint settled_at) noexcept;

  // R, for a read that has ended.
  void judge_read(std::uint32_t key, Seen seen, TimePoint began_at, bool from_l1) noexcept;

  // M: `before` is the newest that the instance had seen of the key when this read began.
  void judge_order(std::uint32_t key, Seen before, Seen seen) noexcept;

 private:
  [[nodiscard]] bool is_unknown(std::uint32_t key, std::uint32_t sequence) const noexcept;

  WriteLog& log_;
};

struct Verdict {
  std::uint64_t stale_beyond_bound = 0;    // Reads that broke R,
  std::uint64_t monotonic_violations = 0;  // and M.
  std::uint64_t lost_branch_reads = 0;     // Reads that missed only what nobody has any more.
  std::uint64_t suspects_overflowed = 0;  // Of the violations, those that could not be looked into.
  std::uint64_t writes_acked = 0;         // All that were recorded.
  std::uint64_t writes_lost = 0;          // W
  std::uint64_t ghosts = 0;               // Lost writes that broke G.
  Duration worst_staleness{0};  // By how much an L1 hit was behind the oldest write it missed.
  Duration worst_ghost{0};      // How long after `branch_ended_at` L1 still returned a lost write.
};

struct JudgeOptions {
  // The key as the cache knows it; for entries of the history that name keys.
  std::function<std::string(std::uint32_t key)> name_of_key{};
  // When the last server that had acknowledged lost writes ceased to be the master. nullopt: G is
  // not asked for.
  std::optional<TimePoint> branch_ended_at{};
};

// At the end, when nobody writes or reads any more.
Verdict judge_run(const WriteLog& log, const History& history, const JudgeOptions& options = {});

}  // namespace tiercel::fleet
