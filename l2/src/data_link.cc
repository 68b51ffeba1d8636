// Invariants: a command is in exactly one of in_flight_, returned_ and waiting_, or answered and
// gone (a tombstone: answered, and still in in_flight_). in_flight_ is empty while the link is not
// up. A command enters in_flight_ only together with the start of the write that carries it, so
// what is in the other two queues was certainly not sent on this connection. Answers run user code,
// which may submit (into the inbox, not here) and may redial S, but does not change the queues.

#include "data_link.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "resp_format.h"
#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kWriteBatchBytes = 256 * 1024;
constexpr Duration kSweepInterval = std::chrono::milliseconds{5};
// How long the replies in flight are awaited after the first READONLY. They are on their way.
constexpr Duration kDrainMax = std::chrono::milliseconds{100};

void append_wire(std::string& out, const PendingCommand& command) {
  if (!command.is_whole_script) {
    out += command.wire;
    return;
  }
  append_array_header(out, command.script_words);
  append_bulk(out, "EVAL");
  append_bulk(out, command.script->source());
  out.append(command.wire, command.tail_offset);
}

// True for the error `code` itself, and for older servers' report of it from within a script.
bool says(const Reply& reply, std::string_view code) {
  if (reply.is_error(code)) return true;
  return reply.text.starts_with("ERR Error running script") &&
         reply.text.find("-" + std::string{code} + " ") != std::string::npos;
}

// Moves the overdue unanswered commands of `queue` to `overdue`; the order of both is kept.
template <typename Queue>
void extract_overdue(Queue& queue, TimePoint now, std::vector<PendingCommand>& overdue) {
  const auto keep_end = std::stable_partition(
      queue.begin(), queue.end(),
      [now](const PendingCommand& command) { return command.deadline > now; });
  std::move(keep_end, queue.end(), std::back_inserter(overdue));
  queue.erase(keep_end, queue.end());
}

}  // namespace

DataLink::DataLink(Host& host)
    : Link(host, "data"), pause_backoff_(host.redis().backoff_min, host.redis().backoff_max) {}

DataLink::~DataLink() = default;

void DataLink::accept(std::vector<PendingCommand>& batch) {
  const auto present_trouble = trouble();
  const bool is_refused = present_trouble && present_trouble->code == ErrorCode::kInvalidArgument;
  for (PendingCommand& command : batch) {
    if (is_refused) {
      answer(std::move(command), *present_trouble);
      continue;
    }
    command.sequence = ++sequence_last_;
    deadline_min_ = std::min(deadline_min_, command.deadline);
    waiting_.push_back(std::move(command));
  }
  batch.clear();
  flush();
  start_sweep();
}

void DataLink::close() {
  stop();
  forget_connection();
  host().loop().cancel(std::exchange(sweep_timer_, 0));
  const std::string where = endpoint_text();
  for (PendingCommand& command : std::exchange(in_flight_, {})) {
    if (command.is_answered()) {
      release(command);
    } else if (command.retry == Retry::kSafe) {
      answer(std::move(command), closed("the client was closed before the reply came"));
    } else {
      answer(std::move(command),
             outcome_unknown("the client was closed after the command was sent", where));
    }
  }
  for (Queue* queue : {&returned_, &waiting_}) {
    for (PendingCommand& command : std::exchange(*queue, {})) {
      answer(std::move(command), closed("the client was closed before the command was sent"));
    }
  }
}

void DataLink::link_handshaken() { become_up(); }

void DataLink::link_up(const ServerIdentity& server) {
  if (host().observer() != nullptr) host().observer()->data_up(server);
  flush();
}

void DataLink::link_down(const Error& reason) {
  forget_connection();
  if (host().observer() != nullptr) host().observer()->data_down(reason);
  for (PendingCommand& command : std::exchange(in_flight_, {})) {
    if (command.is_answered()) {
      release(command);
    } else if (command.retry == Retry::kSafe) {
      host().counters().retries.fetch_add(1, std::memory_order_relaxed);
      put_back(std::move(command));
    } else {
      answer(
          std::move(command),
          outcome_unknown("the connection was lost after the command was sent: " + reason.message,
                          reason.endpoint));
    }
  }
}

void DataLink::link_failed(const Error& reason) {
  if (reason.code == ErrorCode::kInvalidArgument) refuse_waiting(reason);
}

void DataLink::refuse_waiting(const Error& reason) {
  for (Queue* queue : {&returned_, &waiting_}) {
    for (PendingCommand& command : std::exchange(*queue, {})) answer(std::move(command), reason);
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

void DataLink::flush() {
  if (!is_up() || pause_timer_ != 0 || drain_timer_ != 0) return;
  if (is_reordering_ && !in_flight_.empty()) return;
  is_reordering_ = false;
  const TimePoint now = host().clock().now();
  while (!connection().write_busy()) {
    out_.clear();
    PendingCommand command;
    while (out_.size() < kWriteBatchBytes && take_next(now, command)) {
      append_wire(out_, command);
      command.sent_at = now;
      in_flight_.push_back(std::move(command));
    }
    if (out_.empty()) break;
    connection().write(out_);
  }
  if (out_.capacity() > 4 * kWriteBatchBytes) out_ = {};
}

// The next command in order. Overdue ones are answered and passed over: after a pause of the whole
// process nothing may be sent that its caller has long given up.
bool DataLink::take_next(TimePoint now, PendingCommand& command) {
  while (!returned_.empty() || !waiting_.empty()) {
    Queue& queue = returned_.empty() ? waiting_ : returned_;
    command = std::move(queue.front());
    queue.pop_front();
    if (command.deadline > now) return true;
    answer(std::move(command), not_sent_in_time());
  }
  return false;
}

void DataLink::put_back(PendingCommand command) {
  const auto place = std::upper_bound(returned_.begin(), returned_.end(), command.sequence,
                                      [](std::uint64_t sequence, const PendingCommand& other) {
                                        return sequence < other.sequence;
                                      });
  returned_.insert(place, std::move(command));
}

void DataLink::link_reply(Reply reply) {
  if (in_flight_.empty()) {
    return redial(protocol_error("the server sent a reply to no command"));
  }
  PendingCommand command = std::move(in_flight_.front());
  in_flight_.pop_front();
  if (command.is_answered()) {
    host().counters().replies_late.fetch_add(1, std::memory_order_relaxed);
    release(command);
    // As true as if it had come in time.
    if (reply.is_error() && says(reply, "READONLY")) leave_replica(reply);
  } else if (!reply.is_error() || !handle_not_executed(command, reply)) {
    if (std::exchange(was_paused_, false)) {
      pause_backoff_.reset();
      if (pause_timer_ == 0 && drain_timer_ == 0) set_trouble(std::nullopt);
    }
    answer(std::move(command), std::move(reply));
  }
  if (!in_flight_.empty()) return;
  if (drain_timer_ != 0) return finish_drain();
  if (is_reordering_) flush_soon();
}

// Replies that mean that nothing ran. True if the command was put back to be sent again.
bool DataLink::handle_not_executed(PendingCommand& command, const Reply& reply) {
  if (command.script != nullptr && !command.is_whole_script && reply.is_error("NOSCRIPT")) {
    command.is_whole_script = true;
    is_reordering_ = true;
  } else if (says(reply, "READONLY")) {
    leave_replica(reply);
  } else if (says(reply, "LOADING") || says(reply, "MASTERDOWN") || says(reply, "NOREPLICAS")) {
    pause(reply);
  } else {
    return false;
  }
  host().counters().retries.fetch_add(1, std::memory_order_relaxed);
  put_back(std::move(command));
  flush_soon();
  return true;
}

void DataLink::leave_replica(const Reply& reply) {
  if (drain_timer_ != 0) return;
  begin_drain(unavailable("not a master: " + server_text(reply.text), endpoint_text()));
  host().found_not_master(endpoint(), drain_reason_);
}

// Once for all the replies that arrived together.
void DataLink::flush_soon() {
  if (flush_timer_ != 0) return;
  flush_timer_ = host().loop().run_after(Duration{0}, [this] {
    flush_timer_ = 0;
    flush();
  });
}

void DataLink::pause(const Reply& reply) {
  if (pause_timer_ != 0 || drain_timer_ != 0) return;
  was_paused_ = true;
  set_trouble(unavailable("the server is not ready: " + server_text(reply.text), endpoint_text()));
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
  if (!in_flight_.empty() && now - in_flight_.front().sent_at > limit) {
    redial(unavailable("no reply for " + std::to_string(limit.count()) + " ms"));
  }
}

void DataLink::expire(TimePoint now) {
  std::vector<PendingCommand> not_sent;
  extract_overdue(returned_, now, not_sent);
  extract_overdue(waiting_, now, not_sent);
  std::vector<std::pair<ReplyCallback, Error>> no_reply;
  TimePoint deadline_min = TimePoint::max();
  for (PendingCommand& command : in_flight_) {
    if (command.is_answered()) continue;
    if (command.deadline > now) {
      deadline_min = std::min(deadline_min, command.deadline);
      continue;
    }
    no_reply.emplace_back(std::move(command.callback), no_reply_in_time(command));
    command.callback = nullptr;
    command.wire = {};
  }
  for (const Queue* queue : {&returned_, &waiting_}) {
    for (const PendingCommand& command : *queue) {
      deadline_min = std::min(deadline_min, command.deadline);
    }
  }
  deadline_min_ = deadline_min;
  for (auto& [callback, error] : no_reply) callback(std::move(error));
  for (PendingCommand& command : not_sent) answer(std::move(command), not_sent_in_time());
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

void DataLink::release(const PendingCommand& command) noexcept {
  host().counters().commands.fetch_sub(1, std::memory_order_relaxed);
  host().counters().bytes.fetch_sub(command.charged_bytes, std::memory_order_relaxed);
}

void DataLink::answer(PendingCommand command, Result<Reply> result) {
  release(command);  // First, so that the callback may submit into the room that it leaves.
  command.callback(std::move(result));
}

}  // namespace tiercel::l2
