#pragma once

// Real Redis servers and Sentinels for tests and demos: started on free loopback ports, in a
// temporary folder, and gone with the process that started them, also when that is killed with
// SIGKILL.
//
//   auto server = RedisServer::start();            // Aborts on failure: a test cannot go on
//   client.connect(server->endpoint());            // without it.
//
// They listen on 127.0.0.1 and on a Unix socket in their folder, and nowhere else; they save
// nothing to disk. The folder is made in $TMPDIR, or /tmp; with TIERCEL_KEEP_TEMP=1 in the
// environment it stays, for its redis.log. Needs the binary redis-server on PATH (Debian:
// redis-server), which is Sentinel too.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace tiercel::testing {

// The port, then, speaks nothing but TLS; the Unix socket stays plain. So do the links between
// servers and Sentinels: they show the same certificate and check by the same CA, not the names.
struct RedisTls {
  std::string ca_file{};
  std::string certificate_file{};
  std::string key_file{};
  std::string client_certificates = "no";  // Wanted: "yes", "no" or "optional".
};

struct RedisServerOptions {
  std::vector<std::string> arguments{};  // e.g. {"--requirepass", "secret"}
  std::uint16_t port = 0;                // 0: a free one.
  std::string folder{};  // Empty: a fresh temporary one. Else it must exist; it stays.
  std::optional<RedisTls> tls{};

  // A Sentinel instead of a server. `config` are lines of its configuration file, which the first
  // start writes; `arguments` is not used then.
  bool sentinel = false;
  std::vector<std::string> config{};
  // Sent after each start, when it answers. Each must be answered without an error.
  std::vector<std::vector<std::string>> startup_commands{};
};

// One redis-server process. Not thread-safe: one owner.
class RedisServer {
 public:
  // Whether redis-server is there. start() aborts without it; a program may want to say it nicely.
  [[nodiscard]] static bool available();
  // "redis-server was not found …: install the Debian package redis-server".
  [[nodiscard]] static std::string unavailable_message();

  // Returns when it answers PING, within 30 s; aborts with the end of its log otherwise.
  static std::unique_ptr<RedisServer> start(RedisServerOptions options = {});
  ~RedisServer();  // SIGKILL, reap, remove the folder if it was ours.

  [[nodiscard]] std::uint16_t port() const noexcept;
  [[nodiscard]] std::string endpoint() const;   // "127.0.0.1:PORT"
  [[nodiscard]] std::string url() const;        // "redis://127.0.0.1:PORT", rediss with TLS
  [[nodiscard]] std::string unix_path() const;  // Its Unix socket.
  [[nodiscard]] std::string folder() const;
  [[nodiscard]] int pid() const noexcept;  // 0 while it is not running.

  void kill();  // SIGKILL and reap. The port stays ours.
  // SIGSTOP; returns when it stands still. Can be killed and destroyed all the same.
  void stop_process();
  void continue_process();  // SIGCONT
  // Kills it if it runs, then starts it on the same port and in the same folder; waits until it
  // answers PING. `arguments` are added to the options', for this run only.
  void restart(std::vector<std::string> arguments = {});

  // Runs one command over a connection of its own and returns the reply as redis-cli would print it
  // raw: bulk strings as they are, integers in decimal, nil as "(nil)", errors with their "-",
  // arrays one element a line. Waits up to 10 s. "-UNREACHABLE …" when no reply came.
  std::string command(const std::vector<std::string>& words, const std::string& password = {});

  // How often it has carried out a command, by its lower-case name, in scripts too.
  int calls_of(const std::string& name);

  // The last lines of its log and of its standard output and error.
  [[nodiscard]] std::string log_tail() const;

 private:
  struct State;
  explicit RedisServer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

struct SentinelSetupOptions {
  int replicas = 2;
  int sentinels = 3;
  std::string master_name = "mymaster";
  std::chrono::milliseconds down_after{500};
  std::chrono::milliseconds failover_timeout{3000};
  // Faster Sentinel periods (SENTINEL DEBUG) and no TILT on a loaded machine, for tests.
  bool fast_periods = true;
  // For each server. No passwords: the setup itself talks to the servers without one.
  std::vector<std::string> server_arguments{};
  std::optional<RedisTls> tls{};  // For servers and Sentinels.
  // Replicas and Sentinels, and so the clients that ask these, reach the first master through
  // master_proxy() alone: faulty, it cuts the master off from all of them, while those who know its
  // own port still reach it.
  bool master_behind_proxy = false;
};

class TcpProxy;

// A master, replicas and Sentinels, wired and in health: every Sentinel knows every replica and
// each other. Not thread-safe: one owner.
class SentinelSetup {
 public:
  // Returns when all is in health, within 60 s; aborts, saying what is not, otherwise.
  static std::unique_ptr<SentinelSetup> start(SentinelSetupOptions options = {});
  ~SentinelSetup();

  [[nodiscard]] std::string url() const;  // "redis+sentinel://127.0.0.1:P1,…/mymaster", or rediss+…
  [[nodiscard]] std::vector<std::uint16_t> sentinel_ports() const;
  [[nodiscard]] std::string master_name() const;

  // The server processes; index 0 was the first master. Stable for the life of the setup.
  [[nodiscard]] std::size_t server_count() const noexcept;
  [[nodiscard]] RedisServer& server(std::size_t index);
  // Only with master_behind_proxy.
  [[nodiscard]] TcpProxy& master_proxy();
  [[nodiscard]] std::size_t sentinel_count() const noexcept;
  [[nodiscard]] RedisServer& sentinel(std::size_t index);

  // Which server says `role: master` and is named by a majority of the Sentinels; -1 if none at
  // this moment. Takes up to a second for each process that is stopped.
  [[nodiscard]] int master_index();
  // Polls until master_index() is >= 0 and not `old`; -1 at the limit.
  int wait_for_new_master(int old, std::chrono::milliseconds limit = std::chrono::seconds{60});
  // Brings a killed server back as a replica of the present master, which it waits for. Returns
  // when its link to the master is up; aborts when that takes over 60 s.
  void restart_as_replica(std::size_t index);

 private:
  struct State;
  explicit SentinelSetup(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace tiercel::testing
