#pragma once

// Where Redis is and how patient the client is with it. A plain aggregate for designated
// initializers, or parsed from a URL.
//
// One server, by default port 6379 and database 0:
//   redis://user:pass@host:port/db
// These Sentinels (by default port 26379) are asked for the master:
//   redis+sentinel://user:pass@h1:p1,h2:p2,h3:p3/mastername/db
// One server on a Unix socket:
//   unix://user:pass@/path/to/socket?db=N
//
// User and password may be left out, or only the user (`redis://:pass@host`). In user, password and
// master name, %XX stands for a byte. IPv6 addresses are written in brackets. The user and password
// are those of Redis itself; Sentinels that ask for a password of their own: the fields below.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tiercel/base/result.h"

namespace tiercel::l2 {

struct Endpoint {
  std::string host{};  // Name, IPv4 or IPv6 address without brackets. Empty for a Unix socket.
  std::uint16_t port = 0;
  std::string unix_path{};  // Set instead of host and port.

  // "127.0.0.1:6379", "[::1]:6379", "unix:/run/redis.sock"
  [[nodiscard]] std::string to_string() const;
  friend bool operator==(const Endpoint&, const Endpoint&) = default;
};

struct Credentials {
  std::string username{};  // Empty: the default user.
  std::string password{};  // Empty: no AUTH is sent. Never logged, never in an error.
};

struct RedisOptions {
  // Exactly one of the two: a server, or Sentinels and the name of the master that they watch.
  Endpoint server{};
  std::vector<Endpoint> sentinels{};
  std::string master_name{};

  Credentials credentials{};
  Credentials sentinel_credentials{};  // Also for Sentinels that other Sentinels tell of.
  std::uint32_t database = 0;

  // Name resolution, connect and handshake of one attempt. 1 ms to 1 min. Less fails over sooner;
  // more tolerates slow networks.
  std::chrono::milliseconds connect_timeout{1000};
  // A connection whose oldest command has waited this long for its reply is given up: closed, its
  // commands' outcomes unknown, and a new one is dialled. 10 ms to 10 min. It should exceed the
  // longest script or CLIENT PAUSE that is normal.
  std::chrono::milliseconds response_timeout{5000};
  // Between attempts the client sleeps a random time below min(backoff_max, backoff_min *
  // 2^attempt) ("full jitter"); two attempts of one client are at least 50 ms apart in any case.
  // backoff_min 1 ms or more; backoff_max at least backoff_min, at most 1 min.
  std::chrono::milliseconds backoff_min{20};
  std::chrono::milliseconds backoff_max{1000};

  // Bounds of what waits and is in flight; past one, submit answers kOverloaded at once. 1 to 16 M
  // commands; 64 KiB to 64 GiB of formatted commands.
  std::size_t queue_commands_max = 262144;
  std::size_t queue_bytes_max = std::size_t{64} << 20;
};

// Errors: kInvalidArgument, saying which part of the URL is wrong and how to write it. The text
// never repeats the password.
Result<RedisOptions> parse_url(std::string_view url);

// Errors: kInvalidArgument naming the field and its range.
Result<void> validate(const RedisOptions& options);

}  // namespace tiercel::l2
