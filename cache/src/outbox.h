#pragma once

// Outbox: what threads hand to the loop thread, which takes all that is there when it comes round.
// Nobody waits for company: alone, a thing leaves when it would have left anyway.

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "tiercel/base/mutex.h"

namespace tiercel {

template <typename T>
class Outbox {
 public:
  // Any thread. kFirst: have the loop thread take it. kClosed: `item` is still the caller's.
  enum class Verdict : std::uint8_t { kFirst, kWaits, kClosed };
  [[nodiscard]] Verdict push(T& item) TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    if (is_closed_) return Verdict::kClosed;
    items_.push_back(std::move(item));
    return items_.size() == 1 ? Verdict::kFirst : Verdict::kWaits;
  }

  [[nodiscard]] std::size_t size() const TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    return items_.size();
  }

  // All that waits, in the order in which it came.
  [[nodiscard]] std::vector<T> take() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    return std::exchange(items_, {});
  }
  // Likewise; nothing is taken in any more.
  [[nodiscard]] std::vector<T> close() TIERCEL_EXCLUDES(mutex_) {
    MutexLock lock{mutex_};
    is_closed_ = true;
    return std::exchange(items_, {});
  }

 private:
  mutable Mutex mutex_;
  std::vector<T> items_ TIERCEL_GUARDED_BY(mutex_);
  bool is_closed_ TIERCEL_GUARDED_BY(mutex_) = false;
};

}  // namespace tiercel
