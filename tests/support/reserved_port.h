#pragma once

// ReservedPort: a TCP port of 127.0.0.1 that stays ours while the server behind it is dead.
//
// Binding port 0 and closing gives a port that the kernel may hand to anybody's outgoing connection
// the moment it is free, so a server that is killed and started again would find it taken now and
// then. Therefore the port is drawn at random from below the kernel's ephemeral range, where nobody
// gets one by accident, and other programs that use this class are kept off it by an abstract Unix
// socket named after the port, which vanishes with the process that holds it.

#include <cstdint>
#include <optional>

#include "support/unique_fd.h"

namespace tiercel::testing {

class ReservedPort {
 public:
  ReservedPort() noexcept = default;

  // A port on which nobody listens and which nobody else has reserved. Aborts when there is none.
  static ReservedPort any();

  // This very port. Empty when it is reserved by another or in use.
  static std::optional<ReservedPort> try_reserve(std::uint16_t port);

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

 private:
  ReservedPort(std::uint16_t port, UniqueFd claim) noexcept
      : port_(port), claim_(std::move(claim)) {}

  std::uint16_t port_ = 0;
  UniqueFd claim_;
};

}  // namespace tiercel::testing
