// The demo itself, as people run it. What a run must show does not depend on how fast the machine
// is; how many reads it did, does.

#include <gtest/gtest.h>
#include <signal.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "support/child_process.h"
#include "temporary_file.h"

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;
using testing::ChildProcess;

constexpr Duration kLimit = 200s;

struct Ended {
  int status = -1;
  std::string output;
};

Ended run(std::vector<std::string> arguments) {
  auto child =
      ChildProcess::start({.executable = TIERCEL_FAILOVER_DEMO, .arguments = std::move(arguments)});
  Ended ended;
  for (;;) {
    const auto line = child->read_line(kLimit);
    if (!line || !*line) break;
    ended.output += **line + '\n';
  }
  if (const auto status = child->wait(kLimit)) ended.status = status->code;
  return ended;
}

nlohmann::json parse(const TemporaryFile& file) {
  return nlohmann::json::parse(file.read(), nullptr, /*allow_exceptions=*/false);
}

TEST(DemoTest, AKilledMasterBreaksNoPromise) {
  const TemporaryFile json;
  const Ended ended = run({"--seconds", "9", "--json", json.path()});
  EXPECT_EQ(ended.status, 0) << ended.output;
  const auto report = parse(json);
  ASSERT_TRUE(report.is_object()) << ended.output;
  EXPECT_EQ(report["stale_beyond_bound"], 0);
  EXPECT_EQ(report["monotonic_violations"], 0);
  EXPECT_EQ(report["promoted"], true);
  EXPECT_GT(report["reads"], 0);
  EXPECT_GT(report["writes_acked"], 0);
  EXPECT_LE(report["worst_staleness_ms"], 550);
  // The fleet has healed: somebody wrote, and L1 answers again.
  EXPECT_TRUE(report["first_write_after_kill_ms"].is_number());
  EXPECT_TRUE(report["first_l1_hit_after_kill_ms"].is_number());
  EXPECT_NE(ended.output.find("SIGKILL to the master 127.0.0.1:"), std::string::npos);
  EXPECT_NE(ended.output.find("is back, as a replica"), std::string::npos);
}

TEST(DemoTest, AHealthyRunOverATraceLosesNothing) {
  std::string ids;
  for (int i = 0; i < 500; ++i) ids += std::to_string(i * 7919 % 40) + '\n';
  const TemporaryFile trace{ids};
  const TemporaryFile json;
  const Ended ended = run({"--seconds", "5", "--no-kill", "--trace", trace.path(), "--instances",
                           "2", "--json", json.path()});
  EXPECT_EQ(ended.status, 0) << ended.output;
  const auto report = parse(json);
  ASSERT_TRUE(report.is_object()) << ended.output;
  EXPECT_EQ(report["keys"], 40);
  EXPECT_EQ(report["writes_lost"], 0);
  EXPECT_EQ(report["lost_branch_reads"], 0);
  EXPECT_TRUE(report["first_write_after_kill_ms"].is_null());
  EXPECT_GT(report["writes_acked"], 0);
}

// The negative control: if this passes, the oracle is blind.
TEST(DemoTest, ReadersThatHoldOnToValuesAreCaught) {
  const TemporaryFile json;
  const Ended ended = run(
      {"--seconds", "5", "--no-kill", "--stale-reader", "--keys", "100", "--json", json.path()});
  EXPECT_EQ(ended.status, 1) << ended.output;
  const auto report = parse(json);
  ASSERT_TRUE(report.is_object()) << ended.output;
  EXPECT_GT(report["stale_beyond_bound"], 0);
  EXPECT_GT(report["worst_staleness_ms"], 550);
  EXPECT_NE(ended.output.find("FAILED: "), std::string::npos);
}

// Any second's line that tells of reads: a late loop skips seconds, late instances read later.
bool tells_of_reads(const std::string& line) {
  constexpr std::size_t kReadsEnd = 15;  // "  1 s    12,345 …"
  return line.size() > kReadsEnd && line.compare(3, 2, " s") == 0 &&
         !line.substr(0, kReadsEnd).ends_with(" 0");
}

TEST(DemoTest, InterruptEndsItEarlyWithAReport) {
  auto demo =
      ChildProcess::start({.executable = TIERCEL_FAILOVER_DEMO, .arguments = {"--seconds", "600"}});
  std::string output;
  for (bool interrupted = false;;) {
    const auto line = demo->read_line(kLimit);
    ASSERT_TRUE(line) << output;
    if (!*line) break;
    output += **line + '\n';
    if (!interrupted && tells_of_reads(**line)) {
      demo->kill(SIGINT);
      interrupted = true;
    }
  }
  EXPECT_EQ(demo->wait(kLimit), (testing::ExitStatus{.code = 0, .signal = 0})) << output;
  EXPECT_NE(output.find("interrupted"), std::string::npos) << output;
  EXPECT_NE(output.find("PASSED"), std::string::npos) << output;
}

TEST(DemoTest, WrongOptionsEndWithTwo) {
  const std::vector<std::vector<std::string>> wrong{
      {"--keys", "0"},
      {"--keys", "10000001"},
      {"--keys", "many"},
      {"--zipf", "-1"},
      {"--zipf", "2.1"},
      {"--zipf", "nan"},
      {"--instances", "17"},
      {"--instances", "0"},
      {"--seconds", "4"},
      {"--seconds", "3601"},
      {"--lease-ms", "19"},
      {"--lease-ms", "60001"},
      {"--writes-per-s", "0"},
      {"--trace", "/nowhere"},
      {"--json", "/nowhere/report"},
      {"--writes-per-s", "20000", "--seconds", "3600"},
      {"--unknown"}};
  for (const auto& arguments : wrong) EXPECT_EQ(run(arguments).status, 2) << arguments.front();
  EXPECT_EQ(run({"--help"}).status, 0);
  EXPECT_EQ(run({"instance", "0"}).status, 1);  // Nobody but a coordinator starts one.
}

TEST(DemoTest, ABadTraceEndsWithTwo) {
  const TemporaryFile trace{"1\n2\nthree\n"};
  EXPECT_EQ(run({"--trace", trace.path()}).status, 2);
}

}  // namespace
}  // namespace tiercel::failover
