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

// ---- begin_fill

TEST_F(ScriptsTest, BeginFillGivesTheValueThatIsThere) {
  const Version version = write("k", "v");
  RedisReply reply = begin_fill("k", "token");
  ASSERT_EQ(reply.elements.size(), 3U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].integer, 1);
  EXPECT_EQ(reply.elements[1].text, bytes_of(version) + "v");
  EXPECT_EQ(reply.elements[2].integer, -1);
  write("k", "v", "40000");
  reply = begin_fill("k", "token");
  ASSERT_EQ(reply.elements.size(), 3U) << reply.to_text();
  EXPECT_GT(reply.elements[2].integer, 0);
  EXPECT_LE(reply.elements[2].integer, 40000);
  EXPECT_TRUE(lease("k").is_nil());
}

TEST_F(ScriptsTest, BeginFillGivesAForeignValueAsItIs) {
  for (const std::string& foreign : {"plain"s, ""s, "\0"s}) {
    command({"SET", names_.value_key("k"), foreign});
    const RedisReply reply = begin_fill("k", "token");
    ASSERT_EQ(reply.elements.size(), 3U) << reply.to_text();
    EXPECT_EQ(reply.elements[1].text, foreign);
  }
}

TEST_F(ScriptsTest, BeginFillGivesOneTheLease) {
  const RedisReply mine = begin_fill("k", "token-a", "50000");
  ASSERT_EQ(mine.elements.size(), 2U) << mine.to_text();
  EXPECT_EQ(mine.elements[0].integer, 2);
  EXPECT_EQ(lease("k").text, "token-a");
  EXPECT_GT(ttl_ms(names_.fill_key("k")), 0);
  EXPECT_LE(ttl_ms(names_.fill_key("k")), 50000);

  const RedisReply other = begin_fill("k", "token-b");
  ASSERT_EQ(other.elements.size(), 2U) << other.to_text();
  EXPECT_EQ(other.elements[0].integer, 3);
  EXPECT_GT(other.elements[1].integer, 0);
  EXPECT_LE(other.elements[1].integer, 50000);
  EXPECT_EQ(lease("k").text, "token-a");

  EXPECT_EQ(begin_fill("another", "token-b").elements[0].integer, 2);
}

TEST_F(ScriptsTest, BeginFillRepeatedByTheHolderSaysTheSame) {
  begin_fill("k", "token", "50000");
  const RedisReply again = begin_fill("k", "token", "90000");
  ASSERT_EQ(again.elements.size(), 2U) << again.to_text();
  EXPECT_EQ(again.elements[0].integer, 2) << "a retry after a lost reply must not wait for itself";
  EXPECT_LE(ttl_ms(names_.fill_key("k")), 50000) << "and does not prolong the lease";
}

TEST_F(ScriptsTest, BeginFillCanPassOverACorruptValue) {
  write("k", "corrupt");
  const RedisReply mine = begin_fill("k", "token-a", "60000", "1");
  ASSERT_EQ(mine.elements.size(), 2U) << mine.to_text();
  EXPECT_EQ(mine.elements[0].integer, 2);
  EXPECT_EQ(begin_fill("k", "token-b", "60000", "1").elements[0].integer, 3) << "one at a time";
  EXPECT_EQ(begin_fill("k", "token-b").elements[0].integer, 1);
}

TEST_F(ScriptsTest, BeginFillTakesALeaseThatRanOut) {
  begin_fill("k", "token-a", "20");
  EXPECT_TRUE(
      testing::poll_until([&] { return begin_fill("k", "token-b").elements.at(0).integer == 2; }));
  EXPECT_EQ(lease("k").text, "token-b");
}

TEST_F(ScriptsTest, BeginFillTakesNoLeaseOnAValueOfAnotherKind) {
  command({"RPUSH", names_.value_key("k"), "foreign"});
  EXPECT_TRUE(begin_fill("k", "token").is_error());
  EXPECT_TRUE(lease("k").is_nil());
}

// ---- finish_fill

TEST_F(ScriptsTest, FinishFillStoresUnderTheNewestVersionOfTheHistory) {
  const Version own = write("k", "v");
  write("k", "");
  const Version newest = write("other", "v");
  begin_fill("k", "token");
  const Version filled = version_of(finish_fill("k", "token", "loa\0ded"s, "40000"));
  EXPECT_EQ(filled, newest);
  EXPECT_GT(filled, own);
  EXPECT_EQ(stored("k").text, bytes_of(filled) + "loa\0ded"s);
  EXPECT_GT(ttl_ms(names_.value_key("k")), 0);
  EXPECT_LE(ttl_ms(names_.value_key("k")), 40000);
  EXPECT_TRUE(lease("k").is_nil());
  EXPECT_EQ(history_length(), 3) << "a fill is no write";
}

TEST_F(ScriptsTest, FinishFillWithoutATtl) {
  begin_fill("k", "token");
  finish_fill("k", "token", "v");
  EXPECT_EQ(ttl_ms(names_.value_key("k")), -1);
}

TEST_F(ScriptsTest, FinishFillBeginsAnEmptyHistory) {
  begin_fill("k", "token");
  const Version filled = version_of(finish_fill("k", "token", "v", "0", "first"));
  EXPECT_EQ(newest_entry(), (std::pair{filled, "first"s}));
  begin_fill("other", "token");
  EXPECT_EQ(version_of(finish_fill("other", "token", "v", "0", "second")), filled);
  EXPECT_EQ(history_length(), 1);
  EXPECT_GT(write("k", "w"), filled);
}

TEST_F(ScriptsTest, FinishFillPublishesNothing) {
  BlockingRedis subscriber = subscribe();
  begin_fill("k", "token");
  finish_fill("k", "token", "v");
  command({"PUBLISH", names_.channel(), "the next message"});
  EXPECT_EQ(next_message(subscriber), "the next message");
}

TEST_F(ScriptsTest, FinishFillStoresNothingWithoutTheLease) {
  EXPECT_TRUE(finish_fill("k", "token", "v").is_nil()) << "there never was one";
  EXPECT_TRUE(finish_fill("k", "", "v").is_nil());
  begin_fill("k", "token-a");
  EXPECT_TRUE(finish_fill("k", "token-b", "v").is_nil()) << "another one's";
  EXPECT_EQ(lease("k").text, "token-a");
  EXPECT_TRUE(stored("k").is_nil());
  EXPECT_EQ(history_length(), 0);
}

TEST_F(ScriptsTest, FinishFillLosesToAWriteInBetween) {
  for (const std::string envelope : {"new", ""}) {
    begin_fill("k", "token", "60000", "1");
    const Version written = write("k", envelope);
    EXPECT_TRUE(finish_fill("k", "token", "old").is_nil());
    if (envelope.empty()) {
      EXPECT_TRUE(stored("k").is_nil()) << "no resurrection";
    } else {
      EXPECT_EQ(stored("k").text, bytes_of(written) + envelope);
    }
  }
}

TEST_F(ScriptsTest, FinishFillLosesToTheNextLoaderWhenItsLeaseRanOut) {
  begin_fill("k", "token-a", "20");
  ASSERT_TRUE(
      testing::poll_until([&] { return begin_fill("k", "token-b").elements.at(0).integer == 2; }));
  EXPECT_TRUE(finish_fill("k", "token-a", "late").is_nil());
  EXPECT_EQ(lease("k").text, "token-b");
  EXPECT_NE(version_of(finish_fill("k", "token-b", "good")), kVersionUnknown);
  EXPECT_TRUE(finish_fill("k", "token-b", "twice").is_nil());
  EXPECT_EQ(stored("k").text.substr(8), "good");
}

// ---- abandon_fill

TEST_F(ScriptsTest, AbandonFillGivesBackOnesOwnLeaseOnly) {
  EXPECT_EQ(abandon_fill("k", "token").integer, 0);
  begin_fill("k", "token-a");
  EXPECT_EQ(abandon_fill("k", "token-b").integer, 0);
  EXPECT_EQ(lease("k").text, "token-a");
  EXPECT_EQ(abandon_fill("k", "token-a").integer, 1);
  EXPECT_TRUE(lease("k").is_nil());
  EXPECT_EQ(abandon_fill("k", "token-a").integer, 0);
  EXPECT_EQ(begin_fill("k", "token-b").elements[0].integer, 2);
}

}  // namespace
}  // namespace tiercel::coherence
