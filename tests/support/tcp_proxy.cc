// Invariants
// - One thread owns every socket and every Connection. Other threads only change the wanted
//   Settings under the mutex, wake the thread, and wait until it has adopted them; it never blocks
//   outside of poll, so that wait is short.
// - side 0 is the client, side 1 the server; links[s] carries what side s sends to the other side.
// - A link buffers at most kBufferBytesMax plus one read.

#include "support/tcp_proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <deque>
#include <thread>
#include <vector>

#include "support/unique_fd.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/mutex.h"

namespace tiercel::testing {

namespace {

constexpr std::size_t kClient = 0;
constexpr std::size_t kServer = 1;
constexpr std::size_t kBufferBytesMax = 1U << 20;
constexpr std::size_t kReadBytesMax = 64U << 10;
constexpr std::size_t kMarkerHistoryBytes = 4096;
constexpr std::size_t kConnectionsMax = 1024;  // Past it, new ones are refused.
constexpr Duration kChunkPause = std::chrono::microseconds{50};
constexpr Duration kAcceptPause = std::chrono::milliseconds{10};  // After accept failed.

struct Settings {
  std::array<LinkFault, 2> faults;
  std::array<std::uint64_t, 2> fault_generations{1, 1};
  std::string marker;
  bool only_marked = true;
  bool accepting = true;
  bool stopping = false;
  std::uint64_t resets = 0;  // How often reset_all() was called.
};

enum class Ending : std::uint8_t { kNone, kFin, kReset };

struct Chunk {
  TimePoint arrived;
  std::string bytes;
};

struct Link {
  std::deque<Chunk> chunks;
  std::size_t front_offset = 0;  // Bytes of the first chunk that are sent already.
  std::size_t buffered_bytes = 0;
  Ending ending = Ending::kNone;  // What its source said last, after all chunks.
  TimePoint ending_arrived;
  bool ending_passed = false;
  bool blocked = false;  // The destination takes no more: wait for POLLOUT.
  TimePoint next_chunk_at;
  std::uint64_t fault_generation = 0;  // Which fault passed_bytes counts for.
  std::size_t passed_bytes = 0;

  void drop_chunks() {
    chunks.clear();
    front_offset = 0;
    buffered_bytes = 0;
  }
};

struct Connection {
  std::array<UniqueFd, 2> sockets;
  std::array<std::size_t, 2> poll_index{};
  std::array<Link, 2> links;
  bool connecting = true;
  bool marked = false;
  std::string head;  // The first bytes of the client, for a marker that is set later.
  std::string tail;  // Its last ones, for a marker that comes in two reads.
};

UniqueFd loopback_socket() {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)};
  if (!fd) fail(errno_message("socket"));
  return fd;
}

sockaddr_in loopback_address(std::uint16_t port) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return address;
}

void set_no_delay(const UniqueFd& fd) {
  const int on = 1;
  ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void close_with_reset(UniqueFd& fd) {
  if (!fd) return;
  const linger at_once{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd.get(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  fd.reset();
}

// The pending error of a socket, which is then cleared; 0 for none.
int take_error(const UniqueFd& fd) {
  int error = 0;
  socklen_t size = sizeof error;
  ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  return error;
}

void reset_both(Connection& connection) {
  for (UniqueFd& socket : connection.sockets) close_with_reset(socket);
}

// The connection to `side` is broken. The other end is to hear of it the way bytes would reach it.
void side_lost(Connection& connection, std::size_t side, TimePoint now) {
  connection.sockets[side].reset();
  Link& from = connection.links[side];
  from.ending = Ending::kReset;
  from.ending_arrived = now;
  from.ending_passed = false;
  connection.links[1 - side].drop_chunks();
  connection.links[1 - side].blocked = false;
}

bool is_over(const Connection& connection) {
  if (!connection.sockets[kClient] && !connection.sockets[kServer]) return true;
  return connection.links[kClient].ending_passed && connection.links[kServer].ending_passed;
}

bool is_retry(int error) { return error == EAGAIN || error == EWOULDBLOCK || error == EINTR; }

}  // namespace

struct TcpProxy::State {
  // Immutable after construction.
  std::uint16_t port = 0;
  std::uint16_t target_port = 0;
  UniqueFd listener;
  UniqueFd wake;

  mutable Mutex mutex;
  CondVar adopted_changed;
  Settings wanted TIERCEL_GUARDED_BY(mutex);
  std::uint64_t wanted_revision TIERCEL_GUARDED_BY(mutex) = 0;
  std::uint64_t adopted_revision TIERCEL_GUARDED_BY(mutex) = 0;
  std::size_t connection_count TIERCEL_GUARDED_BY(mutex) = 0;

  // Touched only by the proxy's thread.
  Settings settings;
  std::vector<std::unique_ptr<Connection>> connections;
  TimePoint accept_again_at;
  std::vector<pollfd> entries;
  std::string read_buffer = std::string(kReadBytesMax, '\0');

  std::thread thread;

  template <typename Change>
  void change(Change&& apply) TIERCEL_EXCLUDES(mutex);
  void run();
  bool adopt_settings() TIERCEL_EXCLUDES(mutex);

  [[nodiscard]] const LinkFault* fault_of(const Connection& connection, std::size_t side) const;
  [[nodiscard]] bool is_blackhole(const Connection& connection, std::size_t side) const;
  [[nodiscard]] bool wants_read(const Connection& connection, std::size_t side) const;
  [[nodiscard]] TimePoint next_due(const Connection& connection, std::size_t side) const;
  [[nodiscard]] Duration prepare_poll(TimePoint now);
  void wait(Duration limit);

  void accept_all(TimePoint now);
  void handle(Connection& connection, TimePoint now);
  void read_from(Connection& connection, std::size_t side, TimePoint now);
  void note_client_bytes(Connection& connection, std::string_view bytes) const;
  void mark_again();
  void pump(Connection& connection, std::size_t side, TimePoint now);
  bool send_front(Connection& connection, std::size_t side, const LinkFault& fault, TimePoint now);
  void pass_ending(Connection& connection, std::size_t side);
};

template <typename Change>
void TcpProxy::State::change(Change&& apply) {
  const MutexLock lock{mutex};
  apply(wanted);
  const std::uint64_t revision = ++wanted_revision;
  const std::uint64_t one = 1;
  (void)!::write(wake.get(), &one, sizeof one);
  while (adopted_revision < revision) adopted_changed.wait(mutex);
}

// False when the proxy is to stop. What other threads see changes here and nowhere else: a caller
// of change() goes on when its settings have been applied to every connection.
bool TcpProxy::State::adopt_settings() {
  const Settings before = settings;
  std::uint64_t revision = 0;
  {
    const MutexLock lock{mutex};
    settings = wanted;
    revision = wanted_revision;
  }
  if (settings.marker != before.marker) mark_again();
  if (settings.resets != before.resets || settings.stopping) {
    for (const auto& connection : connections) reset_both(*connection);
    connections.clear();
  }
  const MutexLock lock{mutex};
  connection_count = connections.size();
  adopted_revision = revision;
  adopted_changed.notify_all();
  return !settings.stopping;
}

void TcpProxy::State::run() {
  while (adopt_settings()) {
    wait(prepare_poll(Clock::system().now()));
    const TimePoint now = Clock::system().now();
    for (const auto& connection : connections) handle(*connection, now);
    std::erase_if(connections, [](const auto& connection) { return is_over(*connection); });
    // Last: `entries` knows nothing of connections that are new.
    if (entries[0].revents != 0) accept_all(now);
  }
}

// The fault that hits what `side` sends, or nullptr.
const LinkFault* TcpProxy::State::fault_of(const Connection& connection, std::size_t side) const {
  const bool hit = settings.marker.empty() || connection.marked == settings.only_marked;
  return hit ? &settings.faults[side] : nullptr;
}

bool TcpProxy::State::is_blackhole(const Connection& connection, std::size_t side) const {
  const LinkFault* fault = fault_of(connection, side);
  return fault != nullptr && fault->blackhole;
}

bool TcpProxy::State::wants_read(const Connection& connection, std::size_t side) const {
  const Link& link = connection.links[side];
  if (!connection.sockets[side] || link.ending != Ending::kNone) return false;
  if (side == kServer && connection.connecting) return false;
  return link.buffered_bytes < kBufferBytesMax || is_blackhole(connection, side) ||
         !connection.sockets[1 - side];
}

// When the link has something to do without any socket becoming ready.
TimePoint TcpProxy::State::next_due(const Connection& connection, std::size_t side) const {
  const Link& link = connection.links[side];
  const LinkFault* fault = fault_of(connection, side);
  const Duration delay = fault != nullptr ? Duration{fault->delay} : Duration::zero();
  if (fault != nullptr && fault->reset_after_bytes &&
      (link.fault_generation != settings.fault_generations[side] ||
       link.passed_bytes >= *fault->reset_after_bytes)) {
    return TimePoint{};  // To begin the count, or to reset.
  }
  if (link.blocked) return TimePoint::max();
  if (!link.chunks.empty()) {
    return std::max(link.chunks.front().arrived + delay, link.next_chunk_at);
  }
  const bool has_ending = link.ending != Ending::kNone && !link.ending_passed;
  if (!has_ending || is_blackhole(connection, side)) return TimePoint::max();
  return link.ending_arrived + delay;
}

// Fills `entries`; returns how long to wait at most.
Duration TcpProxy::State::prepare_poll(TimePoint now) {
  constexpr Duration kWaitMax = std::chrono::seconds{60};
  TimePoint due = now + kWaitMax;
  entries.clear();
  // Negative descriptors are skipped by poll. It reports hang-ups unasked, so a socket that we want
  // nothing of is skipped, or the thread would spin on it.
  const bool accept_paused = now < accept_again_at;
  if (accept_paused) due = std::min(due, accept_again_at);
  entries.push_back({accept_paused ? -1 : listener.get(), POLLIN, 0});
  entries.push_back({wake.get(), POLLIN, 0});
  for (const auto& connection : connections) {
    for (const std::size_t side : {kClient, kServer}) {
      int events = 0;
      if (wants_read(*connection, side)) events |= POLLIN;
      if (connection->links[1 - side].blocked) events |= POLLOUT;
      // After its FIN only errors and hang-ups are of interest, which poll reports unasked.
      const bool watched = events != 0 || connection->links[side].ending != Ending::kNone;
      connection->poll_index[side] = entries.size();
      const int fd = watched ? connection->sockets[side].get() : -1;
      entries.push_back({fd, static_cast<short>(events), 0});
      due = std::min(due, next_due(*connection, side));
    }
  }
  return std::max(Duration::zero(), due - now);
}

void TcpProxy::State::wait(Duration limit) {
  const timespec timeout{.tv_sec = limit.count() / 1'000'000'000,
                         .tv_nsec = limit.count() % 1'000'000'000};
  if (::ppoll(entries.data(), entries.size(), &timeout, nullptr) < 0) {
    for (pollfd& entry : entries) entry.revents = 0;
  }
  std::uint64_t count = 0;
  if (entries[1].revents != 0) (void)!::read(wake.get(), &count, sizeof count);
}

void TcpProxy::State::accept_all(TimePoint now) {
  for (;;) {
    UniqueFd client{::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK)};
    if (!client) {
      if (!is_retry(errno) && errno != ECONNABORTED) accept_again_at = now + kAcceptPause;
      return;
    }
    if (!settings.accepting || connections.size() >= kConnectionsMax) {
      close_with_reset(client);
      continue;
    }
    UniqueFd server = loopback_socket();
    set_no_delay(client);
    set_no_delay(server);
    const sockaddr_in address = loopback_address(target_port);
    if (::connect(server.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 &&
        errno != EINPROGRESS) {
      close_with_reset(client);
      continue;
    }
    auto connection = std::make_unique<Connection>();
    connection->sockets[kClient] = std::move(client);
    connection->sockets[kServer] = std::move(server);
    connection->links[kClient].blocked = true;  // POLLOUT tells that it is connected.
    connections.push_back(std::move(connection));
  }
}

void TcpProxy::State::handle(Connection& connection, TimePoint now) {
  for (const std::size_t side : {kClient, kServer}) {
    const int events = entries[connection.poll_index[side]].revents;
    if (events == 0 || !connection.sockets[side]) continue;
    if (side == kServer && connection.connecting) {
      if (take_error(connection.sockets[side]) != 0) return reset_both(connection);
      connection.connecting = false;
    }
    if ((events & (POLLHUP | POLLERR)) != 0 && connection.links[side].ending != Ending::kNone) {
      // It had sent its FIN: now it is reset, or both directions are closed in good order.
      if (take_error(connection.sockets[side]) != 0) {
        side_lost(connection, side, now);
      } else {
        connection.sockets[side].reset();
      }
      continue;
    }
    if ((events & (POLLOUT | POLLHUP | POLLERR)) != 0) connection.links[1 - side].blocked = false;
    if ((events & (POLLIN | POLLHUP | POLLERR)) != 0) read_from(connection, side, now);
  }
  for (const std::size_t side : {kClient, kServer}) pump(connection, side, now);
}

void TcpProxy::State::read_from(Connection& connection, std::size_t side, TimePoint now) {
  if (!wants_read(connection, side)) return;
  Link& link = connection.links[side];
  const ssize_t count =
      ::recv(connection.sockets[side].get(), read_buffer.data(), read_buffer.size(), 0);
  if (count < 0) {
    if (!is_retry(errno)) side_lost(connection, side, now);
    return;
  }
  if (count == 0) {
    link.ending = Ending::kFin;
    link.ending_arrived = now;
    return;
  }
  const std::string_view bytes{read_buffer.data(), static_cast<std::size_t>(count)};
  if (side == kClient) note_client_bytes(connection, bytes);
  if (is_blackhole(connection, side) || !connection.sockets[1 - side]) return;
  link.chunks.push_back({now, std::string{bytes}});
  link.buffered_bytes += bytes.size();
}

void TcpProxy::State::note_client_bytes(Connection& connection, std::string_view bytes) const {
  if (connection.head.size() < kMarkerHistoryBytes) {
    connection.head += bytes.substr(0, kMarkerHistoryBytes - connection.head.size());
  }
  if (settings.marker.empty() || connection.marked) return;
  connection.tail += bytes;
  connection.marked = connection.tail.find(settings.marker) != std::string::npos;
  const std::size_t keep = settings.marker.size() - 1;
  if (connection.tail.size() > keep) connection.tail.erase(0, connection.tail.size() - keep);
}

void TcpProxy::State::mark_again() {
  for (const auto& connection : connections) {
    connection->marked =
        !settings.marker.empty() && connection->head.find(settings.marker) != std::string::npos;
    connection->tail = connection->head;
    // Past the history, what the client sent between is unknown: do not join the two.
    if (connection->head.size() == kMarkerHistoryBytes) connection->tail.clear();
  }
}

void TcpProxy::State::pump(Connection& connection, std::size_t side, TimePoint now) {
  static const LinkFault kNoFault;
  Link& link = connection.links[side];
  const LinkFault* hit = fault_of(connection, side);
  const LinkFault& fault = hit != nullptr ? *hit : kNoFault;
  if (hit != nullptr && link.fault_generation != settings.fault_generations[side]) {
    link.fault_generation = settings.fault_generations[side];
    link.passed_bytes = 0;
  }
  if (fault.blackhole) link.drop_chunks();
  if (fault.reset_after_bytes && link.passed_bytes >= *fault.reset_after_bytes) {
    return reset_both(connection);
  }
  while (!link.chunks.empty()) {
    if (link.blocked || now < link.chunks.front().arrived + fault.delay) return;
    if (now < link.next_chunk_at) return;
    if (!send_front(connection, side, fault, now)) return;
  }
  const bool has_ending = link.ending != Ending::kNone && !link.ending_passed;
  if (!has_ending || link.blocked || fault.blackhole) return;
  if (now >= link.ending_arrived + fault.delay) pass_ending(connection, side);
}

// Sends of the first chunk what the fault allows. False when that is all for now.
bool TcpProxy::State::send_front(Connection& connection, std::size_t side, const LinkFault& fault,
                                 TimePoint now) {
  Link& link = connection.links[side];
  Chunk& chunk = link.chunks.front();
  std::size_t size = chunk.bytes.size() - link.front_offset;
  if (fault.chunk_bytes_max > 0) size = std::min(size, fault.chunk_bytes_max);
  if (fault.reset_after_bytes) size = std::min(size, *fault.reset_after_bytes - link.passed_bytes);
  const ssize_t sent = ::send(connection.sockets[1 - side].get(),
                              chunk.bytes.data() + link.front_offset, size, MSG_NOSIGNAL);
  if (sent < 0) {
    if (is_retry(errno)) {
      link.blocked = true;
    } else {
      side_lost(connection, 1 - side, now);
    }
    return false;
  }
  const auto count = static_cast<std::size_t>(sent);
  link.front_offset += count;
  link.buffered_bytes -= count;
  link.passed_bytes += count;
  if (link.front_offset == chunk.bytes.size()) {
    link.chunks.pop_front();
    link.front_offset = 0;
  }
  if (fault.reset_after_bytes && link.passed_bytes >= *fault.reset_after_bytes) {
    reset_both(connection);
    return false;
  }
  // The clock anew: the pause is between two segments, not between two turns of the loop.
  if (fault.chunk_bytes_max > 0) link.next_chunk_at = Clock::system().now() + kChunkPause;
  return fault.chunk_bytes_max == 0;
}

void TcpProxy::State::pass_ending(Connection& connection, std::size_t side) {
  Link& link = connection.links[side];
  if (link.ending == Ending::kReset) return reset_both(connection);
  link.ending_passed = true;
  if (const UniqueFd& to = connection.sockets[1 - side]) ::shutdown(to.get(), SHUT_WR);
}

TcpProxy::TcpProxy(std::uint16_t target_port) : state_(std::make_unique<State>()) {
  state_->target_port = target_port;
  state_->wake = UniqueFd{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  state_->listener = loopback_socket();
  sockaddr_in address = loopback_address(0);
  socklen_t size = sizeof address;
  auto* const generic = reinterpret_cast<sockaddr*>(&address);
  if (!state_->wake || ::bind(state_->listener.get(), generic, size) != 0 ||
      ::listen(state_->listener.get(), SOMAXCONN) != 0 ||
      ::getsockname(state_->listener.get(), generic, &size) != 0) {
    fail(errno_message("TcpProxy cannot listen"));
  }
  state_->port = ntohs(address.sin_port);
  state_->thread = std::thread{[state = state_.get()] { state->run(); }};
}

TcpProxy::~TcpProxy() {
  state_->change([](Settings& settings) { settings.stopping = true; });
  state_->thread.join();
}

std::uint16_t TcpProxy::port() const noexcept { return state_->port; }
std::string TcpProxy::url() const { return "redis://127.0.0.1:" + std::to_string(state_->port); }

void TcpProxy::set_client_to_server(LinkFault fault) {
  state_->change([&](Settings& settings) {
    settings.faults[kClient] = fault;
    ++settings.fault_generations[kClient];
  });
}

void TcpProxy::set_server_to_client(LinkFault fault) {
  state_->change([&](Settings& settings) {
    settings.faults[kServer] = fault;
    ++settings.fault_generations[kServer];
  });
}

void TcpProxy::heal() {
  state_->change([](Settings& settings) { settings.faults = {}; });
}

void TcpProxy::set_marker(std::string marker) {
  state_->change([&](Settings& settings) { settings.marker = std::move(marker); });
}

void TcpProxy::set_only_marked(bool only_marked) {
  state_->change([&](Settings& settings) { settings.only_marked = only_marked; });
}

void TcpProxy::set_accepting(bool accepting) {
  state_->change([&](Settings& settings) { settings.accepting = accepting; });
}

void TcpProxy::reset_all() {
  state_->change([](Settings& settings) { ++settings.resets; });
}

std::size_t TcpProxy::connection_count() const {
  const MutexLock lock{state_->mutex};
  return state_->connection_count;
}

}  // namespace tiercel::testing
