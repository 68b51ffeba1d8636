#include "l2_server.h"

#include <charconv>
#include <chrono>
#include <cmath>
#include <sstream>
#include <string_view>
#include <utility>
#include <vector>

#include "support/blocking_redis.h"
#include "support/child_process.h"

namespace tiercel::bench {
namespace {

// Without -r redis-benchmark leaves the placeholder in the key as it is. -r would cost it time.
constexpr const char* kYardstickKey = "key:__rand_int__";
constexpr Duration kYardstickLimit = std::chrono::minutes{2};
constexpr std::uint64_t kFirstRequests = 200'000;  // To learn its rate.
constexpr std::uint64_t kFirstLargeRequests = 10'000;
constexpr std::size_t kLargeBytes = 1024;

std::vector<std::string> yardstick_arguments(const Yardstick& yardstick) {
  std::vector<std::string> words{"-P", std::to_string(yardstick.pipeline),
                                 "-c", std::to_string(yardstick.clients),
                                 "-t", "get",
                                 "-d", std::to_string(yardstick.data->value_bytes)};
  if (yardstick.data->database != 0) {
    words.insert(words.end(), {"--dbnum", std::to_string(yardstick.data->database)});
  }
  return words;
}

// "GET","2000000.00",… is the only line of --csv that begins like this: requests a second.
std::optional<double> parse_rate(std::string_view line) {
  constexpr std::string_view kHead = "\"GET\",\"";
  if (!line.starts_with(kHead)) return std::nullopt;
  line.remove_prefix(kHead.size());
  double rate = 0;
  const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), rate);
  if (error != std::errc{} || end == line.data() + line.size() || *end != '"') return std::nullopt;
  return rate > 0 ? std::optional{rate} : std::nullopt;
}

}  // namespace

std::string Yardstick::command_line() const {
  std::string line = "redis-benchmark";
  for (const std::string& word : yardstick_arguments(*this)) line += " " + word;
  return line;
}

BenchServer::BenchServer(Wire wire) {
  tiercel::testing::RedisServerOptions options;
  if (wire == Wire::kTls) {
    authority_ = std::make_unique<tiercel::testing::TestAuthority>();
    const auto files = authority_->issue();
    options.tls = {.ca_file = authority_->file(),
                   .certificate_file = files.certificate,
                   .key_file = files.key};
  }
  server_ = tiercel::testing::RedisServer::start(std::move(options));
}

std::string BenchServer::url(const DataSet& data) const {
  return server_->url() + "/" + std::to_string(data.database) +
         (authority_ == nullptr ? "" : "?ca=" + authority_->file());
}

std::string BenchServer::version() {
  std::istringstream lines{server_->command({"INFO", "server"})};
  constexpr std::string_view kName = "redis_version:";
  for (std::string line; std::getline(lines, line);) {
    if (line.ends_with('\r')) line.pop_back();
    if (line.starts_with(kName)) return line.substr(kName.size());
  }
  return "unknown";
}

std::optional<std::uint64_t> BenchServer::info(const std::string& section,
                                               const std::string& name) {
  const std::string text = server_->command({"INFO", section});
  const std::size_t found = text.find("\n" + name + ":");
  if (found == std::string::npos) return std::nullopt;
  const char* begin = text.data() + found + name.size() + 2;
  std::uint64_t value = 0;
  if (std::from_chars(begin, text.data() + text.size(), value).ec != std::errc{}) {
    return std::nullopt;
  }
  return value;
}

Result<void> BenchServer::fill(const DataSet& data) {
  auto redis = tiercel::testing::BlockingRedis::connect_unix(server_->unix_path());
  if (!redis) return redis.error();
  std::vector<std::vector<std::string>> commands{{"SELECT", std::to_string(data.database)},
                                                 {"SET", kYardstickKey, data.values[0]}};
  for (std::size_t key = 0; key < data.keys.size(); ++key) {
    commands.push_back({"SET", data.keys[key], data.values[key]});
  }
  for (const auto& command : commands) {
    const auto reply = redis->command(command);
    if (!reply) return reply.error();
    if (reply->is_error()) return internal(command[0] + ": " + reply->text);
  }
  return {};
}

Result<Measurement> BenchServer::run(const Yardstick& yardstick, std::uint64_t requests) {
  const auto hits_before = info("stats", "keyspace_hits");
  std::vector<std::string> arguments{"-p", std::to_string(port()), "-n", std::to_string(requests),
                                     "--csv"};
  if (authority_ != nullptr) {
    arguments.insert(arguments.end(), {"--tls", "--cacert", authority_->file()});
  }
  const auto words = yardstick_arguments(yardstick);
  arguments.insert(arguments.end(), words.begin(), words.end());
  const auto child = tiercel::testing::ChildProcess::start(
      {.executable = "redis-benchmark", .arguments = std::move(arguments)});
  std::optional<double> rate;
  for (;;) {
    const auto line = child->read_line(kYardstickLimit);
    if (!line) return line.error();
    if (!*line) break;
    if (const auto parsed = parse_rate(**line)) rate = parsed;
  }
  const auto status = child->wait();
  if (!status || status->code != 0 || !rate) return internal("redis-benchmark failed");
  const auto hits_after = info("stats", "keyspace_hits");
  // It may ask a few more than it was told, to fill its last pipelines.
  if (!hits_before || !hits_after || *hits_after - *hits_before < requests) {
    return internal("redis-benchmark did not hit each time");
  }
  const std::chrono::duration<double> elapsed{static_cast<double>(requests) / *rate};
  return Measurement{.operations = static_cast<double>(requests),
                     .elapsed = std::chrono::duration_cast<Duration>(elapsed),
                     .cpu = std::nullopt,
                     .latency = std::nullopt};
}

// It takes a number of requests, not a time.
Result<Measurement> BenchServer::run_for(const Yardstick& yardstick, Duration duration) {
  double& rate = yardstick_rates_[yardstick.command_line()];
  if (rate == 0) {
    const bool is_large = yardstick.data->value_bytes > kLargeBytes;
    auto first = run(yardstick, is_large ? kFirstLargeRequests : kFirstRequests);
    if (!first) return first;
    rate = first->operations_per_second();
  }
  const double requests = rate * std::chrono::duration<double>(duration).count();
  auto measured = run(yardstick, static_cast<std::uint64_t>(std::ceil(requests)));
  if (measured) rate = measured->operations_per_second();
  return measured;
}

Result<void> BenchServer::check_that_all_hit() {
  const auto misses = info("stats", "keyspace_misses");
  if (misses == 0) return {};
  return internal(misses ? std::to_string(*misses) + " reads missed" : "INFO says no misses");
}

}  // namespace tiercel::bench
