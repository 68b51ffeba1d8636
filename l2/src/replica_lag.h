#pragma once

// What INFO replication says, and how far behind a replica is by it. Functions of text and time; no
// I/O.

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <string_view>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/l2/options.h"
#include "tiercel/l2/replication.h"
#include "tiercel/l2/reply.h"

namespace tiercel::l2 {

// Nothing when role, replication id or offset are missing.
[[nodiscard]] std::optional<ReplicationInfo> parse_replication_info(std::string_view text);

// From the reply to it. Errors: kInvalidArgument: we are not permitted to ask, or not let in;
// kUnavailable, with what the server said, or that it makes no sense.
[[nodiscard]] Result<ReplicationInfo> take_replication_info(const ReplyView& reply,
                                                            const Credentials& credentials,
                                                            const Endpoint& server);

// The master's offsets, each with the time at which it was asked for.
class OffsetHistory {
 public:
  static constexpr std::size_t kSamplesMax = 256;

  void add(const ReplicationInfo& master, TimePoint asked_at);

  // The newest time at which the master had executed no more than the replica has now; nothing when
  // the histories differ, or the replica is further behind than we remember.
  [[nodiscard]] std::optional<TimePoint> caught_up_to(const ReplicationInfo& replica) const;
  // Bytes between the newest sample and the replica.
  [[nodiscard]] std::uint64_t bytes_behind(const ReplicationInfo& replica) const;

 private:
  struct Sample {
    TimePoint asked_at;
    std::uint64_t offset;
  };
  std::string replication_id_;  // Of all the samples.
  std::deque<Sample> samples_;  // Oldest first; the offsets do not fall.
};

}  // namespace tiercel::l2
