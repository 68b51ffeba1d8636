#pragma once

// Later: runs what must not run from within the call that asked for it: answers that are known at
// once. Loop thread only.

#include <utility>
#include <vector>

#include "tiercel/base/unique_function.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel::l2 {

class Later {
 public:
  explicit Later(EventLoop& loop) noexcept : loop_(loop) {}
  Later(const Later&) = delete;
  Later& operator=(const Later&) = delete;

  // In order; at once when stopped.
  void run(UniqueFunction<void()> task) {
    if (is_stopped_) return task();
    tasks_.push_back(std::move(task));
    if (timer_ != 0) return;
    timer_ = loop_.run_after(Duration{0}, [this] {
      timer_ = 0;
      run_all();
    });
  }
  // Runs what is due.
  void stop() {
    is_stopped_ = true;
    loop_.cancel(std::exchange(timer_, 0));
    run_all();
  }
  [[nodiscard]] bool is_stopped() const noexcept { return is_stopped_; }

 private:
  void run_all() {
    for (auto& task : std::exchange(tasks_, {})) task();
  }

  EventLoop& loop_;
  std::vector<UniqueFunction<void()>> tasks_;
  EventLoop::TimerId timer_ = 0;
  bool is_stopped_ = false;
};

}  // namespace tiercel::l2
