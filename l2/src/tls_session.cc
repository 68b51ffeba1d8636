// Invariants: OpenSSL reads from input_ and appends to output_ through one BIO of ours, which never
// refuses a write, so nothing that OpenSSL was given to send is left half written in it. It asks
// for more bytes only when input_ is empty, and keeps partial records itself, so input_ need not be
// copied. State only goes on: handshaking, open, ended or failed.
//
// The error queue of OpenSSL belongs to the thread: it is cleared before each call whose errors
// are looked at.

#include "tls_session.h"

#include <arpa/inet.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

// Output of a large batch is kept for its capacity up to here.
constexpr std::size_t kOutputKeptBytesMax = 1024 * 1024;

bool is_ip_address(const std::string& name) noexcept {
  in6_addr address{};
  return inet_pton(AF_INET, name.c_str(), &address) == 1 ||
         inet_pton(AF_INET6, name.c_str(), &address) == 1;
}

}  // namespace

struct TlsSession::Bio {
  static TlsSession& session_of(BIO* bio) noexcept {
    return *static_cast<TlsSession*>(BIO_get_data(bio));
  }

  static int read(BIO* bio, char* into, std::size_t size, std::size_t* got) noexcept {
    std::string_view& input = session_of(bio).input_;
    BIO_clear_retry_flags(bio);
    if (input.empty()) {
      BIO_set_retry_read(bio);
      return 0;
    }
    *got = std::min(size, input.size());
    std::memcpy(into, input.data(), *got);
    input.remove_prefix(*got);
    return 1;
  }

  static int write(BIO* bio, const char* bytes, std::size_t size, std::size_t* taken) noexcept {
    BIO_clear_retry_flags(bio);
    session_of(bio).output_.append(bytes, size);
    *taken = size;
    return 1;
  }

  static long control(BIO*, int command, long, void*) noexcept {
    return command == BIO_CTRL_FLUSH ? 1 : 0;
  }

  // Made once, for the life of the process.
  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "tiercel");
      TIERCEL_CHECK(method != nullptr);
      BIO_meth_set_read_ex(method, &read);
      BIO_meth_set_write_ex(method, &write);
      BIO_meth_set_ctrl(method, &control);
      return method;
    }();
    return made;
  }
};

void TlsSession::FreeSsl::operator()(SSL* ssl) const noexcept { SSL_free(ssl); }

TlsSession::TlsSession(const TlsOptions& options, const std::string& name)
    : options_(options), name_(name) {}

TlsSession::~TlsSession() = default;

Result<std::unique_ptr<TlsSession>> TlsSession::create(SSL_CTX& context, const TlsOptions& options,
                                                       const std::string& name) {
  std::unique_ptr<TlsSession> session{new TlsSession(options, name)};
  if (auto set = session->set_up(context); !set) return set.error();
  return session;
}

Result<void> TlsSession::set_up(SSL_CTX& context) {
  ssl_.reset(SSL_new(&context));
  BIO* const bio = ssl_ != nullptr ? BIO_new(Bio::method()) : nullptr;
  if (bio == nullptr) return unavailable("TLS: out of memory");
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_connect_state(ssl_.get());
  SSL_set_app_data(ssl_.get(), this);
  if (!options_.insecure_skip_verification) {
    SSL_set_verify(ssl_.get(), SSL_VERIFY_PEER, &TlsSession::verified);
  }
  SSL_set_cert_cb(
      ssl_.get(),
      [](SSL*, void* self) {
        static_cast<TlsSession*>(self)->circumstances_.was_certificate_wanted = true;
        return 1;
      },
      this);

  // Set also where nothing is verified: SNI chooses the certificate and the server behind a proxy.
  X509_VERIFY_PARAM* const wanted = SSL_get0_param(ssl_.get());
  if (is_ip_address(name_)) {
    // No SNI: RFC 6066 allows only names there.
    if (X509_VERIFY_PARAM_set1_ip_asc(wanted, name_.c_str()) != 1) {
      return unavailable("TLS: out of memory");
    }
  } else {
    // "redis.example.net." is dialled as it stands, but is written without the dot in certificates.
    std::string host = name_;
    if (host.ends_with('.')) host.pop_back();
    X509_VERIFY_PARAM_set_hostflags(wanted, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    // The calls take an empty name for none at all, and would then verify nothing.
    if (host.empty() || SSL_set_tlsext_host_name(ssl_.get(), host.c_str()) != 1 ||
        X509_VERIFY_PARAM_set1_host(wanted, host.c_str(), host.size()) != 1) {
      return invalid_argument("TLS: what the server is called can be no name in a certificate");
    }
  }
  // The ClientHello.
  const auto begun = shake_hands();
  return begun ? Result<void>{} : Result<void>{begun.error()};
}

// Called for each fault of the chain; the first ends the handshake.
int TlsSession::verified(int is_good, X509_STORE_CTX* chain) {
  if (is_good == 1) return 1;
  const auto* ssl =
      static_cast<SSL*>(X509_STORE_CTX_get_ex_data(chain, SSL_get_ex_data_X509_STORE_CTX_idx()));
  auto& self = *static_cast<TlsSession*>(SSL_get_app_data(ssl));
  if (!self.circumstances_.fault) self.circumstances_.fault = describe_fault(*chain);
  return 0;
}

Result<TlsSession::Event> TlsSession::next() {
  plain_bytes_ = 0;
  switch (state_) {
    case State::kFailed: return *error_;
    case State::kEnded: return Event::kEnded;
    case State::kOpen: return read();
    case State::kHandshaking: break;
  }
  if (auto checked = check_that_it_is_tls(); !checked) return checked.error();
  return shake_hands();
}

// What a server that does not speak TLS says must not come out as OpenSSL's "wrong version number".
Result<void> TlsSession::check_that_it_is_tls() {
  if (has_heard_tls_ || input_.empty()) return {};
  if (looks_like_tls(input_)) {
    has_heard_tls_ = true;
    return {};
  }
  state_ = State::kFailed;
  error_ = explain_no_tls(input_);
  return *error_;
}

Result<TlsSession::Event> TlsSession::shake_hands() {
  ERR_clear_error();
  const int returned = SSL_do_handshake(ssl_.get());
  if (returned == 1) {
    state_ = State::kOpen;
    return Event::kOpened;
  }
  if (SSL_get_error(ssl_.get(), returned) == SSL_ERROR_WANT_READ) return Event::kStarved;
  return fail(returned);
}

Result<TlsSession::Event> TlsSession::read() {
  ERR_clear_error();
  const int returned = SSL_read_ex(ssl_.get(), plain_.data(), plain_.size(), &plain_bytes_);
  if (returned == 1) return Event::kPlain;
  plain_bytes_ = 0;
  switch (SSL_get_error(ssl_.get(), returned)) {
    case SSL_ERROR_WANT_READ:
      if (auto written = write_blocked(); !written) return written.error();
      return Event::kStarved;
    case SSL_ERROR_ZERO_RETURN: state_ = State::kEnded; return Event::kEnded;
    default: return fail(returned);
  }
}

Result<void> TlsSession::write(std::string_view plain) {
  if (state_ == State::kFailed) return *error_;
  TIERCEL_CHECK(state_ == State::kOpen || state_ == State::kEnded);
  if (plain.empty() || state_ == State::kEnded) return {};
  // In the middle of a message (a KeyUpdate, a ticket, a renegotiation) OpenSSL refuses to send.
  if (!blocked_.empty() || SSL_in_init(ssl_.get()) != 0) {
    blocked_.append(plain);
    return {};
  }
  return encrypt(plain);
}

Result<void> TlsSession::write_blocked() {
  if (blocked_.empty() || SSL_in_init(ssl_.get()) != 0) return {};
  const std::string plain = std::exchange(blocked_, {});
  return encrypt(plain);
}

Result<void> TlsSession::encrypt(std::string_view plain) {
  std::size_t taken = 0;
  ERR_clear_error();
  const int returned = SSL_write_ex(ssl_.get(), plain.data(), plain.size(), &taken);
  if (returned != 1) return fail(returned);
  TIERCEL_CHECK(taken == plain.size());
  return {};
}

void TlsSession::close() noexcept {
  if (state_ != State::kOpen || SSL_in_init(ssl_.get()) != 0) return;
  ERR_clear_error();
  static_cast<void>(SSL_shutdown(ssl_.get()));
  state_ = State::kEnded;
}

void TlsSession::clear_output() {
  if (output_.capacity() > kOutputKeptBytesMax) output_ = {};
  output_.clear();
}

Error TlsSession::fail(int returned) {
  const int kind = SSL_get_error(ssl_.get(), returned);
  const unsigned long reason = kind == SSL_ERROR_SSL ? ERR_peek_error() : 0;
  state_ = State::kFailed;
  error_ = explain_tls_failure(reason, circumstances_, options_, name_);
  ERR_clear_error();
  return *error_;
}

}  // namespace tiercel::l2
