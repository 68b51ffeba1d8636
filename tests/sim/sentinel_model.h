#pragma once

// SentinelModel: one Sentinel. It sees servers down, agrees with others, is voted for or votes,
// promotes, announces late, demotes zombies late, repairs what replicates from the wrong server,
// and does nothing in TILT. Pings and INFO are not sent one by one: at each tick it is looked at
// whether they would be answered. Orders, votes and hellos travel.
//
// After redis/src/sentinel.c 7.0: what the periods mean, when a configuration wins (the higher
// epoch), and that an order of promotion is given 0.85 s before its giver can know that it was
// carried out.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "env.h"
#include "process.h"
#include "redis_model.h"

namespace tiercel::sim {

// What a Sentinel publishes for clients.
struct SentinelEvent {
  enum class Kind : std::uint8_t {
    kObjectivelyDown,
    kTry,    // +try-failover, +new-epoch
    kVote,   // +vote-for-leader LEADER EPOCH
    kOrder,  // +failover-state-wait-promotion: the replica `server` was told to be master
    kAborted,
    kPromoted,  // +promoted-slave
    kSwitch,    // +switch-master
  };
  Kind kind = Kind::kTry;
  std::size_t sentinel = 0;
  std::uint64_t epoch = 0;
  std::size_t leader = 0;
  std::size_t server = 0;         // Named: ordered, promoted, or the new master.
  std::size_t former_master = 0;  // Of a switch.
};

// What it answers when it is asked.
struct SentinelAnswer {
  std::size_t sentinel = 0;
  std::size_t master = 0;         // Whom it names.
  std::size_t lists_all_but = 0;  // Whose replicas it lists: all the others.
  std::uint64_t config_epoch = 0;
  std::uint64_t published = 0;  // So many events, until now.
  bool is_tilted = false;
  bool is_failing_over = false;   // o_down or failover_in_progress.
  std::vector<bool> sees_down{};  // Each server: s_down or disconnected.
};

class SentinelModel {
 public:
  SentinelModel(Env& env, std::size_t index, std::vector<RedisServer*> servers);
  void know(std::vector<SentinelModel*> all) { all_ = std::move(all); }
  void start() { tick(); }

  [[nodiscard]] Process& process() { return process_; }
  [[nodiscard]] std::size_t index() const { return index_; }
  [[nodiscard]] SentinelAnswer answer() const;
  [[nodiscard]] std::size_t master() const { return master_; }
  [[nodiscard]] bool is_failing_over_to(std::size_t server) const {
    return state_ == State::kWaiting && target_ == server;
  }

  // Faults and orders.
  void tilt(Duration length);
  void fail_over_by_hand();  // SENTINEL FAILOVER
  void crash();
  void restart();  // Its configuration file has survived.

  // Who hears the events; called at the Sentinel, to be sent on.
  std::function<void(const SentinelEvent&)> on_event;

 private:
  enum class State : std::uint8_t { kIdle, kVoting, kOrdering, kWaiting, kReconfiguring };
  struct Seen {
    TimePoint answered_at{};
    TimePoint info_at{};
    bool is_master = false;
    std::size_t master_of = 0;
    bool is_link_up = false;
    TimePoint link_down_since{};
    std::uint64_t offset = 0;
    TimePoint same_role_since{};
  };

  void tick();
  void look_at_servers();
  void read_info(std::size_t server);
  [[nodiscard]] bool sees_down(std::size_t server) const;
  [[nodiscard]] bool is_objectively_down() const;
  [[nodiscard]] std::size_t quorum() const { return all_.size() / 2 + 1; }
  void act();
  void begin_failover(bool by_hand);
  void ask_for_votes();
  std::size_t vote(std::uint64_t epoch, std::size_t candidate);
  [[nodiscard]] std::optional<std::size_t> choose_replica() const;
  void order_promotion();
  void await_promotion();
  void abort();
  void finish_failover();
  void repair();
  void order_replication(std::size_t server, std::size_t master);
  void say_hello();
  void hear_hello(std::uint64_t current_epoch, std::uint64_t config_epoch, std::size_t master);
  void adopt(std::uint64_t config_epoch, std::size_t master);
  void emit(SentinelEvent event);
  [[nodiscard]] std::string name(std::size_t server) const {
    return servers_[server]->process().name();
  }

  Env& env_;
  const std::size_t index_;
  Process process_;
  std::vector<RedisServer*> servers_;
  std::vector<SentinelModel*> all_;
  std::vector<Seen> seen_;

  std::size_t master_ = 0;
  std::uint64_t config_epoch_ = 0;
  std::uint64_t current_epoch_ = 0;
  std::uint64_t voted_epoch_ = 0;
  std::size_t voted_for_ = 0;
  TimePoint config_since_{};
  TimePoint down_since_{};
  TimePoint no_failover_before_{};
  TimePoint tilted_until_{};
  TimePoint hello_at_{};
  std::uint64_t published_ = 0;
  bool was_objectively_down_ = false;

  State state_ = State::kIdle;
  std::uint64_t failover_epoch_ = 0;
  TimePoint state_since_{};
  bool by_hand_ = false;
  std::vector<bool> votes_;
  std::size_t target_ = 0;
  TimePoint finish_at_{};
};

}  // namespace tiercel::sim
