#pragma once

// The scripts of coherence/scripts.h on a real Redis of the test's own, each as one call.

#include <gtest/gtest.h>

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

  RedisReply begin_fill(const std::string& key, const std::string& token,
                        const std::string& life_ms = "60000", const std::string& force = "0") {
    return run(
        kBeginFillScript,
        {names_.value_key(key), names_.fill_key(key), names_.history_key(), names_.tags_key()},
        {token, life_ms, force});
  }
  // As begin_fill, where the lease must be granted: the version that it was granted at.
  Version grant(const std::string& key, const std::string& token, const std::string& force = "0") {
    const RedisReply reply = begin_fill(key, token, "60000", force);
    EXPECT_EQ(reply.elements.size(), 2U) << reply.to_text();
    if (reply.elements.size() != 2) return kVersionUnknown;
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
    std::vector<std::string> arguments = {
        token, envelope, ttl_ms, message, std::string{kHistoryEntries}, bytes_of(granted_at),
        force};
    arguments.insert(arguments.end(), slots.begin(), slots.end());
    return run(
        kFinishFillScript,
        {names_.value_key(key), names_.fill_key(key), names_.history_key(), names_.tags_key()},
        arguments);
  }
  RedisReply abandon_fill(const std::string& key, const std::string& token) {
    return run(kAbandonFillScript, {names_.fill_key(key)}, {token});
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
