#pragma once

// Resolver: where the master is. A fixed server is answered at once. With Sentinels all are asked
// at the same time, and of the answers that come within kSettleTime of the first the one with the
// highest configuration epoch counts: a Sentinel that was cut off still names the old master, with
// an old epoch. One resolution runs at a time; whoever asks meanwhile waits for it. Loop thread
// only.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "host.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"

namespace tiercel::l2 {

class Resolver {
 public:
  static constexpr Duration kSettleTime = std::chrono::milliseconds{100};

  // Valid during the call.
  using Waiter = UniqueFunction<void(const Result<Resolution>&)>;

  explicit Resolver(Host& host);
  ~Resolver();
  Resolver(const Resolver&) = delete;
  Resolver& operator=(const Resolver&) = delete;

  // The waiter is called during this call (fixed server) or later, but not after stop(). Errors:
  // kUnavailable; kInvalidArgument when every Sentinel says that it does not know the name, or
  // refuses our password.
  void resolve(Waiter waiter);
  void stop();

 private:
  class Query;

  void answered();
  void finish();
  [[nodiscard]] Result<Resolution> conclude() const;
  [[nodiscard]] Error explain_failure() const;

  Host& host_;
  std::vector<std::unique_ptr<Query>> queries_;  // Of the resolution under way; else empty.
  std::vector<Waiter> waiters_;
  EventLoop::TimerId timeout_timer_ = 0;
  EventLoop::TimerId settle_timer_ = 0;
};

}  // namespace tiercel::l2
