// Garbage in Redis and on the channel.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "tiercel/base/bytes.h"
#include "tiercel/base/random.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/message.h"

namespace tiercel::testing {
namespace {

class Garbage : public ::testing::Test {
 protected:
  std::unique_ptr<RedisServer> server_ = RedisServer::start();
  std::unique_ptr<Cache> cache_ = open_ready(with_long_lease({.redis_url = server_->url()}));

  void publish(const std::string& payload) {
    server_->command({"PUBLISH", "tiercel/changes", payload});
  }
};

std::string versioned(std::uint64_t version, std::string_view rest) {
  std::string bytes;
  append_u64_be(bytes, version);
  bytes += rest;
  return bytes;
}

TEST_F(Garbage, AForeignValueIsHandedOnAsItIs) {
  server_->command({"SET", "tiercel:k", "plain"});
  const auto found = cache_->get("k");
  EXPECT_EQ(described(found), "plain@l2");
  EXPECT_EQ((*found)->version(), 0U);
  EXPECT_EQ(cache_->stats().values_foreign, 1U);
  EXPECT_EQ(described(cache_->get("k")), "plain@l1");
}

TEST_F(Garbage, ACorruptValueIsCountedAndMissed) {
  server_->command(
      {"SET", "tiercel:k", versioned(7, std::string("\xf1TCL\x01\x01\0\0rubbish", 15))});
  EXPECT_EQ(described(cache_->get("k")), "(absent)");
  EXPECT_EQ(cache_->stats().values_corrupt, 1U);
  // A loader repairs it.
  const ReadOptions options{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"repaired"}; }};
  EXPECT_EQ(described(cache_->get("k", options)), "repaired@loader");
  EXPECT_EQ(described(cache_->get("k")), "repaired@l1");
  const auto other = open_ready({.redis_url = server_->url()});
  EXPECT_EQ(described(other->get("k")), "repaired@l2");
}

TEST_F(Garbage, AKeyOfAnotherTypeIsMissedAndReplaced) {
  server_->command({"RPUSH", "tiercel:k", "a", "b"});
  EXPECT_EQ(described(cache_->get("k")), "(absent)");
  const ReadOptions options{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"v"}; }};
  EXPECT_EQ(described(cache_->get("k", options)), "v@loader");
  server_->command({"DEL", "tiercel:l"});
  server_->command({"RPUSH", "tiercel:l", "a"});
  EXPECT_TRUE(cache_->set("l", "v"));
  EXPECT_EQ(read_value(*cache_, "l"), "v");
}

TEST_F(Garbage, AFillLeaseOfAnotherTypeDoesNotStopLoading) {
  server_->command({"RPUSH", "tiercel/fill:k", "a"});
  const ReadOptions options{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"v"}; }};
  EXPECT_EQ(described(cache_->get("k", options)), "v@loader");
}

TEST_F(Garbage, AHistoryOfAnotherTypeFailsWritesWithTheReason) {
  server_->command({"DEL", "tiercel/history"});
  server_->command({"SET", "tiercel/history", "oops"});
  const auto refused = cache_->set("k", "v");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ErrorCode::kUnavailable);
  EXPECT_THAT(refused.error().message, ::testing::HasSubstr("WRONGTYPE"));
  server_->command({"DEL", "tiercel/history"});
  EXPECT_TRUE(cache_->set("k", "v"));
}

TEST_F(Garbage, RandomMessagesAreCountedAndChangeNothing) {
  ASSERT_TRUE(cache_->set("k", "v"));
  const auto seed = entropy_u64();
  SCOPED_TRACE("seed " + std::to_string(seed));
  Random random{seed};
  constexpr int kMessages = 300;
  for (int i = 0; i < kMessages; ++i) {
    std::string payload;
    const std::uint64_t length = random.below(200);
    for (std::uint64_t b = 0; b < length; ++b) payload += static_cast<char>(random.next());
    publish(payload);
  }
  publish("");
  publish(std::string(2 << 20, 'x'));
  EXPECT_TRUE(poll_until([&] { return cache_->stats().messages_unreadable >= kMessages + 2; }));
  EXPECT_EQ(described(cache_->get("k")), "v@l1");
  EXPECT_TRUE(cache_->set("k", "w"));
  EXPECT_EQ(described(cache_->get("k")), "w@l1");
  EXPECT_EQ(cache_->stats().epochs, 1U);
}

// What a newer release says may have meant any key.
TEST_F(Garbage, AMessageOfANewerReleaseDropsL1) {
  ASSERT_TRUE(cache_->set("k", "v"));
  const auto drops = cache_->stats().l1_drops;
  auto message = serialization::encode_message(
      {.kind = serialization::MessageKind::kInvalidate, .keys = {"other"}});
  ASSERT_TRUE(message);
  std::string payload = versioned(1, *message);
  payload[12] = 99;  // The format version.
  publish(payload);
  EXPECT_TRUE(poll_until([&] { return cache_->stats().l1_drops > drops; }));
  EXPECT_EQ(described(cache_->get("k")), "v@l2");
}

// One that bears our mark and cannot be read may have been an invalidation of any key.
TEST_F(Garbage, ADamagedMessageOfOursDropsL1) {
  ASSERT_TRUE(cache_->set("k", "v"));
  const auto drops = cache_->stats().l1_drops;
  auto message = serialization::encode_message(
      {.kind = serialization::MessageKind::kInvalidate, .keys = {"k"}});
  ASSERT_TRUE(message);
  publish(versioned(1, *message).substr(0, 30));
  EXPECT_TRUE(poll_until([&] { return cache_->stats().l1_drops > drops; }));
  EXPECT_EQ(cache_->stats().messages_unreadable, 1U);
}

TEST_F(Garbage, AClearByMessageDropsL1) {
  ASSERT_TRUE(cache_->set("k", "v"));
  const auto drops = cache_->stats().l1_drops;
  auto message = serialization::encode_message({.kind = serialization::MessageKind::kClear});
  ASSERT_TRUE(message);
  publish(versioned(1, *message));
  EXPECT_TRUE(poll_until([&] { return cache_->stats().l1_drops > drops; }));
}

}  // namespace
}  // namespace tiercel::testing
