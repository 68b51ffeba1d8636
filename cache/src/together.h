#pragma once

// Together: how many of those that wait for the loop thread leave in one call. What the call has
// besides is paid for once (docs/decisions/0020, 0024), and the server is held up while it runs.

#include <algorithm>
#include <chrono>
#include <cstddef>

#include "tiercel/base/clock.h"
#include "tiercel/serialization/limits.h"

namespace tiercel {

class Together {
 public:
  // Of a script's keys.
  static constexpr std::size_t kMax = 16;
  // Sent, or answered.
  static constexpr std::size_t kBytesMax = std::size_t{256} * 1024;
  // A larger value gains little, and is better copied by its own thread than by the loop.
  static constexpr std::size_t kJoinBytesMax = kBytesMax / kMax;
  // They share the latest of their deadlines: nobody is given up before his own, or this much
  // after.
  static constexpr Duration kDeadlinesApartMax = std::chrono::milliseconds{5};

  Together(std::size_t bytes_max, std::size_t count_max = kMax) noexcept
      : bytes_max_(bytes_max), count_max_(count_max) {}

  // Whether one more, of so many bytes in all and a key of so many, leaves with those before. The
  // first always does. Without a deadline: all have the same.
  [[nodiscard]] bool takes(std::size_t bytes, std::size_t key_bytes,
                           TimePoint deadline = {}) noexcept {
    bytes_ += bytes;
    key_bytes_ += key_bytes;
    earliest_ = count_ == 0 ? deadline : std::min(earliest_, deadline);
    latest_ = count_ == 0 ? deadline : std::max(latest_, deadline);
    if (count_ > 0 && (count_ == count_max_ || bytes_ > bytes_max_ ||
                       key_bytes_ > serialization::kKeysBytesPerMessageMax ||
                       latest_ - earliest_ > kDeadlinesApartMax)) {
      return false;
    }
    ++count_;
    return true;
  }
  [[nodiscard]] std::size_t count() const noexcept { return count_; }

 private:
  std::size_t bytes_max_;
  std::size_t count_max_;
  std::size_t bytes_ = 0;
  std::size_t key_bytes_ = 0;
  std::size_t count_ = 0;
  TimePoint earliest_{};
  TimePoint latest_{};
};

}  // namespace tiercel
