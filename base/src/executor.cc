#include "tiercel/base/executor.h"

#include <deque>
#include <string>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

#include "tiercel/base/mutex.h"

// Invariants: `idle` counts threads that wait on `wake`, `busy` those that run a task. While tasks
// wait, a thread is on its way to the queue (`summoned`), or all that there may be are busy, and
// look at the queue again. A thread that takes a task summons the next one where tasks are left:
// one after the other, so that a burst of short tasks is run by those that are awake already, and a
// burst of long ones still gets all the threads. queue + busy <= threads_max + queue_max: a task
// for which a thread is free or can be started does not count as waiting, so a burst is refused or
// not by its size alone and never by how fast the threads come round to it.

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
  bool summoned TIERCEL_GUARDED_BY(mutex) = false;
  bool closing TIERCEL_GUARDED_BY(mutex) = false;

  // A thread, if there is one to be had, for what waits. Errors: kOverloaded, where the system
  // refuses to start the first one.
  Result<void> summon() TIERCEL_REQUIRES(mutex) {
    if (summoned || queue.empty()) return {};
    if (idle > 0) {
      summoned = true;
      wake.notify_one();
    } else if (threads.size() < options.threads_max) {
      try {
        threads.emplace_back([this] { run(); });
        summoned = true;
      } catch (const std::system_error& error) {
        // The threads that run will come to the task; without any, nobody ever would.
        if (threads.empty()) {
          return overloaded(std::string{"the system refused to start a thread: "} + error.what());
        }
      }
    }
    return {};
  }

  void run() {
    for (bool has_come = true;; has_come = false) {
      UniqueFunction<void()> task;
      {
        MutexLock lock{mutex};
        if (has_come) summoned = false;
        while (queue.empty()) {
          if (closing) return;
          ++idle;
          wake.wait(mutex);
          --idle;
          summoned = false;
        }
        task = std::move(queue.front());
        queue.pop_front();
        ++busy;
        (void)summon();  // There is a thread: this one.
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

// A thread may start others until the queue is empty.
ThreadPool::~ThreadPool() {
  for (std::size_t joined = 0;; ++joined) {
    std::thread ending;
    {
      MutexLock lock{state_->mutex};
      state_->closing = true;
      state_->wake.notify_all();
      if (joined == state_->threads.size()) return;
      ending = std::move(state_->threads[joined]);
    }
    ending.join();
  }
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
  auto comes = state_->summon();
  if (!comes) {
    task = std::move(state_->queue.back());
    state_->queue.pop_back();
  }
  return comes;
}

}  // namespace tiercel
