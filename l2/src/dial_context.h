#pragma once

// DialContext: what connections to Redis servers need of their surroundings. Loop thread only.

#include <memory>

#include "tiercel/base/clock.h"
#include "tiercel/base/random.h"
#include "tiercel/l2/event_loop.h"
#include "tiercel/l2/options.h"
#include "tls_context.h"

namespace tiercel::l2 {

class DialContext {
 public:
  virtual ~DialContext() = default;

  [[nodiscard]] virtual EventLoop& loop() noexcept = 0;
  [[nodiscard]] virtual const RedisOptions& redis() const noexcept = 0;
  [[nodiscard]] virtual const Clock& clock() const noexcept = 0;
  [[nodiscard]] virtual Random& random() noexcept = 0;
  // Every Connection holds it; whoever closes is done when the last holder lets go.
  [[nodiscard]] virtual std::shared_ptr<void> open_handles() = 0;
  [[nodiscard]] virtual TlsTarget server_tls() const = 0;
};

}  // namespace tiercel::l2
