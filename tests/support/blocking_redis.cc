// Invariant: received_ is only shortened when a whole reply has been parsed, so a deadline in the
// middle of one loses nothing.

#include "support/blocking_redis.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace tiercel::testing {

namespace {

constexpr std::size_t kLineBytesMax = 64U << 10;
constexpr std::int64_t kBulkBytesMax = 512LL << 20;  // Redis' own limit.
constexpr std::int64_t kElementsMax = 1LL << 20;
constexpr int kDepthMax = 16;

void append_text(const RedisReply& reply, std::string& out) {
  switch (reply.kind) {
    case RedisReply::Kind::kStatus:
    case RedisReply::Kind::kError:
    case RedisReply::Kind::kBulk: out += reply.text; return;
    case RedisReply::Kind::kInteger: out += std::to_string(reply.integer); return;
    case RedisReply::Kind::kNil: out += "(nil)"; return;
    case RedisReply::Kind::kArray: break;
  }
  for (std::size_t i = 0; i < reply.elements.size(); ++i) {
    if (i > 0) out += '\n';
    append_text(reply.elements[i], out);
  }
}

}  // namespace

std::string RedisReply::to_text() const {
  std::string out;
  append_text(*this, out);
  return out;
}

Result<BlockingRedis> BlockingRedis::finish_connect(UniqueFd fd, int result, std::string endpoint,
                                                    TimePoint deadline) {
  if (result != 0 && errno != EINPROGRESS) return unavailable(errno_message("connect"), endpoint);
  if (result != 0 && !wait_ready(fd.get(), POLLOUT, deadline)) {
    return unavailable("nobody accepted the connection in time", endpoint);
  }
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  if (error != 0) {
    errno = error;
    return unavailable(errno_message("connect"), endpoint);
  }
  return BlockingRedis{std::move(fd), std::move(endpoint)};
}

Result<BlockingRedis> BlockingRedis::connect(const std::string& host, std::uint16_t port,
                                             Duration limit) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) {
    return invalid_argument("not a numeric IPv4 address: " + host);
  }
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const int result =
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return finish_connect(std::move(fd), result, host + ":" + std::to_string(port),
                        Clock::system().now() + limit);
}

Result<BlockingRedis> BlockingRedis::connect_unix(const std::string& path, Duration limit) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) {
    return invalid_argument("too long for the path of a Unix socket: " + path);
  }
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd fd{::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int result =
      ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address);
  return finish_connect(std::move(fd), result, "unix:" + path, Clock::system().now() + limit);
}

Result<RedisReply> BlockingRedis::command(const std::vector<std::string>& words, Duration limit) {
  const TimePoint deadline = Clock::system().now() + limit;
  if (auto sent = send(words, limit); !sent) return sent.error();
  return read_reply(deadline - Clock::system().now());
}

Result<void> BlockingRedis::send(const std::vector<std::string>& words, Duration limit) {
  std::string bytes = "*" + std::to_string(words.size()) + "\r\n";
  for (const std::string& word : words) {
    bytes += "$" + std::to_string(word.size()) + "\r\n";
    bytes += word;
    bytes += "\r\n";
  }
  return send_raw(bytes, limit);
}

Result<void> BlockingRedis::send_raw(std::string_view bytes, Duration limit) {
  const TimePoint deadline = Clock::system().now() + limit;
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
    } else if (errno == EAGAIN) {
      if (!wait_ready(fd_.get(), POLLOUT, deadline)) return outcome_unknown("send", endpoint_);
    } else if (errno != EINTR) {
      return unavailable(errno_message("send"), endpoint_);
    }
  }
  return {};
}

Result<RedisReply> BlockingRedis::read_reply(Duration limit) {
  std::size_t at = 0;
  auto reply = parse(at, 0, Clock::system().now() + limit);
  if (reply) received_.erase(0, at);
  return reply;
}

Result<void> BlockingRedis::receive_more(TimePoint deadline) {
  for (;;) {
    std::array<char, 65536> buffer;
    const ssize_t count = ::recv(fd_.get(), buffer.data(), buffer.size(), 0);
    if (count > 0) {
      received_.append(buffer.data(), static_cast<std::size_t>(count));
      return {};
    }
    if (count == 0) return unavailable("the server closed the connection", endpoint_);
    if (errno == EAGAIN) {
      if (!wait_ready(fd_.get(), POLLIN, deadline)) {
        return outcome_unknown("no reply in time", endpoint_);
      }
    } else if (errno != EINTR) {
      return unavailable(errno_message("recv"), endpoint_);
    }
  }
}

Result<std::string> BlockingRedis::take_line(std::size_t& at, TimePoint deadline) {
  for (;;) {
    if (const auto end = received_.find("\r\n", at); end != std::string::npos) {
      std::string line = received_.substr(at, end - at);
      at = end + 2;
      return line;
    }
    if (received_.size() - at > kLineBytesMax) return protocol_error("an endless line", endpoint_);
    if (auto more = receive_more(deadline); !more) return more.error();
  }
}

Result<RedisReply> BlockingRedis::parse(std::size_t& at, int depth, TimePoint deadline) {
  if (depth > kDepthMax) return protocol_error("arrays nested too deeply", endpoint_);
  auto line = take_line(at, deadline);
  if (!line) return line.error();
  if (line->empty()) return protocol_error("an empty line where a reply begins", endpoint_);
  RedisReply reply;
  if (line->front() == '+') {
    reply.kind = RedisReply::Kind::kStatus;
    reply.text = line->substr(1);
    return reply;
  }
  if (line->front() == '-') {
    reply.kind = RedisReply::Kind::kError;
    reply.text = *line;
    return reply;
  }
  std::int64_t number = 0;
  const char* end = line->data() + line->size();
  const auto [stop, error] = std::from_chars(line->data() + 1, end, number);
  if (error != std::errc{} || stop != end) {
    return protocol_error("not RESP2: " + line->substr(0, 80), endpoint_);
  }
  switch (line->front()) {
    case ':':
      reply.kind = RedisReply::Kind::kInteger;
      reply.integer = number;
      return reply;
    case '$': return parse_bulk(at, number, deadline);
    case '*': return parse_array(at, number, depth, deadline);
    default: return protocol_error("not RESP2: " + line->substr(0, 80), endpoint_);
  }
}

Result<RedisReply> BlockingRedis::parse_bulk(std::size_t& at, std::int64_t size,
                                             TimePoint deadline) {
  if (size == -1) return RedisReply{};
  if (size < 0 || size > kBulkBytesMax) return protocol_error("bad bulk length", endpoint_);
  const auto bytes = static_cast<std::size_t>(size);
  while (received_.size() - at < bytes + 2) {
    if (auto more = receive_more(deadline); !more) return more.error();
  }
  RedisReply reply;
  reply.kind = RedisReply::Kind::kBulk;
  reply.text = received_.substr(at, bytes);
  at += bytes + 2;
  return reply;
}

Result<RedisReply> BlockingRedis::parse_array(std::size_t& at, std::int64_t size, int depth,
                                              TimePoint deadline) {
  if (size == -1) return RedisReply{};
  if (size < 0 || size > kElementsMax) return protocol_error("bad array length", endpoint_);
  RedisReply reply;
  reply.kind = RedisReply::Kind::kArray;
  for (std::int64_t i = 0; i < size; ++i) {
    auto element = parse(at, depth + 1, deadline);
    if (!element) return element;
    reply.elements.push_back(std::move(*element));
  }
  return reply;
}

}  // namespace tiercel::testing
