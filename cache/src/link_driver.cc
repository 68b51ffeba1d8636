#include "link_driver.h"

#include <algorithm>
#include <utility>

#include "tiercel/base/bytes.h"
#include "tiercel/serialization/message.h"

// Invariants: actions_ is empty between events. The lease cell never says more than the session's
// lease_until(): it is lowered before the actions of an event run and raised after them.

namespace tiercel {
namespace {

coherence::Server to_server(const l2::ServerIdentity& identity) {
  return {.name = identity.endpoint.to_string(),
          .run_id = identity.run_id,
          .replication_id = identity.replication_id};
}

coherence::Change to_change(serialization::ReceivedMessage received) {
  using serialization::MessageKind;
  switch (received.message.kind) {
    case MessageKind::kSet:
    case MessageKind::kInvalidate:
      return {.kind = coherence::ChangeKind::kKeys,
              .version = received.version,
              .keys = std::move(received.message.keys)};
    case MessageKind::kFillDone:
      return {.kind = coherence::ChangeKind::kNone, .version = received.version};
    case MessageKind::kTag:
    case MessageKind::kClear: break;
  }
  return {.kind = coherence::ChangeKind::kAll, .version = received.version};
}

}  // namespace

LinkDriver::LinkDriver(coherence::SessionOptions options, const Clock& clock, l2::EventLoop& loop,
                       Host& host, coherence::LeaseCell& cell, LogSink log)
    : clock_(clock),
      loop_(loop),
      host_(host),
      cell_(cell),
      log_(std::move(log)),
      session_(options) {}

void LinkDriver::data_up(const l2::ServerIdentity& server) {
  {
    MutexLock lock{mutex_};
    data_is_up_ = true;
    changed_.notify_all();
  }
  session_.data_up(to_server(server), clock_.now(), actions_);
  settle();
}

void LinkDriver::data_down(const Error&) {
  {
    MutexLock lock{mutex_};
    data_is_up_ = false;
    changed_.notify_all();
  }
  session_.data_down(clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_up(const l2::ServerIdentity& server) {
  session_.stream_up(to_server(server), clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_down(const Error&) {
  session_.stream_down(clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_message(std::string_view payload) {
  messages_.fetch_add(1, std::memory_order_relaxed);
  auto received = serialization::decode_message(payload);
  coherence::Change change;
  if (received) {
    change = to_change(std::move(*received));
  } else {
    messages_unreadable_.fetch_add(1, std::memory_order_relaxed);
    // No writer that speaks our protocol sends anything without our mark, so that invalidates
    // nothing.
    if (!serialization::claims_to_be_ours(payload)) return;
    // Of a newer release, damaged, or no memory to read it: what it invalidates is not known.
    change.kind = coherence::ChangeKind::kAll;
  }
  session_.message(std::move(change), clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_pong(std::string_view token) {
  const auto number = parse_u64(token);
  if (!number) return;  // Not an answer to a ping of ours; the session waits on for its own.
  session_.pong(*number, clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_ping_refused(std::string_view server_error) {
  log(LogLevel::kDebug, server_error);
  session_.ping_refused(clock_.now(), actions_);
  settle();
}

void LinkDriver::settle() {
  if (session_.lease_until() < cell_.until()) cell_.grant(session_.lease_until());
  // Carrying an action out may bring the next event (a redial brings stream_down at once), which
  // settles in turn.
  while (!actions_.empty()) {
    const coherence::Actions batch = std::exchange(actions_, {});
    for (const auto& action : batch) run(action);
  }
  publish();
  arm_timer();
}

void LinkDriver::run(const coherence::Action& action) {
  switch (action.kind) {
    case coherence::Action::Kind::kSendPing:
      client_->stream_ping(std::to_string(action.token));
      break;
    case coherence::Action::Kind::kRedialStream:
      log(LogLevel::kWarning, "redialling the stream: " + action.reason);
      client_->stream_redial(action.reason);
      break;
    case coherence::Action::Kind::kDropAll:
      log(LogLevel::kInfo, "L1 dropped: " + action.reason);
      host_.drop_l1();
      break;
    case coherence::Action::Kind::kEvict: host_.evict(action.key, action.version); break;
  }
}

void LinkDriver::publish() {
  cell_.grant(session_.lease_until());
  const bool granted = session_.lease_until() != TimePoint{};
  const std::uint64_t epochs = session_.epochs();
  MutexLock lock{mutex_};
  // epoch_ is empty while S is down.
  const bool same_epoch = epochs == epochs_ && session_.stream_is_up() == !epoch_.empty();
  if (same_epoch && granted == lease_was_granted_) return;
  lease_was_granted_ = granted;
  epochs_ = epochs;
  epoch_ = session_.epoch();
  master_ = session_.server_name();
  changed_.notify_all();
}

void LinkDriver::arm_timer() {
  const auto next = session_.next_tick();
  if (timer_ != 0 && next && *next >= timer_at_) return;  // It fires in time, and looks again.
  if (timer_ != 0) loop_.cancel(std::exchange(timer_, 0));
  if (!next) return;
  timer_at_ = *next;
  timer_ = loop_.run_after(std::max(Duration{0}, *next - clock_.now()), [this] {
    timer_ = 0;
    session_.tick(clock_.now(), actions_);
    settle();
  });
}

LeaseInfo LinkDriver::lease() const {
  LeaseInfo info;
  info.mode = LeaseMode::kPing;
  const TimePoint until = cell_.until();
  const TimePoint now = clock_.now();
  info.held = until > now;
  if (info.held) {
    info.remaining = std::chrono::duration_cast<std::chrono::milliseconds>(until - now);
  }
  MutexLock lock{mutex_};
  info.epoch = epoch_;
  info.master = master_;
  return info;
}

bool LinkDriver::data_is_up() const {
  MutexLock lock{mutex_};
  return data_is_up_;
}

void LinkDriver::wait_for_change(Duration limit) {
  MutexLock lock{mutex_};
  changed_.wait_for(mutex_, limit);
}

LinkDriver::Counts LinkDriver::counts() const {
  MutexLock lock{mutex_};
  return {.messages = messages_.load(std::memory_order_relaxed),
          .messages_unreadable = messages_unreadable_.load(std::memory_order_relaxed),
          .epochs = epochs_};
}

void LinkDriver::log(LogLevel level, std::string_view message) const {
  if (log_) log_(level, message);
}

}  // namespace tiercel
