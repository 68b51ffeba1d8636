// What a message does to L1, once the epoch has joined the history.

#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

TEST(SessionMessages, EvictKeyByKeyInOrder) {
  Driver driver;
  driver.connect_and_lease();
  const Actions actions = driver.message(change_of({"b", "a", "b"}, 7));
  EXPECT_EQ(kinds(actions), Kinds(3, Kind::kEvict));
  EXPECT_EQ(evicted(actions), (Keys{"b@7", "a@7", "b@7"}));
  EXPECT_EQ(evicted(driver.message(change_of({"a"}, 8))), Keys{"a@8"});
  EXPECT_TRUE(driver.message(change_of({}, 9)).empty());
  EXPECT_TRUE(driver.leased());
}

TEST(SessionMessages, WithTheValueRefreshTheOneKey) {
  Driver driver;
  driver.connect_and_lease();
  Change change = change_of({"a"}, 7);
  change.value = "new";
  const Actions actions = driver.message(change);
  ASSERT_EQ(kinds(actions), Kinds{Kind::kRefresh});
  EXPECT_EQ(actions[0].key, "a");
  EXPECT_EQ(actions[0].value, "new");
  EXPECT_EQ(actions[0].version, 7U);
  change = change_of({"a", "b"}, 8);
  change.value = "whose?";
  EXPECT_EQ(evicted(driver.message(change)), (Keys{"a@8", "b@8"}));
}

TEST(SessionMessages, OfTagsInvalidateEachTag) {
  Driver driver;
  driver.connect_and_lease();
  Change change = change_of({"t", "u"}, 7);
  change.kind = ChangeKind::kTags;
  const Actions actions = driver.message(change);
  ASSERT_EQ(kinds(actions), (Kinds{Kind::kTag, Kind::kTag}));
  EXPECT_EQ(actions[0].key, "t");
  EXPECT_EQ(actions[1].key, "u");
  EXPECT_EQ(actions[0].version, 7U);
  EXPECT_EQ(actions[1].version, 7U);
}

TEST(SessionMessages, AClearCarriesItsVersion) {
  Driver driver;
  driver.connect_and_lease();
  const Actions actions = driver.message({.kind = ChangeKind::kClear, .version = 7});
  ASSERT_EQ(kinds(actions), Kinds{Kind::kClear});
  EXPECT_EQ(actions[0].version, 7U);
  EXPECT_TRUE(driver.leased());
}

TEST(SessionMessages, OfAnUnknownVersionEvictHardAndSayNothingAboutTheHistory) {
  Driver driver;
  driver.connect_and_lease();
  driver.run_for(kRound);  // Past the overlap with the history's page.
  driver.message(change_of({"a"}, 8));
  for (int i = 0; i < 2; ++i) {
    EXPECT_EQ(evicted(driver.message(change_of({"a"}, kVersionUnknown))), Keys{"a!"});
  }
  EXPECT_EQ(evicted(driver.message(change_of({"a"}, 9))), Keys{"a@9"});
  driver.message(change_of({"a"}, kVersionUnknown));
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(driver.asked_from(), 9U);
}

TEST(SessionMessages, AVersionThatDoesNotRiseMeansTheHistoryWasReset) {
  for (const Version after : {Version{1}, Version{99}, Version{100}}) {
    Driver driver;
    driver.connect_and_lease();
    driver.message(change_of({"a"}, 100));
    const Actions actions = driver.message(change_of({"b"}, after));
    ASSERT_EQ(kinds(actions), Kinds{Kind::kDropAll}) << after;
    EXPECT_NE(actions[0].reason.find("reset"), std::string::npos);
    EXPECT_TRUE(driver.leased()) << "the stream is unbroken";
    EXPECT_EQ(evicted(driver.message(change_of({"a"}, after + 1))),
              Keys{"a@" + std::to_string(after + 1)})
        << "the new history counts from where it is";
  }
}

TEST(SessionMessages, AResetByTagsOrAClearAlsoCountsForWhatComesLater) {
  for (const ChangeKind kind : {ChangeKind::kTags, ChangeKind::kClear, ChangeKind::kAll}) {
    Driver driver;
    driver.connect_and_lease();
    driver.message(change_of({"a"}, 100));
    Change change = change_of({"t"}, 50);
    change.kind = kind;
    const Actions actions = driver.message(change);
    EXPECT_EQ(kinds(actions).front(), Kind::kDropAll);
    EXPECT_EQ(has(actions, Kind::kTag), kind == ChangeKind::kTags);
    EXPECT_EQ(has(actions, Kind::kClear), kind == ChangeKind::kClear);
    EXPECT_FALSE(has(driver.message(change_of({"a"}, 51)), Kind::kDropAll));
  }
}

TEST(SessionMessages, AResetForgetsWhatWasAhead) {
  // And the position: the next epoch goes on from the new history.
  Driver driver;
  driver.connect_and_lease();
  driver.message(change_of({"a"}, 100));
  driver.session.note_fill("ahead", 200);
  driver.message(change_of({"b"}, 50));
  driver.world.history = {change_of({"b"}, 50), change_of({"c"}, 60)};
  driver.confirm();
  driver.reconnect();
  EXPECT_EQ(evicted(driver.settle()), Keys{"c@60"}) << "L1 was dropped with what was ahead";
}

TEST(SessionMessages, AChangeOfUnknownExtentDropsAll) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_EQ(kinds(driver.message({.kind = ChangeKind::kAll, .version = 10})),
            Kinds{Kind::kDropAll});
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 9))), Kinds{Kind::kDropAll})
      << "its version counts for the order";
  EXPECT_EQ(kinds(driver.message({.kind = ChangeKind::kAll})), Kinds{Kind::kDropAll});
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 10))), Kinds{Kind::kEvict});
  EXPECT_EQ(kinds(driver.message({.kind = ChangeKind::kAll, .version = 2})), Kinds{Kind::kDropAll});
  EXPECT_TRUE(driver.leased());
}

TEST(SessionMessages, OfNoConcernDoNothing) {
  Driver driver;
  driver.connect_and_lease();
  EXPECT_TRUE(driver.message({.kind = ChangeKind::kNone, .version = 50, .keys = {"a"}}).empty());
  EXPECT_EQ(kinds(driver.message(change_of({"a"}, 51))), Kinds{Kind::kEvict});
}

}  // namespace
}  // namespace tiercel::coherence
