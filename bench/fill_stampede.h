#pragma once

// How often does a whole fleet load one cold key, and when has the last of those who wait for it
// been served? Processes of this program, many threads in each, all of which ask for the same key
// at the same moment. The loader sleeps. Times are of one clock, which all processes of the machine
// share.

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

struct StampedeSettings {
  std::size_t processes = 8;
  std::size_t threads = 64;  // Of each.
  std::chrono::milliseconds load_takes{200};
  std::uint32_t rounds = 10;  // Each with a new key.
};

struct StampedeRound {
  std::uint64_t loads = 0;   // Of the whole fleet.
  Duration asked_within{0};  // From the first to the last thread's call.
  // From the end of the load to the last answer: in the process that loaded, and in the others.
  Duration last_at_home{0};
  Duration last_abroad{0};

  [[nodiscard]] Duration last() const { return std::max(last_at_home, last_abroad); }
};

// With a server of its own. Errors: kInternal for an answer that is not the right one, and where a
// thread asked only when the load had ended.
Result<std::vector<StampedeRound>> run_stampede(const StampedeSettings& settings);

// What the first argument of a member's process is, and what it does with the others.
inline constexpr const char* kStampedeMember = "--stampede-member";
int run_stampede_member(const std::vector<std::string>& arguments);

}  // namespace tiercel::bench
