// What INFO replication says, and how far behind a replica is by it.

#include <gtest/gtest.h>

#include <chrono>
#include <vector>

#include "replica_lag.h"

namespace tiercel::l2 {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint kStart{1000s};

Endpoint at(std::uint16_t port) { return {"10.0.0.1", port, {}}; }

// As answered by Redis 7.0.15.
TEST(ReplicaLagTest, ReadsInfoReplication) {
  const auto master = parse_replication_info(
      "# Replication\r\nrole:master\r\nconnected_slaves:4\r\n"
      "slave0:ip=10.0.0.1,port=2,state=online,offset=84,lag=0\r\n"
      "slave1:ip=10.0.0.1,port=3,state=wait_bgsave,offset=0,lag=0\r\n"
      "slave2:ip=::1,port=4,state=online,offset=84,lag=1\r\n"
      "slave3:ip=db-4.example,port=5,state=online,offset=84,lag=1\r\n"
      "master_failover_state:no-failover\r\nmaster_replid:abc\r\nmaster_replid2:000\r\n"
      "master_repl_offset:98\r\nsecond_repl_offset:-1\r\n");
  ASSERT_TRUE(master);
  EXPECT_TRUE(master->is_master);
  EXPECT_EQ(master->replication_id, "abc");
  EXPECT_EQ(master->former_replication_id, "");
  EXPECT_EQ(master->offset, 98u);
  EXPECT_EQ(master->replicas,
            (std::vector<Endpoint>{at(2), {"::1", 4, {}}, {"db-4.example", 5, {}}}));
  const auto replica = parse_replication_info(
      "role:slave\r\nmaster_host:10.0.0.1\r\nmaster_link_status:up\r\n"
      "slave_read_repl_offset:97\r\n"
      "slave_repl_offset:84\r\nmaster_replid:abc\r\nmaster_replid2:def\r\n"
      "master_repl_offset:90\r\n");
  ASSERT_TRUE(replica);
  EXPECT_FALSE(replica->is_master);
  EXPECT_EQ(replica->former_replication_id, "def");
  EXPECT_TRUE(replica->is_linked);
  EXPECT_FALSE(parse_replication_info("role:slave\r\nmaster_link_status:down\r\n"
                                      "slave_repl_offset:84\r\nmaster_replid:abc\r\n")
                   ->is_linked);
  EXPECT_EQ(replica->offset, 84u);  // What it has executed, not what it has received.
  for (const char* text : {"", "role:master\r\nmaster_replid:abc\r\n", "master_repl_offset:1\r\n",
                           "role:slave\r\nmaster_replid:abc\r\nmaster_repl_offset:1\r\n",
                           "role:master\r\nmaster_repl_offset:1\r\n",
                           "role:sentinel\r\nmaster_replid:a\r\nmaster_repl_offset:1\r\n"}) {
    EXPECT_FALSE(parse_replication_info(text)) << text;
  }
}

TEST(ReplicaLagTest, AReplicaHasWhatTheMasterHadWhenItsOffsetWasNoHigher) {
  OffsetHistory history;
  const auto sample = [&history](std::uint64_t offset, Duration after, const char* id = "abc") {
    history.add({.is_master = true, .replication_id = id, .offset = offset}, kStart + after);
  };
  const auto replica = [](std::uint64_t offset, const char* id = "abc") {
    return ReplicationInfo{.replication_id = id, .offset = offset};
  };
  EXPECT_FALSE(history.caught_up_to(replica(100)));
  sample(100, 1s);
  sample(200, 2s);
  sample(200, 3s);
  sample(300, 4s);
  EXPECT_FALSE(history.caught_up_to(replica(99)));
  EXPECT_EQ(history.caught_up_to(replica(199)), kStart + 1s);
  EXPECT_EQ(history.caught_up_to(replica(200)), kStart + 3s);
  EXPECT_EQ(history.caught_up_to(replica(400)), kStart + 4s);
  EXPECT_EQ(history.bytes_behind(replica(200)), 100u);
  EXPECT_EQ(history.bytes_behind(replica(400)), 0u);
  EXPECT_FALSE(history.caught_up_to(replica(400, "other")));
  sample(10, 5s, "new");  // A promotion: the old offsets mean nothing any more.
  EXPECT_FALSE(history.caught_up_to(replica(400)));
  EXPECT_EQ(history.caught_up_to(replica(10, "new")), kStart + 5s);
  sample(5, 6s, "new");  // An offset that falls is another history.
  EXPECT_EQ(history.caught_up_to(replica(10, "new")), kStart + 6s);
  for (std::size_t i = 0; i < OffsetHistory::kSamplesMax; ++i) sample(1000, 7s, "new");
  EXPECT_FALSE(history.caught_up_to(replica(10, "new")));
}

}  // namespace
}  // namespace tiercel::l2
