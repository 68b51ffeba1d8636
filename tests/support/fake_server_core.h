#pragma once

// What is behind FakeServer: see its header. Private to tests/support.
//
// Invariants: every member of Core but the inbox is touched by the server's thread alone; other
// threads' calls reach it as tasks. The sockets are non-blocking. A connection that is to go is
// marked (`is_gone`) and erased at the end of the turn, so that no reference to one dangles while a
// handler runs.

#include <algorithm>
#include <atomic>
#include <deque>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "support/fake_redis.h"
#include "support/fake_server.h"
#include "support/reserved_port.h"
#include "support/resp_text.h"
#include "support/unique_fd.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::testing {

// One accepted connection: what has come and is no whole request yet, and what is to be sent and
// how.
struct FakeConnection {
  struct Piece {
    std::string bytes;
    TimePoint not_before;
  };
  static constexpr std::size_t kPieceBytes = 64U << 10;  // Smaller answers are sent together.

  UniqueFd fd;
  int number = 0;
  int commands = 0;
  FakeRedis::Session session;
  resp::RequestReader reader;

  std::deque<Piece> output;
  std::size_t sent_of_front = 0;
  std::size_t output_bytes = 0;
  std::optional<std::size_t> bytes_left{};         // Until the connection ends.
  std::optional<std::size_t> bytes_before_hang{};  // Until it hangs; 0: it does.
  bool resets = false;
  std::size_t chunk_bytes_max = 0;
  TimePoint next_chunk_at{};
  TimePoint last_not_before{};
  bool is_unread = false;  // stops_reading
  bool is_full = false;    // The kernel takes no more for now.
  bool is_ended = false;   // FIN sent; requests are read and thrown away until the client's FIN.
  bool is_gone = false;

  [[nodiscard]] bool hears(const std::string& channel) const {
    return !is_gone && !is_ended && session.channels.contains(channel);
  }
  void append(std::string bytes, TimePoint not_before) {
    if (bytes.empty() || is_ended || is_gone) return;
    last_not_before = std::max(last_not_before, not_before);
    output_bytes += bytes.size();
    if (!output.empty() && output.back().not_before == last_not_before &&
        output.back().bytes.size() < kPieceBytes) {
      output.back().bytes += bytes;
    } else {
      output.push_back({std::move(bytes), last_not_before});
    }
  }
  // When the next bytes may leave; nothing while only an event can tell.
  [[nodiscard]] std::optional<TimePoint> next_send_at() const {
    if (bytes_before_hang == std::size_t{0} || is_full || is_ended || is_gone || output.empty())
      return std::nullopt;
    return std::max(output.front().not_before, next_chunk_at);
  }
  [[nodiscard]] bool is_due(TimePoint now) const {
    const auto at = next_send_at();
    return at && *at <= now;
  }
};

class FakeServer::Core final : private FakeRedis::Connections {
 public:
  explicit Core(Handler handler);
  ~Core() override;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_.port(); }
  [[nodiscard]] const std::string& unix_path() const noexcept { return unix_path_; }

  // Runs `task` on the server's thread and returns when it has run.
  void run_there(const std::function<void()>& task) TIERCEL_EXCLUDES(inbox_mutex_);

  // The server's thread only, from here on.
  std::size_t publish(const std::string& channel, const std::string& payload) override;
  void invalidate(const std::vector<std::string>& keys, bool is_flush) override;
  void listen();
  void stop_listening();
  void end_connections(bool resets);
  void release();
  void restart();
  [[nodiscard]] std::size_t connections_open() const;

  struct Rule {
    Fault fault;
    Predicate when;
    int times_left;
  };
  std::map<std::string, Handler> handlers_;
  std::vector<Rule> rules_;
  Chooser chooser_;
  std::optional<std::size_t> subscriber_output_bytes_max_;
  bool is_frozen_ = false;
  int accepted_ = 0;
  std::map<std::string, std::size_t> requests_;
  FakeRedis redis_{*this};

 private:
  std::size_t kill(const std::function<bool(const FakeRedis::Session&)>& which) override;
  void pause_clients(std::chrono::milliseconds duration) override;
  [[nodiscard]] std::vector<FakeRedis::Session> sessions() const override;

  void run();
  void wait_and_serve();
  [[nodiscard]] std::optional<Duration> time_to_next(TimePoint now) const;
  void take_tasks() TIERCEL_EXCLUDES(inbox_mutex_);
  void accept_all(int listener);
  void receive(FakeConnection& connection);
  void process(FakeConnection& connection);
  void answer(FakeConnection& connection, const Words& words);
  [[nodiscard]] std::optional<Fault> choose(const Request& request);
  [[nodiscard]] std::string compose(FakeConnection& connection, const Words& words);
  void append_faulty(FakeConnection& connection, std::string bytes, const Fault& fault);
  void push(FakeConnection& connection, const std::string& message);
  void send_due(FakeConnection& connection);
  void end(FakeConnection& connection);
  [[nodiscard]] bool is_paused() const { return Clock::system().now() < paused_until_; }

  const Handler handler_;  // Empty: handlers_, then redis_.
  const ReservedPort port_ = ReservedPort::any();
  const std::string unix_path_;
  const UniqueFd wake_;  // An eventfd.
  UniqueFd tcp_listener_;
  UniqueFd unix_listener_;
  std::vector<std::unique_ptr<FakeConnection>> connections_;
  const FakeConnection* asking_ = nullptr;  // While its request is carried out.
  TimePoint paused_until_{};
  bool is_stopping_ = false;

  Mutex inbox_mutex_;
  std::vector<std::packaged_task<void()>> inbox_ TIERCEL_GUARDED_BY(inbox_mutex_);
  std::atomic<std::thread::id> thread_id_{};
  std::thread thread_;
};

}  // namespace tiercel::testing
