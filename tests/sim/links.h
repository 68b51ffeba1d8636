#pragma once

// Links: an instance's connections: D, S, and one to each server that its Session asks. A model of
// l2::Client as the cache uses it: who a server is is asked before a link is used; commands wait
// for D until their deadline; lost ones that are safe are sent again; links are dialled again with
// backoff, and leave a server that is not the master any more.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "env.h"
#include "master_finder.h"
#include "redis_model.h"

namespace tiercel::sim {

// On the instance's loop.
class LinkUser {
 public:
  virtual ~LinkUser() = default;
  virtual void data_up(const coherence::Server& server) = 0;
  virtual void data_down() = 0;
  virtual void stream_up(const coherence::Server& server) = 0;
  virtual void stream_down() = 0;
  virtual void stream_push(const Push& push) = 0;
};

class Links {
 public:
  using Command = std::function<Reply(RedisServer&)>;
  enum class Ending : std::uint8_t {
    kAnswered,
    kNotDone,  // Never sent.
    kUnknown,  // Sent, and no answer.
  };
  using Done = std::function<void(Ending, Reply)>;

  Links(Env& env, Process& process, std::vector<RedisServer*> servers, MasterFinder& finder,
        LinkUser& user);
  void start();

  [[nodiscard]] bool is_data_up() const { return data_.is_up; }
  [[nodiscard]] std::optional<std::size_t> stream_server() const {
    return stream_.is_up ? std::optional{stream_.server} : std::nullopt;
  }

  // A command on D. `is_safe`: it may be sent again. `waits_for`: the reply is held back until so
  // many replicas have it; their number is Reply::outcome.
  void submit(Command command, bool is_safe, Duration patience, Done done,
              std::size_t waits_for = 0);
  void ping(std::function<void(Status)> done);
  void ask_server(std::size_t server, Duration patience,
                  std::function<void(std::optional<Reply>)> done);
  void watch(const std::vector<std::size_t>& servers);  // Connections to others are closed.

  void redial_stream();  // stream_down comes at once.
  void leave_master();   // Likewise; D goes as soon as what is in flight is answered.
  void target_changed();

  // Faults.
  void break_stream(bool half_open);
  void break_data(bool half_open);

 private:
  struct Link {
    bool is_stream = false;
    ConnectionPtr connection;
    std::size_t server = 0;
    bool is_up = false;
    bool is_dialling = false;
    int attempts = 0;
    std::uint64_t attempt = 0;
  };
  struct Pending {
    Command command{};
    bool is_safe = false;
    bool is_sent = false;
    std::size_t waits_for = 0;
    Done done{};
  };
  struct Side {  // A connection to a candidate.
    ConnectionPtr connection;
    bool is_dialling = false;
    std::map<std::uint64_t, std::function<void(std::optional<Reply>)>> asked;
  };

  void dial(Link& link);
  void dial_later(Link& link);
  void shake_hands(Link& link, std::uint64_t attempt);
  void subscribe(Link& link, std::uint64_t attempt, const coherence::Server& server);
  void up(Link& link, const coherence::Server& server);
  void lose(Link& link);
  void send(std::uint64_t id);
  void send_waiting();
  void finish(std::uint64_t id, Ending ending, Reply reply);
  void dial_side(std::size_t server);
  void send_side(std::size_t server, std::uint64_t id);
  void lose_side(std::size_t server);

  Env& env_;
  Process& process_;
  const std::vector<RedisServer*> servers_;
  MasterFinder& finder_;
  LinkUser& user_;
  Link data_;
  Link stream_;
  std::map<std::uint64_t, Pending> pending_;
  std::map<std::size_t, Side> sides_;
  std::uint64_t last_id_ = 0;
  bool is_leaving_ = false;
};

}  // namespace tiercel::sim
