#pragma once

// Connection: one socket to one endpoint (TCP, with or without TLS, or Unix), replies in, bytes
// out. It knows nothing of what the replies mean, and dials once: a new attempt is a new
// Connection. Loop thread only.
//
// The listener must stay alive until close() was called or connection_lost() came; whichever is
// first is the last it hears. No listener call comes from within start(), write() or close(). The
// uv handles live on by themselves until libuv has closed them, and hold `open_handles` until then.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loan.h"
#include "resp_parser.h"
#include "tiercel/base/clock.h"
#include "tiercel/base/error.h"
#include "tiercel/l2/event_loop.h"
#include "tiercel/l2/options.h"
#include "tls_context.h"
#include "write_chunk.h"

namespace tiercel::l2 {

struct SocketAddress;  // A sockaddr.

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  class Listener {
   public:
    virtual ~Listener() = default;
    virtual void connection_ready() = 0;
    // Each reply comes by the first of these; a listener overrides it, or the second.
    virtual void connection_reply_view(const ReplyView& reply) {
      connection_reply(reply.to_reply());
    }
    virtual void connection_reply(Reply) {}
    // All the replies that came with one read have been passed on. `more`: it took as many bytes as
    // it could, so there are probably more, and then the next read follows at once.
    virtual void connection_read_end(bool /*more*/) {}
    // What write() could not hand to the kernel at once has been handed to it now.
    virtual void connection_drained() {}
    virtual void connection_lost(const Error& reason) = 0;
  };

  struct Options {
    Endpoint endpoint;
    // Divided among the addresses of a name, so that a dead first one leaves time for the others.
    // The caller bounds the attempt as a whole.
    Duration connect_timeout{};
    // A peer that is gone is noticed in about this time, also when nothing is in flight.
    Duration silence_max{};
    TlsTarget tls{};
  };

  Connection(EventLoop& loop, Options options, Listener& listener,
             std::shared_ptr<void> open_handles);
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void start();
  void close();

  // After connection_ready. Begins to send at once; what the kernel does not take is sent later, in
  // order. These bytes are copied.
  void write(std::string_view bytes);
  // These are not: their chunks are pinned for as long as they are needed.
  void write(std::span<const Slice> slices);
  // True while earlier bytes still wait for the kernel, and when nothing can be sent any more:
  // bytes given to write() now would certainly not leave at once.
  [[nodiscard]] bool write_busy() const noexcept { return is_writing_ || !is_open_; }

  // Stops reading, so that another thread may use the socket and the parser until take_back, before
  // which nothing else is called. Nothing where that cannot be: TLS, bytes still to be written,
  // part of a reply read. The caller sets kick_fd.
  [[nodiscard]] std::optional<LentSocket> lend();
  // It is ours again. Tells the listener at once, from within, what the borrower has left behind.
  void take_back(const HandBack& how);

  // The most that one system call is given, and a connection writes in one turn of the loop: both
  // bound how long the loop's other work waits.
  static constexpr std::size_t kWriteBytesMax = std::size_t{128} << 10;
  static constexpr std::size_t kTurnBytesMax = std::size_t{256} << 10;
  static constexpr std::size_t kSlicesMax = 64;

  [[nodiscard]] const Endpoint& endpoint() const noexcept { return options_.endpoint; }
  // For the error of who has waited for it in vain: what the silence may mean. Often empty.
  [[nodiscard]] std::string_view silence_hint() const noexcept;

 private:
  struct Socket;
  struct Lookup;

  void look_up();
  void dial_next();
  void address_connected();
  void address_failed(int status);
  void begin_tls();
  void received(std::string_view bytes, bool is_full);
  void received_tls(std::string_view bytes, bool is_full);
  void pass_on_replies(bool is_full);
  void send_tls_output();
  void write_wire(std::string_view bytes);
  void write_queued();
  void begin_write();
  void wrote(int status);
  void lose(Error reason);
  void lose_later(Error reason);
  void release_socket();
  [[nodiscard]] Error trouble(std::string_view what, int status) const;
  [[nodiscard]] Error end_of_input(int status) const;

  EventLoop& loop_;
  const Options options_;
  Listener* listener_;  // Null once closed or lost.
  std::shared_ptr<void> open_handles_;

  std::vector<SocketAddress> addresses_;
  std::size_t next_address_ = 0;
  EventLoop::TimerId slice_timer_ = 0;
  Lookup* lookup_ = nullptr;  // Owned by libuv while it runs.
  Socket* socket_ = nullptr;  // Deletes itself when libuv has closed it.
  bool is_open_ = false;
  bool is_writing_ = false;     // A uv_write is under way.
  std::size_t turn_bytes_ = 0;  // Written since the last uv_write.
  bool has_received_ = false;
  std::unique_ptr<TlsSession> tls_;  // Null: plain, or not yet connected.
  std::unique_ptr<char[]> tls_input_;
  RespParser parser_;
};

}  // namespace tiercel::l2
