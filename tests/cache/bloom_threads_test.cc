// Meant for ThreadSanitizer; the others see lost bits.

#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "bloom_test_support.h"

namespace tiercel::testing {
namespace {

constexpr std::uint64_t kKeysEach = 20'000;
constexpr std::uint64_t kWriters = 3;

// Small, so that the writers meet in every word.
BloomOptions crowded() { return {.keys_expected = kKeysEach * kWriters, .bits_per_key = 8}; }

TEST(BloomThreads, WhatAThreadLearnsOfIsNotRefusedToIt) {
  const auto filter = make_filter(crowded());
  std::array<std::atomic<std::uint64_t>, kWriters> added{};
  std::atomic<std::uint64_t> refusals{0};
  std::vector<std::thread> threads;
  for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&, writer] {
      for (std::uint64_t i = 0; i < kKeysEach; ++i) {
        filter->add(key_of(writer * kKeysEach + i));
        added[writer].store(i + 1, std::memory_order_release);
      }
    });
  }
  threads.emplace_back([&] {
    std::uint64_t round = 0;
    for (bool done = false; !done; ++round) {
      done = true;
      for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
        const std::uint64_t known = added[writer].load(std::memory_order_acquire);
        if (known < kKeysEach) done = false;
        const std::uint64_t first = writer * kKeysEach;
        for (std::uint64_t back = 1; back <= 50 && back <= known; ++back) {
          if (!filter->may_contain(key_of(first + known - back))) ++refusals;
        }
        if (known > 0 && !filter->may_contain(key_of(first + round % known))) ++refusals;
      }
    }
  });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(refusals, 0U);
  EXPECT_EQ(refused(*filter, 0, kWriters * kKeysEach), 0U);
  EXPECT_EQ(filter->bits_set(), filter->survey().bits_set) << "each bit is counted once";

  const auto alone = make_filter(crowded());
  add_keys(*alone, 0, kWriters * kKeysEach);
  EXPECT_TRUE(all_bytes(*filter) == all_bytes(*alone));
  EXPECT_EQ(filter->bits_set(), alone->bits_set());
}

TEST(BloomThreads, ABitThatAllSetAtOnceIsCountedOnce) {
  const auto filter = make_filter(crowded());
  std::atomic<std::uint64_t> started{0};
  std::vector<std::thread> threads;
  for (std::uint64_t writer = 0; writer < kWriters; ++writer) {
    threads.emplace_back([&] {
      ++started;
      while (started < kWriters) std::this_thread::yield();
      add_keys(*filter, 0, 10 * kKeysEach);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(filter->bits_set(), filter->survey().bits_set);
}

TEST(BloomThreads, AddsMergesAndCopiesMayMeet) {
  const auto filter = make_filter(crowded());
  const auto other = make_filter(crowded());
  add_keys(*other, kKeysEach, 2 * kKeysEach);
  std::atomic<bool> done{false};
  std::atomic<std::uint64_t> short_copies{0};
  std::thread writer{[&] {
    add_keys(*filter, 0, kKeysEach);
    done = true;
  }};
  std::thread merger{[&] {
    ASSERT_TRUE(filter->merge(*other));
    for (std::size_t chunk = 0; chunk < other->chunks(); ++chunk) {
      ASSERT_TRUE(filter->merge_chunk(chunk, other->copy_chunk(chunk)));
    }
  }};
  std::thread copier{[&] {
    for (bool last = false; !last;) {
      last = done;
      const BloomHeader header = filter->header();
      const auto copy = BloomFilter::create(header, 1 << 20).value();
      for (std::size_t chunk = 0; chunk < filter->chunks(); ++chunk) {
        ASSERT_TRUE(copy->merge_chunk(chunk, filter->copy_chunk(chunk)));
      }
      // As BloomHeader::bits_set promises.
      if (copy->bits_set() < header.bits_set) ++short_copies;
      static_cast<void>(filter->survey());
      static_cast<void>(filter->is_overfull());
    }
  }};
  writer.join();
  merger.join();
  copier.join();
  EXPECT_EQ(short_copies, 0U);
  EXPECT_EQ(refused(*filter, 0, 2 * kKeysEach), 0U);
  EXPECT_EQ(filter->bits_set(), filter->survey().bits_set);
}

}  // namespace
}  // namespace tiercel::testing
