#pragma once

// ReplicaReader: reads from the replicas of a Client's master, for callers who accept answers that
// lag, with the lag known. Beside the Client, which stays the way to the master: for the writes,
// and for the reads that no replica may answer.
//
// What is known. Every `sample_interval` the master is asked for its replication offset and its
// replicas (INFO replication), and then each replica for its offset. A replica whose offset has
// reached what the master's was when we asked at time t has executed every write that the master
// had executed at t: so a read that is sent to it later misses none that was acknowledged before t.
// `behind_max` of an answer is the time from t to the sending of the read, on our own clock; no
// clock of another machine and no estimate is in it. In health it lies between one round trip and
// sample_interval plus one. It says "no more than": the replica may be much closer.
//
// How old that is: `sampled_ago` before the read was sent the replica was still a replica of this
// master, of the same history (replication id). One that was given another master since is noticed
// at the next sample; until then it could answer from a foreign data set. After a failover the
// replicas count again as soon as they follow the new master and the Client has found it.
//
// While the master is away nothing changes but that behind_max grows: replicas go on answering
// those who accept it. Offsets of the last 256 samples are remembered; further behind is not known.
//
// A read goes to one of the replicas whose behind_max is within `staleness_max`, in turn. A replica
// that is lost, loads, or answers MASTERDOWN hands its reads to the next one. When none is left:
// kReplicaPreferred asks the master, by the Client; kReplica fails.
//
// Answers: a reply, the server's own error replies included; kUnavailable: no replica (the text
// says why) or no reply in time; kOverloaded; kInvalidArgument: not Retry::kSafe; kClosed, also in
// a child of fork(), where closing does nothing.
//
//   auto replicas = ReplicaReader::open({.redis = options}, client, loop);
//   (*replicas)->read(Command{Retry::kSafe, {"GET", "k"}}, {.staleness_max = 500ms}, deadline,
//                     [](Result<ReplicaReply> answer) { … });

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/log.h"
#include "tiercel/base/result.h"
#include "tiercel/base/unique_function.h"
#include "tiercel/l2/client.h"
#include "tiercel/l2/command.h"
#include "tiercel/l2/event_loop.h"
#include "tiercel/l2/options.h"
#include "tiercel/l2/reply.h"

namespace tiercel::l2 {

enum class ReadFrom : std::uint8_t {
  kReplicaPreferred,  // The master answers where no replica may.
  kReplica,           // Never the master: it shall not be loaded.
};

struct ReplicaReadOptions {
  // The most that an answer may be behind the master. At least 1 ms; less than sample_interval
  // sends a part of the reads, or all, to the master.
  std::chrono::milliseconds staleness_max{1000};
  ReadFrom from = ReadFrom::kReplicaPreferred;
};

// What is known of a replica at one moment.
struct ReplicaLag {
  Duration behind_max{};    // It has every write that the master had executed this long ago.
  std::uint64_t bytes = 0;  // Of the replication stream, master to replica, when last sampled.
  Duration sampled_ago{};   // When the replica was last asked.
};

struct ReplicaReply {
  Reply reply{};
  Endpoint server{};  // Empty for the master's answers: Client knows.
  // At the sending of the read. Nothing: the master answered.
  std::optional<ReplicaLag> lag{};
};

struct ReplicaStatus {
  Endpoint endpoint{};
  std::optional<ReplicaLag> lag{};  // Nothing: it is read from in no case.
  std::optional<Error> trouble{};   // Why it cannot be asked.
};

struct ReplicaReaderConfig {
  // For the replicas: credentials, database, timeouts, backoff and queue_commands_max. Where the
  // master is stands here too, but only the Client uses it.
  RedisOptions redis{};
  std::chrono::milliseconds sample_interval{
      250};       // 10 ms to 1 min. Less: closer bounds, more load.
  LogSink log{};  // May be empty.
  const Clock* clock = &Clock::system();
  std::uint64_t seed = 0;  // For the backoff's jitter; 0: from entropy.
};

class ReplicaReader {
 public:
  static constexpr std::size_t kReplicasMax = 16;  // More are not dialled.

  using Callback = UniqueFunction<void(Result<ReplicaReply>)>;

  // Does not wait. `master` must outlive the reader, and the loop both; it may be the client's own
  // or another. Errors: kInvalidArgument, naming the option.
  static Result<std::unique_ptr<ReplicaReader>> open(ReplicaReaderConfig config, Client& master,
                                                     EventLoop& loop);
  ~ReplicaReader();  // close()
  ReplicaReader(const ReplicaReader&) = delete;
  ReplicaReader& operator=(const ReplicaReader&) = delete;

  // Any thread; does not block. The callback runs once, on the loop thread of the reader or, for
  // the master's answers, of the client; for kOverloaded, kInvalidArgument and kClosed at once on
  // this one. It must not block.
  void read(Command command, ReplicaReadOptions options, TimePoint deadline, Callback callback);

  // Any thread: a snapshot of the last sample, at most sample_interval old and then some.
  [[nodiscard]] std::vector<ReplicaStatus> replicas() const;

  // Not on the loop thread. Answers what waits with kClosed, but for what the master was asked: the
  // client answers that. Idempotent.
  void close();

 private:
  class Core;
  explicit ReplicaReader(std::shared_ptr<Core> core);
  std::shared_ptr<Core> core_;
};

}  // namespace tiercel::l2
