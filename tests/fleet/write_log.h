#pragma once

// WriteLog: every write of a fleet of processes with its outcome, and the reads that look wrong, in
// memory that the processes share: what the oracle (oracle.h) judges by.
//
// A view: who maps the memory owns it. The memory must have been all zeros when it was made.
// Threads. Lock-free atomics, or published by one: any thread of any process.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "fleet/suspects.h"
#include "tiercel/base/clock.h"

namespace tiercel::fleet {

enum class Outcome : std::uint32_t { kAcked, kUnknown, kFailed };

// One write that has ended. All but the last two is constant once it is published.
struct WriteRecord {
  std::uint32_t key;
  std::uint32_t previous;  // Position of this key's write before, or kNoRecord.
  std::uint32_t sequence;  // Counts the writes of the key, from 1.
  Outcome outcome;
  std::uint64_t version;    // 0 unless acknowledged.
  std::int64_t settled_at;  // Nanoseconds on Clock::system(), when the writer knew.
  // The latest begin of a read answered by L1 that should have seen this write and did not; 0:
  // none.
  std::atomic<std::int64_t> missed_until;
  // The latest begin, to a millisecond, of a read that L1 answered with this write; 0: none.
  std::atomic<std::int64_t> seen_until;
};
inline constexpr std::uint32_t kNoRecord = 0;  // Positions begin at 1.

struct WriteLogHeader {
  std::atomic<std::uint32_t> records;          // Positions given out.
  std::atomic<std::uint64_t> records_refused;  // The log was full.
  Suspects stale;      // Oracle R: (newest, oldest) position of the writes missed beyond the bound.
  Suspects backwards;  // Oracle M: the version of the write that was seen before and then no more.
};

class WriteLog {
 public:
  struct Limits {
    std::uint64_t key_count = 1;
    std::uint32_t capacity = 1;  // Writes that can be recorded.
    Duration staleness_max{0};   // How much older than a read what it missed may be.
  };

  // How many bytes `memory` must have; it begins at a multiple of 64.
  static std::size_t bytes(const Limits& limits) noexcept;
  WriteLog(const Limits& limits, void* memory) noexcept;

  [[nodiscard]] const Limits& limits() const noexcept { return limits_; }
  [[nodiscard]] WriteLogHeader& header() noexcept { return *header_; }
  [[nodiscard]] const WriteLogHeader& header() const noexcept { return *header_; }

  // Position of the key's newest write, or kNoRecord.
  [[nodiscard]] std::atomic<std::uint32_t>& newest(std::uint32_t key) noexcept {
    return newest_[key];
  }
  [[nodiscard]] const std::atomic<std::uint32_t>& newest(std::uint32_t key) const noexcept {
    return newest_[key];
  }
  [[nodiscard]] WriteRecord& record(std::uint32_t position) noexcept { return log_[position - 1]; }
  [[nodiscard]] const WriteRecord& record(std::uint32_t position) const noexcept {
    return log_[position - 1];
  }
  // How many writes are in the log. Not all may be filled in while writers run.
  [[nodiscard]] std::uint32_t count() const noexcept;

 private:
  Limits limits_;
  WriteLogHeader* header_;
  std::atomic<std::uint32_t>* newest_;
  WriteRecord* log_;
};

}  // namespace tiercel::fleet
