#pragma once

// PendingCommand: a command from its submission to its answer, with all that is needed to send it
// again. It is allocated once, for many commands one after the other (submit_queue.h), never moves
// and is in at most one list at a time.

#include <cstddef>
#include <cstdint>
#include <new>
#include <string_view>
#include <utility>

#include "tiercel/base/clock.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/command.h"
#include "write_chunk.h"

namespace tiercel::l2 {

// The one callback of a pipeline, for as long as one of its commands is unanswered. Its submitter's
// until it is accepted, then the loop thread's.
struct PipelineAnswers {
  PipelineCallback each;
  std::size_t left;
};

// Who is to be answered: one of the forms of callback, or nobody (any more).
class Answer {
 public:
  Answer() noexcept {}
  Answer(Answer&& other) noexcept { take(other); }
  Answer& operator=(Answer&& other) noexcept {
    Answer taken{std::move(other)};
    clear();
    take(taken);
    return *this;
  }
  Answer(const Answer&) = delete;
  Answer& operator=(const Answer&) = delete;
  ~Answer() { clear(); }

  explicit operator bool() const noexcept { return form_ != Form::kNone; }

  void set(ReplyCallback&& callback) noexcept {
    clear();
    ::new (&reply_) ReplyCallback(std::move(callback));
    form_ = Form::kReply;
  }
  void set(ViewCallback&& callback) noexcept {
    clear();
    ::new (&view_) ViewCallback(std::move(callback));
    form_ = Form::kView;
  }
  void set(PipelineAnswers* answers, std::size_t index) noexcept {
    clear();
    part_ = {answers, index};
    form_ = Form::kPart;
  }
  void clear() noexcept {
    switch (std::exchange(form_, Form::kNone)) {
      case Form::kNone: break;
      case Form::kReply: reply_.~ReplyCallback(); break;
      case Form::kView: view_.~ViewCallback(); break;
      case Form::kPart:
        if (--part_.answers->left == 0) delete part_.answers;
        break;
    }
  }

  void reply(const ReplyView& reply) {
    if (form_ == Form::kReply) return reply_(reply.to_reply());
    if (form_ == Form::kView) return view_(reply);
    part_.answers->each(part_.index, reply);
  }
  void fail(Error error) {
    if (form_ == Form::kReply) return reply_(std::move(error));
    if (form_ == Form::kView) return view_(std::move(error));
    part_.answers->each(part_.index, std::move(error));
  }

 private:
  enum class Form : std::uint8_t { kNone, kReply, kView, kPart };
  struct Part {
    PipelineAnswers* answers;
    std::size_t index;
  };

  void take(Answer& other) noexcept {
    if (other.form_ == Form::kReply) set(std::move(other.reply_));
    if (other.form_ == Form::kView) set(std::move(other.view_));
    if (other.form_ == Form::kPart) {
      part_ = other.part_;
      form_ = std::exchange(other.form_, Form::kNone);
    }
    other.clear();
  }

  Form form_ = Form::kNone;
  union {
    ReplyCallback reply_;
    ViewCallback view_;
    Part part_;
  };
};

struct PendingCommand {
  // First what is needed when it is answered, so that this touches little of it.
  PendingCommand* next = nullptr;  // Of its PendingList.
  PendingCommand* prev = nullptr;
  // RESP bytes, in `chunk`; of a script as EVALSHA, or as EVAL once the server has said that it
  // does not know it.
  WriteChunk* chunk = nullptr;
  std::size_t charged_bytes = 0;   // Against queue_bytes_max, until it leaves the lists.
  const Script* script = nullptr;  // Null for a plain command.
  // Empty once answered. An answered command stays in flight, as a tombstone, until its late reply
  // has come, so that replies and commands stay in step.
  Answer answer;
  const char* bytes = nullptr;
  std::size_t length = 0;
  TimePoint deadline{};
  TimePoint sent_at{};
  std::uint64_t sequence = 0;  // Order of submission.
  Retry retry = Retry::kIfNotSent;
  bool is_call = false;          // Somebody blocks for the answer.
  bool is_whole_script = false;  // Sent as EVAL.
  // The data link's own: not of the queue, without a chunk, and of no use on another connection.
  bool is_question = false;
  bool was_unreadable = false;  // A reply that could not be read came in its turn.
  // Of DataLink: which of its queues it is in.
  enum class Place : std::uint8_t { kWaiting, kInFlight, kReturned } place = Place::kWaiting;
  bool is_in_bucket = false;  // See DeadlineBuckets.
  PendingCommand* earlier_due = nullptr;
  PendingCommand* later_due = nullptr;

  [[nodiscard]] bool is_answered() const noexcept { return !answer; }
  [[nodiscard]] std::string_view wire() const noexcept { return {bytes, length}; }
};

// First in, first out, and out of the middle; links the commands themselves. The first's `prev` and
// the last's `next` are null.
class PendingList {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] PendingCommand* front() const noexcept { return first_; }
  [[nodiscard]] PendingCommand* back() const noexcept { return first_ == nullptr ? first_ : last_; }

  void push_back(PendingCommand* command) noexcept {
    command->next = nullptr;
    command->prev = back();
    (first_ == nullptr ? first_ : last_->next) = command;
    last_ = command;
    ++size_;
  }
  PendingCommand* pop_front() noexcept {
    PendingCommand* const command = first_;
    remove(command);
    return command;
  }
  void remove(PendingCommand* command) noexcept {
    PendingCommand* const next = command->next;
    PendingCommand* const prev = command->prev;
    (prev == nullptr ? first_ : prev->next) = next;
    (next == nullptr ? last_ : next->prev) = prev;
    --size_;
  }
  // Takes all of `other` behind its own.
  void splice_back(PendingList& other) noexcept {
    if (other.empty()) return;
    other.first_->prev = back();
    (first_ == nullptr ? first_ : last_->next) = other.first_;
    last_ = other.last_;
    size_ += std::exchange(other.size_, 0);
    other.first_ = nullptr;
  }

 private:
  PendingCommand* first_ = nullptr;
  PendingCommand* last_ = nullptr;  // Of a list that is not empty.
  std::size_t size_ = 0;
};

}  // namespace tiercel::l2
