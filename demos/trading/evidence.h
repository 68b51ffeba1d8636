#pragma once

// Evidence: on which revisions of the rules each gateway accepted orders, until when, and whether
// that is what the writes promised. Pure.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "trading/desk.h"

namespace tiercel::trading {

// The orders that one gateway accepted on one revision of one rule.
struct Accepted {
  Rule rule = 0;
  Revision revision = 0;
  std::uint64_t orders = 0;
  TimePoint last_at{};  // When the gateway began to check the last of them.
};
[[nodiscard]] std::string to_line(const Accepted& accepted);
// Errors: kProtocol.
Result<Accepted> parse_accepted(const std::string& line);

// A rule was changed, and the write acknowledged.
struct Superseded {
  Rule rule = 0;
  Revision revision = 0;  // That which is not to be acted on any more.
  TimePoint acknowledged_at{};
  bool is_fenced = false;
};

// How long after the acknowledgement the last order was accepted on the old revision; negative:
// before it. Of the gateway that was latest; nothing where none accepted any.
struct Finding {
  std::uint64_t orders = 0;
  std::optional<Duration> last_after{};
  // Not after a fenced write, and not longer than the lease after another.
  bool is_as_promised = true;
};
[[nodiscard]] Finding examine(const Superseded& superseded, std::span<const Accepted> accepted,
                              Duration lease);

}  // namespace tiercel::trading
