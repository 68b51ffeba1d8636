#pragma once

// What the parts of a Client share: the surroundings that were handed in, and the few things that
// one part has to tell the others. Client::Core implements it. Loop thread only, except the
// counters.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <string>

#include "dial_context.h"
#include "tiercel/base/log.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/event_loop.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {

class DialGate;
class Later;
class MasterFinder;
class SubmitQueue;

struct Counters {
  std::atomic<std::uint64_t> commands_overloaded{0};
  std::atomic<std::uint64_t> replies_late{0};
  std::atomic<std::uint64_t> retries{0};
  std::atomic<std::uint64_t> connects_attempted{0};
  std::atomic<std::uint64_t> connects_failed{0};
  std::atomic<std::uint64_t> master_changes{0};
};

class Host : public DialContext {
 public:
  [[nodiscard]] virtual Counters& counters() noexcept = 0;
  [[nodiscard]] virtual LinkObserver* observer() noexcept = 0;  // May be null.
  [[nodiscard]] virtual MasterFinder& finder() noexcept = 0;
  [[nodiscard]] virtual DialGate& dial_gate() noexcept = 0;  // Of D and S together.
  [[nodiscard]] virtual SubmitQueue& queue() noexcept = 0;
  [[nodiscard]] virtual Later& later() noexcept = 0;
  [[nodiscard]] virtual TlsTarget sentinel_tls() const = 0;

  virtual void log(LogLevel level, const std::string& message) = 0;

  // The master is there: links that are elsewhere go there; of those that are not up, only if
  // `only_those_up` is false.
  virtual void move_links(const Endpoint& master, bool only_those_up) = 0;
  // The server said that it is no master: no link may stay there.
  virtual void found_not_master(const Endpoint& endpoint, const Error& reason) = 0;
};

// Full jitter: a random time below min(backoff_max, backoff_min * 2^attempt), so that a fleet that
// lost its server together does not come back together (Brooker, "Exponential Backoff and Jitter").
class Backoff {
 public:
  Backoff(std::chrono::milliseconds min, std::chrono::milliseconds max) noexcept
      : min_(min), max_(max) {}

  [[nodiscard]] Duration next(Random& random) noexcept {
    Duration ceiling = min_;
    for (unsigned i = 0; i < attempts_ && ceiling < max_; ++i) ceiling *= 2;
    if (ceiling < max_) ++attempts_;
    if (ceiling > max_) ceiling = max_;
    return Duration{
        static_cast<Duration::rep>(random.below(static_cast<std::uint64_t>(ceiling.count())))};
  }
  void reset() noexcept { attempts_ = 0; }

 private:
  Duration min_;
  Duration max_;
  unsigned attempts_ = 0;
};

}  // namespace tiercel::l2
