// A Session has something to do only when next_tick() says so: no busy loop, whatever the servers
// do.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

struct Count {
  int ticks = 0;
  int redials = 0;
  int lapses = 0;  // How often a tick found no lease that had been there.
  std::map<Kind, int> asked{};
};

// What is answered how long after it was asked; the rest never. Candidates by their address.
using Trips = std::map<std::string, Duration>;

std::string trip_of(const Action& action) {
  switch (action.kind) {
    case Kind::kSendPing: return "ping";
    case Kind::kAskMaster: return "master";
    case Kind::kAskSentinels: return "sentinels";
    case Kind::kAskHistory: return "history";
    default: return action.address;
  }
}

// Driven by nothing but next_tick() and the answers.
class Clockwork {
 public:
  Clockwork(SessionOptions options, Trips trips) : driver{options}, trips_(std::move(trips)) {}

  Count run_for(Duration duration) {
    Count count;
    bool was_leased = false;
    const TimePoint end = driver.now + duration;
    while (driver.now < end && count.ticks < 100000) {
      const TimePoint tick_at = driver.session.next_tick().value_or(TimePoint::max());
      const auto answer =
          std::min_element(answers_.begin(), answers_.end(),
                           [](const Answer& a, const Answer& b) { return a.at < b.at; });
      const TimePoint answer_at = answer == answers_.end() ? TimePoint::max() : answer->at;
      const TimePoint next = std::min(tick_at, answer_at);
      if (next == TimePoint::max()) break;
      driver.now = std::max(driver.now, next);
      count.lapses += was_leased && !driver.leased() ? 1 : 0;
      Actions actions;
      if (answer_at <= tick_at) {
        const Action question = answer->question;
        answers_.erase(answer);
        actions = give(question);
      } else {
        ++count.ticks;
        actions = driver.tick();
        EXPECT_GT(driver.session.next_tick().value_or(TimePoint::max()), driver.now)
            << "a tick that was due must leave nothing that is due";
      }
      was_leased = driver.leased();
      note(actions, count);
    }
    return count;
  }

  void note(const Actions& actions, Count& count) {
    for (const auto& action : actions) {
      ++count.asked[action.kind];
      if (action.kind == Kind::kRedialStream) ++count.redials;
      const auto trip = trips_.find(trip_of(action));
      if (is_question(action.kind) && trip != trips_.end()) {
        answers_.push_back({action, driver.now + trip->second});
      }
    }
  }

  Count connect_and_run_for(Duration duration) {
    Count count;
    driver.data_up();
    note(driver.stream_up(), count);
    Count more = run_for(duration);
    for (const auto& [kind, n] : count.asked) more.asked[kind] += n;
    return more;
  }

  Driver driver;

 private:
  struct Answer {
    Action question{};
    TimePoint at{};
  };

  Actions give(const Action& question) {
    driver.forget(question.kind, question.address);
    switch (question.kind) {
      case Kind::kSendPing: return driver.pong(question.token);
      case Kind::kAskMaster: return driver.data_said(question.token, driver.world.master);
      case Kind::kAskSentinels:
        return driver.sentinels_said(question.token, driver.world.sentinels);
      case Kind::kAskHistory: return driver.history_said(question.token, {});
      default:
        return driver.candidate_said(question.address, question.token,
                                     driver.world.candidates.at(question.address));
    }
  }

  Trips trips_;
  std::vector<Answer> answers_;
};

constexpr SessionOptions kOptions{.lease = kLease, .stream_timeout = kStreamTimeout};

Trips all_in(Duration trip) {
  return {{"ping", trip},    {"master", trip}, {"sentinels", trip},
          {"history", trip}, {"a", trip},      {"b", trip}};
}

TEST(SessionTicks, InHealthTheyAreTheRoundsAndNoMore) {
  Clockwork clockwork{kOptions, all_in(1ms)};
  clockwork.driver.world.master = master_of("X", {"a", "b"});
  clockwork.driver.world.candidates = {{"a", replica_of("X")}, {"b", replica_of("X")}};
  Count count = clockwork.connect_and_run_for(10s);
  for (const Kind kind : {Kind::kSendPing, Kind::kAskMaster}) {
    EXPECT_GE(count.asked[kind], 99);
    EXPECT_LE(count.asked[kind], kind == Kind::kAskMaster ? 102 : 101) << "once after the history";
  }
  EXPECT_GE(count.asked[Kind::kAskCandidate], 2 * 99);
  EXPECT_LE(count.asked[Kind::kAskCandidate], 2 * 101);
  EXPECT_EQ(count.asked[Kind::kAskHistory], 1);
  EXPECT_EQ(count.asked[Kind::kAskSentinels], 0);
  EXPECT_LE(count.ticks, 101);
  EXPECT_EQ(count.redials, 0);
  EXPECT_EQ(count.lapses, 0);
}

TEST(SessionTicks, TheSentinelsAreAskedOnceARoundWhereTheyMatter) {
  SessionOptions options = kOptions;
  options.has_sentinels = true;
  Clockwork clockwork{options, all_in(1ms)};
  Count count = clockwork.connect_and_run_for(10s);
  EXPECT_GE(count.asked[Kind::kAskSentinels], 99);
  EXPECT_LE(count.asked[Kind::kAskSentinels], 101);
  EXPECT_EQ(count.lapses, 0);
}

TEST(SessionTicks, TheSentinelsAreAskedOnceWhereTheReplicasVouch) {
  SessionOptions options = kOptions;
  options.has_sentinels = true;
  Clockwork clockwork{options, all_in(1ms)};
  clockwork.driver.world.master = master_of("X", {"a"});
  clockwork.driver.world.candidates = {{"a", replica_of("X")}};
  clockwork.driver.world.sentinels = calm({"a"});
  Count count = clockwork.connect_and_run_for(10s);
  EXPECT_EQ(count.asked[Kind::kAskSentinels], 1);
  EXPECT_EQ(count.lapses, 0);
}

TEST(SessionTicks, WithASlowServerThereIsAPingForEachPong) {
  Clockwork clockwork{kOptions, all_in(1900ms)};
  Count count = clockwork.connect_and_run_for(10s);
  EXPECT_LE(count.asked[Kind::kSendPing], 7);
  EXPECT_LE(count.asked[Kind::kAskMaster], 7);
  EXPECT_EQ(count.redials, 0) << "1.9 s is within stream_timeout";
  EXPECT_LE(count.ticks, 101);
}

TEST(SessionTicks, WhereAllAnswersTakeLongerThanARoundTheLeaseHoldsAllTheSame) {
  for (const Duration trip : {110ms, 150ms, 200ms, 240ms}) {
    SessionOptions options = kOptions;
    options.has_sentinels = true;
    Clockwork clockwork{options, all_in(trip)};
    clockwork.driver.world.master = master_of("X", {"a", "b"});
    clockwork.driver.world.candidates = {{"a", replica_of("X")}, {"b", replica_of("X")}};
    clockwork.driver.world.sentinels = calm({"a", "b"});
    clockwork.connect_and_run_for(5s);
    ASSERT_TRUE(clockwork.driver.leased()) << clockwork.driver.session.why_no_lease();
    EXPECT_EQ(clockwork.run_for(60s).lapses, 0) << trip / 1ms << " ms";
    EXPECT_EQ(clockwork.run_for(5s).redials, 0);
  }
}

TEST(SessionTicks, WithASilentServerThereIsOneRedial) {
  Clockwork clockwork{kOptions, {}};
  Count count = clockwork.connect_and_run_for(10s);
  EXPECT_EQ(count.asked[Kind::kSendPing], 1);
  EXPECT_EQ(count.asked[Kind::kAskMaster], 1);
  EXPECT_EQ(count.redials, 1);
  EXPECT_LE(count.ticks, 21);
}

TEST(SessionTicks, WithLinksThatDisagreeThereIsOneRedial) {
  Clockwork clockwork{kOptions, all_in(1ms)};
  clockwork.driver.data_up(kOther);
  Count count;
  clockwork.note(clockwork.driver.stream_up(), count);
  count = clockwork.run_for(10s);
  EXPECT_LE(count.asked[Kind::kSendPing], 25);
  EXPECT_EQ(count.redials, 1);
  EXPECT_LE(count.ticks, 25);
}

TEST(SessionTicks, TheShortestLeaseTicksAtItsOwnPace) {
  Clockwork clockwork{{.lease = 20ms, .stream_timeout = 20ms}, all_in(10us)};
  Count count = clockwork.connect_and_run_for(10s);
  EXPECT_LE(count.asked[Kind::kSendPing], 2502);
  EXPECT_LE(count.ticks, 2502);
  EXPECT_EQ(count.redials, 0);
  EXPECT_EQ(count.lapses, 0);
}

TEST(SessionTicks, AHistoryThatIsNotAnsweredIsAskedAgainARoundLater) {
  for (const Duration lease : {kLease, Duration{60s}}) {
    const Duration round = lease == kLease ? kRound : Duration{1s};
    Driver driver{{.lease = lease, .stream_timeout = lease}};
    driver.connect();
    driver.now += 30ms;
    EXPECT_FALSE(has(driver.history_silent(), Kind::kAskHistory));
    const TimePoint silent_at = driver.now;
    driver.world.mute = {Kind::kAskHistory};
    while (!driver.open(Kind::kAskHistory)) {
      driver.now = *driver.session.next_tick();
      driver.tick();
      driver.settle();
      ASSERT_LT(driver.now, silent_at + 10s);
    }
    EXPECT_GE(driver.now, silent_at + round);
    EXPECT_LE(driver.now, silent_at + 2 * round);
  }
}

}  // namespace
}  // namespace tiercel::coherence
