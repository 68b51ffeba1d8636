#pragma once

// Executor: where user code (loaders) runs, so that it never runs on the loop thread. A user may
// bring an own one; ThreadPool is the default.
//
// ThreadPool starts a thread only when work waits and none is idle, up to `threads_max`, and
// refuses work (kOverloaded) past `queue_max`: a bulkhead between slow loaders and the rest of the
// process. Its destructor runs what was accepted, then joins; it must not run on one of its own
// threads.

#include <cstddef>
#include <memory>

#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

namespace tiercel {

class Executor {
 public:
  virtual ~Executor() = default;

  // Any thread. Either accepts the task, which then runs exactly once on some other thread, or
  // returns kOverloaded (the queue is full) or kClosed, and the task is destroyed without having
  // run.
  virtual Result<void> post(UniqueFunction<void()> task) = 0;
};

struct ThreadPoolOptions {
  // Range 1 to 1024. More lets more slow loaders run side by side; each costs a stack.
  std::size_t threads_max = 8;
  // Tasks that wait for a thread. Range 1 to 1,048,576. More absorbs bursts; less fails sooner.
  std::size_t queue_max = 1024;
};

class ThreadPool final : public Executor {
 public:
  static Result<std::unique_ptr<ThreadPool>> create(ThreadPoolOptions options);
  ~ThreadPool() override;

  Result<void> post(UniqueFunction<void()> task) override;

 private:
  struct State;
  explicit ThreadPool(ThreadPoolOptions options);
  std::unique_ptr<State> state_;
};

}  // namespace tiercel
