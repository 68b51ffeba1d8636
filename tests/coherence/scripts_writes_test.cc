// The Lua of coherence/scripts.h for the other writes: compare-and-set, without versions, many keys
// at once; and the registry of leases. Run by a real Redis.

#include <gtest/gtest.h>

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "scripts_fixture.h"
#include "tiercel/serialization/envelope.h"
#include "tiercel/serialization/tag_slots.h"

namespace tiercel::coherence {
namespace {

using namespace std::string_literals;

class ScriptsWritesTest : public ScriptsTest {
 protected:
  ScriptsWritesTest() { read_tags(); }  // As every instance does before its first write.
};

constexpr const char* kAbsent = "";

std::string encoded(const serialization::Envelope& envelope) {
  return serialization::encode_envelope(envelope).value();
}

// ---- compare-and-set

TEST_F(ScriptsWritesTest, AWriteThatExpectsNothingHappensWhereThereIsNothing) {
  const std::string envelope = encoded({.payload = "v"});
  BlockingRedis subscriber = subscribe();
  begin_fill("k", "token");
  const Version version = version_of(write_if_reply("k", envelope, kAbsent));
  EXPECT_EQ(stored("k").text, bytes_of(version) + envelope);
  EXPECT_EQ(newest_entry(), (std::pair{version, "msg"s}));
  EXPECT_EQ(next_message(subscriber), bytes_of(version) + "msg");
  EXPECT_TRUE(lease("k").is_nil());
}

TEST_F(ScriptsWritesTest, AWriteThatExpectsAVersionHappensOverIt) {
  const Version first = write("k", encoded({.payload = "1"}));
  const std::string envelope = encoded({.payload = "2"});
  const Version second = version_of(write_if_reply("k", envelope, bytes_of(first)));
  EXPECT_GT(second, first);
  EXPECT_EQ(stored("k").text, bytes_of(second) + envelope);
  EXPECT_NE(version_of(write_if_reply("k", "", bytes_of(second))), kVersionUnknown);
  EXPECT_TRUE(stored("k").is_nil()) << "compare-and-delete";
}

// Nothing is changed, and nobody is told of anything.
TEST_F(ScriptsWritesTest, AMismatchChangesNothingAndSaysWhatIsThere) {
  const Version other = write("other", "v");
  const Version current = write("k", encoded({.payload = "old"}));
  const std::string before = stored("k").text;
  BlockingRedis subscriber = subscribe();
  begin_fill("k", "token", "60000", "1");
  for (const std::string& expected :
       {std::string{kAbsent}, bytes_of(other), bytes_of(current + 1), bytes_of(0)}) {
    const RedisReply reply = write_if_reply("k", encoded({.payload = "new"}), expected);
    ASSERT_EQ(reply.kind, Reply::kArray) << reply.to_text();
    ASSERT_EQ(reply.elements.size(), 1U);
    EXPECT_EQ(reply.elements[0].text, bytes_of(current));
  }
  EXPECT_EQ(stored("k").text, before);
  EXPECT_EQ(lease("k").text, "token");
  EXPECT_EQ(history_length(), 2);
  command({"PUBLISH", names_.channel(), "the next message"});
  EXPECT_EQ(next_message(subscriber), "the next message");
}

TEST_F(ScriptsWritesTest, AVersionIsExpectedWhereThereIsNothing) {
  const RedisReply reply = write_if_reply("k", encoded({.payload = "v"}), bytes_of(77));
  ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
  EXPECT_TRUE(reply.elements[0].is_nil());
  EXPECT_TRUE(stored("k").is_nil());
}

TEST_F(ScriptsWritesTest, ANegativeEntryAndATombstoneAreNoValue) {
  for (const auto& envelope : {encoded({.negative = true}), encoded({.tombstone = true}),
                               encoded({.negative = true, .tombstone = true, .payload = "x"})}) {
    const Version version = write("k", envelope);
    const RedisReply reply = write_if_reply("k", "new", bytes_of(version));
    ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
    EXPECT_TRUE(reply.elements[0].is_nil());
    EXPECT_NE(version_of(write_if_reply("k", "new", kAbsent)), kVersionUnknown);
  }
}

TEST_F(ScriptsWritesTest, AValueOfUnknownVersionMatchesNothing) {
  const std::string unversioned = bytes_of(0) + encoded({.payload = "ours"});
  const std::string other_format =
      bytes_of(9) + "\xF1TCL\x02\x01" + encoded({.payload = "v"}).substr(6);
  const std::string message = bytes_of(9) + "\xF1TCL\x01\x02" + encoded({.payload = "v"}).substr(6);
  for (const std::string& foreign :
       {""s, "plain"s, std::string(100, 'x'), bytes_of(9) + "\xF1TCL",
        bytes_of(9) + "\xF1TCL\x01\x01" + "cut", unversioned, other_format, message}) {
    command({"SET", names_.value_key("k"), foreign});
    for (const std::string& expected :
         {std::string{kAbsent}, bytes_of(0), bytes_of(9), foreign.substr(0, 8)}) {
      const RedisReply reply = write_if_reply("k", "new", expected);
      if (expected.empty() || expected.size() == 8) {
        ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
        EXPECT_EQ(reply.elements[0].kind, Reply::kBulk);
        EXPECT_EQ(reply.elements[0].text, "");
      }
    }
    EXPECT_EQ(stored("k").text, foreign);
  }
  command({"DEL", names_.value_key("k")});
  command({"RPUSH", names_.value_key("k"), "a list"});
  const RedisReply reply = write_if_reply("k", "new", kAbsent);
  ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
  EXPECT_EQ(reply.elements[0].text, "");
}

// An invalidation of its tag came between the read and the write: what was read is not there.
TEST_F(ScriptsWritesTest, ADeadValueIsNoValue) {
  const auto tagged = [](std::initializer_list<std::string_view> tags) {
    const std::vector<std::string_view> views{tags};
    return encoded({.tag_slots = serialization::TagSlots::of(views).value(),
                    .payload = "an odd number of bytes in front of the slots"});
  };
  const std::string red = std::to_string(serialization::tag_slot("red"));
  for (const bool by_tag : {true, false}) {
    for (const bool expects_it : {true, false}) {
      const Version one = write("k", tagged({"blue", "red", "green"}));
      const Version other = write("other", tagged({"blue", "green"}));
      if (by_tag) {
        invalidate_tags({red});
      } else {
        clear();
      }
      const auto expected = [&](Version version) {
        return expects_it ? bytes_of(version) : std::string{kAbsent};
      };
      const RedisReply reply = write_if_reply("k", "new", expected(one));
      if (expects_it) {
        ASSERT_EQ(reply.elements.size(), 1U) << reply.to_text();
        EXPECT_TRUE(reply.elements[0].is_nil());
      } else {
        EXPECT_NE(version_of(reply), kVersionUnknown);
      }
      const RedisReply beside = write_if_reply("other", "new", expected(other));
      EXPECT_EQ(beside.kind == Reply::kArray, by_tag != expects_it) << beside.to_text();
    }
  }
  const Version alive = write("k", tagged({"red"}));
  EXPECT_NE(version_of(write_if_reply("k", "new", bytes_of(alive))), kVersionUnknown)
      << "written after its tag was invalidated";
  write("k", tagged({}));
  command({"DEL", names_.tags_key()});
  EXPECT_NE(version_of(write_if_reply("k", "new", kAbsent)), kVersionUnknown)
      << "nobody knows what was cleared";
}

// ---- without a version

TEST_F(ScriptsWritesTest, AnUnversionedWriteLeavesNoHistory) {
  BlockingRedis subscriber = subscribe();
  const auto write_unversioned = [&](const std::string& envelope, const std::string& ttl) {
    return version_of(run(kWriteUnversionedScript, {names_.value_key("k"), names_.fill_key("k")},
                          {envelope, ttl, "msg", names_.channel()}));
  };
  for (const std::string ttl : {"0", "40000"}) {
    begin_fill("k", "token", "60000", "1");
    EXPECT_EQ(write_unversioned("v", ttl), kVersionUnknown);
    EXPECT_EQ(stored("k").text, bytes_of(0) + "v");
    EXPECT_EQ(next_message(subscriber), bytes_of(0) + "msg");
    EXPECT_TRUE(lease("k").is_nil());
    EXPECT_EQ(ttl_ms(names_.value_key("k")) > 0, ttl != "0");
  }
  begin_fill("k", "token", "60000", "1");
  EXPECT_EQ(write_unversioned("", "0"), kVersionUnknown);
  EXPECT_TRUE(stored("k").is_nil());
  EXPECT_TRUE(lease("k").is_nil());
  EXPECT_EQ(next_message(subscriber), bytes_of(0) + "msg");
  EXPECT_EQ(history_length(), 0);
}

// ---- many keys

TEST_F(ScriptsWritesTest, ManyKeysAreInvalidatedInOneStep) {
  std::vector<std::string> keys = {names_.history_key()};
  for (int i = 0; i < 1024; ++i) {
    const std::string key = "k" + std::to_string(i);
    keys.push_back(names_.value_key(key));
    keys.push_back(names_.fill_key(key));
  }
  write("k0", "v");
  write("k1023", "v");
  begin_fill("k1000", "token");
  const Version kept = write("kept", "v");
  BlockingRedis subscriber = subscribe();
  const Version version = version_of(
      run(kInvalidateManyScript, keys, {"many", names_.channel(), std::string{kHistoryEntries}}));
  EXPECT_GT(version, kept);
  EXPECT_EQ(newest_entry(), (std::pair{version, "many"s}));
  EXPECT_EQ(history_length(), 4);
  EXPECT_EQ(next_message(subscriber), bytes_of(version) + "many");
  EXPECT_TRUE(stored("k0").is_nil());
  EXPECT_TRUE(stored("k1023").is_nil());
  EXPECT_TRUE(lease("k1000").is_nil());
  EXPECT_EQ(stored("kept").text, bytes_of(kept) + "v");
}

TEST_F(ScriptsWritesTest, ManyValuesAreWrittenInOneStep) {
  for (const std::size_t count : {std::size_t{1}, std::size_t{16}, std::size_t{1024}}) {
    std::vector<std::string> keys = {names_.history_key()};
    std::vector<std::string> fill_keys;
    std::vector<std::string> arguments = {"together", names_.channel(),
                                          std::string{kHistoryEntries}};
    for (std::size_t i = 0; i < count; ++i) {
      const std::string key = "k" + std::to_string(i);
      keys.push_back(names_.value_key(key));
      fill_keys.push_back(names_.fill_key(key));
      arguments.push_back("envelope " + key);
      arguments.push_back(i % 2 == 0 ? "0" : "40000");
    }
    keys.insert(keys.end(), fill_keys.begin(), fill_keys.end());
    const std::string last = "k" + std::to_string(count - 1);
    begin_fill("k0", "token", "60000", "1");
    begin_fill(last, "token", "60000", "1");
    begin_fill("beside", "token");
    command({"DEL", names_.value_key(last)});
    command({"RPUSH", names_.value_key(last), "of another type"});
    const Version kept = write("kept", "v");
    const auto entries = history_length();
    BlockingRedis subscriber = subscribe();
    const Version version = version_of(run(kWriteManyScript, keys, arguments));
    EXPECT_GT(version, kept);
    EXPECT_EQ(newest_entry(), (std::pair{version, "together"s}));
    EXPECT_EQ(history_length(), entries + 1);
    EXPECT_EQ(next_message(subscriber), bytes_of(version) + "together");
    for (std::size_t i = 0; i < count; ++i) {
      const std::string key = "k" + std::to_string(i);
      EXPECT_EQ(stored(key).text, bytes_of(version) + "envelope " + key);
      EXPECT_EQ(ttl_ms(names_.value_key(key)) > 0, i % 2 == 1) << key;
    }
    EXPECT_TRUE(lease("k0").is_nil());
    EXPECT_TRUE(lease(last).is_nil());
    EXPECT_EQ(lease("beside").text, "token");
    EXPECT_EQ(stored("kept").text, bytes_of(kept) + "v");
  }
}

TEST_F(ScriptsWritesTest, ManyValuesThatMayNotBePublishedAreNotWritten) {
  const Version before = write("k", "v");
  begin_fill("k", "token", "60000", "1");
  command({"ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels"});
  ASSERT_FALSE(command({"AUTH", "deaf", "pw"}).is_error());
  EXPECT_TRUE(run(kWriteManyScript,
                  {names_.history_key(), names_.value_key("k"), names_.value_key("other"),
                   names_.fill_key("k"), names_.fill_key("other")},
                  {"m", names_.channel(), "1000", "new", "0", "new", "0"})
                  .is_error());
  EXPECT_EQ(stored("k").text, bytes_of(before) + "v");
  EXPECT_TRUE(stored("other").is_nil());
  EXPECT_EQ(lease("k").text, "token");
}

TEST_F(ScriptsWritesTest, ManyKeysThatMayNotBePublishedStay) {
  const Version before = write("k", "v");
  command({"ACL", "SETUSER", "deaf", "on", ">pw", "~*", "+@all", "resetchannels"});
  ASSERT_FALSE(command({"AUTH", "deaf", "pw"}).is_error());
  EXPECT_TRUE(run(kInvalidateManyScript, {names_.history_key(), names_.value_key("k")},
                  {"m", names_.channel(), "1000"})
                  .is_error());
  EXPECT_EQ(stored("k").text, bytes_of(before) + "v");
}

// ---- the registry of leases

TEST_F(ScriptsWritesTest, TheLongestLeaseIsKept) {
  const auto register_lease = [&](const std::string& ms, const std::string& life = "60000") {
    const RedisReply reply = run(kRegisterLeaseScript, {names_.lease_key()}, {ms, life});
    EXPECT_EQ(reply.kind, Reply::kInteger) << reply.to_text();
    return reply.integer;
  };
  EXPECT_EQ(register_lease("500"), 500);
  EXPECT_EQ(register_lease("9"), 500) << "as numbers, not as texts";
  EXPECT_EQ(register_lease("1500"), 1500);
  EXPECT_EQ(register_lease("500"), 1500);
  EXPECT_EQ(command({"GET", names_.lease_key()}).text, "1500");
  EXPECT_LE(ttl_ms(names_.lease_key()), 60000);
  register_lease("1500", "900000");
  EXPECT_GT(ttl_ms(names_.lease_key()), 60000) << "who has the longest prolongs it";
  register_lease("500", "1000");
  EXPECT_GT(ttl_ms(names_.lease_key()), 60000) << "and nobody else shortens it";
  command({"SET", names_.lease_key(), "garbage"});
  EXPECT_EQ(register_lease("500"), 500);
}

TEST_F(ScriptsWritesTest, ALeaseThatNobodyHasAnyMoreIsForgotten) {
  run(kRegisterLeaseScript, {names_.lease_key()}, {"60000", "20"});
  EXPECT_TRUE(testing::poll_until([&] {
    return run(kRegisterLeaseScript, {names_.lease_key()}, {"500", "60000"}).integer == 500;
  }));
}

}  // namespace
}  // namespace tiercel::coherence
