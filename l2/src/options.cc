#include "tiercel/l2/options.h"

#include <algorithm>
#include <string>

namespace tiercel::l2 {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kSentinelsMax = 64;
constexpr std::size_t kMasterNameBytesMax = 1024;
constexpr std::size_t kHostBytesMax = 253;
constexpr std::size_t kUnixPathBytesMax = 107;  // sun_path without its terminating zero.
constexpr std::size_t kPathBytesMax = 4095;     // PATH_MAX without its terminating zero.
constexpr std::uint32_t kDatabaseMax = 2147483647;

Result<void> check_address(const std::string& field, const Endpoint& endpoint, bool unix_allowed) {
  if (!endpoint.unix_path.empty()) {
    if (!unix_allowed) return invalid_argument(field + ": a Unix socket cannot stand here");
    if (!endpoint.host.empty() || endpoint.port != 0) {
      return invalid_argument(field + ": set either unix_path or host and port, not both");
    }
    if (endpoint.unix_path.size() > kUnixPathBytesMax) {
      return invalid_argument(field + ".unix_path: longer than " +
                              std::to_string(kUnixPathBytesMax) + " bytes");
    }
    if (endpoint.unix_path.find('\0') != std::string::npos) {
      return invalid_argument(field + ".unix_path: contains a zero byte");
    }
    return {};
  }
  if (endpoint.host.empty()) return invalid_argument(field + ".host: is empty");
  if (endpoint.host.size() > kHostBytesMax || endpoint.host.find('\0') != std::string::npos) {
    return invalid_argument(field + ".host: not a host name (at most " +
                            std::to_string(kHostBytesMax) + " bytes, no zero byte)");
  }
  if (endpoint.port == 0) return invalid_argument(field + ".port: 1 to 65535");
  return {};
}

Result<void> check_where(const RedisOptions& options) {
  if (options.sentinels.empty()) {
    if (!options.master_name.empty()) {
      return invalid_argument("master_name: only together with sentinels");
    }
    return check_address("server", options.server, true);
  }
  if (options.server != Endpoint{}) {
    return invalid_argument("server and sentinels: set exactly one of them");
  }
  if (options.sentinels.size() > kSentinelsMax) {
    return invalid_argument("sentinels: at most " + std::to_string(kSentinelsMax));
  }
  for (std::size_t i = 0; i < options.sentinels.size(); ++i) {
    const std::string field = "sentinels[" + std::to_string(i) + "]";
    if (auto checked = check_address(field, options.sentinels[i], false); !checked) return checked;
    const auto end = options.sentinels.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(options.sentinels.begin(), end, options.sentinels[i]) != end) {
      return invalid_argument(field + ": is listed twice");
    }
  }
  if (options.master_name.empty()) {
    return invalid_argument("master_name: the name by which the Sentinels know the master");
  }
  if (options.master_name.size() > kMasterNameBytesMax) {
    return invalid_argument("master_name: at most " + std::to_string(kMasterNameBytesMax) +
                            " bytes");
  }
  return {};
}

Result<void> check_credentials(const char* field, const Credentials& credentials) {
  if (!credentials.username.empty() && credentials.password.empty()) {
    return invalid_argument(std::string{field} +
                            ".password: is empty, but a username is set (for a user without "
                            "password, any password does)");
  }
  return {};
}

Result<void> check_tls(const RedisOptions& options) {
  if (!options.tls) return {};
  const TlsOptions& tls = *options.tls;
  if (!options.server.unix_path.empty()) {
    return invalid_argument("tls: not over a Unix socket, whose permissions guard it");
  }
  struct Text {
    const char* field;
    const std::string& value;
    std::size_t bytes_max;
  };
  const Text texts[] = {{"ca_file", tls.ca_file, kPathBytesMax},
                        {"ca_directory", tls.ca_directory, kPathBytesMax},
                        {"certificate_file", tls.certificate_file, kPathBytesMax},
                        {"key_file", tls.key_file, kPathBytesMax},
                        {"server_name", tls.server_name, kHostBytesMax},
                        {"sentinel_server_name", tls.sentinel_server_name, kHostBytesMax}};
  for (const Text& text : texts) {
    if (text.value.size() > text.bytes_max || text.value.find('\0') != std::string::npos) {
      return invalid_argument(std::string{"tls."} + text.field + ": longer than " +
                              std::to_string(text.bytes_max) + " bytes, or has a zero byte");
    }
  }
  if (tls.certificate_file.empty() != tls.key_file.empty()) {
    return invalid_argument(tls.key_file.empty()
                                ? "tls.key_file: is empty, but tls.certificate_file is set"
                                : "tls.certificate_file: is empty, but tls.key_file is set");
  }
  if (!tls.key_passphrase.empty() && tls.key_file.empty()) {
    return invalid_argument("tls.key_passphrase: is set, but tls.key_file is empty");
  }
  if (!tls.sentinel_server_name.empty() && options.sentinels.empty()) {
    return invalid_argument("tls.sentinel_server_name: only together with sentinels");
  }
  return {};
}

Result<void> check_time(const char* field, milliseconds value, milliseconds min, milliseconds max) {
  if (value >= min && value <= max) return {};
  return invalid_argument(std::string{field} + ": " + std::to_string(min.count()) + " ms to " +
                          std::to_string(max.count()) + " ms, not " +
                          std::to_string(value.count()) + " ms");
}

Result<void> check_size(const char* field, std::size_t value, std::size_t min, std::size_t max) {
  if (value >= min && value <= max) return {};
  return invalid_argument(std::string{field} + ": " + std::to_string(min) + " to " +
                          std::to_string(max) + ", not " + std::to_string(value));
}

}  // namespace

std::string Endpoint::to_string() const {
  if (!unix_path.empty()) return "unix:" + unix_path;
  const bool is_ipv6 = host.find(':') != std::string::npos;
  return (is_ipv6 ? "[" + host + "]" : host) + ":" + std::to_string(port);
}

Result<void> validate(const RedisOptions& options) {
  using namespace std::chrono_literals;
  const Result<void> checks[] = {
      check_where(options),
      check_credentials("credentials", options.credentials),
      check_credentials("sentinel_credentials", options.sentinel_credentials),
      check_tls(options),
      check_size("database", options.database, 0, kDatabaseMax),
      check_time("connect_timeout", options.connect_timeout, 1ms, 60'000ms),
      check_time("response_timeout", options.response_timeout, 10ms, 600'000ms),
      check_time("backoff_min", options.backoff_min, 1ms, 60'000ms),
      check_time("backoff_max", options.backoff_max, std::max(options.backoff_min, 1ms), 60'000ms),
      check_size("queue_commands_max", options.queue_commands_max, 1, std::size_t{16} << 20),
      check_size("queue_bytes_max", options.queue_bytes_max, std::size_t{64} << 10,
                 std::size_t{64} << 30),
  };
  for (const auto& check : checks) {
    if (!check) return check;
  }
  return {};
}

}  // namespace tiercel::l2
