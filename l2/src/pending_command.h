#pragma once

// PendingCommand: a command from its submission to its answer, with all that is needed to send it
// again.

#include <cstddef>
#include <cstdint>
#include <string>

#include "tiercel/base/clock.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/command.h"

namespace tiercel::l2 {

struct PendingCommand {
  std::string wire;                // RESP bytes; of a script, as EVALSHA.
  const Script* script = nullptr;  // Null for a plain command.
  std::size_t script_words = 0;    // Words of the whole request, EVALSHA included.
  std::size_t tail_offset = 0;     // In `wire`: what follows the script's name, the same for EVAL.
  bool is_whole_script = false;    // Send as EVAL: the server does not know the script.
  Retry retry = Retry::kIfNotSent;
  TimePoint deadline{};
  // Empty once answered. An answered command stays in flight, as a tombstone, until its late reply
  // has come, so that replies and commands stay in step.
  ReplyCallback callback;

  std::uint64_t sequence = 0;  // Order of submission.
  TimePoint sent_at{};
  std::size_t charged_bytes = 0;  // Against queue_bytes_max, until it leaves the queues.

  [[nodiscard]] bool is_answered() const noexcept { return !callback; }
};

}  // namespace tiercel::l2
