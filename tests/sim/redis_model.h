#pragma once

// RedisServer: one Redis process as its clients, its replicas and the Sentinels see it.
//
//   redis_model.cc        the scripts' effects, reads, pub/sub, tracking, life and death
//   redis_replication.cc  roles, PSYNC, full resynchronisation, WAIT
//
// Its data are a Dataset at a place of the true history: the branch is what Redis calls a
// replication id. A command runs in one step. Messages go out in the step that publishes them;
// tracking messages of a change at the end of the turn, before the reply to the writer.

#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env.h"
#include "process.h"

namespace tiercel::sim {

enum class Status : std::uint8_t { kOk, kNothing, kReadonly, kLoading };

struct Reply {
  Status status = Status::kOk;
  int outcome = 0;  // Of begin_fill: 1 value, 2 yours, 3 someone else's.
  Stored stored{};
  Place place{};
  Version version = coherence::kVersionUnknown;
  std::string run_id{};
  coherence::ReplicationState replication{};
  std::vector<Message> history{};
  bool is_last = true;
  std::array<Version, kTagSlots> tags{};
  Version base = coherence::kVersionUnknown;
};

// What a subscriber hears beside the answers to its own requests.
struct Push {
  enum class Kind : std::uint8_t { kMessage, kTracked, kFlushed } kind = Kind::kMessage;
  Message message{};
  std::size_t key = 0;
};

class RedisServer {
 public:
  RedisServer(Env& env, std::size_t index);

  [[nodiscard]] Process& process() { return process_; }
  [[nodiscard]] const Process& process() const { return process_; }
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] const std::string& address() const { return address_; }
  void know(std::vector<RedisServer*> all) { all_ = std::move(all); }

  // --- Commands: each is one step on this process.

  [[nodiscard]] Reply identify() const;  // INFO: run id, role, replication ids, replicas.
  [[nodiscard]] Reply get(std::size_t key) const;
  Reply write(std::size_t key, std::uint32_t write, bool is_delete, std::uint64_t origin,
              std::uint64_t nonce, bool with_value);
  Reply invalidate_tag(std::size_t tag, std::uint32_t write, std::uint64_t origin,
                       std::uint64_t nonce);
  Reply clear(std::uint32_t write, std::uint64_t origin, std::uint64_t nonce);
  Reply begin_fill(std::size_t key, std::uint64_t token, Duration life, bool ignore_stored);
  Reply finish_fill(std::size_t key, std::uint64_t token, std::uint32_t write, Version begun_at,
                    bool ignored_stored, std::uint64_t origin, std::uint64_t nonce);
  Reply abandon_fill(std::size_t key, std::uint64_t token);
  [[nodiscard]] Reply history(Version from, std::size_t count) const;
  Reply tags();
  [[nodiscard]] Status ping() const { return is_loading() ? Status::kLoading : Status::kOk; }
  // The reply, `done`, comes after the tracking messages of its turn.
  void foreign_set(std::size_t key, std::uint32_t write);
  void foreign_delete(std::size_t key);
  void flush_all();

  void register_client(const ConnectionPtr& connection);
  using PushHandler = std::function<void(const Push&)>;
  void subscribe(const ConnectionPtr& connection, bool tracks, PushHandler handler);
  void kill_clients(bool subscribers_only);

  // --- Replication

  [[nodiscard]] bool is_master() const { return is_master_; }
  [[nodiscard]] int branch() const { return branch_; }
  [[nodiscard]] std::uint64_t offset() const { return offset_; }
  [[nodiscard]] const Dataset& data() const { return data_; }
  [[nodiscard]] bool is_loading() const { return env_.now() < loading_until_; }
  [[nodiscard]] std::size_t master_of_replica() const { return master_; }
  [[nodiscard]] bool is_link_up() const { return is_link_up_; }
  [[nodiscard]] TimePoint link_down_since() const { return link_down_since_; }
  // REPLICAOF NO ONE and REPLICAOF. Sentinel also kills the clients.
  void promote(Birth by, bool kill_clients);
  void replicate(std::size_t master, bool kill_clients);
  // Calls `done` with the number of replicas that have reached the offset, when that is `count`, or
  // at the deadline.
  void wait(std::uint64_t offset, std::size_t count, Duration timeout,
            std::function<void(std::size_t)> done);

  // --- Life

  void crash(bool with_its_host);
  // With data of the last snapshot, or none. As master or replica, as it was told last.
  void restart(bool from_snapshot);
  void take_snapshot();
  void set_clock_ahead(Duration by) { clock_offset_ += by; }
  void start();  // Its cron.

  std::function<void(RedisServer&)> on_promotion;  // For faults that wait for it.

 private:
  struct Client {
    ConnectionPtr connection{};
    bool is_subscribed = false;
    bool tracks = false;
    PushHandler handler{};
  };
  struct ReplicaLink {
    ConnectionPtr connection;
    std::size_t server = 0;
    std::uint64_t acknowledged = 0;
    bool is_online = false;
  };
  struct Waiter {
    std::uint64_t offset;
    std::size_t count;
    std::uint64_t id;
    std::function<void(std::size_t)> done;
  };
  struct Snapshot {
    Dataset data{};
    int branch = -1;
    std::uint64_t offset = 0;
  };

  [[nodiscard]] Duration wall_clock() const;
  [[nodiscard]] std::optional<Reply> refusal(bool is_write) const;
  Message next_message(coherence::ChangeKind kind, std::uint64_t origin, std::uint64_t nonce) const;
  Place run(Op op);              // On a master: the next of its branch.
  void follow_op(const Op& op);  // On a replica: the same.
  void publish(const Op& op);
  void push(const Push& what, bool to_trackers, Duration wait);
  void tell_checkers(const Op& op, Place place);

  void cron();
  void dial_master();
  void accept_replica(const ConnectionPtr& connection, RedisServer& replica, int branch,
                      std::uint64_t offset);
  void take_full(const ConnectionPtr& connection, const Dataset& data, int branch,
                 std::uint64_t offset);
  void take_partial(const ConnectionPtr& connection, int branch);
  void send_op(ReplicaLink& link, std::uint64_t offset);
  void replica_acknowledged(const ConnectionPtr& connection, std::uint64_t offset);
  void drop_replicas();
  void drop_master_link();
  void answer_waiters(bool all);
  [[nodiscard]] std::size_t replicas_at(std::uint64_t offset) const;

  Env& env_;
  const std::size_t index_;
  const std::string address_;
  Process process_;
  std::vector<RedisServer*> all_;

  std::string run_id_;
  Duration clock_offset_{};
  Dataset data_;
  int branch_ = -1;
  std::uint64_t offset_ = 0;
  int former_branch_ = -1;  // With its last offset that is ours, too.
  std::uint64_t former_offset_ = 0;
  std::uint64_t backlog_from_ = 0;  // Partial resynchronisation needs the offsets after it.
  bool is_master_ = true;
  std::size_t master_ = 0;
  TimePoint loading_until_{};
  Snapshot snapshot_;

  std::vector<Client> clients_;
  std::vector<std::unique_ptr<ReplicaLink>> replicas_;
  ConnectionPtr master_connection_;
  bool is_dialling_ = false;
  bool is_link_up_ = false;
  TimePoint master_heard_at_{};
  TimePoint link_down_since_{};
  std::deque<Waiter> waiters_;
  std::uint64_t waiters_begun_ = 0;
  std::uint64_t lives_ = 0;
};

}  // namespace tiercel::sim
