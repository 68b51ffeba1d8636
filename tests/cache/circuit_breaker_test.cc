// When a breaker lets calls pass: a pure state machine, driven by hand.

#include "tiercel/cache/circuit_breaker.h"

#include <gtest/gtest.h>

#include <chrono>
#include <string>

namespace tiercel {
namespace {

using namespace std::chrono_literals;

TimePoint at(std::chrono::milliseconds since) { return TimePoint{100s + since}; }

constexpr BreakerOptions kOptions{
    .failure_ratio = 0.5, .calls_min = 4, .window = 1000ms, .open_for = 200ms, .probes = 2};

CircuitBreaker opened(std::chrono::milliseconds when = 0ms) {
  CircuitBreaker breaker{kOptions};
  for (int i = 0; i < 4; ++i) {
    EXPECT_TRUE(breaker.may_call(at(when)));
    breaker.report(false, at(when));
  }
  return breaker;
}

TEST(CircuitBreaker, OpensWhenEnoughOfEnoughCallsFail) {
  CircuitBreaker breaker{kOptions};
  for (const bool success : {false, true, false}) breaker.report(success, at(0ms));
  EXPECT_EQ(breaker.state(at(0ms)), BreakerState::kClosed) << "three calls say nothing";
  breaker.report(true, at(1ms));
  EXPECT_EQ(breaker.state(at(1ms)), BreakerState::kClosed) << "a success opens nothing";
  breaker.report(false, at(2ms));
  EXPECT_EQ(breaker.state(at(2ms)), BreakerState::kOpen);
  EXPECT_FALSE(breaker.may_call(at(2ms)));
  EXPECT_EQ(breaker.openings(), 1U);
}

TEST(CircuitBreaker, StaysClosedWhileMostCallsSucceed) {
  CircuitBreaker breaker{kOptions};
  for (int i = 0; i < 1000; ++i) {
    ASSERT_TRUE(breaker.may_call(at(i * 1ms)));
    breaker.report(i % 3 != 2, at(i * 1ms));
  }
  EXPECT_EQ(breaker.state(at(1s)), BreakerState::kClosed);
}

TEST(CircuitBreaker, ForgetsWhatIsOlderThanTheWindow) {
  CircuitBreaker breaker{kOptions};
  for (int i = 0; i < 3; ++i) breaker.report(false, at(0ms));
  breaker.report(false, at(1001ms));
  EXPECT_EQ(breaker.state(at(1001ms)), BreakerState::kClosed);
  CircuitBreaker halves{kOptions};
  for (int i = 0; i < 3; ++i) halves.report(false, at(400ms));
  halves.report(false, at(600ms));
  EXPECT_EQ(halves.state(at(600ms)), BreakerState::kOpen) << "the half before still counts";
}

TEST(CircuitBreaker, LetsProbesPassAfterAWhile) {
  CircuitBreaker breaker = opened();
  EXPECT_FALSE(breaker.may_call(at(199ms)));
  EXPECT_EQ(breaker.state(at(200ms)), BreakerState::kHalfOpen);
  EXPECT_TRUE(breaker.may_call(at(200ms)));
  EXPECT_TRUE(breaker.may_call(at(200ms)));
  EXPECT_FALSE(breaker.may_call(at(200ms))) << "two at a time";
  breaker.report(true, at(210ms));
  EXPECT_EQ(breaker.state(at(210ms)), BreakerState::kHalfOpen);
  breaker.report(true, at(211ms));
  EXPECT_EQ(breaker.state(at(211ms)), BreakerState::kClosed);
  EXPECT_TRUE(breaker.may_call(at(211ms)));
}

TEST(CircuitBreaker, AFailedProbeOpensItAgain) {
  CircuitBreaker breaker = opened();
  EXPECT_TRUE(breaker.may_call(at(200ms)));
  breaker.report(false, at(250ms));
  EXPECT_FALSE(breaker.may_call(at(449ms)));
  EXPECT_TRUE(breaker.may_call(at(450ms)));
  EXPECT_EQ(breaker.openings(), 2U);
}

TEST(CircuitBreaker, CallsFromBeforeItOpenedSayNothing) {
  CircuitBreaker breaker = opened();
  breaker.report(true, at(10ms));
  breaker.report(false, at(20ms));
  EXPECT_EQ(breaker.openings(), 1U);
  EXPECT_TRUE(breaker.may_call(at(200ms))) << "nor do they prolong it";
}

TEST(CircuitBreaker, AProbeThatIsNeverHeardOfDoesNotBlockItForEver) {
  CircuitBreaker breaker = opened();
  EXPECT_TRUE(breaker.may_call(at(200ms)));
  EXPECT_TRUE(breaker.may_call(at(200ms)));
  EXPECT_FALSE(breaker.may_call(at(399ms)));
  EXPECT_TRUE(breaker.may_call(at(400ms)));
}

TEST(CircuitBreaker, OptionsOutOfTheirRangeAreNamed) {
  const auto refused = [](BreakerOptions options, std::string_view field) {
    const auto valid = validate(options);
    return !valid && valid.error().message.find(field) != std::string::npos;
  };
  EXPECT_TRUE(validate(BreakerOptions{}));
  EXPECT_TRUE(refused({.failure_ratio = 0}, "failure_ratio"));
  EXPECT_TRUE(refused({.failure_ratio = 1.1}, "failure_ratio"));
  EXPECT_TRUE(refused({.calls_min = 0}, "calls_min"));
  EXPECT_TRUE(refused({.window = 9ms}, "window"));
  EXPECT_TRUE(refused({.open_for = 2h}, "open_for"));
  EXPECT_TRUE(refused({.probes = 0}, "probes"));
}

}  // namespace
}  // namespace tiercel
