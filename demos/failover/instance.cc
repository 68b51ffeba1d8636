#include "failover/instance.h"

#include <fmt/format.h>
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <thread>
#include <vector>

#include "failover/board.h"
#include "failover/reader.h"
#include "failover/writer.h"
#include "tiercel/base/bytes.h"

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;

constexpr auto kReadyMax = 30s;
constexpr auto kLook = 20ms;
// A server that must answer would not wait for a second.
constexpr auto kReadTimeout = 250ms;

LogSink log_sink(std::uint32_t number) {
  auto logger = spdlog::stderr_color_mt("instance " + std::to_string(number));
  logger->set_level(spdlog::level::debug);
  return [logger](LogLevel level, std::string_view message) {
    constexpr spdlog::level::level_enum kLevels[] = {spdlog::level::debug, spdlog::level::info,
                                                     spdlog::level::warn, spdlog::level::err};
    logger->log(kLevels[static_cast<std::size_t>(level)], message);
  };
}

CacheOptions cache_options(const BoardConfig& config, std::uint32_t number) {
  const std::chrono::milliseconds lease{config.lease_ms};
  return CacheOptions{.name_space = kNamespace,
                      .redis_url = config.redis_url.data(),
                      .lease = lease,
                      .stream_timeout = std::max<std::chrono::milliseconds>(2s, lease),
                      .ttl = std::nullopt,  // An expired entry would look like a lost one.
                      .read_timeout = kReadTimeout,
                      .history_entries = config.history_entries,
                      .log = config.verbose ? log_sink(number) : LogSink{}};
}

int complain(std::uint32_t number, const Error& error) {
  fmt::print(stderr, "instance {}: {}\n", number, error.to_string());
  return 1;
}

// "127.0.0.1:7001" → 7001
std::uint32_t port_of(const std::string& endpoint) {
  const auto port = parse_u64(std::string_view{endpoint}.substr(endpoint.rfind(':') + 1));
  return port ? static_cast<std::uint32_t>(*port) : 0;
}

class Instance {
 public:
  Instance(Board& board, Cache& cache, std::uint32_t number)
      : epochs_(board, cache), surroundings_{board, cache, epochs_, seen_, number} {}

  int run() {
    auto keys = open_sources();
    if (!keys) return complain(surroundings_.number, keys.error());
    Writer writer{surroundings_, std::move(keys->back())};
    keys->pop_back();
    const auto count = std::min<std::uint64_t>(config().key_count, kKeysFilledMax);
    if (!writer.fill(static_cast<std::uint32_t>(count))) return 1;
    surroundings_.mine().ready = 1;
    while (surroundings_.board.phase() == Phase::kStarting) look();

    std::vector<std::jthread> threads;
    threads.emplace_back([this, &writer] {
      note(writer.run());
      surroundings_.mine().writers_ended = 1;
    });
    for (auto& source : *keys) {
      threads.emplace_back([this, reader = std::make_unique<Reader>(
                                      surroundings_, std::move(source))] { note(reader->run()); });
    }
    while (surroundings_.board.phase() < Phase::kStopped && !failed_) look();
    if (failed_) ::_exit(1);  // The other threads would read on to the end of the run.
    threads.clear();
    return 0;
  }

 private:
  [[nodiscard]] const BoardConfig& config() const { return surroundings_.board.config(); }

  // One for each reader, and the writer's last.
  Result<std::vector<std::unique_ptr<KeySource>>> open_sources() const {
    constexpr std::uint32_t kThreads = kReadersPerInstance + 1;
    std::vector<std::unique_ptr<KeySource>> sources;
    for (std::uint32_t i = 0; i < kThreads; ++i) {
      auto source = KeySource::open(surroundings_.board, surroundings_.number * kThreads + i,
                                    config().instances * kThreads);
      if (!source) return source.error();
      sources.push_back(std::move(source).value());
    }
    return sources;
  }

  // Says how things stand, then rests a little.
  void look() {
    epochs_.observe();
    const LeaseInfo lease = surroundings_.cache.lease();
    surroundings_.mine().lease_held = lease.held ? 1 : 0;
    surroundings_.mine().master_port = port_of(lease.master);
    std::this_thread::sleep_for(kLook);
  }

  void note(const Result<void>& result) {
    if (result) return;
    complain(surroundings_.number, result.error());
    failed_ = true;
  }

  EpochWatch epochs_;
  SeenTable seen_;
  const Surroundings surroundings_;
  std::atomic<bool> failed_{false};
};

}  // namespace

int run_instance(std::uint32_t number) {
  auto board = Board::attach(STDIN_FILENO);
  if (!board) return complain(number, board.error());
  if (number >= board->config().instances) {
    return complain(number, invalid_argument("there is no instance of this number"));
  }
  auto cache = Cache::open(cache_options(board->config(), number));
  if (!cache) return complain(number, cache.error());
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) {
    return complain(number, ready.error());
  }
  Instance instance{*board, **cache, number};
  return instance.run();
}

}  // namespace tiercel::failover
