#pragma once

// LockService: the locks of one cache: who waits for which, what is held, and the watchdog.
//
// For each name that is waited for there is a line, of which only the first asks the store; so the
// number of questions does not grow with the threads that wait. Someone else's lock is asked for
// again after a random pause, and at once when wake() is called, which a release in this cache
// does. (A message of another instance's release could do so, too: kReleaseLockScript knows whether
// it is waited for, but no message is sent yet.) One of our own is not asked for at all.
//
// A grant is vouched for from the moment its question was sent: see validity_of. Renewals follow
// one another, each with the deadline of the grant itself.
//
// Threads. lock(), release() and close() are for any; everything else happens on the loop thread.
// The loop's tasks and the store's answers hold a plain `this`: Core stops the loop before it lets
// go.

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "lock_store.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/log.h"
#include "tiercel/base/mutex.h"
#include "tiercel/base/random.h"
#include "tiercel/cache/lock.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel {

// What a Lock shares with the service. The service lets go of it when it is over.
struct Lock::Grant {
  // Immutable.
  LockTicket ticket;
  std::uint64_t fencing_number = 0;
  bool watchdog = true;
  std::function<void()> on_lost;
  const Clock* clock = nullptr;
  std::shared_ptr<LockService> service;

  // Any thread. The end of what is vouched for, of MonotonicTimeline; written on the loop thread.
  std::atomic<Duration::rep> valid_until{0};
  std::atomic<bool> is_given_back{false};  // From then on never held, and never lost.
  std::atomic<bool> is_lost{false};        // Likewise never held.

  // Loop thread only.
  TimePoint renew_at;
  bool is_renewing = false;
  bool is_over = false;  // The service has let go of it.
  l2::EventLoop::TimerId timer = 0;

  [[nodiscard]] bool is_over_for_holder() const noexcept {
    return is_given_back.load(std::memory_order_acquire) || is_lost.load(std::memory_order_acquire);
  }
  [[nodiscard]] TimePoint valid_until_point() const noexcept {
    return TimePoint{Duration{valid_until.load(std::memory_order_acquire)}};
  }
};

class LockService : public std::enable_shared_from_this<LockService> {
 public:
  // nullopt: someone else holds it; only where it was not to be waited for.
  using Callback = UniqueFunction<void(Result<std::optional<Lock>>)>;
  using ReleasedCallback = UniqueFunction<void(Result<bool>)>;

  struct Config {
    const Clock& clock;
    l2::EventLoop& loop;
    std::unique_ptr<LockStore> store;
    std::uint64_t origin = 0;  // Names the cache in tokens.
    std::uint64_t seed = 0;    // Of the pauses.
    std::chrono::milliseconds reply_timeout{1000};
    LogSink log{};
  };
  struct Counts {
    std::size_t held = 0;
    std::size_t waiting = 0;
    std::uint64_t granted = 0;
    std::uint64_t lost = 0;
  };

  explicit LockService(Config config);

  // Any thread. The callback runs once, on the loop thread or, for what is refused at once, on this
  // one. Without `waits` the answer is that of one question.
  void lock(std::string_view name, const LockOptions& options, bool waits, Callback callback);
  // Any thread. Once for a grant.
  void release(std::shared_ptr<Lock::Grant> grant, ReleasedCallback callback);
  // Not on the loop thread. Answers who waits, gives back what is held, and waits for the replies,
  // but not long.
  void close();

  // Any thread, also when the loop is gone: then it is false.
  [[nodiscard]] bool on_loop_thread() TIERCEL_EXCLUDES(mutex_);
  [[nodiscard]] Counts counts() const noexcept;

  // Loop thread. Someone may have given the lock of this name back: whoever hears that from another
  // instance may call this.
  void wake(const std::string& name);
  // Loop thread. There is a connection, perhaps to another server: does it know of what we hold?
  void data_is_up();

 private:
  // One call that waits. Loop thread only, once it began.
  struct Waiter {
    LockTicket ticket{};
    bool watchdog = true;
    bool waits = true;
    std::function<void()> on_lost{};
    Callback callback{};
    TimePoint began_at{};
    TimePoint deadline{};
    l2::EventLoop::TimerId timer = 0;
    bool is_asking = false;
    bool is_finished = false;
    bool may_be_granted = false;  // By a question whose answer is not known, or without copies.
    std::optional<Error> lacks_copies{};  // What was granted so far.
  };
  // Those who wait for one name.
  struct Line {
    std::deque<std::shared_ptr<Waiter>> waiters{};  // Empty only while it is made.
    l2::EventLoop::TimerId timer = 0;               // Of the next question; 0: none is planned.
    std::optional<TimePoint> seen_held_at{};  // When it was last known to be held, by whomever.
    std::uint32_t polls = 0;                  // Since it was last given back here.
    bool is_woken = false;                    // While the first asked: it may ask again at once.
  };
  // A name that another instance waits for while it goes from one to the next in this cache.
  struct Turn {
    std::uint32_t grants = 0;
    std::optional<TimePoint> rests_until{};  // Nobody here asks until then.
  };
  struct Closing;

  // For how long a grant, or a renewal, is vouched for from when it was sent. The server's clock
  // may run a little faster than ours, and its milliseconds end at any time.
  static Duration validity_of(const LockTicket& ticket) {
    return Duration{ticket.ttl} - Duration{ticket.ttl} / 1000 - std::chrono::milliseconds{1};
  }

  [[nodiscard]] TimePoint now() const noexcept { return clock_.now(); }
  [[nodiscard]] bool is_forked() const noexcept;
  // False, and nothing done, once it was closed, and in a child of fork().
  [[nodiscard]] bool post(UniqueFunction<void()> task) TIERCEL_EXCLUDES(mutex_);

  // --- waiting
  void begin(const std::shared_ptr<Waiter>& waiter);
  void ask(const std::shared_ptr<Waiter>& waiter);
  void asked(const std::shared_ptr<Waiter>& waiter, TimePoint sent_at,
             Result<LockStore::Answer> answer);
  void ask_later_or_refuse(const std::shared_ptr<Waiter>& waiter, Error error);
  void refused(const std::shared_ptr<Waiter>& waiter, Error error);
  void held_by_other(const std::shared_ptr<Waiter>& waiter, std::optional<Duration> left);
  void time_is_up(const std::shared_ptr<Waiter>& waiter);
  void finish(const std::shared_ptr<Waiter>& waiter, Result<std::optional<Lock>> result);
  void poll_later(Line& line, const std::string& name, Duration pause);
  Duration pause_of(Line& line, std::optional<Duration> left);
  void hand_over(const std::string& name, bool others_wait);
  [[nodiscard]] Duration rest_of(const std::string& name) const;

  // --- holding
  void grant(const std::shared_ptr<Waiter>& waiter, TimePoint sent_at, std::uint64_t number);
  void tend(const std::shared_ptr<Lock::Grant>& grant);
  void renew(const std::shared_ptr<Lock::Grant>& grant);
  void renewed(const std::shared_ptr<Lock::Grant>& grant, TimePoint sent_at, Result<bool> result);
  void lose(const std::shared_ptr<Lock::Grant>& grant, std::string_view why);
  void let_go(const std::shared_ptr<Lock::Grant>& grant);
  void release_now(const std::shared_ptr<Lock::Grant>& grant, ReleasedCallback callback);
  void send_release(const LockTicket& ticket, l2::Retry retry, TimePoint deadline,
                    LockStore::ReleasedCallback callback);
  void give_back_unasked(const LockTicket& ticket);
  void close_now(const std::shared_ptr<Closing>& closing);
  void update_counts() noexcept;

  const Clock& clock_;
  l2::EventLoop& loop_;
  const std::unique_ptr<LockStore> store_;
  const std::uint64_t origin_;
  const std::chrono::milliseconds reply_timeout_;
  const LogSink log_;
  const pid_t process_;  // That made it.

  std::atomic<std::uint64_t> numbers_{0};
  std::atomic<std::size_t> held_count_{0}, waiting_count_{0};
  std::atomic<std::uint64_t> granted_{0}, lost_{0};

  Mutex mutex_;  // A leaf.
  CondVar posted_;
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;
  int posting_ TIERCEL_GUARDED_BY(mutex_) = 0;

  // Loop thread only.
  Random random_;
  std::unordered_map<std::string, Line> lines_;
  std::unordered_map<std::string, Turn> turns_;  // At most kLocksHeldMax.
  // By name. Of one name there can be two: one was granted by a server that did not know the other.
  std::unordered_multimap<std::string, std::shared_ptr<Lock::Grant>> held_;
  std::unordered_set<std::shared_ptr<Waiter>> asking_;
  std::size_t waiting_ = 0;
  std::size_t releasing_ = 0;  // Releases that are not answered yet.
  std::shared_ptr<Closing> closing_;
};

}  // namespace tiercel
