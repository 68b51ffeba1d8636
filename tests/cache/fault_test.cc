// Redis and the links to it fail in every way that one server can.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(Faults, RedisIsAwayFromTheStart) {
  auto server = RedisServer::start();
  server->kill();
  const auto cache = open_cache({.redis_url = server->url(),
                                 .lease = 60s,
                                 .stream_timeout = 60s,
                                 .read_timeout_before_load = 50ms});
  EXPECT_FALSE(cache->wait_until_ready(50ms));
  const auto read = cache->get("k", {.timeout = 100ms});
  EXPECT_EQ(code_of(read), ErrorCode::kUnavailable);
  EXPECT_FALSE(cache->lease().held);
  const auto written = cache->set("k", "v", {.timeout = 100ms});
  ASSERT_FALSE(written);
  EXPECT_EQ(written.error().code, ErrorCode::kUnavailable);  // Not sent: the outcome is known.
  EXPECT_THAT(written.error().to_string(), HasSubstr(std::to_string(server->port())));
  // A loader answers all the same; what it brings is not cached, for nothing would vouch for it.
  const ReadOptions loading{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"loaded"}; }};
  EXPECT_EQ(described(cache->get("k", loading)), "loaded@loader");
  EXPECT_EQ(described(cache->try_get("k")), "(none)");

  server->restart();
  EXPECT_TRUE(cache->wait_until_ready(kPatience));
  EXPECT_TRUE(cache->set("k", "v"));
  EXPECT_EQ(described(cache->get("k")), "v@l1");
}

TEST(Faults, RedisIsKilledAndComesBackEmpty) {
  const auto server = RedisServer::start();
  const auto cache = open_ready(with_long_lease({.redis_url = server->url()}));
  ASSERT_TRUE(cache->set("k", "before"));
  const auto epoch = cache->lease().epoch;
  server->kill();
  EXPECT_TRUE(poll_until([&] { return !cache->lease().held; }));
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  EXPECT_EQ(code_of(cache->get("k", {.timeout = 50ms})), ErrorCode::kUnavailable);

  server->restart();
  ASSERT_TRUE(cache->wait_until_ready(kPatience));
  EXPECT_NE(cache->lease().epoch, epoch);
  EXPECT_EQ(read_value(*cache, "k"), "(absent)");  // No ghost of the lost server.
  EXPECT_TRUE(cache->set("k", "after"));
  EXPECT_EQ(described(cache->get("k")), "after@l1");
}

// The server hangs for a while. L1 is bypassed, nothing is dropped, the same
// epoch goes on.
TEST(Faults, RedisHangsAndGoesOn) {
  const auto server = RedisServer::start();
  const auto cache = open_ready({.redis_url = server->url(), .stream_timeout = 60000ms});
  ASSERT_TRUE(cache->set("k", "v"));
  const auto epoch = cache->lease().epoch;
  const auto drops = cache->stats().l1_drops;
  server->stop_process();
  EXPECT_TRUE(poll_until([&] { return !cache->try_get("k"); }));
  EXPECT_EQ(code_of(cache->get("k", {.timeout = 50ms})), ErrorCode::kUnavailable);
  for (auto timeout = 50ms;; timeout *= 2) {
    ASSERT_LT(timeout, kPatience);
    const auto written = cache->set("k", "w", {.timeout = timeout});
    ASSERT_FALSE(written);
    if (written.error().code == ErrorCode::kDeadlineExceeded) {
      EXPECT_THAT(written.error().message, HasSubstr("outcome unknown"));
      break;
    }
    // There was no time to send it.
    EXPECT_EQ(written.error().code, ErrorCode::kUnavailable) << written.error().to_string();
  }
  EXPECT_GT(cache->stats().lease_refusals, 0U);

  server->continue_process();
  EXPECT_TRUE(poll_until([&] { return cache->lease().held; }));
  EXPECT_EQ(cache->lease().epoch, epoch);
  EXPECT_EQ(cache->stats().l1_drops, drops);
  // The write that timed out was executed after all; it may not be answered from L1 as if it had
  // not been.
  EXPECT_EQ(read_value(*cache, "k"), "w");
}

TEST(Faults, NoHitPastTheLeaseWhenTheSubscriptionIsSilenced) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  proxy.set_only_marked(true);
  const auto writer = open_ready({.redis_url = server->url()});
  const auto reader = open_ready({.redis_url = proxy.url()});
  ASSERT_TRUE(writer->set("k", "old"));
  ASSERT_EQ(read_value(*reader, "k"), "old");

  proxy.set_server_to_client({.blackhole = true});
  EXPECT_TRUE(poll_until([&] { return !reader->lease().held; }));
  ASSERT_TRUE(writer->set("k", "new"));
  // S is half open, D works: every read goes to Redis.
  EXPECT_EQ(read_value(*reader, "k"), "new");
  EXPECT_EQ(described(reader->try_get("k")), "(none)");

  // Given up at the ping's deadline, dialled anew, trusted again.
  proxy.heal();
  EXPECT_TRUE(poll_until([&] { return reader->lease().held; }));
  EXPECT_GE(reader->stats().epochs, 2U);
  EXPECT_EQ(read_value(*reader, "k"), "new");
  EXPECT_TRUE(poll_until(
      [&] { return reader->try_get("k").has_value() || described(reader->get("k")) == "new@l1"; }));
}

TEST(Faults, TheSubscriptionIsKilledBetweenTwoWrites) {
  const auto server = RedisServer::start();
  const auto writer = open_ready({.redis_url = server->url()});
  const auto reader = open_ready({.redis_url = server->url()});
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(writer->set("k", "old" + std::to_string(i)));
    ASSERT_TRUE(poll_until([&] { return read_value(*reader, "k") == "old" + std::to_string(i); }));
    const auto epochs = reader->stats().epochs;
    server->command({"CLIENT", "KILL", "TYPE", "pubsub"});
    ASSERT_TRUE(writer->set("k", "new" + std::to_string(i), {.timeout = kPatience}));
    EXPECT_TRUE(poll_until([&] { return read_value(*reader, "k") == "new" + std::to_string(i); }));
    EXPECT_TRUE(poll_until([&] { return reader->stats().epochs > epochs; }));
    EXPECT_TRUE(poll_until([&] { return reader->lease().held && writer->lease().held; }));
  }
}

TEST(Faults, TheDataConnectionIsKilledAndReadsGoOn) {
  const auto server = RedisServer::start();
  const auto cache = open_ready(with_long_lease({.redis_url = server->url()}));
  ASSERT_TRUE(cache->set("k", "v"));
  for (int i = 0; i < 5; ++i) {
    server->command({"CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"});
    EXPECT_EQ(described(cache->try_get("k")), "v@l1");  // S lives, and so does the lease.
    EXPECT_EQ(read_value(*cache, "other"), "(absent)");
  }
  EXPECT_EQ(cache->stats().epochs, 1U);
}

// The reply of a write is lost. The caller is told that the outcome is unknown,
// and L1 does not answer for the key as if nothing had happened.
TEST(Faults, TheReplyOfAWriteIsLost) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  proxy.set_only_marked(false);
  const auto cache = open_ready({.redis_url = proxy.url()});
  for (auto timeout = 100ms;; timeout *= 2) {
    ASSERT_LT(timeout, kPatience);
    ASSERT_TRUE(cache->set("k", "old"));
    proxy.set_server_to_client({.blackhole = true});
    const auto written = cache->set("k", "new", {.timeout = timeout});
    ASSERT_FALSE(written);
    if (written.error().code == ErrorCode::kDeadlineExceeded) break;
    // There was no time to send it.
    EXPECT_EQ(written.error().code, ErrorCode::kUnavailable) << written.error().to_string();
    proxy.reset_all();  // Before anything comes through that would be taken for the lost reply.
    proxy.heal();
    ASSERT_TRUE(cache->wait_until_ready(kPatience));
  }
  EXPECT_EQ(cache->stats().writes_unknown, 1U);
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  proxy.heal();
  proxy.reset_all();
  EXPECT_EQ(read_value(*cache, "k"), "new");
}

TEST(Faults, BytesOneAtATime) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_server_to_client({.chunk_bytes_max = 1});
  proxy.set_client_to_server({.chunk_bytes_max = 1});
  const auto writer = open_ready({.redis_url = server->url()});
  const auto reader = open_ready({.redis_url = proxy.url()});
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(writer->set("k", std::to_string(i)));
    EXPECT_TRUE(poll_until([&] { return read_value(*reader, "k") == std::to_string(i); }));
  }
  EXPECT_EQ(reader->stats().messages_unreadable, 0U);
}

// A write that times out, then a server whose script blocks everything: no error line is taken for
// a pong.
TEST(Faults, ABusyScriptIsNoPong) {
  const auto server = RedisServer::start({.arguments = {"--busy-reply-threshold", "50"}});
  const auto cache = open_ready({.redis_url = server->url(), .stream_timeout = 60000ms});
  ASSERT_TRUE(cache->set("k", "v"));
  std::thread busy{[&] { server->command({"EVAL", "while true do end", "0"}); }};
  // What is killed before it begins would go on for ever.
  EXPECT_TRUE(poll_until([&] { return server->command({"PING"}).starts_with("-BUSY"); }));
  EXPECT_TRUE(poll_until([&] { return !cache->lease().held; }));
  EXPECT_EQ(described(cache->try_get("k")), "(none)");
  EXPECT_TRUE(poll_until([&] {
    server->command({"SCRIPT", "KILL"});
    return cache->lease().held;
  }));
  busy.join();
  EXPECT_EQ(cache->stats().epochs, 1U);
  EXPECT_EQ(read_value(*cache, "k"), "v");
}

TEST(Faults, AWrongPasswordIsSaidClearly) {
  const auto server = RedisServer::start({.arguments = {"--requirepass", "right"}});
  const std::string address = "127.0.0.1:" + std::to_string(server->port());
  for (const std::string& url : {"redis://:wrong-secret@" + address, "redis://" + address}) {
    const auto cache = open_cache({.redis_url = url});
    const auto ready = cache->wait_until_ready(kPatience);
    ASSERT_FALSE(ready) << url;
    EXPECT_EQ(ready.error().code, ErrorCode::kInvalidArgument) << ready.error().to_string();
    EXPECT_THAT(ready.error().to_string(), HasSubstr("password"));
    EXPECT_THAT(ready.error().to_string(), HasSubstr(address));
    EXPECT_THAT(ready.error().to_string(), Not(HasSubstr("wrong-secret")));
    const auto read = cache->get("k", {.timeout = kPatience});  // At once, not at the deadline.
    EXPECT_EQ(code_of(read), ErrorCode::kInvalidArgument) << described(read);
  }
  const auto cache = open_ready({.redis_url = "redis://:right@" + address});
  EXPECT_TRUE(cache->set("k", "v"));
}

// A fill lease that is granted after its reader has stopped waiting for Redis is given back:
// another reader need not wait until it runs out.
TEST(Faults, ALateFillLeaseIsGivenBack) {
  const auto server = RedisServer::start();
  const auto cache = open_ready({.redis_url = server->url(),
                                 .lease = 60s,
                                 .stream_timeout = 60s,
                                 .read_timeout_before_load = 50ms,
                                 .l2_breaker = std::nullopt,
                                 .fill_lease = 600000ms});
  const ReadOptions options{.timeout = kPatience,
                            .loader = [](std::string_view) { return Loaded{"v"}; }};
  const auto is_stored = [&](const std::string& key) {
    return poll_until([&] { return described(cache->get(key, options)) == "v@l1"; });
  };
  // From then on the lease is what is asked for first, by a script that the server has.
  ASSERT_TRUE(is_stored("first"));
  std::string key;
  for (int i = 0;; ++i) {
    ASSERT_LT(i, 100) << "it was never sent in time";
    key = "k" + std::to_string(i);
    const int granted_before = server->calls_of("hsetnx");
    server->stop_process();
    EXPECT_EQ(described(cache->get(key, options)), "v@loader");  // Without Redis.
    server->continue_process();
    ASSERT_TRUE(cache->set("after", "v"));  // Sent later, and so executed later.
    if (server->calls_of("hsetnx") > granted_before) break;
  }
  EXPECT_TRUE(is_stored(key)) << "not after ten minutes";
}

// Who joined a fetch and is more patient than who began it waits on.
TEST(Faults, APatientReaderOutlastsTheOneItJoined) {
  const auto server = RedisServer::start();
  const auto cache = open_ready({.redis_url = server->url(), .stream_timeout = 60000ms});
  server->command({"SET", "tiercel:k", "v"});
  server->stop_process();
  Answer<ReadResult> hasty;
  Answer<ReadResult> patient;
  cache->get_async("k", {.timeout = 100ms}, hasty.callback());
  cache->get_async("k", {.timeout = kPatience}, patient.callback());
  EXPECT_EQ(code_of(hasty.take()), ErrorCode::kUnavailable);
  EXPECT_FALSE(patient.arrived());
  server->continue_process();
  EXPECT_EQ(described(patient.take()), "v@l2");
}

TEST(Faults, ScriptsAreLoadedAgainAfterAFlush) {
  const auto server = RedisServer::start();
  const auto cache = open_ready({.redis_url = server->url()});
  ASSERT_TRUE(cache->set("k", "1"));
  server->command({"SCRIPT", "FLUSH"});
  ASSERT_TRUE(cache->set("k", "2"));
  EXPECT_EQ(read_value(*cache, "k"), "2");
}

// FLUSHALL takes the history away; the next write's version is not comparable with the ones before.
TEST(Faults, AFlushResetsTheHistory) {
  const auto server = RedisServer::start();
  const auto a = open_ready({.redis_url = server->url()});
  const auto b = open_ready({.redis_url = server->url()});
  // A history that is ahead of the clock, as after the clock was set back.
  server->command({"XADD", "tiercel/history", "9999999999999-0", "m", ""});
  ASSERT_TRUE(a->set("k", "old"));
  ASSERT_TRUE(poll_until([&] { return read_value(*b, "k") == "old" && b->try_get("k"); }));
  server->command({"FLUSHALL"});
  ASSERT_TRUE(a->set("k", "new"));
  EXPECT_TRUE(poll_until([&] { return read_value(*b, "k") == "new"; }));
  EXPECT_EQ(read_value(*a, "k"), "new");
}

TEST(Faults, ClosesWithEverythingInFlight) {
  const auto server = RedisServer::start();
  auto cache = open_ready({.redis_url = server->url()});
  server->stop_process();
  std::vector<Answer<ReadResult>> reads(100);
  std::vector<Answer<WriteResult>> writes(100);
  for (std::size_t i = 0; i < reads.size(); ++i) {
    cache->get_async("r" + std::to_string(i), {.timeout = kPatience}, reads[i].callback());
    cache->set_async("w" + std::to_string(i), "v", {.timeout = kPatience}, writes[i].callback());
  }
  cache.reset();
  for (auto& read : reads) EXPECT_EQ(code_of(read.take()), ErrorCode::kClosed);
  for (auto& write : writes) {
    const auto result = write.take();
    ASSERT_FALSE(result);
    EXPECT_TRUE(result.error().code == ErrorCode::kClosed ||
                result.error().code == ErrorCode::kDeadlineExceeded)
        << result.error().to_string();
  }
}

}  // namespace
}  // namespace tiercel::testing
