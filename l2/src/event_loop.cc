// Invariants: tasks run in the order of posting, one batch a turn, right before the loop would
// sleep. When the loop sleeps, `sleeping` is true or a wake-up is on its way. A timer is in
// `timers` and `timer_due` or in neither; the uv_timer is armed for the first of them. No task
// runs, and none is destroyed, under the mutex.

#include "tiercel/l2/event_loop.h"

#include <pthread.h>
#include <signal.h>

#include <string>
#include <system_error>

#include "event_loop_native.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

thread_local const EventLoop::Native* current_loop = nullptr;

// How many forks lie between the first process and this one.
std::atomic<std::uint64_t> forks{0};
std::uint64_t fork_count() noexcept { return forks.load(std::memory_order_relaxed); }

// The embedding process's signal handlers must not run on our thread, and a write to a socket that
// the peer has closed must be an error code, not SIGPIPE.
class SignalsBlocked {
 public:
  SignalsBlocked() noexcept {
    sigset_t blocked;
    sigfillset(&blocked);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGPROF}) {
      sigdelset(&blocked, fault);
    }
    pthread_sigmask(SIG_SETMASK, &blocked, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
};

void close_unless_closing(uv_handle_t* handle) {
  if (uv_is_closing(handle) == 0) uv_close(handle, nullptr);
}

void close_all_handles(uv_loop_t& loop) {
  uv_walk(
      &loop, [](uv_handle_t* handle, void*) { close_unless_closing(handle); }, nullptr);
  uv_run(&loop, UV_RUN_DEFAULT);
  TIERCEL_CHECK(uv_loop_close(&loop) == 0);
}

}  // namespace

EventLoop::Native::Native() : made_in_fork(fork_count()) {
  static const int registered =
      pthread_atfork(nullptr, nullptr, [] { forks.fetch_add(1, std::memory_order_relaxed); });
  static_cast<void>(registered);  // No memory: then a child is not told apart.
}

int EventLoop::Native::init_handles() {
  wake.data = before_sleep.data = timer.data = this;
  if (const int status = uv_async_init(
          loop, &wake, [](uv_async_t*) { /* Ends the sleep; before_sleep does the work. */ });
      status != 0) {
    return status;
  }
  uv_prepare_init(loop, &before_sleep);
  uv_prepare_start(&before_sleep,
                   [](uv_prepare_t* handle) { static_cast<Native*>(handle->data)->run_inbox(); });
  uv_timer_init(loop, &timer);
  return 0;
}

Result<void> EventLoop::Native::start() {
  if (started) return {};
  const auto refused = [](const char* what, const std::string& why) {
    return unavailable(std::string{"the event loop cannot start: "} + what + ": " + why);
  };
  if (const int status = uv_loop_init(loop); status != 0) {
    return refused("uv_loop_init", uv_strerror(status));
  }
  if (const int status = init_handles(); status != 0) {
    close_all_handles(*loop);
    return refused("uv_async_init", uv_strerror(status));
  }
  try {
    // The new thread inherits the mask, and libuv's own worker threads theirs from it.
    const SignalsBlocked blocked;
    thread = std::thread{[this] { run(); }};
  } catch (const std::system_error& error) {
    close_all_handles(*loop);
    return refused("no thread", error.what());
  }
  started = true;
  return {};
}

void EventLoop::Native::run() {
  pthread_setname_np(pthread_self(), "tiercel-loop");
  current_loop = this;
  uv_run(loop, UV_RUN_DEFAULT);
  await_wakers();

  for (auto* handle :
       {reinterpret_cast<uv_handle_t*>(&wake), reinterpret_cast<uv_handle_t*>(&before_sleep),
        reinterpret_cast<uv_handle_t*>(&timer)}) {
    close_unless_closing(handle);
  }
  uv_walk(
      loop,
      [](uv_handle_t* handle, void*) {
        // A client outlives its loop: fail here and not in some callback of freed memory.
        TIERCEL_CHECK(uv_is_closing(handle) != 0);
      },
      nullptr);
  uv_run(loop, UV_RUN_DEFAULT);  // Also waits for a name resolution that has begun.
  TIERCEL_CHECK(uv_loop_close(loop) == 0);
}

void EventLoop::Native::detach() {
  for (auto* handle :
       {reinterpret_cast<uv_handle_t*>(&wake), reinterpret_cast<uv_handle_t*>(&before_sleep),
        reinterpret_cast<uv_handle_t*>(&timer)}) {
    ++handles_closing;
    uv_close(handle, [](uv_handle_t* closed) {
      auto* const native = static_cast<Native*>(closed->data);
      if (--native->handles_closing == 0) delete native;
    });
  }
}

void EventLoop::Native::run_inbox() {
  std::vector<Task> batch;
  {
    MutexLock lock{mutex};
    batch.swap(inbox);
    if (batch.empty()) sleeping.store(true, std::memory_order_relaxed);
  }
  for (Task& task : batch) {
    if (stopping.load(std::memory_order_acquire)) break;
    task();
    task = nullptr;  // What it holds goes now, not after the whole batch.
  }
  if (stopping.load(std::memory_order_acquire)) {
    if (!is_users()) uv_stop(loop);
    return;
  }
  if (batch.empty()) return;
  bool again = false;
  {
    MutexLock lock{mutex};
    again = !inbox.empty();
    if (!again) sleeping.store(true, std::memory_order_relaxed);
  }
  // Tasks that were posted meanwhile: one turn for the sockets, then they.
  if (again) uv_async_send(&wake);
}

void EventLoop::Native::run_timers() {
  // One reading of the clock for the turn: a timer set by a timer waits for the next.
  const TimePoint now = Clock::system().now();
  while (!timers.empty() && timers.begin()->first.first <= now &&
         !stopping.load(std::memory_order_acquire)) {
    auto first = timers.extract(timers.begin());
    timer_due.erase(first.key().second);
    first.mapped()();
  }
  // Armed again here, a timer that is due but may not run any more would fire for ever.
  if (!stopping.load(std::memory_order_acquire)) arm_timer();
}

void EventLoop::Native::arm_timer() {
  if (timers.empty()) {
    uv_timer_stop(&timer);
    return;
  }
  const Duration wait = timers.begin()->first.first - Clock::system().now();
  // At least 1: libuv runs a timer that is due at once before it looks at the sockets again, so one
  // that sets itself anew with no delay would starve them.
  const std::uint64_t wait_ms =
      wait.count() <= 0 ? 1 : static_cast<std::uint64_t>(to_milliseconds(wait)) + 1;
  // libuv counts from its cached time. A loop that was busy would fire early, and arm again.
  uv_update_time(loop);
  uv_timer_start(
      &timer, [](uv_timer_t* handle) { static_cast<Native*>(handle->data)->run_timers(); }, wait_ms,
      0);
}

EventLoop::EventLoop() : native_(std::make_unique<Native>()) {}

EventLoop::EventLoop(uv_loop_s* loop) : native_(std::make_unique<Native>()) {
  native_->loop = loop;
  native_->users_thread = pthread_self();
  TIERCEL_CHECK(native_->init_handles() == 0);
  MutexLock lock{native_->mutex};
  native_->started = true;
}

EventLoop::~EventLoop() {
  if (is_forked()) {
    static_cast<void>(native_.release());
  } else if (!native_->is_users()) {
    stop();
  } else {
    TIERCEL_CHECK(on_loop_thread());
    std::vector<Native::Task> unrun;
    {
      MutexLock lock{native_->mutex};
      native_->stopping.store(true, std::memory_order_release);
      unrun.swap(native_->inbox);
    }
    native_->await_wakers();
    native_.release()->detach();
  }
}

void EventLoop::stop() {
  if (is_forked()) return;
  Native& native = *native_;
  TIERCEL_CHECK(!native.is_users() && !on_loop_thread());
  std::thread ending;
  {
    MutexLock lock{native.mutex};
    if (native.started) ending = std::move(native.thread);
    if (ending.joinable()) native.wakers.fetch_add(1, std::memory_order_relaxed);
    native.stopping.store(true, std::memory_order_release);  // After the count.
  }
  if (!ending.joinable()) return;
  native.wake_up();
  ending.join();
}

Result<void> EventLoop::start() {
  if (is_forked()) return closed("this process is a fork of the one that made the event loop");
  MutexLock lock{native_->mutex};
  return native_->start();
}

void EventLoop::post(UniqueFunction<void()> task) {
  if (is_forked()) return;
  Native& native = *native_;
  bool wake = false;
  {
    MutexLock lock{native.mutex};
    // The task is destroyed by our caller's frame, after the lock is gone.
    if (native.stopping.load(std::memory_order_acquire)) return;
    TIERCEL_CHECK(native.start().has_value());
    native.inbox.push_back(std::move(task));
    // From a task, a timer or a socket's callback the loop comes to the inbox before it sleeps.
    wake = !on_loop_thread() && native.sleeping.exchange(false, std::memory_order_relaxed);
    if (wake) native.wakers.fetch_add(1, std::memory_order_relaxed);
  }
  if (wake) native.wake_up();
}

EventLoop::TimerId EventLoop::run_after(Duration delay, UniqueFunction<void()> task) {
  TIERCEL_CHECK(on_loop_thread());
  Native& native = *native_;
  const TimePoint due = Clock::system().now() + delay;
  const TimerId id = ++native.timer_last;
  native.timer_due.emplace(id, due);
  const auto [at, inserted] = native.timers.emplace(std::pair{due, id}, std::move(task));
  if (at == native.timers.begin()) native.arm_timer();
  return id;
}

void EventLoop::cancel(TimerId timer) {
  TIERCEL_CHECK(on_loop_thread());
  Native& native = *native_;
  const auto due = native.timer_due.find(timer);
  if (due == native.timer_due.end()) return;
  // Taken out first: destroying the task may run code that sets timers. A uv_timer that is now
  // armed too early finds nothing due and arms itself again.
  const auto doomed = native.timers.extract({due->second, timer});
  native.timer_due.erase(due);
}

bool EventLoop::on_loop_thread() const noexcept {
  if (native_->is_users()) return pthread_equal(native_->users_thread, pthread_self()) != 0;
  return current_loop == native_.get();
}

bool EventLoop::is_forked() const noexcept { return fork_count() != native_->made_in_fork; }

}  // namespace tiercel::l2
