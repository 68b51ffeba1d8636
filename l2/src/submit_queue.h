#pragma once

// SubmitQueue: how commands get from all threads to the loop thread, and the memory that they are
// made of.
//
//   any thread    push: formats into the shared chunk, links a PendingCommand       (mutex, short)
//   loop thread   take: all that was pushed since; gives back what is free again    (mutex, O(1))
//   loop thread   release: its bytes and its place under the bounds; recycle: itself (no mutex)
//
// The loan of the connection (loan.h) is settled under the same mutex, since a direct call may only
// begin at a moment when nothing is submitted that must be sent before it.
//
// Nothing is allocated for a command once there are as many PendingCommands and chunks as were ever
// in use together. The commands stay allocated (their number is bounded by commands_max); of the
// chunks a few.
//
// The bounds are exact, and cost no shared cache line: what was added is counted under the mutex,
// what was released by the loop thread alone, and those who push look at the latter only when what
// they last saw of it would make the queue full.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "loan.h"
#include "pending_command.h"
#include "tiercel/base/mutex.h"
#include "write_chunk.h"

namespace tiercel::l2 {

class SubmitQueue {
 public:
  static constexpr std::size_t kChunkBytes = 64 * 1024 - sizeof(WriteChunk);
  // A command above this has a chunk of its own: it is not worth copying, nor writing under a lock.
  static constexpr std::size_t kSharedBytesMax = 16 * 1024;

  struct Bounds {
    std::size_t commands_max;
    std::size_t bytes_max;
  };
  struct Request {
    std::size_t bytes = 0;
    Retry retry = Retry::kIfNotSent;
    TimePoint deadline{};
    const Script* script = nullptr;
    bool is_call = false;  // Somebody blocks for the answer.
  };
  enum class Verdict : std::uint8_t {
    kAccepted,
    kAcceptedFirst,  // Nothing was waiting to be taken: the loop must be told.
    kClosed,
    kTooLarge,  // Can never be accepted.
    kTooManyCommands,
    kTooManyBytes,
  };

  explicit SubmitQueue(Bounds bounds) noexcept : bounds_(bounds) {}
  ~SubmitQueue();
  SubmitQueue(const SubmitQueue&) = delete;
  SubmitQueue& operator=(const SubmitQueue&) = delete;

  // Any thread. `write(char*)` writes exactly request.bytes bytes; it runs under the mutex and must
  // only do that. The callback is taken only from a command that is accepted.
  template <typename Callback, typename Write>
  [[nodiscard]] Verdict push(const Request& request, Callback& callback, Write&& write)
      TIERCEL_EXCLUDES(mutex_);
  // The same for a command that stands in a chunk of its own.
  template <typename Callback>
  [[nodiscard]] Verdict push_own(const Request& request, Callback& callback, OwnChunk& chunk)
      TIERCEL_EXCLUDES(mutex_);

  // All commands of a pipeline, or none. `answers` has been made for them, and is theirs when they
  // are accepted; the pipeline is then empty.
  [[nodiscard]] Verdict push_pipeline(Pipeline& pipeline, TimePoint deadline,
                                      PipelineAnswers* answers) TIERCEL_EXCLUDES(mutex_);

  // The direct calls, any thread. The socket, if it is on offer; the caller then has a command's
  // place under the bounds, and one of the two ways to end the loan is its last touch of the queue.
  // `now`: on Clock::system().
  [[nodiscard]] std::optional<LentSocket> borrow(std::size_t bytes, TimePoint now)
      TIERCEL_EXCLUDES(mutex_);
  // The command is answered, the socket as it was. False: the loop wants it back, see return_with.
  [[nodiscard]] bool give_back(std::size_t bytes) TIERCEL_EXCLUDES(mutex_);
  // In two steps: begin_return, then the loop is told, then return_… The other way round the loop
  // might be gone, with all that is left of the client, before it can be told.
  void begin_return() TIERCEL_EXCLUDES(mutex_);
  // Answered.
  void return_socket(std::size_t bytes) TIERCEL_EXCLUDES(mutex_);
  // Not answered: it becomes a command like any other, with its callback.
  void return_unanswered(const Request& request, std::string_view command, ViewCallback& callback,
                         TimePoint sent_at, const HandBack& how) TIERCEL_EXCLUDES(mutex_);

  // Any thread.
  [[nodiscard]] std::uint64_t submitted() const TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::size_t waiting() const TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] std::uint64_t direct_calls() const TIERCEL_EXCLUDES(mutex_);

  // Loop thread only, all that follow.
  struct Taken {
    PendingList commands;
    TimePoint deadline_min = TimePoint::max();
  };
  [[nodiscard]] Taken take() TIERCEL_EXCLUDES(mutex_);
  // The last: nothing is accepted any more.
  [[nodiscard]] Taken close() TIERCEL_EXCLUDES(mutex_);

  // Offers the socket to those who call. False: something was submitted.
  [[nodiscard]] bool offer(const LentSocket& socket) TIERCEL_EXCLUDES(mutex_);
  // Ends the loan, or asks for its end; what state it is in now. After kNone the socket is the
  // loop's. It wakes nobody: a borrower who waits for the server must be kicked.
  LoanState recall() TIERCEL_EXCLUDES(mutex_);
  // The same if nobody has borrowed since it was last asked.
  LoanState recall_if_unused() TIERCEL_EXCLUDES(mutex_);
  struct Returned {
    PendingCommand* command = nullptr;  // Null: it is answered.
    HandBack how;
  };
  // Of a loan that is returning or returned, the former with a wait for the rest of it; else
  // nothing. `is_patient`: also waits for one that has been recalled.
  [[nodiscard]] std::optional<Returned> collect(bool is_patient) TIERCEL_EXCLUDES(mutex_);

  // It will not be sent again: what it occupied under the bounds is free, its bytes are gone.
  void release(PendingCommand& command) noexcept {
    count_released(released_commands_, 1);
    count_released(released_bytes_, command.charged_bytes);
    release_bytes(command);
  }
  // Only the bytes; others may be put in their place.
  void release_bytes(PendingCommand& command) noexcept {
    ++command.chunk->released;
    dispose_if_done(std::exchange(command.chunk, nullptr));
  }
  // After release(), and when its callback has run.
  void recycle(PendingCommand* command) noexcept {
    command->answer.clear();
    returned_commands_.push_back(command);
  }

 private:
  static constexpr std::size_t kSlabCommands = 64;
  static constexpr std::size_t kFreeChunksMax = 8;

  static void count_released(std::atomic<std::uint64_t>& count, std::uint64_t by) noexcept {
    // Written by this thread only.
    count.store(count.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }
  [[nodiscard]] Verdict admit(std::size_t commands, std::size_t bytes) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] char* reserve(std::size_t bytes) TIERCEL_REQUIRES(mutex_) {
    if (tail_ == nullptr || tail_->capacity - tail_->used < bytes) replace_tail();
    char* const at = tail_->bytes() + tail_->used;
    tail_->used += bytes;
    ++tail_->added;
    return at;
  }
  template <typename Callback>
  [[nodiscard]] Verdict append(const Request& request, WriteChunk* chunk, const char* bytes,
                               Callback& callback) TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] PendingCommand* make_command(const Request& request, WriteChunk* chunk,
                                             const char* bytes) TIERCEL_REQUIRES(mutex_);
  // Charged, and at the end of what is submitted.
  void enqueue(PendingCommand* command) TIERCEL_REQUIRES(mutex_);
  LoanState recall_locked() TIERCEL_REQUIRES(mutex_);
  void count_direct_call(std::size_t bytes) TIERCEL_REQUIRES(mutex_);
  void end_loan(const Returned& returned) TIERCEL_REQUIRES(mutex_);
  void replace_tail() TIERCEL_REQUIRES(mutex_);
  void add_commands() TIERCEL_REQUIRES(mutex_);
  [[nodiscard]] Taken take_locked() TIERCEL_REQUIRES(mutex_);
  void dispose_if_done(WriteChunk* chunk) noexcept {
    if (chunk->is_done()) dispose(chunk);
  }
  void dispose(WriteChunk* chunk) noexcept;
  void seal(WriteChunk* chunks) noexcept;

  const Bounds bounds_;

  mutable Mutex mutex_;
  PendingList submitted_ TIERCEL_GUARDED_BY(mutex_);
  TimePoint deadline_min_ TIERCEL_GUARDED_BY(mutex_) = TimePoint::max();
  PendingList free_commands_ TIERCEL_GUARDED_BY(mutex_);
  WriteChunk* tail_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  WriteChunk* sealed_ TIERCEL_GUARDED_BY(mutex_) = nullptr;  // Full, and unknown to the loop.
  WriteChunk* free_chunks_ TIERCEL_GUARDED_BY(mutex_) = nullptr;
  std::size_t free_chunk_count_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::vector<std::unique_ptr<PendingCommand[]>> slabs_ TIERCEL_GUARDED_BY(mutex_);
  std::uint64_t last_sequence_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t added_commands_ TIERCEL_GUARDED_BY(mutex_) = 0;  // Without finished direct calls.
  std::uint64_t added_bytes_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t seen_released_commands_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t seen_released_bytes_ TIERCEL_GUARDED_BY(mutex_) = 0;
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;

  LoanState loan_ TIERCEL_GUARDED_BY(mutex_) = LoanState::kNone;
  bool was_borrowed_ TIERCEL_GUARDED_BY(mutex_) = false;  // Since recall_if_unused.
  LentSocket lent_ TIERCEL_GUARDED_BY(mutex_);
  TimePoint borrowed_at_ TIERCEL_GUARDED_BY(mutex_){};  // Last.
  int fresh_calls_ TIERCEL_GUARDED_BY(mutex_) = 0;      // In a row.
  std::uint64_t borrower_sequence_ TIERCEL_GUARDED_BY(mutex_) = 0;
  std::uint64_t direct_calls_ TIERCEL_GUARDED_BY(mutex_) = 0;
  Returned returned_ TIERCEL_GUARDED_BY(mutex_);
  CondVar loan_ended_;

  // Written by the loop thread only.
  alignas(64) std::atomic<std::uint64_t> released_commands_{0};
  std::atomic<std::uint64_t> released_bytes_{0};
  PendingList returned_commands_;
  WriteChunk* returned_chunks_ = nullptr;
};

template <typename Callback, typename Write>
SubmitQueue::Verdict SubmitQueue::push(const Request& request, Callback& callback, Write&& write) {
  if (request.bytes > kSharedBytesMax) {
    if (request.bytes > bounds_.bytes_max) return Verdict::kTooLarge;
    OwnChunk chunk = make_chunk(request.bytes);
    write(chunk->bytes());
    chunk->used = request.bytes;
    return push_own(request, callback, chunk);
  }
  MutexLock lock{mutex_};
  if (const Verdict verdict = admit(1, request.bytes); verdict != Verdict::kAccepted)
    return verdict;
  char* const bytes = reserve(request.bytes);
  write(bytes);
  return append(request, tail_, bytes, callback);
}

template <typename Callback>
SubmitQueue::Verdict SubmitQueue::push_own(const Request& request, Callback& callback,
                                           OwnChunk& chunk) {
  MutexLock lock{mutex_};
  if (const Verdict verdict = admit(1, request.bytes); verdict != Verdict::kAccepted)
    return verdict;
  chunk->added = 1;
  chunk->added_final = 1;
  WriteChunk* const own = chunk.release();
  return append(request, own, own->bytes(), callback);
}

template <typename Callback>
SubmitQueue::Verdict SubmitQueue::append(const Request& request, WriteChunk* chunk,
                                         const char* bytes, Callback& callback) {
  PendingCommand* const command = make_command(request, chunk, bytes);
  command->answer.set(std::move(callback));
  const bool is_first = submitted_.empty();
  enqueue(command);
  return is_first ? Verdict::kAcceptedFirst : Verdict::kAccepted;
}

inline PendingCommand* SubmitQueue::make_command(const Request& request, WriteChunk* chunk,
                                                 const char* bytes) {
  if (free_commands_.empty()) add_commands();
  PendingCommand* const command = free_commands_.pop_front();
  command->chunk = chunk;
  command->bytes = bytes;
  command->length = request.bytes;
  command->charged_bytes = request.bytes;
  command->script = request.script;
  command->deadline = request.deadline;
  command->retry = request.retry;
  command->is_call = request.is_call;
  command->is_whole_script = false;
  command->was_unreadable = false;
  command->place = PendingCommand::Place::kWaiting;
  return command;
}

inline void SubmitQueue::enqueue(PendingCommand* command) {
  command->sequence = ++last_sequence_;
  ++added_commands_;
  added_bytes_ += command->charged_bytes;
  if (command->deadline < deadline_min_) deadline_min_ = command->deadline;
  submitted_.push_back(command);
}

}  // namespace tiercel::l2
