#pragma once

// FakeServer: a Redis server in this process that does what a real one does not do on demand:
// answers by script, cuts a connection after byte k, resets it, stutters, hangs, stops reading,
// answers twice or not at all. Without a script it answers like a small Redis 7 (FakeRedis).
//
//   FakeServer server;
//   server.on("GET", [](const FakeServer::Words&) { return resp::error("LOADING …"); });
//   server.inject({.end_after_bytes = 7, .resets = true}, FakeServer::named("SET"));
//   client.connect(server.url());
//
// It listens on a loopback port (ReservedPort: the same one after kill() and restart()) and on a
// Unix socket, and runs on one thread of its own; it is gone, connections included, when its
// destructor returns. Handlers, predicates and choosers run on that thread and must not wait for
// the test's. Every method may be called on any thread, a handler's included: it is carried out on
// the server's thread, between two requests, and has happened when the call returns.

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "support/fake_redis.h"

namespace tiercel::testing {

class FakeServer {
 public:
  using Words = std::vector<std::string>;
  // The bytes to answer with (resp_text.h writes them): none is no answer, kHangUp closes the
  // connection after what was answered before.
  using Handler = std::function<std::string(const Words& request)>;
  static inline const std::string kHangUp = "\x01hang up";

  struct Request {
    int connection;  // 1 for the first that was accepted.
    int command;     // 1 for the first on its connection, the handshake's included.
    const Words& words;
    [[nodiscard]] bool is(std::string_view name) const;  // Case does not matter.
  };

  // What happens to the answer of one request; some of it stays with the connection. Several may be
  // set at once. The command itself is carried out in any case.
  struct Fault {
    std::optional<std::string> instead{};            // These bytes in place of the answer.
    std::size_t copies = 1;                          // 0: the answer is dropped. 2: it comes twice.
    std::optional<std::size_t> truncate_to_bytes{};  // The rest of the answer never comes.
    std::chrono::milliseconds delay{0};              // It, and all behind it, leaves so much later.
    // The connection ends when this many more bytes, counted from the first of this answer, have
    // been sent, those of later answers included. By FIN; requests are read to the end, so that the
    // client gets every byte. `resets`: by RST, and what the client has not read may be lost.
    std::optional<std::size_t> end_after_bytes{};
    bool resets = false;
    // From here on: this many bytes at a time, each a segment of its own, at most one every 20 us.
    // 0: as they come.
    std::size_t chunk_bytes_max = 0;
    // After this many more bytes, counted likewise, nothing is sent until release(). Requests are
    // carried out.
    std::optional<std::size_t> hang_after_bytes{};
    bool stops_reading = false;  // From here on no request is read until release().
  };
  using Predicate = std::function<bool(const Request&)>;
  using Chooser = std::function<std::optional<Fault>(const Request&)>;

  // Answers like a Redis, but for what on() says.
  FakeServer();
  // The handler answers everything.
  explicit FakeServer(Handler handler);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept;
  [[nodiscard]] std::string url() const;        // "redis://127.0.0.1:PORT"
  [[nodiscard]] std::string endpoint() const;   // "127.0.0.1:PORT"
  [[nodiscard]] std::string unix_path() const;  // In $TMPDIR, or /tmp.

  // What a healthy master answers to the handshake; empty for any other request.
  static std::string handshake_reply(const Words& request);

  // Script. Replaces the answer of the command `name`; an empty handler gives it back.
  void on(const std::string& name, Handler handler);
  // FakeRedis' own knobs and data: `change` runs on the server's thread.
  void with_redis(const std::function<void(FakeRedis&)>& change);
  // To every subscriber of `channel`. How many there were.
  std::size_t publish(const std::string& channel, const std::string& payload);

  // Faults. A request gets the first fault whose predicate is true of it and that has not been used
  // up, or else the chooser's.
  void inject(Fault fault, Predicate when, int times = 1);
  void choose_faults(Chooser chooser);  // Empty: no more.
  void clear_faults();                  // Injected and chosen ones; those that have struck stay.
  static Predicate named(std::string name);
  static Predicate at(int connection, int command);
  static Predicate any_request();

  // All connections that exist now. By FIN, or by RST; they are closed when it returns.
  void end_connections(bool resets);
  void release();  // Whoever hangs or is not read goes on.
  // As SIGSTOP and SIGCONT: the kernel accepts connections and bytes, nobody reads them.
  void freeze();
  void thaw();
  // As SIGKILL, and a new start on the same port: nobody listens in between; data and scripts are
  // gone, the run id is new. Handlers and faults stay.
  void kill();
  void restart();
  // A subscriber to whom more than this is still to be sent is disconnected; as
  // client-output-buffer-limit. None at first.
  void limit_subscribers(std::size_t output_bytes_max);

  [[nodiscard]] int connections_accepted() const;
  [[nodiscard]] std::size_t connections_open() const;
  // Requests read so far with this name (upper case).
  [[nodiscard]] std::size_t requests(const std::string& name) const;

 private:
  class Core;
  std::unique_ptr<Core> core_;
};

}  // namespace tiercel::testing
