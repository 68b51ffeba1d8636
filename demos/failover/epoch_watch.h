#pragma once

// EpochWatch: tells a reader whether the cache's present epoch began after the master was killed.
// Any thread.

#include <string>

#include "failover/board.h"
#include "tiercel/base/mutex.h"
#include "tiercel/cache/cache.h"

namespace tiercel::failover {

class EpochWatch {
 public:
  EpochWatch(const Board& board, const Cache& cache) : board_(board), cache_(cache) {}

  // Every now and then: remembers the epoch for as long as the master has not been killed.
  void observe() {
    std::string epoch = cache_.lease().epoch;
    // Asked before the kill began, so it is an epoch of before.
    if (epoch.empty() || board_.state().kill_begun_at.load(std::memory_order_acquire) != 0) return;
    MutexLock lock{mutex_};
    before_kill_ = std::move(epoch);
  }

  [[nodiscard]] bool in_new_epoch() {
    if (board_.state().kill_begun_at.load(std::memory_order_acquire) == 0) return false;
    const std::string epoch = cache_.lease().epoch;
    MutexLock lock{mutex_};
    return !epoch.empty() && epoch != before_kill_;
  }

 private:
  const Board& board_;
  const Cache& cache_;
  Mutex mutex_;
  std::string before_kill_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel::failover
