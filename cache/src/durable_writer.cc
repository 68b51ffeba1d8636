// Invariants: a Pending is held by the callbacks of its four commands, which all run on the loop
// thread in the order of the replies, but for one that was refused at once; the last of them
// finishes it.

#include "durable_writer.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <string>
#include <utility>
#include <vector>

namespace tiercel {
namespace {

using std::chrono::milliseconds;

l2::RedisOptions patient(l2::RedisOptions redis) {
  // WAIT answers late by design. Each command has its own deadline.
  redis.response_timeout = std::chrono::minutes{10};
  return redis;
}

}  // namespace

// Where the connection leads. Loop thread only.
class DurableWriter::Links final : public l2::LinkObserver {
 public:
  std::optional<l2::ServerIdentity> server;

  void data_up(const l2::ServerIdentity& up) override { server = up; }
  void data_down(const Error&) override { server.reset(); }
  void stream_up(const l2::ServerIdentity&) override {}
  void stream_down(const Error&) override {}
  void stream_message(std::string_view) override {}
  void stream_pong(std::string_view) override {}
  void stream_ping_refused(std::string_view) override {}
};

struct DurableWriter::Pending {
  explicit Pending(Callback callback_given) : callback(std::move(callback_given)) {}

  Callback callback;
  std::atomic<int> replies_missing{4};
  std::optional<Result<l2::Reply>> written{};
  std::optional<l2::ServerIdentity> server{};
  std::optional<std::int64_t> first_id{};
  std::optional<std::int64_t> replicas{};
  bool is_in_order = true;
  std::optional<std::int64_t> last_id{};

  void arrived() {
    if (replies_missing.fetch_sub(1) != 1) return;
    const bool is_one_connection = first_id && first_id == last_id && is_in_order;
    Outcome outcome{.reply = std::move(*written), .replicas = std::nullopt, .server = server};
    if (is_one_connection && replicas && *replicas >= 0) {
      outcome.replicas = static_cast<std::uint32_t>(*replicas);
    }
    callback(std::move(outcome));
  }
};

DurableWriter::DurableWriter(l2::RedisOptions redis, const Clock& clock, LogSink log,
                             l2::EventLoop& loop)
    : redis_(patient(std::move(redis))),
      clock_(clock),
      log_(std::move(log)),
      loop_(loop),
      links_(std::make_unique<Links>()) {}

DurableWriter::~DurableWriter() { close(); }

void DurableWriter::close() {
  std::unique_ptr<l2::Client> closing;
  {
    MutexLock lock{mutex_};
    is_closed_ = true;
    closing = std::move(client_);
  }
}

Result<l2::Client*> DurableWriter::client() {
  MutexLock lock{mutex_};
  if (is_closed_) return closed("the cache was closed");
  if (client_ == nullptr) {
    auto opened = l2::Client::open(
        {.redis = redis_, .observer = links_.get(), .log = log_, .clock = &clock_}, loop_);
    if (!opened) return opened.error();
    client_ = std::move(*opened);
  }
  return client_.get();
}

void DurableWriter::write(const l2::Script& script, std::span<const std::string_view> keys,
                          std::span<const std::string_view> arguments, std::uint32_t replicas,
                          TimePoint deadline, Callback callback) {
  const auto opened = client();
  if (!opened) {
    return callback({.reply = opened.error(), .replicas = std::nullopt, .server = std::nullopt});
  }
  l2::Client& client = **opened;
  const auto pending = std::make_shared<Pending>(std::move(callback));
  const auto take_integer = [](const Result<l2::Reply>& reply) -> std::optional<std::int64_t> {
    return reply && reply->is_integer() ? std::optional{reply->integer} : std::nullopt;
  };
  const std::string key_count = std::to_string(keys.size());
  std::vector<std::string_view> words{"EVAL", script.source(), key_count};
  words.insert(words.end(), keys.begin(), keys.end());
  words.insert(words.end(), arguments.begin(), arguments.end());
  // Ends before the deadline, so that its answer still comes in time.
  const auto left = std::chrono::duration_cast<milliseconds>(deadline - clock_.now());
  const std::string wait_ms = std::to_string(std::max<milliseconds::rep>(1, left.count() * 9 / 10));

  client.submit(l2::Command{l2::Retry::kIfNotSent, {"CLIENT", "ID"}}, deadline,
                [pending, take_integer](Result<l2::Reply> reply) {
                  pending->first_id = take_integer(reply);
                  pending->arrived();
                });
  client.submit(l2::Command{l2::Retry::kIfNotSent, words}, deadline,
                [pending, links = links_.get()](Result<l2::Reply> reply) {
                  if (reply) pending->server = links->server;
                  pending->written.emplace(std::move(reply));
                  pending->arrived();
                });
  client.submit(l2::Command{l2::Retry::kIfNotSent, {"WAIT", std::to_string(replicas), wait_ms}},
                deadline, [pending, take_integer](Result<l2::Reply> reply) {
                  pending->is_in_order = pending->written.has_value();
                  pending->replicas = take_integer(reply);
                  pending->arrived();
                });
  client.submit(l2::Command{l2::Retry::kIfNotSent, {"CLIENT", "ID"}}, deadline,
                [pending, take_integer](Result<l2::Reply> reply) {
                  pending->last_id = take_integer(reply);
                  pending->arrived();
                });
}

}  // namespace tiercel
