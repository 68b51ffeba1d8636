#pragma once

// FakeRedis: what the commands of a Redis server do, without sockets and without time of its own:
// the default answers of FakeServer. Enough of Redis 7 for what the library sends and its tests
// ask; the contract suite (tests/l2/contract_test.cc) holds it against the real one. Not
// thread-safe: FakeServer runs it on its thread.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "tiercel/base/clock.h"

namespace tiercel::testing {

class FakeRedis {
 public:
  using Words = std::vector<std::string>;

  // What the server knows of one connection.
  struct Session {
    int id = 0;
    std::string user = "default";
    bool is_authenticated = false;
    std::size_t database = 0;
    std::string name{};
    std::set<std::string> channels{};
    // CLIENT TRACKING ON REDIRECT <itself> BCAST PREFIX: no other form is known.
    std::optional<std::string> tracked_prefix{};
    bool is_told_to_quit = false;
  };

  // What commands do to other connections: FakeServer's part.
  class Connections {
   public:
    virtual ~Connections() = default;
    // To every session that is subscribed. How many there were.
    virtual std::size_t publish(const std::string& channel, const std::string& payload) = 0;
    // To every session that tracks any of these keys; of a flush: to all that track.
    virtual void invalidate(const std::vector<std::string>& keys, bool is_flush) = 0;
    // Closes those that `which` is true for, and says how many. One that kills itself gets its
    // answer first.
    virtual std::size_t kill(const std::function<bool(const Session&)>& which) = 0;
    virtual void pause_clients(std::chrono::milliseconds duration) = 0;
    [[nodiscard]] virtual std::vector<Session> sessions() const = 0;
  };

  struct Script {
    std::string sha1;  // 40 lower-case hex digits.
    // The answer's bytes (resp_text.h). May call execute() on the same session.
    std::function<std::string(FakeRedis&, Session&, const Words& keys, const Words& arguments)> run;
  };

  explicit FakeRedis(Connections& connections);

  static std::string upper(std::string_view text);  // ASCII.

  [[nodiscard]] Session begin_session(int id) const;
  // The answer's bytes; empty when there is none.
  std::string execute(Session& session, const Words& words);

  // Source text to what stands in for it: Lua is not run here. EVALSHA knows it after an EVAL or a
  // SCRIPT LOAD, until SCRIPT FLUSH.
  void add_script(const std::string& source, Script script) {
    scripts_[source] = std::move(script);
  }

  // Of the default user, for sessions to come; empty: none.
  void set_password(const std::string& password) { users_["default"].password = password; }
  // Every command is answered with this error, but those that a real server answers while it loads
  // or waits for its master (BUSY: only AUTH and the like). Empty: the end of it.
  void set_refusal(std::string error) { refusal_ = std::move(error); }
  // As REPLICAOF; an empty host is NO ONE.
  void set_master(const std::string& host, std::int64_t port);
  // Data, scripts and pub/sub gone, identity new: the process was killed and started again.
  void restart();

 private:
  struct Value {
    std::variant<std::string, std::vector<std::string>> data;
    std::optional<TimePoint> expires_at{};
  };
  struct User {
    std::optional<std::string> password{};  // Empty text or none: no password is asked for.
    bool is_enabled = true;
    bool may_use_channels = true;
    std::set<std::string> denied{};  // Upper-case names of commands.
  };
  struct Entry {
    int words_min;
    int words_max;  // 0: any number.
    bool writes;
    std::string (FakeRedis::*run)(Session&, const Words&);
  };
  static constexpr std::size_t kDatabases = 16;
  static const std::map<std::string, Entry, std::less<>>& table();

  [[nodiscard]] std::optional<std::string> refuse(const Session& session, const std::string& name,
                                                  bool writes) const;
  std::string run(const Entry& entry, Session& session, const Words& words);
  Value* find(Session& session, const std::string& key);
  std::string* find_string(Session& session, const std::string& key, bool& is_wrong_type);
  void put(Session& session, const std::string& key, std::string value,
           std::optional<TimePoint> expires_at = {});
  std::string add(Session& session, const std::string& key, std::int64_t delta);
  std::string run_script(Session& session, const std::string& source, const Words& words);

  // Keys and values.
  std::string ping(Session& session, const Words& words);
  std::string echo(Session& session, const Words& words);
  std::string get(Session& session, const Words& words);
  std::string set(Session& session, const Words& words);
  std::string del(Session& session, const Words& words);
  std::string exists(Session& session, const Words& words);
  std::string mget(Session& session, const Words& words);
  std::string mset(Session& session, const Words& words);
  std::string count(Session& session, const Words& words);
  std::string expire(Session& session, const Words& words);
  std::string ttl(Session& session, const Words& words);
  std::string rpush(Session& session, const Words& words);
  std::string lrange(Session& session, const Words& words);
  std::string llen(Session& session, const Words& words);
  std::string flush(Session& session, const Words& words);
  std::string dbsize(Session& session, const Words& words);
  // Scripts and messages.
  std::string eval(Session& session, const Words& words);
  std::string evalsha(Session& session, const Words& words);
  std::string script(Session& session, const Words& words);
  std::string publish(Session& session, const Words& words);
  std::string subscribe(Session& session, const Words& words);
  std::string unsubscribe(Session& session, const Words& words);
  // Connections and the server.
  std::string auth(Session& session, const Words& words);
  std::string acl(Session& session, const Words& words);
  std::string select(Session& session, const Words& words);
  std::string client(Session& session, const Words& words);
  std::string client_tracking(Session& session, const Words& words);
  std::string client_kill(Session& session, const Words& words);
  std::string config(Session& session, const Words& words);
  std::string role(Session& session, const Words& words);
  std::string info(Session& session, const Words& words);
  std::string replicaof(Session& session, const Words& words);
  std::string quit(Session& session, const Words& words);

  Connections& connections_;
  std::array<std::map<std::string, Value>, kDatabases> databases_;
  std::map<std::string, User> users_;
  std::map<std::string, Script> scripts_;  // By source.
  std::set<std::string> loaded_;           // Digests that EVALSHA knows.
  std::vector<std::string> changed_;       // Keys, by the command that runs.
  std::string refusal_;
  std::string run_id_;
  std::string replication_id_;
  std::string former_replication_id_;  // Zeros: none.
  std::uint64_t lives_ = 0;
  std::uint64_t promotions_ = 0;
  std::optional<std::pair<std::string, std::int64_t>> master_;  // Set: this is its replica.
};

}  // namespace tiercel::testing
