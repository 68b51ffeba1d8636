#include "tiercel/base/executor.h"

#include <deque>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tiercel/base/mutex.h"

// Invariants: `idle` counts threads that wait on `wake`, `busy` those that run a task; every queued
// task has an idle thread that was notified, a busy thread that will look at the queue again, or a
// thread just started for it. queue + busy <= threads_max + queue_max: a task for which a thread is
// free or can be started does not count as waiting, so a burst is refused or not by its size alone
// and never by how fast the threads come round to it.

namespace tiercel {

struct ThreadPool::State {
  explicit State(ThreadPoolOptions given) : options(given) {}

  const ThreadPoolOptions options;
  Mutex mutex;
  CondVar wake;
  std::deque<UniqueFunction<void()>> queue TIERCEL_GUARDED_BY(mutex);
  std::vector<std::thread> threads TIERCEL_GUARDED_BY(mutex);
  std::size_t idle TIERCEL_GUARDED_BY(mutex) = 0;
  std::size_t busy TIERCEL_GUARDED_BY(mutex) = 0;
  bool closing TIERCEL_GUARDED_BY(mutex) = false;

  void run() {
    for (;;) {
      UniqueFunction<void()> task;
      {
        MutexLock lock{mutex};
        while (queue.empty()) {
          if (closing) return;
          ++idle;
          wake.wait(mutex);
          --idle;
        }
        task = std::move(queue.front());
        queue.pop_front();
        ++busy;
      }
      task();
      task = nullptr;  // What it owns goes before the thread counts as free, and under no lock.
      MutexLock lock{mutex};
      --busy;
    }
  }
};

Result<std::unique_ptr<ThreadPool>> ThreadPool::create(ThreadPoolOptions options) {
  if (options.threads_max < 1 || options.threads_max > 1024) {
    return invalid_argument("threads_max is " + std::to_string(options.threads_max) +
                            "; it must be 1 to 1024");
  }
  if (options.queue_max < 1 || options.queue_max > 1048576) {
    return invalid_argument("queue_max is " + std::to_string(options.queue_max) +
                            "; it must be 1 to 1048576");
  }
  return std::unique_ptr<ThreadPool>{new ThreadPool{options}};
}

ThreadPool::ThreadPool(ThreadPoolOptions options) : state_(std::make_unique<State>(options)) {}

ThreadPool::~ThreadPool() {
  std::vector<std::thread> threads;
  {
    MutexLock lock{state_->mutex};
    state_->closing = true;
    threads.swap(state_->threads);
    state_->wake.notify_all();
  }
  for (auto& thread : threads) thread.join();
}

Result<void> ThreadPool::post(UniqueFunction<void()> task) {
  MutexLock lock{state_->mutex};
  if (state_->closing) return closed("the thread pool is shutting down");
  const ThreadPoolOptions& options = state_->options;
  if (state_->queue.size() + state_->busy >= options.threads_max + options.queue_max) {
    return overloaded("queue_max (" + std::to_string(options.queue_max) +
                      ") tasks already wait for a thread");
  }
  state_->queue.push_back(std::move(task));
  if (state_->idle >= state_->queue.size()) {
    state_->wake.notify_one();
    return {};
  }
  if (state_->threads.size() < options.threads_max) {
    try {
      state_->threads.emplace_back([state = state_.get()] { state->run(); });
      return {};
    } catch (const std::system_error& error) {
      // The threads that run will come to the task; without any, nobody ever would.
      if (state_->threads.empty()) {
        task = std::move(state_->queue.back());
        state_->queue.pop_back();
        return overloaded(std::string{"the system refused to start a thread: "} + error.what());
      }
    }
  }
  state_->wake.notify_one();
  return {};
}

}  // namespace tiercel
