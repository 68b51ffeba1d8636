#pragma once

// Auditor: draws some of L1's hits, asks the master about them afterwards, and counts what
// coherence::AuditJudge says. docs/design/coherence.md, "The auditor".
//
//   auditor.cc           drawing, probing, counting
//   audit_questions.cc   what the master is asked about one hit, and what its answers mean
//
// A reader's part: one draw a hit, and, for the few that are drawn, some stores into a ring. No
// lock, no allocation, no system call: the loop thread looks into the ring by itself, every Δ/5.
//
// Bounds: the ring's slots; kOutstandingMax audits under way; kPerSecondMax a second; kPageMax
// entries of the history in each direction, and values of kHashedBytesMax, for one of them.

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "audit_sample.h"
#include "hit_draw.h"
#include "link_driver.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/log.h"
#include "tiercel/cache/stats.h"
#include "tiercel/coherence/audit_judge.h"
#include "tiercel/coherence/names.h"
#include "tiercel/l1/lru_cache.h"
#include "tiercel/l2/client.h"

namespace tiercel {

struct AuditorOptions {
  std::size_t one_in = 100'000;  // 1 to 1e9.
  Duration lease{};              // Δ
  bool has_history = true;
  bool observes_foreign_writers = false;
};

class Auditor {
 public:
  static constexpr std::size_t kOutstandingMax = 16;
  static constexpr std::int64_t kPerSecondMax = 1000;
  static constexpr std::size_t kPageMax = 512;
  static constexpr std::size_t kHashedBytesMax = 65536;

  // All of them must outlive the loop's last task.
  Auditor(AuditorOptions options, const Clock& clock, l2::EventLoop& loop, l2::Client& client,
          const LinkDriver& links, const coherence::Names& names, LogSink log);
  Auditor(const Auditor&) = delete;
  Auditor& operator=(const Auditor&) = delete;

  // Any thread, once.
  void start();

  // A hit that draws less (draw_hit) is to be audited.
  [[nodiscard]] std::uint64_t draw_below() const noexcept { return draw_below_; }
  // Any thread. `payload` is what was answered, of the pinned entry; proven_at was loaded before it
  // was pinned, the clock (`at`) read after.
  void take(const l1::Handle& entry, std::string_view payload, TimePoint proven_at,
            TimePoint at) noexcept;

  [[nodiscard]] AuditStats stats() const;

 private:
  struct Audit;

  void tick();
  void probe();
  void drain();
  [[nodiscard]] bool is_of_epoch() const;
  void finish(Audit& audit, const coherence::AuditEvidence& evidence);
  void finish_void();
  void count(const Audit& audit, const coherence::AuditVerdict& verdict);
  void report(const Audit& audit, const coherence::AuditVerdict& verdict);

  // --- audit_questions.cc
  void ask(const std::shared_ptr<Audit>& audit);
  void answered(const std::shared_ptr<Audit>& audit, const l2::Reply& reply);
  void compare(Audit& audit, std::int64_t size, const l2::Reply& stored) const;
  void walk(const std::shared_ptr<Audit>& audit);
  void walked(Audit& audit);
  [[nodiscard]] TimePoint answer_by() const;

  // Immutable.
  const AuditorOptions options_;
  const std::uint64_t draw_below_;
  const Duration tick_every_;
  const Clock& clock_;
  l2::EventLoop& loop_;
  l2::Client& client_;
  const LinkDriver& links_;
  const coherence::Names& names_;
  const LogSink log_;

  // Any thread.
  AuditRing ring_;
  std::atomic<std::uint64_t> sampled_{0}, dropped_{0}, skipped_{0};

  // Loop thread only.
  coherence::AuditJudge judge_;
  bool is_probing_ = false;
  bool was_refused_ = false;  // The server's refusal of a question has been logged.
  std::size_t outstanding_ = 0;
  std::int64_t budget_ = 0;  // Audits that may still begin before the next tick.
  TimePoint quiet_until_{};  // Of the log.
  std::uint64_t not_logged_ = 0;

  // Written by the loop thread.
  std::atomic<std::uint64_t> voided_{0}, fresh_{0}, stale_{0}, violations_{0}, inconclusive_{0};
  std::atomic<Duration::rep> worst_at_least_{0}, worst_at_most_{0};
  std::array<std::atomic<std::uint64_t>, AuditStats::kBucketsMs.size() + 1> staleness_{};
};

// One hit under audit. Loop thread only.
struct Auditor::Audit {
  AuditSample sample{};
  coherence::AuditEvidence evidence{};
  // Versions that may be those of changes of this entry: the history has to say.
  std::vector<coherence::Version> suspects{};
  coherence::Version promised = coherence::kVersionUnknown;
  std::vector<l2::Reply> pages{};  // In the order in which they were asked for.
  std::size_t unanswered = 0;
  bool has_failed = false;
};

}  // namespace tiercel
