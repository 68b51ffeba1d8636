#pragma once

// SentinelEvent: what a Sentinel publishes, as far as a client of one master can use it. A function
// of channel and payload; does no I/O. The payloads are those of sentinel.c: "<old and new
// address>" of +switch-master, "<runid> <epoch>" of +vote-for-leader, and "<type> <name> <ip>
// <port> @ <master> <ip> <port>" of most others.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "tiercel/l2/options.h"

namespace tiercel::l2 {

struct SentinelEvent {
  enum class Kind : std::uint8_t {
    kSwitched,      // +switch-master: `old_master` is replaced by `endpoint`.
    kPromoted,      // +promoted-slave: the same, by the replica `endpoint`; earlier, by one only.
    kOrdered,       // +failover-state-wait-promotion: SLAVEOF NO ONE was sent to `endpoint`.
    kElected,       // +elected-leader: this Sentinel will fail our master over.
    kCandidacy,     // +try-failover: this Sentinel asks for the votes to fail our master over.
    kNewEpoch,      // +new-epoch: `epoch`. Not of one master.
    kVote,          // +vote-for-leader: for the Sentinel `run_id` in `epoch`. Not of one master.
    kAborted,       // -failover-abort-…: no promotion, after all.
    kOthersMoved,   // After kPromoted: the other replicas are told to follow it, or have been.
    kFailoverStep,  // Any other word of a failover of our master: +odown, +selected-slave, …
    kMasterBack,    // -sdown, -odown, +reboot of our master: worth dialling.
    kSentinelSeen,  // +sentinel: another Sentinel at `endpoint`, with `run_id`.
    kViewChanged,   // What the Sentinel says about our master may have changed: worth asking.
  };
  Kind kind;
  Endpoint endpoint{};
  Endpoint old_master{};
  std::uint64_t epoch = 0;
  std::string run_id{};
};

// What to subscribe to; the first alone is enough to follow a failover.
[[nodiscard]] std::span<const std::string_view> sentinel_channels() noexcept;

// Nothing for other channels, other masters, and what is not understood.
[[nodiscard]] std::optional<SentinelEvent> parse_sentinel_event(std::string_view channel,
                                                                std::string_view payload,
                                                                std::string_view master_name);

// A host that is not empty and a port from 1 to 65535.
[[nodiscard]] std::optional<Endpoint> parse_endpoint(std::string_view host, std::string_view port);

}  // namespace tiercel::l2
