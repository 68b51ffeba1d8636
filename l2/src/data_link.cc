// Invariants: a command is in exactly one of in_flight_, returned_ and waiting_, or answered and
// gone (a tombstone: answered, and still in in_flight_). in_flight_ is empty while the link is not
// up. A command enters in_flight_ only together with the start of the write that carries it, so
// what is in the other two queues was certainly not sent on this connection. Answers run user code,
// which may submit (into the inbox, not here), may ask() (which writes, and adds to in_flight_) and
// may redial S, but does not change the queues otherwise.

#include "data_link.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "master_finder.h"
#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr Duration kSweepInterval = std::chrono::milliseconds{5};
// How long the replies in flight are awaited after the first READONLY. They are on their way.
constexpr Duration kDrainMax = std::chrono::milliseconds{100};

// True for the error `code` itself, and for older servers' report of it from within a script.
bool says(const ReplyView& reply, std::string_view code) {
  if (reply.is_error(code)) return true;
  return reply.text().starts_with("ERR Error running script") &&
         reply.text().find("-" + std::string{code} + " ") != std::string_view::npos;
}

// What one write carries: neighbours in one chunk are one slice.
class WriteBatch {
 public:
  [[nodiscard]] bool is_empty() const noexcept { return count_ == 0; }
  [[nodiscard]] bool is_full() const noexcept {
    return count_ == slices_.size() || bytes_ >= Connection::kWriteBytesMax;
  }
  void add(const PendingCommand& command) noexcept {
    bytes_ += command.length;
    if (count_ > 0) {
      Slice& last = slices_[count_ - 1];
      if (last.chunk == command.chunk && last.data + last.size == command.bytes) {
        last.size += command.length;
        return;
      }
    }
    slices_[count_++] = {command.bytes, command.length, command.chunk};
  }
  [[nodiscard]] std::span<const Slice> slices() const noexcept { return {slices_.data(), count_}; }

 private:
  std::array<Slice, Connection::kSlicesMax> slices_;
  std::size_t count_ = 0;
  std::size_t bytes_ = 0;
};

}  // namespace

DataLink::DataLink(Host& host)
    : Link(host, "data"),
      queue_(host.queue()),
      pause_backoff_(host.redis().backoff_min, host.redis().backoff_max) {
  for (PendingCommand& question : questions_) {
    question.is_question = true;
    question.retry = Retry::kSafe;  // To be told that it failed, and no more.
    free_questions_.push_back(&question);
  }
}

DataLink::~DataLink() = default;

void DataLink::accept() {
  take();
  flush();
}

void DataLink::take() {
  SubmitQueue::Taken taken = queue_.take();
  if (taken.commands.empty()) return;
  if (!is_up()) {
    const auto why = trouble();
    if (why && why->code == ErrorCode::kInvalidArgument) {
      while (!taken.commands.empty()) answer(taken.commands.pop_front(), *why);
      return;
    }
  }
  deadline_min_ = std::min(deadline_min_, taken.deadline_min);
  waiting_.splice_back(taken.commands);
  start_sweep();
}

std::optional<Error> DataLink::ask(std::string_view wire, TimePoint deadline,
                                   ViewCallback& callback) {
  const TimePoint now = host().clock().now();
  if (!is_up() || drain_timer_ != 0) {
    const auto why = trouble();
    return why ? *why : unavailable("the connection is being given up", endpoint_text());
  }
  if (deadline <= now) return unavailable("the deadline has passed", endpoint_text());
  if (free_questions_.empty()) {
    return overloaded(std::to_string(kQuestionsMax) + " questions are outstanding");
  }
  PendingCommand* const question = free_questions_.pop_front();
  question->answer.set(std::move(callback));
  question->deadline = deadline;
  question->sent_at = now;
  deadline_min_ = std::min(deadline_min_, deadline);
  in_flight_.push_back(question);
  connection().write(wire);
  start_sweep();
  return std::nullopt;
}

void DataLink::close() {
  stop();
  forget_connection();
  host().loop().cancel(std::exchange(sweep_timer_, 0));
  SubmitQueue::Taken last = queue_.close();
  waiting_.splice_back(last.commands);
  const std::string where = endpoint_text();
  for (PendingList sent = std::exchange(in_flight_, {}); !sent.empty();) {
    PendingCommand* const command = sent.pop_front();
    if (command->is_answered()) {
      discard(command);
    } else if (command->retry == Retry::kSafe) {
      answer(command, closed("the client was closed before the reply came"));
    } else {
      answer(command, outcome_unknown("the client was closed after the command was sent", where));
    }
  }
  answer_unsent(closed("the client was closed before the command was sent"));
}

void DataLink::link_handshaken() { become_up(); }

void DataLink::link_up(const ServerIdentity& server) {
  if (host().observer() != nullptr) host().observer()->data_up(server);
  flush();
}

void DataLink::link_down(const Error& reason) {
  forget_connection();
  if (host().observer() != nullptr) host().observer()->data_down(reason);
  for (PendingList sent = std::exchange(in_flight_, {}); !sent.empty();) {
    PendingCommand* const command = sent.pop_front();
    if (command->is_answered()) {
      discard(command);
    } else if (command->is_question) {
      answer(command, unavailable("the connection was lost before the answer: " + reason.message,
                                  reason.endpoint));
    } else if (command->retry == Retry::kSafe) {
      host().counters().retries.fetch_add(1, std::memory_order_relaxed);
      put_back(command);
    } else {
      answer(command, outcome_unknown(
                          "the connection was lost after the command was sent: " + reason.message,
                          reason.endpoint));
    }
  }
}

void DataLink::link_failed(const Error& reason) {
  if (reason.code == ErrorCode::kInvalidArgument) answer_unsent(reason);
}

void DataLink::answer_unsent(const Error& error) {
  for (PendingCommand* const command : std::exchange(returned_, {})) answer(command, error);
  for (PendingList unsent = std::exchange(waiting_, {}); !unsent.empty();) {
    answer(unsent.pop_front(), error);
  }
}

void DataLink::forget_connection() {
  host().loop().cancel(std::exchange(pause_timer_, 0));
  host().loop().cancel(std::exchange(drain_timer_, 0));
  host().loop().cancel(std::exchange(flush_timer_, 0));
  was_paused_ = false;
  is_reordering_ = false;
}

void DataLink::link_drained() { flush(); }

// What the answers' callbacks have submitted leaves now, while the server works on what it has.
// Before the loop sleeps, the threads that were woken by answers get a chance to submit, too: where
// they share our core the loop would else sleep, be woken by the first of their commands and send
// that one alone. What was measured: docs/design/l2.md.
void DataLink::link_read_end(bool more) {
  take();
  flush();
  if (more) return;
  std::this_thread::yield();
  take();
  flush();
}

void DataLink::flush() {
  if (!is_up() || pause_timer_ != 0 || drain_timer_ != 0) return;
  if (is_reordering_ && !in_flight_.empty()) return;
  is_reordering_ = false;
  if (returned_.empty() && waiting_.empty()) return;
  const TimePoint now = host().clock().now();
  while (!connection().write_busy()) {
    WriteBatch batch;
    PendingList sent;
    while (!batch.is_full()) {
      PendingCommand* const command = take_next(now);  // May answer others, who may ask().
      if (command == nullptr) break;
      batch.add(*command);
      command->sent_at = now;
      sent.push_back(command);
    }
    if (batch.is_empty()) break;
    connection().write(batch.slices());
    in_flight_.splice_back(sent);
  }
}

// The next command in order. Overdue ones are answered and passed over: after a pause of the whole
// process nothing may be sent that its caller has long given up.
PendingCommand* DataLink::take_next(TimePoint now) {
  while (true) {
    PendingCommand* command = nullptr;
    if (!returned_.empty()) {
      command = returned_.front();
      returned_.pop_front();
    } else if (!waiting_.empty()) {
      command = waiting_.pop_front();
    } else {
      return nullptr;
    }
    if (command->deadline > now) return command;
    answer(command, not_sent_in_time());
  }
}

void DataLink::put_back(PendingCommand* command) {
  const auto place = std::upper_bound(returned_.begin(), returned_.end(), command->sequence,
                                      [](std::uint64_t sequence, const PendingCommand* other) {
                                        return sequence < other->sequence;
                                      });
  returned_.insert(place, command);
}

void DataLink::link_reply(const ReplyView& reply) {
  if (in_flight_.empty()) {
    return redial(protocol_error("the server sent a reply to no command"));
  }
  PendingCommand* const command = in_flight_.pop_front();
  if (command->is_answered()) {
    host().counters().replies_late.fetch_add(1, std::memory_order_relaxed);
    // As true as if it had come in time.
    if (reply.is_error() && says(reply, "READONLY")) leave_replica(reply.text());
    discard(command);
  } else if (!reply.is_error() || !handle_not_executed(command, reply)) {
    // A server that is not ready answers questions all the same.
    if (!command->is_question && std::exchange(was_paused_, false)) {
      pause_backoff_.reset();
      if (pause_timer_ == 0 && drain_timer_ == 0) set_trouble(std::nullopt);
    }
    release(command);  // First, so that the callback may submit into the room it leaves.
    command->answer.reply(reply);
    recycle(command);
  }
  if (!in_flight_.empty()) return;
  if (drain_timer_ != 0) return finish_drain();
  if (is_reordering_) flush_soon();
}

// Replies that mean that nothing ran. True if the command was put back to be sent again.
bool DataLink::handle_not_executed(PendingCommand* command, const ReplyView& reply) {
  if (command->is_question) return false;
  if (command->script != nullptr && !command->is_whole_script && reply.is_error("NOSCRIPT")) {
    make_whole_script(*command);
    is_reordering_ = true;
  } else if (says(reply, "READONLY")) {
    leave_replica(reply.text());
  } else if (says(reply, "LOADING") || says(reply, "MASTERDOWN") || says(reply, "NOREPLICAS")) {
    pause(reply.text());
  } else {
    return false;
  }
  host().counters().retries.fetch_add(1, std::memory_order_relaxed);
  put_back(command);
  flush_soon();
  return true;
}

void DataLink::leave_replica(std::string_view said) {
  if (drain_timer_ != 0) return;
  begin_drain(unavailable("not a master: " + server_text(said), endpoint_text()));
  host().found_not_master(endpoint(), drain_reason_);
}

// The same request, by the script's text in place of its name.
void DataLink::make_whole_script(PendingCommand& command) {
  const std::string_view wire = command.wire();
  const std::size_t header = wire.find('\n') + 1;
  const std::string_view tail =
      wire.substr(header + bulk_bytes(std::string_view{"EVALSHA"}.size()) +
                  bulk_bytes(command.script->sha1().size()));
  std::string head{wire.substr(0, header)};
  append_bulk(head, "EVAL");
  append_bulk(head, command.script->source());
  const std::size_t length = head.size() + tail.size();
  OwnChunk chunk = make_chunk(length);
  std::memcpy(chunk->bytes(), head.data(), head.size());
  std::memcpy(chunk->bytes() + head.size(), tail.data(), tail.size());
  chunk->used = length;
  chunk->added = chunk->added_final = 1;
  queue_.release_bytes(command);
  command.chunk = chunk.release();
  command.bytes = command.chunk->bytes();
  command.length = length;
  command.is_whole_script = true;
}

// Once for all the replies that arrived together.
void DataLink::flush_soon() {
  if (flush_timer_ != 0) return;
  flush_timer_ = host().loop().run_after(Duration{0}, [this] {
    flush_timer_ = 0;
    flush();
  });
}

void DataLink::pause(std::string_view said) {
  if (pause_timer_ != 0 || drain_timer_ != 0) return;
  was_paused_ = true;
  host().finder().suspect();  // It may have been replaced while it loads or is cut off.
  set_trouble(unavailable("the server is not ready: " + server_text(said), endpoint_text()));
  pause_timer_ = host().loop().run_after(pause_backoff_.next(host().random()), [this] {
    pause_timer_ = 0;
    // With nothing to send there is nothing that could show whether the server is ready now.
    if (returned_.empty() && waiting_.empty() && std::exchange(was_paused_, false)) {
      set_trouble(std::nullopt);
    }
    flush();
  });
}

// What else is in flight is about to get the same answer, and then we know that it did not run;
// closing now would make it unknown.
void DataLink::begin_drain(const Error& reason) {
  drain_reason_ = reason;
  set_trouble(reason);
  drain_timer_ = host().loop().run_after(kDrainMax, [this] {
    drain_timer_ = 0;
    finish_drain();
  });
}

void DataLink::leave(const Error& reason) {
  if (!is_up() || drain_timer_ != 0) return;
  begin_drain(reason);
  if (in_flight_.empty()) finish_drain();
}

void DataLink::finish_drain() { redial(drain_reason_); }

void DataLink::start_sweep() {
  if (sweep_timer_ != 0) return;
  if (in_flight_.empty() && returned_.empty() && waiting_.empty()) {
    deadline_min_ = TimePoint::max();
    return;
  }
  sweep_timer_ = host().loop().run_after(kSweepInterval, [this] {
    sweep_timer_ = 0;
    sweep();
    start_sweep();
  });
}

void DataLink::sweep() {
  const TimePoint now = host().clock().now();
  if (now >= deadline_min_) expire(now);
  const auto limit = host().redis().response_timeout;
  if (!in_flight_.empty() && now - in_flight_.front()->sent_at > limit) {
    redial(unavailable("no reply for " + std::to_string(limit.count()) + " ms"));
  }
}

void DataLink::expire(TimePoint now) {
  TimePoint deadline_min = TimePoint::max();
  const auto is_overdue = [now, &deadline_min](const PendingCommand& command) {
    if (command.deadline <= now) return true;
    deadline_min = std::min(deadline_min, command.deadline);
    return false;
  };
  std::vector<std::pair<Answer, Error>> no_reply;
  for (PendingCommand* command = in_flight_.front(); command != nullptr; command = command->next) {
    if (command->is_answered() || !is_overdue(*command)) continue;
    no_reply.emplace_back(std::move(command->answer), no_reply_in_time(*command));
  }
  PendingList not_sent;
  std::erase_if(returned_, [&](PendingCommand* command) {
    if (!is_overdue(*command)) return false;
    not_sent.push_back(command);
    return true;
  });
  for (PendingList all = std::exchange(waiting_, {}); !all.empty();) {
    PendingCommand* const command = all.pop_front();
    (is_overdue(*command) ? not_sent : waiting_).push_back(command);
  }
  deadline_min_ = deadline_min;
  if (!no_reply.empty()) host().finder().suspect();
  for (auto& [answer, error] : no_reply) answer.fail(std::move(error));
  while (!not_sent.empty()) answer(not_sent.pop_front(), not_sent_in_time());
}

Error DataLink::not_sent_in_time() const {
  if (const auto why = trouble()) {
    return unavailable("not sent before its deadline: " + why->message, why->endpoint);
  }
  return unavailable("not sent before its deadline: " + std::to_string(in_flight_.size()) +
                         " commands before it await their replies",
                     endpoint_text());
}

Error DataLink::no_reply_in_time(const PendingCommand& command) const {
  if (command.retry == Retry::kSafe) return unavailable("no reply in time", endpoint_text());
  return outcome_unknown("no reply before the deadline", endpoint_text());
}

void DataLink::release(PendingCommand* command) noexcept {
  if (!command->is_question) queue_.release(*command);
}

void DataLink::recycle(PendingCommand* command) noexcept {
  if (!command->is_question) return queue_.recycle(command);
  command->answer.clear();
  free_questions_.push_back(command);
}

// A tombstone whose reply has come, or will not come any more.
void DataLink::discard(PendingCommand* command) noexcept {
  release(command);
  recycle(command);
}

void DataLink::answer(PendingCommand* command, Error error) {
  release(command);  // First, so that the callback may submit into the room that it leaves.
  command->answer.fail(std::move(error));
  recycle(command);
}

}  // namespace tiercel::l2
