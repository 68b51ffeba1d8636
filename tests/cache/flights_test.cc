// Many flights at once; how single ones behave is seen at the cache (loading_test.cc).

#include "flights.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

namespace tiercel {
namespace {

constexpr int kKeys = 3000;  // Many to a stripe.

std::string key_of(int i) { return "key " + std::to_string(i); }

class FlightsTest : public ::testing::Test {
 protected:
  Flights::Boarding board(int i) {
    return flights_.board(key_of(i), Waiter{.callback = [](const ReadResult&) {}}, Loader{},
                          nullptr, /*loads=*/true, /*may_join_begun=*/true);
  }

  coherence::FillTable fills_;
  Flights flights_{fills_};
};

TEST_F(FlightsTest, EachKeyHasItsOwn) {
  std::vector<std::shared_ptr<Flight>> begun;
  for (int i = 0; i < kKeys; ++i) {
    const auto [flight, is_new] = board(i);
    EXPECT_TRUE(is_new) << i;
    EXPECT_EQ(flight->key, key_of(i));
    begun.push_back(flight);
  }
  EXPECT_EQ(flights_.all().size(), kKeys);
  for (int i = 0; i < kKeys; ++i) {
    const auto [flight, is_new] = board(i);
    EXPECT_FALSE(is_new) << i;
    EXPECT_EQ(flight, begun[static_cast<std::size_t>(i)]);
  }
  for (int i = 0; i < kKeys; ++i) {
    auto landed = flights_.land(begun[static_cast<std::size_t>(i)]);
    EXPECT_TRUE(landed.first);
    EXPECT_EQ(landed.waiters.size(), 2U);
  }
  EXPECT_TRUE(flights_.all().empty());
}

TEST_F(FlightsTest, ANewerOneTakesThePlaceOfAnOlderOneAndOfNoOther) {
  std::vector<std::shared_ptr<Flight>> older;
  for (int i = 0; i < kKeys; ++i) older.push_back(board(i).flight);
  std::vector<std::shared_ptr<Flight>> newer;
  for (int i = 0; i < kKeys; i += 2) {
    fills_.mark(key_of(i), coherence::kVersionUnknown);
    const auto [flight, is_new] = board(i);
    EXPECT_TRUE(is_new) << "nobody joins what began before the change";
    newer.push_back(flight);
  }
  EXPECT_EQ(flights_.all().size(), kKeys + newer.size());
  for (int i = 0; i < kKeys; ++i) {
    const auto at = static_cast<std::size_t>(i);
    EXPECT_EQ(board(i).flight, i % 2 == 0 ? newer[at / 2] : older[at]) << key_of(i);
  }
  // The older ones land, and leave the newer ones where they are.
  for (const auto& flight : older) EXPECT_TRUE(flights_.land(flight).first);
  for (int i = 0; i < kKeys; ++i) {
    EXPECT_EQ(board(i).begun, i % 2 != 0) << key_of(i);
  }
  for (const auto& flight : flights_.all()) EXPECT_TRUE(flights_.land(flight).first);
  EXPECT_FALSE(flights_.land(older[0]).first) << "once";
  EXPECT_EQ(fills_.tokens_under_way(), 0U);
}

TEST_F(FlightsTest, OneThatWasReplacedMayBeTheNewestAgainAtTheGate) {
  const auto older = board(0).flight;
  fills_.mark(key_of(0), coherence::kVersionUnknown);
  const auto newer = board(0).flight;
  EXPECT_TRUE(flights_.land(newer).first);
  EXPECT_TRUE(flights_.arrive_at_gate(older));
  EXPECT_EQ(board(0).flight, older) << "it has read nothing yet";
  EXPECT_TRUE(flights_.pass_gate(older).is_renewed);
  EXPECT_EQ(flights_.land(older).waiters.size(), 2U);
}

TEST_F(FlightsTest, WhatFliesIsFreedWithThem) {
  std::weak_ptr<Flight> flight;
  {
    Flights others{fills_};
    flight = others
                 .board("k", Waiter{.callback = [](const ReadResult&) {}}, Loader{}, nullptr,
                        /*loads=*/true, /*may_join_begun=*/true)
                 .flight;
    EXPECT_FALSE(flight.expired());
  }
  EXPECT_TRUE(flight.expired());
  EXPECT_EQ(fills_.tokens_under_way(), 0U);
}

}  // namespace
}  // namespace tiercel
