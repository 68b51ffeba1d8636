// Invariants
// - A folder of ours always has exactly one guardian that will remove it: a new process is started
//   before the old one's guardian is told to keep the folder.
// - Health is asked over the Unix socket in the folder, never over the port: another program's
//   server can answer there. Redis binds its port first, so a PONG proves both.

#include "support/redis_server.h"

#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <string_view>
#include <thread>
#include <utility>

#include "support/blocking_redis.h"
#include "support/guarded_process.h"
#include "support/poll_until.h"
#include "support/reserved_port.h"

namespace tiercel::testing {

namespace {

constexpr const char* kBinary = "redis-server";
constexpr int kStartTriesMax = 20;
constexpr Duration kStartLimit = std::chrono::seconds{30};
constexpr Duration kRetryPause = std::chrono::milliseconds{100};
constexpr Duration kHealthLimit = std::chrono::seconds{1};  // For one question; it is asked again.
constexpr std::size_t kLogTailBytes = 4096;
constexpr std::size_t kFolderBytesMax = 80;  // A Unix socket's path has 107 bytes.

bool keep_temporary_folders() {
  const char* value = std::getenv("TIERCEL_KEEP_TEMP");
  return value != nullptr && std::string_view{value} == "1";
}

std::string make_temporary_folder() {
  const char* variable = std::getenv("TMPDIR");
  std::string root = variable != nullptr && *variable == '/' ? variable : "/tmp";
  if (root.size() > kFolderBytesMax) root = "/tmp";
  std::string path = root + "/" + kTemporaryPrefix + "XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) fail(errno_message(("mkdtemp " + path).c_str()));
  if (keep_temporary_folders()) {
    std::fprintf(stderr, "tiercel test support: keeping %s\n", path.c_str());
  }
  return path;
}

std::string read_from(const std::string& path, std::uintmax_t offset) {
  std::ifstream file{path, std::ios::binary};
  file.seekg(static_cast<std::streamoff>(offset));
  std::ostringstream text;
  text << file.rdbuf();
  return std::move(text).str();
}

std::uintmax_t size_of(const std::string& path) {
  std::error_code ignored;
  const auto size = std::filesystem::file_size(path, ignored);
  return ignored ? 0 : size;
}

std::string tail_of(const std::string& path) {
  const auto size = size_of(path);
  return read_from(path, size > kLogTailBytes ? size - kLogTailBytes : 0);
}

}  // namespace

struct RedisServer::State {
  RedisServerOptions options;
  std::string folder;
  bool folder_is_ours = false;
  ReservedPort reservation;
  std::uint16_t port = 0;
  std::unique_ptr<GuardedProcess> process;

  [[nodiscard]] std::string file(const char* name) const { return folder + "/" + name; }
  [[nodiscard]] std::string unix_path() const { return file("redis.sock"); }

  [[nodiscard]] std::vector<std::pair<std::string, std::string>> port_settings() const;
  void write_sentinel_config() const;
  [[nodiscard]] std::vector<std::string> command_line(
      const std::vector<std::string>& extra_arguments) const;
  bool try_start(const std::vector<std::string>& extra_arguments);
  bool answers(TimePoint deadline) const;
  void run_startup_commands() const;
  [[nodiscard]] std::string log_tail() const;
};

// Pairs of a setting and its value, for the command line and a configuration file alike.
std::vector<std::pair<std::string, std::string>> RedisServer::State::port_settings() const {
  if (!options.tls) return {{"port", std::to_string(port)}};
  return {{"port", "0"},
          {"tls-port", std::to_string(port)},
          {"tls-ca-cert-file", options.tls->ca_file},
          {"tls-cert-file", options.tls->certificate_file},
          {"tls-key-file", options.tls->key_file},
          {"tls-auth-clients", options.tls->client_certificates},
          {"tls-replication", "yes"}};
}

void RedisServer::State::write_sentinel_config() const {
  std::ofstream out{file("sentinel.conf"), std::ios::trunc};
  for (const auto& [setting, value] : port_settings()) out << setting << ' ' << value << '\n';
  out << "bind 127.0.0.1\nunixsocket \"" << unix_path() << "\"\ndir \"" << folder
      << "\"\nlogfile \"" << file("redis.log") << "\"\ndaemonize no\n"
      << "enable-debug-command yes\nsentinel resolve-hostnames no\n";
  for (const std::string& line : options.config) out << line << '\n';
  out.close();
  if (!out) fail("cannot write " + file("sentinel.conf"));
}

std::vector<std::string> RedisServer::State::command_line(
    const std::vector<std::string>& extra_arguments) const {
  if (options.sentinel) return {kBinary, file("sentinel.conf"), "--sentinel"};
  std::vector<std::string> words{kBinary,
                                 "--bind",
                                 "127.0.0.1",
                                 "--unixsocket",
                                 unix_path(),
                                 "--dir",
                                 folder,
                                 "--logfile",
                                 file("redis.log"),
                                 "--daemonize",
                                 "no",
                                 "--save",
                                 "",
                                 "--appendonly",
                                 "no",
                                 "--enable-debug-command",
                                 "yes",
                                 "--repl-diskless-sync-delay",
                                 "0"};
  for (const auto& [setting, value] : port_settings()) {
    words.insert(words.end(), {"--" + setting, value});
  }
  words.insert(words.end(), options.arguments.begin(), options.arguments.end());
  words.insert(words.end(), extra_arguments.begin(), extra_arguments.end());
  return words;
}

// False when the port turned out to be taken. Aborts on every other failure.
bool RedisServer::State::try_start(const std::vector<std::string>& extra_arguments) {
  const std::uintmax_t log_begin = size_of(file("redis.log"));
  const bool remove = folder_is_ours && !keep_temporary_folders();
  auto started = GuardedProcess::start({.command = command_line(extra_arguments),
                                        .folder_to_remove = remove ? folder : "",
                                        .output_path = file("output.log")});
  if (!started) fail(started.error().to_string());
  if (process) process->keep_folder();
  process = std::move(*started);

  const TimePoint deadline = Clock::system().now() + kStartLimit;
  if (answers(deadline)) return true;
  if (const auto status = process->exit_status()) {
    if (read_from(file("redis.log"), log_begin).find("Failed listening on port") !=
        std::string::npos) {
      return false;
    }
    fail("redis-server ended at its start, exit code " + std::to_string(status->code) +
         ", signal " + std::to_string(status->signal) + "\n" + log_tail());
  }
  fail("redis-server on port " + std::to_string(port) + " did not answer within 30 s\n" +
       log_tail());
}

// Any answer but "not loaded yet" is health: with a password set PING gets -NOAUTH.
bool RedisServer::State::answers(TimePoint deadline) const {
  const auto healthy = [&] {
    auto redis = BlockingRedis::connect_unix(unix_path(), kHealthLimit);
    if (!redis) return false;
    const auto reply = redis->command({"PING"}, kHealthLimit);
    return reply.has_value() && !reply->text.starts_with("-LOADING");
  };
  bool answered = false;
  (void)poll_until(
      [&] {
        answered = healthy();
        return answered || process->exit_status().has_value();
      },
      deadline - Clock::system().now());
  return answered;
}

void RedisServer::State::run_startup_commands() const {
  for (const auto& words : options.startup_commands) {
    auto redis = BlockingRedis::connect_unix(unix_path());
    if (!redis) fail(redis.error().to_string());
    const auto reply = redis->command(words);
    if (!reply) fail(reply.error().to_string());
    if (reply->is_error()) fail("startup command " + words.front() + ": " + reply->text);
  }
}

std::string RedisServer::State::log_tail() const {
  return "-- " + file("redis.log") + "\n" + tail_of(file("redis.log")) + "-- " +
         file("output.log") + "\n" + tail_of(file("output.log"));
}

bool RedisServer::available() {
  const char* variable = std::getenv("PATH");
  std::istringstream folders{variable != nullptr ? variable : ""};
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (::access((folder + "/" + kBinary).c_str(), X_OK) == 0) return true;
  }
  return false;
}

std::string RedisServer::unavailable_message() {
  return "redis-server was not found on PATH: install the Debian package redis-server "
         "(apt-get install redis-server)";
}

std::unique_ptr<RedisServer> RedisServer::start(RedisServerOptions options) {
  if (!available()) fail(unavailable_message());
  auto state = std::make_unique<State>();
  state->options = std::move(options);
  state->folder_is_ours = state->options.folder.empty();
  state->folder = state->folder_is_ours ? make_temporary_folder() : state->options.folder;
  const bool any_port = state->options.port == 0;
  for (int tries = 0; tries < kStartTriesMax; ++tries) {
    if (any_port) {
      state->reservation = ReservedPort::any();
      state->port = state->reservation.port();
    } else {
      // Without a reservation it is tried all the same: the server itself will tell.
      if (auto reserved = ReservedPort::try_reserve(state->options.port)) {
        state->reservation = std::move(*reserved);
      }
      state->port = state->options.port;
    }
    if (state->options.sentinel) state->write_sentinel_config();
    if (state->try_start({})) {
      state->run_startup_commands();
      return std::unique_ptr<RedisServer>{new RedisServer{std::move(state)}};
    }
    if (!any_port) std::this_thread::sleep_for(kRetryPause);
  }
  fail("found no port to listen on\n" + state->log_tail());
}

RedisServer::RedisServer(std::unique_ptr<State> state) : state_(std::move(state)) {}
RedisServer::~RedisServer() = default;

std::uint16_t RedisServer::port() const noexcept { return state_->port; }
std::string RedisServer::endpoint() const { return "127.0.0.1:" + std::to_string(state_->port); }
std::string RedisServer::url() const {
  return (state_->options.tls ? "rediss://" : "redis://") + endpoint();
}
std::string RedisServer::unix_path() const { return state_->unix_path(); }
std::string RedisServer::folder() const { return state_->folder; }
int RedisServer::pid() const noexcept { return state_->process->pid(); }
std::string RedisServer::log_tail() const { return state_->log_tail(); }

void RedisServer::kill() { state_->process->signal(SIGKILL); }
void RedisServer::stop_process() { state_->process->signal(SIGSTOP); }
void RedisServer::continue_process() { state_->process->signal(SIGCONT); }

void RedisServer::restart(std::vector<std::string> arguments) {
  kill();
  for (int tries = 0; tries < kStartTriesMax; ++tries) {
    if (state_->try_start(arguments)) {
      state_->run_startup_commands();
      return;
    }
    std::this_thread::sleep_for(kRetryPause);
  }
  fail("port " + std::to_string(state_->port) + " was taken by another program\n" +
       state_->log_tail());
}

int RedisServer::calls_of(const std::string& name) {
  const std::string stats = command({"INFO", "commandstats"});
  const std::string field = "cmdstat_" + name + ":calls=";
  const std::size_t at = stats.find(field);
  return at == std::string::npos ? 0 : std::stoi(stats.substr(at + field.size()));
}

std::string RedisServer::command(const std::vector<std::string>& words,
                                 const std::string& password) {
  const auto unreachable = [](const Error& error) { return "-UNREACHABLE " + error.to_string(); };
  auto redis = BlockingRedis::connect_unix(state_->unix_path());
  if (!redis) return unreachable(redis.error());
  if (!password.empty()) {
    const auto reply = redis->command({"AUTH", password});
    if (!reply) return unreachable(reply.error());
    if (reply->is_error()) return reply->text;
  }
  const auto reply = redis->command(words);
  return reply ? reply->to_text() : unreachable(reply.error());
}

}  // namespace tiercel::testing
