#pragma once

// TcpProxy: a TCP relay of our own on loopback, one listening port in front of one target, whose
// links can be delayed, silenced, cut and reset while they run. Methods: any thread; each change
// takes effect for every byte that is sent after the call has returned.
//
// What one end does travels like its bytes: its FIN or RST is delayed with them, and does not get
// through a blackhole before that is healed, as with a real half-open connection. While a direction
// holds 1 MiB that the other end has not taken, or that is delayed, the proxy reads no more of it
// (back-pressure); so a delay also bounds the throughput.

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

namespace tiercel::testing {

// What happens to the bytes of one direction, for new and for existing connections alike.
struct LinkFault {
  // Each chunk arrives this much later; order is kept. A change applies to bytes under way too.
  std::chrono::milliseconds delay{0};
  // Bytes are read and thrown away, those under way too; the connection stays open.
  bool blackhole = false;
  // 0: as they come; 1: one byte at a time. Each chunk is a segment of its own, 50 us after the
  // last, so that a receiver which keeps up sees them one by one: 20,000 chunks a second at best.
  std::size_t chunk_bytes_max = 0;
  // RST to both ends after this many more bytes passed, counted for each connection by itself from
  // the moment the fault hits it. 0: at once.
  std::optional<std::size_t> reset_after_bytes{};
};

class TcpProxy {
 public:
  // Listens on a free port of 127.0.0.1; aborts when it cannot.
  explicit TcpProxy(std::uint16_t target_port);
  ~TcpProxy();  // RST on every connection.

  [[nodiscard]] std::uint16_t port() const noexcept;
  [[nodiscard]] std::string url() const;  // "redis://127.0.0.1:PORT"

  void set_client_to_server(LinkFault fault);
  void set_server_to_client(LinkFault fault);
  void heal();  // Both directions faultless. Blackholed bytes stay lost.

  // As the two above, but only for connections whose client has sent `marker` (e.g. "SUBSCRIBE"),
  // so that the data connection and the subscription can be treated apart. Empty marker: all
  // connections. The bytes must match exactly, case included; the fault already hits the chunk that
  // brings the marker. A client that sent it before this call is marked if it did so within the
  // first 4 KiB of its connection.
  void set_marker(std::string marker);
  // Faults hit only marked (true, the default) or only unmarked (false) ones.
  void set_only_marked(bool only_marked);

  void set_accepting(bool accepting);  // False: new connections are refused (closed at once).
  void reset_all();                    // RST on every connection; they are gone when it returns.
  // Connections open in the proxy at this moment. A client's connect() returns a moment before its
  // connection counts: poll.
  [[nodiscard]] std::size_t connection_count() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tiercel::testing
