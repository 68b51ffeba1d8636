// Invariant: context_ is always complete: a new one is made from all files, and takes the old one's
// place only when every one of them is good. Sessions keep theirs alive.

#include "tls_context.h"

#include <dirent.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <system_error>
#include <utility>

#include "tiercel/base/check.h"

namespace tiercel::l2 {
namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};
using BioPtr = std::unique_ptr<BIO, Free<&BIO_free>>;
using CertificatePtr = std::unique_ptr<X509, Free<&X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<&EVP_PKEY_free>>;

Error bad_file(const char* option, const std::string& path, const std::string& why) {
  return invalid_argument("tls." + (option + (" '" + path + "': ")) + why);
}

std::string errno_text() { return std::generic_category().message(errno); }

Result<BioPtr> open_file(const char* option, const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) return bad_file(option, path, errno_text());
  if (S_ISDIR(status.st_mode)) return bad_file(option, path, "is a directory, not a file");
  std::FILE* const file = std::fopen(path.c_str(), "rbe");
  if (file == nullptr) return bad_file(option, path, errno_text());
  BioPtr bio{BIO_new_fp(file, BIO_CLOSE)};
  TIERCEL_CHECK(bio != nullptr);
  return bio;
}

// "9d66eef0.0", as `openssl rehash` names its links.
bool is_hashed_name(std::string_view name) noexcept {
  const auto is_hex = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); };
  return name.size() >= 10 && std::all_of(name.begin(), name.begin() + 8, is_hex) && name[8] == '.';
}

Result<void> check_directory(const std::string& path) {
  const std::unique_ptr<DIR, Free<&closedir>> directory{opendir(path.c_str())};
  if (directory == nullptr) return bad_file("ca_directory", path, errno_text());
  while (const dirent* entry = readdir(directory.get())) {
    if (is_hashed_name(entry->d_name)) return {};
  }
  return bad_file("ca_directory", path,
                  "holds no certificates under their hashed names: run `openssl rehash` on it");
}

struct Passphrase {
  const std::string& text;
  bool was_asked_for = false;
};

// Without a callback OpenSSL would ask at the terminal.
int give_passphrase(char* into, int size, int, void* passphrase_pointer) {
  auto& passphrase = *static_cast<Passphrase*>(passphrase_pointer);
  passphrase.was_asked_for = true;
  if (passphrase.text.empty() || passphrase.text.size() > static_cast<std::size_t>(size)) return -1;
  std::memcpy(into, passphrase.text.data(), passphrase.text.size());
  return static_cast<int>(passphrase.text.size());
}

Result<KeyPtr> read_key(const TlsOptions& options) {
  auto file = open_file("key_file", options.key_file);
  if (!file) return file.error();
  Passphrase passphrase{options.key_passphrase};
  KeyPtr key{PEM_read_bio_PrivateKey(file->get(), nullptr, &give_passphrase, &passphrase)};
  if (key != nullptr) return key;
  if (!passphrase.was_asked_for) {
    return bad_file("key_file", options.key_file, "holds no private key in PEM form");
  }
  return bad_file("key_file", options.key_file,
                  options.key_passphrase.empty()
                      ? "is encrypted: set tls.key_passphrase, or give a key without passphrase"
                      : "cannot be decrypted: is tls.key_passphrase the right one?");
}

Result<CertificatePtr> read_certificate(const char* option, const std::string& path) {
  auto file = open_file(option, path);
  if (!file) return file.error();
  CertificatePtr certificate{PEM_read_bio_X509(file->get(), nullptr, nullptr, nullptr)};
  if (certificate == nullptr) return bad_file(option, path, "holds no certificate in PEM form");
  return certificate;
}

}  // namespace

void TlsContext::FreeContext::operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }

bool TlsContext::Stamp::operator==(const Stamp& other) const noexcept {
  return device == other.device && inode == other.inode && bytes == other.bytes &&
         changed_at.tv_sec == other.changed_at.tv_sec &&
         changed_at.tv_nsec == other.changed_at.tv_nsec;
}

TlsContext::TlsContext(TlsOptions options, LogSink log)
    : options_(std::move(options)), log_(std::move(log)) {}

TlsContext::~TlsContext() = default;

Result<std::shared_ptr<TlsContext>> TlsContext::create(TlsOptions options, LogSink log) {
  std::shared_ptr<TlsContext> self{new TlsContext(std::move(options), std::move(log))};
  self->tried_stamps_ = self->loaded_stamps_ = self->stamps();
  auto loaded = self->load();
  if (!loaded) return loaded.error();
  self->context_ = std::move(*loaded);
  if (self->options_.insecure_skip_verification && self->log_) {
    self->log_(LogLevel::kWarning,
               "TLS: insecure_skip_verification is set: whoever sits on the path to Redis can read "
               "and change everything");
  }
  return self;
}

TlsContext::Stamps TlsContext::stamps() const {
  Stamps stamps;
  const std::string* const paths[] = {&options_.ca_file, &options_.certificate_file,
                                      &options_.key_file};
  for (std::size_t i = 0; i < stamps.size(); ++i) {
    struct stat status {};
    if (paths[i]->empty() || ::stat(paths[i]->c_str(), &status) != 0) continue;
    stamps[i] = Stamp{status.st_dev, status.st_ino, status.st_size, status.st_mtim};
  }
  return stamps;
}

void TlsContext::refresh() {
  const Stamps now = stamps();  // Before they are read: what changes meanwhile is read again.
  if (now == loaded_stamps_ || now == tried_stamps_) return;
  tried_stamps_ = now;
  auto loaded = load();
  if (loaded) {
    context_ = std::move(*loaded);
    loaded_stamps_ = now;
  }
  if (!log_) return;
  if (loaded) return log_(LogLevel::kInfo, "TLS: the certificate files have changed and were read");
  log_(LogLevel::kWarning,
       "TLS: the certificate files have changed and are not good, those read "
       "before stay in use: " +
           loaded.error().message);
}

Result<std::unique_ptr<TlsSession>> TlsContext::open_session(const std::string& name) {
  refresh();
  return TlsSession::create(*context_, options_, name);
}

Result<TlsContext::ContextPtr> TlsContext::load() const {
  ERR_clear_error();
  ContextPtr context{SSL_CTX_new(TLS_client_method())};
  if (context == nullptr) return unavailable("TLS: OpenSSL cannot make a context");
  const int version = options_.version_min == TlsVersion::k1_3 ? TLS1_3_VERSION : TLS1_2_VERSION;
  // The system's own configuration may ask for more, which then holds.
  if (SSL_CTX_get_min_proto_version(context.get()) < version) {
    TIERCEL_CHECK(SSL_CTX_set_min_proto_version(context.get(), version) == 1);
  }
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  auto loaded = load_trust(*context);
  if (loaded && !options_.certificate_file.empty()) loaded = load_certificate(*context);
  ERR_clear_error();
  if (!loaded) return loaded.error();
  return context;
}

Result<void> TlsContext::load_trust(SSL_CTX& context) const {
  if (options_.ca_file.empty() && options_.ca_directory.empty()) {
    if (SSL_CTX_set_default_verify_paths(&context) == 1) return {};
    return invalid_argument("tls.ca_file: is empty, and the system's CAs cannot be read");
  }
  if (!options_.ca_file.empty()) {
    if (auto read = read_certificate("ca_file", options_.ca_file); !read) return read.error();
    if (SSL_CTX_load_verify_file(&context, options_.ca_file.c_str()) != 1) {
      return bad_file("ca_file", options_.ca_file, "holds a certificate that cannot be read");
    }
  }
  if (!options_.ca_directory.empty()) {
    if (auto checked = check_directory(options_.ca_directory); !checked) return checked;
    TIERCEL_CHECK(SSL_CTX_load_verify_dir(&context, options_.ca_directory.c_str()) == 1);
  }
  return {};
}

Result<void> TlsContext::load_certificate(SSL_CTX& context) const {
  const std::string& path = options_.certificate_file;
  auto certificate = read_certificate("certificate_file", path);
  if (!certificate) return certificate.error();
  if (SSL_CTX_use_certificate_chain_file(&context, path.c_str()) != 1) {
    const char* why = ERR_reason_error_string(ERR_peek_last_error());
    return bad_file("certificate_file", path,
                    std::string{"cannot be used: "} + (why != nullptr ? why : "unknown reason"));
  }
  auto key = read_key(options_);
  if (!key) return key.error();
  if (X509_check_private_key(certificate->get(), key->get()) != 1) {
    return bad_file("key_file", options_.key_file,
                    "is not the key of tls.certificate_file '" + path + "'");
  }
  if (SSL_CTX_use_PrivateKey(&context, key->get()) != 1) {
    return bad_file("key_file", options_.key_file, "cannot be used");
  }
  return {};
}

}  // namespace tiercel::l2
