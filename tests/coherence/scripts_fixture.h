#pragma once

// The scripts of coherence/scripts.h on a real Redis of the test's own, each as one call.

#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "support/blocking_redis.h"
#include "support/poll_until.h"
#include "support/redis_server.h"
#include "tiercel/base/bytes.h"
#include "tiercel/coherence/names.h"
#include "tiercel/coherence/scripts.h"
#include "tiercel/coherence/version.h"

namespace tiercel::coherence {

using testing::BlockingRedis;
using testing::RedisReply;
using testing::RedisServer;
using Reply = RedisReply::Kind;

inline constexpr std::string_view kHistoryEntries = "1000";
inline constexpr std::uint64_t kSequenceMax = (std::uint64_t{1} << kVersionSequenceBits) - 1;
// 2100-01-01, rounded up so that the next millisecond carries into the upper half of a version.
inline constexpr std::uint64_t kFarFutureMs = (4102444800000ULL | 4095);

inline Names make_names() { return std::move(Names::create("ns")).value(); }

inline BlockingRedis connect(const RedisServer& server) {
  auto redis = BlockingRedis::connect("127.0.0.1", server.port());
  EXPECT_TRUE(redis) << redis.error().to_string();
  return std::move(redis).value();
}

class ScriptsTest : public ::testing::Test {
 protected:
  RedisReply command(const std::vector<std::string>& words) { return command_on(redis_, words); }
  static RedisReply command_on(BlockingRedis& redis, const std::vector<std::string>& words) {
    auto reply = redis.command(words);
    EXPECT_TRUE(reply) << reply.error().to_string();
    return reply ? *reply : RedisReply{};
  }
  static RedisReply run_on(BlockingRedis& redis, std::string_view script,
                           const std::vector<std::string>& keys,
                           const std::vector<std::string>& arguments) {
    std::vector<std::string> words = {"EVAL", std::string{script}, std::to_string(keys.size())};
    words.insert(words.end(), keys.begin(), keys.end());
    words.insert(words.end(), arguments.begin(), arguments.end());
    return command_on(redis, words);
  }
  RedisReply run(std::string_view script, const std::vector<std::string>& keys,
                 const std::vector<std::string>& arguments) {
    return run_on(redis_, script, keys, arguments);
  }

  RedisReply write_reply(BlockingRedis& redis, const std::string& key, const std::string& envelope,
                         const std::string& ttl_ms, const std::string& message,
                         std::string_view entries = kHistoryEntries) {
    return run_on(redis, kWriteScript,
                  {names_.value_key(key), names_.fill_key(key), names_.history_key()},
                  {envelope, ttl_ms, message, names_.channel(), std::string{entries}});
  }
  Version write(const std::string& key, const std::string& envelope,
                const std::string& ttl_ms = "0", const std::string& message = "msg",
                std::string_view entries = kHistoryEntries) {
    return version_of(write_reply(redis_, key, envelope, ttl_ms, message, entries));
  }
  RedisReply write_if_reply(const std::string& key, const std::string& envelope,
                            const std::string& expected) {
    return run(
        kWriteIfScript,
        {names_.value_key(key), names_.fill_key(key), names_.history_key(), names_.tags_key()},
        {envelope, "0", "msg", names_.channel(), std::string{kHistoryEntries}, expected});
  }
  Version invalidate_tags(const std::vector<std::string>& slots,
                          const std::string& message = "tags") {
    std::vector<std::string> arguments = {message, names_.channel(), std::string{kHistoryEntries}};
    arguments.insert(arguments.end(), slots.begin(), slots.end());
    return version_of(
        run(kInvalidateTagsScript, {names_.history_key(), names_.tags_key()}, arguments));
  }
  Version clear(const std::string& message = "clear") {
    return version_of(run(kClearScript, {names_.history_key(), names_.tags_key()},
                          {message, names_.channel(), std::string{kHistoryEntries}}));
  }
  RedisReply read_tags(const std::vector<std::string>& fields = {}) {
    return run(kReadTagsScript, {names_.history_key(), names_.tags_key()}, fields);
  }
  // nullopt where there is none.
  std::optional<Version> tag_field(const std::string& field) {
    const RedisReply reply = command({"HGET", names_.tags_key(), field});
    if (reply.is_nil()) return std::nullopt;
    return version_of(reply);
  }

  // Of one key: its answer.
  static RedisReply only(const RedisReply& reply) {
    EXPECT_EQ(reply.elements.size(), 1U) << reply.to_text();
    return reply.elements.size() == 1 ? reply.elements[0] : reply;
  }
  // The outcome, and what goes with it:
  //   1 value, its ttl; 2 version granted at, old, its ttl; 3 ms of the lease, old, its ttl
  RedisReply begin_fill(const std::string& key, const std::string& token,
                        const std::string& life_ms = "60000", const std::string& force = "0",
                        const std::string& left_min = "0") {
    return begin_fills({{key, token}}, life_ms, force, left_min)[0];
  }
  struct Begin {
    std::string key;
    std::string token;
  };
  std::vector<RedisReply> begin_fills(const std::vector<Begin>& begins,
                                      const std::string& life_ms = "60000",
                                      const std::string& force = "0",
                                      const std::string& left_min = "0") {
    std::vector<std::string> keys = {names_.history_key(), names_.tags_key()};
    for (const Begin& begin : begins) keys.push_back(names_.value_key(begin.key));
    for (const Begin& begin : begins) keys.push_back(names_.fill_key(begin.key));
    std::vector<std::string> arguments = {life_ms, force, left_min};
    for (const Begin& begin : begins) arguments.push_back(begin.token);
    RedisReply reply = run(kBeginFillsScript, keys, arguments);
    EXPECT_EQ(reply.elements.size(), begins.size() + 1) << reply.to_text();
    std::vector<RedisReply> answers;
    for (std::size_t i = 1; i < reply.elements.size(); ++i) {
      answers.push_back(told(reply.elements[0], reply.elements[i]));
    }
    answers.resize(begins.size());
    return answers;
  }
  static RedisReply told(const RedisReply& granted_at, const RedisReply& answer) {
    const bool is_number = answer.kind == Reply::kInteger;
    RedisReply told = answer;
    if (is_number) told.elements = {answer};
    const std::int64_t outcome = told.elements.at(0).integer;
    if (is_number && outcome == 2) {
      RedisReply endless;
      endless.kind = Reply::kInteger;
      endless.integer = -1;
      told.elements.insert(told.elements.end(), {RedisReply{}, endless});
    }
    if (outcome == 2) told.elements.insert(told.elements.begin() + 1, granted_at);
    if (outcome == 3)
      std::rotate(told.elements.begin() + 1, told.elements.begin() + 3, told.elements.end());
    return told;
  }
  // As begin_fill, where the lease must be granted: the version that it was granted at.
  Version grant(const std::string& key, const std::string& token, const std::string& force = "0") {
    const RedisReply reply = begin_fill(key, token, "60000", force);
    EXPECT_EQ(reply.elements.size(), 4U) << reply.to_text();
    if (reply.elements.size() != 4) return kVersionUnknown;
    EXPECT_EQ(reply.elements[0].integer, 2) << reply.to_text();
    return version_of(reply.elements[1]);
  }
  RedisReply finish_fill(const std::string& key, const std::string& token,
                         const std::string& envelope, const std::string& ttl_ms = "0",
                         const std::string& message = "filled") {
    return finish_tagged_fill(key, token, envelope, ~Version{0}, {}, ttl_ms, message);
  }
  RedisReply finish_tagged_fill(const std::string& key, const std::string& token,
                                const std::string& envelope, Version granted_at,
                                const std::vector<std::string>& slots,
                                const std::string& ttl_ms = "0",
                                const std::string& message = "filled",
                                const std::string& force = "0") {
    return only(
        run(kFinishFillsScript,
            {names_.history_key(), names_.tags_key(), names_.value_key(key), names_.fill_key(key)},
            {message, names_.channel(), std::string{kHistoryEntries}, token, envelope, ttl_ms,
             bytes_of(granted_at), force, packed(slots)}));
  }
  static std::string packed(const std::vector<std::string>& slots) {
    std::string bytes;
    for (const std::string& slot : slots) {
      const int number = std::stoi(slot);
      bytes += {static_cast<char>(number / 256), static_cast<char>(number % 256)};
    }
    return bytes;
  }
  RedisReply abandon_fill(const std::string& key, const std::string& token) {
    return run(kAbandonFillScript, {names_.fill_key(key)}, {token, names_.channel(), "given up"});
  }

  static Version version_of(const RedisReply& reply) {
    EXPECT_EQ(reply.kind, Reply::kBulk) << reply.to_text();
    EXPECT_EQ(reply.text.size(), 8U) << reply.to_text();
    return reply.text.size() == 8 ? read_u64_be(reply.text.data()) : kVersionUnknown;
  }
  static std::string bytes_of(Version version) {
    std::string bytes;
    append_u64_be(bytes, version);
    return bytes;
  }
  RedisReply stored(const std::string& key) { return command({"GET", names_.value_key(key)}); }
  RedisReply lease(const std::string& key) { return command({"GET", names_.fill_key(key)}); }
  std::int64_t ttl_ms(const std::string& redis_key) { return command({"PTTL", redis_key}).integer; }

  // The newest entry of the history: its id as a version, and its message.
  std::pair<Version, std::string> newest_entry() {
    const RedisReply entries = command({"XREVRANGE", names_.history_key(), "+", "-", "COUNT", "1"});
    if (entries.elements.size() != 1) return {kVersionUnknown, "the history is empty"};
    const RedisReply& fields = entries.elements[0].elements[1];
    EXPECT_EQ(fields.elements.size(), 2U);
    EXPECT_EQ(fields.elements[0].text, "m");
    const auto version = parse_stream_id(entries.elements[0].elements[0].text);
    EXPECT_TRUE(version) << version.error().to_string();
    return {version.value_or(kVersionUnknown), fields.elements[1].text};
  }
  std::int64_t history_length() { return command({"XLEN", names_.history_key()}).integer; }

  // Hears what is published from now on.
  BlockingRedis subscribe() {
    BlockingRedis subscriber = connect(*server_);
    EXPECT_EQ(command_on(subscriber, {"SUBSCRIBE", names_.channel()}).elements.size(), 3U);
    return subscriber;
  }
  static std::string next_message(BlockingRedis& subscriber) {
    const auto reply = subscriber.read_reply();
    EXPECT_TRUE(reply) << reply.error().to_string();
    if (!reply || reply->elements.size() != 3) return "no message";
    return reply->elements[2].text;
  }

  const std::unique_ptr<RedisServer> server_ = RedisServer::start();
  const Names names_ = make_names();
  BlockingRedis redis_ = connect(*server_);
};

}  // namespace tiercel::coherence
