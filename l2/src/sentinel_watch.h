#pragma once

// SentinelWatch: a subscription to the events of each Sentinel (sentinel_channels()), so that a
// failover is known before the old master's connections break. Nothing depends on it: a Sentinel
// that cannot be reached is dialled again with backoff, up to ten times backoff_max, silently; one
// whose ACL does not permit the channels is asked for +switch-master alone. Loop thread only.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "host.h"
#include "sentinel_directory.h"
#include "sentinel_event.h"

namespace tiercel::l2 {

class SentinelWatch {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void sentinel_event(SentinelDirectory::Id sentinel, const SentinelEvent& event) = 0;
    // Its events reach us from now on; what it published before must be asked for. `hears_all`:
    // all channels are permitted.
    virtual void sentinel_subscribed(SentinelDirectory::Id sentinel, bool hears_all) = 0;
    virtual void sentinel_unsubscribed(SentinelDirectory::Id sentinel) = 0;
    // The answer to the newest ping(): what it published before the ping reached it has reached us.
    // `is_refused`: it does not permit PING, and nobody knows.
    virtual void sentinel_ponged(SentinelDirectory::Id sentinel, bool is_refused) = 0;
  };

  SentinelWatch(Host& host, SentinelDirectory& directory, Listener& listener);
  ~SentinelWatch();
  SentinelWatch(const SentinelWatch&) = delete;
  SentinelWatch& operator=(const SentinelWatch&) = delete;

  // Subscribes to those that are new in the directory, and leaves those that are gone from it. Not
  // from within a listener call.
  void follow_directory();
  void stop();
  // Pings each that is subscribed, and returns whom.
  std::vector<SentinelDirectory::Id> ping();
  [[nodiscard]] std::size_t subscribed_count() const noexcept;

 private:
  class Subscription;

  Host& host_;
  SentinelDirectory& directory_;
  Listener& listener_;
  std::vector<std::unique_ptr<Subscription>> subscriptions_;
  std::uint64_t pings_ = 0;
};

}  // namespace tiercel::l2
