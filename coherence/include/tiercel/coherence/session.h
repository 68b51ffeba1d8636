#pragma once

// Session: the coherence protocol of one instance, as a function of (state, event, now) to actions.
//
// It learns what happens to the two links (S, the subscribed stream, and D, the data connection),
// decides when to ping, when the lease holds, when an epoch ends, and what an invalidation message
// does to L1. It does no I/O, reads no clock, holds no lock and starts no thread: the cache runs it
// on the loop thread under real time, a simulator under its own. Events must come from one thread
// at a time, with a `now` that never goes back.
//
// Lease. F is the send time of the newest ping on S that was answered; the lease holds until F + Δ.
// Redis answers a connection in order, so the pong proves that everything published before the ping
// was processed has arrived. One ping is outstanding at a time, the next leaves Δ/5 after the last.
// A pong that comes late still counts from its send time, so it proves nothing it should not. A
// ping unanswered for stream_timeout makes the session redial S. While D is known to be on another
// server than S, nothing is granted.
//
// What this does not see (docs/design/overview.md): an old master that still answers after a
// promotion. The replicas' witness, a second proof beside the pong, closes that; F is then the
// oldest of the proofs.
//
// Epoch. It begins when S is up and ends when S is lost; its identity is the server's run id,
// replication id and a counter. A new epoch drops all of L1 and bars every fill under way. A mere
// lapse of the lease drops nothing: on an unbroken stream the next pong makes all entries good
// again.
//
// Messages. Until one has come that is as new as all that was filled before the first, it is not
// known that they go on in the history from which L1 was filled, so each change evicts, whatever
// version L1 has. Later, a change at a version not above the last one seen means that the history
// was reset (FLUSHALL, a clock set back): versions no longer order anything, so L1 is dropped. So
// it is for kinds that this release cannot apply key by key.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

struct SessionOptions {
  // Δ, how old an answer from L1 can be. 20 ms to 60 s. Less is fresher and costs more pings (5
  // each Δ) and more lapses on a slow network or a busy machine.
  Duration lease = std::chrono::milliseconds{500};
  // A ping unanswered for so long gives S up. Δ to 10 min. It should exceed the hiccups that are
  // normal (a slow script, a fork, CLIENT PAUSE): a redial costs the whole of L1.
  Duration stream_timeout = std::chrono::seconds{2};
};

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const SessionOptions& options);

// Who answered on a link before it was used.
struct Server {
  std::string name{};  // For people: "127.0.0.1:6379".
  std::string run_id{};
  std::string replication_id{};

  // The same process in the same life on the same branch of history, whatever its address is
  // called.
  [[nodiscard]] bool same_as(const Server& other) const {
    return run_id == other.run_id && replication_id == other.replication_id;
  }
};

enum class ChangeKind : std::uint8_t { kKeys, kAll, kNone };

// An invalidation message, decoded. kKeys: these keys changed at this version; kAll: anything may
// have changed (a clear, a tag, a message of a newer release); kNone: nothing that L1 holds.
struct Change {
  ChangeKind kind = ChangeKind::kNone;
  Version version = kVersionUnknown;
  std::vector<std::string> keys{};
};

// What the surroundings must do, in the order given.
struct Action {
  enum class Kind : std::uint8_t {
    kSendPing,      // `token` on S.
    kRedialStream,  // Close S and dial again; stream_down follows. `reason` is for the log.
    kDropAll,       // FillTable::mark_all, then clear L1. `reason` likewise.
    kEvict,  // FillTable::mark(key, version), then drop the key from L1 unless it is that new.
  };
  Kind kind = Kind::kDropAll;
  std::uint64_t token = 0;
  std::string reason{};
  std::string key{};
  Version version = kVersionUnknown;
};
using Actions = std::vector<Action>;

class Session {
 public:
  explicit Session(SessionOptions options);  // Validated ones.

  // Each appends what is to be done to `actions`, to be carried out before the next event is given.
  // When lease_until() falls, the surroundings must publish that before they carry the actions out.
  void stream_up(const Server& server, TimePoint now, Actions& actions);
  void stream_down(TimePoint now, Actions& actions);
  void data_up(const Server& server, TimePoint now, Actions& actions);
  void data_down(TimePoint now, Actions& actions);
  void pong(std::uint64_t token, TimePoint now, Actions& actions);
  void ping_refused(TimePoint now, Actions& actions);
  void message(Change change, TimePoint now, Actions& actions);
  void tick(TimePoint now, Actions& actions);

  // A value of this version is about to go into L1.
  void note_fill(Version version);

  // When tick() has something to do next; nothing while S is down.
  [[nodiscard]] std::optional<TimePoint> next_tick() const;

  // Until when L1 may answer; TimePoint{} when it may not.
  [[nodiscard]] TimePoint lease_until() const { return lease_until_; }

  // True while what D delivers now may be put into L1: S is up and both are on the same server.
  [[nodiscard]] bool fills_allowed() const;

  [[nodiscard]] bool stream_is_up() const { return stream_.has_value(); }
  // "RUNID:REPLID:COUNTER", the ids cut to 8 characters; empty while S is down.
  [[nodiscard]] std::string epoch() const;
  [[nodiscard]] std::string server_name() const;  // S's server; empty while S is down.
  [[nodiscard]] std::uint64_t epochs() const { return epochs_; }

 private:
  struct Ping {
    std::uint64_t token = 0;
    TimePoint sent_at;
  };

  [[nodiscard]] bool links_disagree() const;
  void forget_history(Version last_version);
  void send_ping(TimePoint now, Actions& actions);
  void redial(std::string reason, Actions& actions);

  const SessionOptions options_;
  std::optional<Server> stream_;
  std::optional<Server> data_;  // Where D is, or was last while this stream has been up.
  bool data_is_up_ = false;
  std::optional<Ping> outstanding_;  // The ping that waits for its pong.
  TimePoint next_ping_at_;           // Valid while stream_ is set.
  std::optional<TimePoint> disagree_since_;
  TimePoint lease_until_{};
  Version last_version_ = kVersionUnknown;  // Of the messages of this epoch.
  Version fill_max_ = kVersionUnknown;      // Of what went into L1 before the first of them.
  std::uint64_t last_token_ = 0;
  std::uint64_t epochs_ = 0;
  bool redialling_ = false;  // Asked for, stream_down not yet seen.
};

}  // namespace tiercel::coherence
