// Which keys count as hot, and how they are kept.

#include "hot_keys.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "ring.h"
#include "support/poll_until.h"

namespace tiercel::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

void note(HotKeys& keys, const std::string& key, int times) {
  for (int i = 0; i < times; ++i) {
    keys.note(key);
    if (i % 100 == 99) keys.count();
  }
  keys.count();
}

TEST(HotKeys, AreToldHottestFirst) {
  HotKeys keys{3};
  EXPECT_THAT(keys.tell(), IsEmpty());
  note(keys, "a", 10);
  note(keys, "b", 30);
  note(keys, "c", 20);
  note(keys, "d", 5);
  EXPECT_THAT(keys.tell(), ElementsAre("b", "c", "a"));
}

TEST(HotKeys, WhatWasHotOnceIsForgotten) {
  HotKeys keys{2};
  note(keys, "once", 100);
  note(keys, "now", 10);
  EXPECT_THAT(keys.tell(), ElementsAre("once", "now"));
  for (int i = 0; i < 8; ++i) {
    note(keys, "now", 10);
    (void)keys.tell();
  }
  EXPECT_THAT(keys.tell(), ElementsAre("now"));
}

TEST(HotKeys, ManyColdOnesDoNotPushTheHotOnesOut) {
  HotKeys keys{4};
  for (int i = 0; i < 1000; ++i) {
    note(keys, "cold" + std::to_string(i), 1);
    note(keys, "hot", 1);
  }
  EXPECT_EQ(keys.tell().at(0), "hot");
}

TEST(HotKeys, LongKeysAndThoseThatComeTooFastAreLeftOut) {
  HotKeys keys{4};
  note(keys, std::string(NotedKey::kBytesMax, 'k'), 1);
  note(keys, std::string(NotedKey::kBytesMax + 1, 'l'), 9);
  EXPECT_THAT(keys.tell(), ElementsAre(std::string(NotedKey::kBytesMax, 'k')));
  for (int i = 0; i < 100'000; ++i) keys.note("a");  // Nobody counts.
  keys.count();
  EXPECT_THAT(keys.tell(), ::testing::Contains("a"));
}

TEST(HotKeys, AreNotedByManyThreads) {
  HotKeys keys{4};
  std::atomic<int> running{4};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 20'000; ++i) keys.note("key of thread " + std::to_string(t));
      --running;
    });
  }
  while (running > 0) keys.count();
  for (auto& thread : threads) thread.join();
  for (int t = 0; t < 4; ++t) note(keys, "key of thread " + std::to_string(t), 1);
  EXPECT_EQ(keys.tell().size(), 4U);
}

TEST(HotKeys, ComeBackFromRedisAsTheyWere) {
  const std::vector<std::string> keys{"a", "", std::string("\0\xFF", 2),
                                      std::string(NotedKey::kBytesMax, 'k')};
  const std::string bytes = encode_hot_keys(keys);
  EXPECT_EQ(*decode_hot_keys(bytes), keys);
  EXPECT_EQ(*decode_hot_keys(encode_hot_keys({})), std::vector<std::string>{});
  EXPECT_EQ(bytes.substr(0, 17), std::string("\xF1TCLHOT\x01\0\0\0\0\0\0\0\1a", 17));
}

TEST(HotKeys, OtherBytesAreRefused) {
  const std::string bytes = encode_hot_keys({"some", "keys"});
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    const auto decoded = decode_hot_keys(std::string_view{bytes}.substr(0, length));
    EXPECT_EQ(decoded.has_value(), length == 8 || length == 20) << length;
  }
  std::string huge = bytes;
  huge[8] = '\xFF';
  EXPECT_FALSE(decode_hot_keys(huge));
  EXPECT_FALSE(decode_hot_keys("some text of another kind"));
  EXPECT_FALSE(decode_hot_keys(encode_hot_keys({std::string(NotedKey::kBytesMax + 1, 'k')})));
}

}  // namespace
}  // namespace tiercel::testing
