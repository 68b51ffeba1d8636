#pragma once

// Error: what went wrong, classed by what the caller can do about it.
//
// Nothing of Tiercel throws across its API; every fallible call returns a Result<T> (result.h). The
// code says how to react, the message says what to change, the endpoint says where. A miss is not
// an error. Secrets never appear in a message.

#include <cstdint>
#include <string>
#include <string_view>

namespace tiercel {

enum class ErrorCode : std::uint8_t {
  kInvalidArgument,  // The call or the configuration is wrong. Retrying it unchanged cannot help.
  kUnavailable,      // Not done, and nothing was changed. Retry later, with backoff.
  kOverloaded,  // Refused at once because a bound was reached. Shed load; do not retry at once.
  kDeadlineExceeded,  // THE OUTCOME IS UNKNOWN: it may have happened, or may still happen.
  kCorrupt,           // Bytes that claim to be ours do not parse.
  kProtocol,          // The peer does not speak the protocol that it should.
  kConflict,          // A condition of the call did not hold, and nothing was changed. Look again.
  kClosed,            // The object was closed while, or before, the call ran.
  kInternal,          // A bug: ours, or the user's loader threw.
};

// "unavailable", "deadline_exceeded", …: the words used in logs and by `tiercel shell`.
std::string_view to_string(ErrorCode code) noexcept;

struct Error {
  ErrorCode code = ErrorCode::kInternal;
  std::string message;
  std::string endpoint;  // "127.0.0.1:6379", or empty where no server is concerned.

  // "unavailable: connection refused (127.0.0.1:6379)"
  [[nodiscard]] std::string to_string() const;

  friend bool operator==(const Error&, const Error&) = default;
};

Error invalid_argument(std::string message);
Error unavailable(std::string message, std::string endpoint = {});
Error overloaded(std::string message);
Error outcome_unknown(std::string message, std::string endpoint = {});
Error corrupt(std::string message);
Error protocol_error(std::string message, std::string endpoint = {});
Error conflict(std::string message);
Error closed(std::string message);
Error internal(std::string message);

}  // namespace tiercel
