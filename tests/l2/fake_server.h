#pragma once

// FakeServer: a loopback listener that answers Redis requests as a test tells it to, for what a
// real server does not do on demand (LOADING, garbage, errors of old versions). One thread; each
// complete request is handed to the handler, whose text is sent as it is.

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <thread>
#include <vector>

namespace tiercel::l2 {

class FakeServer {
 public:
  using Words = std::vector<std::string>;
  // Runs on the server's thread. The bytes to answer with; kHangUp closes the connection after what
  // was answered before.
  using Handler = std::function<std::string(const Words& request)>;
  static inline const std::string kHangUp = "\x01hang up";

  explicit FakeServer(Handler handler);
  ~FakeServer();
  FakeServer(const FakeServer&) = delete;
  FakeServer& operator=(const FakeServer&) = delete;

  [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

  // What a healthy master answers to the handshake; empty for any other request.
  static std::string handshake_reply(const Words& request);

 private:
  void run();

  const Handler handler_;
  int listener_ = -1;
  int wake_[2] = {-1, -1};
  std::uint16_t port_ = 0;
  std::thread thread_;
};

}  // namespace tiercel::l2
