#pragma once

// BlockingRedis: the smallest Redis client that tests can trust, because it shares nothing with the
// one under test: one connection, one thread, blocking with a deadline, RESP2.
//
//   auto redis = BlockingRedis::connect("127.0.0.1", server->port());
//   auto reply = redis->command({"GET", "k"});
//   if (reply && reply->is_nil()) …
//
// Not thread-safe. After kDeadlineExceeded the late reply is still to come: read_reply() takes it,
// a further command() would take it for its own.

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "support/unique_fd.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/result.h"

namespace tiercel::testing {

struct RedisReply {
  enum class Kind : std::uint8_t { kStatus, kError, kInteger, kBulk, kNil, kArray };

  Kind kind = Kind::kNil;
  std::string text;  // kStatus, kBulk; kError with its leading "-".
  std::int64_t integer = 0;
  std::vector<RedisReply> elements;

  [[nodiscard]] bool is_error() const noexcept { return kind == Kind::kError; }
  [[nodiscard]] bool is_nil() const noexcept { return kind == Kind::kNil; }

  // As redis-cli prints it raw: text as it is, integers in decimal, nil as "(nil)", errors with
  // their "-", arrays one element a line, nested ones flat.
  [[nodiscard]] std::string to_text() const;
};

class BlockingRedis {
 public:
  static constexpr Duration kLimit = std::chrono::seconds{10};

  // A numeric IPv4 address. Errors: kInvalidArgument for another host, kUnavailable when nobody
  // accepts within the limit.
  static Result<BlockingRedis> connect(const std::string& host, std::uint16_t port,
                                       Duration limit = kLimit);
  static Result<BlockingRedis> connect_unix(const std::string& path, Duration limit = kLimit);

  // An error reply of the server is a reply. Errors: kUnavailable when the connection is lost,
  // kDeadlineExceeded, kProtocol when the bytes that come are not RESP2.
  Result<RedisReply> command(const std::vector<std::string>& words, Duration limit = kLimit);

  // The halves of command(), for pipelines, subscriptions and garbage. Errors: as above.
  Result<void> send(const std::vector<std::string>& words, Duration limit = kLimit);
  Result<void> send_raw(std::string_view bytes, Duration limit = kLimit);
  Result<RedisReply> read_reply(Duration limit = kLimit);

 private:
  BlockingRedis(UniqueFd fd, std::string endpoint)
      : fd_(std::move(fd)), endpoint_(std::move(endpoint)) {}

  static Result<BlockingRedis> finish_connect(UniqueFd fd, int result, std::string endpoint,
                                              TimePoint deadline);
  Result<void> receive_more(TimePoint deadline);
  Result<std::string> take_line(std::size_t& at, TimePoint deadline);
  Result<RedisReply> parse(std::size_t& at, int depth, TimePoint deadline);
  Result<RedisReply> parse_bulk(std::size_t& at, std::int64_t size, TimePoint deadline);
  Result<RedisReply> parse_array(std::size_t& at, std::int64_t size, int depth, TimePoint deadline);

  UniqueFd fd_;
  std::string endpoint_;
  std::string received_;  // From the first byte of the next reply on.
};

}  // namespace tiercel::testing
