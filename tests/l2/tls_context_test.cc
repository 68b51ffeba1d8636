// The files behind TLS: what is said when they are bad, and that they are taken up when they
// change.

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <fstream>

#include "tls_memory_server.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;
using testing::CertificateFiles;
using testing::TestAuthority;

constexpr const char* kPassphrase = "correct-horse-battery";

std::string write_file(const std::string& path, const std::string& text) {
  std::ofstream{path} << text;
  return path;
}

TEST(TlsContext, SaysWhichFileIsBadAndWhy) {
  const TestAuthority authority;
  const std::string ca = authority.file();
  const CertificateFiles ours = authority.issue();
  const CertificateFiles other = authority.issue();
  const CertificateFiles locked = authority.issue({.passphrase = kPassphrase});
  const std::string folder = authority.folder();
  const std::string missing = folder + "/missing.pem";
  const std::string garbage = write_file(folder + "/garbage.pem", "not a certificate");
  const std::string empty = write_file(folder + "/empty.pem", "");
  const std::string torn = write_file(
      folder + "/torn.pem", "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n");
  const std::string forbidden = write_file(folder + "/forbidden.pem", "x");
  std::filesystem::permissions(forbidden, std::filesystem::perms::none);
  const std::string bare = folder + "/bare";
  std::filesystem::create_directory(bare);

  const auto pair = [&](std::string certificate, std::string key, std::string passphrase = {}) {
    return TlsOptions{.ca_file = ca,
                      .certificate_file = std::move(certificate),
                      .key_file = std::move(key),
                      .key_passphrase = std::move(passphrase)};
  };
  struct Case {
    TlsOptions options;
    std::string begin;
    const char* why;
  };
  std::vector<Case> cases{
      {{.ca_file = missing}, "tls.ca_file '" + missing, "No such file"},
      {{.ca_file = garbage}, "tls.ca_file '" + garbage, "no certificate in PEM"},
      {{.ca_file = empty}, "tls.ca_file '" + empty, "no certificate in PEM"},
      {{.ca_file = torn}, "tls.ca_file '" + torn, "no certificate in PEM"},
      {{.ca_file = folder}, "tls.ca_file '" + folder, "is a directory"},
      {{.ca_file = ours.key}, "tls.ca_file '" + ours.key, "no certificate in PEM"},
      {{.ca_directory = missing}, "tls.ca_directory '" + missing, "No such file"},
      {{.ca_directory = ca}, "tls.ca_directory '" + ca, "Not a directory"},
      {{.ca_directory = bare}, "tls.ca_directory '" + bare, "openssl rehash"},
      {pair(missing, ours.key), "tls.certificate_file '" + missing, "No such file"},
      {pair(garbage, ours.key), "tls.certificate_file '" + garbage, "no certificate in PEM"},
      {pair(ours.certificate, missing), "tls.key_file '" + missing, "No such file"},
      {pair(ours.certificate, garbage), "tls.key_file '" + garbage, "no private key in PEM"},
      {pair(ours.certificate, ours.certificate), "tls.key_file '", "no private key in PEM"},
      {pair(ours.certificate, other.key), "tls.key_file '" + other.key,
       "not the key of tls.certificate_file"},
      {pair(locked.certificate, locked.key), "tls.key_file '" + locked.key, "is encrypted"},
      {pair(locked.certificate, locked.key, "wrong-horse"), "tls.key_file '" + locked.key,
       "cannot be decrypted"},
  };
  if (std::ifstream{forbidden}.fail()) {  // Root reads everything.
    cases.push_back({{.ca_file = forbidden}, "tls.ca_file '" + forbidden, "Permission denied"});
  }
  for (const Case& bad : cases) {
    const auto context = TlsContext::create(bad.options, {});
    ASSERT_FALSE(context) << bad.begin;
    const Error& error = context.error();
    EXPECT_EQ(error.code, ErrorCode::kInvalidArgument);
    EXPECT_TRUE(error.message.starts_with(bad.begin)) << error.message;
    EXPECT_NE(error.message.find(bad.why), std::string::npos) << bad.why << "\n" << error.message;
    EXPECT_EQ(error.message.find("wrong-horse"), std::string::npos) << error.message;
  }
  EXPECT_TRUE(TlsContext::create(pair(ours.certificate, ours.key), {}));
  EXPECT_TRUE(TlsContext::create(pair(locked.certificate, locked.key, kPassphrase), {}));
  EXPECT_TRUE(TlsContext::create({}, {}));
}

TEST(TlsContext, WarnsWhenNothingIsVerified) {
  std::string log;
  const auto sink = [&log](LogLevel level, std::string_view text) {
    if (level == LogLevel::kWarning) log += text;
  };
  ASSERT_TRUE(TlsContext::create({.insecure_skip_verification = false}, sink));
  EXPECT_EQ(log, "");
  ASSERT_TRUE(TlsContext::create({.insecure_skip_verification = true}, sink));
  EXPECT_NE(log.find("insecure_skip_verification"), std::string::npos) << log;
}

TEST(TlsContext, TakesUpRenewedFilesAndKeepsGoodOnes) {
  const TestAuthority authority;
  const CertificateFiles files = authority.issue({.begins = -10h, .ends = -1h});
  const TlsServerSpec spec{.certificate = authority.issue(), .client_ca = authority.file()};
  std::string log;
  auto context = TlsContext::create(
      {.ca_file = authority.file(), .certificate_file = files.certificate, .key_file = files.key},
      [&log](LogLevel, std::string_view text) { log.append(text).append("\n"); });
  ASSERT_TRUE(context) << context.error().to_string();
  const auto attempt = [&] {
    auto session = (*context)->open_session("localhost");
    EXPECT_TRUE(session) << session.error().to_string();
    MemoryClient client{std::move(*session)};
    TlsMemoryServer server{spec};
    converse(client, server);
    return client.error ? client.error->message : std::string{"open"};
  };
  EXPECT_NE(attempt().find("it has expired"), std::string::npos);
  EXPECT_EQ(log, "");

  static_cast<void>(authority.issue({.over = files}));
  EXPECT_EQ(attempt(), "open");
  EXPECT_NE(log.find("were read"), std::string::npos) << log;
  log.clear();
  EXPECT_EQ(attempt(), "open");
  EXPECT_EQ(log, "");

  // Half of a renewal, as seen by one who dials in the middle of it.
  const CertificateFiles next = authority.issue();
  const auto replace = [](const std::string& from, const std::string& to) {
    std::filesystem::rename(from, to);
  };
  replace(next.key, files.key);
  EXPECT_EQ(attempt(), "open");
  EXPECT_NE(log.find("not the key"), std::string::npos) << log;
  log.clear();
  EXPECT_EQ(attempt(), "open");
  EXPECT_EQ(log, "");  // Said once.
  replace(next.certificate, files.certificate);
  EXPECT_EQ(attempt(), "open");
  EXPECT_NE(log.find("were read"), std::string::npos) << log;
  log.clear();
  std::filesystem::remove(files.certificate);
  EXPECT_EQ(attempt(), "open");
  EXPECT_NE(log.find("No such file"), std::string::npos) << log;
}

}  // namespace
}  // namespace tiercel::l2
