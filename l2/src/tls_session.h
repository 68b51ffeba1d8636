#pragma once

// TlsSession: the client's side of one TLS connection, in memory: bytes from the socket in, plain
// bytes out, and the reverse. It has no socket, no clock of its own and no thread.
//
//   output() holds the ClientHello from the start; send it.
//   give(bytes from the socket);
//   for (;;) switch (next()) { kOpened: write() may begin; kPlain: take plain(); kStarved: stop }
//   send output(), which the handshake, a KeyUpdate or write() may have filled; clear_output().
//
// The server's certificate is verified within the handshake: nothing that was given to write() is
// in output() before that. A renegotiation (TLS 1.2), a KeyUpdate and a new ticket are answered by
// themselves; what is written while one is half received leaves when it is whole. The end of the
// socket's stream is not told to it: an end without close_notify is the connection's business.

#include <openssl/types.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "tiercel/base/result.h"
#include "tiercel/l2/options.h"
#include "tls_failure.h"

namespace tiercel::l2 {

class TlsSession {
 public:
  enum class Event : std::uint8_t {
    kStarved,  // All that was given is used up.
    kOpened,   // The handshake is done and the server verified. Comes once.
    kPlain,    // plain() holds some.
    kEnded,    // The server's close_notify: nothing more will come.
  };

  // `options` must outlive it. `name` is what the certificate must be for: a DNS name or an IP
  // address. Errors: kInvalidArgument when it can be neither, kUnavailable without memory.
  static Result<std::unique_ptr<TlsSession>> create(SSL_CTX& context, const TlsOptions& options,
                                                    const std::string& name);
  ~TlsSession();
  TlsSession(const TlsSession&) = delete;
  TlsSession& operator=(const TlsSession&) = delete;

  // The bytes must stay where they are until next() has answered kStarved, kEnded or an error; no
  // others may be given before that.
  void give(std::string_view wire) noexcept { input_ = wire; }

  // Errors: kInvalidArgument where our configuration or the server's must change (tls_failure.h),
  // kUnavailable, kProtocol. After an error every further call answers it again; output() may hold
  // an alert for the server.
  Result<Event> next();
  // Valid until the next call of next().
  [[nodiscard]] std::string_view plain() const noexcept { return {plain_.data(), plain_bytes_}; }

  // After kOpened, also between two calls of next(). Errors: as next().
  Result<void> write(std::string_view plain);

  // Says close_notify, if it can be said at this moment. Nothing may be written after it.
  void close() noexcept;

  [[nodiscard]] const std::string& output() const noexcept { return output_; }
  void clear_output();

  [[nodiscard]] bool is_handshaking() const noexcept { return state_ == State::kHandshaking; }

 private:
  enum class State : std::uint8_t { kHandshaking, kOpen, kEnded, kFailed };

  struct Bio;  // Where OpenSSL reads and writes.
  struct FreeSsl {
    void operator()(SSL* ssl) const noexcept;
  };

  explicit TlsSession(const TlsOptions& options, const std::string& name);

  Result<void> set_up(SSL_CTX& context);
  Result<void> check_that_it_is_tls();
  Result<Event> shake_hands();
  Result<Event> read();
  Result<void> write_blocked();
  Result<void> encrypt(std::string_view plain);
  Error fail(int returned);
  static int verified(int is_good, X509_STORE_CTX* chain);

  const TlsOptions& options_;
  const std::string name_;
  std::unique_ptr<SSL, FreeSsl> ssl_;
  State state_ = State::kHandshaking;
  std::optional<Error> error_;  // While kFailed.

  std::string_view input_;  // What OpenSSL has not read yet.
  std::string output_;
  std::string blocked_;  // Plain bytes that must wait until a message of the server is whole.

  static constexpr std::size_t kPlainBytesMax = 16 * 1024;  // One record.
  std::array<char, kPlainBytesMax> plain_;
  std::size_t plain_bytes_ = 0;

  bool has_heard_tls_ = false;
  TlsCircumstances circumstances_;
};

}  // namespace tiercel::l2
