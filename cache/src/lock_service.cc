// From a grant to its end.
//
//   grant ──► tend ──► renew, each ttl/3 ──► renewed ──► tend
//              │                              └──► not ours any more ──► lose
//              └──► nothing vouches for it any more ───────────────────► lose
//   release, from any of these ──► release_now
//
// A grant is over (is_over) when it is lost or given back; whatever comes of it later changes
// nothing. A lost one stands in Redis as it may: it is given back with its handle, so that a holder
// who has just lost it to the clock has the rest of the ttl to stop.

#include "lock_service.h"

#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "tiercel/base/bytes.h"

namespace tiercel {
namespace {

using namespace std::chrono_literals;
using std::chrono::milliseconds;

constexpr int kRenewalsPerTtl = 3;
// A renewal that failed is tried again after this part of the ttl.
constexpr int kRetriesPerTtl = 12;
// How long the close waits for what it gives back.
constexpr milliseconds kCloseTimeout = 250ms;

}  // namespace

// Counts the releases that the close waits for.
struct LockService::Closing {
  Mutex mutex;
  CondVar changed;
  bool is_asked TIERCEL_GUARDED_BY(mutex) = false;  // close_now is done.
  std::size_t missing TIERCEL_GUARDED_BY(mutex) = 0;

  void expect(std::size_t more) {
    MutexLock lock{mutex};
    missing += more;
  }
  void arrived() {
    MutexLock lock{mutex};
    --missing;
    changed.notify_all();
  }
  void all_asked() {
    MutexLock lock{mutex};
    is_asked = true;
    changed.notify_all();
  }
};

LockService::LockService(Config config)
    : clock_(config.clock),
      loop_(config.loop),
      store_(std::move(config.store)),
      origin_(config.origin),
      reply_timeout_(config.reply_timeout),
      log_(std::move(config.log)),
      process_(::getpid()),
      random_(config.seed) {}

bool LockService::post(UniqueFunction<void()> task) {
  if (is_forked()) return false;
  {
    MutexLock lock{mutex_};
    if (is_closed_) return false;
    ++posting_;  // The loop lives until it is 0: see close().
  }
  loop_.post(std::move(task));
  MutexLock lock{mutex_};
  --posting_;
  posted_.notify_all();
  return true;
}

// Not the loop's word: it may be gone, and a mutex may be held by a thread that is not in the
// child.
bool LockService::is_forked() const noexcept { return ::getpid() != process_; }

bool LockService::on_loop_thread() {
  if (is_forked()) return false;
  MutexLock lock{mutex_};
  return !is_closed_ && loop_.on_loop_thread();
}

LockService::Counts LockService::counts() const noexcept {
  return {.held = held_count_.load(std::memory_order_relaxed),
          .waiting = waiting_count_.load(std::memory_order_relaxed),
          .granted = granted_.load(std::memory_order_relaxed),
          .lost = lost_.load(std::memory_order_relaxed)};
}

void LockService::update_counts() noexcept {
  held_count_.store(held_.size(), std::memory_order_relaxed);
  waiting_count_.store(waiting_, std::memory_order_relaxed);
}

void LockService::grant(const std::shared_ptr<Waiter>& waiter, TimePoint sent_at,
                        std::uint64_t number) {
  auto grant = std::make_shared<Lock::Grant>();
  grant->ticket = waiter->ticket;
  grant->fencing_number = number;
  grant->watchdog = waiter->watchdog;
  grant->on_lost = std::move(waiter->on_lost);
  grant->clock = &clock_;
  grant->service = shared_from_this();
  grant->valid_until = (sent_at + validity_of(grant->ticket)).time_since_epoch().count();
  grant->renew_at = sent_at + grant->ticket.ttl / kRenewalsPerTtl;
  held_.emplace(grant->ticket.name, grant);

  granted_.fetch_add(1, std::memory_order_relaxed);
  tend(grant);
  finish(waiter, std::optional<Lock>{Lock{std::move(grant)}});
}

void LockService::tend(const std::shared_ptr<Lock::Grant>& grant) {
  loop_.cancel(std::exchange(grant->timer, 0));
  if (grant->is_over) return;
  const TimePoint at = now();
  if (at >= grant->valid_until_point()) return lose(grant, "it was not renewed in time");
  if (grant->watchdog && !grant->is_renewing && at >= grant->renew_at) return renew(grant);
  TimePoint due = grant->valid_until_point();
  if (grant->watchdog && !grant->is_renewing) due = std::min(due, grant->renew_at);
  grant->timer = loop_.run_after(std::max<Duration>(due - at, 1ms), [this, grant] { tend(grant); });
}

void LockService::renew(const std::shared_ptr<Lock::Grant>& grant) {
  grant->is_renewing = true;
  const TimePoint sent_at = now();
  store_->renew(
      grant->ticket, grant->valid_until_point(),
      [this, grant, sent_at](Result<bool> result) { renewed(grant, sent_at, std::move(result)); });
  // For the end of what is vouched for, and not from within the answer.
  loop_.post([this, grant] { tend(grant); });
}

void LockService::renewed(const std::shared_ptr<Lock::Grant>& grant, TimePoint sent_at,
                          Result<bool> result) {
  grant->is_renewing = false;
  if (grant->is_over) return;
  if (result && !*result) return lose(grant, "Redis does not know it any more");
  if (!result) {
    grant->renew_at = now() + grant->ticket.ttl / kRetriesPerTtl;
  } else if (now() < grant->valid_until_point()) {
    // Else the holder may have seen that it was not held.
    const TimePoint until = sent_at + validity_of(grant->ticket);
    grant->valid_until.store(until.time_since_epoch().count(), std::memory_order_release);
    grant->renew_at = sent_at + grant->ticket.ttl / kRenewalsPerTtl;
  }
  loop_.post([this, grant] { tend(grant); });
}

void LockService::data_is_up() {
  for (const auto& [name, grant] : held_) {
    if (!grant->watchdog || grant->is_renewing) continue;
    grant->renew_at = now();
    loop_.post([this, grant = grant] { tend(grant); });
  }
}

void LockService::let_go(const std::shared_ptr<Lock::Grant>& grant) {
  grant->is_over = true;
  loop_.cancel(std::exchange(grant->timer, 0));
  const auto [first, last] = held_.equal_range(grant->ticket.name);
  const auto found =
      std::find_if(first, last, [&](const auto& one) { return one.second == grant; });
  if (found != last) held_.erase(found);
  update_counts();
}

void LockService::lose(const std::shared_ptr<Lock::Grant>& grant, std::string_view why) {
  let_go(grant);
  grant->is_lost.store(true, std::memory_order_release);
  if (grant->is_given_back.load(std::memory_order_acquire)) return;
  lost_.fetch_add(1, std::memory_order_relaxed);
  if (log_) {
    log_(LogLevel::kWarning,
         "the lock '" + bytes_for_message(grant->ticket.name) + "' was lost: " + std::string{why});
  }
  if (grant->on_lost) grant->on_lost();
}

void LockService::release(std::shared_ptr<Lock::Grant> grant, ReleasedCallback callback) {
  grant->is_given_back.store(true, std::memory_order_release);
  auto shared = std::make_shared<ReleasedCallback>(std::move(callback));
  if (!post([this, grant, shared] { release_now(grant, std::move(*shared)); })) {
    (*shared)(closed("the cache was closed"));
  }
}

void LockService::release_now(const std::shared_ptr<Lock::Grant>& grant,
                              ReleasedCallback callback) {
  if (!grant->is_over) let_go(grant);
  send_release(
      grant->ticket, l2::Retry::kIfNotSent, now() + reply_timeout_,
      [this, grant, callback = std::move(callback)](Result<LockStore::Released> released) mutable {
        if (!released) {
          if (closing_ == nullptr) give_back_unasked(grant->ticket);
          return callback(std::move(released).error());
        }
        hand_over(grant->ticket.name, *released == LockStore::Released::kDoneAndWanted);
        callback(*released != LockStore::Released::kNotOurs);
      });
}

// Nobody waits for the answer. After its ttl there is nothing left to give back.
void LockService::give_back_unasked(const LockTicket& ticket) {
  send_release(ticket, l2::Retry::kSafe, now() + ticket.ttl, [](Result<LockStore::Released>) {});
}

void LockService::send_release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
                               LockStore::ReleasedCallback callback) {
  ++releasing_;
  if (closing_ != nullptr) closing_->expect(1);
  store_->release(
      ticket, retry, deadline,
      [this, callback = std::move(callback)](Result<LockStore::Released> released) mutable {
        --releasing_;
        callback(std::move(released));
        if (closing_ != nullptr) closing_->arrived();
      });
}

void LockService::close() {
  if (is_forked()) return;
  {
    MutexLock lock{mutex_};
    if (is_closed_) return;
    is_closed_ = true;
    while (posting_ > 0) posted_.wait(mutex_);
  }
  auto closing = std::make_shared<Closing>();
  loop_.post([this, closing] { close_now(closing); });
  MutexLock lock{closing->mutex};
  // A callback may keep the loop for long. Its end would drop the task, and nobody were answered.
  while (!closing->is_asked) closing->changed.wait(closing->mutex);
  // Each is answered soon after its deadline; by this clock it is bounded where theirs stands
  // still.
  const TimePoint until = Clock::system().now() + 2 * kCloseTimeout;
  while (closing->missing > 0) {
    const Duration left = until - Clock::system().now();
    if (left <= Duration{0}) return;
    closing->changed.wait_for(closing->mutex, left);
  }
}

void LockService::close_now(const std::shared_ptr<Closing>& closing) {
  closing_ = closing;
  closing->expect(releasing_);
  const auto give_back = [this](const LockTicket& ticket) {
    send_release(ticket, l2::Retry::kSafe, now() + kCloseTimeout,
                 [](Result<LockStore::Released>) {});
  };
  auto held = std::exchange(held_, {});
  for (const auto& [name, grant] : held) {
    grant->is_given_back.store(true, std::memory_order_release);
    let_go(grant);
    give_back(grant->ticket);
  }
  std::vector<std::shared_ptr<Waiter>> waiting{asking_.begin(), asking_.end()};
  for (const auto& [name, line] : lines_) {
    for (const auto& waiter : line.waiters) {
      if (!waiter->is_asking) waiting.push_back(waiter);
    }
  }
  for (const auto& waiter : waiting) {
    if (waiter->is_asking || waiter->may_be_granted) give_back(waiter->ticket);
    finish(waiter, closed("the cache was closed"));
  }
  closing->all_asked();
}

}  // namespace tiercel
