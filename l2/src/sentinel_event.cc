#include "sentinel_event.h"

#include <array>
#include <utility>

#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

using Kind = SentinelEvent::Kind;

constexpr std::string_view kSwitchMaster = "+switch-master";

struct Channel {
  std::string_view name;
  Kind kind;
};
constexpr std::array kChannels{
    Channel{kSwitchMaster, Kind::kSwitched},
    Channel{"+promoted-slave", Kind::kPromoted},
    Channel{"+failover-state-wait-promotion", Kind::kOrdered},
    Channel{"+elected-leader", Kind::kElected},
    Channel{"+try-failover", Kind::kCandidacy},
    Channel{"+new-epoch", Kind::kNewEpoch},
    Channel{"+vote-for-leader", Kind::kVote},
    Channel{"-failover-abort-slave-timeout", Kind::kAborted},
    Channel{"-failover-abort-no-good-slave", Kind::kAborted},
    Channel{"-failover-abort-not-elected", Kind::kAborted},
    Channel{"-failover-abort-x-sdown", Kind::kAborted},
    Channel{"+odown", Kind::kFailoverStep},
    Channel{"+selected-slave", Kind::kFailoverStep},
    Channel{"+failover-detected", Kind::kFailoverStep},
    Channel{"+failover-state-select-slave", Kind::kFailoverStep},
    Channel{"+failover-state-send-slaveof-noone", Kind::kFailoverStep},
    Channel{"+failover-state-reconf-slaves", Kind::kOthersMoved},
    Channel{"+failover-end", Kind::kOthersMoved},
    Channel{"+failover-end-for-timeout", Kind::kOthersMoved},
    Channel{"-sdown", Kind::kMasterBack},
    Channel{"-odown", Kind::kMasterBack},
    Channel{"+reboot", Kind::kMasterBack},
    Channel{"+sentinel", Kind::kSentinelSeen},
    Channel{"+sentinel-address-switch", Kind::kViewChanged},
    Channel{"+monitor", Kind::kViewChanged},
    Channel{"-monitor", Kind::kViewChanged},
    Channel{"+reset-master", Kind::kViewChanged},
    Channel{"-tilt", Kind::kViewChanged},
};

constexpr auto kNames = [] {
  std::array<std::string_view, kChannels.size()> names;
  for (std::size_t i = 0; i < names.size(); ++i) names[i] = kChannels[i].name;
  return names;
}();

// The word up to the next space, which is taken away with it.
std::string_view take_word(std::string_view& text) {
  const auto end = text.find(' ');
  const std::string_view word = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return word;
}

bool take_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

std::optional<Endpoint> take_endpoint(std::string_view& text) {
  const std::string_view host = take_word(text);
  return parse_endpoint(host, take_word(text));
}

// "<type> <name> <ip> <port>[ @ <master name> <ip> <port>][ more]"; a master has no '@' part. Its
// name, which stands in the configuration, may contain spaces.
struct Instance {
  std::string_view type;
  std::string_view name;
  Endpoint endpoint;
  Endpoint master;
};
std::optional<Instance> parse_instance(std::string_view text, std::string_view master_name) {
  Instance instance;
  instance.type = take_word(text);
  const bool is_master = instance.type == "master";
  if (is_master) {
    instance.name = master_name;
    if (!take_prefix(text, master_name) || !take_prefix(text, " ")) return std::nullopt;
  } else {
    instance.name = take_word(text);
  }
  auto endpoint = take_endpoint(text);
  if (!endpoint) return std::nullopt;
  instance.endpoint = std::move(*endpoint);
  if (is_master) return instance;
  if (!take_prefix(text, "@ ") || !take_prefix(text, master_name) || !take_prefix(text, " ")) {
    return std::nullopt;
  }
  auto master = take_endpoint(text);
  if (!master) return std::nullopt;
  instance.master = std::move(*master);
  return instance;
}

// "<master name> <old ip> <old port> <new ip> <new port>"
std::optional<SentinelEvent> parse_switch(std::string_view text, std::string_view master_name) {
  if (!take_prefix(text, master_name) || !take_prefix(text, " ")) return std::nullopt;
  auto from = take_endpoint(text);
  auto to = take_endpoint(text);
  if (!from || !to || !text.empty()) return std::nullopt;
  return SentinelEvent{
      .kind = Kind::kSwitched, .endpoint = std::move(*to), .old_master = std::move(*from)};
}

std::optional<SentinelEvent> parse_epoch(Kind kind, std::string_view text) {
  SentinelEvent event{.kind = kind};
  if (kind == Kind::kVote) {
    event.run_id = take_word(text);
    if (event.run_id.empty()) return std::nullopt;
  }
  const auto epoch = parse_u64(text);
  if (!epoch) return std::nullopt;
  event.epoch = *epoch;
  return event;
}

}  // namespace

std::span<const std::string_view> sentinel_channels() noexcept { return kNames; }

std::optional<Endpoint> parse_endpoint(std::string_view host, std::string_view port) {
  const auto number = parse_u64(port);
  if (host.empty() || !number || *number == 0 || *number > 65535) return std::nullopt;
  return Endpoint{std::string{host}, static_cast<std::uint16_t>(*number), {}};
}

std::optional<SentinelEvent> parse_sentinel_event(std::string_view channel,
                                                  std::string_view payload,
                                                  std::string_view master_name) {
  const Channel* known = nullptr;
  for (const Channel& candidate : kChannels) {
    if (candidate.name == channel) known = &candidate;
  }
  if (known == nullptr) return std::nullopt;
  switch (known->kind) {
    case Kind::kSwitched: return parse_switch(payload, master_name);
    case Kind::kNewEpoch:
    case Kind::kVote: return parse_epoch(known->kind, payload);
    case Kind::kViewChanged: return SentinelEvent{.kind = known->kind};
    default: break;
  }
  auto instance = parse_instance(payload, master_name);
  if (!instance) return std::nullopt;
  std::string_view type = "master";
  if (known->kind == Kind::kPromoted || known->kind == Kind::kOrdered) type = "slave";
  if (known->kind == Kind::kSentinelSeen) type = "sentinel";
  // Steps, and aborts, before the choice of the replica name the master, those after it the
  // replica.
  const bool is_of_either = known->kind == Kind::kAborted || known->kind == Kind::kFailoverStep ||
                            known->kind == Kind::kOthersMoved;
  if (instance->type != type && !(is_of_either && instance->type != "sentinel")) {
    return std::nullopt;
  }
  SentinelEvent event{.kind = known->kind,
                      .endpoint = std::move(instance->endpoint),
                      .old_master = std::move(instance->master)};
  if (known->kind == Kind::kSentinelSeen) event.run_id = instance->name;
  return event;
}

}  // namespace tiercel::l2
