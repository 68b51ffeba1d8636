#include "failover/progress.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdio>
#include <map>

namespace tiercel::failover {
namespace {

double in_seconds(Duration duration) { return std::chrono::duration<double>{duration}.count(); }

std::uint64_t per_second(std::uint64_t count, double seconds) {
  return static_cast<std::uint64_t>(std::llround(static_cast<double>(count) / seconds));
}

std::uint32_t leases_held(const Board& board) {
  std::uint32_t held = 0;
  for (std::uint32_t i = 0; i < board.config().instances; ++i) {
    held += board.state().instances[i].lease_held.load(std::memory_order_relaxed);
  }
  return held;
}

// The one that most instances name.
std::string master_text(const Board& board) {
  std::map<std::uint32_t, int> votes;
  for (std::uint32_t i = 0; i < board.config().instances; ++i) {
    ++votes[board.state().instances[i].master_port.load(std::memory_order_relaxed)];
  }
  std::uint32_t port = 0;
  for (const auto& [candidate, count] : votes) {
    if (count > votes[port] || port == 0) port = candidate;
  }
  return port == 0 ? "none" : "127.0.0.1:" + std::to_string(port);
}

}  // namespace

Progress::Progress(const Board& board, TimePoint began_at)
    : board_(board), began_at_(began_at), last_at_(began_at), last_(take_tally(board)) {
  fmt::print("{:>5}  {:>8} {:>8} {:>7} {:>6} {:>6}  {:>6}  {:>7} {:>7}  {:>16}  {:>6}  {}\n", "t",
             "reads/s", "l1", "l2", "absent", "errors", "hits", "p50", "p99", "writes ok/?/fail",
             "leases", "master");
  std::fflush(stdout);
}

void Progress::line() {
  const TimePoint now = Clock::system().now();
  const Tally tally = take_tally(board_);
  const Tally passed = tally - last_;
  const double seconds = std::max(1e-3, in_seconds(now - last_at_));
  const auto rate = [seconds](std::uint64_t count) {
    return number_text(per_second(count, seconds));
  };
  const std::string writes = fmt::format("{}/{}/{}", rate(passed.writes_acked),
                                         rate(passed.writes_unknown), rate(passed.writes_failed));
  fmt::print(
      "{:>3.0f} s  {:>8} {:>8} {:>7} {:>6} {:>6}  {:>4.1f} %  {:>7} {:>7}  {:>16}  {:>6}  {}\n",
      in_seconds(now - began_at_), rate(passed.reads()), rate(passed.reads_l1),
      rate(passed.reads_l2), rate(passed.reads_absent), rate(passed.reads_failed),
      100 * passed.l1_hit_ratio(), duration_text(Histogram::quantile(passed.read_latency, 0.5)),
      duration_text(Histogram::quantile(passed.read_latency, 0.99)), writes,
      fmt::format("{}/{}", leases_held(board_), board_.config().instances), master_text(board_));
  std::fflush(stdout);
  last_ = tally;
  last_at_ = now;
}

void Progress::event(const Event& event) {
  fmt::print("*** {:.1f} s  {}\n", in_seconds(event.at - began_at_), event.text);
  std::fflush(stdout);
}

std::string duration_text(std::optional<Duration> duration) {
  if (!duration) return "-";
  const auto nanoseconds = static_cast<double>(duration->count());
  if (nanoseconds < 1e3) return fmt::format("{:.0f} ns", nanoseconds);
  const bool in_us = nanoseconds < 1e6;
  const double value = nanoseconds / (in_us ? 1e3 : 1e6);
  return fmt::format("{:.{}f} {}", value, value < 10 ? 1 : 0, in_us ? "us" : "ms");
}

std::string number_text(std::uint64_t number) {
  std::string text = std::to_string(number);
  for (std::size_t i = text.size(); i > 3; i -= 3) text.insert(i - 3, 1, ',');
  return text;
}

}  // namespace tiercel::failover
