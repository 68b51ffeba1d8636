#include "support/fake_server_core.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdlib>

namespace tiercel::testing {

namespace {

constexpr Duration kChunkInterval = std::chrono::microseconds{20};
constexpr int kBacklog = 511;  // Redis' own.
constexpr std::size_t kReadBytes = 64U << 10;

UniqueFd listen_at(int family, const sockaddr* address, socklen_t size) {
  UniqueFd fd{::socket(family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  const int on = 1;
  ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (::bind(fd.get(), address, size) != 0) fail(errno_message("FakeServer: bind"));
  if (::listen(fd.get(), kBacklog) != 0) fail(errno_message("FakeServer: listen"));
  return fd;
}

std::string fresh_unix_path(std::uint16_t port) {
  const char* folder = std::getenv("TMPDIR");
  return std::string{folder == nullptr ? "/tmp" : folder} + "/tiercel-fake-" +
         std::to_string(::getpid()) + "-" + std::to_string(port) + ".sock";
}

}  // namespace

FakeServer::Core::Core(Handler handler)
    : handler_(std::move(handler)),
      unix_path_(fresh_unix_path(port_.port())),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  if (!wake_) fail(errno_message("FakeServer: eventfd"));
  listen();
  thread_ = std::thread{[this] { run(); }};
}

FakeServer::Core::~Core() {
  run_there([this] { is_stopping_ = true; });
  thread_.join();
  stop_listening();
}

void FakeServer::Core::run_there(const std::function<void()>& task) {
  if (std::this_thread::get_id() == thread_id_.load()) return task();
  std::packaged_task<void()> packaged{task};
  auto done = packaged.get_future();
  {
    MutexLock lock{inbox_mutex_};
    inbox_.push_back(std::move(packaged));
  }
  const std::uint64_t one = 1;
  if (::write(wake_.get(), &one, sizeof one) != sizeof one) fail(errno_message("FakeServer: wake"));
  done.get();
}

void FakeServer::Core::take_tasks() {
  std::uint64_t count = 0;
  static_cast<void>(::read(wake_.get(), &count, sizeof count));
  std::vector<std::packaged_task<void()>> tasks;
  {
    MutexLock lock{inbox_mutex_};
    tasks.swap(inbox_);
  }
  for (auto& task : tasks) task();
}

void FakeServer::Core::listen() {
  sockaddr_in tcp{};
  tcp.sin_family = AF_INET;
  tcp.sin_port = htons(port());
  tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  tcp_listener_ = listen_at(AF_INET, reinterpret_cast<const sockaddr*>(&tcp), sizeof tcp);
  sockaddr_un local{};
  local.sun_family = AF_UNIX;
  if (unix_path_.size() >= sizeof local.sun_path) fail("FakeServer: too long: " + unix_path_);
  unix_path_.copy(local.sun_path, unix_path_.size());
  ::unlink(unix_path_.c_str());
  unix_listener_ = listen_at(AF_UNIX, reinterpret_cast<const sockaddr*>(&local), sizeof local);
}

void FakeServer::Core::stop_listening() {
  tcp_listener_.reset();
  unix_listener_.reset();
  ::unlink(unix_path_.c_str());
}

void FakeServer::Core::run() {
  thread_id_ = std::this_thread::get_id();
  while (!is_stopping_) {
    wait_and_serve();
    std::erase_if(connections_, [](const auto& connection) { return connection->is_gone; });
  }
}

std::optional<Duration> FakeServer::Core::time_to_next(TimePoint now) const {
  if (is_frozen_) return std::nullopt;
  std::optional<TimePoint> next;
  if (now < paused_until_) next = paused_until_;
  for (const auto& connection : connections_) {
    if (const auto at = connection->next_send_at()) next = next ? std::min(*next, *at) : *at;
  }
  if (!next) return std::nullopt;
  return std::max(*next - now, Duration{0});
}

void FakeServer::Core::wait_and_serve() {
  std::vector<pollfd> polled{{wake_.get(), POLLIN, 0}};
  std::vector<FakeConnection*> whose;
  if (!is_frozen_) {
    // A negative descriptor is skipped.
    polled.push_back({tcp_listener_.get(), POLLIN, 0});
    polled.push_back({unix_listener_.get(), POLLIN, 0});
    for (const auto& connection : connections_) {
      short events = connection->is_unread || (is_paused() && !connection->is_ended) ? 0 : POLLIN;
      if (connection->is_full) events |= POLLOUT;
      polled.push_back({connection->fd.get(), events, 0});
      whose.push_back(connection.get());
    }
  }
  const auto wait = time_to_next(Clock::system().now());
  timespec limit{};
  if (wait) {
    limit.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(*wait).count();
    limit.tv_nsec = (*wait % std::chrono::seconds{1}).count();
  }
  ::ppoll(polled.data(), polled.size(), wait ? &limit : nullptr, nullptr);
  take_tasks();
  if (is_frozen_ || is_stopping_) return;
  for (std::size_t i = 0; i < whose.size(); ++i) {
    const short events = polled[i + 3].revents;
    if ((events & POLLOUT) != 0) whose[i]->is_full = false;
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) receive(*whose[i]);
  }
  if (polled.size() > 1 && polled[1].revents != 0) accept_all(polled[1].fd);
  if (polled.size() > 2 && polled[2].revents != 0) accept_all(polled[2].fd);
  const TimePoint now = Clock::system().now();
  // Also those without an event: a pause, a freeze or a delay may be over.
  for (const auto& connection : connections_) {
    if (connection->reader.buffered_bytes() > 0) process(*connection);
    if (connection->is_due(now)) send_due(*connection);
  }
}

void FakeServer::Core::accept_all(int listener) {
  // A task may have closed it since poll.
  if (listener != tcp_listener_.get() && listener != unix_listener_.get()) return;
  while (true) {
    UniqueFd fd{::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!fd) return;
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto connection = std::make_unique<FakeConnection>();
    connection->fd = std::move(fd);
    connection->number = ++accepted_;
    connection->session = redis_.begin_session(accepted_);
    connections_.push_back(std::move(connection));
  }
}

void FakeServer::Core::receive(FakeConnection& connection) {
  if (connection.is_gone) return;
  if (connection.is_unread) {
    // A hang-up is told even of one that is not read, again and again.
    connection.is_gone = true;
    return;
  }
  std::array<char, kReadBytes> buffer;
  const ssize_t got = ::recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {
    connection.is_gone = true;
    return;
  }
  if (connection.is_ended) return;
  connection.reader.feed({buffer.data(), static_cast<std::size_t>(got)});
}

void FakeServer::Core::process(FakeConnection& connection) {
  Words words;
  while (!connection.is_gone && !connection.is_ended && !connection.is_unread && !is_frozen_ &&
         !is_paused()) {
    switch (connection.reader.next(words)) {
      case resp::RequestReader::Outcome::kMore: return;
      case resp::RequestReader::Outcome::kRequest: answer(connection, words); break;
      case resp::RequestReader::Outcome::kGarbage:
        connection.append(resp::error("ERR Protocol error"), TimePoint{});
        connection.bytes_left = connection.output_bytes;
        connection.is_unread = true;
        return;
    }
  }
}

std::optional<FakeServer::Fault> FakeServer::Core::choose(const Request& request) {
  for (Rule& rule : rules_) {
    if (rule.times_left == 0 || !rule.when(request)) continue;
    --rule.times_left;
    return rule.fault;
  }
  return chooser_ ? chooser_(request) : std::nullopt;
}

std::string FakeServer::Core::compose(FakeConnection& connection, const Words& words) {
  if (handler_) return handler_(words);
  const auto own = handlers_.find(FakeRedis::upper(words[0]));
  if (own != handlers_.end()) return own->second(words);
  return redis_.execute(connection.session, words);
}

void FakeServer::Core::answer(FakeConnection& connection, const Words& words) {
  ++connection.commands;
  ++requests_[FakeRedis::upper(words[0])];
  const auto fault = choose({connection.number, connection.commands, words});
  asking_ = &connection;
  std::string bytes = compose(connection, words);
  asking_ = nullptr;
  const bool hangs_up = bytes == kHangUp;
  if (hangs_up) bytes.clear();
  if (fault) {
    append_faulty(connection, std::move(bytes), *fault);
  } else {
    connection.append(std::move(bytes), TimePoint{});
  }
  if ((hangs_up || connection.session.is_told_to_quit) && !connection.bytes_left) {
    connection.bytes_left = connection.output_bytes;
  }
  if (connection.bytes_left == std::size_t{0}) end(connection);
}

void FakeServer::Core::append_faulty(FakeConnection& connection, std::string bytes,
                                     const Fault& fault) {
  if (fault.instead) bytes = *fault.instead;
  std::string copies;
  for (std::size_t i = 0; i < fault.copies; ++i) copies += bytes;
  if (fault.truncate_to_bytes) copies.resize(std::min(copies.size(), *fault.truncate_to_bytes));
  if (fault.end_after_bytes && !connection.bytes_left) {
    connection.bytes_left = connection.output_bytes + *fault.end_after_bytes;
    connection.resets = fault.resets;
  }
  if (fault.chunk_bytes_max != 0) connection.chunk_bytes_max = fault.chunk_bytes_max;
  if (fault.hang_after_bytes && !connection.bytes_before_hang) {
    connection.bytes_before_hang = connection.output_bytes + *fault.hang_after_bytes;
  }
  connection.is_unread = connection.is_unread || fault.stops_reading;
  connection.append(std::move(copies),
                    fault.delay.count() == 0 ? TimePoint{} : Clock::system().now() + fault.delay);
}

void FakeServer::Core::send_due(FakeConnection& connection) {
  while (connection.is_due(Clock::system().now())) {
    FakeConnection::Piece& piece = connection.output.front();
    std::size_t size = piece.bytes.size() - connection.sent_of_front;
    if (connection.bytes_left) size = std::min(size, *connection.bytes_left);
    if (connection.bytes_before_hang) size = std::min(size, *connection.bytes_before_hang);
    if (connection.chunk_bytes_max != 0) size = std::min(size, connection.chunk_bytes_max);
    const ssize_t sent = ::send(connection.fd.get(), piece.bytes.data() + connection.sent_of_front,
                                size, MSG_NOSIGNAL);
    if (sent < 0) {
      connection.is_full = errno == EAGAIN;
      connection.is_gone = !connection.is_full && errno != EINTR;
      return;
    }
    const auto taken = static_cast<std::size_t>(sent);
    connection.output_bytes -= taken;
    connection.sent_of_front += taken;
    if (connection.sent_of_front == piece.bytes.size()) {
      connection.output.pop_front();
      connection.sent_of_front = 0;
    }
    if (connection.chunk_bytes_max != 0) {
      connection.next_chunk_at = Clock::system().now() + kChunkInterval;
    }
    if (connection.bytes_before_hang) *connection.bytes_before_hang -= taken;
    if (connection.bytes_left && (*connection.bytes_left -= taken) == 0) return end(connection);
  }
}

void FakeServer::Core::end(FakeConnection& connection) {
  if (connection.resets) {
    const linger at_once{1, 0};
    ::setsockopt(connection.fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    connection.fd.reset();
    connection.is_gone = true;
    return;
  }
  // Not close(): with requests unread it would become a reset.
  ::shutdown(connection.fd.get(), SHUT_WR);
  connection.output.clear();
  connection.output_bytes = 0;
  connection.is_ended = true;
  connection.is_unread = false;
}

std::size_t FakeServer::Core::publish(const std::string& channel, const std::string& payload) {
  const std::string message =
      resp::array({resp::bulk("message"), resp::bulk(channel), resp::bulk(payload)});
  std::size_t receivers = 0;
  for (const auto& connection : connections_) {
    if (!connection->hears(channel)) continue;
    ++receivers;
    push(*connection, message);
  }
  return receivers;
}

void FakeServer::Core::invalidate(const std::vector<std::string>& keys, bool is_flush) {
  const std::string channel = "__redis__:invalidate";
  for (const auto& connection : connections_) {
    const auto& prefix = connection->session.tracked_prefix;
    if (!prefix || !connection->hears(channel)) continue;
    std::vector<std::string> tracked;
    for (const std::string& key : keys) {
      if (key.starts_with(*prefix)) tracked.push_back(resp::bulk(key));
    }
    if (tracked.empty() && !is_flush) continue;
    const std::string what = is_flush ? resp::nil() : resp::array(tracked);
    push(*connection, resp::array({resp::bulk("message"), resp::bulk(channel), what}));
  }
}

// What the client did not ask for.
void FakeServer::Core::push(FakeConnection& connection, const std::string& message) {
  connection.append(message, TimePoint{});
  if (connection.is_due(Clock::system().now())) send_due(connection);
  if (subscriber_output_bytes_max_ && connection.output_bytes > *subscriber_output_bytes_max_) {
    connection.resets = true;
    end(connection);
  }
}

std::size_t FakeServer::Core::kill(const std::function<bool(const FakeRedis::Session&)>& which) {
  std::size_t killed = 0;
  for (const auto& connection : connections_) {
    if (connection->is_gone || connection->is_ended || !which(connection->session)) continue;
    ++killed;
    if (connection.get() == asking_) {
      connection->session.is_told_to_quit = true;  // Behind its answer.
    } else {
      end(*connection);
    }
  }
  return killed;
}

void FakeServer::Core::pause_clients(std::chrono::milliseconds duration) {
  paused_until_ = std::max(paused_until_, Clock::system().now() + duration);
}

std::vector<FakeRedis::Session> FakeServer::Core::sessions() const {
  std::vector<FakeRedis::Session> all;
  for (const auto& connection : connections_) {
    if (!connection->is_gone && !connection->is_ended) all.push_back(connection->session);
  }
  return all;
}

void FakeServer::Core::end_connections(bool resets) {
  for (const auto& connection : connections_) {
    if (connection->is_gone) continue;
    connection->resets = resets;
    if (!connection->is_ended || resets) end(*connection);
  }
}

void FakeServer::Core::release() {
  for (const auto& connection : connections_) {
    connection->bytes_before_hang.reset();
    connection->is_unread = false;
  }
}

void FakeServer::Core::restart() {
  redis_.restart();
  paused_until_ = {};
  listen();
}

std::size_t FakeServer::Core::connections_open() const {
  return static_cast<std::size_t>(std::count_if(
      connections_.begin(), connections_.end(),
      [](const auto& connection) { return !connection->is_gone && !connection->is_ended; }));
}

}  // namespace tiercel::testing
