// A Session has something to do only when next_tick() says so: no busy loop, whatever the server
// does.

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "session_driver.h"
#include "tiercel/coherence/session.h"

namespace tiercel::coherence {
namespace {

using namespace std::chrono_literals;

struct Count {
  int ticks = 0;
  int pings = 0;
  int redials = 0;
};

// Ten seconds driven by nothing but next_tick() and pongs `trip` after their ping (never, where
// there is none).
Count ten_seconds(Driver& driver, std::optional<Duration> trip) {
  Count count;
  const TimePoint end = driver.now + 10s;
  constexpr TimePoint kNever = TimePoint::max();
  TimePoint pong_at = kNever;
  const auto note = [&](const Actions& actions) {
    for (const auto& action : actions) {
      if (action.kind == Kind::kSendPing) {
        ++count.pings;
        if (trip) pong_at = driver.now + *trip;
      }
      if (action.kind == Kind::kRedialStream) ++count.redials;
    }
  };
  note(driver.stream_up());
  while (driver.now < end && count.ticks < 100000) {
    const TimePoint due = driver.session.next_tick().value_or(kNever);
    if (due == kNever && pong_at == kNever) break;
    if (pong_at <= due) {
      driver.now = std::max(driver.now, std::exchange(pong_at, kNever));
      note(driver.pong(driver.token));
    } else {
      driver.now = std::max(driver.now, due);
      ++count.ticks;
      note(driver.tick());
      EXPECT_GT(driver.session.next_tick().value_or(kNever), driver.now)
          << "a tick that was due must leave nothing that is due";
    }
  }
  return count;
}

TEST(SessionTicks, InHealthTheyAreThePingsAndNoMore) {
  Driver driver;
  driver.data_up();
  const Count count = ten_seconds(driver, 1ms);
  EXPECT_GE(count.pings, 99);
  EXPECT_LE(count.pings, 101);
  EXPECT_LE(count.ticks, count.pings);
  EXPECT_EQ(count.redials, 0);
}

TEST(SessionTicks, WithASlowServerThereIsAPingForEachPong) {
  Driver driver;
  driver.data_up();
  const Count count = ten_seconds(driver, 1900ms);
  EXPECT_LE(count.pings, 7);
  EXPECT_EQ(count.redials, 0) << "1.9 s is within stream_timeout";
  EXPECT_LE(count.ticks, 2);
}

TEST(SessionTicks, WithASilentServerThereIsOneRedial) {
  Driver driver;
  driver.data_up();
  const Count count = ten_seconds(driver, std::nullopt);
  EXPECT_EQ(count.pings, 1);
  EXPECT_EQ(count.redials, 1);
  EXPECT_EQ(count.ticks, 1);
}

TEST(SessionTicks, WithLinksThatDisagreeThereIsOneRedial) {
  Driver driver;
  driver.data_up(kOther);
  const Count count = ten_seconds(driver, 1ms);
  EXPECT_LE(count.pings, 25);
  EXPECT_EQ(count.redials, 1);
  EXPECT_LE(count.ticks, 25);
}

TEST(SessionTicks, TheShortestLeaseTicksAtItsOwnPace) {
  Driver driver{{.lease = 20ms, .stream_timeout = 20ms}};
  driver.data_up();
  const Count count = ten_seconds(driver, 10us);
  EXPECT_LE(count.pings, 2502);
  EXPECT_LE(count.ticks, 2502);
  EXPECT_EQ(count.redials, 0);
}

}  // namespace
}  // namespace tiercel::coherence
