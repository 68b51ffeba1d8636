#pragma once

// TlsMemoryServer: the server's side of a TLS connection, by OpenSSL's own memory BIOs, for tests
// of TlsSession without sockets. And MemoryClient: a TlsSession that writes down what comes.

#include <gtest/gtest.h>
#include <openssl/err.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "support/test_certificates.h"
#include "tls_context.h"
#include "tls_session.h"

namespace tiercel::l2 {

struct TlsServerSpec {
  testing::CertificateFiles certificate{};
  std::string client_ca{};  // Not empty: it insists on a client certificate of this CA.
  int version_min = TLS1_2_VERSION;
  int version_max = TLS1_3_VERSION;
};

class TlsMemoryServer {
 public:
  explicit TlsMemoryServer(const TlsServerSpec& spec)
      : context_(SSL_CTX_new(TLS_server_method()), &SSL_CTX_free) {
    SSL_CTX* const context = context_.get();
    // Old protocols only work at level 0.
    if (spec.version_min < TLS1_2_VERSION) SSL_CTX_set_security_level(context, 0);
    SSL_CTX_set_min_proto_version(context, spec.version_min);
    SSL_CTX_set_max_proto_version(context, spec.version_max);
    EXPECT_EQ(SSL_CTX_use_certificate_chain_file(context, spec.certificate.certificate.c_str()), 1);
    EXPECT_EQ(SSL_CTX_use_PrivateKey_file(context, spec.certificate.key.c_str(), SSL_FILETYPE_PEM),
              1);
    if (!spec.client_ca.empty()) {
      SSL_CTX_load_verify_file(context, spec.client_ca.c_str());
      SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
    }
    ssl_.reset(SSL_new(context));
    SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
    SSL_set_accept_state(ssl_.get());
  }

  [[nodiscard]] SSL* ssl() noexcept { return ssl_.get(); }

  // Takes bytes in, goes on with the handshake or reads.
  void give(std::string_view wire) {
    BIO_write(SSL_get_rbio(ssl()), wire.data(), static_cast<int>(wire.size()));
    ERR_clear_error();
    if (SSL_is_init_finished(ssl()) == 0) SSL_do_handshake(ssl());
    std::array<char, 4096> buffer{};
    std::size_t got = 0;
    while (SSL_read_ex(ssl(), buffer.data(), buffer.size(), &got) == 1) {
      received_.append(buffer.data(), got);
    }
    ERR_clear_error();
  }
  void write(std::string_view plain) {
    std::size_t taken = 0;
    ERR_clear_error();
    EXPECT_EQ(SSL_write_ex(ssl(), plain.data(), plain.size(), &taken), 1);
  }
  // What it has to send.
  [[nodiscard]] std::string take() {
    std::string wire(BIO_ctrl_pending(SSL_get_wbio(ssl())), '\0');
    if (wire.empty()) return wire;
    BIO_read(SSL_get_wbio(ssl()), wire.data(), static_cast<int>(wire.size()));
    return wire;
  }
  [[nodiscard]] const std::string& received() const noexcept { return received_; }

 private:
  std::unique_ptr<SSL_CTX, decltype(&SSL_CTX_free)> context_;
  struct FreeSsl {
    void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
  };
  std::unique_ptr<SSL, FreeSsl> ssl_;
  std::string received_;
};

struct MemoryClient {
  explicit MemoryClient(std::unique_ptr<TlsSession> opened) : session(std::move(opened)) {}

  // In pieces of `piece` bytes, each in memory of its own, so that a sanitizer sees a read past it.
  void give(std::string_view wire, std::size_t piece = std::string_view::npos) {
    while (!wire.empty() && !error && !is_ended) {
      const std::string part{wire.substr(0, piece)};
      wire.remove_prefix(part.size());
      session->give(part);
      drain();
    }
  }
  void drain() {
    for (;;) {
      const auto event = session->next();
      if (!event) {
        error = event.error();
        return;
      }
      switch (*event) {
        case TlsSession::Event::kOpened: ++openings; break;
        case TlsSession::Event::kPlain: received.append(session->plain()); break;
        case TlsSession::Event::kEnded: is_ended = true; return;
        case TlsSession::Event::kStarved: return;
      }
    }
  }
  [[nodiscard]] std::string take() {
    std::string wire = session->output();
    session->clear_output();
    return wire;
  }

  std::unique_ptr<TlsSession> session;
  std::string received;
  int openings = 0;
  bool is_ended = false;
  std::optional<Error> error;
};

// Until neither has anything more to say.
inline void converse(MemoryClient& client, TlsMemoryServer& server,
                     std::size_t piece = std::string_view::npos) {
  for (;;) {
    const std::string up = client.take();
    if (!up.empty()) server.give(up);
    const std::string down = server.take();
    client.give(down, piece);
    if (up.empty() && down.empty()) return;
  }
}

}  // namespace tiercel::l2
