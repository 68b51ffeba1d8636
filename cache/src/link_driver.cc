#include "link_driver.h"

#include <algorithm>
#include <utility>

#include "message_change.h"
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

}  // namespace

LinkDriver::LinkDriver(coherence::SessionOptions options, const Clock& clock, l2::EventLoop& loop,
                       Host& host, const coherence::Names& names, coherence::LeaseCell& cell,
                       LogSink log)
    : options_(options),
      clock_(clock),
      loop_(loop),
      host_(host),
      names_(names),
      cell_(cell),
      log_(std::move(log)),
      session_(options) {}

void LinkDriver::data_up(const l2::ServerIdentity& server) {
  {
    MutexLock lock{mutex_};
    is_data_up_ = true;
    changed_.notify_all();
  }
  host_.data_is_up();  // First: what it sends is before all that is asked.
  session_.data_up(to_server(server), clock_.now(), actions_);
  settle();
}

void LinkDriver::data_down(const Error&) {
  {
    MutexLock lock{mutex_};
    is_data_up_ = false;
    changed_.notify_all();
  }
  session_.data_down(clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_up(const l2::ServerIdentity& server) {
  stream_endpoint_ = server.endpoint;
  branch_ = server.replication_id;
  host_.follow(branch_);
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
  if (received && received->message.kind == serialization::MessageKind::kFillDone) {
    for (const std::string& key : received->message.keys) host_.fill_done(key);
    return;
  }
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

void LinkDriver::stream_tracked(std::span<const std::string_view> keys) {
  session_.foreign_change({keys.begin(), keys.end()}, clock_.now(), actions_);
  settle();
}

void LinkDriver::stream_flushed() {
  session_.foreign_flush(clock_.now(), actions_);
  settle();
}

bool LinkDriver::is_on(const l2::ServerIdentity& server) const {
  return session_.is_on(to_server(server));
}

void LinkDriver::replay_waits(bool waits) {
  session_.replay_waits(waits, clock_.now(), actions_);
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
    coherence::Actions batch = std::exchange(actions_, {});
    for (auto& action : batch) run(action);
  }
  publish();
  arm_timer();
}

void LinkDriver::run(coherence::Action& action) {
  using Kind = coherence::Action::Kind;
  switch (action.kind) {
    case Kind::kSendPing: return client_->stream_ping(std::to_string(action.token));
    case Kind::kAskMaster: return ask_master(action.token);
    case Kind::kAskCandidate: return ask_candidate(action.address, action.token);
    case Kind::kAskSentinels: return ask_sentinels(action.token);
    case Kind::kAskHistory: return ask_history(action.token, action.version, action.count);
    case Kind::kRedialStream:
      log(LogLevel::kWarning, "redialling the stream: " + action.reason);
      return client_->stream_redial(action.reason);
    case Kind::kLeaveMaster:
      log(LogLevel::kWarning, "leaving the master: " + action.reason);
      return client_->leave_master(action.reason);
    case Kind::kBarFills: return host_.bar_fills();
    case Kind::kDropAll:
      log(LogLevel::kInfo, "L1 dropped: " + action.reason);
      return host_.drop_l1();
    case Kind::kEvict: return host_.evict(action.key, action.version);
    case Kind::kRefresh: return host_.refresh(action.key, action.version, action.value);
    case Kind::kTag: return host_.forget_tag(action.key, action.version);
    case Kind::kClear: return host_.clear_before(action.version);
  }
}

void LinkDriver::publish() {
  epoch_number_.store(session_.epochs(), std::memory_order_release);
  cell_.prove(session_.proven_at());
  cell_.grant(session_.lease_until());
  const bool granted = session_.lease_until() != TimePoint{};
  MutexLock lock{mutex_};
  const bool is_same = session_.epochs() == epochs_ && granted == lease_was_granted_ &&
                       session_.stream_is_up() == !epoch_.empty() &&  // Empty while S is down.
                       session_.witness_mode() == witness_mode_ &&
                       session_.why_no_lease() == why_no_lease_;
  if (is_same) return;
  lease_was_granted_ = granted;
  epochs_ = session_.epochs();
  epochs_warm_ = session_.epochs_warm();
  epoch_ = session_.epoch();
  master_ = session_.server_name();
  witness_mode_ = session_.witness_mode();
  why_no_lease_ = session_.why_no_lease();
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
  info.mode = LeaseMode::kRedis;
  const TimePoint until = cell_.until();
  const TimePoint now = clock_.now();
  info.held = until > now;
  if (info.held) {
    info.remaining = std::chrono::duration_cast<std::chrono::milliseconds>(until - now);
  }
  MutexLock lock{mutex_};
  info.epoch = epoch_;
  info.master = master_;
  info.witness = witness_mode_;
  if (!info.held) {
    info.why = why_no_lease_.empty() ? "the proofs are older than the lease" : why_no_lease_;
  }
  return info;
}

std::string LinkDriver::why_no_lease() const { return lease().why; }

bool LinkDriver::is_data_up() const {
  MutexLock lock{mutex_};
  return is_data_up_;
}

void LinkDriver::wait_for_change(Duration limit) {
  MutexLock lock{mutex_};
  changed_.wait_for(mutex_, limit);
}

LinkDriver::Counts LinkDriver::counts() const {
  MutexLock lock{mutex_};
  return {.messages = messages_.load(std::memory_order_relaxed),
          .messages_unreadable = messages_unreadable_.load(std::memory_order_relaxed),
          .epochs = epochs_,
          .epochs_warm = epochs_warm_};
}

void LinkDriver::log(LogLevel level, std::string_view message) const {
  if (log_) log_(level, message);
}

}  // namespace tiercel
