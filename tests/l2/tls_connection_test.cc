// Connection over TLS, seen from the other end of its socket.

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <future>
#include <thread>

#include "connection.h"
#include "support/test_certificates.h"
#include "support/unique_fd.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using tiercel::testing::CertificateFiles;
using tiercel::testing::TestAuthority;
using tiercel::testing::UniqueFd;

// Accepts one TLS connection, and says how it ended.
class EndWatcher {
 public:
  enum class End : std::uint8_t { kCloseNotify, kTorn };

  explicit EndWatcher(const CertificateFiles& files) : context_{SSL_CTX_new(TLS_server_method())} {
    // Nothing is written but the handshake: not to a client that may have gone by then.
    SSL_CTX_set_num_tickets(context_, 0);
    EXPECT_EQ(SSL_CTX_use_certificate_file(context_, files.certificate.c_str(), SSL_FILETYPE_PEM),
              1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context_, files.key.c_str(), SSL_FILETYPE_PEM), 1);
    listener_ = UniqueFd{socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(bind(listener_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(listen(listener_.get(), 1), 0);
    socklen_t size = sizeof address;
    EXPECT_EQ(getsockname(listener_.get(), reinterpret_cast<sockaddr*>(&address), &size), 0);
    port_ = ntohs(address.sin_port);
    thread_ = std::thread{[this] { serve(); }};
  }
  ~EndWatcher() {
    thread_.join();
    SSL_CTX_free(context_);
  }
  [[nodiscard]] std::uint16_t port() const { return port_; }
  // What was read before the end.
  [[nodiscard]] const std::string& read() const { return read_; }
  [[nodiscard]] End end() {
    auto ended = ended_.get_future();
    EXPECT_EQ(ended.wait_for(60s), std::future_status::ready);
    return ended.get();
  }

 private:
  void serve() {
    const UniqueFd fd{accept(listener_.get(), nullptr, nullptr)};
    SSL* const tls = SSL_new(context_);
    SSL_set_fd(tls, fd.get());
    End end = End::kTorn;
    if (SSL_accept(tls) == 1) {
      char bytes[100];
      int got = 0;
      while ((got = SSL_read(tls, bytes, sizeof bytes)) > 0) {
        read_.append(bytes, static_cast<std::size_t>(got));
      }
      if (SSL_get_error(tls, got) == SSL_ERROR_ZERO_RETURN) end = End::kCloseNotify;
    }
    SSL_free(tls);
    ended_.set_value(end);
  }

  SSL_CTX* context_;
  UniqueFd listener_;
  std::uint16_t port_ = 0;
  std::string read_;
  std::promise<End> ended_;
  std::thread thread_;
};

class Ready final : public Connection::Listener {
 public:
  void connection_ready() override { ready_.set_value(); }
  void connection_lost(const Error& reason) override {
    ADD_FAILURE() << reason.to_string();
    ready_.set_value();
  }
  void wait() { ready_.get_future().get(); }

 private:
  std::promise<void> ready_;
};

// Without it the server could not tell an end from a cut.
TEST(TlsConnection, SaysCloseNotifyWhenItIsClosed) {
  const TestAuthority authority;
  EndWatcher server{authority.issue()};
  auto context = TlsContext::create({.ca_file = authority.file()}, {});
  ASSERT_TRUE(context) << context.error().to_string();
  EventLoop loop;
  ASSERT_TRUE(loop.start());
  Ready ready;
  std::shared_ptr<Connection> connection;
  std::promise<void> handles_closed;
  loop.post([&] {
    connection = std::make_shared<Connection>(
        loop, Connection::Options{{"127.0.0.1", server.port(), {}}, 10s, 10s, {*context, {}}},
        ready, std::shared_ptr<void>(nullptr, [&](void*) { handles_closed.set_value(); }));
    connection->start();
  });
  ready.wait();
  loop.post([&] {
    connection->write("the last words");
    connection->close();
    connection.reset();
  });
  EXPECT_EQ(server.end(), EndWatcher::End::kCloseNotify);
  EXPECT_EQ(server.read(), "the last words");
  handles_closed.get_future().get();
}

}  // namespace
}  // namespace tiercel::l2
