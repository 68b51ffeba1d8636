#include "support/test_certificates.h"

#include <openssl/ec.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>

#include "support/guardian_protocol.h"
#include "support/unique_fd.h"

namespace tiercel::testing {

namespace {

template <auto kFree>
struct Free {
  template <typename T>
  void operator()(T* object) const noexcept {
    kFree(object);
  }
};
using CertificatePtr = std::unique_ptr<X509, Free<&X509_free>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Free<&EVP_PKEY_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Free<&X509_EXTENSION_free>>;

void must(bool good, const char* what) {
  if (!good) fail(std::string{"test certificates: "} + what);
}

KeyPtr new_key() {
  KeyPtr key{EVP_EC_gen("P-256")};
  must(key != nullptr, "EVP_EC_gen");
  return key;
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx_nodb(&context);
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  const ExtensionPtr extension{X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str())};
  must(extension != nullptr && X509_add_ext(certificate, extension.get(), -1) == 1, value.c_str());
}

// Everything but the extensions and the signature.
CertificatePtr new_certificate(const std::string& common_name, EVP_PKEY* key,
                               std::chrono::hours begins, std::chrono::hours ends) {
  CertificatePtr certificate{X509_new()};
  must(certificate != nullptr && X509_set_version(certificate.get(), X509_VERSION_3) == 1,
       "X509_new");
  std::array<unsigned char, 8> serial{};
  must(RAND_bytes(serial.data(), static_cast<int>(serial.size())) == 1, "RAND_bytes");
  std::uint64_t number = 0;
  std::memcpy(&number, serial.data(), serial.size());
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), number >> 1);
  const auto seconds = [](std::chrono::hours hours) {
    return static_cast<long>(std::chrono::seconds{hours}.count());
  };
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), seconds(begins));
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), seconds(ends));
  X509_NAME* const name = X509_get_subject_name(certificate.get());
  must(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                                  reinterpret_cast<const unsigned char*>(common_name.c_str()), -1,
                                  -1, 0) == 1,
       "X509_NAME_add_entry_by_txt");
  must(X509_set_pubkey(certificate.get(), key) == 1, "X509_set_pubkey");
  return certificate;
}

template <typename Write>
void write_file(const std::string& path, Write write) {
  std::FILE* const file = std::fopen(path.c_str(), "wbe");
  must(file != nullptr, path.c_str());
  const bool is_written = write(file) == 1;
  must(std::fclose(file) == 0 && is_written, path.c_str());
}

std::string new_folder() {
  const char* variable = std::getenv("TMPDIR");
  std::string path = (variable != nullptr && *variable == '/' ? variable : "/tmp");
  path += std::string{"/"} + kTemporaryPrefix + "XXXXXX";
  must(::mkdtemp(path.data()) != nullptr, path.c_str());
  return path;
}

// By another process: ThreadSanitizer sees a directory closed and not opened, and would report a
// race with the thread whose socket had the descriptor's number before.
void remove_folder(std::string folder) {
  std::string program = "rm";
  std::string flags = "-rf";
  char* const arguments[] = {program.data(), flags.data(), folder.data(), nullptr};
  pid_t pid = 0;
  if (::posix_spawnp(&pid, "rm", nullptr, nullptr, arguments, environ) == 0) {
    ::waitpid(pid, nullptr, 0);
  }
}

}  // namespace

struct TestAuthority::State {
  std::string folder;
  std::string file;
  KeyPtr key;
  CertificatePtr certificate;
  int issued = 0;
};

TestAuthority::TestAuthority(const std::string& common_name) : state_(std::make_unique<State>()) {
  state_->folder = new_folder();
  state_->file = state_->folder + "/ca.pem";
  state_->key = new_key();
  state_->certificate = new_certificate(common_name, state_->key.get(), std::chrono::hours{-48},
                                        std::chrono::hours{48});
  X509* const certificate = state_->certificate.get();
  X509_set_issuer_name(certificate, X509_get_subject_name(certificate));
  add_extension(certificate, certificate, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(certificate, certificate, NID_key_usage, "critical,keyCertSign,cRLSign");
  must(X509_sign(certificate, state_->key.get(), EVP_sha256()) > 0, "X509_sign");
  write_file(state_->file,
             [certificate](std::FILE* file) { return PEM_write_X509(file, certificate); });
}

TestAuthority::~TestAuthority() { remove_folder(state_->folder); }

const std::string& TestAuthority::folder() const noexcept { return state_->folder; }
const std::string& TestAuthority::file() const noexcept { return state_->file; }

CertificateFiles TestAuthority::issue(const CertificateSpec& spec) const {
  const KeyPtr key = new_key();
  const CertificatePtr certificate =
      new_certificate(spec.common_name, key.get(), spec.begins, spec.ends);
  X509* const authority = state_->certificate.get();
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(authority));
  add_extension(certificate.get(), authority, NID_basic_constraints, "critical,CA:FALSE");
  std::string names;
  for (const std::string& name : spec.names) names += (names.empty() ? "" : ",") + name;
  if (!names.empty()) add_extension(certificate.get(), authority, NID_subject_alt_name, names);
  must(X509_sign(certificate.get(), state_->key.get(), EVP_sha256()) > 0, "X509_sign");

  CertificateFiles files = spec.over;
  if (files.certificate.empty()) {
    const std::string stem = state_->folder + "/" + std::to_string(++state_->issued);
    files = {stem + ".crt", stem + ".key"};
  }
  write_file(files.certificate,
             [&](std::FILE* file) { return PEM_write_X509(file, certificate.get()); });
  write_file(files.key, [&](std::FILE* file) {
    const bool is_encrypted = !spec.passphrase.empty();
    return PEM_write_PKCS8PrivateKey(file, key.get(), is_encrypted ? EVP_aes_256_cbc() : nullptr,
                                     is_encrypted ? spec.passphrase.data() : nullptr,
                                     static_cast<int>(spec.passphrase.size()), nullptr, nullptr);
  });
  return files;
}

std::string TestAuthority::hashed_folder() const {
  const std::string folder = state_->folder + "/hashed";
  std::filesystem::create_directory(folder);
  std::array<char, 16> name{};
  std::snprintf(name.data(), name.size(), "/%08lx.0",
                X509_subject_name_hash(state_->certificate.get()));
  std::filesystem::copy_file(state_->file, folder + name.data());
  return folder;
}

}  // namespace tiercel::testing
