#include "failover/report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "failover/progress.h"

namespace tiercel::failover {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

Report good_report() {
  Report report;
  report.tally.reads_l1 = 90;
  report.tally.reads_l2 = 6;
  report.tally.reads_absent = 3;
  report.tally.reads_failed = 1;
  report.tally.writes_acked = 50;
  report.tally.writes_unknown = 2;
  report.tally.writes_failed = 4;
  report.master_killed = true;
  report.promoted = true;
  report.first_write_after_kill_ms = 912.5;
  return report;
}

TEST(ReportTest, JsonHasEveryFieldThatWasPromised) {
  const auto json = nlohmann::json::parse(to_json(good_report()));
  for (const char* name :
       {"reads", "l1_hit_ratio", "stale_beyond_bound", "worst_staleness_ms", "monotonic_violations",
        "writes_acked", "writes_unknown", "writes_lost", "errors", "first_write_after_kill_ms",
        "first_l1_hit_after_kill_ms", "lease_ms"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_EQ(json["reads"], 100);
  EXPECT_DOUBLE_EQ(json["l1_hit_ratio"], 0.9);
  EXPECT_EQ(json["errors"], 7);
  EXPECT_DOUBLE_EQ(json["first_write_after_kill_ms"], 912.5);
  EXPECT_TRUE(json["first_l1_hit_after_kill_ms"].is_null());
  EXPECT_EQ(json["passed"], true);
}

TEST(ReportTest, TheWorstOfAGoodRunIsNoComplaint) {
  Report report = good_report();
  report.verdict.lost_branch_reads = 10;
  report.verdict.writes_lost = 3;
  EXPECT_THAT(complaints(report), IsEmpty());
  EXPECT_THAT(to_text(report), HasSubstr("PASSED"));
}

TEST(ReportTest, EachBrokenPromiseIsSaid) {
  const auto complaint_of = [](auto&& spoil) {
    Report report = good_report();
    spoil(report);
    EXPECT_THAT(to_text(report), HasSubstr("FAILED: "));
    EXPECT_EQ(nlohmann::json::parse(to_json(report))["passed"], false);
    return complaints(report);
  };
  EXPECT_THAT(complaint_of([](Report& r) { r.verdict.stale_beyond_bound = 1234; }),
              ElementsAre(HasSubstr("1,234 reads were staler")));
  EXPECT_THAT(complaint_of([](Report& r) { r.verdict.monotonic_violations = 1; }),
              ElementsAre(HasSubstr("went back")));
  EXPECT_THAT(complaint_of([](Report& r) { r.tally.values_wrong = 1; }),
              ElementsAre(HasSubstr("values were not")));
  EXPECT_THAT(complaint_of([](Report& r) { r.instances_died = 1; }),
              ElementsAre(HasSubstr("1 of the instances died")));
  EXPECT_THAT(complaint_of([](Report& r) { r.writes_not_recorded = 1; }),
              ElementsAre(HasSubstr("log was full")));
  EXPECT_THAT(complaint_of([](Report& r) { r.promoted = false; }),
              ElementsAre(HasSubstr("no replica was promoted")));
  EXPECT_THAT(complaint_of([](Report& r) { r.tally = {}; }),
              ElementsAre(HasSubstr("nothing was read")));
}

TEST(ReportTest, WhoInterruptsDoesNotWaitForThePromotion) {
  Report report = good_report();
  report.promoted = false;
  report.interrupted = true;
  EXPECT_THAT(complaints(report), IsEmpty());
}

TEST(ReportTest, NumbersForPeople) {
  EXPECT_EQ(number_text(0), "0");
  EXPECT_EQ(number_text(999), "999");
  EXPECT_EQ(number_text(1000), "1,000");
  EXPECT_EQ(number_text(1234567), "1,234,567");
  EXPECT_EQ(duration_text(std::nullopt), "-");
  EXPECT_EQ(duration_text(std::chrono::nanoseconds{999}), "999 ns");
  EXPECT_EQ(duration_text(std::chrono::nanoseconds{1250}), "1.2 us");
  EXPECT_EQ(duration_text(std::chrono::microseconds{340}), "340 us");
  EXPECT_EQ(duration_text(std::chrono::milliseconds{12}), "12 ms");
}

}  // namespace
}  // namespace tiercel::failover
