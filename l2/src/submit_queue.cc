// Invariants: a PendingCommand is in exactly one of submitted_, free_commands_, returned_commands_,
// or was taken. A chunk is the tail, or in sealed_, or known to the loop thread by its commands
// (added_final is set), or in one of the two lists of free ones. Those who push write only to the
// tail and to what is free; the loop only to what it has taken.

#include "submit_queue.h"

namespace tiercel::l2 {
namespace {

// Since the last direct call began: what the peer has done since then, the loop might not have seen
// in time either.
constexpr Duration kFreshMax = std::chrono::microseconds{100};
// In a row; so that a stream that is out of step is found to be so, also when calls never pause.
constexpr int kFreshCallsMax = 7;

void delete_chunks(WriteChunk* chunk) noexcept {
  while (chunk != nullptr) DeleteChunk{}(std::exchange(chunk, chunk->next));
}

}  // namespace

SubmitQueue::~SubmitQueue() {
  MutexLock lock{mutex_};
  for (WriteChunk* chunks : {tail_, sealed_, free_chunks_, returned_chunks_}) delete_chunks(chunks);
}

SubmitQueue::Verdict SubmitQueue::admit(std::size_t commands, std::size_t bytes) {
  if (bytes > bounds_.bytes_max || commands > bounds_.commands_max) return Verdict::kTooLarge;
  if (is_closed_) return Verdict::kClosed;
  if (added_commands_ - seen_released_commands_ + commands > bounds_.commands_max) {
    seen_released_commands_ = released_commands_.load(std::memory_order_relaxed);
    if (added_commands_ - seen_released_commands_ + commands > bounds_.commands_max) {
      return Verdict::kTooManyCommands;
    }
  }
  if (added_bytes_ - seen_released_bytes_ + bytes > bounds_.bytes_max) {
    seen_released_bytes_ = released_bytes_.load(std::memory_order_relaxed);
    if (added_bytes_ - seen_released_bytes_ + bytes > bounds_.bytes_max) {
      return Verdict::kTooManyBytes;
    }
  }
  return Verdict::kAccepted;
}

SubmitQueue::Verdict SubmitQueue::push_pipeline(Pipeline& pipeline, TimePoint deadline,
                                                PipelineAnswers* answers) {
  MutexLock lock{mutex_};
  if (const Verdict verdict = admit(pipeline.size(), pipeline.chunk_->used);
      verdict != Verdict::kAccepted) {
    return verdict;
  }
  WriteChunk* const chunk = std::exchange(pipeline.chunk_, nullptr);
  chunk->added = chunk->added_final = static_cast<std::uint32_t>(pipeline.size());
  const bool is_first = submitted_.empty();
  const char* bytes = chunk->bytes();
  std::size_t index = 0;
  for (const Pipeline::Part& part : pipeline.parts_) {
    PendingCommand* const command = make_command(
        {.bytes = part.bytes, .retry = part.retry, .deadline = deadline, .script = nullptr}, chunk,
        bytes);
    command->answer.set(answers, index++);
    enqueue(command);
    bytes += part.bytes;
  }
  pipeline.parts_.clear();
  return is_first ? Verdict::kAcceptedFirst : Verdict::kAccepted;
}

void SubmitQueue::replace_tail() {
  if (tail_ != nullptr) tail_->next = std::exchange(sealed_, tail_);
  if (free_chunks_ == nullptr) {
    tail_ = make_chunk(kChunkBytes).release();
    return;
  }
  tail_ = std::exchange(free_chunks_, free_chunks_->next);
  --free_chunk_count_;
  tail_->next = nullptr;
}

void SubmitQueue::add_commands() {
  slabs_.push_back(std::make_unique<PendingCommand[]>(kSlabCommands));
  for (std::size_t i = 0; i < kSlabCommands; ++i) free_commands_.push_back(&slabs_.back()[i]);
}

SubmitQueue::Taken SubmitQueue::take_locked() {
  Taken taken;
  // In the same moment, or a direct call could overtake what is taken.
  if (!submitted_.empty()) recall_locked();
  taken.commands.splice_back(submitted_);
  taken.deadline_min = std::exchange(deadline_min_, TimePoint::max());
  free_commands_.splice_back(returned_commands_);
  while (returned_chunks_ != nullptr && free_chunk_count_ < kFreeChunksMax) {
    WriteChunk* const chunk = std::exchange(returned_chunks_, returned_chunks_->next);
    chunk->next = std::exchange(free_chunks_, chunk);
    ++free_chunk_count_;
  }
  return taken;
}

SubmitQueue::Taken SubmitQueue::take() {
  WriteChunk* sealed = nullptr;
  Taken taken;
  {
    MutexLock lock{mutex_};
    taken = take_locked();
    sealed = std::exchange(sealed_, nullptr);
  }
  delete_chunks(std::exchange(returned_chunks_, nullptr));  // More than are kept.
  seal(sealed);
  return taken;
}

SubmitQueue::Taken SubmitQueue::close() {
  {
    MutexLock lock{mutex_};
    is_closed_ = true;
  }
  return take();
}

// The loop thread learns how many commands they will ever have had.
void SubmitQueue::seal(WriteChunk* chunks) noexcept {
  while (chunks != nullptr) {
    WriteChunk* const chunk = std::exchange(chunks, chunks->next);
    chunk->added_final = chunk->added;
    dispose_if_done(chunk);
  }
}

void SubmitQueue::dispose(WriteChunk* chunk) noexcept {
  if (chunk->capacity != kChunkBytes) return DeleteChunk{}(chunk);
  chunk->used = 0;
  chunk->added = 0;
  chunk->released = 0;
  chunk->added_final = WriteChunk::kNotSealed;
  chunk->next = std::exchange(returned_chunks_, chunk);
}

std::uint64_t SubmitQueue::submitted() const {
  MutexLock lock{mutex_};
  return last_sequence_;
}

std::size_t SubmitQueue::waiting() const {
  MutexLock lock{mutex_};
  return added_commands_ - released_commands_.load(std::memory_order_relaxed);
}

std::uint64_t SubmitQueue::direct_calls() const {
  MutexLock lock{mutex_};
  return direct_calls_;
}

// What the loop lends it has nothing in flight on, so that one command more is within the bounds.
std::optional<LentSocket> SubmitQueue::borrow(std::size_t bytes, TimePoint now) {
  MutexLock lock{mutex_};
  if (loan_ != LoanState::kOffered || !submitted_.empty()) return std::nullopt;
  loan_ = LoanState::kBorrowed;
  was_borrowed_ = true;
  borrower_sequence_ = ++last_sequence_;
  ++added_commands_;
  added_bytes_ += bytes;
  const bool is_soon = now - std::exchange(borrowed_at_, now) < kFreshMax;
  fresh_calls_ = is_soon && fresh_calls_ < kFreshCallsMax ? fresh_calls_ + 1 : 0;
  lent_.is_fresh = fresh_calls_ > 0;
  return lent_;
}

// It is charged no longer.
void SubmitQueue::count_direct_call(std::size_t bytes) {
  ++direct_calls_;
  --added_commands_;
  added_bytes_ -= bytes;
}

bool SubmitQueue::give_back(std::size_t bytes) {
  MutexLock lock{mutex_};
  if (loan_ != LoanState::kBorrowed) return false;
  loan_ = LoanState::kOffered;
  count_direct_call(bytes);
  return true;
}

void SubmitQueue::begin_return() {
  MutexLock lock{mutex_};
  loan_ = LoanState::kReturning;
}

void SubmitQueue::return_socket(std::size_t bytes) {
  MutexLock lock{mutex_};
  count_direct_call(bytes);
  end_loan({});
}

void SubmitQueue::return_unanswered(const Request& request, std::string_view command,
                                    ViewCallback& callback, TimePoint sent_at,
                                    const HandBack& how) {
  MutexLock lock{mutex_};
  char* const bytes = reserve(command.size());
  std::memcpy(bytes, command.data(), command.size());
  PendingCommand* const pending = make_command(request, tail_, bytes);
  pending->answer.set(std::move(callback));
  pending->sequence = borrower_sequence_;
  pending->sent_at = sent_at;
  end_loan({pending, how});
}

void SubmitQueue::end_loan(const Returned& returned) {
  returned_ = returned;
  loan_ = LoanState::kReturned;
  loan_ended_.notify_one();
}

bool SubmitQueue::offer(const LentSocket& socket) {
  MutexLock lock{mutex_};
  if (!submitted_.empty()) return false;
  lent_ = socket;
  borrowed_at_ = TimePoint{};
  loan_ = LoanState::kOffered;
  was_borrowed_ = true;  // It gets its time.
  return true;
}

LoanState SubmitQueue::recall_locked() {
  if (loan_ == LoanState::kOffered) loan_ = LoanState::kNone;
  if (loan_ == LoanState::kBorrowed) loan_ = LoanState::kWanted;
  return loan_;
}

LoanState SubmitQueue::recall() {
  MutexLock lock{mutex_};
  return recall_locked();
}

LoanState SubmitQueue::recall_if_unused() {
  MutexLock lock{mutex_};
  return std::exchange(was_borrowed_, false) ? loan_ : recall_locked();
}

std::optional<SubmitQueue::Returned> SubmitQueue::collect(bool is_patient) {
  MutexLock lock{mutex_};
  while (loan_ == LoanState::kReturning || (is_patient && loan_ == LoanState::kWanted)) {
    loan_ended_.wait(mutex_);
  }
  if (loan_ != LoanState::kReturned) return std::nullopt;
  loan_ = LoanState::kNone;
  return returned_;
}

}  // namespace tiercel::l2
