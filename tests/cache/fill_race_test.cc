// Contract C2: a fill that raced with an invalidation never leaves the old value in L1. The
// reader's data replies are delayed by a proxy, so that invalidations overtake them.

#include <atomic>

#include "cache_fixture.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"

namespace tiercel::testing {
namespace {

TEST(FillRace, DelayedRepliesAreNotCached) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  proxy.set_only_marked(false);  // The subscription stays fast.
  proxy.set_server_to_client({.delay = 50ms});

  const auto writer = open_ready({.redis_url = server->url()});
  const auto reader = open_ready({.redis_url = proxy.url()});

  constexpr int kKeys = 8;
  constexpr int kRounds = 60;
  std::atomic<bool> writing{true};
  std::thread reading{[&] {
    while (writing) {
      for (int k = 0; k < kKeys; ++k) (void)reader->get("k" + std::to_string(k));
    }
  }};
  std::vector<std::string> last(kKeys);
  for (int round = 0; round < kRounds; ++round) {
    for (int k = 0; k < kKeys; ++k) {
      last[static_cast<std::size_t>(k)] = std::to_string(round);
      ASSERT_TRUE(writer->set("k" + std::to_string(k), std::to_string(round)));
    }
    std::this_thread::sleep_for(10ms);
  }
  writing = false;
  reading.join();

  // Quiet: once a message written last of all has arrived, every L1 entry must equal L2.
  ASSERT_TRUE(writer->set("marker", "done"));
  ASSERT_TRUE(poll_until([&] { return read_value(*reader, "marker") == "done"; }));
  for (int k = 0; k < kKeys; ++k) {
    const std::string key = "k" + std::to_string(k);
    const auto in_l1 = reader->try_get(key);
    if (in_l1) {
      EXPECT_EQ(in_l1->bytes(), last[static_cast<std::size_t>(k)]) << key;
    }
    EXPECT_EQ(read_value(*reader, key), last[static_cast<std::size_t>(k)]) << key;
  }
  EXPECT_GT(reader->stats().fills_dropped, 0U);  // The race did happen.
  EXPECT_GT(reader->stats().messages, 0U);
}

// One race, step by step: the reply is on its way with the old value when the change arrives.
TEST(FillRace, TheOldValueIsHandedOnButNotKept) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  proxy.set_only_marked(false);
  const auto writer = open_ready({.redis_url = server->url()});
  const auto reader = open_ready({.redis_url = proxy.url()});
  ASSERT_TRUE(writer->set("k", "old"));

  const int gets_before = server->calls_of("get");  // Scripts that ran before count, too.
  proxy.set_server_to_client({.delay = 300ms});
  const auto messages = reader->stats().messages;
  Answer<ReadResult> answer;
  reader->get_async("k", {.timeout = kPatience}, answer.callback());
  // The server has executed the GET before the write once it has seen it.
  ASSERT_TRUE(poll_until([&] { return server->calls_of("get") != gets_before; }));
  ASSERT_TRUE(writer->set("k", "new"));
  const bool overtaken =
      poll_until([&] { return reader->stats().messages > messages || answer.arrived(); }) &&
      !answer.arrived();
  EXPECT_EQ(described(answer.take()), "old@l2");
  if (overtaken) {
    EXPECT_EQ(described(reader->try_get("k")), "(none)");
  }
  ASSERT_TRUE(poll_until([&] { return read_value(*reader, "k") == "new"; }));
}

// Contract C3: a reader that comes after a change was seen is not given what was read before it.
TEST(FillRace, ALateReaderDoesNotJoinAnOldFlight) {
  const auto server = RedisServer::start();
  TcpProxy proxy{server->port()};
  proxy.set_marker("SUBSCRIBE");
  proxy.set_only_marked(false);
  const auto cache = open_ready({.redis_url = proxy.url()});
  ASSERT_TRUE(cache->set("k", "0"));
  proxy.set_server_to_client({.delay = 20ms});
  for (int i = 1; i <= 20; ++i) {
    Answer<ReadResult> before;
    Answer<WriteResult> written;
    ASSERT_TRUE(poll_until([&] { return cache->stats().reads_waiting == 0; }));
    cache->set_async("k", std::to_string(i), {.timeout = kPatience}, written.callback());
    cache->get_async("k", {.timeout = kPatience}, before.callback());
    ASSERT_TRUE(written.take());
    EXPECT_EQ(read_value(*cache, "k"), std::to_string(i));
    (void)before.take();
  }
}

}  // namespace
}  // namespace tiercel::testing
