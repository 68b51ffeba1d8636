#pragma once

// ChunkPump: does one thing with each chunk of a filter: a few at a time, so that others' commands
// pass between them, and no more bytes in a second than were given. Loop thread only.

#include <cstddef>
#include <cstdint>
#include <functional>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel {

class ChunkPump {
 public:
  static constexpr std::size_t kOutstandingMax = 4;

  struct Work {
    std::size_t chunks = 0;
    // Submits the command for one; false: there is nothing to do for this one.
    std::function<bool(std::size_t chunk, l2::ReplyCallback)> send{};
    // What came of it. The first error ends the work.
    std::function<Result<void>(std::size_t chunk, Result<l2::Reply> reply)> take{};
    // Once, not from within start(); not after stop().
    UniqueFunction<void(Result<void>)> done{};
  };

  ChunkPump(const Clock& clock, l2::EventLoop& loop, std::size_t bytes_per_second)
      : clock_(clock), loop_(loop), bytes_per_second_(bytes_per_second) {}

  // Ends what is under way.
  void start(Work work);
  void stop() { ++run_; }

 private:
  void pump();
  void arrived(std::uint64_t run, std::size_t chunk, Result<l2::Reply> reply);
  void end(Result<void> result);
  [[nodiscard]] double bytes_allowed() const;

  const Clock& clock_;
  l2::EventLoop& loop_;
  const std::size_t bytes_per_second_;
  Work work_;
  std::uint64_t run_ = 0;
  std::size_t next_ = 0;
  std::size_t outstanding_ = 0;
  bool is_armed_ = false;
  TimePoint began_at_{};
};

}  // namespace tiercel
