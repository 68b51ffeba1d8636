#include "tiercel/coherence/invalidation_queue.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tiercel/base/random.h"

namespace tiercel::coherence {
namespace {

using enum InvalidationKind;
using Added = InvalidationQueue::Added;
using Batch = InvalidationQueue::Batch;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr std::size_t kNamesMax = 1024;
constexpr std::size_t kBytesMax = 65536;

std::optional<Batch> take(InvalidationQueue& queue) { return queue.take(kNamesMax, kBytesMax); }

TEST(InvalidationQueue, ExampleOfTheHeader) {
  InvalidationQueue queue{{}};
  EXPECT_EQ(queue.add(kKey, "player:42"), Added::kQueued);
  EXPECT_EQ(queue.add(kTag, "team:7"), Added::kQueued);
  const auto keys = take(queue);
  ASSERT_TRUE(keys);
  EXPECT_EQ(keys->kind, kKey);
  EXPECT_THAT(keys->names, ElementsAre("player:42"));
  const auto tags = take(queue);
  ASSERT_TRUE(tags);
  EXPECT_EQ(tags->kind, kTag);
  EXPECT_THAT(tags->names, ElementsAre("team:7"));
  EXPECT_FALSE(take(queue));
  EXPECT_FALSE(queue.empty()) << "both are under way";
  queue.acknowledge(*keys);
  EXPECT_FALSE(queue.empty());
  queue.acknowledge(*tags);
  EXPECT_TRUE(queue.empty());
}

TEST(InvalidationQueue, AKeyThatWaitsIsNotQueuedAgain) {
  InvalidationQueue queue{{}};
  EXPECT_EQ(queue.add(kKey, "k"), Added::kQueued);
  EXPECT_EQ(queue.add(kKey, "k"), Added::kCoalesced);
  EXPECT_EQ(queue.add(kTag, "k"), Added::kQueued) << "a tag is no key";
  EXPECT_EQ(queue.add(kTag, "k"), Added::kCoalesced);
  EXPECT_EQ(queue.counters().entries, 2U);
  EXPECT_EQ(queue.counters().queued, 2U);
  EXPECT_EQ(queue.counters().coalesced, 2U);
}

TEST(InvalidationQueue, AKeyThatIsUnderWayIsQueuedAgain) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "k");
  const Batch first = take(queue).value();
  EXPECT_EQ(queue.add(kKey, "k"), Added::kQueued) << "it may have been filled since";
  queue.acknowledge(first);
  EXPECT_FALSE(queue.empty());
  EXPECT_THAT(take(queue).value().names, ElementsAre("k"));
}

TEST(InvalidationQueue, WhatIsPutBackWaitsAgain) {
  InvalidationQueue queue{{}};
  for (const char* key : {"a", "b", "c"}) queue.add(kKey, key);
  const Batch first = queue.take(2, kBytesMax).value();
  EXPECT_THAT(first.names, ElementsAre("a", "b"));
  queue.add(kKey, "b");
  queue.put_back(first);
  EXPECT_EQ(queue.counters().put_back, 2U);
  EXPECT_EQ(queue.counters().entries, 3U) << "b waits once";
  const Batch again = take(queue).value();
  EXPECT_THAT(again.names, ElementsAre("a", "b", "c"));
  queue.acknowledge(again);
  EXPECT_EQ(queue.counters().acknowledged, 3U);
  EXPECT_TRUE(queue.empty());
}

TEST(InvalidationQueue, ABatchEndsOnce) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "a");
  const Batch batch = take(queue).value();
  queue.acknowledge(batch);
  queue.acknowledge(batch);
  queue.put_back(batch);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.counters().entries, 0U);
  EXPECT_EQ(queue.counters().bytes, 0U);
  EXPECT_EQ(queue.counters().acknowledged, 1U);
}

TEST(InvalidationQueue, ABatchFitsAMessage) {
  InvalidationQueue queue{{}};
  std::set<std::string> expected;
  for (int i = 0; i < 3000; ++i) {
    expected.insert("key" + std::to_string(i) + std::string(static_cast<std::size_t>(i % 90), 'x'));
  }
  for (const auto& key : expected) queue.add(kKey, key);
  std::set<std::string> sent;
  int batches = 0;
  while (auto batch = queue.take(1000, 20'000)) {
    ++batches;
    EXPECT_LE(batch->names.size(), 1000U);
    std::size_t bytes = 0;
    for (auto& name : batch->names) {
      bytes += name.size();
      EXPECT_TRUE(sent.insert(name).second);
    }
    EXPECT_LE(bytes, 20'000U);
    queue.acknowledge(*batch);
  }
  EXPECT_EQ(sent, expected);
  EXPECT_LE(batches, 9);
  EXPECT_EQ(queue.counters().bytes, 0U);
}

TEST(InvalidationQueue, AnEmptyNameIsAName) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "");
  EXPECT_THAT(queue.take(1, 0).value().names, ElementsAre(""));
}

TEST(InvalidationQueue, AClearCoversWhatWaits) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "k");
  queue.add(kTag, "t");
  EXPECT_EQ(queue.add(kClear), Added::kQueued);
  EXPECT_EQ(queue.add(kClear), Added::kCoalesced);
  EXPECT_EQ(queue.add(kKey, "later"), Added::kCoalesced) << "it is not sent yet";
  const Batch batch = take(queue).value();
  EXPECT_EQ(batch.kind, kClear);
  EXPECT_THAT(batch.names, IsEmpty());
  EXPECT_FALSE(take(queue));
  EXPECT_EQ(queue.add(kKey, "k"), Added::kQueued) << "the clear is under way";
  queue.put_back(batch);
  EXPECT_EQ(take(queue).value().kind, kClear);
  EXPECT_FALSE(take(queue)) << "and covers it now";
}

TEST(InvalidationQueue, WhatIsPutBackUnderAClearIsCovered) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "k");
  const Batch keys = take(queue).value();
  queue.add(kClear);
  queue.put_back(keys);
  const Batch clear = take(queue).value();
  EXPECT_EQ(clear.kind, kClear);
  EXPECT_FALSE(take(queue));
  queue.acknowledge(clear);
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.counters().bytes, 0U);
}

TEST(InvalidationQueue, TooManyBecomeOneClear) {
  InvalidationQueue queue{{.entries_max = 3}};
  queue.add(kKey, "a");
  queue.add(kTag, "b");
  queue.add(kKey, "c");
  EXPECT_EQ(queue.add(kKey, "c"), Added::kCoalesced);
  EXPECT_EQ(queue.counters().collapsed, 0U);
  EXPECT_EQ(queue.add(kKey, "d"), Added::kCollapsed);
  EXPECT_EQ(queue.counters().collapsed, 1U);
  EXPECT_EQ(queue.counters().entries, 0U);
  EXPECT_EQ(queue.counters().bytes, 0U);
  EXPECT_EQ(take(queue).value().kind, kClear);
  EXPECT_FALSE(take(queue));
}

TEST(InvalidationQueue, TooManyBytesBecomeOneClear) {
  InvalidationQueue queue{{.bytes_max = 1024}};
  const std::string half(512 - InvalidationQueue::kEntryOverheadBytes - 1, 'k');
  EXPECT_EQ(queue.add(kKey, "1" + half), Added::kQueued);
  EXPECT_EQ(queue.add(kKey, "2" + half), Added::kQueued);
  EXPECT_EQ(queue.counters().bytes, 1024U);
  EXPECT_EQ(queue.add(kKey, ""), Added::kCollapsed);
  EXPECT_EQ(InvalidationQueue{{.bytes_max = 1024}}.add(kKey, std::string(1024, 'k')),
            Added::kCollapsed);
}

TEST(InvalidationQueue, WhatIsUnderWayCountsToo) {
  InvalidationQueue queue{{.entries_max = 2}};
  queue.add(kKey, "a");
  const Batch first = take(queue).value();
  EXPECT_EQ(queue.add(kKey, "b"), Added::kQueued);
  EXPECT_EQ(queue.add(kKey, "c"), Added::kCollapsed);
  queue.acknowledge(first);
  EXPECT_EQ(take(queue).value().kind, kClear);
  EXPECT_EQ(queue.counters().entries, 0U);
}

TEST(InvalidationQueue, ANameThatNoMessageTakesBecomesAClear) {
  InvalidationQueue queue{{}};
  queue.add(kKey, "short");
  queue.add(kKey, std::string(100, 'a'));
  const Batch batch = queue.take(10, 99).value();
  EXPECT_EQ(batch.kind, kClear);
  EXPECT_EQ(queue.counters().collapsed, 1U);
  queue.acknowledge(batch);
  EXPECT_TRUE(queue.empty());
}

TEST(InvalidationQueue, OptionsHaveRanges) {
  EXPECT_TRUE(validate(InvalidationQueueOptions{}));
  const auto expect_refused = [](const InvalidationQueueOptions& options, const char* field) {
    const auto valid = validate(options);
    ASSERT_FALSE(valid);
    EXPECT_EQ(valid.error().code, ErrorCode::kInvalidArgument);
    EXPECT_THAT(valid.error().message, HasSubstr(field));
  };
  expect_refused({.entries_max = 0}, "entries_max");
  expect_refused({.entries_max = (std::size_t{16} << 20) + 1}, "entries_max");
  expect_refused({.bytes_max = 1023}, "bytes_max");
  expect_refused({.bytes_max = (std::size_t{16} << 30) + 1}, "bytes_max");
}

// Whatever happens, what was added after its last sending is sent again, or a clear is.
TEST(InvalidationQueue, NothingIsForgotten) {
  constexpr std::uint64_t kSeed = 5;
  Random random{kSeed};
  InvalidationQueue queue{{.entries_max = 20, .bytes_max = 4096}};
  std::set<std::string> owed;  // Added, and not acknowledged by a batch that was taken since.
  std::vector<std::pair<Batch, std::set<std::string>>> under_way;  // With what each pays.
  const auto end_one = [&](bool acknowledged) {
    auto [batch, pays] = std::move(under_way.back());
    under_way.pop_back();
    if (acknowledged) {
      queue.acknowledge(batch);
    } else {
      queue.put_back(batch);
      owed.merge(pays);
    }
  };
  for (int i = 0; i < 20'000; ++i) {
    switch (random.below(8)) {
      case 0:
        if (auto batch = queue.take(1 + random.below(10), 100)) {
          std::set<std::string> pays;
          if (batch->kind == kClear) {
            pays = std::exchange(owed, {});
          } else {
            for (auto& name : batch->names) {
              pays.insert((batch->kind == kKey ? "k" : "t") + name);
              owed.erase((batch->kind == kKey ? "k" : "t") + name);
            }
          }
          under_way.emplace_back(std::move(*batch), std::move(pays));
        }
        break;
      case 1:
      case 2:
        if (!under_way.empty()) end_one(random.below(2) == 0);
        break;
      default: {
        const std::string name = std::to_string(random.below(30));
        const bool is_key = random.below(2) == 0;
        queue.add(is_key ? kKey : kTag, name);
        owed.insert((is_key ? "k" : "t") + name);
      }
    }
    ASSERT_LE(queue.counters().entries, 20U) << "seed " << kSeed << " " << i;
    ASSERT_LE(queue.counters().bytes, 4096U);
    ASSERT_EQ(queue.empty(), owed.empty() && under_way.empty()) << "seed " << kSeed << " " << i;
  }
  while (!under_way.empty()) end_one(true);
  while (auto batch = queue.take(7, 100)) {
    if (batch->kind == kClear) owed.clear();
    for (auto& name : batch->names) owed.erase((batch->kind == kKey ? "k" : "t") + name);
    queue.acknowledge(*batch);
  }
  EXPECT_THAT(owed, IsEmpty());
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.counters().bytes, 0U);
}

TEST(InvalidationQueue, ManyThreadsAddWhileOneSends) {
  InvalidationQueue queue{{}};
  std::atomic<int> adding{3};
  std::vector<std::thread> adders;
  for (int t = 0; t < 3; ++t) {
    adders.emplace_back([&queue, &adding, t] {
      for (int i = 0; i < 5000; ++i) queue.add(kKey, std::to_string(t * 5000 + i));
      --adding;
    });
  }
  std::set<std::string> sent;
  while (adding.load() > 0 || !queue.empty()) {
    if (auto batch = queue.take(64, kBytesMax)) {
      if (batch->id % 3 == 0) {
        queue.put_back(*batch);
        continue;
      }
      sent.insert(batch->names.begin(), batch->names.end());
      queue.acknowledge(*batch);
    }
  }
  for (auto& adder : adders) adder.join();
  EXPECT_EQ(sent.size(), 15'000U);
}

}  // namespace
}  // namespace tiercel::coherence
