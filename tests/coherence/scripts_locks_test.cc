// The Lua of locks, run by a real Redis.

#include <gtest/gtest.h>

#include <cstdint>
#include <string>

#include "scripts_fixture.h"

namespace tiercel::coherence {
namespace {

using namespace std::string_literals;

// Two tokens of one instance and one of another.
const std::string kMine = "originAAnumber01";
const std::string kMineToo = "originAAnumber02";
const std::string kOthers = "originBBnumber01";

class ScriptsLocksTest : public ScriptsTest {
 protected:
  RedisReply acquire(const std::string& token, const std::string& life_ms = "60000",
                     const std::string& waits = "1") {
    return run(kAcquireLockScript, {key_, names_.lock_number_key()}, {token, life_ms, waits});
  }
  // As acquire, where it must be granted: its number.
  std::uint64_t granted(const std::string& token, const std::string& life_ms = "60000") {
    const RedisReply reply = acquire(token, life_ms);
    EXPECT_EQ(reply.elements.size(), 2U) << reply.to_text();
    if (reply.elements.size() != 2) return 0;
    EXPECT_EQ(reply.elements[0].integer, 1) << reply.to_text();
    return version_of(reply.elements[1]);
  }
  void expect_held(const RedisReply& reply, std::int64_t left_min, std::int64_t left_max) {
    ASSERT_EQ(reply.elements.size(), 2U) << reply.to_text();
    EXPECT_EQ(reply.elements[0].integer, 0);
    EXPECT_EQ(reply.elements[1].kind, Reply::kInteger);
    EXPECT_GE(reply.elements[1].integer, left_min);
    EXPECT_LE(reply.elements[1].integer, left_max);
  }
  std::int64_t renew(const std::string& token, const std::string& life_ms = "60000") {
    return run(kRenewLockScript, {key_}, {token, life_ms}).integer;
  }
  std::int64_t release(const std::string& token) {
    return run(kReleaseLockScript, {key_}, {token}).integer;
  }
  std::string at_key() { return command({"GET", key_}).text; }
  bool is_free() { return command({"EXISTS", key_}).integer == 0; }
  void set_last_number(std::uint64_t number) {
    command({"SET", names_.lock_number_key(), bytes_of(number)});
  }
  std::uint64_t server_us() {
    const RedisReply time = command({"TIME"});
    return std::stoull(time.elements[0].text) * 1'000'000 + std::stoull(time.elements[1].text);
  }

  const std::string key_ = names_.lock_key("l");
};

TEST_F(ScriptsLocksTest, AGrantStandsWithItsTokenItsNumberAndItsLife) {
  const std::uint64_t number = granted(kMine, "40000");
  EXPECT_EQ(at_key(), kMine + bytes_of(number));
  EXPECT_EQ(command({"GET", names_.lock_number_key()}).text, bytes_of(number));
  EXPECT_EQ(ttl_ms(names_.lock_number_key()), -1);
  EXPECT_GT(ttl_ms(key_), 0);
  EXPECT_LE(ttl_ms(key_), 40000);
}

TEST_F(ScriptsLocksTest, NobodyElseIsGrantedIt) {
  granted(kMine, "40000");
  const std::string before = at_key();
  expect_held(acquire(kMineToo), 1, 40000);
  expect_held(acquire(kOthers, "60000", "0"), 1, 40000);
  EXPECT_EQ(at_key(), before);
  EXPECT_LE(ttl_ms(key_), 40000) << "who asks does not prolong it";
}

TEST_F(ScriptsLocksTest, TheSameTokenMayAskAgain) {
  const std::uint64_t number = granted(kMine, "40000");
  EXPECT_EQ(granted(kMine, "90000"), number);
  EXPECT_GT(ttl_ms(key_), 40000) << "its life begins anew";
  acquire(kOthers);
  EXPECT_EQ(granted(kMine), number) << "also where someone waits";
}

TEST_F(ScriptsLocksTest, WhoWaitsInAnotherInstanceLeavesAMark) {
  granted(kMine, "40000");
  acquire(kMineToo);
  acquire(kOthers, "60000", "0");
  EXPECT_EQ(release(kMine), 1) << "one of the same instance, and one who does not wait";
  granted(kMine, "40000");
  acquire(kOthers);
  acquire(kOthers);
  EXPECT_EQ(at_key().size(), 25U);
  EXPECT_GT(ttl_ms(key_), 0) << "the mark leaves it its life";
  EXPECT_EQ(renew(kMine), 1);
  EXPECT_EQ(release(kMine), 2);
}

TEST_F(ScriptsLocksTest, NumbersAreTheServersClockAndRise) {
  const std::uint64_t before = server_us();
  std::uint64_t last = granted(kMine);
  const std::uint64_t after = server_us();
  EXPECT_GE(last, (before / 1000) << 20 | (before % 1000) << 10);
  EXPECT_LE(last, (after / 1000) << 20 | (after % 1000) << 10);
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(release(kMine), 1);
    const std::uint64_t next = granted(kMine);
    EXPECT_GT(next, last);
    last = next;
  }
}

TEST_F(ScriptsLocksTest, NumbersGoOnFromTheLastWhereTheClockIsBehindIt) {
  const std::uint64_t last = (kFarFutureMs - 1) << 20 | (kSequenceMax - 1);
  set_last_number(last);
  EXPECT_EQ(granted(kMine), last + 1);
  release(kMine);
  EXPECT_EQ(granted(kMine), last + 2) << "into the next millisecond";
  release(kMine);
  set_last_number(kFarFutureMs << 20 | kSequenceMax);
  EXPECT_EQ(granted(kMine), (kFarFutureMs + 1) << 20) << "carried into the upper half";
}

TEST_F(ScriptsLocksTest, NumbersRiseThoughTheLastWasLostOrSpoilt) {
  std::uint64_t last = granted(kMine);
  for (const std::string& spoilt : {""s, "seven b"s, "nine byte"s}) {
    command({"DEL", key_});
    command({"SET", names_.lock_number_key(), spoilt});
    const std::uint64_t next = granted(kMine);
    EXPECT_GT(next, last);
    last = next;
  }
  command({"FLUSHALL"});
  EXPECT_GT(granted(kMine), last);
}

TEST_F(ScriptsLocksTest, ANumberOfAnotherTypeGrantsNothing) {
  command({"LPUSH", names_.lock_number_key(), "x"});
  EXPECT_EQ(acquire(kMine).kind, Reply::kError);
  EXPECT_TRUE(is_free());
}

TEST_F(ScriptsLocksTest, ANumberOutlivesItsLock) {
  const std::uint64_t number = granted(kMine, "1");
  EXPECT_TRUE(testing::poll_until([&] { return is_free(); }));
  EXPECT_EQ(renew(kMine), 0) << "what is over is not renewed";
  EXPECT_TRUE(is_free());
  EXPECT_EQ(command({"GET", names_.lock_number_key()}).text, bytes_of(number));
}

TEST_F(ScriptsLocksTest, OnlyItsOwnerRenewsAndReleases) {
  const std::uint64_t number = granted(kMine, "40000");
  EXPECT_EQ(renew(kOthers, "90000"), 0);
  EXPECT_LE(ttl_ms(key_), 40000);
  EXPECT_EQ(release(kOthers), 0);
  EXPECT_EQ(release(kMineToo), 0);
  EXPECT_EQ(at_key(), kMine + bytes_of(number));
  EXPECT_EQ(renew(kMine, "90000"), 1);
  EXPECT_GT(ttl_ms(key_), 40000);
  EXPECT_EQ(release(kMine), 1);
  EXPECT_TRUE(is_free());
  EXPECT_EQ(release(kMine), 0);
}

TEST_F(ScriptsLocksTest, AForeignValueIsSomeoneElsesLock) {
  for (const std::string& foreign : {"x"s, ""s, kMine.substr(0, 15)}) {
    command({"SET", key_, foreign});
    expect_held(acquire(kMine), -1, -1);
    EXPECT_EQ(renew(kMine), 0);
    EXPECT_EQ(release(kMine), 0);
    EXPECT_EQ(at_key(), foreign);
  }
}

}  // namespace
}  // namespace tiercel::coherence
