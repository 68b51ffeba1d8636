// tiercel: the command-line tool. Its one subcommand, `tiercel shell`, is a scriptable client:
//
//   $ printf 'set k v\nget k\n' | tiercel shell --url redis://127.0.0.1:6379
//   {"op":"set","key":"k","ok":true,"version":"1763714400000000"}
//   {"op":"get","key":"k","found":true,"value":"v","tier":"l1","version":"1763714400000000",…}
//
// Exit status: 0 after `quit` or the end of the input; 1 when input or output broke; 2 for wrong
// options, with one line on standard error that says which.

#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "shell/shell.h"
#include "shell/spdlog_sink.h"

namespace tiercel::shell {
namespace {

using std::chrono::milliseconds;

constexpr int kExitBroken = 1;
constexpr int kExitUsage = 2;
constexpr milliseconds kReadyWait{2000};

constexpr std::string_view kLanguage =
    "One command a line on standard input, one JSON object a line on standard output:\n"
    "  get K   try K   set K V [TTL_MS]   del K   mget K K …   lease   stats   sleep MS   quit\n"
    "Keys and values with bytes outside printable ASCII, spaces or quotes are written in hex,\n"
    "both ways: hex:666f6f";

struct ShellOptions {
  std::string url;
  std::string name_space = CacheOptions{}.name_space;
  std::int64_t lease_ms = CacheOptions{}.lease.count();
  std::int64_t l1_bytes = static_cast<std::int64_t>(CacheOptions{}.l1_capacity_bytes_max);
  std::optional<std::int64_t> ttl_ms;
  std::int64_t timeout_ms = CacheOptions{}.read_timeout.count();
  std::string log_level = "warn";
};

// What a script passes when its variable is not set must not silently become a cache without Redis.
std::string not_empty(std::string& url) {
  return url.empty() ? "the URL is empty; leave --url out for a cache that is L1 only" : "";
}

// The ranges are those of CacheOptions, so that the error names the option that was typed.
void add_shell_options(CLI::App& shell, ShellOptions& options) {
  const std::int64_t kib = 1024;
  shell
      .add_option("--url", options.url,
                  "redis://user:pass@host:port/db, redis+sentinel://h1:p1,h2:p2/master/db or "
                  "unix:///path; with TLS rediss://host?ca=FILE&cert=FILE&key=FILE or "
                  "rediss+sentinel://…; without it the cache is L1 only")
      ->check(CLI::Validator{not_empty, "TEXT"});
  shell.add_option("--namespace", options.name_space, "Shared by the instances of one cache")
      ->capture_default_str();
  shell.add_option("--lease-ms", options.lease_ms, "How stale L1 may be at the most")
      ->check(CLI::Range(std::int64_t{20}, std::int64_t{60'000}))
      ->capture_default_str();
  shell.add_option("--l1-bytes", options.l1_bytes, "What L1 may hold, all overhead included")
      ->check(CLI::Range(4 * kib, kib * kib * kib * kib))
      ->capture_default_str();
  shell.add_option("--ttl-ms", options.ttl_ms, "Life of what is set without a TTL of its own")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{kTtlMax.count()}));
  shell.add_option("--timeout-ms", options.timeout_ms, "How long a command may wait for Redis")
      ->check(CLI::Range(std::int64_t{1}, std::int64_t{kTimeoutMax.count()}))
      ->capture_default_str();
  shell.add_option("--log-level", options.log_level, "For the log on standard error")
      ->check(CLI::IsMember({"debug", "info", "warn", "error", "off"}))
      ->capture_default_str();
}

CacheOptions cache_options(const ShellOptions& given, LogSink log) {
  CacheOptions options{.name_space = given.name_space, .redis_url = given.url, .redis = {}};
  options.l1_capacity_bytes_max = static_cast<std::size_t>(given.l1_bytes);
  options.lease = milliseconds{given.lease_ms};
  options.stream_timeout = std::max(options.stream_timeout, options.lease);
  if (given.ttl_ms) options.ttl = milliseconds{*given.ttl_ms};
  options.read_timeout = options.write_timeout = milliseconds{given.timeout_ms};
  options.log = std::move(log);
  return options;
}

std::shared_ptr<spdlog::logger> make_logger(const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>("tiercel",
                                                 std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::from_str(level));
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
  return logger;
}

int run_shell(const ShellOptions& given) {
  const auto logger = make_logger(given.log_level);
  auto cache = Cache::open(cache_options(given, spdlog_sink(logger)));
  if (!cache) {
    std::fprintf(stderr, "tiercel shell: %s\n", cache.error().message.c_str());
    return kExitUsage;
  }
  // Not fatal: the commands say what is wrong, and it heals by itself.
  if (const auto ready = (*cache)->wait_until_ready(kReadyWait); !ready) {
    logger->warn("Redis is not ready: {}", ready.error().to_string());
  }
  LineReader input{STDIN_FILENO, kLineBytesMax};
  if (const auto done = run(**cache, input, stdout); !done) {
    std::fprintf(stderr, "tiercel shell: %s\n", done.error().message.c_str());
    return kExitBroken;
  }
  return 0;
}

int run_tool(int argument_count, char** arguments) {
  CLI::App app{"Tiercel, a coherent two-tier cache", "tiercel"};
  app.set_version_flag("--version", TIERCEL_VERSION);
  app.require_subcommand(1);
  CLI::App& shell = *app.add_subcommand("shell", "A scriptable client");
  shell.footer(std::string{kLanguage});
  ShellOptions options;
  add_shell_options(shell, options);
  try {
    app.parse(argument_count, arguments);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help and --version.
    std::fprintf(stderr, "tiercel: %s; see tiercel shell --help\n", error.what());
    return kExitUsage;
  }
  return run_shell(options);
}

}  // namespace
}  // namespace tiercel::shell

int main(int argument_count, char** arguments) {
  // A reader of our output that went away is an error of the next write, not our sudden death.
  std::signal(SIGPIPE, SIG_IGN);
  return tiercel::shell::run_tool(argument_count, arguments);
}
