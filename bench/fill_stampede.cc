// Between the starter and a member, by lines:
//
//   member   ready
//   starter  KEY MOMENT           when all threads ask, in ns of the system clock
//   member   LOADS LOAD_ENDED FIRST_ASKED LAST_ASKED LAST_SERVED WRONG
//
// and so on until the end of the member's input. LOAD_ENDED is 0 where there was no load.

#include "fill_stampede.h"

#include <atomic>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <memory>
#include <sstream>
#include <string_view>
#include <system_error>
#include <thread>

#include "coherence_load.h"
#include "support/child_process.h"
#include "support/redis_server.h"
#include "tiercel/cache/keyspace.h"
#include "tiercel/serialization/codec.h"

namespace tiercel::bench {
namespace {

using namespace std::chrono_literals;

using Space = Keyspace<serialization::BytesCodec>;

constexpr std::size_t kL1Bytes = std::size_t{1} << 20;
constexpr std::size_t kL1Stripes = 4;
constexpr Duration kUntilStart = 300ms;  // By then all threads sleep.
constexpr std::chrono::milliseconds kReadMax = 10s;
constexpr Duration kAnswerMax = 60s;

TimePoint now() { return Clock::system().now(); }
std::string value_for(std::string_view key) { return "value of " + std::string{key}; }

// What one thread saw.
struct Call {
  TimePoint asked_at{};
  TimePoint served_at{};
  bool is_right = false;
};

class Member {
 public:
  Member(std::size_t threads, std::chrono::milliseconds load_takes)
      : calls_(threads), load_takes_(load_takes) {}

  Result<void> open(const std::string& url) {
    auto cache = open_cache({.name_space = kNamespace,
                             .redis_url = url,
                             .l1_capacity_bytes_max = kL1Bytes,
                             .l1_stripes = kL1Stripes});
    if (!cache) return cache.error();
    cache_ = *std::move(cache);
    auto space = Space::open(
        *cache_, {.name = "stampede",
                  .loader = [this](std::string_view key, const auto&) { return load(key); }});
    if (!space) return space.error();
    space_.emplace(*std::move(space));
    return {};
  }

  void run(const std::string& key, TimePoint moment) {
    loads_.store(0);
    load_ended_at_.store({});
    std::vector<std::jthread> threads;
    for (Call& call : calls_) {
      threads.emplace_back([this, &call, &key, moment] {
        sleep_until(moment);
        call.asked_at = now();
        const auto found = space_->get(key, {.timeout = kReadMax});
        call.served_at = now();
        call.is_right = found && *found && (*found)->view() == value_for(key);
      });
    }
  }

  [[nodiscard]] std::string report() const {
    Call all = calls_.front();
    TimePoint last_asked = all.asked_at;
    std::size_t wrong = 0;
    for (const Call& call : calls_) {
      all.asked_at = std::min(all.asked_at, call.asked_at);
      last_asked = std::max(last_asked, call.asked_at);
      all.served_at = std::max(all.served_at, call.served_at);
      if (!call.is_right) ++wrong;
    }
    const auto count = [](TimePoint moment) { return moment.time_since_epoch().count(); };
    std::ostringstream line;
    line << loads_.load() << ' ' << count(load_ended_at_.load()) << ' ' << count(all.asked_at)
         << ' ' << count(last_asked) << ' ' << count(all.served_at) << ' ' << wrong;
    return line.str();
  }

 private:
  Space::Loaded load(std::string_view key) {
    loads_.fetch_add(1);
    std::this_thread::sleep_for(load_takes_);
    Space::Load loaded{value_for(key)};
    load_ended_at_.store(now());
    return loaded;
  }

  std::vector<Call> calls_;
  const std::chrono::milliseconds load_takes_;
  std::atomic<std::uint64_t> loads_{0};
  std::atomic<TimePoint> load_ended_at_{};
  std::unique_ptr<Cache> cache_;  // Before what its loader uses it goes.
  std::optional<Space> space_;
};

struct Report {
  std::uint64_t loads = 0;
  TimePoint load_ended_at{}, first_asked_at{}, last_asked_at{}, served_at{};
  std::size_t wrong = 0;
};

Result<Report> read_report(testing::ChildProcess& member) {
  const auto line = member.read_line(kAnswerMax);
  if (!line) return line.error();
  std::istringstream words{line->value_or("")};
  Report report;
  Duration::rep ended = 0, first = 0, last = 0, served = 0;
  words >> report.loads >> ended >> first >> last >> served >> report.wrong;
  if (!words) return internal("a member of the fleet has ended, or said '" + words.str() + "'");
  report.load_ended_at = TimePoint{Duration{ended}};
  report.first_asked_at = TimePoint{Duration{first}};
  report.last_asked_at = TimePoint{Duration{last}};
  report.served_at = TimePoint{Duration{served}};
  return report;
}

Result<StampedeRound> judge(const std::vector<Report>& reports) {
  StampedeRound round;
  TimePoint ended_at{};
  TimePoint first_at = TimePoint::max(), last_at{};
  for (const Report& report : reports) {
    if (report.wrong > 0) return internal(std::to_string(report.wrong) + " answers are wrong");
    round.loads += report.loads;
    ended_at = std::max(ended_at, report.load_ended_at);
    first_at = std::min(first_at, report.first_asked_at);
    last_at = std::max(last_at, report.last_asked_at);
  }
  if (last_at >= ended_at) return internal("not all had asked when the load ended");
  round.asked_within = last_at - first_at;
  for (const Report& report : reports) {
    Duration& last = report.loads > 0 ? round.last_at_home : round.last_abroad;
    last = std::max(last, report.served_at - ended_at);
  }
  return round;
}

}  // namespace

Result<std::vector<StampedeRound>> run_stampede(const StampedeSettings& settings) {
  std::error_code error;
  const std::string program = std::filesystem::read_symlink("/proc/self/exe", error).string();
  if (error) return unavailable("cannot find this program: " + error.message());
  const auto server = testing::RedisServer::start();
  std::vector<std::unique_ptr<testing::ChildProcess>> members;
  for (std::size_t i = 0; i < settings.processes; ++i) {
    members.push_back(testing::ChildProcess::start(
        {.executable = program,
         .arguments = {kStampedeMember, server->url(), std::to_string(settings.threads),
                       std::to_string(settings.load_takes.count())}}));
  }
  for (const auto& member : members) {
    const auto line = member->read_line(kAnswerMax);
    if (!line) return line.error();
    if (*line != "ready") return internal("a member of the fleet is not ready");
  }
  std::vector<StampedeRound> rounds;
  for (std::uint32_t i = 0; i < settings.rounds; ++i) {
    const TimePoint moment = now() + kUntilStart;
    const std::string line =
        "cold" + std::to_string(i) + ' ' + std::to_string(moment.time_since_epoch().count());
    for (const auto& member : members) {
      if (auto told = member->write_line(line); !told) return told.error();
    }
    std::vector<Report> reports;
    for (const auto& member : members) {
      auto report = read_report(*member);
      if (!report) return report.error();
      reports.push_back(*report);
    }
    auto round = judge(reports);
    if (!round) return round.error();
    rounds.push_back(*round);
  }
  return rounds;
}

int run_stampede_member(const std::vector<std::string>& arguments) {
  if (arguments.size() != 3) return 2;
  Member member{std::stoul(arguments[1]), std::chrono::milliseconds{std::stol(arguments[2])}};
  if (auto opened = member.open(arguments[0]); !opened) {
    std::fprintf(stderr, "%s\n", opened.error().to_string().c_str());
    return 1;
  }
  std::cout << "ready" << std::endl;
  std::string key;
  Duration::rep moment = 0;
  while (std::cin >> key >> moment) {
    member.run(key, TimePoint{Duration{moment}});
    std::cout << member.report() << std::endl;
  }
  return 0;
}

}  // namespace tiercel::bench
