// No text of the URL is ever repeated in an error: what looks like a port or a path may be the tail
// of a password whose special characters were not escaped.

#include <arpa/inet.h>

#include <algorithm>
#include <set>
#include <string>
#include <string_view>

#include "tiercel/base/bytes.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {
namespace {

constexpr std::uint16_t kRedisPort = 6379;
constexpr std::uint16_t kSentinelPort = 26379;
constexpr std::string_view kHowServer = "write redis://user:pass@host:port/db";
constexpr std::string_view kHowSentinel =
    "write redis+sentinel://user:pass@host1:port1,host2:port2/mastername/db";
constexpr std::string_view kHowServerTls =
    "write rediss://user:pass@host:port/db?ca=FILE&cert=FILE&key=FILE";
constexpr std::string_view kHowSentinelTls =
    "write rediss+sentinel://user:pass@host1:port1,host2:port2/mastername/db?ca=FILE&sni=NAME";
constexpr std::string_view kHowUnix = "write unix://user:pass@/path/to/socket?db=N";

Error wrong(std::string_view what, std::string_view how) {
  return invalid_argument("URL: " + std::string{what} + "; " + std::string{how});
}

// scheme://[userinfo@]authority[path][?query]
struct Parts {
  std::string_view user_info;
  bool has_user_info = false;
  std::string_view authority;
  std::string_view path;
  std::string_view query;
  bool has_query = false;
};

Result<Parts> split(std::string_view rest, std::string_view how) {
  Parts parts;
  if (rest.find('#') != std::string_view::npos) {
    return wrong("'#' has no meaning here; in a password, write %23", how);
  }
  const std::size_t authority_end = std::min(rest.find_first_of("/?"), rest.size());
  parts.authority = rest.substr(0, authority_end);
  rest.remove_prefix(authority_end);
  if (const auto at = parts.authority.rfind('@'); at != std::string_view::npos) {
    parts.user_info = parts.authority.substr(0, at);
    parts.has_user_info = true;
    parts.authority.remove_prefix(at + 1);
    if (parts.user_info.find('@') != std::string_view::npos) {
      return wrong("there are two '@'; in a user or password, write %40", how);
    }
  } else if (rest.find('@') != std::string_view::npos) {
    return wrong("an '@' comes after '/' or '?'; in a password, write %2F for '/', %3F for '?'",
                 how);
  }
  if (const auto question = rest.find('?'); question != std::string_view::npos) {
    parts.query = rest.substr(question + 1);
    parts.has_query = true;
    rest = rest.substr(0, question);
  }
  parts.path = rest;
  return parts;
}

int hex_value(char digit) noexcept {
  if (digit >= '0' && digit <= '9') return digit - '0';
  if (digit >= 'a' && digit <= 'f') return digit - 'a' + 10;
  if (digit >= 'A' && digit <= 'F') return digit - 'A' + 10;
  return -1;
}

Result<std::string> percent_decode(std::string_view text, std::string_view what,
                                   std::string_view how) {
  std::string decoded;
  decoded.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '%') {
      decoded.push_back(text[i]);
      continue;
    }
    const int high = i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
    const int low = i + 2 < text.size() ? hex_value(text[i + 2]) : -1;
    if (high < 0 || low < 0) {
      return wrong("in the " + std::string{what} +
                       ", '%' must be followed by two hex digits ('%' itself is %25)",
                   how);
    }
    decoded.push_back(static_cast<char>(high * 16 + low));
    i += 2;
  }
  return decoded;
}

Result<Credentials> parse_user_info(const Parts& parts, std::string_view how) {
  Credentials credentials;
  if (!parts.has_user_info) return credentials;
  const auto colon = parts.user_info.find(':');
  if (colon == std::string_view::npos) {
    return wrong("before '@' there is no password (user:pass@ or :pass@)", how);
  }
  auto user = percent_decode(parts.user_info.substr(0, colon), "user", how);
  if (!user) return user.error();
  auto password = percent_decode(parts.user_info.substr(colon + 1), "password", how);
  if (!password) return password.error();
  if (password->empty()) {
    return wrong("the password is empty; without one, leave out all before the host", how);
  }
  credentials.username = std::move(*user);
  credentials.password = std::move(*password);
  return credentials;
}

bool is_host_name(std::string_view host) noexcept {
  return std::all_of(host.begin(), host.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '.' || c == '_';
  });
}

Result<std::uint16_t> parse_port(std::string_view text, const std::string& whose,
                                 std::string_view how) {
  const auto port = parse_u64(text);
  if (!port || *port == 0 || *port > 65535) {
    return wrong("the port of " + whose + " is not a number from 1 to 65535", how);
  }
  return static_cast<std::uint16_t>(*port);
}

Result<Endpoint> parse_host(std::string_view text, std::uint16_t default_port,
                            const std::string& whose, std::string_view how) {
  Endpoint endpoint;
  endpoint.port = default_port;
  std::string_view port;
  bool has_port = false;
  if (text.starts_with('[')) {
    const auto bracket = text.find(']');
    if (bracket == std::string_view::npos) {
      return wrong("the ']' after the IPv6 address of " + whose + " is missing", how);
    }
    endpoint.host = text.substr(1, bracket - 1);
    in6_addr address{};
    if (inet_pton(AF_INET6, endpoint.host.c_str(), &address) != 1) {
      return wrong("what stands in brackets for " + whose + " is not an IPv6 address", how);
    }
    text.remove_prefix(bracket + 1);
    has_port = text.starts_with(':');
    if (!text.empty() && !has_port) {
      return wrong("after the ']' of " + whose + " only a ':' and the port may come", how);
    }
    if (has_port) port = text.substr(1);
  } else {
    const auto colon = text.find(':');
    has_port = colon != std::string_view::npos;
    if (has_port) port = text.substr(colon + 1);
    endpoint.host = text.substr(0, colon);
    if (port.find(':') != std::string_view::npos) {
      return wrong("there are two ':' in " + whose + "; an IPv6 address stands in brackets", how);
    }
    if (endpoint.host.empty()) return wrong("the host of " + whose + " is missing", how);
    if (!is_host_name(endpoint.host)) {
      return wrong("the host of " + whose + " has a character that no host name has", how);
    }
  }
  if (!has_port) return endpoint;
  const auto number = parse_port(port, whose, how);
  if (!number) return number.error();
  endpoint.port = *number;
  return endpoint;
}

Result<std::uint32_t> parse_database(std::string_view text, std::string_view how) {
  if (text.empty()) return std::uint32_t{0};
  const auto number = parse_u64(text);
  if (!number || *number > 2147483647) {
    return wrong("the database is not a number from 0 to 2147483647", how);
  }
  return static_cast<std::uint32_t>(*number);
}

Result<void> set_tls_parameter(TlsOptions& tls, std::string_view name, std::string value,
                               std::string_view how) {
  if (name == "tls_min") {
    if (value != "1.2" && value != "1.3") return wrong("tls_min is 1.2 or 1.3", how);
    tls.version_min = value == "1.2" ? TlsVersion::k1_2 : TlsVersion::k1_3;
    return {};
  }
  if (name == "insecure_skip_verification") {
    if (value != "true" && value != "false") {
      return wrong("insecure_skip_verification is true or false", how);
    }
    tls.insecure_skip_verification = value == "true";
    return {};
  }
  struct Parameter {
    std::string_view name;
    std::string TlsOptions::*field;
  };
  constexpr Parameter kParameters[] = {
      {"ca", &TlsOptions::ca_file},      {"ca_dir", &TlsOptions::ca_directory},
      {"key", &TlsOptions::key_file},    {"cert", &TlsOptions::certificate_file},
      {"sni", &TlsOptions::server_name}, {"sentinel_sni", &TlsOptions::sentinel_server_name}};
  for (const Parameter& parameter : kParameters) {
    if (name != parameter.name) continue;
    if (value.empty()) return wrong("the parameter " + std::string{name} + " is empty", how);
    tls.*parameter.field = std::move(value);
    return {};
  }
  return wrong(
      "after '?' only ca, ca_dir, cert, key, sni, sentinel_sni, tls_min and "
      "insecure_skip_verification may come, each as name=value, with '&' between them",
      how);
}

// Also reads "?" with nothing behind it, and no '?' at all.
Result<TlsOptions> parse_tls(const Parts& parts, std::string_view how) {
  TlsOptions tls;
  std::set<std::string_view> seen;
  for (std::string_view rest = parts.query; !rest.empty();) {
    const std::size_t end = rest.find('&');
    const std::string_view pair = rest.substr(0, end);
    rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
    const std::size_t equals = pair.find('=');
    const std::string_view name = pair.substr(0, equals);
    const std::string_view text =
        equals == std::string_view::npos ? std::string_view{} : pair.substr(equals + 1);
    auto value = percent_decode(text, "parameters", how);
    if (!value) return value.error();
    if (auto set = set_tls_parameter(tls, name, std::move(*value), how); !set) return set.error();
    if (!seen.insert(name).second) {
      return wrong("the parameter " + std::string{name} + " is given twice", how);
    }
  }
  return tls;
}

// What may come after the '?' of a server's or Sentinels' URL.
Result<void> parse_query(const Parts& parts, bool is_tls, std::string_view how,
                         RedisOptions& options) {
  if (!is_tls) {
    if (!parts.has_query) return {};
    return wrong("nothing may come after a '?' (TLS has the schemes rediss and rediss+sentinel)",
                 how);
  }
  auto tls = parse_tls(parts, how);
  if (!tls) return tls.error();
  options.tls = std::move(*tls);
  return {};
}

Result<RedisOptions> finish(RedisOptions options) {
  if (auto checked = validate(options); !checked) return checked.error();
  return options;
}

Result<RedisOptions> parse_server(std::string_view rest, bool is_tls) {
  const std::string_view how = is_tls ? kHowServerTls : kHowServer;
  const auto parts = split(rest, how);
  if (!parts) return parts.error();
  RedisOptions options;
  if (auto read = parse_query(*parts, is_tls, how, options); !read) return read.error();
  auto credentials = parse_user_info(*parts, how);
  if (!credentials) return credentials.error();
  options.credentials = std::move(*credentials);
  if (parts->authority.find(',') != std::string_view::npos) {
    return wrong(
        "there is more than one host; for Sentinels use redis+sentinel:// or rediss+sentinel://",
        how);
  }
  auto endpoint = parse_host(parts->authority, kRedisPort, "the server", how);
  if (!endpoint) return endpoint.error();
  options.server = std::move(*endpoint);
  const auto path = parts->path.empty() ? parts->path : parts->path.substr(1);
  const auto database = parse_database(path, how);
  if (!database) return database.error();
  options.database = *database;
  return finish(std::move(options));
}

Result<RedisOptions> parse_sentinels(std::string_view rest, bool is_tls) {
  const std::string_view how = is_tls ? kHowSentinelTls : kHowSentinel;
  const auto parts = split(rest, how);
  if (!parts) return parts.error();
  RedisOptions options;
  if (auto read = parse_query(*parts, is_tls, how, options); !read) return read.error();
  auto credentials = parse_user_info(*parts, how);
  if (!credentials) return credentials.error();
  options.credentials = std::move(*credentials);
  std::string_view hosts = parts->authority;
  for (std::size_t number = 1;; ++number) {
    const auto comma = hosts.find(',');
    auto endpoint = parse_host(hosts.substr(0, comma), kSentinelPort,
                               "Sentinel " + std::to_string(number), how);
    if (!endpoint) return endpoint.error();
    options.sentinels.push_back(std::move(*endpoint));
    if (comma == std::string_view::npos) break;
    hosts.remove_prefix(comma + 1);
  }
  const auto path = parts->path.empty() ? parts->path : parts->path.substr(1);
  const auto slash = path.find('/');
  auto name = percent_decode(path.substr(0, slash), "master name", how);
  if (!name) return name.error();
  if (name->empty()) return wrong("the master's name is missing after the hosts", how);
  options.master_name = std::move(*name);
  const auto database =
      parse_database(slash == std::string_view::npos ? "" : path.substr(slash + 1), how);
  if (!database) return database.error();
  options.database = *database;
  return finish(std::move(options));
}

Result<RedisOptions> parse_unix(std::string_view rest) {
  const auto parts = split(rest, kHowUnix);
  if (!parts) return parts.error();
  RedisOptions options;
  auto credentials = parse_user_info(*parts, kHowUnix);
  if (!credentials) return credentials.error();
  options.credentials = std::move(*credentials);
  if (!parts->authority.empty()) {
    return wrong("the path must be absolute (unix:///path has three slashes)", kHowUnix);
  }
  if (parts->path.size() < 2) return wrong("the socket's path is missing", kHowUnix);
  options.server.unix_path = parts->path;
  if (parts->has_query) {
    constexpr std::string_view kDatabase = "db=";
    if (!parts->query.starts_with(kDatabase) || parts->query.size() == kDatabase.size()) {
      return wrong("after '?' only db=N may come", kHowUnix);
    }
    const auto database = parse_database(parts->query.substr(kDatabase.size()), kHowUnix);
    if (!database) return database.error();
    options.database = *database;
  }
  return finish(std::move(options));
}

}  // namespace

Result<RedisOptions> parse_url(std::string_view url) {
  constexpr std::string_view kSchemes =
      "use redis://, redis+sentinel:// or unix://, with TLS rediss:// or rediss+sentinel://";
  const auto colon = url.find("://");
  if (colon == std::string_view::npos) return wrong("the scheme is missing", kSchemes);
  std::string scheme{url.substr(0, colon)};
  for (char& c : scheme) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const std::string_view rest = url.substr(colon + 3);
  if (scheme == "redis") return parse_server(rest, false);
  if (scheme == "rediss") return parse_server(rest, true);
  if (scheme == "redis+sentinel") return parse_sentinels(rest, false);
  if (scheme == "rediss+sentinel") return parse_sentinels(rest, true);
  if (scheme == "unix") return parse_unix(rest);
  return wrong("the scheme is unknown", kSchemes);
}

}  // namespace tiercel::l2
