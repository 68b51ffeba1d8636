#pragma once

// Process: something that runs, can be stopped (SIGSTOP), stalled, killed and started again. What
// is given to it waits while it does not run, and is lost with its life.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <utility>

#include "timeline.h"

namespace tiercel::sim {

class Process {
 public:
  // `place` names it in the network.
  Process(Timeline& timeline, std::string name, std::size_t place)
      : timeline_(timeline), name_(std::move(name)), place_(place) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::size_t place() const { return place_; }
  [[nodiscard]] bool is_alive() const { return is_alive_; }
  [[nodiscard]] std::uint64_t life() const { return life_; }
  [[nodiscard]] bool is_stopped() const { return timeline_.now() < stopped_until_; }
  [[nodiscard]] bool is_running() const { return is_alive_ && !is_stopped(); }
  [[nodiscard]] TimePoint stopped_until() const { return stopped_until_; }

  // Steps of its one event loop: in order; they wait while it is stopped or stalled.
  void give(Step step);
  // Steps of its other threads: they wait only while it is stopped.
  void give_thread(Step step);
  // The same after a time, unless this life has ended by then.
  void give_after(Duration wait, Step step);
  void give_thread_after(Duration wait, Step step);

  void stop(Duration length);
  void resume();
  void stall(Duration length);  // The loop only.

  void kill();
  void start() { is_alive_ = true; }

 private:
  void drain();

  Timeline& timeline_;
  const std::string name_;
  const std::size_t place_;
  bool is_alive_ = true;
  std::uint64_t life_ = 1;
  TimePoint stopped_until_{};
  TimePoint stalled_until_{};
  std::deque<Step> loop_steps_;
  std::deque<Step> thread_steps_;
  bool is_draining_ = false;
};

}  // namespace tiercel::sim
