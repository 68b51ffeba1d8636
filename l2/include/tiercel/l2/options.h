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
// With TLS, to servers and Sentinels alike (the ports stay the same):
//   rediss://user:pass@host:port/db?ca=/etc/ssl/redis-ca.pem
//   rediss+sentinel://h1:p1,h2:p2/mastername/db?ca=…&cert=…&key=…&sni=redis.example.net
//
// User and password may be left out, or only the user (`redis://:pass@host`). In user, password,
// master name and parameters, %XX stands for a byte ('&' is %26). IPv6 addresses are written in
// brackets. The user and password are those of Redis itself; Sentinels that ask for a password of
// their own: the fields below.
//
// The parameters of TLS URLs, each a field of TlsOptions:
//   ca=FILE  ca_dir=DIRECTORY          ca_file, ca_directory
//   cert=FILE  key=FILE                certificate_file, key_file
//   sni=NAME  sentinel_sni=NAME        server_name, sentinel_server_name
//   tls_min=1.2|1.3                    version_min
//   insecure_skip_verification=true    insecure_skip_verification
// The passphrase of a key has no place in a URL.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
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

enum class TlsVersion : std::uint8_t { k1_2, k1_3 };

// Who is trusted, and who we are. The files are read when the client is opened, and again before a
// connection is dialled when they have changed since, so that renewed certificates are taken up
// without a restart (a change that cannot be read is logged, and the last good files stay in use).
// Put them on a local disk: they are read on the loop thread.
struct TlsOptions {
  // Whose signature on a server's certificate is believed: a file of CA certificates (PEM), a
  // directory of such files under their hashed names (`openssl rehash`), or both. Neither: the
  // system's CAs.
  std::string ca_file{};
  std::string ca_directory{};

  // Our own certificate for servers that ask for one, and its private key, both in PEM; the
  // certificate's intermediates may follow it in its file. Both or neither.
  std::string certificate_file{};
  std::string key_file{};
  std::string key_passphrase{};  // Of an encrypted key file. Never logged, never in an error.

  // The DNS name or IP address that the certificate of each Redis server must be for; a name is
  // also sent to it (SNI). Empty: what was dialled, which is right where certificates have the
  // names or addresses in the URL or, behind Sentinels, those that the Sentinels announce. Set it
  // where Sentinels announce bare addresses and the certificates have names.
  std::string server_name{};
  std::string sentinel_server_name{};  // The same for the Sentinels.

  TlsVersion version_min = TlsVersion::k1_2;  // TLS 1.3 is used wherever the server knows it.

  // True: any certificate will do. Whoever sits on the path can then read and change everything,
  // passwords included. For trying out only; each open logs a warning.
  bool insecure_skip_verification = false;
};

struct RedisOptions {
  // Exactly one of the two: a server, or Sentinels and the name of the master that they watch.
  Endpoint server{};
  std::vector<Endpoint> sentinels{};
  std::string master_name{};

  Credentials credentials{};
  Credentials sentinel_credentials{};  // Also for Sentinels that other Sentinels tell of.
  std::uint32_t database = 0;

  // Set: TLS to every server and Sentinel. Not over Unix sockets.
  std::optional<TlsOptions> tls{};

  // Name resolution, connect and handshakes (TLS and Redis) of one attempt. 1 ms to 1 min. Less
  // fails over sooner; more tolerates slow networks.
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

// Errors: kInvalidArgument naming the field and its range. Reads no files: Client::open does.
Result<void> validate(const RedisOptions& options);

}  // namespace tiercel::l2
