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

// Who is to be answered: one of the two forms of callback, or nobody (any more).
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
  void clear() noexcept {
    switch (std::exchange(form_, Form::kNone)) {
      case Form::kNone: break;
      case Form::kReply: reply_.~ReplyCallback(); break;
      case Form::kView: view_.~ViewCallback(); break;
    }
  }

  void reply(const ReplyView& reply) {
    if (form_ == Form::kView) return view_(reply);
    reply_(reply.to_reply());
  }
  void fail(Error error) {
    if (form_ == Form::kView) return view_(std::move(error));
    reply_(std::move(error));
  }

 private:
  enum class Form : std::uint8_t { kNone, kReply, kView };

  void take(Answer& other) noexcept {
    if (other.form_ == Form::kReply) set(std::move(other.reply_));
    if (other.form_ == Form::kView) set(std::move(other.view_));
    other.clear();
  }

  Form form_ = Form::kNone;
  union {
    ReplyCallback reply_;
    ViewCallback view_;
  };
};

struct PendingCommand {
  PendingCommand* next = nullptr;
  // RESP bytes, in `chunk`; of a script as EVALSHA, or as EVAL once the server has said that it
  // does not know it.
  WriteChunk* chunk = nullptr;
  const char* bytes = nullptr;
  std::size_t length = 0;
  std::size_t charged_bytes = 0;   // Against queue_bytes_max, until it leaves the lists.
  const Script* script = nullptr;  // Null for a plain command.
  TimePoint deadline{};
  TimePoint sent_at{};
  std::uint64_t sequence = 0;  // Order of submission.
  Retry retry = Retry::kIfNotSent;
  bool is_whole_script = false;  // Sent as EVAL.
  // The data link's own: not of the queue, without a chunk, and of no use on another connection.
  bool is_question = false;
  // Empty once answered. An answered command stays in flight, as a tombstone, until its late reply
  // has come, so that replies and commands stay in step.
  Answer answer;

  [[nodiscard]] bool is_answered() const noexcept { return !answer; }
  [[nodiscard]] std::string_view wire() const noexcept { return {bytes, length}; }
};

// First in, first out; links the commands themselves.
class PendingList {
 public:
  [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }
  [[nodiscard]] std::size_t size() const noexcept { return size_; }
  [[nodiscard]] PendingCommand* front() const noexcept { return first_; }

  void push_back(PendingCommand* command) noexcept {
    command->next = nullptr;
    (first_ == nullptr ? first_ : last_->next) = command;
    last_ = command;
    ++size_;
  }
  PendingCommand* pop_front() noexcept {
    PendingCommand* const command = first_;
    first_ = command->next;
    --size_;
    return command;
  }
  // Takes all of `other` behind its own.
  void splice_back(PendingList& other) noexcept {
    if (other.empty()) return;
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
