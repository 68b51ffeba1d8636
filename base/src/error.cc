#include "tiercel/base/error.h"

#include <utility>

namespace tiercel {

std::string_view to_string(ErrorCode code) noexcept {
  switch (code) {
    case ErrorCode::kInvalidArgument: return "invalid_argument";
    case ErrorCode::kUnavailable: return "unavailable";
    case ErrorCode::kOverloaded: return "overloaded";
    case ErrorCode::kDeadlineExceeded: return "deadline_exceeded";
    case ErrorCode::kCorrupt: return "corrupt";
    case ErrorCode::kProtocol: return "protocol";
    case ErrorCode::kConflict: return "conflict";
    case ErrorCode::kClosed: return "closed";
    case ErrorCode::kInternal: return "internal";
  }
  return "unknown";
}

std::string Error::to_string() const {
  std::string text{tiercel::to_string(code)};
  text += ": ";
  text += message;
  if (!endpoint.empty()) {
    text += " (";
    text += endpoint;
    text += ')';
  }
  return text;
}

Error invalid_argument(std::string message) {
  return {ErrorCode::kInvalidArgument, std::move(message), {}};
}
Error unavailable(std::string message, std::string endpoint) {
  return {ErrorCode::kUnavailable, std::move(message), std::move(endpoint)};
}
Error overloaded(std::string message) { return {ErrorCode::kOverloaded, std::move(message), {}}; }
Error outcome_unknown(std::string message, std::string endpoint) {
  return {ErrorCode::kDeadlineExceeded, "outcome unknown: " + std::move(message),
          std::move(endpoint)};
}
Error corrupt(std::string message) { return {ErrorCode::kCorrupt, std::move(message), {}}; }
Error protocol_error(std::string message, std::string endpoint) {
  return {ErrorCode::kProtocol, std::move(message), std::move(endpoint)};
}
Error conflict(std::string message) { return {ErrorCode::kConflict, std::move(message), {}}; }
Error closed(std::string message) { return {ErrorCode::kClosed, std::move(message), {}}; }
Error internal(std::string message) { return {ErrorCode::kInternal, std::move(message), {}}; }

}  // namespace tiercel
