// The Lua of coherence/scripts.h that writes and fills, run by a real Redis.

#include "tiercel/coherence/scripts.h"

#include <gtest/gtest.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "scripts_fixture.h"

namespace tiercel::coherence {
namespace {

using namespace std::string_literals;

// ---- write

TEST_F(ScriptsTest, AWriteStoresItsVersionBeforeTheValue) {
  const std::string envelope = "enve\0lope\xff\r\n"s;
  const Version version = write("k", envelope);
  EXPECT_NE(version, kVersionUnknown);
  EXPECT_EQ(stored("k").text, bytes_of(version) + envelope);
  EXPECT_EQ(ttl_ms(names_.value_key("k")), -1);
}

TEST_F(ScriptsTest, AVersionIsTheIdOfTheHistoryEntry) {
  const std::string message = "mess\0age\xfe"s;
  const Version version = write("k", "v", "0", message);
  EXPECT_EQ(newest_entry(), (std::pair{version, message}));
  EXPECT_EQ(history_length(), 1);
}

TEST_F(ScriptsTest, AWriteWithATtlExpires) {
  write("k", "v", "40000");
  EXPECT_GT(ttl_ms(names_.value_key("k")), 0);
  EXPECT_LE(ttl_ms(names_.value_key("k")), 40000);
  write("k", "v");
  EXPECT_EQ(ttl_ms(names_.value_key("k")), -1) << "the later write has no ttl";
  write("k", "v", "30");
  EXPECT_TRUE(testing::poll_until([&] { return stored("k").is_nil(); }));
}

TEST_F(ScriptsTest, AnEmptyEnvelopeDeletes) {
  const Version first = write("k", "v");
  const Version second = write("k", "", "40000");
  EXPECT_GT(second, first);
  EXPECT_TRUE(stored("k").is_nil());
  EXPECT_EQ(newest_entry().first, second);
  EXPECT_GT(write("never-there", ""), second);
}

TEST_F(ScriptsTest, AWritePublishesItsVersionAndMessage) {
  BlockingRedis subscriber = subscribe();
  const std::string message = "mess\0age"s;
  const Version set = write("k", "v", "0", message);
  const Version deleted = write("k", "", "0", "");
  EXPECT_EQ(next_message(subscriber), bytes_of(set) + message);
  EXPECT_EQ(next_message(subscriber), bytes_of(deleted));
}

TEST_F(ScriptsTest, AWriteRemovesTheFillLeaseOfItsKeyOnly) {
  for (const std::string envelope : {"v", ""}) {
    begin_fill("a", "token-a", "60000", "1");
    begin_fill("b", "token-b", "60000", "1");
    write("a", envelope);
    EXPECT_TRUE(lease("a").is_nil());
    EXPECT_EQ(lease("b").text, "token-b");
  }
}

TEST_F(ScriptsTest, AWriteReplacesAValueOfAnotherKind) {
  command({"RPUSH", names_.value_key("k"), "foreign"});
  const Version version = write("k", "v");
  EXPECT_EQ(stored("k").text, bytes_of(version) + "v");
}

TEST_F(ScriptsTest, VersionsRiseWithEachWrite) {
  Version last = kVersionUnknown;
  for (int i = 0; i < 500; ++i) {
    const Version version = write("k" + std::to_string(i % 3), i % 5 == 0 ? "" : "v");
    ASSERT_GT(version, last);
    last = version;
  }
  EXPECT_EQ(newest_entry().first, last);
}

TEST_F(ScriptsTest, TheHistoryIsCapped) {
  // Redis trims whole nodes of the stream, of 100 entries each by default.
  for (int i = 0; i < 1000; ++i) write("k", "v", "0", "m", "150");
  EXPECT_GE(history_length(), 150);
  EXPECT_LE(history_length(), 150 + 200);
}

TEST_F(ScriptsTest, AMessageThatMayNotBePublishedChangesNothing) {
  const Version before = write("k", "old");
  begin_fill("k", "token", "60000", "1");
  command({"ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels"});
  BlockingRedis deaf = connect(*server_);
  ASSERT_FALSE(command_on(deaf, {"AUTH", "deaf", "pw"}).is_error());
  const RedisReply reply = write_reply(deaf, "k", "new", "0", "msg");
  ASSERT_TRUE(reply.is_error()) << reply.to_text();
  EXPECT_EQ(stored("k").text, bytes_of(before) + "old") << "L1 of others would stay old for ever";
  EXPECT_EQ(lease("k").text, "token");
  EXPECT_GT(write("k", "newer"), before);
}

TEST_F(ScriptsTest, ATtlThatIsRefusedChangesNoValue) {
  const Version before = write("k", "old");
  for (const std::string ttl : {"-1", "soon", "99999999999999999999"}) {
    EXPECT_TRUE(write_reply(redis_, "k", "new", ttl, "msg").is_error()) << ttl;
    EXPECT_EQ(stored("k").text, bytes_of(before) + "old") << ttl;
  }
}

// ---- sequence overflow

TEST_F(ScriptsTest, ASequencePastTwentyBitsBeginsTheNextMillisecond) {
  const std::string last_that_fits =
      std::to_string(kFarFutureMs) + "-" + std::to_string(kSequenceMax);
  command({"XADD", names_.history_key(), last_that_fits, "m", "x"});
  BlockingRedis subscriber = subscribe();
  Version last = *parse_stream_id(last_that_fits);
  for (int i = 0; i < 5; ++i) {
    const Version version = write("k", "v", "0", "m" + std::to_string(i));
    EXPECT_EQ(to_stream_id(version), std::to_string(kFarFutureMs + 1) + "-" + std::to_string(i));
    EXPECT_GT(version, last);
    EXPECT_EQ(newest_entry(), (std::pair{version, "m" + std::to_string(i)}));
    EXPECT_EQ(stored("k").text, bytes_of(version) + "v");
    EXPECT_EQ(next_message(subscriber), bytes_of(version) + "m" + std::to_string(i));
    last = version;
  }
  EXPECT_EQ(history_length(), 6) << "the entry whose id did not fit is gone";
}

TEST_F(ScriptsTest, TheLargestIdsPackExactly) {
  // Above 2^53 a double has no room for the whole version; each half must come out unrounded.
  const std::uint64_t milliseconds = (std::uint64_t{1} << 44) - 1;
  command({"XADD", names_.history_key(), std::to_string(milliseconds) + "-1048573", "m", "x"});
  EXPECT_EQ(write("k", "v"), ~Version{0} - 1);
  EXPECT_EQ(write("k", "v"), ~Version{0});
}

TEST_F(ScriptsTest, AFillOfAnEmptyHistoryOverflowsAlike) {
  const std::string last_that_fits =
      std::to_string(kFarFutureMs) + "-" + std::to_string(kSequenceMax);
  command({"XADD", names_.history_key(), last_that_fits, "m", "x"});
  command({"XTRIM", names_.history_key(), "MAXLEN", "0"});
  begin_fill("k", "token");
  const Version filled = version_of(finish_fill("k", "token", "v"));
  EXPECT_GT(filled, *parse_stream_id(last_that_fits));
  EXPECT_EQ(newest_entry().first, filled);
  EXPECT_GT(write("k", "w"), filled) << "or the older value would pass for as new";
}

}  // namespace
}  // namespace tiercel::coherence
