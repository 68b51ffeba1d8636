#include "failover/operator.h"

#include <string>

namespace tiercel::failover {
namespace {

using namespace std::chrono_literals;

constexpr Duration kPromotionMax = 60s;
constexpr auto kLook = 20ms;
// So that one can see the fleet on two servers before the third comes back.
constexpr Duration kAbsence = 2s;

std::int64_t ticks_now() { return Clock::system().now().time_since_epoch().count(); }

// False when told to stop before.
bool sleep_until(TimePoint when, const std::stop_token& stop) {
  while (Clock::system().now() < when) {
    if (stop.stop_requested()) return false;
    std::this_thread::sleep_for(kLook);
  }
  return true;
}

}  // namespace

Operator::Operator(testing::SentinelSetup& servers, Board& board, Events& events, TimePoint kill_at)
    : servers_(servers),
      board_(board),
      events_(events),
      kill_at_(kill_at),
      thread_([this](const std::stop_token& stop) {
        run(stop);
        ended_.store(true, std::memory_order_release);
      }) {}

void Operator::run(const std::stop_token& stop) {
  if (!sleep_until(kill_at_, stop)) return;
  const auto old = find_master(stop);
  if (!old) return;
  kill_master(*old);
  if (!wait_for_promotion(*old, stop)) return;
  if (!wait_for_sentinels(*old, stop)) return;
  if (!sleep_until(Clock::system().now() + kAbsence, stop)) return;
  servers_.restart_as_replica(*old);
  events_.add("the old master " + servers_.server(*old).endpoint() + " is back, as a replica");
}

// Not always the first one: on a busy machine that may have been failed over already.
std::optional<std::size_t> Operator::find_master(const std::stop_token& stop) {
  const TimePoint deadline = Clock::system().now() + kPromotionMax;
  while (!stop.stop_requested() && Clock::system().now() < deadline) {
    const int master = servers_.master_index();
    if (master >= 0) return static_cast<std::size_t>(master);
    std::this_thread::sleep_for(kLook);
  }
  if (!stop.stop_requested()) events_.add("there is no master to kill; giving up");
  return std::nullopt;
}

void Operator::kill_master(std::size_t number) {
  testing::RedisServer& master = servers_.server(number);
  events_.add("SIGKILL to the master " + master.endpoint());
  board_.state().kill_begun_at.store(ticks_now(), std::memory_order_release);
  killed_ = true;
  master.kill();
  board_.state().kill_done_at.store(ticks_now(), std::memory_order_release);
}

// Asks the replicas themselves: the Sentinels tell about a second later.
bool Operator::wait_for_promotion(std::size_t old, const std::stop_token& stop) {
  const TimePoint deadline = Clock::system().now() + kPromotionMax;
  while (!stop.stop_requested() && Clock::system().now() < deadline) {
    for (std::size_t i = 0; i < servers_.server_count(); ++i) {
      if (i == old || !servers_.server(i).command({"ROLE"}).starts_with("master")) continue;
      promoted_ = true;
      events_.add(servers_.server(i).endpoint() + " was promoted");
      return true;
    }
    std::this_thread::sleep_for(kLook);
  }
  if (!stop.stop_requested()) events_.add("no replica was promoted; giving up");
  return false;
}

bool Operator::wait_for_sentinels(std::size_t old, const std::stop_token& stop) {
  const TimePoint deadline = Clock::system().now() + kPromotionMax;
  while (!stop.stop_requested() && Clock::system().now() < deadline) {
    const int master = servers_.wait_for_new_master(static_cast<int>(old), 200ms);
    if (master < 0) continue;
    events_.add("most Sentinels name " +
                servers_.server(static_cast<std::size_t>(master)).endpoint());
    return true;
  }
  if (!stop.stop_requested()) events_.add("the Sentinels name no new master; giving up");
  return false;
}

}  // namespace tiercel::failover
