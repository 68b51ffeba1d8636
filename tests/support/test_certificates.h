#pragma once

// Certificate authorities and certificates made at run time, in a temporary folder that goes with
// them: nothing that expires lies in the repository.
//
//   const TestAuthority authority;
//   const CertificateFiles server = authority.issue({});      // For localhost, 127.0.0.1 and ::1.
//   const CertificateFiles old = authority.issue({.ends = -1h});
//
// Elliptic-curve keys, so that making one takes a millisecond. What fails aborts: a test cannot go
// on. Not thread-safe: one owner.

#include <chrono>
#include <memory>
#include <string>
#include <vector>

namespace tiercel::testing {

struct CertificateFiles {
  std::string certificate;  // Paths of PEM files.
  std::string key;
};

struct CertificateSpec {
  std::string common_name = "test server";
  // As OpenSSL writes a subjectAltName. Empty: none.
  std::vector<std::string> names = {"DNS:localhost", "IP:127.0.0.1", "IP:::1"};
  // From now.
  std::chrono::hours begins{-24};
  std::chrono::hours ends{24};
  std::string passphrase{};  // Encrypts the key.
  // Replace these files, in place, rather than make new ones.
  CertificateFiles over{};
};

class TestAuthority {
 public:
  explicit TestAuthority(const std::string& common_name = "Test CA");
  ~TestAuthority();  // Removes the folder.
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  [[nodiscard]] const std::string& folder() const noexcept;
  [[nodiscard]] const std::string& file() const noexcept;  // Its own certificate.
  [[nodiscard]] CertificateFiles issue(const CertificateSpec& spec = {}) const;
  // A folder with its certificate under its hashed name.
  [[nodiscard]] std::string hashed_folder() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tiercel::testing
