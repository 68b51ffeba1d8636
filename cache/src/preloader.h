#pragma once

// Preloader: reads that nobody waits for, at a bounded rate, while L1 may be filled. start() from
// any thread, the rest on the loop thread; close() when the loop has stopped.

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tiercel/base/mutex.h"
#include "tiercel/cache/cache.h"
#include "tiercel/cache/preload.h"
#include "tiercel/l2/event_loop.h"

namespace tiercel {

class Preloader {
 public:
  // A read of the key; its callback may come at once, and on any thread.
  using Read = std::function<void(const std::string& key, UniqueFunction<void(ReadResult)>)>;

  // `may_fill`: whether what is read now could get into L1.
  Preloader(l2::EventLoop& loop, std::function<bool()> may_fill)
      : loop_(loop), may_fill_(std::move(may_fill)) {}
  ~Preloader();
  Preloader(const Preloader&) = delete;
  Preloader& operator=(const Preloader&) = delete;

  void start(std::vector<std::string> keys, const PreloadOptions& options, Read read,
             PreloadCallback done) TIERCEL_EXCLUDES(mutex_);
  // What has not ended is told so.
  void close() TIERCEL_EXCLUDES(mutex_);

 private:
  struct Run;
  void step(const std::shared_ptr<Run>& run);
  void end(const std::shared_ptr<Run>& run) TIERCEL_EXCLUDES(mutex_);

  l2::EventLoop& loop_;
  const std::function<bool()> may_fill_;

  Mutex mutex_;
  std::vector<std::shared_ptr<Run>> runs_ TIERCEL_GUARDED_BY(mutex_);
};

}  // namespace tiercel
