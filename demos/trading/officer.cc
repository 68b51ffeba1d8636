#include "trading/officer.h"

#include <fmt/format.h>

#include <array>
#include <cstdio>
#include <memory>
#include <span>
#include <thread>
#include <vector>

#include "support/child_process.h"
#include "support/redis_server.h"
#include "support/tcp_proxy.h"
#include "trading/desk.h"
#include "trading/evidence.h"

namespace tiercel::trading {
namespace {

using namespace std::chrono_literals;
using testing::ChildProcess;

constexpr int kExitBroken = 1;
constexpr int kExitUsage = 2;
constexpr auto kReadyMax = 30s;
constexpr auto kHeldUpFor = 30ms;   // Before the change, so that nothing of it gets through.
constexpr auto kClosedFor = 100ms;  // After it: orders go on coming in, and none may pass.
constexpr std::chrono::milliseconds kWriteTimeout{5000};
constexpr std::int64_t kQuantityMax = 80;
constexpr std::size_t kGateways = 3;

struct Round {
  const char* what;
  Rule rule;
  bool is_held_up;  // The gateway behind the proxy.
  bool is_fenced;
};
constexpr Round kRounds[] = {
    {"kill switch", kSwitchRule, false, true},
    {"kill switch", kSwitchRule, true, true},
    {"limit of instrument 2", limit_rule(2), false, true},
    {"limit of instrument 2", limit_rule(2), true, true},
    {"kill switch", kSwitchRule, true, true},
    {"kill switch", kSwitchRule, true, false},
};

int complain(int status, const std::string& message) {
  fmt::print(stderr, "{}\n", message);
  return status;
}

double in_ms(Duration duration) {
  return std::chrono::duration<double, std::milli>{duration}.count();
}

class Officer {
 public:
  Officer(const Rules& rules, testing::TcpProxy& proxy) : rules_(rules), proxy_(proxy) {}

  Result<void> write_first_rules() {
    for (std::uint32_t i = 0; i < kInstruments; ++i) {
      if (auto set = set_limit(i, kQuantityMax, false); !set) return set;
    }
    return set_switch(true, false);
  }

  void start_gateways(const std::string& program, const std::string& redis_url) {
    for (std::size_t i = 0; i < kGateways; ++i) {
      const std::string url = i + 1 == kGateways ? proxy_.url() : redis_url;
      gateways_.push_back(
          ChildProcess::start({.executable = program, .arguments = {"gateway", url}}));
    }
  }

  Result<void> play(const Round& round) {
    for (const auto& gateway : gateways_) {
      if (auto trades = wait_until_it_trades(*gateway); !trades) return trades;
    }
    if (round.is_held_up) proxy_.set_server_to_client({.delay = 60s});
    std::this_thread::sleep_for(kHeldUpFor);
    Superseded superseded{round.rule, revisions_[round.rule], {}, round.is_fenced};
    const TimePoint began_at = Clock::system().now();
    const auto written =
        round.rule == kSwitchRule
            ? set_switch(false, round.is_fenced)
            : set_limit(static_cast<std::uint32_t>(round.rule - 1), 1, round.is_fenced);
    superseded.acknowledged_at = Clock::system().now();
    if (!written) return written;
    took_.push_back(superseded.acknowledged_at - began_at);
    superseded_.push_back(superseded);
    // So long, and for the unfenced one longer than the lease, orders go on coming in.
    std::this_thread::sleep_for(round.is_fenced ? Duration{kClosedFor} : Duration{2 * kLease});
    proxy_.heal();
    // A new revision of the switch also says that the gateways have heard of all before it.
    if (round.rule != kSwitchRule) {
      const auto instrument = static_cast<std::uint32_t>(round.rule - 1);
      if (auto set = set_limit(instrument, kQuantityMax, false); !set) return set;
    }
    return set_switch(true, false);
  }

  Result<void> collect() {
    for (const auto& gateway : gateways_) gateway->close_stdin();
    for (const auto& gateway : gateways_) {
      for (;;) {
        const auto line = gateway->read_line();
        if (!line) return line.error();
        if (!*line) break;
        if ((*line)->starts_with("traded ")) continue;
        if ((*line)->starts_with("refused ")) {
          refusals_.push_back(**line);
          continue;
        }
        const auto accepted = parse_accepted(**line);
        if (!accepted) return accepted.error();
        accepted_.push_back(*accepted);
      }
      const auto status = gateway->wait();
      if (!status || *status != testing::ExitStatus{.code = 0, .signal = 0}) {
        return unavailable("a gateway did not end well");
      }
    }
    return {};
  }

  // True when all is as promised.
  [[nodiscard]] bool report() const {
    bool is_as_promised = superseded_.size() == std::size(kRounds);
    fmt::print("\n{:<24}{:<10}{:<18}{:>10}{:>10}   {}\n", "changed", "fenced", "gateway 3",
               "write ms", "orders", "last order on the old rule, after the acknowledgement");
    for (std::size_t i = 0; i < superseded_.size(); ++i) {
      const Finding finding = examine(superseded_[i], accepted_, kLease);
      // All have traded on the switch before: else there would be nothing to see.
      const bool was_used = finding.last_after || superseded_[i].rule != kSwitchRule;
      const bool is_good = finding.is_as_promised && was_used;
      is_as_promised &= is_good;
      fmt::print(
          "{:<24}{:<10}{:<18}{:>10.1f}{:>10}   {}{}\n", kRounds[i].what,
          kRounds[i].is_fenced ? "yes" : "no", kRounds[i].is_held_up ? "hears nothing" : "hears",
          in_ms(took_[i]), finding.orders,
          finding.last_after ? fmt::format("{:+.1f} ms", in_ms(*finding.last_after)) : "none",
          is_good ? "" : "   BROKEN");
    }
    fmt::print("\n");
    for (std::size_t i = 0; i < refusals_.size(); ++i) {
      fmt::print("gateway {} refused, by switch, by limit, because L1 could not vouch:{}\n", i + 1,
                 refusals_[i].substr(refusals_[i].find(' ')));
    }
    return is_as_promised;
  }

 private:
  // On the switch as it is now.
  [[nodiscard]] Result<void> wait_until_it_trades(ChildProcess& gateway) const {
    const std::string wanted = "traded " + std::to_string(revisions_[kSwitchRule]);
    for (;;) {
      const auto line = gateway.read_line();
      if (!line) return line.error();
      if (!*line) return unavailable("a gateway has ended");
      if (**line == wanted) return {};
    }
  }
  Result<void> set_switch(bool may_trade, bool fence) {
    const KillSwitch value{++revisions_[kSwitchRule], may_trade ? 1U : 0U};
    const auto set = rules_.switches.set(kDesk, value, {.timeout = kWriteTimeout, .fence = fence});
    return set ? Result<void>{} : Result<void>{set.error()};
  }
  Result<void> set_limit(std::uint32_t instrument, std::int64_t quantity_max, bool fence) {
    const Limit value{++revisions_[limit_rule(instrument)], quantity_max};
    const auto set =
        rules_.limits.set(instrument, value, {.timeout = kWriteTimeout, .fence = fence});
    return set ? Result<void>{} : Result<void>{set.error()};
  }

  const Rules& rules_;
  testing::TcpProxy& proxy_;
  std::vector<std::unique_ptr<ChildProcess>> gateways_;
  std::array<Revision, kRules> revisions_{};  // The last ones written.
  std::vector<Superseded> superseded_;
  std::vector<Duration> took_;  // The writes.
  std::vector<Accepted> accepted_;
  std::vector<std::string> refusals_;
};

Result<void> play_all(Officer& officer, const std::string& program, const std::string& redis_url) {
  if (auto written = officer.write_first_rules(); !written) return written;
  officer.start_gateways(program, redis_url);
  for (const Round& round : kRounds) {
    if (auto played = officer.play(round); !played) return played;
  }
  return officer.collect();
}

}  // namespace

int run_officer(const std::string& program) {
  if (!testing::RedisServer::available()) {
    return complain(kExitUsage, testing::RedisServer::unavailable_message());
  }
  const auto redis = testing::RedisServer::start();
  testing::TcpProxy proxy{redis->port()};
  const auto cache = Cache::open(cache_options(redis->url()));
  if (!cache) return complain(kExitBroken, cache.error().to_string());
  if (auto ready = (*cache)->wait_until_ready(kReadyMax); !ready) {
    return complain(kExitBroken, ready.error().to_string());
  }
  const auto rules = open_rules(**cache);
  if (!rules) return complain(kExitBroken, rules.error().to_string());
  fmt::print("{} gateways check each order in L1, with a lease of {} ms; Redis on {} …\n",
             kGateways, kLease.count(), redis->endpoint());
  std::fflush(stdout);
  Officer officer{*rules, proxy};
  if (auto played = play_all(officer, program, redis->url()); !played) {
    return complain(kExitBroken, played.error().to_string());
  }
  if (!officer.report()) return complain(kExitBroken, "\nBROKEN: see above");
  fmt::print(
      "\nheld: no gateway accepted an order on a rule after the fenced write that changed it "
      "was acknowledged,\n      nor later than the lease after the one that was not fenced\n");
  return 0;
}

}  // namespace tiercel::trading
