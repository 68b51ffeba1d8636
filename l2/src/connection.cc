// Invariants: a Socket belongs to its Connection until release_socket(); then its owner is null, it
// calls nobody, and it dies in libuv's close callback. `listener_` is null from the moment of
// close() or of the connection_lost call; every callback that can be followed by another checks it.
// Entry points from libuv hold a reference to the Connection, since the listener may drop its own.
//
// The bytes of a uv_write must outlive it, and libuv cancels it only in the close callback: what
// is unsent, with the pins of its chunks, stands in the Socket, not in the Connection.

#include "connection.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <uv.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <deque>
#include <utility>

#include "event_loop_native.h"
#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kAddressesMax = 8;  // Of one name; more would leave each too little time.

void set_option(int fd, int level, int option, int value) {
  // Best effort: a kernel without one of these options still has deadlines on every command.
  static_cast<void>(setsockopt(fd, level, option, &value, sizeof value));
}

// What is to be written, oldest first; pins the chunks of it.
class UnsentSlices {
 public:
  UnsentSlices() = default;
  UnsentSlices(const UnsentSlices&) = delete;
  UnsentSlices& operator=(const UnsentSlices&) = delete;
  ~UnsentSlices() {
    for (const Slice& slice : slices_) unpin(slice.chunk);
  }

  [[nodiscard]] bool empty() const noexcept { return slices_.empty(); }
  void push(const Slice& slice) {
    pin(slice.chunk);
    slices_.push_back(slice);
  }
  // The first of them as libuv wants them, without taking them; how many, and of how many bytes.
  struct Gathered {
    unsigned count;
    std::size_t bytes;
  };
  [[nodiscard]] Gathered gather(std::span<uv_buf_t> buffers, std::size_t bytes_max) const noexcept {
    Gathered gathered{0, 0};
    for (const Slice& slice : slices_) {
      if (gathered.count == buffers.size() || gathered.bytes == bytes_max) break;
      const std::size_t size = std::min(slice.size, bytes_max - gathered.bytes);
      // libuv only reads the bytes.
      buffers[gathered.count++] =
          uv_buf_init(const_cast<char*>(slice.data), static_cast<unsigned>(size));
      gathered.bytes += size;
    }
    return gathered;
  }
  void drop(std::size_t bytes) noexcept {
    while (bytes > 0) {
      Slice& first = slices_.front();
      if (bytes < first.size) {
        first.data += bytes;
        first.size -= bytes;
        return;
      }
      bytes -= first.size;
      unpin(first.chunk);
      slices_.pop_front();
    }
  }

 private:
  std::deque<Slice> slices_;
};

}  // namespace

struct SocketAddress {
  sockaddr_storage storage;
  [[nodiscard]] const sockaddr* get() const noexcept {
    return reinterpret_cast<const sockaddr*>(&storage);
  }
};

struct Connection::Socket {
  explicit Socket(Connection& connection)
      : owner(&connection), open_handles(connection.open_handles_) {}

  Connection* owner;
  std::shared_ptr<void> open_handles;
  union {
    uv_handle_t handle;
    uv_stream_t stream;
    uv_tcp_t tcp;
    uv_pipe_t pipe;
  };
  uv_connect_t connect_request{};
  uv_write_t write_request{};
  std::size_t writing_bytes = 0;  // Of `unsent`, in the uv_write.
  UnsentSlices unsent;

  static Socket* of(void* data) noexcept { return static_cast<Socket*>(data); }
  static void connected(uv_connect_t* request, int status) {
    Connection* const owner = of(request->handle->data)->owner;
    if (owner == nullptr) return;
    const auto self = owner->shared_from_this();
    if (status == 0) {
      self->address_connected();
    } else {
      self->address_failed(status);
    }
  }
  static void give_buffer(uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
    Connection* const owner = of(handle->data)->owner;
    if (owner == nullptr) return;  // libuv then reports that there is no buffer.
    const std::span<char> room = owner->tls_ != nullptr
                                     ? std::span{owner->tls_input_.get(), RespParser::kReadBytes}
                                     : owner->parser_.room();
    *buffer = uv_buf_init(room.data(), static_cast<unsigned>(room.size()));
  }
  static void read(uv_stream_t* stream, ssize_t got, const uv_buf_t* buffer) {
    Connection* const owner = of(stream->data)->owner;
    if (owner == nullptr || got == 0) return;
    owner->loop_.native().is_awake();
    const auto self = owner->shared_from_this();
    if (got > 0) {
      const auto bytes = static_cast<std::size_t>(got);
      self->received({buffer->base, bytes}, bytes == buffer->len);
    } else {
      self->lose(self->end_of_input(static_cast<int>(got)));
    }
  }
  static void written(uv_write_t* request, int status) {
    Connection* const owner = of(request->handle->data)->owner;
    if (owner == nullptr) return;
    const auto self = owner->shared_from_this();
    self->wrote(status);
  }
  static void closed(uv_handle_t* gone) { delete of(gone->data); }
};

// A name lookup runs on a thread of libuv's and cannot be stopped once it has begun, so it owns
// itself and finds its Connection gone, or not.
struct Connection::Lookup {
  uv_getaddrinfo_t request{};
  std::weak_ptr<Connection> connection;

  static void done(uv_getaddrinfo_t* request, int status, addrinfo* found) {
    const std::unique_ptr<Lookup> lookup{static_cast<Lookup*>(request->data)};
    const std::unique_ptr<addrinfo, decltype(&uv_freeaddrinfo)> list{found, &uv_freeaddrinfo};
    const auto self = lookup->connection.lock();
    if (self == nullptr || self->listener_ == nullptr) return;
    self->lookup_ = nullptr;
    if (status != 0) return self->lose(self->trouble("name lookup", status));
    for (const addrinfo* info = found; info != nullptr; info = info->ai_next) {
      if (self->addresses_.size() == kAddressesMax) break;
      if (info->ai_addrlen > sizeof(sockaddr_storage)) continue;
      SocketAddress address{};
      std::memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
      self->addresses_.push_back(address);
    }
    self->dial_next();
  }
};

Connection::Connection(EventLoop& loop, Options options, Listener& listener,
                       std::shared_ptr<void> open_handles)
    : loop_(loop),
      options_(std::move(options)),
      listener_(&listener),
      open_handles_(std::move(open_handles)) {}

Connection::~Connection() { TIERCEL_CHECK(socket_ == nullptr && lookup_ == nullptr); }

Error Connection::trouble(std::string_view what, int status) const {
  return unavailable(std::string{what} + " failed: " + uv_strerror(status),
                     options_.endpoint.to_string());
}

// What the far end may have meant by it when it said nothing before.
Error Connection::end_of_input(int status) const {
  Error error = status == UV_EOF
                    ? unavailable("the server closed the connection", options_.endpoint.to_string())
                    : trouble("read", status);
  if (tls_ != nullptr && tls_->is_handshaking()) {
    error.message +=
        " during the TLS handshake (is this its TLS port, and has it room for clients?)";
  } else if (tls_ == nullptr && !has_received_ && endpoint().unix_path.empty()) {
    error.message += " without a word (if this is a TLS port, use rediss://)";
  }
  return error;
}

// Redis takes a ClientHello for the beginning of a long request, and waits for the rest.
std::string_view Connection::silence_hint() const noexcept {
  if (tls_ == nullptr || has_received_) return {};
  return " (it is connected, but has not said a word of TLS: a server that does not speak TLS on "
         "this port stays silent like that; then use its tls-port, or redis:// for rediss://)";
}

void Connection::start() {
  const Endpoint& endpoint = options_.endpoint;
  if (!endpoint.unix_path.empty()) {
    socket_ = new Socket(*this);
    if (const int status = uv_pipe_init(uv_loop_of(loop_), &socket_->pipe, 0); status != 0) {
      delete std::exchange(socket_, nullptr);
      return lose_later(trouble("socket", status));
    }
    socket_->handle.data = socket_;
    socket_->connect_request.data = socket_;
    uv_pipe_connect(&socket_->connect_request, &socket_->pipe, endpoint.unix_path.c_str(),
                    &Socket::connected);
    return;
  }
  SocketAddress address{};
  if (uv_ip4_addr(endpoint.host.c_str(), endpoint.port,
                  reinterpret_cast<sockaddr_in*>(&address.storage)) == 0 ||
      uv_ip6_addr(endpoint.host.c_str(), endpoint.port,
                  reinterpret_cast<sockaddr_in6*>(&address.storage)) == 0) {
    addresses_.push_back(address);
    return dial_next();
  }
  look_up();
}

void Connection::look_up() {
  auto lookup = std::make_unique<Lookup>();
  lookup->request.data = lookup.get();
  lookup->connection = weak_from_this();
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  const std::string port = std::to_string(options_.endpoint.port);
  const int status = uv_getaddrinfo(uv_loop_of(loop_), &lookup->request, &Lookup::done,
                                    options_.endpoint.host.c_str(), port.c_str(), &hints);
  if (status != 0) return lose_later(trouble("name lookup", status));
  lookup_ = lookup.release();
}

void Connection::dial_next() {
  if (next_address_ == addresses_.size()) {
    return lose_later(unavailable("the host name has no address", options_.endpoint.to_string()));
  }
  const std::size_t addresses_left = addresses_.size() - next_address_;
  const SocketAddress& address = addresses_[next_address_++];
  socket_ = new Socket(*this);
  int status = uv_tcp_init(uv_loop_of(loop_), &socket_->tcp);
  if (status != 0) {
    delete std::exchange(socket_, nullptr);
    return lose_later(trouble("socket", status));
  }
  socket_->handle.data = socket_;
  status =
      uv_tcp_connect(&socket_->connect_request, &socket_->tcp, address.get(), &Socket::connected);
  if (status != 0) {
    release_socket();
    if (addresses_left > 1) return dial_next();
    return lose_later(trouble("connect", status));
  }
  if (addresses_left > 1) {
    const Duration slice = options_.connect_timeout / static_cast<Duration::rep>(addresses_.size());
    slice_timer_ = loop_.run_after(slice, [self = shared_from_this()] {
      self->slice_timer_ = 0;
      if (self->listener_ != nullptr) self->address_failed(UV_ETIMEDOUT);
    });
  }
}

void Connection::address_failed(int status) {
  loop_.cancel(std::exchange(slice_timer_, 0));
  release_socket();
  if (next_address_ < addresses_.size()) return dial_next();
  lose(trouble("connect", status));
}

void Connection::address_connected() {
  loop_.cancel(std::exchange(slice_timer_, 0));
  int fd = -1;
  if (options_.endpoint.unix_path.empty() && uv_fileno(&socket_->handle, &fd) == 0) {
    // Idle time, then two probes: together about silence_max. TCP_USER_TIMEOUT does the same while
    // bytes of ours are unacknowledged, where keepalive sends nothing.
    const auto probe_s = static_cast<int>(
        std::clamp<std::int64_t>(to_milliseconds(options_.silence_max) / 3000, 1, 3600));
    const auto user_timeout_ms = static_cast<int>(
        std::clamp<std::int64_t>(to_milliseconds(options_.silence_max), 1000, 3'600'000));
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, probe_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, probe_s);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, 2);
    set_option(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, user_timeout_ms);
  }
  const int status = uv_read_start(&socket_->stream, &Socket::give_buffer, &Socket::read);
  if (status != 0) return lose(trouble("read", status));
  is_open_ = true;
  if (options_.tls.context != nullptr) return begin_tls();
  listener_->connection_ready();
}

void Connection::begin_tls() {
  const TlsTarget& tls = options_.tls;
  auto session = tls.context->open_session(tls.name.empty() ? options_.endpoint.host : tls.name);
  if (!session) {
    Error error = session.error();
    error.endpoint = options_.endpoint.to_string();
    return lose(std::move(error));
  }
  tls_ = std::move(*session);
  tls_input_ = std::make_unique_for_overwrite<char[]>(RespParser::kReadBytes);
  send_tls_output();
}

// The one place where bytes come from the socket. Plain ones stand in the parser's room already.
void Connection::received(std::string_view bytes, bool is_full) {
  if (tls_ != nullptr) {
    received_tls(bytes, is_full);
  } else if (!has_received_ && looks_like_tls(bytes)) {
    Error error = explain_unwanted_tls();
    error.endpoint = options_.endpoint.to_string();
    lose(std::move(error));
  } else {
    parser_.filled(bytes.size());
    pass_on_replies(is_full);
  }
  has_received_ = true;
}

void Connection::received_tls(std::string_view bytes, bool is_full) {
  tls_->give(bytes);
  while (listener_ != nullptr) {
    const auto event = tls_->next();
    if (!event) {
      send_tls_output();  // An alert that tells the server why.
      Error error = event.error();
      error.endpoint = options_.endpoint.to_string();
      return lose(std::move(error));
    }
    switch (*event) {
      // What the listener writes leaves together with the end of our handshake.
      case TlsSession::Event::kOpened: listener_->connection_ready(); break;
      case TlsSession::Event::kPlain:
        // An error shows itself again in parse().
        static_cast<void>(parser_.feed(tls_->plain()));
        pass_on_replies(true);
        break;
      case TlsSession::Event::kEnded: return lose(end_of_input(UV_EOF));
      case TlsSession::Event::kStarved:
        send_tls_output();
        if (listener_ != nullptr) listener_->connection_read_end(is_full);
        return;
    }
  }
}

void Connection::pass_on_replies(bool is_full) {
  while (listener_ != nullptr) {
    switch (parser_.parse()) {
      case RespParser::Outcome::kReply: listener_->connection_reply_view(parser_.view()); break;
      case RespParser::Outcome::kMore: return listener_->connection_read_end(is_full);
      case RespParser::Outcome::kError: {
        Error error = parser_.error();
        error.endpoint = options_.endpoint.to_string();
        return lose(std::move(error));
      }
    }
  }
}

void Connection::write(std::string_view bytes) {
  if (!is_open_ || bytes.empty()) return;
  if (tls_ == nullptr) return write_wire(bytes);
  if (auto written = tls_->write(bytes); !written) return lose_later(written.error());
  send_tls_output();
}

void Connection::send_tls_output() {
  if (is_open_ && !tls_->output().empty()) write_wire(tls_->output());
  tls_->clear_output();
}

void Connection::write_wire(std::string_view bytes) {
  OwnChunk copy = make_chunk(bytes.size());
  std::memcpy(copy->bytes(), bytes.data(), bytes.size());
  copy->added_final = 0;  // No command's: it lives by its pins.
  WriteChunk* const chunk = copy.release();
  pin(chunk);
  socket_->unsent.push({chunk->bytes(), bytes.size(), chunk});
  unpin(chunk);
  if (!is_writing_) write_queued();
}

void Connection::write(std::span<const Slice> slices) {
  if (!is_open_) return;
  if (tls_ != nullptr) {
    for (const Slice& slice : slices) {
      if (auto written = tls_->write({slice.data, slice.size}); !written) {
        return lose_later(written.error());
      }
    }
    return send_tls_output();
  }
  for (const Slice& slice : slices) socket_->unsent.push(slice);
  if (!is_writing_) write_queued();
}

// The one place where bytes go to the socket, with begin_write.
void Connection::write_queued() {
  while (!socket_->unsent.empty()) {
    if (turn_bytes_ >= kTurnBytesMax) return begin_write();  // Goes on in the next turn.
    std::array<uv_buf_t, kSlicesMax> buffers;
    const auto [count, bytes] = socket_->unsent.gather(buffers, kWriteBytesMax);
    const int sent = uv_try_write(&socket_->stream, buffers.data(), count);
    if (sent < 0 && sent != UV_EAGAIN) return lose_later(trouble("write", sent));
    const std::size_t taken = sent < 0 ? 0 : static_cast<std::size_t>(sent);
    turn_bytes_ += taken;
    socket_->unsent.drop(taken);
    if (taken < bytes) return begin_write();
  }
}

void Connection::begin_write() {
  std::array<uv_buf_t, kSlicesMax> buffers;
  const auto [count, bytes] = socket_->unsent.gather(buffers, kWriteBytesMax);
  socket_->writing_bytes = bytes;
  const int status =
      uv_write(&socket_->write_request, &socket_->stream, buffers.data(), count, &Socket::written);
  if (status != 0) return lose_later(trouble("write", status));
  is_writing_ = true;
}

void Connection::wrote(int status) {
  is_writing_ = false;
  if (status != 0) return lose(trouble("write", status));
  if (!is_open_) return;
  turn_bytes_ = 0;
  socket_->unsent.drop(std::exchange(socket_->writing_bytes, 0));
  write_queued();
  if (is_open_ && !is_writing_) listener_->connection_drained();
}

std::optional<LentSocket> Connection::lend() {
  LentSocket lent{.parser = &parser_};
  const bool is_idle = is_open_ && !is_writing_ && socket_->unsent.empty() && parser_.is_empty();
  if (!is_idle || tls_ != nullptr || uv_fileno(&socket_->handle, &lent.fd) != 0)
    return std::nullopt;
  uv_read_stop(&socket_->stream);
  return lent;
}

void Connection::take_back(const HandBack& how) {
  if (!is_open_) return;
  const auto self = shared_from_this();
  if (how.failure != 0) return lose(end_of_input(how.failure));
  const int status = uv_read_start(&socket_->stream, &Socket::give_buffer, &Socket::read);
  if (status != 0) return lose(trouble("read", status));
  if (how.has_reply) listener_->connection_reply_view(parser_.view());
  if (how.has_reply || !parser_.is_empty()) pass_on_replies(false);
}

void Connection::close() {
  listener_ = nullptr;
  loop_.cancel(std::exchange(slice_timer_, 0));
  if (lookup_ != nullptr) {
    // Succeeds only while the lookup is still queued; either way it calls done() and dies.
    uv_cancel(reinterpret_cast<uv_req_t*>(&std::exchange(lookup_, nullptr)->request));
  }
  release_socket();
}

void Connection::release_socket() {
  if (tls_ != nullptr && is_open_ && !is_writing_) {
    tls_->close();
    send_tls_output();  // Whatever the kernel does not take of it is lost with the socket.
  }
  is_open_ = false;
  if (socket_ == nullptr) return;
  socket_->owner = nullptr;
  uv_close(&socket_->handle, &Socket::closed);
  socket_ = nullptr;
}

void Connection::lose(Error reason) {
  Listener* const listener = listener_;
  if (listener == nullptr) return;
  close();
  listener->connection_lost(reason);
}

void Connection::lose_later(Error reason) {
  is_open_ = false;
  loop_.post([self = shared_from_this(), reason = std::move(reason)]() mutable {
    self->lose(std::move(reason));
  });
}

}  // namespace tiercel::l2
