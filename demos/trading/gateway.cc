#include "trading/gateway.h"

#include <fmt/format.h>

#include <array>
#include <atomic>
#include <cstdio>
#include <iostream>
#include <thread>

#include "tiercel/base/random.h"
#include "trading/desk.h"
#include "trading/evidence.h"

namespace tiercel::trading {
namespace {

using namespace std::chrono_literals;

constexpr auto kReadyMax = 30s;
constexpr auto kOrderEvery = 200us;
constexpr auto kLook = 1ms;
constexpr std::chrono::milliseconds kReadTimeout{100};
constexpr std::int64_t kQuantityMax = 100;  // Of the orders that come in.

class Gateway {
 public:
  explicit Gateway(const Rules& rules) : rules_(rules) {}

  // The order thread: no lock, no allocation, no wait but between orders.
  void take_orders(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      take_order(static_cast<std::uint32_t>(random_.below(kInstruments)),
                 1 + static_cast<std::int64_t>(random_.below(kQuantityMax)));
      std::this_thread::sleep_for(kOrderEvery);
    }
  }

  // Another thread: brings into L1 what is not there, and says what was traded.
  void keep_rules(const std::stop_token& stop) {
    Revision told = 0;
    while (!stop.stop_requested()) {
      (void)rules_.switches.get(kDesk, {.timeout = kReadTimeout});
      for (std::uint32_t i = 0; i < kInstruments; ++i) {
        (void)rules_.limits.get(i, {.timeout = kReadTimeout});
      }
      if (const Revision traded = traded_.load(); traded > told) {
        told = traded;
        fmt::print("traded {}\n", told);
        std::fflush(stdout);
      }
      std::this_thread::sleep_for(kLook);
    }
  }

  // After both.
  void report() const {
    for (Rule rule = 0; rule < kRules; ++rule) {
      for (const Accepted& accepted : accepted_[rule]) {
        if (accepted.orders > 0) fmt::print("{}\n", to_line(accepted));
      }
    }
    fmt::print("refused {} {} {}\n", by_switch_, by_limit_, unknown_);
    std::fflush(stdout);
  }

 private:
  void take_order(std::uint32_t instrument, std::int64_t quantity) {
    const TimePoint asked_at = Clock::system().now();
    const auto desk = rules_.switches.try_get(kDesk);
    const auto limit = rules_.limits.try_get(instrument);
    if (!desk || !limit) {
      ++unknown_;
    } else if (desk->view()->may_trade == 0) {
      ++by_switch_;
    } else if (quantity > limit->view()->quantity_max) {
      ++by_limit_;
    } else {
      note(kSwitchRule, desk->view()->revision, asked_at);
      note(limit_rule(instrument), limit->view()->revision, asked_at);
      traded_.store(desk->view()->revision);
    }
  }
  void note(Rule rule, Revision revision, TimePoint asked_at) {
    Accepted& accepted = accepted_[rule][revision % kRevisionsMax];
    accepted = {rule, revision, accepted.orders + 1, asked_at};
  }

  const Rules& rules_;
  std::atomic<Revision> traded_{0};  // The last revision of the switch that allowed an order.

  // The order thread's, then report()'s.
  Random random_ = Random::from_entropy();
  std::array<std::array<Accepted, kRevisionsMax>, kRules> accepted_{};
  std::uint64_t by_switch_ = 0;
  std::uint64_t by_limit_ = 0;
  std::uint64_t unknown_ = 0;
};

int complain(const Error& error) {
  fmt::print(stderr, "gateway: {}\n", error.to_string());
  return 1;
}

}  // namespace

int run_gateway(const std::string& redis_url) {
  const auto cache = Cache::open(cache_options(redis_url));
  if (!cache) return complain(cache.error());
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) return complain(ready.error());
  const auto rules = open_rules(**cache);
  if (!rules) return complain(rules.error());
  Gateway gateway{*rules};
  {
    const std::jthread orders{[&](const std::stop_token& stop) { gateway.take_orders(stop); }};
    const std::jthread keeper{[&](const std::stop_token& stop) { gateway.keep_rules(stop); }};
    for (std::string line; std::getline(std::cin, line);) {
    }
  }
  gateway.report();
  return 0;
}

}  // namespace tiercel::trading
