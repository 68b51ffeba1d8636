#include "tiercel/base/error.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace tiercel {
namespace {

TEST(Error, CodesHaveTheWordsThatLogsAndTheShellUse) {
  EXPECT_EQ(to_string(ErrorCode::kInvalidArgument), "invalid_argument");
  EXPECT_EQ(to_string(ErrorCode::kUnavailable), "unavailable");
  EXPECT_EQ(to_string(ErrorCode::kOverloaded), "overloaded");
  EXPECT_EQ(to_string(ErrorCode::kDeadlineExceeded), "deadline_exceeded");
  EXPECT_EQ(to_string(ErrorCode::kCorrupt), "corrupt");
  EXPECT_EQ(to_string(ErrorCode::kProtocol), "protocol");
  EXPECT_EQ(to_string(ErrorCode::kClosed), "closed");
  EXPECT_EQ(to_string(ErrorCode::kInternal), "internal");
  // A code that came from elsewhere, e.g. from a file of another release, must not crash a log.
  EXPECT_EQ(to_string(static_cast<ErrorCode>(250)), "unknown");
}

TEST(Error, TextNamesTheEndpointWhereThereIsOne) {
  EXPECT_EQ(unavailable("connection refused", "127.0.0.1:6379").to_string(),
            "unavailable: connection refused (127.0.0.1:6379)");
  EXPECT_EQ(closed("the cache was closed").to_string(), "closed: the cache was closed");
}

TEST(Error, MakersSetTheirCode) {
  EXPECT_EQ(invalid_argument("m"), (Error{ErrorCode::kInvalidArgument, "m", ""}));
  EXPECT_EQ(unavailable("m", "e"), (Error{ErrorCode::kUnavailable, "m", "e"}));
  EXPECT_EQ(overloaded("m"), (Error{ErrorCode::kOverloaded, "m", ""}));
  EXPECT_EQ(corrupt("m"), (Error{ErrorCode::kCorrupt, "m", ""}));
  EXPECT_EQ(protocol_error("m", "e"), (Error{ErrorCode::kProtocol, "m", "e"}));
  EXPECT_EQ(closed("m"), (Error{ErrorCode::kClosed, "m", ""}));
  EXPECT_EQ(internal("m"), (Error{ErrorCode::kInternal, "m", ""}));
}

TEST(Error, AnUnknownOutcomeSaysSo) {
  const Error error = outcome_unknown("no answer within 100 ms", "127.0.0.1:6379");
  EXPECT_EQ(error.code, ErrorCode::kDeadlineExceeded);
  EXPECT_EQ(error.to_string(),
            "deadline_exceeded: outcome unknown: no answer within 100 ms (127.0.0.1:6379)");
}

}  // namespace
}  // namespace tiercel
