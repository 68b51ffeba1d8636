#include "found_bytes.h"

#include <gtest/gtest.h>

namespace tiercel::testing {
namespace {

TEST(FoundBytes, RisesAtOnceAndFallsSlowly) {
  FoundBytes found;
  EXPECT_EQ(found.expected(), Together::kJoinBytesMax);
  found.note(1'000'000);
  EXPECT_EQ(found.expected(), 1'000'000U);
  found.note(100);
  EXPECT_EQ(found.expected(), 1'000'000U - 15'625U);
  for (int i = 0; i < 1000; ++i) found.note(100);
  EXPECT_LT(found.expected(), 200U);
  EXPECT_GE(found.expected(), 100U);
}

TEST(FoundBytes, WhatDoesNotComeInTimeIsAskedForByHalfAsMany) {
  FoundBytes found;
  constexpr std::size_t kBytesMax = 1 << 18;
  for (int i = 0; i < 1000; ++i) found.note(0);
  found.note_too_many(64, kBytesMax);
  EXPECT_EQ(kBytesMax / found.expected(), 32U);
  found.note_too_many(32, kBytesMax);
  EXPECT_EQ(kBytesMax / found.expected(), 16U);
  found.note_too_many(64, kBytesMax);  // One that was sent before.
  EXPECT_EQ(kBytesMax / found.expected(), 16U);
}

}  // namespace
}  // namespace tiercel::testing
