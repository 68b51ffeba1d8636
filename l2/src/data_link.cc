// Invariants: a command is in exactly one of in_flight_, returned_ and waiting_, or answered and
// gone (a tombstone: answered, and still in in_flight_ or returned_). in_flight_ is empty while the
// link is not up. A command enters in_flight_ only together with the start of the write that
// carries it, so what is in the other two queues was certainly not sent on this connection. Answers
// run user code, which may submit (into the inbox, not here), may ask() (which writes, and adds to
// in_flight_) and may redial S, but does not change the queues otherwise; that of a reply, which is
// out of them by then, may also submit_together(), which takes in and sends what waits.

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

// After a question that came while the connection was lent.
constexpr Duration kNoLoanAfterQuestion = std::chrono::seconds{1};
constexpr Duration kSweepInterval = std::chrono::milliseconds{5};
// What one turn of the loop does about deadlines; the rest is left to the next. Each takes some
// tenths of a millisecond: docs/bench/l2.md.
constexpr std::size_t kSortedPerTurn = 4096;
constexpr std::size_t kExpiredPerTurn = 512;
// Sorting begins so long before it is needed, since a hundred thousand take some turns.
constexpr Duration kSortedAhead = std::chrono::milliseconds{50};
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
  collect();
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
  unsorted_deadline_min_ = std::min(unsorted_deadline_min_, taken.deadline_min);
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
  if (is_lent_ && !recall()) {
    lend_after_ = now + kNoLoanAfterQuestion;  // Who asks again must not always come too late.
    return unavailable("a direct call has the connection at the moment", endpoint_text());
  }
  if (free_questions_.empty()) {
    return overloaded(std::to_string(kQuestionsMax) + " questions are outstanding");
  }
  PendingCommand* const question = free_questions_.pop_front();
  question->answer.set(std::move(callback));
  question->deadline = deadline;
  question->sent_at = now;
  question->place = PendingCommand::Place::kInFlight;
  in_flight_.push_back(question);
  deadlines_.add(*question);
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
  // What could not be read came in the turn of the oldest. Once, that may be anybody's fault;
  // twice, it is its reply, and to send it again would end the connection of all the others again.
  if (sorted_last_ != nullptr && sorted_last_->place == PendingCommand::Place::kInFlight) {
    sorted_last_ = nullptr;
  }
  bool is_blamed = reason.code == ErrorCode::kProtocol;
  for (PendingList sent = std::exchange(in_flight_, {}); !sent.empty(); is_blamed = false) {
    PendingCommand* const command = sent.pop_front();
    if (command->is_answered()) {
      discard(command);
    } else if (command->is_question) {
      answer(command, unavailable("the connection was lost before the answer: " + reason.message,
                                  reason.endpoint));
    } else if (command->retry == Retry::kSafe && is_blamed &&
               std::exchange(command->was_unreadable, true)) {
      answer(command, protocol_error("twice there was no readable reply to it: " + reason.message,
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
  sorted_last_ = nullptr;
  for (PendingCommand* const command : std::exchange(returned_, {})) {
    if (command->is_answered()) {
      queue_.recycle(command);
    } else {
      answer(command, error);
    }
  }
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
  if (more || lend()) return;
  std::this_thread::yield();
  take();
  flush();
}

void DataLink::flush() {
  if (!is_up() || pause_timer_ != 0 || drain_timer_ != 0) return;
  if (is_reordering_ && !in_flight_.empty()) return;
  is_reordering_ = false;
  if (returned_.empty() && waiting_.empty()) return;
  if (is_lent_ && !recall()) return;  // Goes on when it is back.
  const TimePoint now = host().clock().now();
  overdue_left_ = kExpiredPerTurn;
  while (!connection().write_busy()) {
    WriteBatch batch;
    PendingList sent;
    while (!batch.is_full()) {
      PendingCommand* const command = take_next(now);  // May answer others, who may ask().
      if (command == nullptr) break;
      batch.add(*command);
      command->sent_at = now;
      command->place = PendingCommand::Place::kInFlight;
      sent.push_back(command);
    }
    if (batch.is_empty()) break;
    in_flight_.splice_back(sent);
    count_lonely_call(in_flight_.size());
    connection().write(batch.slices());
  }
}

// The next command in order. Overdue ones are answered and passed over: after a pause of the whole
// process nothing may be sent that its caller has long given up.
PendingCommand* DataLink::take_next(TimePoint now) {
  while (true) {
    const bool is_again = !returned_.empty();
    if (!is_again && waiting_.empty()) return nullptr;
    PendingCommand* const command = is_again ? returned_.front() : waiting_.front();
    const bool is_overdue = command->deadline <= now && !command->is_answered();
    if (is_overdue && overdue_left_ == 0) {
      flush_soon();
      return nullptr;
    }
    if (is_again) {
      returned_.pop_front();
    } else {
      waiting_.pop_front();
    }
    if (is_overdue) {
      --overdue_left_;
      if (command == sorted_last_) sorted_last_ = in_flight_.back();
      answer(command, too_late_to_send(*command));
    } else if (command->is_answered()) {
      queue_.recycle(command);
    } else {
      return command;
    }
  }
}

void DataLink::put_back(PendingCommand* command) {
  const auto place = std::upper_bound(returned_.begin(), returned_.end(), command->sequence,
                                      [](std::uint64_t sequence, const PendingCommand* other) {
                                        return sequence < other->sequence;
                                      });
  returned_.insert(place, command);
  command->place = PendingCommand::Place::kReturned;
  if (!command->is_in_bucket) deadlines_.add(*command);
}

void DataLink::link_reply(const ReplyView& reply) {
  if (in_flight_.empty()) {
    return redial(protocol_error("the server sent a reply to no command"));
  }
  PendingCommand* const command = in_flight_.pop_front();
  if (command == sorted_last_) sorted_last_ = nullptr;  // Nor is any before it left.
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
    if (command->is_in_bucket) deadlines_.remove(*command);
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
  // The command of a borrower is then in flight like any other.
  if (is_lent_) connection().take_back(reclaim());
  if (!is_up() || drain_timer_ != 0) return;
  begin_drain(reason);
  if (in_flight_.empty()) finish_drain();
}

void DataLink::finish_drain() { redial(drain_reason_); }

void DataLink::start_sweep(bool at_once) {
  if (sweep_timer_ != 0) return;
  if (in_flight_.empty() && returned_.empty() && waiting_.empty()) {
    unsorted_deadline_min_ = TimePoint::max();
    return;
  }
  sweep_timer_ = host().loop().run_after(at_once ? Duration{0} : kSweepInterval, [this] {
    sweep_timer_ = 0;
    const bool is_unfinished = sweep();
    start_sweep(is_unfinished);
  });
}

// True if there is more to do than one turn of the loop should take.
bool DataLink::sweep() {
  const TimePoint now = host().clock().now();
  bool is_unfinished = now + kSortedAhead >= unsorted_deadline_min_ && !sort_by_deadline();
  is_unfinished |= expire(now);
  if (!waiting_.empty()) swept_sequence_ = waiting_.back()->sequence;
  const auto limit = host().redis().response_timeout;
  if (!in_flight_.empty() && now - in_flight_.front()->sent_at > limit) {
    redial(unavailable("no reply for " + std::to_string(limit.count()) + " ms"));
  }
  return is_unfinished;
}

// True when all are sorted. Some are met that were sorted before: those that were sent again.
bool DataLink::sort_by_deadline() {
  for (std::size_t left = kSortedPerTurn; left > 0; --left) {
    PendingCommand* next = sorted_last_ != nullptr ? sorted_last_->next : in_flight_.front();
    if (next == nullptr &&
        (sorted_last_ == nullptr || sorted_last_->place == PendingCommand::Place::kInFlight)) {
      next = waiting_.front();
    }
    if (next == nullptr) {
      unsorted_deadline_min_ = TimePoint::max();
      return true;
    }
    sorted_last_ = next;
    if (!next->is_answered() && !next->is_in_bucket) deadlines_.add(*next);
  }
  return false;
}

// True if more are due.
bool DataLink::expire(TimePoint now) {
  bool is_asked = false;
  for (std::size_t left = kExpiredPerTurn; left > 0; --left) {
    PendingCommand* const command = deadlines_.take_due(now);
    if (command == nullptr) return false;
    if (command->place == PendingCommand::Place::kInFlight && !std::exchange(is_asked, true)) {
      host().finder().suspect();
    }
    expire(command);
  }
  return true;
}

void DataLink::expire(PendingCommand* command) {
  switch (command->place) {
    case PendingCommand::Place::kInFlight: {
      Answer answer = std::move(command->answer);
      return answer.fail(no_reply_in_time(*command));
    }
    case PendingCommand::Place::kWaiting:
      if (command == sorted_last_) {
        sorted_last_ = command->prev != nullptr ? command->prev : in_flight_.back();
      }
      waiting_.remove(command);
      return answer(command, not_sent_in_time());
    case PendingCommand::Place::kReturned: {
      Answer answer = std::move(command->answer);
      queue_.release(*command);
      answer.fail(not_sent_in_time());
      return trim_returned();
    }
  }
}

void DataLink::trim_returned() noexcept {
  while (!returned_.empty() && returned_.front()->is_answered()) {
    queue_.recycle(returned_.front());
    returned_.pop_front();
  }
}

Error DataLink::not_sent_in_time() const {
  if (const auto why = trouble()) {
    return unavailable("not sent before its deadline: " + why->message, why->endpoint);
  }
  return unavailable("not sent before its deadline: " + std::to_string(in_flight_.size()) +
                         " commands before it await their replies",
                     endpoint_text());
}

// It was waiting no longer than the time between two sweeps.
Error DataLink::too_late_to_send(const PendingCommand& command) const {
  if (command.sequence <= swept_sequence_) return not_sent_in_time();
  return unavailable(
      "not sent: its deadline was past, or only some milliseconds away, when it was submitted",
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
  if (command->is_in_bucket) deadlines_.remove(*command);
  release(command);  // First, so that the callback may submit into the room that it leaves.
  command->answer.fail(std::move(error));
  recycle(command);
}

}  // namespace tiercel::l2
