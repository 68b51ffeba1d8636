#include "process.h"

#include <algorithm>

namespace tiercel::sim {

void Process::give(Step step) {
  if (!is_alive_) return;
  loop_steps_.push_back(std::move(step));
  drain();
}

void Process::give_thread(Step step) {
  if (!is_alive_) return;
  thread_steps_.push_back(std::move(step));
  drain();
}

void Process::give_after(Duration wait, Step step) {
  timeline_.after(wait, [this, life = life_, step = std::move(step)]() mutable {
    if (life == life_) give(std::move(step));
  });
}

void Process::give_thread_after(Duration wait, Step step) {
  timeline_.after(wait, [this, life = life_, step = std::move(step)]() mutable {
    if (life == life_) give_thread(std::move(step));
  });
}

void Process::stop(Duration length) {
  stopped_until_ = std::max(stopped_until_, timeline_.now() + length);
  timeline_.at(stopped_until_, [this] { drain(); });
}

void Process::resume() {
  stopped_until_ = TimePoint{};
  drain();
}

void Process::stall(Duration length) {
  stalled_until_ = std::max(stalled_until_, timeline_.now() + length);
  timeline_.at(stalled_until_, [this] { drain(); });
}

void Process::kill() {
  is_alive_ = false;
  ++life_;
  stopped_until_ = TimePoint{};
  stalled_until_ = TimePoint{};
  // Destroyed one level up, where nothing of it runs any more.
  timeline_.after(Duration{0},
                  [loop = std::move(loop_steps_), thread = std::move(thread_steps_)] {});
  loop_steps_.clear();
  thread_steps_.clear();
}

void Process::drain() {
  if (is_draining_) return;  // A step that gives another: it comes in turn.
  is_draining_ = true;
  while (is_alive_ && !is_stopped()) {
    std::deque<Step>* steps = nullptr;
    if (!thread_steps_.empty()) {
      steps = &thread_steps_;
    } else if (!loop_steps_.empty() && timeline_.now() >= stalled_until_) {
      steps = &loop_steps_;
    } else {
      break;
    }
    Step step = std::move(steps->front());
    steps->pop_front();
    step();
  }
  is_draining_ = false;
}

}  // namespace tiercel::sim
