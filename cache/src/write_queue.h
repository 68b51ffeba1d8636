#pragma once

// Writes on their way to the client, and where those wait that may leave with others.
//
// A script costs the server three times what it does inside, so sets that wait at the same moment
// leave in one call (docs/decisions/0020). Nobody waits for company: the loop thread takes what is
// there when it comes round, which is when it would have sent it anyway. All writes of one thread
// are sent in the order of its calls: one that leaves alone goes behind those that wait, and passes
// by the queue only when it is empty.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core.h"
#include "tiercel/base/mutex.h"

namespace tiercel {

// One thread makes it and hands it over; then it belongs to the loop thread. Any thread may answer
// one that was refused.
struct Cache::Core::Write {
  std::vector<std::string> keys{};
  std::optional<coherence::FillTable::Token> token{};  // Of a set.
  std::shared_ptr<const std::string> value{};          // Likewise.
  serialization::TagSlots tags{};
  EntryTimes times{};
  TimePoint expires_at{};
  TimePoint deadline{};
  std::uint32_t replicas = 0;
  bool fence = false;
  std::optional<coherence::InvalidationKind> invalidates{};
  WriteCallback callback{};

  [[nodiscard]] bool evicts_keys() const noexcept {
    return !invalidates || *invalidates == coherence::InvalidationKind::kKey;
  }

  const l2::Script* script = nullptr;
  std::vector<std::string> script_keys{};
  std::vector<std::string> arguments{};

  // A plain set: of write_script, with the message yet to be made.
  bool may_join = false;
  static constexpr std::size_t kMessageArgument = 2;
  // Of keys and arguments, without what the protocol adds.
  [[nodiscard]] std::size_t bytes() const noexcept;
  std::size_t charged_bytes = 0;  // WriteQueue's; 0: it is not charged.
};

class Cache::Core::WriteQueue {
 public:
  using Writes = std::vector<std::shared_ptr<Write>>;

  // The bounds on writes that went through the queue and are not answered yet; what they become in
  // the client counts there, too.
  WriteQueue(std::size_t writes_max, std::size_t bytes_max)
      : writes_max_(writes_max), bytes_max_(bytes_max) {}

  enum class Verdict {
    kNothingWaits,  // The write does not join others: send it now, on this thread.
    kFirst,         // It waits. Have the loop thread take it.
    kWaits,
    kTooManyWrites,
    kTooManyBytes,
    kClosed,
  };
  // Any thread.
  [[nodiscard]] Verdict push(const std::shared_ptr<Write>& write) TIERCEL_EXCLUDES(mutex_);
  // Any thread. It was answered; for those that never waited, too.
  void release(Write& write) noexcept;

  // Loop thread. All that waits; then, when it has been submitted, sent().
  [[nodiscard]] Writes take() TIERCEL_EXCLUDES(mutex_);
  void sent() TIERCEL_EXCLUDES(mutex_);
  // How many of these, the first ones, leave together: at least one.
  [[nodiscard]] std::size_t count_together(std::span<const std::shared_ptr<Write>> writes) const;

  // Any thread. What waits is the caller's to answer; nothing is taken any more.
  [[nodiscard]] Writes close() TIERCEL_EXCLUDES(mutex_);

 private:
  const std::size_t writes_max_;
  const std::size_t bytes_max_;
  std::atomic<std::size_t> writes_{0};
  std::atomic<std::size_t> bytes_{0};

  Mutex mutex_;
  Writes waiting_ TIERCEL_GUARDED_BY(mutex_);
  bool is_sending_ TIERCEL_GUARDED_BY(mutex_) = false;  // What was taken is not yet submitted.
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
