#pragma once

// SentinelWatch: a subscription to +switch-master on each Sentinel, so that a new master is known
// before the old one's connections break. Nothing depends on it: a Sentinel that cannot be reached
// is dialled again with backoff, silently. Loop thread only.

#include <memory>
#include <vector>

#include "host.h"

namespace tiercel::l2 {

class SentinelWatch {
 public:
  explicit SentinelWatch(Host& host);
  ~SentinelWatch();
  SentinelWatch(const SentinelWatch&) = delete;
  SentinelWatch& operator=(const SentinelWatch&) = delete;

  void start();
  void stop();

 private:
  class Subscription;

  Host& host_;
  std::vector<std::unique_ptr<Subscription>> subscriptions_;
};

}  // namespace tiercel::l2
