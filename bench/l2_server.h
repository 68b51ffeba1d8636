#pragma once

// The server of the L2 bench, and redis-benchmark, the yardstick, as a process of its own.

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "l2_work.h"
#include "support/redis_server.h"
#include "support/test_certificates.h"
#include "tiercel/base/result.h"

namespace tiercel::bench {

// One row of redis-benchmark: `clients` connections with `pipeline` commands in flight on each.
struct Yardstick {
  const DataSet* data = nullptr;
  std::size_t clients = 0;
  std::size_t pipeline = 0;

  [[nodiscard]] std::string command_line() const;  // Without port and number of requests.
};

class BenchServer {
 public:
  enum class Wire { kPlain, kTls };
  // Starts redis-server on a free loopback port; aborts, saying why, if that fails.
  explicit BenchServer(Wire wire);

  [[nodiscard]] std::uint16_t port() const noexcept { return server_->port(); }
  [[nodiscard]] std::string url() const { return server_->url(); }  // Of a plain one.
  [[nodiscard]] std::string url(const DataSet& data) const;
  [[nodiscard]] std::string version();

  // Stores the data, and under the key that redis-benchmark reads a value
  // of the same size.
  Result<void> fill(const DataSet& data);

  // `requests` GETs. Errors: kInternal when it failed, or when one of its requests did not hit.
  Result<Measurement> run(const Yardstick& yardstick, std::uint64_t requests);

  // The same for about so long: as many requests as it made last time.
  Result<Measurement> run_for(const Yardstick& yardstick, Duration duration);

  // Errors: kInternal when any read of any contestant has missed.
  Result<void> check_that_all_hit();

 private:
  // A number of INFO; nullopt if it is not there.
  std::optional<std::uint64_t> info(const std::string& section, const std::string& name);

  std::unique_ptr<tiercel::testing::TestAuthority> authority_;  // Null: plain.
  std::unique_ptr<tiercel::testing::RedisServer> server_;
  std::map<std::string, double> yardstick_rates_;  // Requests a second, by command line.
};

}  // namespace tiercel::bench
