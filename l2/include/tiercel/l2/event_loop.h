#pragma once

// EventLoop: one thread that runs a libuv loop. It owns the sockets and timers of the clients
// attached to it; everything "on the loop thread" happens there, one thing at a time. The thread
// starts with the first use, so an object that is never used costs no thread. All signals but those
// of faults are blocked on it.
//
// Nothing that blocks may run on it. Destroy the clients first, then the loop; the destructor stops
// the thread and joins it, runs no further task, and must not be called on the loop thread itself.
// It waits for a host name lookup that is under way (up to the resolver's own timeout); numeric
// addresses need none.
//
// A loop of the user's: EventLoop{uv_default_loop()}. The user runs it, and the thread that does is
// "the loop thread". SIGPIPE must be ignored in that process, as libuv asks. The EventLoop is made
// and destroyed on that thread; clients on it are closed by Client::close_then, since waiting for
// the loop on the loop would not end; stop() is not for it. uv_run does not return while the
// EventLoop exists.
//
// After fork() the child has none of this: there is no thread, and the sockets and the epoll
// instance are shared with the parent. So in the child every command is answered kClosed at once,
// no task runs, and closing and destroying do nothing: nothing is sent, closed or waited for, and
// what the objects hold stays allocated. The child's copies of the sockets close when it ends or
// calls exec. A child that was forked on the loop thread itself may do nothing but that.

#include <cstdint>
#include <memory>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

struct uv_loop_s;  // libuv's uv_loop_t.

namespace tiercel::l2 {

class EventLoop {
 public:
  using TimerId = std::uint64_t;  // Never 0, never used twice.

  EventLoop();
  // On a loop that the caller runs, and that must outlive it.
  explicit EventLoop(uv_loop_s* loop);
  ~EventLoop();
  EventLoop(const EventLoop&) = delete;
  EventLoop& operator=(const EventLoop&) = delete;

  // Any thread. Starts the thread now; nothing more when it runs already. For those who want an
  // Error (kUnavailable: no thread, no file descriptors) where post() could only abort.
  Result<void> start();

  // Any thread, also the loop's own. The task runs later on the loop thread, in the order of
  // posting. One that is still queued when the loop is stopped or destroyed, or is posted after
  // that, is destroyed without having run.
  void post(UniqueFunction<void()> task);

  // Not on the loop thread. Ends the thread after the task that it runs now, and joins it. For who
  // owns the loop and objects whose tasks use it: after stop() none of them runs, and the loop can
  // still be asked and posted to. Close the clients first. Idempotent.
  void stop();

  // Loop thread only. Runs `task` once on the loop thread, not before `delay` has passed
  // (resolution 1 ms).
  TimerId run_after(Duration delay, UniqueFunction<void()> task);
  // Loop thread only. After it the task will not run; unknown or finished ids are ignored.
  void cancel(TimerId timer);

  [[nodiscard]] bool on_loop_thread() const noexcept;
  // This process is a fork of the one that made the loop.
  [[nodiscard]] bool is_forked() const noexcept;

  // For l2's own sources: the uv_loop_t behind it, as an opaque pointer. Loop thread only.
  struct Native;
  [[nodiscard]] Native& native() noexcept { return *native_; }

 private:
  std::unique_ptr<Native> native_;
};

}  // namespace tiercel::l2
