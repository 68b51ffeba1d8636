#include "replica_lag.h"

#include <utility>

#include "handshake.h"
#include "sentinel_event.h"
#include "server_text.h"
#include "tiercel/base/bytes.h"

namespace tiercel::l2 {
namespace {

// "ip=127.0.0.1,port=6380,state=online,offset=14,lag=0"
std::optional<Endpoint> parse_replica(std::string_view text) {
  std::string_view host;
  std::string_view port;
  std::string_view state;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const std::string_view pair = text.substr(0, comma);
    text.remove_prefix(comma == std::string_view::npos ? text.size() : comma + 1);
    const auto equals = pair.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view value = pair.substr(equals + 1);
    if (pair.starts_with("ip=")) host = value;
    if (pair.starts_with("port=")) port = value;
    if (pair.starts_with("state=")) state = value;
  }
  return state == "online" ? parse_endpoint(host, port) : std::nullopt;
}

bool names_a_replica(std::string_view field) {
  constexpr std::string_view kPrefix = "slave";
  return field.starts_with(kPrefix) && parse_u64(field.substr(kPrefix.size())).has_value();
}

}  // namespace

std::optional<ReplicationInfo> parse_replication_info(std::string_view text) {
  ReplicationInfo info;
  std::string_view role;
  std::optional<std::uint64_t> master_offset;
  std::optional<std::uint64_t> replica_offset;
  while (!text.empty()) {
    const auto end = text.find('\n');
    std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto colon = line.find(':');
    if (colon == std::string_view::npos) continue;
    const std::string_view field = line.substr(0, colon);
    const std::string_view value = line.substr(colon + 1);
    if (field == "role") role = value;
    if (field == "master_replid") info.replication_id = value;
    if (field == "master_link_status") info.is_linked = value == "up";
    // All zeros stand for none.
    if (field == "master_replid2" && value.find_first_not_of('0') != std::string_view::npos) {
      info.former_replication_id = value;
    }
    const auto number = parse_u64(value);
    if (field == "master_repl_offset" && number) master_offset = *number;
    if (field == "slave_repl_offset" && number) replica_offset = *number;
    if (!names_a_replica(field)) continue;
    if (auto replica = parse_replica(value)) info.replicas.push_back(std::move(*replica));
  }
  info.is_master = role == "master";
  const auto& offset = info.is_master ? master_offset : replica_offset;
  if ((!info.is_master && role != "slave") || info.replication_id.empty() || !offset) {
    return std::nullopt;
  }
  info.offset = *offset;
  return info;
}

Result<ReplicationInfo> take_replication_info(const ReplyView& reply,
                                              const Credentials& credentials,
                                              const Endpoint& server) {
  if (reply.is_error()) {
    if (auto why = explain_refusal("INFO", reply.text(), credentials)) {
      Error error = invalid_argument(std::move(*why));
      error.endpoint = server.to_string();
      return error;
    }
    return unavailable("INFO replication was answered with " + server_text(reply.text()),
                       server.to_string());
  }
  auto info = reply.is_string() ? parse_replication_info(reply.text()) : std::nullopt;
  if (!info) return unavailable("INFO replication makes no sense", server.to_string());
  return std::move(*info);
}

void OffsetHistory::add(const ReplicationInfo& master, TimePoint asked_at) {
  const bool continues = master.replication_id == replication_id_ &&
                         (samples_.empty() || samples_.back().offset <= master.offset);
  if (!continues) samples_.clear();
  replication_id_ = master.replication_id;
  if (samples_.size() == kSamplesMax) samples_.pop_front();
  samples_.push_back({asked_at, master.offset});
}

std::optional<TimePoint> OffsetHistory::caught_up_to(const ReplicationInfo& replica) const {
  if (replica.replication_id != replication_id_) return std::nullopt;
  for (auto sample = samples_.rbegin(); sample != samples_.rend(); ++sample) {
    if (sample->offset <= replica.offset) return sample->asked_at;
  }
  return std::nullopt;
}

std::uint64_t OffsetHistory::bytes_behind(const ReplicationInfo& replica) const {
  if (samples_.empty() || samples_.back().offset <= replica.offset) return 0;
  return samples_.back().offset - replica.offset;
}

}  // namespace tiercel::l2
