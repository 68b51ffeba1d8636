// From a call to its answer.
//
//   begin ──► first in line? ──► ask ──► granted ─────────────────────────────► grant, finish
//     │                           ▲ └──► someone else's: a pause, or wake() ──► ask
//     │                           └────► reply lost, time left ───────────────► ask: the same token
//     └────► time_is_up ─────────────────────────────────────────────────────► finish
//
// A waiter finishes exactly once. While it asks (is_asking) nobody but the answer, or the close,
// finishes it: what was granted must not be forgotten. Whoever finishes it without a grant that it
// may have had gives that back, behind the question and over the same connection.

#include <algorithm>
#include <utility>

#include "lock_service.h"
#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;

// Between two questions for someone else's lock: random, between half of it and all of it.
constexpr Duration kPauseFirst = 100ms;
constexpr Duration kPauseMax = 200ms;
// So many grants in a row stay within this cache while another instance waits. Then nobody here
// asks until each of the others has.
constexpr std::uint32_t kGrantsInARowMax = 16;
constexpr Duration kRest = kPauseMax + kPauseMax / 4;

std::string quoted(const std::string& name) { return "the lock '" + bytes_for_message(name) + "'"; }

}  // namespace

void LockService::lock(std::string_view name, const LockOptions& options, bool waits,
                       Callback callback) {
  if (name.empty() || name.size() > kLockNameBytesMax) {
    return callback(invalid_argument("the name of a lock has " + std::to_string(name.size()) +
                                     " bytes; it must have 1 to " +
                                     std::to_string(kLockNameBytesMax)));
  }
  if (auto valid = validate(options); !valid) return callback(valid.error());
  auto waiter = std::make_shared<Waiter>();
  append_u64_be(waiter->ticket.token, origin_);
  append_u64_be(waiter->ticket.token, 1 + numbers_.fetch_add(1, std::memory_order_relaxed));
  waiter->ticket.name = name;
  waiter->ticket.ttl = options.ttl;
  waiter->ticket.replicas = options.replicas;
  waiter->watchdog = options.watchdog;
  waiter->waits = waits;
  waiter->on_lost = options.on_lost;
  waiter->callback = std::move(callback);
  waiter->began_at = now();
  waiter->deadline = waiter->began_at + (waits ? options.wait : reply_timeout_);
  if (!post([this, waiter] { begin(waiter); })) waiter->callback(closed("the cache was closed"));
}

void LockService::begin(const std::shared_ptr<Waiter>& waiter) {
  if (waiting_ >= kLocksWaitingMax) {
    waiter->is_finished = true;
    return waiter->callback(overloaded(std::to_string(kLocksWaitingMax) +
                                       " calls already wait for locks (kLocksWaitingMax)"));
  }
  ++waiting_;
  update_counts();
  if (!waiter->waits) return ask(waiter);
  waiter->timer = loop_.run_after(waiter->deadline - now(), [this, waiter] { time_is_up(waiter); });
  Line& line = lines_[waiter->ticket.name];
  line.waiters.push_back(waiter);
  if (line.waiters.size() == 1) wake(waiter->ticket.name);
}

void LockService::ask(const std::shared_ptr<Waiter>& waiter) {
  if (held_.size() + asking_.size() >= kLocksHeldMax) {
    return refused(waiter, overloaded(std::to_string(kLocksHeldMax) +
                                      " locks are held already (kLocksHeldMax)"));
  }
  asking_.insert(waiter);
  waiter->is_asking = true;
  const TimePoint sent_at = now();
  store_->acquire(waiter->ticket, waiter->waits, waiter->deadline,
                  [this, waiter, sent_at](Result<LockStore::Answer> answer) {
                    asked(waiter, sent_at, std::move(answer));
                  });
}

void LockService::asked(const std::shared_ptr<Waiter>& waiter, TimePoint sent_at,
                        Result<LockStore::Answer> answer) {
  asking_.erase(waiter);
  waiter->is_asking = false;
  if (waiter->is_finished) return;  // By the close, which has given it back.
  if (!answer) {
    const bool is_unknown = answer.error().code == ErrorCode::kDeadlineExceeded;
    waiter->may_be_granted |= is_unknown;
    if (is_unknown && now() < waiter->deadline) return ask(waiter);
    // Not sent, perhaps: a question for copies has less time than the waiter has.
    if (waiter->ticket.replicas > 0 && answer.error().code == ErrorCode::kUnavailable) {
      return ask_later_or_refuse(waiter, std::move(answer).error());
    }
    return refused(waiter, std::move(answer).error());
  }
  if (answer->lacks_copies) {  // What the master granted stands meanwhile.
    waiter->may_be_granted = true;
    waiter->lacks_copies = answer->lacks_copies;
    return ask_later_or_refuse(waiter, std::move(*answer->lacks_copies));
  }
  if (!answer->is_granted) return held_by_other(waiter, answer->left);
  // It came so late that nothing is left of it.
  if (now() >= sent_at + validity_of(waiter->ticket)) {
    waiter->may_be_granted = true;
    if (now() < waiter->deadline) return ask(waiter);
    return refused(waiter, unavailable("Redis answered after the ttl of the lock"));
  }
  grant(waiter, sent_at, answer->fencing_number);
}

void LockService::ask_later_or_refuse(const std::shared_ptr<Waiter>& waiter, Error error) {
  if (!waiter->waits || now() >= waiter->deadline) return refused(waiter, std::move(error));
  Line& line = lines_[waiter->ticket.name];
  poll_later(line, waiter->ticket.name, pause_of(line, std::nullopt));
}

// What the store, or a bound, refused. That there were too few copies says more than that there was
// no time to ask once more.
void LockService::refused(const std::shared_ptr<Waiter>& waiter, Error error) {
  if (waiter->lacks_copies) error = std::move(*waiter->lacks_copies);
  if (waiter->may_be_granted) {
    give_back_unasked(waiter->ticket);
    if (error.code == ErrorCode::kUnavailable && waiter->ticket.replicas == 0) {
      error.code = ErrorCode::kDeadlineExceeded;
    }
    error.message += "; " + quoted(waiter->ticket.name) +
                     " is not held by us, but may be taken until its ttl ends";
  }
  finish(waiter, std::move(error));
}

void LockService::held_by_other(const std::shared_ptr<Waiter>& waiter,
                                std::optional<Duration> left) {
  // A grant of ours that was unknown would have answered: it is gone.
  waiter->may_be_granted = false;
  waiter->lacks_copies.reset();
  if (!waiter->waits) return finish(waiter, std::optional<Lock>{});
  Line& line = lines_[waiter->ticket.name];
  line.seen_held_at = now();
  turns_.erase(waiter->ticket.name);  // They had their turn. (It is not ours: we do not ask then.)
  if (now() >= waiter->deadline) return time_is_up(waiter);
  if (std::exchange(line.is_woken, false)) return ask(waiter);
  poll_later(line, waiter->ticket.name, pause_of(line, left));
}

void LockService::time_is_up(const std::shared_ptr<Waiter>& waiter) {
  // Its answer is due at the same time; it says more, and may be a grant.
  if (waiter->is_finished || waiter->is_asking) return;
  if (waiter->may_be_granted) return refused(waiter, unavailable("Redis did not answer in time"));
  const Line& line = lines_[waiter->ticket.name];
  const bool was_seen_held = line.seen_held_at && *line.seen_held_at >= waiter->began_at;
  if (was_seen_held) {
    return finish(waiter, conflict(quoted(waiter->ticket.name) + " is held by someone else"));
  }
  finish(waiter, unavailable("no answer within the deadline for those who asked before for " +
                             quoted(waiter->ticket.name)));
}

void LockService::finish(const std::shared_ptr<Waiter>& waiter,
                         Result<std::optional<Lock>> result) {
  waiter->is_finished = true;
  loop_.cancel(waiter->timer);
  --waiting_;
  update_counts();
  if (waiter->waits) {
    const auto found = lines_.find(waiter->ticket.name);
    Line& line = found->second;
    const bool was_first = line.waiters.front() == waiter;
    std::erase(line.waiters, waiter);
    if (line.waiters.empty()) {
      loop_.cancel(line.timer);
      lines_.erase(found);
    } else if (was_first && result && *result) {
      line.seen_held_at = now();  // By us. It is ours to hand over, or may be lost.
      poll_later(line, waiter->ticket.name, pause_of(line, std::nullopt));
    } else if (was_first && line.timer == 0) {
      loop_.post([this, name = waiter->ticket.name] { wake(name); });
    }
  }
  auto callback = std::move(waiter->callback);
  callback(std::move(result));
}

Duration LockService::pause_of(Line& line, std::optional<Duration> left) {
  const Duration longest = line.polls++ == 0 ? kPauseFirst : kPauseMax;
  const Duration half = longest / 2;
  const Duration pause =
      half +
      Duration{static_cast<Duration::rep>(random_.below(static_cast<std::uint64_t>(half.count())))};
  // Redis takes a lock away within a millisecond after its life.
  return left ? std::min<Duration>(pause, *left + 1ms) : pause;
}

void LockService::poll_later(Line& line, const std::string& name, Duration pause) {
  loop_.cancel(line.timer);
  line.timer = loop_.run_after(pause, [this, name] {
    if (const auto found = lines_.find(name); found != lines_.end()) found->second.timer = 0;
    wake(name);
  });
}

void LockService::wake(const std::string& name) {
  const auto found = lines_.find(name);
  if (found == lines_.end()) return;
  Line& line = found->second;
  if (line.waiters.front()->is_asking) {
    line.is_woken = true;
    return;
  }
  if (held_.contains(name)) {
    line.seen_held_at = now();
    return poll_later(line, name, pause_of(line, std::nullopt));
  }
  if (const Duration rest = rest_of(name); rest > Duration{0}) return poll_later(line, name, rest);
  loop_.cancel(std::exchange(line.timer, 0));
  line.is_woken = false;
  const auto first = line.waiters.front();
  ask(first);
}

Duration LockService::rest_of(const std::string& name) const {
  const auto turn = turns_.find(name);
  if (turn == turns_.end() || !turn->second.rests_until) return Duration{0};
  return *turn->second.rests_until - now();
}

// One of ours was given back. Who waits here, or comes back at once, would always be quicker than
// another instance.
void LockService::hand_over(const std::string& name, bool others_wait) {
  auto turn = turns_.find(name);
  if (turn == turns_.end() && others_wait) {
    if (turns_.size() >= kLocksHeldMax) turns_.clear();
    turn = turns_.emplace(name, Turn{}).first;
  }
  if (turn != turns_.end() && ++turn->second.grants >= kGrantsInARowMax) {
    turn->second = {.grants = 0, .rests_until = now() + kRest};
  }
  if (const auto line = lines_.find(name); line != lines_.end()) line->second.polls = 0;
  wake(name);
}

}  // namespace tiercel
