#pragma once

// AuditJudge: was this answer of L1 as fresh as it claimed? Judged afterwards, from what the master
// says, without trusting the stream that L1 itself relies on.
//
// A hit at time t claims to reflect everything that was acknowledged before its proven_at (lease.h;
// at most Δ before t). A change that was executed before that, and that the hit did not reflect, is
// a violation of C1.
//
// When a change was executed no clock here can tell exactly, and the server's is not asked. It is
// bracketed by probes: the newest version in the history, asked for every now and then on the data
// connection. A version that a probe has seen was executed before its answer came; one that it has
// not seen, after it was sent. So a staleness has two ends: "at least" (proven) and "at most", as
// far apart as two probes. Violations are counted by the proven end, so none is ever counted that
// was not; what lies within the probes' resolution may be missed, and is found at the next hit.
//
//   judge.begin_epoch(number, now);
//   judge.probed(sent_at, received_at, newest);                  // Every Δ/5 or so.
//   if (!judge.covers(hit)) …                                    // Void: of another epoch.
//   evidence = … the changes after judge.known_before(hit.proven_at), and some before it …
//   switch (judge.judge(hit, evidence).kind) …                   // (compiled in the tests)
//
// Pure; not thread-safe. Memory: kProbesMax probes. O(kProbesMax) a call.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <optional>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

// An answer of L1.
struct AuditedHit {
  Version version = kVersionUnknown;  // Of the entry.
  std::uint64_t epoch = 0;            // The number, loaded after the value.
  TimePoint proven_at{};              // LeaseCell::proven_at(), loaded before the value.
  TimePoint at{};                     // The clock, read after the value.
};

// What the master says of the entry now, asked for after the hit.
struct AuditEvidence {
  static constexpr Version kAll = std::numeric_limits<Version>::max();

  // Changes of the entry (a write or invalidation of its key, or of one of its tags, a clear) that
  // are newer than it, rising.
  std::vector<Version> changes{};
  // All changes after the one and up to the other are among them: what the history was searched
  // for. kAll: up to now.
  Version searched_from = kVersionUnknown;
  Version searched_to = kVersionUnknown;
  // The value is not the one that was answered, and no change has to explain it: a foreign writer's
  // doing, a value without a version, a history that was reset, bytes that cannot be read.
  bool is_unexplained = false;
};

struct AuditVerdict {
  // kFresh: nothing had changed when it was answered. kStaleWithinBound: something had, or may have
  // (within the probes' resolution), but nothing is proven that it should have reflected.
  // kInconclusive: the history does not reach that far, or has nothing to say.
  enum class Kind : std::uint8_t { kFresh, kStaleWithinBound, kViolation, kInconclusive };
  Kind kind = Kind::kInconclusive;
  Version change = kVersionUnknown;  // The oldest that it did not reflect; not of kFresh.
  // How long before the hit that change was executed. Of kStaleWithinBound and kViolation.
  Duration at_least{0};
  std::optional<Duration> at_most{};  // nullopt: nothing bounds it.
};

class AuditJudge {
 public:
  static constexpr std::size_t kProbesMax = 128;

  // Epochs that are noticed late only make more hits void.
  void begin_epoch(std::uint64_t epoch, TimePoint now);
  [[nodiscard]] std::uint64_t epoch() const noexcept { return epoch_; }

  // Whether the hit, from its proof to its value, is of this epoch and of this history.
  [[nodiscard]] bool covers(const AuditedHit& hit) const;

  // In the order in which they were sent, each answered before the next is sent. `newest`: the id
  // of the history's last entry; unknown: there is none. One that falls means that the history was
  // reset, and all that was before is void.
  void probed(TimePoint sent_at, TimePoint received_at, Version newest);

  // The newest version that was certainly executed before; unknown: none.
  [[nodiscard]] Version known_before(TimePoint at) const;

  // Of a hit that is covered, judged when the evidence is there.
  [[nodiscard]] AuditVerdict judge(const AuditedHit& hit, const AuditEvidence& evidence) const;

 private:
  // Of probes that saw the same version: when the first was answered and the last was sent.
  struct Probe {
    Version newest;
    TimePoint received_first;
    TimePoint sent_last;
  };

  [[nodiscard]] std::optional<TimePoint> executed_before(Version version) const;
  [[nodiscard]] std::optional<TimePoint> executed_after(Version version) const;

  std::uint64_t epoch_ = 0;
  TimePoint began_at_{};
  std::deque<Probe> probes_;  // Rising in each of their members.
};

}  // namespace tiercel::coherence
