#pragma once

// What a TLS failure means, as an Error for a person: what is wrong, with what names and dates, and
// what to change. Those that stay until somebody changes a configuration or renews a certificate
// are kInvalidArgument, like a wrong password: what waits is answered at once, and the client goes
// on dialling, since the change may be made on the server.

#include <openssl/types.h>

#include <optional>
#include <string>
#include <string_view>

#include "tiercel/base/error.h"
#include "tiercel/l2/options.h"

namespace tiercel::l2 {

// Why a certificate was not accepted. The texts come from the certificate and are fit to be shown.
struct TlsCertificateFault {
  int code = 0;   // X509_V_ERR_…
  int depth = 0;  // 0: the server's own certificate; above: a CA's.
  std::string subject;
  std::string issuer;
  std::string names;  // What it is for: "redis.example.net, 10.0.0.1".
  std::string not_before;
  std::string not_after;
};

// What was seen of the handshake that the last error code alone does not tell.
struct TlsCircumstances {
  std::optional<TlsCertificateFault> fault;
  bool was_certificate_wanted = false;  // The server asked for ours.
};

[[nodiscard]] TlsCertificateFault describe_fault(X509_STORE_CTX& chain);

// `reason` is OpenSSL's packed error code, 0 if it gave none; `name` what the server's certificate
// must be for.
[[nodiscard]] Error explain_tls_failure(unsigned long reason, const TlsCircumstances& circumstances,
                                        const TlsOptions& options, const std::string& name);

// The server's first bytes are no TLS record.
[[nodiscard]] Error explain_no_tls(std::string_view first_bytes);

// Whether bytes that came where a RESP reply should begin are a TLS record, and the Error for it.
[[nodiscard]] bool looks_like_tls(std::string_view first_bytes) noexcept;
[[nodiscard]] Error explain_unwanted_tls();

}  // namespace tiercel::l2
