// The scripts of fills (coherence/scripts.h) on a real Redis.

#include "scripts_fixture.h"
#include "tiercel/serialization/envelope.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;
using namespace std::string_literals;

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
  ASSERT_EQ(mine.elements.size(), 4U) << mine.to_text();
  EXPECT_EQ(mine.elements[0].integer, 2);
  EXPECT_EQ(lease("k").text, "token-a");
  EXPECT_GT(ttl_ms(names_.fill_key("k")), 0);
  EXPECT_LE(ttl_ms(names_.fill_key("k")), 50000);

  const RedisReply other = begin_fill("k", "token-b");
  ASSERT_EQ(other.elements.size(), 4U) << other.to_text();
  EXPECT_EQ(other.elements[0].integer, 3);
  EXPECT_GT(other.elements[1].integer, 0);
  EXPECT_LE(other.elements[1].integer, 50000);
  EXPECT_EQ(lease("k").text, "token-aw") << "its end is awaited";

  EXPECT_EQ(begin_fill("another", "token-b").elements[0].integer, 2);
}

TEST_F(ScriptsTest, BeginFillRepeatedByTheHolderSaysTheSame) {
  begin_fill("k", "token", "50000");
  const RedisReply again = begin_fill("k", "token", "90000");
  ASSERT_EQ(again.elements.size(), 4U) << again.to_text();
  EXPECT_EQ(again.elements[0].integer, 2) << "a retry after a lost reply must not wait for itself";
  EXPECT_LE(ttl_ms(names_.fill_key("k")), 50000) << "and does not prolong the lease";
}

TEST_F(ScriptsTest, BeginFillCanPassOverACorruptValue) {
  write("k", "corrupt");
  const RedisReply mine = begin_fill("k", "token-a", "60000", "1");
  ASSERT_EQ(mine.elements.size(), 4U) << mine.to_text();
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
  const RedisReply reply = begin_fill("k", "token");
  ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].integer, 0);
  EXPECT_TRUE(lease("k").is_nil());
  EXPECT_EQ(begin_fill("k", "token", "60000", /*force=*/"1").elements.at(0).integer, 2);
}

TEST_F(ScriptsTest, BeginFillSaysThatItsLeaseCannotBeHad) {
  command({"RPUSH", names_.fill_key("k"), "foreign"});
  const RedisReply reply = begin_fill("k", "token");
  ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].integer, 4);
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

TEST_F(ScriptsTest, TheEndOfALoadIsPublishedWhereSomebodyWaitsForIt) {
  BlockingRedis subscriber = subscribe();
  for (const bool is_stored : {true, false}) {
    begin_fill("k", "token-a", "60000", "1");
    for (const std::string token : {"token-b", "token-c"}) {
      EXPECT_EQ(begin_fill("k", token, "60000", "1").elements[0].integer, 3);
    }
    EXPECT_EQ(lease("k").text, "token-aw") << "one mark for all who wait";
    EXPECT_GT(ttl_ms(names_.fill_key("k")), 0) << "which does not make it last for ever";
    EXPECT_EQ(begin_fill("k", "token-a", "60000", "1").elements[0].integer, 2) << "still its own";
    if (is_stored) {
      EXPECT_FALSE(
          finish_tagged_fill("k", "token-a", "v", ~Version{0}, {}, "0", "filled", "1").is_nil());
    } else {
      EXPECT_EQ(abandon_fill("k", "token-a").integer, 1);
    }
    EXPECT_EQ(next_message(subscriber), bytes_of(0) + (is_stored ? "filled" : "given up"));
    EXPECT_TRUE(lease("k").is_nil());
  }
  begin_fill("k", "token-a", "60000", "1");
  begin_fill("k", "token-b", "60000", "1");
  invalidate_tags({"7"});
  next_message(subscriber);
  EXPECT_TRUE(finish_tagged_fill("k", "token-a", "v", 1, {"7"}, "0", "filled", "1").is_nil());
  EXPECT_EQ(next_message(subscriber), bytes_of(0) + "filled") << "a refused one, too";
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

// ---- several at once

class ManyFillsTest : public ScriptsTest {
 protected:
  struct Finish {
    std::string key;
    std::string token;
    std::string envelope;
    Version granted_at = ~Version{0};
    std::vector<std::string> slots{};
    std::string may_replace = "0";
    std::string ttl_ms = "0";
  };
  std::vector<RedisReply> finish_fills(const std::vector<Finish>& finishes) {
    std::vector<std::string> keys = {names_.history_key(), names_.tags_key()};
    for (const Finish& finish : finishes) keys.push_back(names_.value_key(finish.key));
    for (const Finish& finish : finishes) keys.push_back(names_.fill_key(finish.key));
    std::vector<std::string> arguments = {"all", names_.channel(), std::string{kHistoryEntries}};
    for (const Finish& finish : finishes) {
      arguments.insert(arguments.end(),
                       {finish.token, finish.envelope, finish.ttl_ms, bytes_of(finish.granted_at),
                        finish.may_replace, packed(finish.slots)});
    }
    return elements_of(run(kFinishFillsScript, keys, arguments), finishes.size());
  }

 private:
  static std::vector<RedisReply> elements_of(const RedisReply& reply, std::size_t count) {
    EXPECT_EQ(reply.elements.size(), count) << reply.to_text();
    std::vector<RedisReply> elements = reply.elements;
    elements.resize(count);
    return elements;
  }
};

TEST_F(ManyFillsTest, EachIsAnsweredForItself) {
  const Version version = write("there", "v", "40000");
  command({"SET", names_.fill_key("taken"), "other"});
  command({"RPUSH", names_.value_key("list"), "foreign"});
  command({"RPUSH", names_.fill_key("no lease"), "foreign"});
  const auto answers = begin_fills({{"there", "token1"},
                                    {"absent", "token2"},
                                    {"taken", "token"},
                                    {"list", "token4"},
                                    {"no lease", "token5"},
                                    {"absent too", "token6"}});
  ASSERT_EQ(answers[0].elements.size(), 3U) << answers[0].to_text();
  EXPECT_EQ(answers[0].elements[0].integer, 1);
  EXPECT_EQ(answers[0].elements[1].text, bytes_of(version) + "v");
  EXPECT_GT(answers[0].elements[2].integer, 30000);
  for (const std::size_t mine : {1U, 5U}) {
    ASSERT_EQ(answers[mine].elements.size(), 4U) << answers[mine].to_text();
    EXPECT_EQ(answers[mine].elements[0].integer, 2);
    EXPECT_EQ(version_of(answers[mine].elements[1]), version);
    EXPECT_TRUE(answers[mine].elements[2].is_nil());
    EXPECT_EQ(answers[mine].elements[3].integer, -1);
  }
  ASSERT_EQ(answers[2].elements.size(), 4U) << answers[2].to_text();
  EXPECT_EQ(answers[2].elements[0].integer, 3);
  EXPECT_EQ(answers[2].elements[1].integer, -1) << "a lease without an end";
  EXPECT_EQ(answers[3].elements.at(0).integer, 0);
  EXPECT_EQ(answers[4].elements.at(0).integer, 4);
  EXPECT_EQ(lease("absent").text, "token2");
  EXPECT_TRUE(lease("there").is_nil());
  EXPECT_EQ(lease("absent too").text, "token6");
  EXPECT_TRUE(lease("list").is_nil());
  EXPECT_EQ(tag_field("base"), version);
}

TEST_F(ManyFillsTest, WhatIsThereIsLoadedOver) {
  write("there", "v");
  command({"RPUSH", names_.value_key("list"), "foreign"});
  const auto answers = begin_fills({{"there", "token"}, {"list", "token"}}, "60000", /*force=*/"1");
  for (const RedisReply& answer : answers) {
    ASSERT_EQ(answer.elements.size(), 4U) << answer.to_text();
    EXPECT_EQ(answer.elements[0].integer, 2);
    EXPECT_TRUE(answer.elements[2].is_nil());
  }
}

TEST_F(ManyFillsTest, NoneIsGrantedWhereNoneIsWanted) {
  write("there", "v");
  begin_fill("taken", "other");
  const RedisReply reply =
      run(kBeginFillsScript,
          {names_.history_key(), names_.tags_key(), names_.value_key("there"),
           names_.value_key("taken"), names_.fill_key("there"), names_.fill_key("taken")},
          {"60000", "0", "0", "token", "token"});
  ASSERT_EQ(reply.elements.size(), 3U) << reply.to_text();
  EXPECT_TRUE(reply.elements[0].is_nil());
  EXPECT_EQ(reply.elements[1].elements.at(0).integer, 1);
  EXPECT_EQ(reply.elements[2].elements.at(0).integer, 3);
}

TEST_F(ManyFillsTest, OfTwoThatWantTheSameKeyOneWaits) {
  const auto answers = begin_fills({{"k", "token-a"}, {"k", "token-b"}});
  EXPECT_EQ(answers[0].elements.at(0).integer, 2);
  EXPECT_EQ(answers[1].elements.at(0).integer, 3);
  EXPECT_EQ(lease("k").text, "token-aw");
}

TEST_F(ManyFillsTest, EachIsStoredOnlyWhereItMayBe) {
  const Version newest = write("seen", "old");
  for (const std::string key : {"good", "short", "over", "seen", "tagged", "early", "foreign"}) {
    command({"SET", names_.fill_key(key), "token"});
  }
  command({"SET", names_.fill_key("lost"), "other"});
  command({"SET", names_.value_key("over"), "corrupt"});
  command({"SET", names_.value_key("foreign"), "came in between"});
  command({"HSET", names_.tags_key(), "base", bytes_of(2), "513", bytes_of(7)});
  const auto answers = finish_fills({{"good", "token", "g"},
                                     {"lost", "token", "l"},
                                     {"short", "token", "s", 5, {"512"}, "0", "40000"},
                                     {"over", "token", "o", 5, {}, "1"},
                                     {"seen", "token", "n", 5, {}, "=" + bytes_of(newest)},
                                     {"tagged", "token", "t", 5, {"512", "513"}},
                                     {"early", "token", "e", 1},
                                     {"foreign", "token", "f"}});
  for (const std::size_t good : {0U, 2U, 3U, 4U}) {
    EXPECT_EQ(version_of(answers[good]), newest) << good;
  }
  for (const std::size_t refused : {1U, 5U, 6U, 7U}) {
    EXPECT_TRUE(answers[refused].is_nil()) << refused;
  }
  EXPECT_EQ(stored("good").text, bytes_of(newest) + "g");
  EXPECT_EQ(ttl_ms(names_.value_key("good")), -1);
  EXPECT_EQ(stored("short").text, bytes_of(newest) + "s");
  EXPECT_GT(ttl_ms(names_.value_key("short")), 30000);
  EXPECT_EQ(stored("over").text, bytes_of(newest) + "o");
  EXPECT_EQ(stored("seen").text, bytes_of(newest) + "n");
  EXPECT_TRUE(stored("tagged").is_nil());
  EXPECT_TRUE(stored("early").is_nil());
  EXPECT_EQ(stored("foreign").text, "came in between");
  EXPECT_EQ(lease("lost").text, "other");
  for (const std::string key : {"good", "over", "tagged", "early", "foreign"}) {
    EXPECT_TRUE(lease(key).is_nil()) << key << ": given back either way";
  }
}

TEST_F(ManyFillsTest, OneMessageEndsTheWaitForAnyOfThem) {
  BlockingRedis subscriber = subscribe();
  command({"HSET", names_.tags_key(), "base", bytes_of(1)});
  command({"SET", names_.fill_key("a"), "token"});
  command({"SET", names_.fill_key("b"), "token"});
  finish_fills({{"a", "token", "v"}, {"b", "token", "v"}});
  command({"SET", names_.fill_key("c"), "token"});
  command({"SET", names_.fill_key("d"), "tokenw"});
  command({"SET", names_.fill_key("e"), "otherw"});
  finish_fills({{"c", "token", "v"}, {"d", "token", "v"}, {"e", "token", "v"}});
  command({"PUBLISH", names_.channel(), "after"});
  EXPECT_EQ(next_message(subscriber), bytes_of(0) + "all") << "for d, and none for a and b";
  EXPECT_EQ(next_message(subscriber), "after");
}

TEST_F(ManyFillsTest, TheyBeginAnEmptyHistoryWithOneEntry) {
  command({"HSET", names_.tags_key(), "base", bytes_of(1)});
  command({"SET", names_.fill_key("a"), "token"});
  command({"SET", names_.fill_key("b"), "token"});
  const auto answers = finish_fills({{"a", "token", "v"}, {"b", "token", "v"}});
  EXPECT_EQ(history_length(), 1);
  EXPECT_EQ(newest_entry().second, "all");
  EXPECT_EQ(version_of(answers[0]), newest_entry().first);
  EXPECT_EQ(version_of(answers[1]), newest_entry().first);
}

TEST_F(ManyFillsTest, WithoutABaseNoneIsStored) {
  command({"SET", names_.fill_key("a"), "token"});
  command({"SET", names_.fill_key("b"), "token"});
  const auto answers = finish_fills({{"a", "token", "v"}, {"b", "token", "v"}});
  EXPECT_TRUE(answers[0].is_nil());
  EXPECT_TRUE(answers[1].is_nil());
  EXPECT_TRUE(lease("a").is_nil()) << "given back all the same";
}

// ---- values whose life ends before they go

class StaleScriptsTest : public ScriptsTest {
 protected:
  static std::string envelope(std::chrono::milliseconds soft, std::chrono::milliseconds hard,
                              bool negative = false) {
    auto bytes = serialization::encode_envelope({.negative = negative,
                                                 .soft_ttl = soft,
                                                 .hard_ttl = hard,
                                                 .payload = negative ? "" : "payload"});
    EXPECT_TRUE(bytes);
    return bytes ? *bytes : std::string{};
  }
  // What begin_fill says of a value with so much of its time left.
  std::int64_t outcome(const std::string& stored, std::int64_t left_ms,
                       const std::string& wanted_ms = "0") {
    command({"DEL", names_.fill_key("k")});
    write("k", stored, std::to_string(left_ms));
    const RedisReply reply = begin_fill("k", "token", "60000", "0", wanted_ms);
    const std::int64_t said = reply.elements.at(0).integer;
    if (said == 2) {
      EXPECT_EQ(reply.elements.at(2).text.substr(8), stored) << "told beside the right to load";
      EXPECT_LE(reply.elements.at(3).integer, left_ms);
      EXPECT_GT(reply.elements.at(3).integer, 0);
    }
    return said;
  }
};

TEST_F(StaleScriptsTest, AValueWithAStalePartIsAnAnswerUntilThatBegins) {
  const std::string value = envelope(100s, 1000s);
  EXPECT_EQ(outcome(value, 990'000), 1);
  EXPECT_EQ(outcome(value, 910'000), 1);
  EXPECT_EQ(outcome(value, 899'000), 2);
  EXPECT_EQ(outcome(value, 10'000), 2);
  // Beyond 32 bits of milliseconds.
  EXPECT_EQ(outcome(envelope(24h * 100, 24h * 300), 24LL * 3600'000 * 201), 1);
  EXPECT_EQ(outcome(envelope(24h * 100, 24h * 300), 24LL * 3600'000 * 199), 2);
}

TEST_F(StaleScriptsTest, OthersAreAnAnswerToTheirEnd) {
  EXPECT_EQ(outcome(envelope(0ms, 1000s), 10'000), 1);
  EXPECT_EQ(outcome(envelope(1000s, 1000s), 10'000), 1);
  EXPECT_EQ(outcome(envelope(0ms, 5s, /*negative=*/true), 4'000), 1);
  EXPECT_EQ(outcome("something that is no envelope of ours, and is longer than its head would be",
                    10'000),
            1);
}

TEST_F(StaleScriptsTest, WhoWantsMoreLifeThanIsLeftMayLoad) {
  const std::string value = envelope(100s, 1000s);
  EXPECT_EQ(outcome(value, 950'000, "40000"), 1);
  EXPECT_EQ(outcome(value, 950'000, "60000"), 2);
  EXPECT_EQ(outcome(envelope(0ms, 1000s), 50'000, "60000"), 2);
  // One without an end has all that anybody can want.
  command({"DEL", names_.fill_key("k")});
  write("k", value);
  EXPECT_EQ(begin_fill("k", "token").elements.at(0).integer, 1);
}

TEST_F(StaleScriptsTest, AStoreBackReplacesOnlyWhatItSaw) {
  const auto store = [&](const std::string& may_replace) {
    command({"SET", names_.fill_key("k"), "token"});
    return !finish_tagged_fill("k", "token", "loaded", ~Version{0}, {}, "0", "filled", may_replace)
                .is_nil();
  };
  command({"HSET", names_.tags_key(), "base", bytes_of(1)});
  const Version seen = write("k", "v");
  EXPECT_FALSE(store("0"));
  EXPECT_FALSE(store("=" + bytes_of(seen + 1)));
  EXPECT_TRUE(store("=" + bytes_of(seen)));
  command({"SET", names_.value_key("k"), "a foreign writer's"});
  EXPECT_FALSE(store("=" + bytes_of(seen)));
  EXPECT_EQ(stored("k").text, "a foreign writer's");
  EXPECT_TRUE(store("=a foreig"));
  command({"SET", names_.value_key("k"), "0"});
  EXPECT_TRUE(store("=0")) << "a short one";
  command({"DEL", names_.value_key("k")});
  EXPECT_TRUE(store("=" + bytes_of(seen))) << "it has ended since";
  command({"DEL", names_.value_key("k")});
  command({"RPUSH", names_.value_key("k"), "a list"});
  EXPECT_FALSE(store("=" + bytes_of(seen)));
  EXPECT_TRUE(store("1")) << "whatever it is";
}

}  // namespace
}  // namespace tiercel::coherence
