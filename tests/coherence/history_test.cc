#include "tiercel/coherence/history.h"

#include <gtest/gtest.h>

#include <string>
#include <string_view>
#include <vector>

#include "tiercel/serialization/message.h"

namespace tiercel::coherence {
namespace {

using Fields = std::vector<std::string_view>;

TEST(HistoryEntry, ExampleOfTheHeader) {
  const serialization::Message message{.origin = 5,
                                       .nonce = 6,
                                       .kind = serialization::MessageKind::kInvalidate,
                                       .keys = {"player:42"}};
  const std::string stored = serialization::encode_message(message).value();
  const auto entry = parse_history_entry("1700000000000-5", Fields{"m", stored});
  ASSERT_TRUE(entry) << entry.error().to_string();
  EXPECT_EQ(to_stream_id(entry->version), "1700000000000-5");
  EXPECT_EQ(entry->message.data(), stored.data());
  const auto decoded = serialization::decode_history_message(entry->version, entry->message);
  ASSERT_TRUE(decoded) << decoded.error().to_string();
  EXPECT_EQ(decoded->version, entry->version);
  EXPECT_TRUE(decoded->message == message);
}

TEST(HistoryEntry, FieldsOfALaterReleaseArePassedOver) {
  const auto entry = parse_history_entry("1-2", Fields{"n", "m", "m", "message", "x", ""});
  ASSERT_TRUE(entry) << entry.error().to_string();
  EXPECT_EQ(entry->message, "message");
  EXPECT_EQ(parse_history_entry("1-2", Fields{"m", ""})->message, "");
}

TEST(HistoryEntry, WhatWeDidNotWriteIsCorrupt) {
  const auto expect_corrupt = [](std::string_view id, const Fields& fields) {
    const auto entry = parse_history_entry(id, fields);
    ASSERT_FALSE(entry) << id;
    EXPECT_EQ(entry.error().code, ErrorCode::kCorrupt);
    EXPECT_TRUE(entry.error().message.starts_with("history: ")) << entry.error().message;
  };
  for (const char* id : {"", "-", "1", "a-b", "0-0", "1-1048576", "17592186044416-0"}) {
    expect_corrupt(id, {"m", "message"});
  }
  expect_corrupt("1-2", {});
  expect_corrupt("1-2", {"m"});
  expect_corrupt("1-2", {"M", "message"});
  expect_corrupt("1-2", {"x", "m"});
  expect_corrupt("1-2", {"m", "message", "x"});
}

}  // namespace
}  // namespace tiercel::coherence
