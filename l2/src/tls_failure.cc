// All that comes from the other side (names in certificates) passes through server_text: it is
// printable and bounded. The same failure has the same text each time, for it is logged once: no
// text tells the present time.

#include "tls_failure.h"

#include <arpa/inet.h>
#include <openssl/asn1.h>
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <ctime>
#include <memory>
#include <utility>
#include <vector>

#include "server_text.h"

namespace tiercel::l2 {
namespace {

constexpr std::size_t kNamesShownMax = 8;

std::string name_text(const X509_NAME* name) {
  const std::unique_ptr<BIO, decltype(&BIO_free)> out{BIO_new(BIO_s_mem()), &BIO_free};
  if (out == nullptr || name == nullptr) return "?";
  X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253);
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(out.get(), &bytes);
  if (size <= 0) return "(no name)";
  return server_text({bytes, static_cast<std::size_t>(size)});
}

std::string time_text(const ASN1_TIME* time) {
  std::tm utc{};
  std::array<char, 40> text{};
  if (time == nullptr || ASN1_TIME_to_tm(time, &utc) != 1) return "?";
  return {text.data(), std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M:%S UTC", &utc)};
}

std::string bytes_of(const ASN1_STRING* string) {
  return {reinterpret_cast<const char*>(ASN1_STRING_get0_data(string)),
          static_cast<std::size_t>(ASN1_STRING_length(string))};
}

std::string address_text(const ASN1_STRING* address) {
  std::array<char, INET6_ADDRSTRLEN> text{};
  const int family = ASN1_STRING_length(address) == 4 ? AF_INET : AF_INET6;
  if (family == AF_INET6 && ASN1_STRING_length(address) != 16) return "?";
  inet_ntop(family, ASN1_STRING_get0_data(address), text.data(), text.size());
  return text.data();
}

// The DNS names and addresses of its subjectAltName; without any, its common name, which OpenSSL
// then takes for the host name.
std::string names_text(const X509* certificate) {
  const std::unique_ptr<GENERAL_NAMES, decltype(&GENERAL_NAMES_free)> alternatives{
      static_cast<GENERAL_NAMES*>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)),
      &GENERAL_NAMES_free};
  std::vector<std::string> names;
  const int count = alternatives != nullptr ? sk_GENERAL_NAME_num(alternatives.get()) : 0;
  for (int i = 0; i < count; ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alternatives.get(), i);
    if (name->type == GEN_DNS) names.push_back(server_text(bytes_of(name->d.dNSName)));
    if (name->type == GEN_IPADD) names.push_back(address_text(name->d.iPAddress));
  }
  if (names.empty()) return "no host, only " + name_text(X509_get_subject_name(certificate));
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kNamesShownMax); ++i) {
    text += (i == 0 ? "" : ", ") + names[i];
  }
  if (names.size() > kNamesShownMax) {
    text += " and " + std::to_string(names.size() - kNamesShownMax) + " more";
  }
  return text;
}

std::string trusted_text(const TlsOptions& options) {
  std::string text;
  if (!options.ca_file.empty()) text = "tls.ca_file '" + options.ca_file + "'";
  if (!options.ca_directory.empty()) {
    text += (text.empty() ? "" : " and ") + ("tls.ca_directory '" + options.ca_directory + "'");
  }
  return text.empty() ? "the system's CAs" : text;
}

// "the server's certificate ('CN=…')"
std::string whose(const TlsCertificateFault& fault) {
  return (fault.depth == 0 ? "the server's certificate ('"
                           : "a CA certificate of the server's chain ('") +
         fault.subject + "')";
}

Error explain_fault(const TlsCertificateFault& fault, const TlsOptions& options,
                    const std::string& name) {
  const std::string this_one = whose(fault);
  const std::string how_to_trust =
      "; it is not among " + trusted_text(options) +
      ": to trust it, put the CA's certificate into tls.ca_file (in a URL: ca=FILE)";
  switch (fault.code) {
    case X509_V_ERR_CERT_HAS_EXPIRED:
      return invalid_argument("TLS: " + this_one + " expired on " + fault.not_after +
                              " by this machine's clock: renew it on the server");
    case X509_V_ERR_CERT_NOT_YET_VALID:
      return invalid_argument("TLS: " + this_one + " is not valid before " + fault.not_before +
                              " by this machine's clock: set the clock of this machine, or of the "
                              "one that issued it");
    case X509_V_ERR_HOSTNAME_MISMATCH:
    case X509_V_ERR_IP_ADDRESS_MISMATCH:
      return invalid_argument(
          "TLS: the server's certificate is not for '" + server_text(name) + "'; it names " +
          fault.names +
          ": dial the server by such a name, or say by which name it is to be known in "
          "tls.server_name, for a Sentinel in tls.sentinel_server_name (in a URL: sni=NAME, "
          "sentinel_sni=NAME), or issue a certificate for that name");
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
      return invalid_argument("TLS: the server's certificate is signed by itself ('" +
                              fault.issuer + "')" + how_to_trust);
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
    case X509_V_ERR_CERT_UNTRUSTED:
      return invalid_argument("TLS: the CA is unknown that issued " + this_one + ": '" +
                              fault.issuer + "'" + how_to_trust);
    case X509_V_ERR_CERT_SIGNATURE_FAILURE:
      return invalid_argument("TLS: " + this_one + " was not signed by the '" + fault.issuer +
                              "' that is trusted here, but by another CA of the same name" +
                              how_to_trust);
    default:
      return invalid_argument("TLS: " + this_one + ", issued by '" + fault.issuer +
                              "', is not acceptable: " + X509_verify_cert_error_string(fault.code) +
                              ": give the server another certificate");
  }
}

// The server did not like the certificate that it asked us for.
Error explain_refused_certificate(int alert, const TlsOptions& options) {
  const std::string what =
      "TLS: the server refuses our client certificate (tls.certificate_file '" +
      options.certificate_file + "'): ";
  switch (alert) {
    case SSL_AD_UNKNOWN_CA:
      return invalid_argument(what +
                              "it does not know the CA that issued it: give the server that "
                              "CA, or us a certificate of one that it knows");
    case SSL_AD_CERTIFICATE_EXPIRED:
      return invalid_argument(what + "it has expired, or is not yet valid: renew it");
    case SSL_AD_CERTIFICATE_REVOKED:
      return invalid_argument(what + "it has been revoked: renew it");
    default:
      return invalid_argument(what + SSL_alert_desc_string_long(alert) +
                              ": the server's log may say more");
  }
}

Error explain_wanted_certificate() {
  return invalid_argument(
      "TLS: the server wants a client certificate and none is configured: set "
      "tls.certificate_file and tls.key_file (in a URL: cert=FILE and key=FILE)");
}

Error explain_version(const TlsOptions& options) {
  const bool is_strict = options.version_min == TlsVersion::k1_3;
  return invalid_argument(
      std::string{"TLS: the protocol version is too low: the server does not speak TLS "} +
      (is_strict ? "1.3" : "1.2") + " or newer: enable it there" +
      (is_strict ? ", or set tls.version_min to 1.2 (in a URL: tls_min=1.2)" : ""));
}

Error explain_alert(int alert, const TlsCircumstances& circumstances, const TlsOptions& options) {
  const std::string text = SSL_alert_desc_string_long(alert);
  const bool has_certificate = !options.certificate_file.empty();
  switch (alert) {
    case SSL_AD_CERTIFICATE_REQUIRED: return explain_wanted_certificate();
    case SSL_AD_PROTOCOL_VERSION: return explain_version(options);
    case SSL_AD_BAD_CERTIFICATE:
    case SSL_AD_UNSUPPORTED_CERTIFICATE:
    case SSL_AD_CERTIFICATE_REVOKED:
    case SSL_AD_CERTIFICATE_EXPIRED:
    case SSL_AD_CERTIFICATE_UNKNOWN:
    case SSL_AD_UNKNOWN_CA:
    case SSL_AD_ACCESS_DENIED:
      if (!circumstances.was_certificate_wanted) break;
      return has_certificate ? explain_refused_certificate(alert, options)
                             : explain_wanted_certificate();
    case SSL_AD_HANDSHAKE_FAILURE:
      // TLS 1.2 has no other alert for it.
      if (circumstances.was_certificate_wanted && !has_certificate) {
        return explain_wanted_certificate();
      }
      return invalid_argument(
          "TLS: the server finds no cipher or signature that both sides accept: look at its "
          "tls-ciphers, tls-ciphersuites and the kind of its key");
    case SSL_AD_UNRECOGNIZED_NAME:
      return invalid_argument(
          "TLS: the server does not know the name that it is dialled by: set tls.server_name (in a "
          "URL: sni=NAME)");
    case SSL_AD_INSUFFICIENT_SECURITY:
      return invalid_argument("TLS: the server finds our ciphers too weak");
    case SSL_AD_INTERNAL_ERROR:
    case SSL_AD_USER_CANCELLED:
      return unavailable("TLS: the server broke off: alert '" + text + "'");
    default: break;
  }
  return protocol_error("TLS: the server broke off: alert '" + text + "'");
}

}  // namespace

TlsCertificateFault describe_fault(X509_STORE_CTX& chain) {
  TlsCertificateFault fault;
  fault.code = X509_STORE_CTX_get_error(&chain);
  fault.depth = X509_STORE_CTX_get_error_depth(&chain);
  const X509* certificate = X509_STORE_CTX_get_current_cert(&chain);
  if (certificate == nullptr) certificate = X509_STORE_CTX_get0_cert(&chain);
  if (certificate == nullptr) return fault;
  fault.subject = name_text(X509_get_subject_name(certificate));
  fault.issuer = name_text(X509_get_issuer_name(certificate));
  fault.names = names_text(certificate);
  fault.not_before = time_text(X509_get0_notBefore(certificate));
  fault.not_after = time_text(X509_get0_notAfter(certificate));
  return fault;
}

Error explain_tls_failure(unsigned long reason, const TlsCircumstances& circumstances,
                          const TlsOptions& options, const std::string& name) {
  if (circumstances.fault) return explain_fault(*circumstances.fault, options, name);
  if (ERR_GET_LIB(reason) != ERR_LIB_SSL) {
    const char* text = reason != 0 ? ERR_reason_error_string(reason) : nullptr;
    return protocol_error(std::string{"TLS: "} + (text != nullptr ? text : "the session broke"));
  }
  const int code = ERR_GET_REASON(reason);
  if (code > SSL_AD_REASON_OFFSET) {
    return explain_alert(code - SSL_AD_REASON_OFFSET, circumstances, options);
  }
  switch (code) {
    case SSL_R_UNSUPPORTED_PROTOCOL:
    case SSL_R_WRONG_SSL_VERSION:
    case SSL_R_VERSION_TOO_LOW: return explain_version(options);
    default: break;
  }
  const char* text = ERR_reason_error_string(reason);
  return protocol_error(std::string{"TLS: the server sent something wrong: "} +
                        (text != nullptr ? text : "unknown"));
}

Error explain_no_tls(std::string_view first_bytes) {
  const char first = first_bytes.empty() ? '\0' : first_bytes.front();
  if (std::string_view{"-+:$*"}.find(first) != std::string_view::npos) {
    return invalid_argument(
        "TLS: the server does not speak TLS on this port, but the plain protocol of Redis: use its "
        "tls-port, or dial without TLS (redis://, redis+sentinel://)");
  }
  return protocol_error("TLS: the server does not speak TLS on this port");
}

// A record's type (change_cipher_spec, alert, handshake, application data) and the high byte of its
// version.
bool looks_like_tls(std::string_view first_bytes) noexcept {
  if (first_bytes.empty() || first_bytes[0] < 20 || first_bytes[0] > 23) return false;
  return first_bytes.size() == 1 || first_bytes[1] == 3;
}

Error explain_unwanted_tls() {
  return invalid_argument(
      "the server speaks TLS on this port: use rediss:// or rediss+sentinel:// "
      "(RedisOptions::tls)");
}

}  // namespace tiercel::l2
