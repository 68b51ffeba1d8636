#pragma once

// ReplicationInfo: what a server says of its place in replication (INFO replication).

#include <cstdint>
#include <string>
#include <vector>

#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {

struct ReplicationInfo {
  bool is_master = false;
  std::string replication_id{};         // master_replid
  std::string former_replication_id{};  // master_replid2; empty: it was never promoted.
  std::uint64_t offset = 0;             // A master's own, or what a replica has executed.
  bool is_linked = false;  // Of a replica: synchronised with its master, and in touch with it.
  // A master's that are online, as it names them: an IP address, or what the replica announces.
  std::vector<Endpoint> replicas{};
};

using ReplicationCallback = UniqueFunction<void(Result<ReplicationInfo>)>;

}  // namespace tiercel::l2
